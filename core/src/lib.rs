//! turnip's protocol as a pure state machine: which host holds a floating address, decided so
//! that no two ever do.
//!
//! # The story
//!
//! Several hosts can each put the same address (a VIP) on one of their interfaces. Exactly one
//! should. They share a store, etcd, and nothing else: not their clocks, not a network that
//! delivers in time, not the good behaviour of whoever was killed a moment ago.
//!
//! **A session is a promise to be silent.** Every host writes a small key, its *session*, every
//! renew interval `r`. A renewal that was made at `s` on the host's own clock lets the host hold
//! addresses until `s + L(1 - rho)`, where `L` is the lease that the session declares and `rho` the
//! margin for clocks that run at different rates. What counts is when the request was *made*: the
//! answer may come late, or never. At the deadline, less a guard, the host takes every address
//! away; should the host itself be frozen, the kernel was told the same deadline. While the store
//! does not answer, a host tries three times as often, so that all are heard soon after an election.
//!
//! **Others wait longer than the promise.** A host that has heard nothing new of a session for
//! `L(1 + rho)`, by its own clock, since it *received* the last news, may delete the session, if the
//! store still has the very write that it saw. The slowest holder's `L(1 - rho)` ends before the
//! fastest waiter's `L(1 + rho)`: that is the whole of the argument, and [`lease`] is the
//! whole of the arithmetic.
//!
//! **An owner is who the store names.** `vips/<vip>` names a node *and its session*. A VIP is
//! free when that session is gone, and it is claimed by a transaction which compares, in the store
//! and not in anybody's memory, that it is. So nobody takes what a live session may still hold,
//! and a holder whose session is gone has been silent for the length of two margins.
//!
//! **A planned move breaks before it makes.** The owner takes the addresses away, waits for the
//! kernel's acknowledgement, and names its successor in one transaction. If the answer is lost the
//! transaction may land at any later time; so from then on the VIP is the owner's only when the
//! key has been written anew, which makes the lost transaction's compare fail for ever.
//!
//! **What is known never goes back.** Answers, events and snapshots all do one thing: they tell
//! what a key was as of a revision. News of an older revision than the one known is ignored. What
//! to hold follows from the newest view, never from an answer as such.
//!
//! # The shape
//!
//! [`Node`] is the state machine. It performs no I/O, reads no clock, spawns nothing and draws no
//! randomness: inputs are its `handle_*`, with the time `now` last, outputs are
//! [`poll_action`](Node::poll_action) and [`poll_timeout`](Node::poll_timeout). It speaks in
//! transactions ([`Txn`]), so that a wrong compare is a bug here and is found by the tests of
//! this crate, by the simulator and by real etcd alike.

#![forbid(unsafe_code)]

mod action;
pub mod adapter;
mod config;
mod kernel;
mod keys;
pub mod lease;
#[cfg(feature = "model")]
pub mod model;
mod mutant;
mod name;
mod node;
pub mod placement;
pub mod records;
mod report;
mod silence;
mod store;
mod time;
mod timer;
mod view;

pub use action::{Action, Exit, OpId, TxnId};
pub use adapter::Adapter;
pub use config::{NodeConfig, Policy, VipConfig};
pub use kernel::{
    Assignment, KernelError, KernelEvent, KernelOp, KernelOutcome, Link, Listing, PresentAddress,
};
pub use keys::{KeyKind, Keys};
pub use lease::{Backstop, Lease, LeaseError};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use name::{ClusterName, HostId, NameError, NodeName, Revision, SessionId, VipName};
pub use node::{Node, transitions_in_markdown};
pub use report::{Level, Report};
pub use store::{
    Compare, Event, Events, Header, KeyValue, MemberStatus, OPS_PER_TXN_MAX, Op, Snapshot,
    StoreError, Txn, TxnResponse, Update,
};
pub use time::Instant;
