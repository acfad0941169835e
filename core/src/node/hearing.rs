//! Following the store: the snapshot, the events, and noticing that they no longer come (rule 9).

use std::time::Duration;

use super::Node;
use super::membership::Membership;
use crate::action::Action;
use crate::name::Revision;
use crate::report::Report;
use crate::store::{Event, Events, Header, StoreError, Update};
use crate::time::Instant;
use crate::timer::Timer;

/// Whether this node hears of changes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ear {
    /// The current stream has brought its snapshot.
    pub(super) following: bool,
    /// Renewing is allowed: hearing has not been in doubt for long.
    pub(super) hearing: bool,
    /// The revision of an own renewal that has not come back yet.
    pub(super) expected: Option<Revision>,
    /// Since when hearing is in doubt.
    doubt_since: Option<Instant>,
    /// When the last snapshot came.
    snapshot_at: Option<Instant>,
    /// How often in a row following afresh has brought nothing.
    tries: u32,
    /// What was known when the stream was asked for: its snapshot cannot be older (A2).
    asked_knowing: Revision,
}

impl Default for Ear {
    fn default() -> Self {
        Ear {
            following: false,
            hearing: true,
            expected: None,
            doubt_since: None,
            snapshot_at: None,
            tries: 0,
            asked_knowing: Revision(0),
        }
    }
}

/// A snapshot may take this long at least: it can be large.
const SNAPSHOT_TIME_MIN: Duration = Duration::from_secs(1);

impl Node {
    /// Follows the prefix from a fresh snapshot on.
    pub(super) fn follow(&mut self, elsewhere: bool, now: Instant) {
        self.ear.following = false;
        self.ear.asked_knowing = self.view.newest;
        let patience =
            (2 * self.lease.renew()).max(SNAPSHOT_TIME_MIN) * (1 << self.ear.tries.min(2));
        self.ear.tries += 1;
        self.timers.set(Timer::Follow, now + patience);
        self.actions.push_back(Action::Follow { prefix: self.keys.prefix().to_owned(), elsewhere });
    }

    pub(super) fn hear(&mut self, update: Update, now: Instant) {
        match update {
            Update::Snapshot(snapshot) => {
                if self.store_changed(snapshot.header, self.ear.asked_knowing, now) {
                    return;
                }
                self.cluster_id = Some(snapshot.header.cluster_id);
                let changes = self.view.learn_snapshot(&self.keys, &snapshot);
                for kv in &snapshot.kvs {
                    self.report_unreadable(&kv.key, kv.mod_revision);
                }
                self.follows_again(now);
                self.heard_up_to(snapshot.header.revision);
                for change in changes {
                    self.changed(change, now);
                }
                self.placement_stale = true;
            }
            Update::Events(events) => {
                if !self.ear.following || self.store_changed(events.header, Revision(0), now) {
                    return;
                }
                self.hear_events(events, now);
            }
        }
    }

    fn hear_events(&mut self, events: Events, now: Instant) {
        for event in &events.events {
            match event {
                Event::Put(kv) => self.learn(&kv.key, Some(kv), kv.mod_revision, now),
                Event::Delete { key, revision } => self.learn(key, None, *revision, now),
            }
        }
        self.heard_up_to(events.header.revision);
    }

    fn heard_up_to(&mut self, revision: Revision) {
        self.view.newest = self.view.newest.max(revision);
        self.view.complete_to = self.view.complete_to.max(revision);
        if self.ear.expected.is_some_and(|expected| expected <= revision) {
            self.ear.expected = None;
            self.timers.stop(Timer::Echo);
        }
        self.find_active();
    }

    fn follows_again(&mut self, now: Instant) {
        let was_deaf = !self.ear.hearing;
        self.ear.following = true;
        self.ear.hearing = true;
        self.ear.tries = 0;
        self.ear.snapshot_at = Some(now);
        self.timers.stop(Timer::Follow);
        self.timers.stop(Timer::Deaf);
        if self.ear.doubt_since.take().is_some() {
            self.report(Report::WatchRestored);
        }
        if was_deaf && matches!(self.membership, Membership::Live { .. } | Membership::Opening) {
            self.timers.set(Timer::Renew, now);
        }
    }

    pub(super) fn follow_failed(&mut self, error: &StoreError, now: Instant) {
        self.ear.following = false;
        self.doubt(error.to_string(), now);
        // The first time at once, for a broken stream is an everyday thing; but not when streams
        // break as soon as they have begun.
        let lasted = match self.ear.snapshot_at {
            Some(at) if self.ear.tries == 0 => now.since(at),
            _ => Duration::ZERO,
        };
        let wait = self.retry_delay().saturating_sub(lasted);
        self.timers.set(Timer::Follow, now + wait);
    }

    /// An own renewal was committed at `revision`: it must come back on the watch within 2r.
    pub(super) fn expect_echo(&mut self, revision: Revision, now: Instant) {
        if self.ear.expected.is_none() && self.view.complete_to < revision {
            self.ear.expected = Some(revision);
            self.timers.set(Timer::Echo, now + 2 * self.lease.renew());
        }
    }

    pub(super) fn echo_missing(&mut self, now: Instant) {
        self.ear.expected = None;
        self.doubt("own renewals do not come back on the watch".to_owned(), now);
        self.follow(true, now);
    }

    fn doubt(&mut self, why: String, now: Instant) {
        if self.ear.doubt_since.is_none() {
            self.ear.doubt_since = Some(now);
            self.timers.set(Timer::Deaf, now + 2 * self.lease.renew());
            self.report(Report::WatchStale { why });
        }
    }

    /// Whether the store that answers is not the one it was (A2): another cluster, or a revision
    /// below one that was known when the answer was asked for. Then everything starts afresh.
    pub(super) fn store_changed(&mut self, header: Header, known: Revision, now: Instant) -> bool {
        let other_cluster = self.cluster_id.is_some_and(|id| id != header.cluster_id);
        if !other_cluster && header.revision >= known {
            return false;
        }
        let why = match self.cluster_id {
            Some(id) if other_cluster => {
                format!("etcd cluster {:x} answers, it was {id:x}", header.cluster_id)
            }
            _ => format!("etcd went back to revision {} from {known}", header.revision),
        };
        self.report(Report::StoreChanged { why });
        self.view = self.view.cleared();
        self.cluster_id = None;
        self.attempts.clear();
        self.txns.clear();
        self.peers.clear();
        self.publishing = false;
        self.closing = false;
        self.freeing.clear();
        for vip in &mut self.vips {
            vip.pending = None;
            vip.barrier = Revision(0);
        }
        self.forget_session(now);
        // Not at once: where the endpoints are those of two clusters, each answer says the same.
        self.ear.following = false;
        self.ear.asked_knowing = Revision(0);
        self.timers.set(Timer::Follow, now + self.retry_delay());
        true
    }
}
