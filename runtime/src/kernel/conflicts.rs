//! Other machines that were heard with addresses which are held here, for whoever is told of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use turnip_core::Conflict;
use turnip_core::lease::CONFLICT_OVER_AFTER;

/// So many are remembered: hardware addresses can be made up.
const REMEMBERED_MAX: usize = 64;
/// The node is told of each no more often: what it does about it, it does every ten seconds at most.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What was heard. Clones are the same.
#[derive(Clone, Default)]
pub struct Conflicts(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    claims: BTreeMap<Conflict, Claim>,
    packets: u64,
}

/// What was heard of one.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// How many packets.
    pub packets: u64,
    /// When the first came.
    pub first: Instant,
    /// When the last came.
    pub last: Instant,
    told: Instant,
}

impl Conflicts {
    /// Takes note of a packet; whether the node is to be told.
    pub(super) fn heard(&self, conflict: &Conflict, now: Instant) -> bool {
        self.with(|heard| heard.note(conflict, now))
    }

    /// How many packets were heard since the start.
    pub fn packets(&self) -> u64 {
        self.with(|heard| heard.packets)
    }

    /// Those that go on: they were heard lately.
    pub fn recent(&self, now: Instant) -> Vec<(Conflict, Claim)> {
        self.with(|heard| {
            heard.forget(now);
            heard.claims.iter().map(|(conflict, claim)| (conflict.clone(), *claim)).collect()
        })
    }

    fn with<T>(&self, what: impl FnOnce(&mut Heard) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Heard {
    fn note(&mut self, conflict: &Conflict, now: Instant) -> bool {
        self.packets += 1;
        if let Some(claim) = self.claims.get_mut(conflict) {
            (claim.packets, claim.last) = (claim.packets + 1, now);
            let tells = now.duration_since(claim.told) >= TELL_EVERY;
            if tells {
                claim.told = now;
            }
            return tells;
        }
        if self.claims.len() >= REMEMBERED_MAX {
            self.forget(now);
        }
        let has_room = self.claims.len() < REMEMBERED_MAX;
        if has_room {
            let claim = Claim { packets: 1, first: now, last: now, told: now };
            self.claims.insert(conflict.clone(), claim);
        }
        has_room
    }

    fn forget(&mut self, now: Instant) {
        self.claims.retain(|_, claim| now.duration_since(claim.last) < CONFLICT_OVER_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use turnip_core::Mac;

    use super::super::devices::tests::on;
    use super::*;

    fn conflict(machine: u8) -> Conflict {
        let (assignment, heard_on) = (on("eth0", "10.0.0.50/24"), "eth0".into());
        Conflict { assignment, heard_on, mac: Mac([2, 0, 0, 0, 0, machine]) }
    }

    #[test]
    fn every_packet_counts_and_the_node_is_told_once_a_second() {
        let (conflicts, start) = (Conflicts::default(), Instant::now());
        let told = (0..100).filter(|tenth| {
            conflicts.heard(&conflict(1), start + Duration::from_millis(100) * *tenth)
        });
        assert_eq!(told.count(), 10);
        let recent = conflicts.recent(start + Duration::from_secs(10));
        assert_eq!(recent.len(), 1);
        let (heard, claim) = &recent[0];
        assert_eq!((heard, claim.packets, claim.first), (&conflict(1), 100, start));
        assert_eq!(conflicts.packets(), 100);
    }

    #[test]
    fn a_machine_that_fell_silent_is_shown_no_more_and_many_take_no_more_room() {
        let (conflicts, start) = (Conflicts::default(), Instant::now());
        for machine in 0..=u8::MAX {
            conflicts.heard(&conflict(machine), start);
        }
        assert_eq!((conflicts.recent(start).len(), conflicts.packets()), (REMEMBERED_MAX, 256));
        assert!(conflicts.recent(start + CONFLICT_OVER_AFTER).is_empty());
        assert!(conflicts.heard(&conflict(u8::MAX), start + CONFLICT_OVER_AFTER));
    }
}
