//! What the node asks of the world and waits for: actions, timers, requests without an answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::own::VipIndex;
use super::peers::Silence;
use super::reload::Moved;
use super::store_identity::Knowing;
use crate::action::{Action, OpId, TxnId};
use crate::history::HISTORY_SLOTS;
use crate::hook::HookId;
use crate::kernel::{Assignment, KernelOp};
use crate::name::{NodeName, Revision, SessionId, VipName};
use crate::report::Report;
use crate::store::{Compare, KeyValue, Op, Txn, TxnResponse};
use crate::time::Instant;
use crate::timer::Timers;

/// So many transactions about VIPs are under way at once.
const TXNS_AT_ONCE: usize = 8;

/// Actions that nobody has polled yet, timers, and requests that have not been answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Outbox {
    pub(super) timers: Timers,
    actions: VecDeque<Action>,
    /// Actions that nothing waits for: they go out after what is decided at the same time.
    last: Vec<Action>,
    txns: BTreeMap<TxnId, PendingTxn>,
    ops: BTreeMap<OpId, PendingOp>,
    last_id: u64,
    /// Where this process last wrote what it did.
    history_slot: Option<u8>,
}

/// A transaction that has not been answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct PendingTxn {
    pub(super) purpose: Purpose,
    txn: Txn,
    /// What was known when it was sent: an answer from before that is of another store (A2).
    pub(super) sent_knowing: Knowing,
}

/// What a transaction is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Purpose {
    /// Renews the session, or opens one where there is none yet.
    Renew { session: Option<SessionId>, sent: Instant },
    /// Deletes another's session, and claims VIPs with it.
    /// Its silence is not known of another host that has this node's own name.
    Expire { node: NodeName, silence: Option<Silence>, vips: Vec<VipIndex> },
    /// Names this session in `vips/`.
    Claim { vips: Vec<VipIndex> },
    /// Names successors, or nobody.
    HandOver { vips: Vec<(VipIndex, Option<NodeName>)> },
    /// Gives free what is not configured here.
    Free { vips: Vec<VipName> },
    /// Writes `nodes/<node>`.
    Publish,
    /// Makes the key of the heartbeats.
    MakeKeys,
    /// Deletes the own session.
    Close,
}

/// A kernel operation that has not been answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum PendingOp {
    List,
    Assume(Vec<VipIndex>),
    Refresh,
    Withdraw(Vec<VipIndex>),
    WithdrawStrays(Vec<Assignment>),
    Configure,
    RemoveFence,
}

impl PendingOp {
    fn moved(&mut self, moved: &Moved) {
        if let PendingOp::Assume(vips) | PendingOp::Withdraw(vips) = self {
            *vips = moved.all(std::mem::take(vips));
        }
    }
}

impl Purpose {
    /// The VIPs whose state waits for the answer.
    pub(super) fn vips(&self) -> Vec<VipIndex> {
        match self {
            Purpose::Claim { vips } | Purpose::Expire { vips, .. } => vips.clone(),
            Purpose::HandOver { vips } => vips.iter().map(|(index, _)| *index).collect(),
            _ => Vec::new(),
        }
    }

    fn moved(&mut self, moved: &Moved) {
        match self {
            Purpose::Claim { vips } | Purpose::Expire { vips, .. } => {
                *vips = moved.all(std::mem::take(vips));
            }
            Purpose::HandOver { vips } => {
                let old = std::mem::take(vips).into_iter();
                *vips = old.filter_map(|(index, to)| Some((moved.to(index)?, to))).collect();
            }
            _ => {}
        }
    }

    pub(super) fn is_about_vips(&self) -> bool {
        match self {
            Purpose::Claim { .. } | Purpose::HandOver { .. } | Purpose::Free { .. } => true,
            Purpose::Expire { vips, .. } => !vips.is_empty(),
            _ => false,
        }
    }
}

impl PendingTxn {
    /// What `response` says of the keys: as of its revision, each is this, or absent.
    pub(super) fn news(&self, response: &TxnResponse) -> Vec<(String, Option<KeyValue>)> {
        let as_of = response.header.revision;
        // The create_revision of what was put matters for sessions only, and is known of the own one.
        let session_key = match (&self.purpose, self.txn.compares.first()) {
            (Purpose::Renew { .. }, Some(Compare::ModRevision { key, .. })) => Some(key),
            _ => None,
        };
        let created = |key: &String| match self.purpose {
            Purpose::Renew { session, .. } if session_key == Some(key) => {
                session.map_or(as_of, |session| session.0)
            }
            _ => Revision(0),
        };
        let branch = if response.succeeded { &self.txn.success } else { &self.txn.failure };
        let mut gets = response.gets.iter();
        let mut news = Vec::with_capacity(branch.len());
        for op in branch {
            news.push(match op {
                Op::Put { key, value } => {
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: created(key),
                        mod_revision: as_of,
                    };
                    (key.clone(), Some(kv))
                }
                Op::Delete { key } => (key.clone(), None),
                Op::Get { key } => match gets.next() {
                    Some(kv) => (key.clone(), kv.clone()),
                    None => break,
                },
            });
        }
        news
    }
}

impl Outbox {
    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Has time until [`Self::flush_last`].
    pub(super) fn push_last(&mut self, action: Action) {
        self.last.push(action);
    }

    pub(super) fn flush_last(&mut self) {
        self.actions.extend(self.last.drain(..));
    }

    pub(super) fn report(&mut self, report: Report) {
        self.push(Action::Report(report));
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// After the end nothing is done any more; it is only told.
    pub(super) fn keep_reports_only(&mut self) {
        self.actions.retain(|action| matches!(action, Action::Exit(_) | Action::Report(_)));
    }

    /// Sends a transaction. `knowing` is what is known of the store.
    pub(super) fn commit(
        &mut self,
        purpose: Purpose,
        txn: Txn,
        knowing: Knowing,
        timeout: Duration,
    ) -> TxnId {
        self.commit_told(purpose, (txn, None), knowing, timeout)
    }

    /// The same, with what it says of itself in `history/`: nothing follows from that, so it is not
    /// kept until the answer.
    pub(super) fn commit_told(
        &mut self,
        purpose: Purpose,
        (txn, told): (Txn, Option<Op>),
        knowing: Knowing,
        timeout: Duration,
    ) -> TxnId {
        let id = TxnId(self.fresh_id());
        let mut whole = txn.clone();
        whole.success.extend(told);
        self.push(Action::Commit { id, txn: whole, timeout });
        self.txns.insert(id, PendingTxn { purpose, txn, sent_knowing: knowing });
        id
    }

    /// The slot in which this node says what it does next; `newest` is the one it wrote last, as the
    /// store has it.
    pub(super) fn next_history_slot(&mut self, newest: Option<u8>) -> u8 {
        let last = self.history_slot.or(newest);
        let slot = last.map_or(0, |last| last.wrapping_add(1) % HISTORY_SLOTS);
        self.history_slot = Some(slot);
        slot
    }

    /// The transaction that was answered, unless nobody waits for it.
    pub(super) fn answered_txn(&mut self, id: TxnId) -> Option<PendingTxn> {
        self.txns.remove(&id)
    }

    /// No answer to what was sent so far matters any more (A2).
    pub(super) fn forget_txns(&mut self) {
        self.txns.clear();
    }

    /// Another configuration holds: answers that are still to come are about the VIPs at their new places.
    pub(super) fn moved(&mut self, moved: &Moved) {
        self.txns.values_mut().for_each(|pending| pending.purpose.moved(moved));
        self.ops.values_mut().for_each(|pending| pending.moved(moved));
    }

    /// Whether the kernel has not answered yet.
    pub(super) fn asks_kernel(&self) -> bool {
        !self.ops.is_empty()
    }

    /// Whether another transaction about VIPs may be sent now: beyond so many they would only queue
    /// up in the store, before the renewals of everybody's sessions (rule 4.5).
    pub(super) fn has_room_for_vips(&self) -> bool {
        self.txns_about_vips() < TXNS_AT_ONCE
    }

    /// How many transactions about VIPs are under way.
    pub(super) fn txns_about_vips(&self) -> usize {
        self.txns.values().filter(|pending| pending.purpose.is_about_vips()).count()
    }

    /// Whether the key of the heartbeats is being made.
    pub(super) fn is_making_keys(&self) -> bool {
        self.txns.values().any(|pending| pending.purpose == Purpose::MakeKeys)
    }

    /// Whether a renewal is under way.
    pub(super) fn is_renewing(&self) -> bool {
        self.txns.values().any(|pending| matches!(pending.purpose, Purpose::Renew { .. }))
    }

    /// Asks the kernel.
    pub(super) fn kernel(&mut self, pending: PendingOp, op: KernelOp) -> OpId {
        let id = OpId(self.fresh_id());
        self.push(Action::Kernel { id, op });
        self.ops.insert(id, pending);
        id
    }

    /// A name for a run of a hook.
    pub(super) fn fresh_hook(&mut self) -> HookId {
        HookId(self.fresh_id())
    }

    /// The operation that was answered, unless it was never asked for.
    pub(super) fn answered_op(&mut self, id: OpId) -> Option<PendingOp> {
        self.ops.remove(&id)
    }

    /// Numbers what it asks for from `id` on.
    #[cfg(feature = "mutants")]
    pub(super) fn skip_ids_to(&mut self, id: u64) {
        self.last_id = self.last_id.max(id);
        self.history_slot = None;
    }

    fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
