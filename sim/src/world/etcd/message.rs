//! What etcd's members say to each other.

use crate::world::ids::RequestId;

/// One entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// In which term it was proposed.
    pub term: u64,
    /// Nothing for the entry with which a leader begins its term.
    pub request: Option<RequestId>,
}

/// A message between members.
#[derive(Clone, Debug)]
pub enum Message {
    Vote { term: u64, last: (u64, usize), pre: bool, force: bool },
    VoteReply { term: u64, granted: bool, pre: bool },
    Append { term: u64, prev: (u64, usize), entries: Vec<Entry>, commit: usize, round: u64 },
    AppendReply { term: u64, matched: Option<usize>, round: u64 },
    Propose { request: RequestId },
    ReadIndex { request: RequestId },
    ReadAt { request: RequestId, index: usize },
    TimeoutNow { term: u64 },
}
