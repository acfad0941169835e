//! How long another node has been silent, counted fairly.
//!
//! An election of etcd silences everybody, and must not end in a round of expiries. So the count
//! pauses while this node's own renewals fail (rule 3). It never resets: a flaky endpoint does not
//! postpone an expiry for ever.
//!
//! The pause only exists to let the others speak again. Where a host dies together with etcd's
//! leader, waiting the whole length of the election once more would serve nobody; so it is enough,
//! too, that the patience has passed by the plain clock and that since the end of the outage the
//! others have had the time for a renewal.

use std::time::Duration;

use crate::time::Instant;

/// A clock that stands still while the node cannot reach the store.
///
/// A renewal that is under way may yet fail, so the clock stands still from when it was sent; once
/// it succeeds, the time since counts after all.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct SilenceClock {
    paused_total: Duration,
    paused_since: Option<Instant>,
    /// When the first renewal was sent that succeeded after the last outage.
    recovered_at: Option<Instant>,
}

/// From when a silence counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mark {
    heard_at: Instant,
    paused_before: Duration,
}

impl Mark {
    /// When it was heard, by the plain clock.
    pub(crate) fn heard_at(self) -> Instant {
        self.heard_at
    }
}

/// How long a silence must last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Patience {
    /// `L(1 + rho)`: safety. Nothing shortens it.
    pub(crate) lease: Duration,
    /// What the others need after an outage to be heard again.
    pub(crate) grace: Duration,
}

impl SilenceClock {
    /// An own renewal was sent at `sent`.
    pub(crate) fn renewal_sent(&mut self, sent: Instant) {
        self.paused_since.get_or_insert(sent);
    }

    /// The renewal that was sent at `sent` was answered: whatever paused the clock ended then.
    pub(crate) fn renewal_answered(&mut self, sent: Instant) {
        if let Some(since) = self.paused_since.take()
            && since < sent
        {
            self.paused_total += sent.since(since);
            self.recovered_at = Some(sent);
        }
    }

    /// Whether a renewal is unanswered, or they fail.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    /// The mark of something heard at `now`.
    pub(crate) fn mark(&self, now: Instant) -> Mark {
        Mark { heard_at: now, paused_before: self.paused_total }
    }

    /// When a silence since `mark` will have lasted long enough, unless the clock is paused
    /// meanwhile; none while it is paused before that.
    pub(crate) fn due(&self, mark: Mark, patience: Patience) -> Option<Instant> {
        let plain = mark.heard_at + patience.lease;
        let paused = plain + (self.paused_total - mark.paused_before);
        let after_grace = self.recovered_at.map_or(plain, |at| plain.max(at + patience.grace));
        let due = paused.min(after_grace);
        match self.paused_since {
            Some(since) if since < due => None,
            _ => Some(due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    const PATIENCE: Patience =
        Patience { lease: Duration::from_millis(100), grace: Duration::from_millis(30) };

    #[test]
    fn time_under_a_renewal_that_succeeds_counts() {
        let mut clock = SilenceClock::default();
        let mark = clock.mark(at(0));
        clock.renewal_sent(at(50));
        assert_eq!(clock.due(mark, PATIENCE), None);
        clock.renewal_answered(at(50));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(100)));
    }

    #[test]
    fn time_from_a_failed_renewal_to_the_next_success_does_not_count() {
        let mut clock = SilenceClock::default();
        let mark = clock.mark(at(0));
        clock.renewal_sent(at(50));
        clock.renewal_sent(at(60));
        clock.renewal_answered(at(70));
        assert_eq!(
            clock.due(mark, PATIENCE),
            Some(at(100)),
            "with the grace after 70 over by then"
        );
        clock.renewal_sent(at(80));
        clock.renewal_answered(at(95));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(125)), "grace after 95");
        let patient = Patience { grace: Duration::from_millis(300), ..PATIENCE };
        assert_eq!(clock.due(mark, patient), Some(at(135)), "35 did not count");
    }

    #[test]
    fn nothing_is_due_before_the_patience_has_passed_by_the_plain_clock() {
        let mut clock = SilenceClock::default();
        clock.renewal_sent(at(0));
        clock.renewal_answered(at(50));
        let mark = clock.mark(at(60));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(160)));
    }

    #[test]
    fn what_is_heard_under_a_renewal_is_never_counted_from_before() {
        let mut clock = SilenceClock::default();
        clock.renewal_sent(at(50));
        let mark = clock.mark(at(70));
        clock.renewal_answered(at(50));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(170)));
    }

    #[test]
    fn what_was_due_before_the_pause_stays_due() {
        let mut clock = SilenceClock::default();
        let mark = clock.mark(at(0));
        clock.renewal_sent(at(100));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(100)));
    }
}
