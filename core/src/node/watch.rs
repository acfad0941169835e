//! Following the store, and noticing that its news no longer come (rule 9).

use std::time::Duration;

use super::outbox::Outbox;
use super::own::Own;
use super::store_identity::Knowing;
use crate::action::Action;
use crate::causes::Causes;
use crate::lease::Lease;
use crate::mutant::Mutant;
use crate::name::Revision;
use crate::report::Report;
use crate::time::Instant;
use crate::timer::Timer;

/// Whether this node hears of changes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Watch {
    /// A stream was asked for of the store as it is now.
    is_asked: bool,
    /// The current stream has brought its snapshot.
    following: bool,
    /// News have been in doubt for so long that renewing must stop.
    stale: bool,
    /// It was told that for that reason the session is not renewed.
    is_stop_told: bool,
    /// The revision of an own renewal that has not come back yet.
    expected: Option<Revision>,
    /// News are in doubt.
    in_doubt: bool,
    /// What that was put down to.
    causes: Causes,
    /// When the last snapshot came.
    snapshot_at: Option<Instant>,
    /// How often in a row following afresh has brought nothing.
    tries: u32,
    /// What was known when the stream was asked for: its snapshot cannot be older (A2).
    asked_knowing: Knowing,
}

impl Watch {
    /// Follows the prefix from a fresh snapshot on.
    pub(super) fn follow(
        &mut self,
        own: &Own,
        lease: Lease,
        knowing: Knowing,
        elsewhere: bool,
        out: &mut Outbox,
        now: Instant,
    ) {
        (self.is_asked, self.following) = (true, false);
        self.asked_knowing = knowing;
        out.timers.set(Timer::Follow, now + lease.snapshot_time(self.tries));
        self.tries += 1;
        let prefix = own.keys.prefix().to_owned();
        out.push(Action::Follow { prefix, keys: own.followed_keys(), elsewhere });
    }

    /// Whether what streams bring is of the store as it is now, and not of the one that it was (A2).
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Whether the current stream has brought its snapshot.
    pub(super) fn is_following(&self) -> bool {
        self.following
    }

    /// Whether this node may renew its session: who cannot hear must not own (rule 9).
    pub(super) fn may_renew(&self, own: &Own) -> bool {
        !self.stale || own.mutated(Mutant::RenewWhileStale)
    }

    /// From before this the snapshot that was asked for cannot be (A2).
    pub(super) fn asked_knowing(&self) -> Knowing {
        self.asked_knowing
    }

    /// The snapshot has come; whether renewing may go on that had stopped.
    pub(super) fn snapshot_came(&mut self, out: &mut Outbox, now: Instant) -> bool {
        let was_stale = std::mem::take(&mut self.stale);
        self.following = true;
        self.tries = 0;
        self.snapshot_at = Some(now);
        // A stream that was asked for before another store was noticed may have told of followed keys by then,
        // and tells it no more: they are asked for anew (rule 13.7).
        if self.is_asked {
            out.timers.stop(Timer::Follow);
        }
        out.timers.stop(Timer::WatchStale);
        self.causes.are_over();
        if std::mem::take(&mut self.in_doubt) {
            out.report(Report::WatchRestored);
        }
        if std::mem::take(&mut self.is_stop_told) {
            out.report(Report::RenewingGoesOn);
        }
        was_stale
    }

    /// All up to `revision` is known: an own renewal that was expected may be among it.
    pub(super) fn complete_to(&mut self, revision: Revision, out: &mut Outbox) {
        if self.expected.is_some_and(|expected| expected <= revision) {
            self.stop_expecting(out);
        }
    }

    /// An own renewal was committed at `revision`, which the watch has not told: it must within 2r. When what
    /// is held must go before that, or has gone, another stream is given the time to tell it (rule 9.2).
    pub(super) fn expect(
        &mut self,
        revision: Revision,
        lease: Lease,
        guard_at: Option<Instant>,
        out: &mut Outbox,
        now: Instant,
    ) {
        if self.expected.is_none() {
            self.expected = Some(revision);
            let latest = now + lease.echo_time();
            let in_time = guard_at.map_or(latest, |at| at - lease.snapshot_time(0));
            out.timers.set(Timer::Echo, in_time.clamp(now + lease.retry_delay(), latest));
        }
    }

    pub(super) fn stop_expecting(&mut self, out: &mut Outbox) {
        self.expected = None;
        out.timers.stop(Timer::Echo);
    }

    /// News are in doubt: if that lasts for 2r, renewing stops.
    pub(super) fn doubt(&mut self, why: String, lease: Lease, out: &mut Outbox, now: Instant) {
        if !std::mem::replace(&mut self.in_doubt, true) {
            out.timers.set(Timer::WatchStale, now + lease.echo_time());
        }
        if self.causes.is_news(&why) {
            out.report(Report::WatchStale { why });
        }
    }

    /// The doubt has lasted too long. `is_told`: that renewing stops, whose end is to be told then.
    pub(super) fn is_stale_now(&mut self, is_told: bool) {
        self.stale = true;
        self.is_stop_told |= is_told;
    }

    /// The stream ended, or did not begin.
    pub(super) fn failed(&mut self, why: String, lease: Lease, out: &mut Outbox, now: Instant) {
        self.following = false;
        self.doubt(why, lease, out, now);
        // The first time at once, for a broken stream is an everyday thing; but not when streams
        // break as soon as they have begun.
        let lasted = match self.snapshot_at {
            Some(at) if self.tries == 0 => now.since(at),
            _ => Duration::ZERO,
        };
        let wait = lease.retry_delay().saturating_sub(lasted);
        out.timers.set(Timer::Follow, now + wait);
    }

    /// The store is another one: it is followed anew, but not at once: where the endpoints are those
    /// of two clusters, each answer says the same (A2).
    pub(super) fn start_afresh(&mut self, lease: Lease, out: &mut Outbox, now: Instant) {
        (self.is_asked, self.following) = (false, false);
        self.asked_knowing = Knowing::default();
        out.timers.set(Timer::Follow, now + lease.retry_delay());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> (Own, Lease, Watch, Outbox) {
        let lease = Lease::new(Duration::from_secs(3)).unwrap();
        (super::super::testing::own(lease), lease, Watch::default(), Outbox::default())
    }

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    #[test]
    fn a_renewal_that_does_not_come_back_is_waited_for_and_one_that_does_is_not() {
        let (_, lease, mut watch, mut out) = watch();
        watch.expect(Revision(7), lease, Some(NOW + lease.holding()), &mut out, NOW);
        watch.complete_to(Revision(6), &mut out);
        assert_eq!(out.timers.get(Timer::Echo), Some(NOW + lease.echo_time()));
        watch.complete_to(Revision(7), &mut out);
        assert_eq!(out.timers.get(Timer::Echo), None);
    }

    /// Rule 13.7: what it told of followed keys before was not believed, and it tells that only once.
    #[test]
    fn after_another_store_was_noticed_a_snapshot_of_the_stream_before_does_not_end_the_asking() {
        let (own, lease, mut watch, mut out) = watch();
        watch.follow(&own, lease, Knowing::default(), false, &mut out, NOW);
        watch.start_afresh(lease, &mut out, NOW);
        watch.snapshot_came(&mut out, NOW);
        assert_eq!(out.timers.get(Timer::Follow), Some(NOW + lease.retry_delay()));
        watch.follow(&own, lease, Knowing::default(), false, &mut out, NOW);
        watch.snapshot_came(&mut out, NOW);
        assert_eq!(out.timers.get(Timer::Follow), None);
    }

    /// Rule 9.2.
    #[test]
    fn a_renewal_is_waited_for_as_long_as_another_stream_has_time_and_no_shorter_than_a_retry() {
        let ms = Duration::from_millis;
        for (left, waits) in [(2_000, 1_000), (1_200, 700), (600, 500 / 3), (0, 500 / 3)] {
            let (_, lease, mut watch, mut out) = watch();
            watch.expect(Revision(7), lease, Some(NOW + ms(left)), &mut out, NOW);
            let at = out.timers.get(Timer::Echo).expect("it is waited for");
            assert_eq!(at.since(NOW).as_millis(), waits, "{left} ms are left");
        }
    }

    #[test]
    fn who_has_been_in_doubt_for_too_long_renews_again_after_a_snapshot_only() {
        let (own, lease, mut watch, mut out) = watch();
        assert!(watch.may_renew(&own));
        watch.doubt("nothing comes back".into(), lease, &mut out, NOW);
        assert!(watch.may_renew(&own), "a doubt that is young");
        assert!(out.timers.get(Timer::WatchStale).is_some());
        watch.is_stale_now(false);
        assert!(!watch.may_renew(&own));
        assert!(watch.snapshot_came(&mut out, NOW));
        assert!(watch.may_renew(&own) && watch.is_following());
        assert_eq!(out.timers.get(Timer::WatchStale), None);
    }

    #[test]
    fn streams_that_break_as_soon_as_they_have_begun_are_not_followed_without_a_pause() {
        let (_, lease, mut watch, mut out) = watch();
        watch.snapshot_came(&mut out, NOW);
        watch.failed("it broke".into(), lease, &mut out, NOW + lease.duration());
        assert_eq!(out.timers.get(Timer::Follow), Some(NOW + lease.duration()), "at once");
        watch.snapshot_came(&mut out, NOW);
        watch.failed("it broke".into(), lease, &mut out, NOW);
        assert_eq!(out.timers.get(Timer::Follow), Some(NOW + lease.retry_delay()));
    }
}
