//! turnip's protocol as a pure state machine.

#![forbid(unsafe_code)]

mod action;
mod config;
mod kernel;
mod keys;
pub mod lease;
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
mod vip;

pub use action::{Action, Exit, OpId, TxnId};
pub use config::{NodeConfig, Policy, VipConfig};
pub use kernel::{
    Assignment, KernelError, KernelEvent, KernelOp, KernelOutcome, Link, Listing, PresentAddress,
};
pub use keys::{KeyKind, Keys};
pub use lease::{Backstop, Lease, LeaseError};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use name::{ClusterName, HostId, NameError, NodeName, Revision, SessionId, VipName};
pub use node::Node;
pub use report::{Level, Report};
pub use store::{
    Compare, Event, Events, Header, KeyValue, MemberStatus, OPS_PER_TXN_MAX, Op, Snapshot,
    StoreError, Txn, TxnResponse, Update,
};
pub use time::Instant;
