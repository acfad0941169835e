//! The store of the small world: linearizable, with revisions, and a history that each node's
//! watch follows at its own pace.

use std::collections::BTreeMap;

use turnip_core::{
    Compare, Event, Events, Header, KeyKind, KeyValue, Keys, Op, Revision, SessionId, Snapshot,
    Txn, TxnResponse, Update, model,
};

use super::arena::{Arena, NumberMap};
use super::daemon::host_name;
use super::messages::Messages;

const CLUSTER_ID: u64 = 7;

/// More than there are writes in one.
const REVISIONS_PER_TICK: i64 = 64;

/// All keys at one revision.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Contents {
    revision: Revision,
    kvs: BTreeMap<String, KeyValue>,
}

/// What came of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Applied {
    pub(super) store: u32,
    pub(super) response: u32,
    /// What every watch will tell; none when nothing was written.
    pub(super) event: Option<u32>,
}

/// Every store that was ever reached, by number, and what was said to and by it.
pub(super) struct Stores {
    pub(super) keys: Keys,
    /// Of each name.
    session_keys: [String; 3],
    contents: Arena<Contents>,
    pub(super) messages: Messages,
    applied: NumberMap<(u32, u32, u8), Applied>,
    snapshots: NumberMap<u32, u32>,
}

impl Stores {
    /// None yet; what is in them has these keys.
    pub(super) fn new(keys: Keys) -> Self {
        let session_key = |name| keys.session(&host_name(name).parse().expect("a name"));
        Stores {
            session_keys: [0, 1, 2].map(session_key),
            keys,
            contents: Arena::default(),
            messages: Messages::default(),
            applied: NumberMap::default(),
            snapshots: NumberMap::default(),
        }
    }

    /// A store in which nothing is.
    pub(super) fn empty(&mut self) -> u32 {
        self.contents.intern(Contents { revision: Revision(1), kvs: BTreeMap::new() })
    }

    /// The store after `txn` at `tick`. Each tick has revisions of its own, as if somebody wrote
    /// elsewhere in the store meanwhile: pasts that differ only in how much was written are equal.
    pub(super) fn apply(&mut self, store: u32, txn: u32, tick: u8) -> Applied {
        if let Some(&applied) = self.applied.get(&(store, txn, tick)) {
            return applied;
        }
        let mut contents = self.contents.get(store).clone();
        let floor = Revision(REVISIONS_PER_TICK * i64::from(tick));
        let (response, events) = contents.apply(self.messages.txns.get(txn), floor);
        let header = response.header;
        let event = (!events.is_empty())
            .then(|| self.messages.updates.intern(Update::Events(Events { header, events })));
        let applied = Applied {
            store: self.contents.intern(contents),
            response: self.messages.responses.intern(response),
            event,
        };
        self.applied.insert((store, txn, tick), applied);
        applied
    }

    /// What a watch begins with.
    pub(super) fn snapshot(&mut self, store: u32) -> u32 {
        if let Some(&update) = self.snapshots.get(&store) {
            return update;
        }
        let contents = self.contents.get(store);
        let kvs = contents.kvs.values().cloned().collect();
        let snapshot = Snapshot { header: contents.header(), kvs };
        let update = self.messages.updates.intern(Update::Snapshot(snapshot));
        self.snapshots.insert(store, update);
        update
    }

    /// The session of the name of that number.
    pub(super) fn session(&self, store: u32, name: usize) -> Option<SessionId> {
        let kv = self.contents.get(store).kvs.get(&self.session_keys[name])?;
        Some(SessionId(kv.create_revision))
    }

    /// Whether a transaction would write now.
    pub(super) fn would_succeed(&self, store: u32, txn: u32) -> bool {
        model::would_succeed(&self.contents.get(store).kvs, self.messages.txns.get(txn))
    }

    /// Whether a transaction can never write any more: a revision that it compares is over.
    pub(super) fn is_obsolete(&self, store: u32, txn: u32) -> bool {
        let kvs = &self.contents.get(store).kvs;
        self.messages.txns.get(txn).compares.iter().any(|compare| match compare {
            Compare::ModRevision { is, .. } | Compare::CreateRevision { is, .. } => {
                *is != Revision(0) && !model::holds(kvs, compare)
            }
            Compare::CreateRevisionNot { .. } => false,
        })
    }

    /// Whether a transaction does nothing but renew a session.
    pub(super) fn is_renewal(&self, txn: u32) -> bool {
        let txn = self.messages.txns.get(txn);
        let renews = |op: &Op| matches!(op, Op::Put { key, .. } if self.is_session(key));
        let exists = |compare: &Compare| match compare {
            Compare::ModRevision { is, .. } => *is != Revision(0),
            _ => false,
        };
        txn.success.len() == 1 && renews(&txn.success[0]) && txn.compares.iter().all(exists)
    }

    /// Whether a transaction frees a VIP.
    pub(super) fn frees(&self, txn: u32) -> bool {
        let frees = |op: &Op| matches!(op, Op::Delete { key } if matches!(self.keys.kind(key), KeyKind::Vip(_)));
        self.messages.txns.get(txn).success.iter().any(frees)
    }

    /// Whether a watch tells of nothing but the writing of a session.
    pub(super) fn is_renewal_event(&self, update: u32) -> bool {
        match self.messages.updates.get(update) {
            Update::Events(events) => match events.events.as_slice() {
                [Event::Put(kv)] => {
                    self.is_session(&kv.key) && kv.create_revision != kv.mod_revision
                }
                _ => false,
            },
            Update::Snapshot(_) => false,
        }
    }

    fn is_session(&self, key: &str) -> bool {
        matches!(self.keys.kind(key), KeyKind::Session(_))
    }
}

impl Contents {
    fn header(&self) -> Header {
        Header { cluster_id: CLUSTER_ID, member_id: 1, raft_term: 1, revision: self.revision }
    }

    fn apply(&mut self, txn: &Txn, floor: Revision) -> (TxnResponse, Vec<Event>) {
        let next = Revision(self.revision.0 + 1).max(floor);
        let now = self.header();
        let (response, events) = model::apply(&mut self.kvs, txn, now, next);
        self.revision = response.header.revision;
        (response, events)
    }
}
