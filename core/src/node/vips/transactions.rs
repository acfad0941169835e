//! The transactions about ownership: claims (rule 4) and hand-overs (rule 5).

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Event, State};
use super::telling::told;
use super::{Context, Vips};
use crate::mutant::Mutant;
use crate::name::{NodeName, SessionId};
use crate::node::outbox::{Outbox, Purpose};
use crate::node::own::{Own, VipIndex};
use crate::node::peers::Silent;
use crate::node::situation::Situation;
use crate::records::{VipRecord, encode};
use crate::report::Report;
use crate::store::{Compare, OPS_PER_TXN_MAX, Op, Txn};

/// VIPs in one transaction: each is one compare and one operation, and beside them stand compares
/// of the sessions that are involved, and one operation tells the history.
pub(in crate::node) const VIPS_PER_TXN_MAX: usize = 100;

/// Sessions beside them.
const SESSIONS_PER_TXN_MAX: usize = OPS_PER_TXN_MAX - VIPS_PER_TXN_MAX - 4;

impl Vips {
    /// Claims `vips`, which are free or already name this session, in as few commits as etcd's
    /// limit allows.
    pub(super) fn claim(&mut self, context: &Context<'_>, vips: &[VipIndex], out: &mut Outbox) {
        let situation = &context.situation;
        let session_of = |index: VipIndex| situation.named(index).map(|(_, session)| session);
        for batch in batches(vips, session_of) {
            if !self.has_room_for(&batch, out) {
                continue;
            }
            let txn = claims(situation, &batch, None);
            let purpose = Purpose::Claim { vips: batch.clone() };
            let told = told(situation, &self.tell_claims(situation, &batch, None), out);
            let (knowing, timeout) = (situation.knowing(), situation.timeout());
            let id = out.commit_told(purpose, (txn, told), knowing, timeout);
            for index in batch {
                self.go(index, Event::ClaimSent(id));
            }
        }
    }

    /// Names successors in `vips/`, or deletes the keys where there are none. From here on such a
    /// VIP is not this node's, whatever comes of it, unless its key is put anew.
    pub(super) fn hand_over(
        &mut self,
        context: &Context<'_>,
        vips: &[(VipIndex, Option<NodeName>)],
        out: &mut Outbox,
    ) {
        let situation = &context.situation;
        if vips.is_empty() {
            return;
        }
        if !context.publication.is_active() && self.has_leftovers(context) {
            // The process before may have held one's address under another's name (interleaving 20).
            let indices: Vec<VipIndex> = vips.iter().map(|(index, _)| *index).collect();
            return self.agenda.crowd_out(&indices);
        }
        let successors: BTreeMap<VipIndex, Option<NodeName>> = vips.iter().cloned().collect();
        let indices: Vec<VipIndex> = successors.keys().copied().collect();
        let session_of = |index: VipIndex| {
            successors[&index].as_ref().and_then(|to| situation.view.session_id(to))
        };
        for batch in batches(&indices, session_of) {
            if !self.has_room_for(&batch, out) {
                continue;
            }
            let with_successors: Vec<(VipIndex, Option<NodeName>)> =
                batch.iter().map(|&index| (index, successors[&index].clone())).collect();
            let txn = hand_overs(situation, &with_successors);
            let told = told(situation, &self.tell_hand_overs(context, &with_successors), out);
            let purpose = Purpose::HandOver { vips: with_successors };
            let (knowing, timeout) = (situation.knowing(), situation.timeout());
            let id = out.commit_told(purpose, (txn, told), knowing, timeout);
            for index in batch {
                let modified = situation.vip_key(index).map(|known| known.modified);
                let vip = &mut self.vips[index];
                vip.barrier = vip.barrier.max(modified.unwrap_or_default());
                self.go(index, Event::HandOverSent(id));
            }
        }
    }

    /// VIPs were handed over, or given free.
    pub(in crate::node) fn report_handed_over(
        own: &Own,
        vips: Vec<(VipIndex, Option<NodeName>)>,
        out: &mut Outbox,
    ) {
        for (index, to) in vips {
            out.report(Report::HandedOver { vip: own.vip(index).name.clone(), to });
        }
    }

    /// Deletes a session that fell silent, and claims this node's own share of its VIPs with it
    /// (rules 3 and 4). Whether there was anything to send.
    pub(in crate::node) fn expire(
        &mut self,
        context: &Context<'_>,
        silent: &Silent,
        out: &mut Outbox,
    ) -> bool {
        let situation = &context.situation;
        let own = situation.own;
        let key = own.keys.session(&silent.node);
        let share = self.share_of(context, silent);
        let mut txn = claims(situation, &share, Some(silent.session));
        if own.mutated(Mutant::ClaimFromTheLate) {
            if share.is_empty() {
                return false;
            }
        } else {
            if !own.mutated(Mutant::ExpireUncompared) {
                txn.compares.push(Compare::ModRevision { key: key.clone(), is: silent.seen });
            }
            txn.success.push(Op::Delete { key: key.clone() });
        }
        if silent.is_listed && !own.mutated(Mutant::ExpiryOutlivesProcess) {
            // No write of a process that was before this one expires whom this one acknowledges.
            let key = own.keys.session(own.name());
            let is = situation.view.session(own.name()).map(|known| known.modified);
            txn.compares.push(Compare::ModRevision { key, is: is.unwrap_or_default() });
        }
        txn.failure.push(Op::Get { key });
        self.about_to_inherit(&share, silent.silence.since);
        let (node, silence) = (silent.node.clone(), Some(silent.silence));
        let purpose = Purpose::Expire { node, silence, vips: share.clone() };
        let told = told(situation, &self.tell_claims(situation, &share, Some(silent)), out);
        let id = out.commit_told(purpose, (txn, told), situation.knowing(), situation.timeout());
        for index in share {
            self.go(index, Event::ClaimSent(id));
        }
        true
    }

    /// The VIPs of a session that this node takes when it expires that session: those for which
    /// it is the most wanted of the others.
    fn share_of(&self, context: &Context<'_>, silent: &Silent) -> Vec<VipIndex> {
        let own = context.situation.own;
        let is_ours = |index: &VipIndex| {
            let mut rank = context.candidates.rank(*index).iter();
            self.vips[*index].state == State::Absent
                && self.may_claim(context, *index)
                && rank.find(|n| **n != silent.node) == Some(own.name())
        };
        let named = context.situation.vips_of(&silent.node, silent.session);
        named.filter(is_ours).take(VIPS_PER_TXN_MAX).collect()
    }

    /// Whether another transaction about VIPs may be sent now. Where not, these VIPs are looked at
    /// again when one of those under way is answered.
    fn has_room_for(&mut self, vips: &[VipIndex], out: &Outbox) -> bool {
        let has_room = out.has_room_for_vips();
        if !has_room {
            self.agenda.crowd_out(vips);
        }
        has_room
    }
}

/// A transaction that names this session as the owner of `vips`, if all is still as seen.
/// `expired` is a session that the same transaction deletes.
fn claims(situation: &Situation<'_>, vips: &[VipIndex], expired: Option<SessionId>) -> Txn {
    let mut txn = Txn::default();
    let own = situation.own;
    let Some(own_session) = situation.session.id() else { return txn };
    compare_session(situation, &mut txn, own.name(), own_session);
    let mut named_sessions = BTreeSet::new();
    for &index in vips {
        let key = compare_vip(situation, &mut txn, index);
        if let Some((node, session)) = situation.named(index)
            && session != own_session
            && Some(session) != expired
        {
            named_sessions.insert((node.clone(), session));
        }
        let value = vip_record(situation, own.name(), own_session);
        txn.success.push(Op::Put { key: key.clone(), value });
        txn.failure.push(Op::Get { key });
    }
    for (node, session) in named_sessions {
        // "Gone" must hold in the store, not in a view of mixed age.
        let key = own.keys.session(&node);
        if !own.mutated(Mutant::ClaimByView) {
            let is_not = session.0;
            txn.compares.push(Compare::CreateRevisionNot { key: key.clone(), is_not });
        }
        txn.failure.push(Op::Get { key });
    }
    txn
}

fn hand_overs(situation: &Situation<'_>, vips: &[(VipIndex, Option<NodeName>)]) -> Txn {
    let mut txn = Txn::default();
    let own = situation.own;
    let Some(own_session) = situation.session.id() else { return txn };
    let uncompared = own.mutated(Mutant::HandOverUncompared);
    if !uncompared {
        compare_session(situation, &mut txn, own.name(), own_session);
    }
    let mut successors = BTreeSet::new();
    for (index, to) in vips {
        let key = match uncompared {
            true => own.keys.vip(&own.vip(*index).name),
            false => compare_vip(situation, &mut txn, *index),
        };
        let successor = to.clone().and_then(|to| Some((situation.view.session_id(&to)?, to)));
        txn.success.push(match &successor {
            Some((session, node)) => {
                let value = vip_record(situation, node, *session);
                Op::Put { key: key.clone(), value }
            }
            None => Op::Delete { key: key.clone() },
        });
        txn.failure.push(Op::Get { key });
        successors.extend(successor);
    }
    for (session, node) in successors {
        compare_session(situation, &mut txn, &node, session);
    }
    txn
}

fn vip_record(situation: &Situation<'_>, node: &NodeName, session: SessionId) -> Vec<u8> {
    encode(&VipRecord { node: node.clone(), session, since_unix_ms: situation.unix_ms })
}

/// `vips/<vip>` must be as it is known; gives its key.
fn compare_vip(situation: &Situation<'_>, txn: &mut Txn, index: VipIndex) -> String {
    let key = situation.own.keys.vip(&situation.own.vip(index).name);
    let is = situation.vip_key(index).map(|known| known.modified).unwrap_or_default();
    txn.compares.push(Compare::ModRevision { key: key.clone(), is });
    key
}

/// The session must be there; where it is not, the answer is to say what is.
pub(in crate::node) fn compare_session(
    situation: &Situation<'_>,
    txn: &mut Txn,
    node: &NodeName,
    session: SessionId,
) {
    let key = situation.own.keys.session(node);
    txn.compares.push(Compare::CreateRevision { key: key.clone(), is: session.0 });
    txn.failure.push(Op::Get { key });
}

/// Cuts `vips` into batches that keep within etcd's limit of operations, counting the
/// sessions that each batch must compare too.
fn batches(
    vips: &[VipIndex],
    session_of: impl Fn(VipIndex) -> Option<SessionId>,
) -> Vec<Vec<VipIndex>> {
    let mut batches: Vec<Vec<VipIndex>> = Vec::new();
    let mut sessions = BTreeSet::new();
    for &index in vips {
        let session = session_of(index);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Revision;

    #[test]
    fn batches_keep_within_the_limits_of_vips_and_of_sessions() {
        let all: Vec<VipIndex> = (0..250).collect();
        let of_one = batches(&all, |_| None);
        assert_eq!(of_one.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        let of_many = batches(&all, |index| Some(SessionId(Revision(index as i64))));
        assert!(of_many.iter().all(|batch| batch.len() <= SESSIONS_PER_TXN_MAX));
        assert_eq!(of_many.concat(), all);
    }
}
