//! What a node asks of the world.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::heartbeat::{Addressee, HeartbeatKeys};
use crate::hook::HookAction;
use crate::kernel::{Assignment, KernelOp};
use crate::report::Report;
use crate::store::Txn;
use crate::time::Instant;

/// Names a transaction until its answer is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxnId(pub u64);

/// Names a kernel operation until its answer is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);

/// Something to be done outside. Answers come back through the node's `handle_*`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Read all keys under `prefix`, then follow what changes; and beside it each of `keys`. Takes the
    /// place of an earlier one.
    Follow {
        /// What to follow.
        prefix: String,
        /// Keys of other programs.
        keys: BTreeSet<String>,
        /// Whether the endpoint in use is in doubt and another one should be asked.
        elsewhere: bool,
    },
    /// Carry out a transaction. It must be answered within `timeout`, if only by an error.
    Commit {
        /// Comes back with the answer.
        id: TxnId,
        /// The transaction.
        txn: Txn,
        /// How long it may take.
        timeout: Duration,
    },
    /// Ask the local etcd member whether it is the raft leader.
    AskMember {
        /// How long it may take.
        timeout: Duration,
    },
    /// Have the kernel do something.
    Kernel {
        /// Comes back with the answer.
        id: OpId,
        /// What.
        op: KernelOp,
    },
    /// End the connections through these addresses, which have left this host. What is on an
    /// interface all the same is left alone.
    EndConnections {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Tell the neighbours where the addresses are now, unless `deadline` has passed.
    Announce {
        /// The addresses.
        addresses: Vec<Assignment>,
        /// When they may no longer be announced.
        deadline: Instant,
    },
    /// Run a VIP's hook, end one, or write down what is owed (rule 12).
    Hook(HookAction),
    /// Send a heartbeat to each of these, with what of theirs is acknowledged.
    Beat(Vec<Addressee>),
    /// Authenticate heartbeats with these keys from now on.
    UseKeys(HeartbeatKeys),
    /// Tell the operator.
    Report(Report),
    /// The node is done, and holds nothing unless it was to leave that to the next; nothing follows.
    Exit(Exit),
}

/// How a node's life ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Exit {
    /// As it was asked to.
    Stopped,
    /// With addresses, fence and session left to the next process on this host (rule 14.6).
    Left,
    /// It refuses to run, or to go on, for the reason given.
    Refused(String),
}
