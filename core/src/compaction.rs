//! How much of its history the store keeps, where nobody else sees to that.
//!
//! Every renewal is a revision that etcd keeps until somebody compacts it, and an etcd that is full takes no
//! renewal. Each host looks at a slow pace, and compacts when more is kept than should be: whoever looks
//! first, for then the others see that it was done.

use std::collections::VecDeque;
use std::time::Duration;

use crate::name::Revision;
use crate::time::Instant;

/// What is kept unless configured otherwise: longer than anybody is behind who watches.
pub const KEEP: Duration = Duration::from_secs(3600);

/// How often the store is looked at, at most and at least.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Which revisions are how old, as far as this process has seen them come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compaction {
    keep: Duration,
    seen: VecDeque<(Instant, Revision)>,
}

impl Compaction {
    /// Nothing was seen yet. `keep`: how old a revision becomes before it may go.
    pub fn new(keep: Duration) -> Self {
        Compaction { keep, seen: VecDeque::new() }
    }

    /// How often to look.
    pub fn look_every(&self) -> Duration {
        let (least, most) = LOOK_EVERY;
        (self.keep / 12).clamp(least, most)
    }

    /// The store is at `current`, and keeps what is as old as `oldest`. Up to where its history may go now;
    /// none when no more is kept than should be, or when that is not known yet. A sixth more is kept before
    /// anything happens, so that one compaction in so long is enough for all hosts.
    pub fn due(&mut self, current: Revision, oldest: Revision, now: Instant) -> Option<Revision> {
        if self.seen.back().is_some_and(|(_, last)| *last > current) {
            // Another store, or an earlier one: how old its revisions are is not known.
            self.seen.clear();
        }
        self.seen.push_back((now, current));
        let older_than = |age: Duration| {
            let old = self.seen.iter().rev().find(|(at, _)| now.since(*at) >= age);
            old.map(|(_, revision)| *revision)
        };
        let (may_go, too_old) = (older_than(self.keep), older_than(self.keep + self.keep / 6));
        let due = too_old.filter(|too_old| *too_old > oldest).and(may_go);
        let forget = self.keep * 2;
        self.seen.retain(|(at, _)| now.since(*at) <= forget);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Hosts that look one after the other, at a store that gets 60 revisions a minute.
    struct Etcd {
        hosts: Vec<Compaction>,
        current: i64,
        oldest: i64,
        compactions: Vec<(u32, i64)>,
    }

    impl Etcd {
        fn of(hosts: usize) -> Self {
            let hosts = vec![Compaction::new(KEEP); hosts];
            Etcd { hosts, current: 1, oldest: 1, compactions: Vec::new() }
        }

        fn run(&mut self, minutes: std::ops::Range<u32>) {
            for minute in minutes {
                self.current += 60;
                // Each looks every five minutes, at a minute of its own.
                let Some(host) = self.hosts.get_mut(minute as usize % 5) else { continue };
                let (current, oldest) = (Revision(self.current), Revision(self.oldest));
                let now = Instant::ZERO + minute * MINUTE;
                if let Some(up_to) = host.due(current, oldest, now) {
                    assert!(up_to > oldest && up_to <= current);
                    self.oldest = up_to.0;
                    self.compactions.push((minute, up_to.0));
                }
            }
        }
    }

    #[test]
    fn an_hour_is_kept_and_not_much_more() {
        let mut etcd = Etcd::of(1);
        etcd.run(0..600);
        assert!(!etcd.compactions.is_empty());
        for (minute, up_to) in &etcd.compactions {
            let newest = 1 + i64::from(minute + 1) * 60;
            assert!(newest - up_to >= 60 * 60, "less than an hour is kept in minute {minute}");
        }
        assert!(etcd.current - etcd.oldest <= 60 * 80, "{} are kept", etcd.current - etcd.oldest);
    }

    #[test]
    fn of_three_hosts_one_compacts_at_a_time() {
        let mut three = Etcd::of(3);
        three.run(0..600);
        let times: Vec<u32> = three.compactions.iter().map(|(minute, _)| *minute).collect();
        assert!(times.len() > 2 && times.windows(2).all(|two| two[1] - two[0] >= 10), "{times:?}");
        assert!(three.current - three.oldest <= 60 * 80);
    }

    #[test]
    fn nothing_goes_that_was_not_seen_to_grow_old() {
        let mut compaction = Compaction::new(KEEP);
        let huge = Revision(5_000_000);
        assert_eq!(compaction.due(huge, Revision(1), Instant::ZERO), None);
        assert_eq!(compaction.due(huge, Revision(1), Instant::ZERO + 69 * MINUTE), None);
        assert_eq!(compaction.due(huge, Revision(1), Instant::ZERO + 70 * MINUTE), Some(huge));
    }

    #[test]
    fn who_compacts_beside_it_leaves_nothing_to_do() {
        let mut etcd = Etcd::of(1);
        for minute in 0..600 {
            etcd.run(minute..minute + 1);
            // As etcd does with a retention of an hour.
            etcd.oldest = etcd.oldest.max(etcd.current - 60 * 60);
        }
        assert_eq!(etcd.compactions, []);
    }

    #[test]
    fn a_store_that_went_back_is_looked_at_anew() {
        let mut compaction = Compaction::new(KEEP);
        compaction.due(Revision(900), Revision(1), Instant::ZERO);
        let restored = Instant::ZERO + 65 * MINUTE;
        assert_eq!(compaction.due(Revision(500), Revision(1), restored), None);
        assert_eq!(compaction.due(Revision(510), Revision(1), restored + 20 * MINUTE), None);
        let later = restored + 71 * MINUTE;
        assert_eq!(compaction.due(Revision(600), Revision(1), later), Some(Revision(500)));
    }

    #[test]
    fn it_is_looked_at_a_slow_pace() {
        assert_eq!(Compaction::new(KEEP).look_every(), 5 * MINUTE);
        assert_eq!(Compaction::new(Duration::from_secs(24)).look_every(), Duration::from_secs(2));
    }
}
