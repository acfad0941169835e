//! Whether the store that answers is the one that it was (A2).

use std::time::Duration;

use crate::name::Revision;
use crate::store::Header;
use crate::time::Instant;

/// Which store answers, and what follows when it turned out to be another.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct StoreIdentity {
    cluster_id: Option<u64>,
    quiet_until: Option<Instant>,
}

impl StoreIdentity {
    /// Why an answer shows that the store is not the one that it was: another cluster, or a revision
    /// below one that was `known` when the answer was asked for.
    pub(super) fn contradiction(&self, header: Header, known: Revision) -> Option<String> {
        match self.cluster_id {
            Some(id) if id != header.cluster_id => {
                Some(format!("etcd cluster {:x} answers, it was {id:x}", header.cluster_id))
            }
            _ if header.revision < known => {
                Some(format!("etcd went back to revision {} from {known}", header.revision))
            }
            _ => None,
        }
    }

    /// Takes note of the cluster whose snapshot the view now is.
    pub(super) fn learn(&mut self, header: Header) {
        self.cluster_id = Some(header.cluster_id);
    }

    /// The store is another one. Whoever held an address by the old one, and is cut off from the new
    /// one, may go on for what is left of its lease: until that is over nothing is assumed and
    /// nothing claimed. `patience` is L(1 + rho) of the longest lease known.
    pub(super) fn forget(&mut self, patience: Duration, now: Instant) -> Instant {
        self.cluster_id = None;
        let until = self.quiet_until.map_or(now + patience, |until| until.max(now + patience));
        self.quiet_until = Some(until);
        until
    }

    /// Whether nothing may be assumed or claimed yet.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }

    /// The time is over.
    pub(super) fn end_quiet(&mut self) {
        self.quiet_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn header(cluster_id: u64, revision: i64) -> Header {
        Header { cluster_id, revision: Revision(revision) }
    }

    #[test]
    fn another_cluster_or_an_older_revision_than_was_known_contradicts() {
        let mut store = StoreIdentity::default();
        assert_eq!(store.contradiction(header(7, 1), Revision(0)), None);
        store.learn(header(7, 9));
        assert_eq!(store.contradiction(header(7, 9), Revision(9)), None);
        assert!(store.contradiction(header(7, 8), Revision(9)).is_some());
        assert!(store.contradiction(header(8, 10), Revision(9)).is_some());
    }

    #[test]
    fn after_a_contradiction_it_is_quiet_for_the_patience_and_a_second_one_never_shortens_it() {
        let (mut store, patience) = (StoreIdentity::default(), Duration::from_secs(3));
        let start = Instant::from_nanos(1);
        store.learn(header(7, 9));
        let until = store.forget(patience, start);
        assert_eq!(until, start + patience);
        assert_eq!(store.forget(Duration::from_secs(1), start), until);
        assert!(store.is_quiet(start) && !store.is_quiet(until));
        assert_eq!(store.contradiction(header(8, 1), Revision(0)), None, "whichever answers next");
    }
}
