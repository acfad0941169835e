//! How long another node has been silent, counted fairly.
//!
//! The count pauses while this node's own renewals fail, so that an election of etcd, which
//! silences everybody, does not end in a round of expiries (rule 3). It never resets: a flaky
//! endpoint does not postpone an expiry for ever.

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
}

/// A reading of the [`SilenceClock`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mark(Instant);

impl SilenceClock {
    /// An own renewal was sent at `sent`.
    pub(crate) fn renewal_sent(&mut self, sent: Instant) {
        self.paused_since.get_or_insert(sent);
    }

    /// The renewal that was sent at `sent` was answered: whatever paused the clock ended then.
    pub(crate) fn renewal_answered(&mut self, sent: Instant) {
        if let Some(since) = self.paused_since.take() {
            self.paused_total += sent.since(since);
        }
    }

    /// The mark from which to count something heard at `now`. While paused this is later than
    /// the clock reads, for part of the pause may yet turn out to count.
    pub(crate) fn mark(&self, now: Instant) -> Mark {
        Mark(now - self.paused_total)
    }

    /// When the clock will have counted `patience` since `mark`, unless it is paused meanwhile;
    /// none while it is paused before that.
    pub(crate) fn due(&self, mark: Mark, patience: Duration) -> Option<Instant> {
        let due = mark.0 + patience + self.paused_total;
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

    const PATIENCE: Duration = Duration::from_millis(100);

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
        clock.renewal_answered(at(80));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(130)));
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
