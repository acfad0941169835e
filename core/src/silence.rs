//! How long another node has been silent, counted fairly.
//!
//! An election of etcd silences everybody, and must not end in a round of expiries. So the count
//! pauses while this node's own renewals fail (rule 3). It never resets: a flaky endpoint does not
//! postpone an expiry for ever.
//!
//! The pause only exists to let the others speak again. Where a host dies together with etcd's
//! leader, waiting the whole length of the election once more would serve nobody; so it is enough,
//! too, that the patience has passed by the plain clock and that since the end of the outage the
//! others have had the time for a renewal. The outage ends for this node when a renewal of its own
//! is answered: as fast as that, the store answers the others.

use std::time::Duration;

use crate::time::Instant;

/// A clock that stands still while the node cannot reach the store.
///
/// A renewal that is under way may yet fail, so the clock stands still from when it was sent; once
/// it succeeds, the time since counts after all. Several may be under way at once: the clock goes
/// on standing still from the oldest one that was sent after the one that was answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct SilenceClock {
    paused_total: Duration,
    /// The renewals sent after the last one that was answered, oldest first.
    unanswered: Vec<Unanswered>,
    /// When the first renewal was answered after the last outage.
    recovered_at: Option<Instant>,
}

/// An own renewal without an answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Unanswered {
    sent: Instant,
    /// It never will have one.
    failed: bool,
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
        self.unanswered.push(Unanswered { sent, failed: false });
    }

    /// The renewal that was sent at `sent` was answered at `now`: whatever had paused the clock
    /// before ended with its sending. Whether there was such an outage.
    pub(crate) fn renewal_answered(&mut self, sent: Instant, now: Instant) -> bool {
        let outage = self.paused_since().filter(|&since| since < sent);
        if let Some(since) = outage {
            self.paused_total += sent.since(since);
            self.recovered_at = Some(now);
        }
        self.unanswered.retain(|renewal| renewal.sent > sent);
        outage.is_some()
    }

    /// The renewal that was sent at `sent` failed. Whether that says anything: a later one may
    /// have been answered before.
    pub(crate) fn renewal_failed(&mut self, sent: Instant) -> bool {
        let Some(renewal) = self.unanswered.iter_mut().find(|renewal| renewal.sent == sent) else {
            return false;
        };
        renewal.failed = true;
        // One that failed after another that did can never be the oldest: a long outage takes no
        // more room than a short one.
        self.unanswered.dedup_by(|later, earlier| later.failed && earlier.failed);
        true
    }

    /// Whether a renewal is unanswered, or they fail.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused_since().is_some()
    }

    fn paused_since(&self) -> Option<Instant> {
        self.unanswered.first().map(|renewal| renewal.sent)
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
        match self.paused_since() {
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
        clock.renewal_answered(at(50), at(51));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(100)));
    }

    #[test]
    fn time_from_a_failed_renewal_to_the_next_success_does_not_count() {
        let mut clock = SilenceClock::default();
        let mark = clock.mark(at(0));
        clock.renewal_sent(at(50));
        clock.renewal_sent(at(60));
        clock.renewal_sent(at(70));
        assert!(clock.renewal_answered(at(70), at(70)));
        assert_eq!(
            clock.due(mark, PATIENCE),
            Some(at(100)),
            "with the grace after 70 over by then"
        );
        clock.renewal_sent(at(80));
        clock.renewal_sent(at(95));
        assert!(clock.renewal_answered(at(95), at(97)));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(127)), "grace after the answer");
        let patient = Patience { grace: Duration::from_millis(300), ..PATIENCE };
        assert_eq!(clock.due(mark, patient), Some(at(135)), "35 did not count");
    }

    #[test]
    fn nothing_is_due_before_the_patience_has_passed_by_the_plain_clock() {
        let mut clock = SilenceClock::default();
        clock.renewal_sent(at(0));
        clock.renewal_sent(at(50));
        clock.renewal_answered(at(50), at(50));
        let mark = clock.mark(at(60));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(160)));
    }

    #[test]
    fn what_is_heard_under_a_renewal_is_never_counted_from_before() {
        let mut clock = SilenceClock::default();
        clock.renewal_sent(at(50));
        let mark = clock.mark(at(70));
        clock.renewal_answered(at(50), at(75));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(170)));
    }

    #[test]
    fn what_was_due_before_the_pause_stays_due() {
        let mut clock = SilenceClock::default();
        let mark = clock.mark(at(0));
        clock.renewal_sent(at(100));
        assert_eq!(clock.due(mark, PATIENCE), Some(at(100)));
    }
    #[test]
    fn the_clock_stands_still_for_a_renewal_that_was_sent_after_the_answered_one() {
        let mut clock = SilenceClock::default();
        let mark = clock.mark(at(0));
        clock.renewal_sent(at(50));
        clock.renewal_sent(at(60));
        assert!(!clock.renewal_answered(at(50), at(65)), "nothing had failed");
        assert!(clock.is_paused());
        assert_eq!(clock.due(mark, PATIENCE), None);
        clock.renewal_sent(at(80));
        assert!(clock.renewal_answered(at(80), at(81)));
        let patient = Patience { grace: Duration::from_millis(300), ..PATIENCE };
        assert_eq!(clock.due(mark, patient), Some(at(120)), "from 60 to 80 did not count");
    }

    #[test]
    fn a_renewal_that_fails_when_a_later_one_was_answered_says_nothing() {
        let mut clock = SilenceClock::default();
        clock.renewal_sent(at(50));
        clock.renewal_sent(at(60));
        clock.renewal_answered(at(60), at(61));
        assert!(!clock.renewal_failed(at(50)));
        assert!(!clock.is_paused());
    }

    #[test]
    fn an_answer_that_comes_after_a_later_renewal_failed_ends_no_later_outage() {
        let mut clock = SilenceClock::default();
        clock.renewal_sent(at(50));
        clock.renewal_sent(at(60));
        clock.renewal_sent(at(70));
        assert!(clock.renewal_failed(at(60)));
        assert!(clock.renewal_failed(at(70)));
        clock.renewal_answered(at(50), at(75));
        assert_eq!(clock.paused_since(), Some(at(60)));
    }

    #[test]
    fn a_long_outage_takes_no_more_room_than_a_short_one() {
        let mut clock = SilenceClock::default();
        for millis in 0..1000 {
            clock.renewal_sent(at(millis));
            if millis >= 3 {
                assert!(clock.renewal_failed(at(millis - 3)));
            }
        }
        assert!(clock.unanswered.len() <= 4);
        assert_eq!(clock.paused_since(), Some(at(0)));
    }
}
