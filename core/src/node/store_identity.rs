//! Whether the store that answers is the one that it was (A2).

use std::collections::BTreeMap;
use std::time::Duration;

use super::own::Own;
use crate::mutant::Mutant;
use crate::name::Revision;
use crate::store::Header;
use crate::time::Instant;

/// Of so many members the terms are remembered: more than any cluster has.
const MEMBERS_MAX: usize = 16;

/// Which store answers, and what follows when it turned out to be another.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct StoreIdentity {
    cluster_id: Option<u64>,
    /// The highest raft term in which each member has answered, and as which news of terms that was learnt.
    /// One member's only grows. Another member's may be lower: one that was sent a snapshot by its leader
    /// answers by its old term for a while.
    terms: BTreeMap<u64, (u64, u64)>,
    /// So many times a member was met, or in a later term.
    terms_learnt: u64,
    noticed_at: Option<Instant>,
    quiet_until: Option<Instant>,
}

/// What was known of the store when something was asked of it: the answer cannot be from before (A2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Knowing {
    /// The highest revision.
    newest: Revision,
    /// So much of its members' raft terms.
    terms_learnt: u64,
}

impl StoreIdentity {
    /// What is known now; `newest` is the highest revision heard of.
    pub(super) fn knowing(&self, newest: Revision) -> Knowing {
        Knowing { newest, terms_learnt: self.terms_learnt }
    }

    /// Why an answer shows that the store is not the one that it was: another cluster, a revision
    /// below one that was `known` when the answer was asked for, or a member in an earlier raft term than
    /// was known then (rule 9.7).
    pub(super) fn contradiction(
        &self,
        own: &Own,
        header: Header,
        known: Knowing,
    ) -> Option<String> {
        match self.cluster_id {
            Some(id) if id != header.cluster_id => {
                return Some(format!(
                    "etcd cluster {:x} answers, it was {id:x}",
                    header.cluster_id
                ));
            }
            _ if header.revision < known.newest => {
                return Some(format!(
                    "etcd went back to revision {} from {}",
                    header.revision, known.newest
                ));
            }
            _ => {}
        }
        // A member that was started only just now does not know.
        let Header { member_id, raft_term: term, .. } = header;
        let (before, learnt) = *self.terms.get(&member_id)?;
        // Answers overtake each other: one that was under way already may be of the earlier term.
        let is_sent_after = learnt <= known.terms_learnt || own.mutated(Mutant::OldTermAlarms);
        let is_earlier = 0 < term && term < before && is_sent_after;
        (is_earlier && !own.mutated(Mutant::EarlierTermIgnored)).then(|| {
            format!("etcd's member {member_id:x} went back to raft term {term} from {before}")
        })
    }

    /// Takes note of the cluster whose snapshot the view now is.
    pub(super) fn learn(&mut self, header: Header) {
        self.cluster_id = Some(header.cluster_id);
        self.learn_term(header);
    }

    /// Takes note of the raft term in which a member answers.
    pub(super) fn learn_term(&mut self, header: Header) {
        let Header { member_id, raft_term: term, .. } = header;
        let is_news = match self.terms.get(&member_id) {
            Some((known, _)) => *known < term,
            None => 0 < term && self.terms.len() < MEMBERS_MAX,
        };
        if is_news {
            self.terms_learnt += 1;
            self.terms.insert(member_id, (term, self.terms_learnt));
        }
    }

    /// The store is another one. Whoever held an address by the old one, and is cut off from the new
    /// one, may go on for what is left of its lease: until that is over nothing is assumed and
    /// nothing claimed. `patience` is L(1 + rho) of the longest lease known.
    pub(super) fn forget(&mut self, patience: Duration, now: Instant) -> Instant {
        self.cluster_id = None;
        (self.terms, self.terms_learnt) = (BTreeMap::new(), 0);
        self.noticed_at = Some(now);
        let until = self.quiet_until.map_or(now + patience, |until| until.max(now + patience));
        self.quiet_until = Some(until);
        until
    }

    /// A session of the store that answers now declares a lease with this patience: it may have been held
    /// by as long before the notice. Until when it is quiet, where that makes it longer.
    pub(super) fn prolong(&mut self, patience: Duration) -> Option<Instant> {
        let until = self.noticed_at? + patience;
        (self.quiet_until? < until).then(|| {
            self.quiet_until = Some(until);
            until
        })
    }

    /// Whether nothing may be assumed or claimed yet.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }

    /// The time is over.
    pub(super) fn end_quiet(&mut self) {
        (self.quiet_until, self.noticed_at) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Lease;

    const fn header(cluster_id: u64, revision: i64) -> Header {
        Header { cluster_id, member_id: 1, raft_term: 0, revision: Revision(revision) }
    }

    const fn in_term(member_id: u64, raft_term: u64) -> Header {
        Header { member_id, raft_term, ..header(7, 9) }
    }

    fn own() -> Own {
        super::super::testing::own(Lease::new(Duration::from_secs(3)).unwrap())
    }

    #[test]
    fn another_cluster_or_an_older_revision_than_was_known_contradicts() {
        let (own, mut store) = (own(), StoreIdentity::default());
        let knowing = |newest| Knowing { newest: Revision(newest), terms_learnt: 0 };
        assert_eq!(store.contradiction(&own, header(7, 1), knowing(0)), None);
        store.learn(header(7, 9));
        assert_eq!(store.contradiction(&own, header(7, 9), knowing(9)), None);
        assert!(store.contradiction(&own, header(7, 8), knowing(9)).is_some());
        assert!(store.contradiction(&own, header(8, 10), knowing(9)).is_some());
    }

    /// Rule 9.7.
    #[test]
    fn a_member_later_in_an_earlier_raft_term_contradicts_and_another_member_does_not() {
        let (own, mut store) = (own(), StoreIdentity::default());
        store.learn(in_term(1, 5));
        store.learn_term(in_term(2, 4));
        let knowing = store.knowing(Revision(9));
        let contradiction =
            |store: &StoreIdentity, header| store.contradiction(&own, header, knowing);
        assert_eq!(contradiction(&store, in_term(1, 5)), None);
        assert_eq!(contradiction(&store, in_term(2, 4)), None, "it may lag behind");
        assert_eq!(contradiction(&store, in_term(3, 1)), None, "not known");
        assert_eq!(contradiction(&store, in_term(1, 0)), None, "it was only just started");
        let later = |header: Header| Header { revision: Revision(10), ..header };
        assert!(contradiction(&store, later(in_term(1, 4))).is_some());
        let before = StoreIdentity::default().knowing(Revision(9));
        let answered_before = store.contradiction(&own, later(in_term(1, 4)), before);
        assert_eq!(answered_before, None, "it was asked for before that term was learnt");
        store.forget(Duration::from_secs(3), Instant::from_nanos(1));
        assert_eq!(contradiction(&store, in_term(1, 2)), None, "whichever answers next");
    }

    #[test]
    fn of_members_without_end_only_some_are_remembered() {
        let mut store = StoreIdentity::default();
        (0..1_000).for_each(|member| store.learn_term(in_term(member, 2)));
        assert_eq!(store.terms.len(), MEMBERS_MAX);
    }

    #[test]
    fn after_a_contradiction_it_is_quiet_for_the_patience_and_a_second_one_never_shortens_it() {
        let (own, mut store, patience) = (own(), StoreIdentity::default(), Duration::from_secs(3));
        let start = Instant::from_nanos(1);
        store.learn(header(7, 9));
        let until = store.forget(patience, start);
        assert_eq!(until, start + patience);
        assert_eq!(store.forget(Duration::from_secs(1), start), until);
        assert!(store.is_quiet(start) && !store.is_quiet(until));
        assert_eq!(
            store.contradiction(&own, header(8, 1), Knowing::default()),
            None,
            "whichever answers next"
        );
    }

    /// Rule 9.5.
    #[test]
    fn a_longer_lease_in_the_store_that_answers_now_makes_the_quiet_longer_from_the_notice_on() {
        let (mut store, start) = (StoreIdentity::default(), Instant::from_nanos(1));
        let seconds = Duration::from_secs;
        assert_eq!(store.prolong(seconds(9)), None, "nothing was noticed");
        store.forget(seconds(3), start);
        assert_eq!(store.prolong(seconds(2)), None);
        assert_eq!(store.prolong(seconds(9)), Some(start + seconds(9)));
        store.end_quiet();
        assert_eq!(store.prolong(seconds(20)), None, "it is over");
    }
}
