//! Giving free what names this session and is not configured here: nobody sits on a VIP (rule 5.6).

use std::collections::BTreeMap;

use super::outbox::{Outbox, Purpose};
use super::situation::Situation;
use super::vips::{Context, VIPS_PER_TXN_MAX, Vips, compare_session, told};
use crate::action::TxnId;
use crate::history::{HistoryRecord, Transition, Why};
use crate::mutant::Mutant;
use crate::name::VipName;
use crate::store::{Compare, Op, Txn};
use crate::timer::Timer;

/// VIPs that are being given free.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Freeing {
    /// With the transaction that does it.
    pending: BTreeMap<VipName, TxnId>,
    /// There may be something to give free.
    stale: bool,
}

impl Freeing {
    pub(super) fn mark_stale(&mut self) {
        self.stale = true;
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Gives free what is to be.
    ///
    /// Its address may have another name in today's configuration and be here still. So nothing is
    /// given free while anything is here that is not this node's to hold.
    pub(super) fn free(&mut self, context: &Context<'_>, vips: &Vips, out: &mut Outbox) {
        let situation = &context.situation;
        // Who has not noticed that the store is another one may hold what is named here (A2).
        if situation.is_quiet() || !self.stale {
            return;
        }
        let names = self.names(situation);
        if !names.is_empty() && vips.has_leftovers(context) {
            return;
        }
        self.stale = false;
        for batch in names.chunks(VIPS_PER_TXN_MAX) {
            if !out.has_room_for_vips() {
                // Looked at again when one of those under way is answered.
                self.stale = true;
                return;
            }
            let txn = transaction(situation, batch);
            let purpose = Purpose::Free { vips: batch.to_vec() };
            let told = told(situation, &not_configured(situation, batch), out);
            let (knowing, timeout) = (situation.knowing(), situation.timeout());
            let id = out.commit_told(purpose, (txn, told), knowing, timeout);
            self.pending.extend(batch.iter().map(|vip| (vip.clone(), id)));
        }
    }

    fn names(&self, situation: &Situation<'_>) -> Vec<VipName> {
        let own = situation.own;
        let Some(session) = situation.session.id() else { return Vec::new() };
        let is_to_free = |vip: &&VipName| {
            let record = situation.view.vip(vip).and_then(|known| known.readable());
            record.is_some_and(|record| record.node == *own.name())
                && own.index_of(vip).is_none()
                && !self.pending.contains_key(*vip)
        };
        situation.view.vips_of(session).filter(is_to_free).cloned().collect()
    }

    /// It was answered; `unknown`: it is tried again.
    pub(super) fn answered(
        &mut self,
        situation: &Situation<'_>,
        vips: &[VipName],
        unknown: bool,
        out: &mut Outbox,
    ) {
        self.pending.retain(|vip, _| !vips.contains(vip));
        if unknown {
            out.timers.set(Timer::Free, situation.retry_at());
        }
    }

    /// The store is another one (A2).
    pub(super) fn forget_requests(&mut self) {
        self.pending.clear();
    }
}

fn not_configured(situation: &Situation<'_>, vips: &[VipName]) -> HistoryRecord {
    let mut record = HistoryRecord::new(situation.unix_ms);
    record.transitions.push(Transition {
        vips: vips.to_vec(),
        from: Some(situation.own.name().clone()),
        to: None,
        why: Why::NotConfigured,
        detail: None,
        after_ms: 0,
    });
    record
}

fn transaction(situation: &Situation<'_>, vips: &[VipName]) -> Txn {
    let own = situation.own;
    let mut txn = Txn::default();
    let Some(session) = situation.session.id() else { return txn };
    compare_session(situation, &mut txn, own.name(), session);
    for vip in vips {
        let key = own.keys.vip(vip);
        let is = situation.view.vip(vip).map(|known| known.modified).unwrap_or_default();
        if !own.mutated(Mutant::FreeUncompared) {
            txn.compares.push(Compare::ModRevision { key: key.clone(), is });
        }
        txn.success.push(Op::Delete { key: key.clone() });
        txn.failure.push(Op::Get { key });
    }
    txn
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 9.4.
    #[test]
    fn what_was_under_way_when_the_store_turned_out_to_be_another_hinders_nothing() {
        let pending = [("v".parse().unwrap(), TxnId(1))].into();
        let mut freeing = Freeing { pending, stale: false };
        assert!(freeing.is_under_way());
        freeing.forget_requests();
        assert!(!freeing.is_under_way());
    }
}
