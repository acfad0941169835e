//! What the kernel is asked about VIPs and answers: put there, kept, taken away, announced (rules 2,
//! 7 and 8).

use std::collections::BTreeMap;

use super::state::{Event, State};
use super::vip::{Blocked, Leaving, MustGo};
use super::{Context, Vips, rhythm};
use crate::action::{Action, OpId};
use crate::kernel::{Assignment, KernelError, KernelOp};
use crate::lease::{self, REMOVE_AGAIN_AFTER};
use crate::mutant::Mutant;
use crate::name::VipName;
use crate::node::outbox::{Outbox, PendingOp};
use crate::node::own::{Own, VipIndex};
use crate::node::situation::Situation;
use crate::report::Report;
use crate::time::Instant;
use crate::timer::Timer;

/// So many assumptions in a row that come too late are taken for a refusal.
const TOO_LATE_MAX: u32 = 3;

/// The assignments with which an operation went wrong.
pub(in crate::node) type Failed = [(Assignment, KernelError)];

/// The VIPs of which the kernel can hold more, or less, than was known.
pub(in crate::node) type AbilityChanged = Vec<VipIndex>;

impl Vips {
    // ---- asking

    pub(super) fn assume(&mut self, context: &Context<'_>, vips: &[VipIndex], out: &mut Outbox) {
        let Context { situation, .. } = context;
        let Some(deadline) = situation.session.deadline().filter(|_| !vips.is_empty()) else {
            return;
        };
        for &index in vips {
            let token = situation.owned(index).unwrap_or_default();
            let vip = &situation.own.vip(index).name;
            for assignment in situation.own.assignments(&[index]) {
                out.report(Report::Assuming { vip: vip.clone(), assignment, token });
            }
        }
        let op = KernelOp::Assume { addresses: situation.own.assignments(vips), deadline };
        let id = out.kernel(PendingOp::Assume(vips.to_vec()), op);
        self.touch(vips, id, Event::AssumeSent(id));
        vips.iter().for_each(|&index| self.vips[index].given_up_at = None);
    }

    pub(super) fn withdraw(&mut self, context: &Context<'_>, vips: &[VipIndex], out: &mut Outbox) {
        if vips.is_empty() {
            return;
        }
        let op = KernelOp::Withdraw { addresses: context.situation.own.assignments(vips) };
        let id = out.kernel(PendingOp::Withdraw(vips.to_vec()), op);
        self.touch(vips, id, Event::WithdrawSent(id));
    }

    /// The deadline moved: the kernel keeps what is held until then (rule 2.5). What is still on its
    /// way to the kernel, behind thousands of others perhaps, is to know of the new deadline too.
    pub(in crate::node) fn refresh(&mut self, deadline: Instant, out: &mut Outbox) {
        let is_kept =
            |index: &VipIndex| matches!(self.vips[*index].state, State::Held | State::Adding(_));
        if self.there.iter().any(is_kept) {
            out.kernel(PendingOp::Refresh, KernelOp::Refresh { deadline });
        }
    }

    fn touch(&mut self, vips: &[VipIndex], id: OpId, event: Event) {
        for &index in vips {
            self.go(index, event);
            (self.vips[index].touched, self.vips[index].until) = (id, None);
        }
    }

    /// Tells of a VIP that an earlier process put there, once it is known that it stays.
    pub(super) fn tell_kept(
        &mut self,
        situation: &Situation<'_>,
        index: VipIndex,
        out: &mut Outbox,
    ) {
        let vip = &mut self.vips[index];
        let is_kept = vip.state == State::Held && situation.session.id().is_some();
        if !is_kept || std::mem::replace(&mut vip.is_told, true) {
            return;
        }
        let vip = &situation.own.vip(index).name;
        for assignment in situation.own.assignments(&[index]) {
            out.report(Report::Kept { vip: vip.clone(), assignment });
        }
    }

    pub(super) fn report_withdrawing(
        own: &Own,
        index: VipIndex,
        must_go: &MustGo,
        out: &mut Outbox,
    ) {
        let vip = &own.vip(index).name;
        for assignment in own.assignments(&[index]) {
            let (vip, why, departure) = (vip.clone(), must_go.why.clone(), must_go.departure);
            out.report(Report::Forfeiting { vip, assignment, why, departure });
        }
    }

    // ---- being answered

    /// The kernel has put `vips` there, but for what failed.
    pub(in crate::node) fn assumed(
        &mut self,
        situation: &Situation<'_>,
        id: OpId,
        vips: &[VipIndex],
        (failed, until): (&Failed, Option<Instant>),
        out: &mut Outbox,
    ) -> AbilityChanged {
        let own = situation.own;
        let (errors, mut changed) = (errors_by_vip(failed), Vec::new());
        for &index in vips {
            // Whether or not all of its addresses are there: what is there is ours to take away.
            // Where it was withdrawn meanwhile, that answer counts.
            if !self.go(index, Event::Assumed(id)) {
                continue;
            }
            self.vips[index].until = until;
            if let Some(until) = until {
                self.agenda.wake(index, until);
            }
            self.agenda.mark_dirty([index]);
            let name = &own.vip(index).name;
            match errors.get(name) {
                None => {
                    if self.vips[index].failed_at.is_some() {
                        changed.push(index);
                    }
                    self.vips[index].works();
                    self.vips[index].is_told = true;
                    let (arrival, gap) = self.vips[index].vacancy.filled(situation.now);
                    self.came(own, index, arrival, out);
                    for assignment in own.assignments(&[index]) {
                        out.report(Report::Assumed { vip: name.clone(), assignment, arrival, gap });
                    }
                    self.agenda.announce_from(index, situation.now);
                    self.repeat_announcing(own, index, situation.now);
                }
                Some((_, KernelError::TooLate)) if !self.kernel_is_slow(situation, index) => {
                    // Too little of the lease is left, or the kernel is slow: at once it would be
                    // too late again.
                    self.vips[index].leaving = Some(Leaving::NeedsReinstall);
                    self.vips[index].retry_at = Some(situation.retry_at());
                }
                Some((on, error)) => {
                    self.refused(situation, index, (on, error), out);
                    changed.push(index);
                }
            }
        }
        changed
    }

    /// Counts an assumption that came too late. Whether the kernel is to blame, so that the VIP
    /// is better off elsewhere: it was too late again and again, while there was lease enough.
    fn kernel_is_slow(&mut self, situation: &Situation<'_>, index: VipIndex) -> bool {
        if !situation.session.is_fresh(situation.now) {
            // There was too little of the lease for anybody.
            return false;
        }
        let vip = &mut self.vips[index];
        vip.too_late += 1;
        vip.too_late >= TOO_LATE_MAX
    }

    /// The kernel keeps what is held, but for what failed.
    pub(in crate::node) fn refreshed(
        &mut self,
        situation: &Situation<'_>,
        id: OpId,
        (failed, until): (&Failed, Option<Instant>),
        out: &mut Outbox,
    ) -> AbilityChanged {
        let own = situation.own;
        if let Some(until) = until {
            self.kept_until = Some((id, until));
            out.timers.set(Timer::KeptUntil, until);
        }
        let mut changed = Vec::new();
        for (name, (on, error)) in errors_by_vip(failed) {
            let index = own.index_of(name);
            let Some(index) = index.filter(|index| self.is_current(*index, id)) else { continue };
            self.agenda.mark_dirty([index]);
            if *error == KernelError::NoInterface {
                self.refused(situation, index, (on, error), out);
                changed.push(index);
            } else {
                // The kernel silenced it: it is taken away, and put back if that is still right.
                let vip = own.vip(index).name.clone();
                out.report(Report::KernelFails { vip, why: error.to_string() });
                self.vips[index].leaving = Some(Leaving::NeedsReinstall);
            }
        }
        changed
    }

    /// The kernel keeps nothing of what was held when that was asked for.
    pub(in crate::node) fn refresh_failed(
        &mut self,
        situation: &Situation<'_>,
        id: OpId,
        error: &KernelError,
        out: &mut Outbox,
    ) -> AbilityChanged {
        let kept: Vec<_> = self.there().filter(|index| self.is_current(*index, id)).collect();
        let all = situation.own.assignments(&kept).into_iter().map(|one| (one, error.clone()));
        let failed: Vec<_> = all.collect();
        self.refreshed(situation, id, (&failed, None), out)
    }

    /// Whether the operation, answered now, is the last that was about the VIP.
    fn is_current(&self, index: VipIndex, id: OpId) -> bool {
        let vip = &self.vips[index];
        vip.state == State::Held && vip.touched <= id
    }

    /// The kernel has taken `vips` away, but for what failed.
    pub(in crate::node) fn withdrawn(
        &mut self,
        situation: &Situation<'_>,
        id: OpId,
        vips: &[VipIndex],
        failed: &Failed,
        out: &mut Outbox,
    ) {
        let own = situation.own;
        let errors = errors_by_vip(failed);
        // Some may have waited for what is gone now.
        self.agenda.look_at_crowded_out();
        for &index in vips {
            let name = &own.vip(index).name;
            let error = errors.get(name);
            let event = match error {
                None => Event::Withdrawn(id),
                Some(_) => Event::WithdrawFailed(id),
            };
            if !self.go(index, event) {
                continue;
            }
            self.agenda.mark_dirty([index]);
            let vip = &mut self.vips[index];
            if let Some((_, error)) = error {
                let why = format!("its address is not removed: {error}");
                out.report(Report::KernelFails { vip: name.clone(), why });
                vip.remove_again_at = Some(situation.now + REMOVE_AGAIN_AFTER);
                vip.reinstall();
                continue;
            }
            (vip.remove_again_at, vip.is_told) = (None, false);
            self.vacated(index, situation.now);
            for assignment in own.assignments(&[index]) {
                out.report(Report::Forfeited { vip: name.clone(), assignment });
            }
        }
    }

    // ---- what the kernel cannot hold

    /// The VIP is not this node's to hold for now: said in `nodes/`, then passed on (rule 7.3).
    fn refused(
        &mut self,
        situation: &Situation<'_>,
        index: VipIndex,
        (on, error): (&Assignment, &KernelError),
        out: &mut Outbox,
    ) {
        // Where nothing was told of a missing interface, nothing may be told of its return.
        let why = format!("{error} ({})", on.interface);
        self.refused_because(situation, index, why, out);
    }

    /// The same for that reason, whoever refuses it.
    pub(super) fn refused_because(
        &mut self,
        situation: &Situation<'_>,
        index: VipIndex,
        why: String,
        out: &mut Outbox,
    ) {
        let is_without_interface = |blocked: &Blocked| blocked.until.is_none();
        if self.vips[index].blocked.as_ref().is_some_and(is_without_interface) {
            // That it is back will be told; nothing else ends this.
            return;
        }
        let vip = &mut self.vips[index];
        let until = situation.now + lease::back_off(vip.refusals);
        vip.refusals += 1;
        if !situation.own.mutated(Mutant::FailureForgotten) {
            (vip.failed_at, vip.steady_at) = (Some(situation.view.newest), None);
        }
        self.agenda.wake(index, until);
        let blocked = Blocked { why, until: Some(until) };
        self.set_blocked(situation.own, index, Some(blocked), out);
    }

    /// Whether that is another reason than before.
    pub(super) fn set_blocked(
        &mut self,
        own: &Own,
        index: VipIndex,
        blocked: Option<Blocked>,
        out: &mut Outbox,
    ) -> bool {
        let name = || own.vip(index).name.clone();
        let report = match (&self.vips[index].blocked, &blocked) {
            (Some(before), Some(after)) if before.why == after.why => None,
            (_, Some(after)) => Some(Report::Blocked { vip: name(), why: after.why.clone() }),
            (Some(_), None) => Some(Report::Unblocked { vip: name() }),
            (None, None) => return false,
        };
        self.vips[index].blocked = blocked;
        self.agenda.mark_dirty([index]);
        if let Some(report) = report {
            out.report(report);
        }
        true
    }

    /// Ends what blocked VIPs where its time is over; says where.
    pub(in crate::node) fn unblock_due(
        &mut self,
        own: &Own,
        now: Instant,
        out: &mut Outbox,
    ) -> AbilityChanged {
        let is_over = |index: &VipIndex| {
            let blocked = self.vips[*index].blocked.as_ref();
            blocked.and_then(|blocked| blocked.until).is_some_and(|until| until <= now)
        };
        let over: Vec<_> = self.agenda.dirty().iter().copied().filter(is_over).collect();
        for &index in &over {
            self.set_blocked(own, index, None, out);
        }
        over
    }

    // ---- announcing

    /// After an outage others may have learned something else.
    pub(in crate::node) fn announce_all(&mut self, now: Instant) {
        for &index in &self.there {
            if self.vips[index].state == State::Held {
                self.agenda.announce_from(index, now);
            }
        }
    }

    /// For as long as it is there, it is announced again and again (rule 8.16).
    pub(super) fn repeat_announcing(&mut self, own: &Own, index: VipIndex, now: Instant) {
        if let Some(every) = own.config.announce_every {
            self.agenda.repeat_at(index, rhythm::next(every, &own.vip(index).name, now));
        }
    }

    /// Those to be announced again now. One that is gone is repeated no more, until it is assumed again.
    fn repetitions_due(&mut self, own: &Own, now: Instant) -> Vec<VipIndex> {
        let due = self.agenda.take_repetitions(now).into_iter();
        let there: Vec<VipIndex> = due.filter(|index| self.there.contains(index)).collect();
        for &index in &there {
            self.repeat_announcing(own, index, now);
        }
        there
    }

    pub(in crate::node) fn announce_due(&mut self, context: &Context<'_>, out: &mut Outbox) {
        let situation = &context.situation;
        let mut due = self.agenda.take_announcements(situation.now);
        due.extend(self.repetitions_due(situation.own, situation.now));
        // What an earlier process left is announced when it is known whose it is.
        let deadline = situation.session.deadline().filter(|_| situation.session.id().is_some());
        let Some(deadline) = deadline else { return };
        let is_held = |index: &VipIndex| {
            self.vips[*index].state == State::Held && self.may_hold(context, *index).is_ok()
        };
        let held: Vec<VipIndex> = due.into_iter().filter(is_held).collect();
        if !held.is_empty() {
            out.push(Action::Announce { addresses: situation.own.assignments(&held), deadline });
        }
    }
}

/// What went wrong with each VIP: with the last of its addresses with which something did.
fn errors_by_vip(failed: &Failed) -> BTreeMap<&VipName, (&Assignment, &KernelError)> {
    failed.iter().map(|(assignment, error)| (&assignment.vip, (assignment, error))).collect()
}
