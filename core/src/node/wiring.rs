//! How the parts are wired: what one says, others are told.
//!
//! Nothing is decided here. Each method asks one part, and hands what follows to the others.

use super::Node;
use super::outbox::{PendingOp, PendingTxn, Purpose};
use super::session::{Join, OwnWrite, Written};
use super::shutdown::{NextStep, Progress, Shutdown};
use super::situation::Situation;
use super::vips::Context;
use crate::action::{Action, Exit, OpId, TxnId};
use crate::kernel::{KernelEvent, KernelOp, KernelOutcome};
use crate::mutant::Mutant;
use crate::name::{Revision, SessionId};
use crate::report::Report;
use crate::store::{Event, Header, KeyValue, StoreError, TxnResponse, Update};
use crate::time::Instant;
use crate::timer::Timer;
use crate::view::Change;

/// What all parts look at, beside parts that are changed.
macro_rules! situation {
    ($node:ident, $now:expr) => {
        Situation {
            own: &$node.own,
            view: &$node.view,
            session: &$node.session,
            peers: &$node.peers,
            store: &$node.store,
            shutdown: &$node.shutdown,
            unix_ms: $node.unix_ms,
            now: $now,
        }
    };
}

/// The same with the parts that decide about VIPs.
macro_rules! context {
    ($node:ident, $now:expr) => {
        Context {
            situation: situation!($node, $now),
            publication: &$node.publication,
            candidates: &$node.candidates,
        }
    };
}

/// The steps of [`Node::settle`].
impl Node {
    pub(super) fn fire_timers(&mut self, now: Instant) {
        for timer in Timer::ALL {
            if !self.out.timers.take_due(timer, now) {
                continue;
            }
            match timer {
                Timer::Renew => self.renew(now),
                Timer::Guard | Timer::KeptUntil => self.vips.mark_there_dirty(),
                Timer::Expire => self.expire_silent(now),
                Timer::Echo => {
                    let why = "own renewals do not come back on the watch".to_owned();
                    self.watch.stop_expecting(&mut self.out);
                    self.watch.doubt(why, self.session.lease(), &mut self.out, now);
                    self.follow(true, now);
                }
                Timer::Follow => self.follow(true, now),
                Timer::WatchStale => self.watch.is_stale_now(),
                Timer::Member => {
                    let (lease, follows) = (self.session.lease(), self.own.follows_leader());
                    self.out.timers.set(Timer::Member, now + lease.member_interval(follows));
                    self.out.push(Action::AskMember { timeout: lease.renew() });
                }
                Timer::Contest => {
                    if let Some((purpose, txn)) = self.session.expire_own_name(&self.own) {
                        let timeout = self.session.lease().renew();
                        self.out.commit(purpose, txn, self.view.newest, timeout);
                    }
                }
                // `publish` looks at it by itself.
                Timer::Publish => {}
                Timer::StopLimit => {
                    if self.shutdown.limit_reached() {
                        self.session.close();
                        self.vips.mark_all_dirty();
                    }
                }
                Timer::List => self.interfaces.list(&mut self.out),
                Timer::Close => self.shutdown.closing_ended(),
                Timer::Free => self.freeing.mark_stale(),
                Timer::Quiet => {
                    self.store.end_quiet();
                    self.vips.mark_all_dirty();
                }
            }
        }
    }

    pub(super) fn wake_due(&mut self, now: Instant) {
        self.vips.wake_due(now);
        let unblocked = self.vips.unblock_due(&self.own, now, &mut self.out);
        self.ability_changed(&unblocked);
    }

    /// Has a session opened or resumed, once the kernel and the store are known (rule 6).
    pub(super) fn join(&mut self, now: Instant) {
        if !self.session.is_joining()
            || self.shutdown.has_begun()
            || !self.interfaces.is_ready()
            || !self.watch.is_following()
        {
            return;
        }
        match self.session.join(&self.own, &self.view) {
            Join::Open => {
                // Whatever is still there was put there under another session.
                self.keep_nothing();
                if self.vips.nothing_is_there() {
                    self.session.open();
                    self.renew(now);
                }
            }
            Join::Resume { id, lease } => {
                self.session.resume(&self.own, id, lease);
                self.set_guard_timer();
                self.vips.resumed(&self.own, &self.view, &self.publication);
                self.renew(now);
            }
            Join::Contest { seen, lease, host } => {
                self.session.contest(seen);
                self.keep_nothing();
                let patience = self.session.lease().patience(lease);
                self.out.timers.set(Timer::Contest, now + patience);
                let this = &self.own.config.host;
                let why = format!("host {host} has it in etcd, and this is host {this}");
                self.out.report(Report::NameContested { why });
            }
            Join::Refuse(why) => self.refuse(why, now),
        }
    }

    /// Brings up to date who may take what.
    pub(super) fn review(&mut self, now: Instant) {
        let (activated, renewed) = self.publication.view_complete_to(&situation!(self, now));
        if activated {
            self.own_standing_changed();
        }
        self.vips.mark_dirty(renewed.iter().copied());
        renewed.iter().for_each(|&index| self.candidates.mark_stale(index));
        self.candidates.mark_unsure(renewed);
        let (situation, out) = (situation!(self, now), &mut self.out);
        let updated = self.candidates.update(&situation, &self.publication, &self.vips, out);
        if updated.conflicts_changed {
            self.publication.mark_stale();
        }
        self.vips.mark_dirty(updated.ranked);
    }

    pub(super) fn reconcile(&mut self, now: Instant) {
        let context = context!(self, now);
        self.vips.reconcile(&context, &mut self.out);
        self.freeing.free(&context, &self.vips, &mut self.out);
    }

    pub(super) fn publish(&mut self, now: Instant) {
        let (situation, out) = (situation!(self, now), &mut self.out);
        self.publication.publish(&situation, &self.vips, &self.candidates, out);
    }

    pub(super) fn announce(&mut self, now: Instant) {
        let context = context!(self, now);
        self.vips.announce_due(&context, &mut self.out);
    }

    pub(super) fn advance_shutdown(&mut self, now: Instant) {
        if !self.shutdown.has_begun() {
            return;
        }
        let context = context!(self, now);
        let progress = Progress {
            nothing_there: self.interfaces.is_ready() && self.vips.nothing_is_there(),
            session_stands: self.session.id().is_some(),
            session_coming: self.session.is_coming() && self.out.is_renewing(),
            owns_something: self.vips.owns_something(&context, &self.freeing, &self.out),
        };
        match self.shutdown.next_step(progress) {
            NextStep::Wait => {}
            NextStep::DeleteSession => {
                if let Some(txn) = self.session.deletion(&self.own, &self.view) {
                    self.shutdown.closing();
                    self.out.timers.stop(Timer::Renew);
                    let timeout = self.session.lease().renew();
                    self.out.commit(Purpose::Close, txn, self.view.newest, timeout);
                }
            }
            NextStep::RemoveFence => {
                self.close_session();
                self.shutdown.removing_fence();
                self.out.kernel(PendingOp::RemoveFence, KernelOp::RemoveFence);
            }
        }
    }
}

/// What the store says.
impl Node {
    pub(super) fn watch_told(&mut self, update: Update, now: Instant) {
        match update {
            Update::Snapshot(snapshot) => {
                if self.store_changed(snapshot.header, self.watch.asked_knowing(), now) {
                    return;
                }
                self.store.learn(snapshot.header);
                let changes = self.view.learn_snapshot(&self.own.keys, &snapshot);
                for kv in &snapshot.kvs {
                    self.report_unreadable(&kv.key, kv.mod_revision);
                }
                let may_renew_again = self.watch.snapshot_came(&mut self.out, now);
                if may_renew_again && self.session.is_renewable() {
                    self.out.timers.set(Timer::Renew, now);
                }
                self.complete_to(snapshot.header.revision);
                changes.into_iter().for_each(|change| self.changed(change, now));
            }
            Update::Events(events) => {
                if !self.watch.is_following() || self.store_changed(events.header, Revision(0), now)
                {
                    return;
                }
                for event in &events.events {
                    match event {
                        Event::Put(kv) => self.learn(&kv.key, Some(kv), kv.mod_revision, now),
                        Event::Delete { key, revision } => self.learn(key, None, *revision, now),
                    }
                }
                self.complete_to(events.header.revision);
            }
        }
    }

    fn complete_to(&mut self, revision: Revision) {
        self.view.newest = self.view.newest.max(revision);
        self.view.complete_to = self.view.complete_to.max(revision);
        self.watch.complete_to(revision, &mut self.out);
    }

    /// Learns from an answer what it says about keys; what to hold follows from that.
    pub(super) fn committed(
        &mut self,
        id: TxnId,
        pending: PendingTxn,
        answer: Result<TxnResponse, StoreError>,
        now: Instant,
    ) {
        if let Ok(response) = &answer {
            if self.store_changed(response.header, pending.sent_knowing, now) {
                return;
            }
            for (key, kv) in pending.news(response) {
                self.learn(&key, kv.as_ref(), response.header.revision, now);
            }
        }
        let succeeded = answer.as_ref().is_ok_and(|response| response.succeeded);
        let unknown = answer.is_err();
        let situation = situation!(self, now);
        match pending.purpose {
            Purpose::Renew { sent, .. } => self.renewal_answered(sent, answer, now),
            Purpose::Expire { node, vips } => {
                if succeeded {
                    self.out.report(Report::Expired { node: node.clone() });
                }
                let retry_at = situation.retry_at();
                self.vips.answered(&situation, id, &vips, unknown);
                self.peers.expiry_answered(&node, retry_at);
                if unknown && self.session.is_contested() {
                    self.out.timers.set(Timer::Contest, retry_at);
                }
                self.schedule_expiry();
            }
            Purpose::Claim { vips } => self.vips.answered(&situation, id, &vips, unknown),
            Purpose::HandOver { vips } => {
                for (index, to) in vips.iter().filter(|_| succeeded) {
                    let vip = self.own.vip(*index).name.clone();
                    self.out.report(Report::HandedOver { vip, to: to.clone() });
                }
                let vips: Vec<_> = vips.into_iter().map(|(index, _)| index).collect();
                self.vips.answered(&situation, id, &vips, unknown);
            }
            Purpose::Free { vips } => {
                self.freeing.answered(&situation, &vips, unknown, &mut self.out);
            }
            Purpose::Publish => self.publication.answered(unknown, &situation, &mut self.out),
            // Tried again after the usual delay, until the limit.
            Purpose::Close if unknown => {
                self.out.timers.set(Timer::Close, situation.retry_at());
            }
            Purpose::Close => self.shutdown.closing_ended(),
        }
    }

    fn learn(&mut self, key: &str, kv: Option<&KeyValue>, as_of: Revision, now: Instant) {
        if let Some(change) = self.view.learn(&self.own.keys, key, kv, as_of) {
            self.report_unreadable(key, kv.map_or(as_of, |kv| kv.mod_revision));
            self.changed(change, now);
        }
    }

    fn report_unreadable(&mut self, key: &str, modified: Revision) {
        let (keys, out) = (&self.own.keys, &mut self.out);
        self.unreadable.report(keys, &self.view, key, modified, out);
    }

    fn changed(&mut self, change: Change, now: Instant) {
        match change {
            Change::Renewed(node) if node == *self.own.name() => self.own_session_written(now),
            Change::Renewed(node) => {
                self.peers.heard(&node, self.view.session(&node), now);
                self.schedule_expiry();
            }
            Change::Session { node, before } => {
                if let Some(before) = before {
                    self.session_gone(before);
                }
                if node == *self.own.name() {
                    self.own_record_changed();
                    self.own_session_written(now);
                } else {
                    self.peers.heard(&node, self.view.session(&node), now);
                    self.candidates.node_changed(&self.own, &self.view, &node);
                    self.schedule_expiry();
                }
            }
            Change::Node(node) if node == *self.own.name() => self.own_record_changed(),
            Change::Drain(node) if node == *self.own.name() => {
                self.out.report(Report::Drained(self.view.drained(&node)));
                self.own_standing_changed();
            }
            Change::Node(node) | Change::Drain(node) => {
                self.candidates.node_changed(&self.own, &self.view, &node);
            }
            Change::Pin(vip) => {
                if let Some(index) = self.own.index_of(&vip) {
                    self.candidates.mark_stale(index);
                }
            }
            Change::Vip(vip) => match self.own.index_of(&vip) {
                Some(index) => self.candidates.mark_stale(index),
                None => self.freeing.mark_stale(),
            },
            Change::Foreign => {}
        }
    }

    fn session_gone(&mut self, session: SessionId) {
        self.vips.session_gone(&self.own, &self.view, session);
        let vips = self.view.vips_of(session).filter_map(|vip| self.own.index_of(vip));
        vips.for_each(|index| self.candidates.mark_stale(index));
    }

    fn own_record_changed(&mut self) {
        let changed = self.publication.changed(&self.own, &self.view);
        self.vips.mark_dirty(changed.iter().copied());
        self.candidates.mark_unsure(changed);
    }

    /// Whether the store that answers is not the one it was (A2). Then everything starts afresh.
    fn store_changed(&mut self, header: Header, known: Revision, now: Instant) -> bool {
        let Some(why) = self.store.contradiction(header, known) else { return false };
        self.out.report(Report::StoreChanged { why });
        if self.own.mutated(Mutant::KeepAfterRollback) {
            return false;
        }
        let own_lease = self.own.config.lease;
        let longest = self.view.longest_lease().unwrap_or_default().max(own_lease.duration());
        let quiet_until = self.store.forget(own_lease.patience(longest), now);
        if self.own.mutated(Mutant::ResumeAfterRollback) {
            self.store.end_quiet();
        } else {
            self.out.timers.set(Timer::Quiet, quiet_until);
        }
        self.view = self.view.cleared();
        self.session.forget_attempts();
        self.out.forget_txns();
        self.peers.forget_all();
        self.publication.forget_request();
        self.candidates.forget_all(&self.own);
        self.freeing.forget_requests();
        self.shutdown.closing_ended();
        self.vips.store_changed();
        self.own_record_changed();
        self.forget_session();
        self.watch.start_afresh(self.session.lease(), &mut self.out, now);
        true
    }

    pub(super) fn follow(&mut self, elsewhere: bool, now: Instant) {
        let (lease, newest) = (self.session.lease(), self.view.newest);
        self.watch.follow(&self.own, lease, newest, elsewhere, &mut self.out, now);
    }
}

/// The own session, and those of others.
impl Node {
    pub(super) fn renew(&mut self, now: Instant) {
        let lease = self.session.lease();
        if !self.session.is_renewable() {
            return;
        }
        if !self.watch.may_renew(&self.own) {
            return self.out.timers.set(Timer::Renew, now + lease.renew());
        }
        // Unless it is answered before. Of those that are under way at once, all of which compare
        // the same revision, one lands, and the others read that it did.
        self.out.timers.set(Timer::Renew, now + lease.unanswered_delay());
        let first = self.publication.first(&situation!(self, now), &self.vips, &self.candidates);
        let renewal = self.session.renewal(&self.own, &self.view, || first, now);
        let Some((purpose, txn)) = renewal else { return };
        self.peers.renewal_sent(now);
        self.schedule_expiry();
        self.out.commit(purpose, txn, self.view.newest, lease.renew());
    }

    fn renewal_answered(
        &mut self,
        sent: Instant,
        answer: Result<TxnResponse, StoreError>,
        now: Instant,
    ) {
        let lease = self.session.lease();
        match answer {
            Ok(response) => {
                self.peers.renewal_answered(&self.own, sent, now);
                if response.succeeded {
                    self.out.timers.set(Timer::Renew, sent + lease.renew());
                }
                self.schedule_expiry();
                self.vips.renewal_answered();
                if self.session.answered(now) {
                    self.out.report(Report::RenewalsSucceed);
                    self.vips.announce_all(now);
                }
            }
            // The store has answered a later one: this is no outage.
            Err(_) if !self.peers.renewal_failed(sent) => {}
            Err(error) => {
                if self.session.failed(now) {
                    let left = self.session.left(now);
                    self.out.report(Report::RenewalsFail { why: error.to_string(), left });
                }
                self.vips.settle_anew(now);
                self.out.timers.set_earlier(Timer::Renew, now + lease.unanswered_delay());
            }
        }
    }

    fn own_session_written(&mut self, now: Instant) {
        let known = self.view.session(self.own.name());
        match self.session.written(&self.own, known, now) {
            Written::Nothing => {}
            Written::Own(write) => self.own_write(&write, now),
            Written::RenewNow => self.out.timers.set(Timer::Renew, now),
            Written::WatchOn(lease) => {
                let patience = self.session.lease().patience(lease);
                self.out.timers.set(Timer::Contest, now + patience);
            }
            Written::Lost(session, why) => {
                // Its deletion at the end of an orderly stop is no loss.
                if !self.shutdown.is_closing() || known.is_some() {
                    let why = why.to_owned();
                    self.out.report(Report::SessionLost { session, why });
                }
                self.forget_session();
            }
            Written::Refuse(why) => self.refuse(why, now),
        }
    }

    fn own_write(&mut self, write: &OwnWrite, now: Instant) {
        let Some(session) = self.session.id() else { return };
        if write.resumed {
            self.out.report(Report::SessionResumed { session });
        }
        if write.opened {
            self.out.report(Report::SessionOpened { session });
        }
        if write.opened || write.resumed {
            self.own_standing_changed();
        }
        if write.extended {
            if write.was_late {
                // What was taken away for want of time may come back.
                self.vips.mark_all_dirty();
            }
            self.set_guard_timer();
            if let Some(deadline) = self.session.deadline() {
                self.vips.refresh(deadline, &mut self.out);
            }
        }
        let written = self.view.session(self.own.name()).map(|known| known.modified);
        if let Some(written) = written.filter(|at| write.credited && self.view.complete_to < *at) {
            self.watch.expect(written, self.session.lease(), &mut self.out, now);
        }
    }

    /// Back to the start; nothing is held under a session that is not there.
    fn forget_session(&mut self) {
        self.session.forget(&self.own, self.shutdown.has_begun());
        self.publication.session_lost(&self.own);
        self.watch.stop_expecting(&mut self.out);
        self.out.timers.stop(Timer::Renew);
        self.out.timers.stop(Timer::Guard);
        self.own_standing_changed();
    }

    fn keep_nothing(&mut self) {
        if self.session.keep_nothing() {
            self.vips.mark_all_dirty();
        }
    }

    pub(super) fn set_guard_timer(&mut self) {
        if let Some(at) = self.session.guard_at() {
            self.out.timers.set(Timer::Guard, at);
        }
    }

    fn expire_silent(&mut self, now: Instant) {
        let may = self.session.id().is_some()
            && self.watch.may_renew(&self.own)
            && !self.shutdown.has_begun()
            && self.session.in_time(&self.own, now);
        if !may {
            // Looked at again when the session is there, or a renewal is answered.
            return;
        }
        for silent in self.peers.silent(&self.own, self.session.lease(), now) {
            let context = context!(self, now);
            let retry_at = context.situation.retry_at();
            if self.vips.expire(&context, &silent, &mut self.out) {
                self.peers.expiring(&silent.node, retry_at);
            }
        }
        self.schedule_expiry();
    }

    fn schedule_expiry(&mut self) {
        match self.peers.next_due(&self.own, self.session.lease()) {
            Some(due) => self.out.timers.set(Timer::Expire, due),
            None => self.out.timers.stop(Timer::Expire),
        }
    }

    /// The session, the drain or the end of this node itself: all its VIPs depend on it.
    fn own_standing_changed(&mut self) {
        self.candidates.mark_all_stale(&self.own);
        self.publication.mark_stale();
        self.freeing.mark_stale();
        self.vips.mark_all_dirty();
    }
}

/// What the kernel says, and the end.
impl Node {
    pub(super) fn kernel_answered(
        &mut self,
        id: OpId,
        pending: PendingOp,
        outcome: KernelOutcome,
        now: Instant,
    ) {
        let situation = situation!(self, now);
        let (failed, until) = match outcome {
            KernelOutcome::Listed(listing) => {
                let changed = self.interfaces.listed(&self.own, &listing, &mut self.out);
                for name in changed {
                    self.interface_changed(&name);
                }
                let context = context!(self, now);
                let compared = self.vips.compare_with(&context, id, &listing, &mut self.out);
                for (index, what) in compared.repairs {
                    self.repaired(index, what);
                }
                if compared.is_outdated {
                    self.interfaces.list_soon(&mut self.out, now);
                }
                return self.interfaces.withdraw_strays(&compared.strays, &mut self.out);
            }
            KernelOutcome::Done { failed, until } => (failed, until),
            KernelOutcome::Failed(error) => {
                let addresses = match &pending {
                    PendingOp::Assume(vips) | PendingOp::Withdraw(vips) => {
                        self.own.assignments(vips)
                    }
                    PendingOp::WithdrawStrays(addresses) => addresses.clone(),
                    PendingOp::Refresh => {
                        let out = &mut self.out;
                        let changed = self.vips.refresh_failed(&situation, id, &error, out);
                        return self.ability_changed(&changed);
                    }
                    PendingOp::List | PendingOp::RemoveFence => Vec::new(),
                };
                (addresses.into_iter().map(|one| (one, error.clone())).collect(), None)
            }
        };
        let (answer, out) = ((failed.as_slice(), until), &mut self.out);
        let changed = match pending {
            PendingOp::List => {
                self.interfaces.list_failed(out, now);
                Vec::new()
            }
            PendingOp::Assume(vips) => self.vips.assumed(&situation, id, &vips, answer, out),
            PendingOp::Refresh => self.vips.refreshed(&situation, id, answer, out),
            PendingOp::Withdraw(vips) => {
                self.vips.withdrawn(&situation, id, &vips, &failed, out);
                // What could not be held may be yielded now.
                self.publication
                    .mark_stale_if_any(&vips, |index| self.vips.yields(&situation, index));
                Vec::new()
            }
            PendingOp::WithdrawStrays(_) => {
                let failed = failed.first().map(|(one, error)| (one, error.to_string()));
                self.interfaces.strays_withdrawn(failed, out, now);
                Vec::new()
            }
            PendingOp::RemoveFence => {
                if let Some(exit) = self.shutdown.fence_removed() {
                    out.push(Action::Exit(exit));
                }
                Vec::new()
            }
        };
        self.ability_changed(&changed);
    }

    fn repaired(&mut self, index: usize, what: &str) {
        let vip = self.own.vip(index);
        let addresses: Vec<String> = vip.assignments().map(|one| one.to_string()).collect();
        let what = format!("{} {what}", addresses.join(", "));
        let count = self.publication.repaired();
        self.out.report(Report::Repairing { vip: vip.name.clone(), what, count });
    }

    /// What the kernel can hold of these VIPs is otherwise than before (rule 7).
    fn ability_changed(&mut self, vips: &[usize]) {
        if !vips.is_empty() {
            self.publication.mark_stale();
            vips.iter().for_each(|&index| self.candidates.mark_stale(index));
        }
    }

    pub(super) fn kernel_told(&mut self, event: KernelEvent, now: Instant) {
        match event {
            KernelEvent::AddressChanged | KernelEvent::Lost => {
                self.interfaces.list(&mut self.out);
            }
            KernelEvent::LinkChanged(link) => {
                if self.interfaces.link_changed(&link) {
                    self.interface_changed(&link.name);
                    self.vips.announce_on(&self.own, &link.name, now);
                }
            }
            KernelEvent::LinkGone(name) => {
                if self.interfaces.link_gone(&name) {
                    self.interface_changed(&name);
                    self.vips.announce_on(&self.own, &name, now);
                    // Its addresses went with it.
                    self.interfaces.list(&mut self.out);
                }
            }
        }
    }

    fn interface_changed(&mut self, name: &str) {
        let (own, out) = (&self.own, &mut self.out);
        let changed = self.vips.interface_changed(own, &self.interfaces, name, out);
        self.ability_changed(&changed);
    }

    pub(super) fn stop(&mut self, how: Shutdown, now: Instant) {
        let is_orderly = how == Shutdown::Orderly;
        if !self.shutdown.begin(how) {
            return;
        }
        if is_orderly {
            self.out.timers.set(Timer::StopLimit, now + self.session.lease().holding());
        } else {
            self.close_session();
        }
        self.own_standing_changed();
    }

    /// The node must not run, or not go on: everything is dropped.
    fn refuse(&mut self, why: String, now: Instant) {
        self.stop(Shutdown::AtOnce(Exit::Refused(why)), now);
    }

    fn close_session(&mut self) {
        self.session.close();
        self.out.timers.stop(Timer::Renew);
    }
}
