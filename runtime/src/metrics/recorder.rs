//! Counts what the node reports.

use std::collections::BTreeSet;

use turnip_core::{Report, VipName};

use super::Counters;

/// Takes note of reports. A VIP of several addresses is counted once.
#[derive(Debug)]
pub struct Recorder {
    counters: Counters,
    held: BTreeSet<VipName>,
    leaving: BTreeSet<VipName>,
    /// How many keys that cannot be read were counted.
    unreadable: u64,
}

impl Recorder {
    /// Counts in `counters`.
    pub fn new(counters: Counters) -> Self {
        Recorder { counters, held: BTreeSet::new(), leaving: BTreeSet::new(), unreadable: 0 }
    }

    /// To be given every report. All are named, so that nobody who adds one forgets that it may count.
    pub fn report(&mut self, report: &Report) {
        let counters = &self.counters;
        match report {
            Report::Assumed { vip, arrival, gap, .. } => {
                if self.held.insert(vip.clone()) {
                    counters.arrived(*arrival, *gap);
                }
            }
            // It came here in an earlier process.
            Report::Kept { vip, .. } => {
                self.held.insert(vip.clone());
            }
            Report::Forfeiting { vip, departure, .. } => {
                // Asked for again when the kernel refused to take it away.
                if self.leaving.insert(vip.clone()) {
                    counters.departed(*departure);
                }
            }
            Report::Forfeited { vip, .. } => {
                self.held.remove(vip);
                self.leaving.remove(vip);
            }
            Report::Repairing { .. } => {
                counters.repairs.inc();
            }
            Report::Expired { .. } => {
                counters.sessions_expired.inc();
            }
            Report::SessionLost { .. } => counters.trouble("session-lost"),
            Report::WatchStale { .. } => counters.trouble("watch-stale"),
            Report::StoreChanged { .. } => counters.trouble("store-changed"),
            Report::PathsLost { .. } => counters.trouble("heartbeats-lost"),
            Report::ConsentMissing { .. } => counters.trouble("consent-missing"),
            Report::Unreadable { .. } => self.unreadable(self.unreadable + 1),
            Report::UnreadableKeys { count } => self.unreadable(*count),
            Report::NoOwnMember { .. } => counters.trouble("no-own-member"),
            Report::SessionReplaced { .. } => counters.trouble("session-replaced"),
            Report::NameContested { .. } => counters.trouble("name-taken"),
            Report::HookEnded { end, .. } if !end.is_success() => counters.trouble("hook-failed"),
            Report::Double { .. } => counters.trouble("address-elsewhere"),
            Report::HookEnded { end, .. } if !end.is_success() => counters.trouble("hook-failed"),
            // Counted by request, operation or packet, or shown as they are now.
            Report::RenewalsFail { .. }
            | Report::RenewingStopped { .. }
            | Report::HeldByConsent
            | Report::KernelFails { .. }
            | Report::Blocked { .. }
            | Report::Conflict { .. }
            | Report::Drained(_)
            | Report::RaftLeader(_)
            | Report::Checked { .. }
            | Report::Unsteady { .. }
            // The end of something that was counted when it began.
            | Report::OwnMemberAnswers
            | Report::RenewingGoesOn
            | Report::RenewalAnswered
            | Report::RenewalsSucceed
            | Report::PathsFound { .. }
            | Report::WatchRestored
            | Report::Unblocked { .. }
            | Report::DoubleGone { .. }
            // Part of what is counted otherwise, or of a start or an end, or what an operator asked for.
            | Report::SessionOpened { .. }
            | Report::SessionResumed { .. }
            | Report::SessionEnded { .. }
            | Report::Assuming { .. }
            | Report::HookStarted { .. }
            | Report::HookEnded { .. }
            | Report::HandedOver { .. }
            | Report::Misplaced { .. }
            | Report::FenceStays { .. }
            | Report::Stray { .. }
            | Report::Reconfigured { .. }
            | Report::PinIgnored { .. } => {}
        }
    }

    /// There have been so many by now; of many not each is told.
    fn unreadable(&mut self, count: u64) {
        self.counters.troubles("unreadable", count.saturating_sub(self.unreadable));
        self.unreadable = self.unreadable.max(count);
    }
}
