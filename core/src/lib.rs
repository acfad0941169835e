//! turnip's protocol as a pure state machine: which host holds a floating address, decided so
//! that no two ever do.
//!
//! The protocol has a page of its own, `core/PROTOCOL.md`: the promise, the assumptions, the rules
//! by number, and the orders of events that broke earlier drafts. Sources and tests cite it as
//! `rule 5` or `rule 5.2`, `interleaving 6` and `A1`; a test holds them together. In short:
//!
//! - **A session is a promise to be silent.** A node writes its session key every renew interval. A
//!   renewal that was made at `s` lets it hold addresses until `s + L(1 - rho)` on its own clock,
//!   whenever the answer comes.
//! - **Others wait at least as long.** Whoever has received nothing new of a session for
//!   `L(1 + rho)` may delete it, if the store still has the very write that was seen. On clocks
//!   within `rho` of true time the holder is silent by then; [`lease`] has the arithmetic. It is
//!   half of the argument: the other half is what transactions compare.
//! - **An owner is who the store names**, node *and session*. A VIP is claimed by a transaction
//!   that compares, in the store and not in anybody's memory, that the named session is gone.
//! - **A planned move breaks before it makes.** A hand-over whose answer is lost may land at any
//!   later time; so the VIP is its old owner's again only when its key has been written anew.
//! - **What is known never goes back.** What to hold follows from the newest view, never from an
//!   answer as such.
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
mod causes;
mod check;
pub mod compaction;
mod config;
mod contradiction;
mod heartbeat;
mod history;
mod hook;
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
mod silenced;
mod store;
pub mod text;
mod time;
mod timer;
mod transition;
mod view;
mod virtual_mac;

pub use action::{Action, Exit, OpId, TxnId};
pub use adapter::Adapter;
pub use causes::Causes;
pub use check::{Attempt, CheckConfig, CheckState, Initial, LastResort};
pub use compaction::Compaction;
pub use config::{Absent, Follow, HeartbeatConfig, NodeConfig, Policy, VipAddress, VipConfig};
pub use heartbeat::{Acknowledgement, Addressee, Datagram, Heartbeat, HeartbeatKeys};
pub use history::{HISTORY_SLOTS, HistoryRecord, Transition, Why};
pub use hook::{Hook, HookAction, HookConfig, HookEnd, HookId, HookRun, Hooks, Owed, OwedStage};
pub use kernel::{
    Assignment, Conflict, KernelError, KernelEvent, KernelOp, KernelOutcome, Link, Listing, Mac,
    PresentAddress,
};
pub use keys::{KeyKind, Keys};
pub use lease::{Backstop, Lease, LeaseError};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use name::{CheckName, ClusterName, HostId, NameError, NodeName, Revision, SessionId, VipName};
pub use node::{CheckStanding, Node, NodeStanding, VipStanding, transitions_in_markdown};
pub use report::{Level, NO_NEWS, Report};
pub use silenced::Silenced;
pub use store::{
    Compare, Event, Events, ForeignKey, Header, KeyValue, MemberStatus, OPS_PER_TXN_MAX, Op,
    Snapshot, StoreError, Txn, TxnResponse, Update,
};
pub use time::Instant;
pub use transition::{Arrival, Departure};
pub use virtual_mac::{virtual_link_name, virtual_mac};
