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
}

impl Recorder {
    /// Counts in `counters`.
    pub fn new(counters: Counters) -> Self {
        Recorder { counters, held: BTreeSet::new(), leaving: BTreeSet::new() }
    }

    /// To be given every report.
    pub fn report(&mut self, report: &Report) {
        let counters = &self.counters;
        match report {
            Report::Assumed { vip, arrival, gap, .. }
                if self.held.insert(vip.clone()) => {
                    counters.arrived(*arrival, *gap);
                }
            Report::Forfeiting { vip, departure, .. }
                // Asked for again when the kernel refused to take it away.
                if self.leaving.insert(vip.clone()) => {
                    counters.departed(*departure);
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
            Report::Unreadable { .. } => counters.trouble("unreadable"),
            Report::NameContested { .. } => counters.trouble("name-taken"),
            Report::HookEnded { end, .. } if !end.is_success() => counters.trouble("hook-failed"),
            Report::Double { .. } => counters.trouble("address-elsewhere"),
            _ => {}
        }
    }
}
