//! What checks say against a VIP, as it stands here (rule 11).

use super::Vips;
use crate::check::LastResort;
use crate::mutant::Mutant;
use crate::node::health::Unwell;
use crate::node::own::VipIndex;
use crate::node::situation::Situation;

impl Vips {
    /// What the checks say against the VIP. That one was not tried yet says nothing against what is here
    /// already, as an earlier process left it (rule 11.2).
    pub(in crate::node) fn unwell(
        &self,
        situation: &Situation<'_>,
        index: VipIndex,
    ) -> Option<Unwell> {
        let unwell = situation.health.unwell(situation.own, index)?;
        let is_unknown_here = unwell.is_waiting && self.vips[index].state.may_be_there();
        (!is_unknown_here).then_some(unwell)
    }

    /// Whether this node would hold the VIP although its checks fail, if nobody else were better.
    pub(in crate::node) fn is_last_resort(
        &self,
        situation: &Situation<'_>,
        index: VipIndex,
    ) -> bool {
        let own = situation.own;
        own.vip(index).last_resort == LastResort::Keep
            && self.blocked(index).is_none()
            && self.unwell(situation, index).is_some_and(|unwell| !unwell.is_waiting)
            && !own.mutated(Mutant::LastResortIgnored)
    }

    /// Those of `vips` of which nothing is here any more, and nobody knows whether they would work.
    pub(in crate::node) fn unknown_now(
        &self,
        situation: &Situation<'_>,
        vips: &[VipIndex],
    ) -> Vec<VipIndex> {
        let is_unknown = |index: &VipIndex| {
            self.unwell(situation, *index).is_some_and(|unwell| unwell.is_waiting)
        };
        vips.iter().copied().filter(is_unknown).collect()
    }
}
