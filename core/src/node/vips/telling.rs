//! What a transaction about owners says of itself in `history/`.

use super::vip::{Ineligible, Leaving};
use super::{Context, Vips};
use crate::history::{self, HistoryRecord, Transition, Why};
use crate::name::NodeName;
use crate::node::outbox::Outbox;
use crate::node::own::VipIndex;
use crate::node::peers::Silent;
use crate::node::situation::Situation;
use crate::records::encode;
use crate::store::Op;
use crate::time::Instant;

impl Vips {
    /// What claims of `vips` change, and the end of a session with them. A key that is only put anew
    /// changes nothing.
    pub(super) fn tell_claims(
        &self,
        situation: &Situation<'_>,
        vips: &[VipIndex],
        expired: Option<&Silent>,
    ) -> HistoryRecord {
        let mut record = HistoryRecord::new(situation.unix_ms);
        let own_session = situation.session.id();
        let silent_ms =
            |silent: &Silent| history::millis(situation.now.since(silent.silence.since));
        for &index in vips {
            let named = situation.named(index);
            if named.map(|(_, session)| session) == own_session {
                continue;
            }
            let from = named.map(|(node, _)| node.clone());
            let ended = expired.filter(|silent| named.map(|(_, id)| id) == Some(silent.session));
            let (why, after_ms) = match ended {
                Some(silent) => (Why::Silent, silent_ms(silent)),
                None => (Why::Free, since(self.vips[index].free_since, situation.now)),
            };
            let to = Some(situation.own.name().clone());
            let what = Transition { vips: Vec::new(), from, to, why, detail: None, after_ms };
            record.add(situation.own.vip(index).name.clone(), what);
        }
        if let Some(silent) = expired.filter(|_| record.transitions.is_empty()) {
            // Others claim what it had: why it is free is told here.
            record.transitions.push(Transition {
                vips: Vec::new(),
                from: Some(silent.node.clone()),
                to: None,
                why: Why::Silent,
                detail: None,
                after_ms: silent_ms(silent),
            });
        }
        record
    }

    /// What hand-overs change.
    pub(super) fn tell_hand_overs(
        &self,
        context: &Context<'_>,
        vips: &[(VipIndex, Option<NodeName>)],
    ) -> HistoryRecord {
        let situation = &context.situation;
        let mut record = HistoryRecord::new(situation.unix_ms);
        for (index, to) in vips {
            let to = to.clone().filter(|to| situation.view.session_id(to).is_some());
            let (why, detail) = self.why_left(context, *index, to.as_ref());
            let after_ms = since(self.vips[*index].given_up_at, situation.now);
            let from = Some(situation.own.name().clone());
            let what = Transition { vips: Vec::new(), from, to, why, detail, after_ms };
            record.add(situation.own.vip(*index).name.clone(), what);
        }
        record
    }

    fn why_left(
        &self,
        context: &Context<'_>,
        index: VipIndex,
        to: Option<&NodeName>,
    ) -> (Why, Option<String>) {
        let situation = &context.situation;
        match self.ineligible(situation, context.candidates, index) {
            Some(Ineligible::Ending(_)) => (Why::Stopped, None),
            Some(Ineligible::Drained) => (Why::Drained, None),
            // One word for all of these: an older `turnip history` would not know another.
            Some(
                Ineligible::Blocked(why) | Ineligible::Unwell(why) | Ineligible::NotNamed(why),
            ) => (Why::Blocked, Some(history::detail(why))),
            Some(Ineligible::Retiring) => (Why::NotConfigured, None),
            Some(Ineligible::Conflict(why)) => (Why::Conflict, Some(history::detail(why))),
            None => {
                let pin = situation.view.pinned(&situation.own.vip(index).name);
                let is_pinned = pin.is_some_and(|pin| Some(&pin.node) == to);
                (if is_pinned { Why::Pinned } else { Why::Preferred }, None)
            }
        }
    }

    /// From here on it is not held, and is about to go: the first time counts.
    pub(super) fn given_up(&mut self, situation: &Situation<'_>, index: VipIndex) {
        // What was taken away for want of time or to be put back was not given up.
        let is_returning = matches!(self.vips[index].leaving, Some(Leaving::NeedsReinstall));
        if situation.owned(index).is_some() && !is_returning {
            self.vips[index].given_up_at.get_or_insert(situation.now);
        }
    }
}

/// The operation that tells `record`, in this node's next slot; none where nothing is to be told.
pub(in crate::node) fn told(
    situation: &Situation<'_>,
    record: &HistoryRecord,
    out: &mut Outbox,
) -> Option<Op> {
    if record.transitions.is_empty() {
        return None;
    }
    let own = situation.own;
    let slot = out.next_history_slot(situation.view.newest_history_of(own.name()));
    Some(Op::Put { key: own.keys.history(own.name(), slot), value: encode(record) })
}

fn since(at: Option<Instant>, now: Instant) -> u64 {
    history::millis(at.map_or_else(Default::default, |at| now.since(at)))
}
