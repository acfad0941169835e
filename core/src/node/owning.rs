//! What to do about each VIP, given all that is known: hold it, pass it on, claim it, or leave it.

use std::time::Duration;

use super::Node;
use super::membership::Membership;
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId};
use crate::time::Instant;
use crate::vip::{Leaving, Presence, Vip};

/// What is to be done now, for many VIPs at once.
#[derive(Default)]
struct Tasks {
    withdraw: Vec<usize>,
    assume: Vec<usize>,
    claim: Vec<usize>,
    hand_over: Vec<(usize, Option<NodeName>)>,
}

impl Node {
    /// Brings every VIP about which something has changed one step further.
    pub(super) fn keep_vips(&mut self, now: Instant) {
        if std::mem::take(&mut self.placement_stale) {
            self.placement_changed(now);
        }
        let mut tasks = Tasks::default();
        for index in std::mem::take(&mut self.agenda.dirty) {
            self.keep_vip(index, now, &mut tasks);
        }
        // Removals first: nothing waits for them but safety.
        self.withdraw(&tasks.withdraw);
        self.hand_over(&tasks.hand_over);
        self.claim(&tasks.claim);
        self.assume(&tasks.assume);
    }

    fn keep_vip(&mut self, index: usize, now: Instant, tasks: &mut Tasks) {
        match self.vips[index].presence {
            Presence::Unknown | Presence::Removing(_) => {}
            Presence::Adding(_) | Presence::Present => {
                self.prefer(index, now);
                if let Err(why) = self.may_hold(index, now) {
                    if let Some(at) = self.vips[index].remove_again_at
                        && at > now
                    {
                        return self.agenda.wake(index, at);
                    }
                    self.report_forfeiting(index, &why);
                    if self.mutated(Mutant::HandOverBeforeRemoval) && self.owned(index).is_some() {
                        self.pass_on(index, now, tasks);
                    }
                    tasks.withdraw.push(index);
                }
            }
            Presence::Absent => self.keep_absent(index, now, tasks),
        }
    }

    /// The kernel has acknowledged that the VIP is not here.
    fn keep_absent(&mut self, index: usize, now: Instant, tasks: &mut Tasks) {
        if self.session().is_none() || self.vips[index].pending.is_some() {
            return;
        }
        let Some(modified) = self.owned(index) else {
            let vip = &mut self.vips[index];
            vip.leaving = None;
            vip.preferring = None;
            return self.claim_if_free(index, now, tasks);
        };
        self.vips[index].free_since = None;
        if self.waits(index, now) || !self.in_time(now) {
            return;
        }
        if self.vips[index].leaving == Some(Leaving::Spoiled) {
            self.vips[index].leaving = None;
        }
        if self.unwanted(index).is_some() {
            // A successor must know why this node is none, before it could hand back.
            if self.published_as_it_is(index) {
                self.pass_on(index, now, tasks);
            }
        } else if let Some(to) = self.left_for(index) {
            tasks.hand_over.push((index, Some(to)));
        } else if modified <= self.vips[index].barrier && !self.mutated(Mutant::KeepAfterHandOver) {
            // A hand-over of it may still land: only a new write makes it ours again (rule 5).
            tasks.claim.push(index);
        } else if self.may_assume(index) {
            self.vips[index].leaving = None;
            tasks.assume.push(index);
        }
    }

    /// To the most wanted other node, or to nobody. While the address belongs to another VIP
    /// nobody can take it.
    fn pass_on(&mut self, index: usize, now: Instant, tasks: &mut Tasks) {
        let vip = &self.vips[index];
        let others = || vip.rank.iter().filter(|node| **node != self.config.name);
        let to = match vip.conflict {
            Some(_) => None,
            None => others().find(|node| self.heard_lately(node, now)).or(others().next()).cloned(),
        };
        tasks.hand_over.push((index, to));
    }

    /// Whom the VIP was taken away for, if that one is still preferred. Who is preferred now
    /// matters, not who was when it was decided.
    fn left_for(&mut self, index: usize) -> Option<NodeName> {
        let vip = &mut self.vips[index];
        if let Some(Leaving::Preferred(_)) = vip.leaving {
            match vip.rank.first() {
                Some(first) if *first != self.config.name => return Some(first.clone()),
                _ => vip.leaving = None,
            }
        }
        None
    }

    /// Claims a free VIP: at once where this node is the most wanted, after a short delay a rank
    /// where it is not, so that a VIP is never stuck behind a host that does not take it.
    fn claim_if_free(&mut self, index: usize, now: Instant, tasks: &mut Tasks) {
        if !self.is_free(index) {
            self.vips[index].free_since = None;
            return;
        }
        let since = *self.vips[index].free_since.get_or_insert(now);
        if self.unwanted(index).is_some() || !self.is_active() || !self.in_time(now) {
            return;
        }
        let name = &self.config.name;
        let Some(rank) = self.vips[index].rank.iter().position(|node| node == name) else { return };
        let delay = self.claim_delay() * u32::try_from(rank).unwrap_or(u32::MAX);
        if since + delay > now {
            self.agenda.wake(index, since + delay);
        } else if !self.waits(index, now) {
            tasks.claim.push(index);
        }
    }

    /// Between one rank's claim and the next.
    fn claim_delay(&self) -> Duration {
        self.lease.renew() / 2
    }

    /// How long another node must be the preferred one before a VIP moves to it.
    ///
    /// As long as a lease, because what makes it the preferred one often shakes the store too: a
    /// member that returns from a cut may depose etcd's leader, and that election must be over.
    fn settling_delay(&self) -> Duration {
        self.lease.duration()
    }

    /// Absent, or named for a session that is gone. One that cannot be read is left alone.
    fn is_free(&self, index: usize) -> bool {
        match self.view.vip(&self.vips[index].config.name) {
            None => true,
            Some(known) => {
                known.readable().is_some_and(|r| self.view.session_id(&r.node) != Some(r.session))
            }
        }
    }

    /// The VIPs of `session` that this node takes when it expires that session: those for which
    /// it is the most wanted of the others.
    pub(super) fn share_of(&self, node: &NodeName, session: SessionId) -> Vec<usize> {
        if !self.is_active() {
            return Vec::new();
        }
        let named = |index: &usize| self.named_session(*index) == Some((node.clone(), session));
        (0..self.vips.len())
            .filter(named)
            .filter(|&index| {
                let vip = &self.vips[index];
                vip.presence == Presence::Absent
                    && vip.pending.is_none()
                    && self.unwanted(index).is_none()
                    && vip.rank.iter().find(|n| *n != node) == Some(&self.config.name)
            })
            .take(Self::SHARE_MAX)
            .collect()
    }

    /// The mod_revision at which `vips/<vip>` names the session that this node has, if it does.
    pub(super) fn owned(&self, index: usize) -> Option<Revision> {
        let id = match self.membership {
            Membership::Live { id } | Membership::Resuming { id } => id,
            _ => return None,
        };
        let known = self.view.vip(&self.vips[index].config.name)?;
        let record = known.readable()?;
        (record.node == self.config.name && record.session == id).then_some(known.modified)
    }

    fn is_unreadable(&self, index: usize) -> bool {
        let known = self.view.vip(&self.vips[index].config.name);
        known.is_some_and(|known| known.readable().is_none())
    }

    /// Whether anything may be held now (rule 2).
    pub(super) fn in_time(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| {
            now < deadline - self.lease.guard() || self.mutated(Mutant::GuardIgnored)
        })
    }

    /// Whether what is on the interface may stay there; else why not, as an operator is told.
    pub(super) fn may_hold(&self, index: usize, now: Instant) -> Result<(), String> {
        let vip = &self.vips[index];
        let joining = self.membership == Membership::Joining && self.deadline.is_some();
        if !self.in_time(now) {
            return Err(match self.deadline {
                Some(_) => "its session was not renewed in time".to_owned(),
                None => "this node has no session for it".to_owned(),
            });
        }
        if vip.until.is_some_and(|until| until <= now) {
            return Err("the kernel could not be told in time to keep it".to_owned());
        }
        if let Some(why) = self.unwanted(index) {
            return Err(why);
        }
        if joining {
            // What an earlier process left stays until it is known whose it is.
            return Ok(());
        }
        if self.published_otherwise(index) {
            return Err("this node has published another definition of it".to_owned());
        }
        let Some(modified) = self.owned(index) else {
            return Err(match self.named_session(index) {
                Some((node, _)) if node != self.config.name => format!("{node} owns it"),
                _ if self.is_unreadable(index) => "what etcd says of it cannot be read".to_owned(),
                _ => "nobody gave it to this session".to_owned(),
            });
        };
        if modified <= vip.barrier && !self.mutated(Mutant::KeepAfterHandOver) {
            return Err("it is being handed over".to_owned());
        }
        match &vip.leaving {
            None => Ok(()),
            Some(Leaving::Preferred(node)) => Err(format!("{node} is preferred")),
            Some(Leaving::Spoiled) => Err("the kernel did not keep it".to_owned()),
        }
    }

    /// Why this node would not hold the VIP even if it owned it.
    pub(super) fn unwanted(&self, index: usize) -> Option<String> {
        let vip = &self.vips[index];
        if let Some(stopping) = &self.stopping {
            return Some(stopping.why());
        }
        if self.drained {
            return Some("an operator drains this node".to_owned());
        }
        if let Some(blocked) = &vip.blocked {
            return Some(blocked.why.clone());
        }
        vip.conflict.clone()
    }

    /// Notices that placement prefers another node, and after the settling delay moves the VIP.
    ///
    /// Such a move can wait, and a store that does not answer would turn it into a gap: so it
    /// begins only right after an own renewal was answered, and after an outage it settles anew.
    fn prefer(&mut self, index: usize, now: Instant) {
        if self.owned(index).is_none() {
            return;
        }
        let preferred = self.vips[index].rank.first().filter(|first| **first != self.config.name);
        let Some(preferred) = preferred.cloned() else {
            self.vips[index].preferring = None;
            return;
        };
        let since = match &self.vips[index].preferring {
            Some((node, since)) if *node == preferred => *since,
            _ => now,
        };
        // What an operator asks for is not a matter of settling.
        let at_once = self.view.pinned(&self.vips[index].config.name) == Some(&preferred);
        let settled = if at_once { since } else { since + self.settling_delay() };
        let doubtful = if at_once {
            self.silence.is_paused() || !self.heard_lately(&preferred, now)
        } else {
            !self.store_answers(now) || !self.heard_lately(&preferred, now)
        };
        let vip = &mut self.vips[index];
        vip.preferring = Some((preferred.clone(), since));
        if settled > now {
            self.agenda.wake(index, settled);
        } else if doubtful {
            // Looked at again when the next renewal is answered, and for an operator's wish sooner.
            if at_once {
                self.agenda.wake(index, now + self.retry_delay() / 8);
            }
        } else {
            vip.leaving = Some(Leaving::Preferred(preferred));
            vip.preferring = None;
        }
    }

    /// Whether the store has just answered a renewal, and none is on its way.
    fn store_answers(&self, now: Instant) -> bool {
        let fresh = self.lease.renew() / 10;
        !self.silence.is_paused() && self.answered_at.is_some_and(|at| now.since(at) <= fresh)
    }

    /// A renewal was answered: what has settled may move.
    pub(super) fn store_answered(&mut self, now: Instant) {
        self.answered_at = Some(now);
        let settled = |vip: &Vip| vip.preferring.is_some();
        let moving = (0..self.vips.len()).filter(|&index| settled(&self.vips[index]));
        self.agenda.dirty.extend(moving);
    }

    /// Renewals fail: whatever was about to move stays where it is until they succeed for long.
    pub(super) fn settle_anew(&mut self, now: Instant) {
        for vip in &mut self.vips {
            if let Some((_, since)) = &mut vip.preferring {
                *since = now;
            }
        }
    }

    /// Whether something failed so recently that it is not tried again yet.
    fn waits(&mut self, index: usize, now: Instant) -> bool {
        match self.vips[index].retry_at {
            Some(at) if at > now => {
                self.agenda.wake(index, at);
                true
            }
            _ => {
                self.vips[index].retry_at = None;
                false
            }
        }
    }
}
