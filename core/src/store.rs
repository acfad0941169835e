//! The language in which the core speaks with the store: keys, compares, transactions.
//!
//! It is the part of etcd's v3 API on which the protocol stands: linearizable transactions over
//! compares of create_revision and mod_revision, and watches that deliver in order (A2).

use std::fmt;

use crate::name::Revision;

/// The most compares, success operations or failure operations that one transaction may have:
/// etcd's default for each (`--max-txn-ops`).
pub const OPS_PER_TXN_MAX: usize = 128;

/// One key with its value and its place in history.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyValue {
    /// The whole key.
    pub key: String,
    /// What was put.
    pub value: Vec<u8>,
    /// The revision at which the key came to be.
    pub create_revision: Revision,
    /// The revision of the last put.
    pub mod_revision: Revision,
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = String::from_utf8_lossy(&self.value);
        write!(f, "{}@{} {value}", self.key, self.mod_revision)
    }
}

/// What must hold for a transaction to succeed. An absent key has both revisions 0.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Compare {
    /// The key's mod_revision is this one.
    ModRevision {
        /// The key.
        key: String,
        /// 0 for a key that must be absent.
        is: Revision,
    },
    /// The key's create_revision is this one.
    CreateRevision {
        /// The key.
        key: String,
        /// 0 for a key that must be absent.
        is: Revision,
    },
    /// The key's create_revision is another one, or the key is absent.
    CreateRevisionNot {
        /// The key.
        key: String,
        /// What it must not be.
        is_not: Revision,
    },
}

/// What a branch of a transaction does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Write a value.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Delete a key; deleting an absent key does nothing.
    Delete {
        /// The key.
        key: String,
    },
    /// Read a key.
    Get {
        /// The key.
        key: String,
    },
}

/// If all compares hold, do `success`, else `failure`; at one revision, all or nothing.
///
/// One without any operation is refused: etcd would compare with what the member that was asked
/// happens to know by then, and only an operation makes it wait for the others.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Txn {
    /// Joined by "and".
    pub compares: Vec<Compare>,
    /// Done when all compares hold.
    pub success: Vec<Op>,
    /// Done when one does not.
    pub failure: Vec<Op>,
}

impl Txn {
    /// Whether it has no operation, whichever branch is taken.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.success.is_empty() && self.failure.is_empty()
    }
}

/// What every answer of the store carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Which etcd cluster answered.
    pub cluster_id: u64,
    /// Which of its members.
    pub member_id: u64,
    /// The raft term of the newest entry that this member has carried out since it was started; 0 when
    /// there is none.
    pub raft_term: u64,
    /// The store's revision when it answered.
    pub revision: Revision,
}

/// The answer to a transaction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TxnResponse {
    /// For a transaction that wrote, `revision` is that of its writes.
    pub header: Header,
    /// Whether all compares held.
    pub succeeded: bool,
    /// The answers to the `Get`s of the branch that ran, in their order.
    pub gets: Vec<Option<KeyValue>>,
}

/// All keys under the prefix at one revision, from a linearizable read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Snapshot {
    /// `revision` is the one at which all of `kvs` hold.
    pub header: Header,
    /// Every key under the prefix.
    pub kvs: Vec<KeyValue>,
}

/// One change of one key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// The key was written.
    Put(KeyValue),
    /// The key was deleted.
    Delete {
        /// The key.
        key: String,
        /// The revision of the deletion.
        revision: Revision,
    },
}

impl Event {
    /// Of which key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Event::Put(kv) => &kv.key,
            Event::Delete { key, .. } => key,
        }
    }
}

/// A batch of changes, in the order of their revisions. Every change under the prefix up to
/// `header.revision` has been delivered with it or before it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Events {
    /// `revision` is that up to which the watch has told everything.
    pub header: Header,
    /// The changes.
    pub events: Vec<Event>,
}

/// What following the prefix brings: one snapshot first, then events without a hole.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Update {
    /// The state from which the events go on.
    Snapshot(Snapshot),
    /// What has changed since.
    Events(Events),
}

/// A key of another program, which is followed beside the prefix.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ForeignKey {
    /// The whole key.
    pub key: String,
    /// Its state, and as of which revision; or why it cannot be read, in words.
    pub state: Result<(Option<KeyValue>, Revision), String>,
}

/// What the local etcd member says of itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MemberStatus {
    /// Its member id.
    pub member_id: u64,
    /// Whether it believes to be the raft leader.
    pub is_leader: bool,
    /// The raft term in which it believes so.
    pub term: u64,
}

/// Why the store gave no answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StoreError {
    /// No answer, or none in time. A transaction may have been, or may still be, carried out.
    Unavailable(String),
    /// The store refused: credentials, permissions, a request that it does not take.
    Refused(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why) => write!(f, "etcd is unavailable: {why}"),
            StoreError::Refused(why) => write!(f, "etcd refuses: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
