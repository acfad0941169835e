//! The transactions about ownership: claims (rule 4), hand-overs (rule 5), giving free (rule 7).

use std::collections::{BTreeMap, BTreeSet};

use super::{Node, PendingTxn, Purpose};
use crate::action::TxnId;
use crate::mutant::Mutant;
use crate::name::{NodeName, SessionId, VipName};
use crate::records::{VipRecord, encode};
use crate::store::{Compare, OPS_PER_TXN_MAX, Op, Txn};
use crate::time::Instant;
use crate::timer::Timer;
use crate::view::Known;

/// VIPs in one transaction: each is one compare and one operation, and beside them stand compares
/// of the sessions that are involved.
const VIPS_PER_TXN_MAX: usize = 100;

/// So many transactions about VIPs are under way at once. Beyond that they would only queue up in the
/// store, before the renewals of everybody's sessions, and be given up before their turn.
const TXNS_AT_ONCE: usize = 8;

/// Sessions beside them.
const SESSIONS_PER_TXN_MAX: usize = OPS_PER_TXN_MAX - VIPS_PER_TXN_MAX - 4;

impl Node {
    /// Claims `vips`, which are free or already name this session, in as few commits as etcd's
    /// limit allows.
    pub(super) fn claim(&mut self, vips: &[usize]) {
        for batch in self.batches(vips, |node, index| node.named_session(index).map(|(_, s)| s)) {
            if !self.has_room_for(&batch) {
                continue;
            }
            let txn = self.claims_txn(&batch, None);
            let id = self.commit(Purpose::Claim { vips: batch.clone() }, txn);
            self.mark_pending(&batch, id);
        }
    }

    /// A transaction that names this session as the owner of `vips`, if all is still as seen.
    /// `expired` is a session that the same transaction deletes.
    pub(super) fn claims_txn(&self, vips: &[usize], expired: Option<SessionId>) -> Txn {
        let mut txn = Txn::default();
        let Some(own) = self.session() else { return txn };
        let name = &self.config.name;
        self.compare_session(&mut txn, name, own);
        let mut named_sessions = BTreeSet::new();
        for &index in vips {
            let vip = &self.vips[index].config.name;
            let key = self.keys.vip(vip);
            self.compare_vip(&mut txn, vip);
            if let Some((node, session)) = self.named_session(index)
                && session != own
                && Some(session) != expired
            {
                named_sessions.insert((node, session));
            }
            let record = self.vip_record(name, own);
            txn.success.push(Op::Put { key: key.clone(), value: encode(&record) });
            txn.failure.push(Op::Get { key });
        }
        for (node, session) in named_sessions {
            // "Gone" must hold in the store, not in a view of mixed age.
            let key = self.keys.session(&node);
            if !self.mutated(Mutant::ClaimByView) {
                let is_not = session.0;
                txn.compares.push(Compare::CreateRevisionNot { key: key.clone(), is_not });
            }
            txn.failure.push(Op::Get { key });
        }
        txn
    }

    /// Names successors in `vips/`, or deletes the keys where there are none. From here on such a
    /// VIP is not this node's, whatever comes of it, unless its key is put anew.
    pub(super) fn hand_over(&mut self, vips: &[(usize, Option<NodeName>)]) {
        let successors: BTreeMap<usize, Option<NodeName>> = vips.iter().cloned().collect();
        let indices: Vec<usize> = successors.keys().copied().collect();
        let successor_of = |index: usize| successors[&index].clone();
        let batches = self.batches(&indices, |node, index| {
            successor_of(index).and_then(|to| node.view.session_id(&to))
        });
        for batch in batches {
            if !self.has_room_for(&batch) {
                continue;
            }
            let with_successors: Vec<(usize, Option<NodeName>)> =
                batch.iter().map(|&index| (index, successor_of(index))).collect();
            let txn = self.hand_over_txn(&with_successors);
            for &index in &batch {
                let modified = self.view.vip(&self.vips[index].config.name).map(|k| k.modified);
                let vip = &mut self.vips[index];
                vip.barrier = vip.barrier.max(modified.unwrap_or_default());
            }
            let id = self.commit(Purpose::HandOver { vips: with_successors }, txn);
            self.mark_pending(&batch, id);
        }
    }

    fn hand_over_txn(&self, vips: &[(usize, Option<NodeName>)]) -> Txn {
        let mut txn = Txn::default();
        let Some(own) = self.session() else { return txn };
        let uncompared = self.mutated(Mutant::HandOverUncompared);
        if !uncompared {
            self.compare_session(&mut txn, &self.config.name, own);
        }
        let mut successors = BTreeSet::new();
        for (index, to) in vips {
            let vip = &self.vips[*index].config.name;
            let key = self.keys.vip(vip);
            if !uncompared {
                self.compare_vip(&mut txn, vip);
            }
            let successor = to.clone().and_then(|to| Some((self.view.session_id(&to)?, to)));
            txn.success.push(match &successor {
                Some((session, node)) => {
                    let value = encode(&self.vip_record(node, *session));
                    Op::Put { key: key.clone(), value }
                }
                None => Op::Delete { key: key.clone() },
            });
            txn.failure.push(Op::Get { key });
            successors.extend(successor);
        }
        for (session, node) in successors {
            self.compare_session(&mut txn, &node, session);
        }
        txn
    }

    /// Gives free what names this session and is not configured here: nobody sits on a VIP. Looks
    /// at `changed` only, or at all VIPs.
    ///
    /// Its address may have another name in today's configuration and be here still. So nothing is
    /// given free while anything is here that is not this node's to hold.
    pub(super) fn free_unconfigured(&mut self, changed: Option<&VipName>, now: Instant) {
        let Some(own) = self.session() else { return };
        let to_free = |vip: &VipName| {
            let record = self.view.vip(vip).and_then(Known::readable);
            record.is_some_and(|r| r.node == self.config.name && r.session == own)
                && !self.by_name.contains_key(vip)
                && !self.freeing.contains_key(vip)
        };
        let vips: Vec<VipName> = match changed {
            Some(vip) => to_free(vip).then(|| vip.clone()).into_iter().collect(),
            None => self.view.vips().map(|(vip, _)| vip).filter(|v| to_free(v)).cloned().collect(),
        };
        if vips.is_empty() {
            return;
        }
        let leftover =
            |index: usize| self.vips[index].may_be_present() && self.owned(index).is_none();
        if (0..self.vips.len()).any(leftover) {
            return self.timers.set(Timer::Free, now + self.retry_delay());
        }
        for batch in vips.chunks(VIPS_PER_TXN_MAX) {
            let mut txn = Txn::default();
            self.compare_session(&mut txn, &self.config.name, own);
            for vip in batch {
                let key = self.keys.vip(vip);
                self.compare_vip(&mut txn, vip);
                txn.success.push(Op::Delete { key: key.clone() });
                txn.failure.push(Op::Get { key });
            }
            let id = self.commit(Purpose::Free { vips: batch.to_vec() }, txn);
            self.freeing.extend(batch.iter().map(|vip| (vip.clone(), id)));
        }
    }

    /// Whether another transaction about VIPs may be sent now. Where not, these VIPs are looked at
    /// again when one of those under way is answered.
    fn has_room_for(&mut self, vips: &[usize]) -> bool {
        let about_vips = |pending: &&PendingTxn| {
            matches!(
                pending.purpose,
                Purpose::Claim { .. } | Purpose::HandOver { .. } | Purpose::Expire { .. }
            )
        };
        let has_room = self.txns.values().filter(about_vips).count() < TXNS_AT_ONCE;
        if !has_room {
            self.agenda.crowded_out.extend(vips);
        }
        has_room
    }

    /// A transaction about `vips` was answered; `unknown` when it may or may not have happened.
    pub(super) fn vips_answered(&mut self, id: TxnId, vips: &[usize], unknown: bool, now: Instant) {
        let retry_at = now + self.retry_delay();
        self.agenda.look_at_crowded_out();
        for &index in vips {
            let vip = &mut self.vips[index];
            if vip.pending == Some(id) {
                vip.pending = None;
            }
            if unknown {
                vip.retry_at = Some(retry_at);
                self.agenda.wake(index, retry_at);
            }
            self.agenda.dirty.insert(index);
        }
    }

    /// Whom `vips/<vip>` names.
    pub(super) fn named_session(&self, index: usize) -> Option<(NodeName, SessionId)> {
        let known = self.view.vip(&self.vips[index].config.name)?;
        known.readable().map(|record| (record.node.clone(), record.session))
    }

    fn vip_record(&self, node: &NodeName, session: SessionId) -> VipRecord {
        VipRecord { node: node.clone(), session, since_unix_ms: self.unix_ms }
    }

    fn compare_vip(&self, txn: &mut Txn, vip: &VipName) {
        let is = self.view.vip(vip).map(|known| known.modified).unwrap_or_default();
        txn.compares.push(Compare::ModRevision { key: self.keys.vip(vip), is });
    }

    /// The session must stand; where it does not, the answer is to say what is there.
    fn compare_session(&self, txn: &mut Txn, node: &NodeName, session: SessionId) {
        let key = self.keys.session(node);
        txn.compares.push(Compare::CreateRevision { key: key.clone(), is: session.0 });
        txn.failure.push(Op::Get { key });
    }

    fn mark_pending(&mut self, vips: &[usize], id: TxnId) {
        for &index in vips {
            self.vips[index].pending = Some(id);
        }
    }

    /// Cuts `vips` into batches that keep within etcd's limit of operations, counting the
    /// sessions that each batch must compare too.
    fn batches(
        &self,
        vips: &[usize],
        session_of: impl Fn(&Node, usize) -> Option<SessionId>,
    ) -> Vec<Vec<usize>> {
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut sessions = BTreeSet::new();
        for &index in vips {
            let session = session_of(self, index);
            let sessions_after = sessions.len() + usize::from(!sessions.contains(&session));
            match batches.last_mut() {
                Some(batch)
                    if batch.len() < VIPS_PER_TXN_MAX && sessions_after <= SESSIONS_PER_TXN_MAX =>
                {
                    batch.push(index);
                }
                _ => {
                    sessions.clear();
                    batches.push(vec![index]);
                }
            }
            sessions.insert(session);
        }
        batches
    }

    /// The most VIPs that one transaction may claim beside an expiry.
    pub(super) const SHARE_MAX: usize = VIPS_PER_TXN_MAX;
}
