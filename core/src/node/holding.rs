//! What the kernel is asked and tells: addresses put there, kept, taken away, repaired, announced
//! (rules 2, 7 and 8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Node, PendingOp};
use crate::action::{Action, OpId};
use crate::kernel::{
    Assignment, KernelError, KernelEvent, KernelOp, KernelOutcome, Listing, PresentAddress,
};
use crate::report::Report;
use crate::time::Instant;
use crate::timer::Timer;
use crate::vip::{Blocked, Leaving, Presence, Vip};

/// After the first: neighbours miss one, and a switch may just have come up.
const ANNOUNCE_AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// How long a removal that the kernel refused waits for the next.
const REMOVE_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long a listing that failed waits for the next.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// So many assumptions in a row that come too late are taken for a refusal.
const TOO_LATE_MAX: u32 = 3;

type Failed = Vec<(Assignment, KernelError)>;

impl Node {
    // ---- asking

    pub(super) fn list(&mut self) {
        if self.listing.is_some() {
            self.list_again = true;
            return;
        }
        self.listing = Some(self.kernel(PendingOp::List, KernelOp::List));
    }

    pub(super) fn assume(&mut self, vips: &[usize]) {
        let Some(deadline) = self.deadline else { return };
        if vips.is_empty() {
            return;
        }
        for &index in vips {
            let token = self.owned(index).unwrap_or_default();
            let vip = self.vips[index].config.name.clone();
            for assignment in self.assignments(&[index]) {
                self.report(Report::Assuming { vip: vip.clone(), assignment, token });
            }
        }
        let op = KernelOp::Assume { addresses: self.assignments(vips), deadline };
        let id = self.kernel(PendingOp::Assume(vips.to_vec()), op);
        self.touch(vips, id, Presence::Adding(id));
    }

    pub(super) fn withdraw(&mut self, vips: &[usize]) {
        if vips.is_empty() {
            return;
        }
        let op = KernelOp::Withdraw { addresses: self.assignments(vips) };
        let id = self.kernel(PendingOp::Withdraw(vips.to_vec()), op);
        self.touch(vips, id, Presence::Removing(id));
    }

    /// The deadline moved: the kernel keeps what is held until then (2.8).
    pub(super) fn refresh(&mut self, now: Instant) {
        let Some(deadline) = self.deadline else { return };
        let held: Vec<usize> = (0..self.vips.len())
            .filter(|&index| match self.vips[index].presence {
                Presence::Present => self.may_hold(index, now).is_ok(),
                _ => false,
            })
            .collect();
        // What is still on its way to the kernel, behind thousands of others perhaps, is to know
        // of the new deadline too.
        let coming = |vip: &Vip| matches!(vip.presence, Presence::Adding(_));
        if !held.is_empty() || self.vips.iter().any(coming) {
            let op = KernelOp::Refresh { deadline };
            self.kernel(PendingOp::Refresh(held), op);
        }
    }

    fn touch(&mut self, vips: &[usize], id: OpId, presence: Presence) {
        for &index in vips {
            let vip = &mut self.vips[index];
            vip.presence = presence;
            vip.touched = id;
            vip.until = None;
        }
    }

    fn assignments(&self, vips: &[usize]) -> Vec<Assignment> {
        vips.iter().flat_map(|&index| self.vips[index].config.assignments()).collect()
    }

    pub(super) fn report_forfeiting(&mut self, index: usize, why: &str) {
        let vip = self.vips[index].config.name.clone();
        for assignment in self.assignments(&[index]) {
            let (vip, why) = (vip.clone(), why.to_owned());
            self.report(Report::Forfeiting { vip, assignment, why });
        }
    }

    // ---- being answered

    pub(super) fn kernel_answered(
        &mut self,
        id: OpId,
        pending: PendingOp,
        outcome: KernelOutcome,
        now: Instant,
    ) {
        let (failed, until) = match outcome {
            KernelOutcome::Listed(listing) => return self.listed(id, &listing, now),
            KernelOutcome::Done { failed, until } => (failed, until),
            KernelOutcome::Failed(error) => (self.all_failed(&pending, &error), None),
        };
        match pending {
            PendingOp::List => {
                self.listing = None;
                self.timers.set(Timer::List, now + LIST_AGAIN_AFTER);
            }
            PendingOp::Assume(vips) => self.assumed(id, &vips, &failed, until, now),
            PendingOp::Refresh(vips) => self.refreshed(id, &vips, &failed, until, now),
            PendingOp::Withdraw(vips) => self.withdrawn(id, &vips, &failed, now),
            PendingOp::WithdrawStrays { initial, .. } => {
                self.strays_withdrawn(initial, &failed, now);
            }
            PendingOp::RemoveFence => self.fence_removed(),
        }
    }

    fn all_failed(&mut self, pending: &PendingOp, error: &KernelError) -> Failed {
        let addresses = match pending {
            PendingOp::Assume(vips) | PendingOp::Refresh(vips) | PendingOp::Withdraw(vips) => {
                self.assignments(vips)
            }
            PendingOp::WithdrawStrays { addresses, .. } => addresses.clone(),
            PendingOp::List | PendingOp::RemoveFence => return Vec::new(),
        };
        addresses.into_iter().map(|a| (a, error.clone())).collect()
    }

    fn assumed(
        &mut self,
        id: OpId,
        vips: &[usize],
        failed: &Failed,
        until: Option<Instant>,
        now: Instant,
    ) {
        let errors = errors_by_vip(failed);
        for &index in vips {
            if self.vips[index].presence != Presence::Adding(id) {
                // It was withdrawn meanwhile.
                continue;
            }
            // Whether or not all of its addresses are there: what is there is ours to take away.
            self.vips[index].presence = Presence::Present;
            self.set_until(index, until);
            self.agenda.dirty.insert(index);
            match errors.get(self.vips[index].config.name.as_str()) {
                None => {
                    self.vips[index].refusals = 0;
                    self.vips[index].too_late = 0;
                    let vip = self.vips[index].config.name.clone();
                    for assignment in self.assignments(&[index]) {
                        self.report(Report::Assumed { vip: vip.clone(), assignment });
                    }
                    self.announce_from(index, now);
                }
                Some(KernelError::TooLate) if !self.kernel_is_slow(index) => {
                    // Too little of the lease is left, or the kernel is slow: at once it would be
                    // too late again.
                    self.vips[index].leaving = Some(Leaving::Spoiled);
                    self.vips[index].retry_at = Some(now + self.retry_delay());
                }
                Some(error) => self.block(index, error, now),
            }
        }
    }

    /// Counts an assumption that came too late. Whether the kernel is to blame, so that the VIP
    /// is better off elsewhere: it was too late again and again, while there was lease enough.
    fn kernel_is_slow(&mut self, index: usize) -> bool {
        if self.failing_since.is_some() {
            return false;
        }
        let vip = &mut self.vips[index];
        vip.too_late += 1;
        vip.too_late >= TOO_LATE_MAX
    }

    fn refreshed(
        &mut self,
        id: OpId,
        vips: &[usize],
        failed: &Failed,
        until: Option<Instant>,
        now: Instant,
    ) {
        let errors = errors_by_vip(failed);
        for &index in vips {
            if self.vips[index].touched > id || self.vips[index].presence != Presence::Present {
                continue;
            }
            match errors.get(self.vips[index].config.name.as_str()) {
                None => self.set_until(index, until),
                Some(KernelError::NoInterface) => self.block(index, &KernelError::NoInterface, now),
                // The kernel silenced it: it is taken away, and put back if that is still right.
                Some(error) => {
                    let vip = self.vips[index].config.name.clone();
                    self.report(Report::KernelFails { vip, why: error.to_string() });
                    self.vips[index].leaving = Some(Leaving::Spoiled);
                }
            }
            self.agenda.dirty.insert(index);
        }
    }

    fn set_until(&mut self, index: usize, until: Option<Instant>) {
        self.vips[index].until = until;
        if let Some(until) = until {
            self.agenda.wake(index, until);
        }
    }

    fn withdrawn(&mut self, id: OpId, vips: &[usize], failed: &Failed, now: Instant) {
        let errors = errors_by_vip(failed);
        for &index in vips {
            if self.vips[index].presence != Presence::Removing(id) {
                continue;
            }
            self.agenda.dirty.insert(index);
            let name = self.vips[index].config.name.clone();
            if let Some(error) = errors.get(name.as_str()) {
                let why = format!("its address is not removed: {error}");
                self.report(Report::KernelFails { vip: name, why });
                self.vips[index].presence = Presence::Present;
                self.vips[index].remove_again_at = Some(now + REMOVE_AGAIN_AFTER);
                self.spoil(index);
                continue;
            }
            self.vips[index].presence = Presence::Absent;
            self.vips[index].remove_again_at = None;
            for assignment in self.assignments(&[index]) {
                self.report(Report::Forfeited { vip: name.clone(), assignment });
            }
        }
        if self.timers.get(Timer::Free).is_some() {
            self.timers.set(Timer::Free, now);
        }
    }

    /// The VIP is not this node's to hold for now: said in `nodes/`, then passed on (rule 7).
    fn block(&mut self, index: usize, error: &KernelError, now: Instant) {
        let why = format!("{error} ({})", self.vips[index].config.interface);
        let until = match error {
            KernelError::NoInterface => None,
            _ => {
                let until = now + self.vips[index].back_off();
                self.agenda.wake(index, until);
                Some(until)
            }
        };
        self.set_blocked(index, Some(Blocked { why, until }));
    }

    fn set_blocked(&mut self, index: usize, blocked: Option<Blocked>) {
        let vip = &mut self.vips[index];
        let name = vip.config.name.clone();
        let report = match (&vip.blocked, &blocked) {
            (Some(before), Some(after)) if before.why == after.why => None,
            (_, Some(after)) => Some(Report::Blocked { vip: name, why: after.why.clone() }),
            (Some(_), None) => Some(Report::Unblocked { vip: name }),
            (None, None) => return,
        };
        vip.blocked = blocked;
        self.placement_stale = true;
        self.agenda.dirty.insert(index);
        if let Some(report) = report {
            self.report(report);
        }
    }

    /// Ends what blocked a VIP where its time is over.
    pub(super) fn unblock_due(&mut self, now: Instant) {
        for index in self.agenda.dirty.clone() {
            let until = self.vips[index].blocked.as_ref().and_then(|blocked| blocked.until);
            if until.is_some_and(|until| until <= now) {
                self.set_blocked(index, None);
            }
        }
    }

    // ---- being told

    pub(super) fn kernel_told(&mut self, event: KernelEvent, now: Instant) {
        match event {
            KernelEvent::AddressChanged | KernelEvent::Lost => self.list(),
            KernelEvent::LinkChanged(link) => {
                // A listing under way may have read the links before.
                self.list_again |= self.listing.is_some();
                if self.links.insert(link.name.clone(), link.up) != Some(link.up) {
                    self.link_changed(&link.name, now);
                }
            }
            KernelEvent::LinkGone(name) => {
                self.list_again |= self.listing.is_some();
                if self.links.remove(&name).is_some() {
                    self.link_changed(&name, now);
                    // Its addresses went with it.
                    self.list();
                }
            }
        }
    }

    fn link_changed(&mut self, name: &Arc<str>, now: Instant) {
        for index in 0..self.vips.len() {
            if self.vips[index].config.interface == *name {
                self.judge_link(index);
                if self.vips[index].presence == Presence::Present {
                    self.announce_from(index, now);
                }
            }
        }
    }

    /// A VIP whose interface is missing or down is not this node's to hold (rule 7).
    fn judge_link(&mut self, index: usize) {
        let interface = Arc::clone(&self.vips[index].config.interface);
        let why = match self.links.get(&interface) {
            Some(true) => None,
            Some(false) => Some(format!("interface {interface} is down")),
            None => Some(format!("interface {interface} does not exist")),
        };
        match why {
            Some(why) => self.set_blocked(index, Some(Blocked { why, until: None })),
            // A refusal of the kernel has its own end.
            None if self.vips[index].blocked.as_ref().is_some_and(|b| b.until.is_none()) => {
                self.set_blocked(index, None);
            }
            None => {}
        }
    }

    fn listed(&mut self, id: OpId, listing: &Listing, now: Instant) {
        self.listing = None;
        if std::mem::take(&mut self.list_again) {
            self.list();
        }
        self.links = listing.links.iter().map(|link| (link.name.clone(), link.up)).collect();
        let mut present: BTreeSet<&PresentAddress> = listing.addresses.iter().collect();
        for index in 0..self.vips.len() {
            self.judge_link(index);
            let (mut there, mut ours) = (0, 0);
            let all = self.vips[index].config.addresses.len();
            for assignment in self.assignments(&[index]) {
                if let Some(marked) = take_present(&mut present, &assignment) {
                    there += 1;
                    ours += usize::from(marked);
                }
            }
            if self.vips[index].touched < id {
                if self.vips[index].presence == Presence::Unknown {
                    self.find_present(index, there, ours < all);
                } else {
                    self.compare_with_kernel(index, there, all, now);
                }
            } else {
                // The listing is older than what was done since.
                self.list_again_soon(now);
            }
        }
        let strays: Vec<PresentAddress> =
            present.into_iter().filter(|address| address.marked).cloned().collect();
        self.withdraw_strays(&strays);
    }

    fn list_again_soon(&mut self, now: Instant) {
        if self.kernel_ready {
            self.timers.set_earlier(Timer::List, now + REMOVE_AGAIN_AFTER);
        }
    }

    /// What is there at the start. Part of a VIP, or what somebody else put there, is as good as
    /// nothing: it goes before it may come back.
    fn find_present(&mut self, index: usize, there: usize, incomplete: bool) {
        if there == 0 {
            self.vips[index].presence = Presence::Absent;
        } else {
            self.vips[index].presence = Presence::Present;
            if incomplete {
                self.spoil(index);
            }
        }
        self.agenda.dirty.insert(index);
    }

    /// Sets right what somebody else changed (rule 7).
    fn compare_with_kernel(&mut self, index: usize, there: usize, all: usize, now: Instant) {
        let may_hold = self.may_hold(index, now).is_ok();
        match self.vips[index].presence {
            Presence::Present if there < all && may_hold => {
                self.repairing(index, "is missing although it is held here");
                if self.session().is_some() && self.is_active() {
                    // No hand-over of it was sent, so it may come back as it is; what is there
                    // of it stays.
                    return self.assume(&[index]);
                }
                self.spoil(index);
            }
            Presence::Absent if there > 0 && !may_hold => {
                self.repairing(index, "is here although it is not held here");
                self.vips[index].presence = Presence::Present;
                self.spoil(index);
            }
            _ => return,
        }
        self.agenda.dirty.insert(index);
    }

    /// Not all of it may be there, or not as it was put there: it goes before it comes back.
    fn spoil(&mut self, index: usize) {
        self.vips[index].leaving.get_or_insert(Leaving::Spoiled);
    }

    fn repairing(&mut self, index: usize, what: &str) {
        self.repairs += 1;
        self.publication_stale = true;
        let vip = &self.vips[index].config;
        let addresses: Vec<String> = vip.assignments().map(|a| a.to_string()).collect();
        let what = format!("{} {what}", addresses.join(", "));
        self.report(Report::Repairing { vip: vip.name.clone(), what, count: self.repairs });
    }

    /// Takes away what carries turnip's mark and is not in today's configuration (rule 6).
    fn withdraw_strays(&mut self, strays: &[PresentAddress]) {
        let initial = !self.kernel_ready;
        if strays.is_empty() {
            self.kernel_ready = true;
            return;
        }
        let Ok(vip) = "stray".parse() else { return };
        let addresses: Vec<Assignment> = strays
            .iter()
            .map(|stray| Assignment {
                vip: crate::name::VipName::clone(&vip),
                interface: Arc::clone(&stray.interface),
                address: stray.address,
            })
            .collect();
        for assignment in addresses.iter().cloned() {
            self.report(Report::Stray { assignment });
        }
        let pending = PendingOp::WithdrawStrays { initial, addresses: addresses.clone() };
        self.kernel(pending, KernelOp::Withdraw { addresses });
    }

    fn strays_withdrawn(&mut self, initial: bool, failed: &Failed, now: Instant) {
        match failed.first() {
            None => self.kernel_ready |= initial,
            Some((assignment, error)) => {
                let why = format!("{assignment} is not removed: {error}");
                self.report(Report::KernelFails { vip: assignment.vip.clone(), why });
                self.timers.set(Timer::List, now + LIST_AGAIN_AFTER);
            }
        }
    }

    // ---- announcing

    /// Announces a VIP now, and twice more.
    fn announce_from(&mut self, index: usize, now: Instant) {
        self.agenda.announcements.insert((now, index));
        for after in ANNOUNCE_AGAIN_AFTER {
            self.agenda.announcements.insert((now + after, index));
        }
    }

    /// After an outage others may have learned something else.
    pub(super) fn announce_all(&mut self, now: Instant) {
        for index in 0..self.vips.len() {
            if self.vips[index].presence == Presence::Present {
                self.announce_from(index, now);
            }
        }
    }

    pub(super) fn announce_due(&mut self, now: Instant) {
        let due = self.agenda.take_announcements(now);
        let Some(deadline) = self.deadline else { return };
        let held: Vec<usize> = due
            .into_iter()
            .filter(|&index| {
                self.vips[index].presence == Presence::Present && self.may_hold(index, now).is_ok()
            })
            .collect();
        if !held.is_empty() {
            let addresses = self.assignments(&held);
            self.actions.push_back(Action::Announce { addresses, deadline });
        }
    }
}

fn errors_by_vip(failed: &Failed) -> BTreeMap<&str, &KernelError> {
    failed.iter().map(|(assignment, error)| (assignment.vip.as_str(), error)).collect()
}

/// Takes `assignment` out of what is present; says whether it was there, and marked as turnip's.
fn take_present(present: &mut BTreeSet<&PresentAddress>, assignment: &Assignment) -> Option<bool> {
    let there = |marked| PresentAddress {
        interface: Arc::clone(&assignment.interface),
        address: assignment.address,
        marked,
    };
    let marked = present.remove(&there(true));
    (present.remove(&there(false)) | marked).then_some(marked)
}
