//! Heartbeats, and who has acknowledged them (rule 10).
//!
//! A heartbeat that everybody has acknowledged who might ever expire the own session is as good as a
//! renewal: from then on each of them counts this node's silence from later than it was made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::own::Own;
use crate::heartbeat::Acknowledgement;
use crate::lease::Lease;
use crate::mutant::Mutant;
use crate::name::NodeName;
use crate::time::Instant;

/// The own heartbeats, and what they have brought in the session that this node has.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Consent {
    /// Of the last heartbeat. This process never uses it again (rule 10.3).
    number: u64,
    /// Heartbeats that may still be credited, with the time at which each was made.
    made: VecDeque<(u64, Instant)>,
    /// When the newest heartbeat that a node has acknowledged was made.
    acknowledged: BTreeMap<NodeName, Instant>,
    /// What is acknowledged with the next heartbeat.
    owed: BTreeMap<NodeName, Acknowledgement>,
    standing: Standing,
}

/// What lets this node hold, as it was told last.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Standing {
    /// Its writes; or nothing does.
    #[default]
    ByWrites,
    /// That all acknowledge: its writes would not any more.
    ByConsent,
    /// Its last consent, of which there will be no more.
    ConsentMissing,
}

impl Consent {
    /// The number of a heartbeat that is made now.
    pub(super) fn make(&mut self, lease: Lease, now: Instant) -> u64 {
        let too_old = lease.holding();
        self.made.retain(|(_, made)| now.since(*made) < too_old);
        self.number += 1;
        self.made.push_back((self.number, now));
        self.number
    }

    /// A node has acknowledged the own heartbeat of that number, in this session and of this process.
    pub(super) fn acknowledged_by(&mut self, own: &Own, node: &NodeName, number: u64) {
        let any = own.mutated(Mutant::AcknowledgementOfAny);
        let of_number = self.made.iter().find(|(one, _)| *one == number);
        let newest = self.made.back().filter(|_| any);
        let Some(&(_, made)) = newest.or(of_number) else { return };
        let newest = self.acknowledged.entry(node.clone()).or_insert(made);
        *newest = made.max(*newest);
    }

    /// When the newest heartbeat was made that all of `witnesses` have acknowledged, if there is one
    /// (rule 10.5). Who acknowledges a later one has acknowledged this.
    pub(super) fn of_all(&self, own: &Own, witnesses: &BTreeSet<NodeName>) -> Option<Instant> {
        if witnesses.is_empty() && own.mutated(Mutant::ExtendWithoutWitnesses) {
            return self.made.back().map(|(_, made)| *made);
        }
        let each = || witnesses.iter().map(|node| self.acknowledged.get(node).copied());
        match own.mutated(Mutant::AnyWitness) {
            true => each().flatten().max(),
            false => each().collect::<Option<Vec<_>>>()?.into_iter().min(),
        }
    }

    /// Whether all of `witnesses` have acknowledged the newest heartbeat.
    pub(super) fn is_complete(&self, witnesses: &BTreeSet<NodeName>) -> bool {
        let Some(&(_, newest)) = self.made.back() else { return false };
        witnesses.iter().all(|node| self.acknowledged.get(node) == Some(&newest))
    }

    /// Whether a node has acknowledged a heartbeat that was made at `since` or later.
    pub(super) fn has_acknowledged_since(&self, node: &NodeName, since: Instant) -> bool {
        self.acknowledged.get(node).is_some_and(|made| *made >= since)
    }

    /// Those of `witnesses` that have acknowledged none that was made at `since` or later.
    pub(super) fn missing(&self, witnesses: &BTreeSet<NodeName>, since: Instant) -> Vec<NodeName> {
        let is_missing =
            |node: &&NodeName| self.acknowledged.get(*node).is_none_or(|at| *at < since);
        witnesses.iter().filter(is_missing).cloned().collect()
    }

    /// The next heartbeat to `node` acknowledges this.
    pub(super) fn owe(&mut self, node: &NodeName, acknowledgement: Acknowledgement) {
        self.owed.insert(node.clone(), acknowledgement);
    }

    /// It acknowledges nothing.
    pub(super) fn owe_nothing(&mut self, node: &NodeName) {
        self.owed.remove(node);
    }

    /// What the next heartbeat to `node` acknowledges. It is told again until there is another one: a
    /// datagram may be lost.
    pub(super) fn owed(&self, node: &NodeName) -> Option<Acknowledgement> {
        self.owed.get(node).copied()
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Takes note of what is told now, and says what was before.
    pub(super) fn set_standing(&mut self, standing: Standing) -> Standing {
        std::mem::replace(&mut self.standing, standing)
    }

    /// The session is over. Numbers go on.
    pub(super) fn session_over(&mut self) {
        *self = Consent { number: self.number, ..Consent::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);
    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn consent() -> (Own, Lease, Consent, BTreeSet<NodeName>) {
        let lease = Lease::new(3_000 * MS).unwrap();
        let witnesses = ["b", "c"].map(|name| name.parse().unwrap()).into();
        (super::super::testing::own(lease), lease, Consent::default(), witnesses)
    }

    /// Rule 10.5.
    #[test]
    fn the_oldest_of_what_each_acknowledged_last_is_what_all_have_acknowledged() {
        let (own, lease, mut consent, witnesses) = consent();
        let (b, c) = ("b".parse().unwrap(), "c".parse().unwrap());
        let (first, second) = (consent.make(lease, NOW), consent.make(lease, NOW + 500 * MS));
        consent.acknowledged_by(&own, &b, second);
        assert_eq!(consent.of_all(&own, &witnesses), None, "c has said nothing");
        consent.acknowledged_by(&own, &c, first);
        assert_eq!(consent.of_all(&own, &witnesses), Some(NOW));
        assert_eq!(consent.missing(&witnesses, NOW + MS), std::slice::from_ref(&c));
        consent.acknowledged_by(&own, &c, second);
        let newest = consent.of_all(&own, &witnesses).unwrap();
        assert!(newest == NOW + 500 * MS && consent.is_complete(&witnesses));
        consent.acknowledged_by(&own, &b, first);
        assert_eq!(consent.of_all(&own, &witnesses), Some(newest), "one that came late");
    }

    #[test]
    fn a_number_that_was_never_sent_is_credited_to_nothing() {
        let (own, lease, mut consent, witnesses) = consent();
        let number = consent.make(lease, NOW);
        for node in &witnesses {
            consent.acknowledged_by(&own, node, number + 1);
        }
        assert_eq!(consent.of_all(&own, &witnesses), None);
    }

    #[test]
    fn nothing_is_left_of_a_session_that_is_over_but_the_count() {
        let (own, lease, mut consent, witnesses) = consent();
        let number = consent.make(lease, NOW);
        witnesses.iter().for_each(|node| consent.acknowledged_by(&own, node, number));
        consent.session_over();
        assert_eq!(consent.of_all(&own, &witnesses), None);
        assert!(consent.make(lease, NOW + MS) > number);
    }
}
