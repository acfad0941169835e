//! All that nodes, store and kernels say to each other, by number.

use turnip_core::{Datagram, KernelOp, KernelOutcome, NodeName, Txn, TxnResponse, Update};

use super::arena::Arena;

/// Everything that was ever said.
#[derive(Default)]
pub(super) struct Messages {
    pub(super) txns: Arena<Txn>,
    pub(super) responses: Arena<TxnResponse>,
    pub(super) updates: Arena<Update>,
    pub(super) ops: Arena<KernelOp>,
    pub(super) outcomes: Arena<KernelOutcome>,
    /// With the name of the sender.
    pub(super) datagrams: Arena<(NodeName, Datagram)>,
}
