//! What checks say against a VIP, as it stands here (rule 11), and the key that it follows (rule 13).

use super::Vips;
use crate::check::LastResort;
use crate::config::Absent;
use crate::mutant::Mutant;
use crate::node::following::Says;
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

    /// Why the VIP is not for this node by the key that it follows. That the key was not read yet says nothing
    /// against what is here already; and where it names nobody, the owner may be asked to keep the VIP (rule 13.4).
    pub(in crate::node) fn not_named(
        &self,
        situation: &Situation<'_>,
        index: VipIndex,
    ) -> Option<Unwell> {
        let (why, is_waiting) = match situation.following.says(index) {
            Says::Here => return None,
            Says::Nothing(_) if situation.owned(index).is_some() && keeps(situation, index) => {
                return None;
            }
            Says::Unread(why) => (why, true),
            Says::Nothing(why) | Says::Elsewhere(why) => (why, false),
        };
        let is_unknown_here = is_waiting && self.vips[index].state.may_be_there();
        (!is_unknown_here).then(|| Unwell { why: why.clone(), is_waiting })
    }

    /// Whether the VIP is this node's for as long as nobody is named, and it is not known whether somebody is
    /// (rule 13.4).
    pub(super) fn may_be_the_last(&self, situation: &Situation<'_>, index: VipIndex) -> bool {
        keeps(situation, index) && matches!(situation.following.says(index), Says::Unread(_))
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
            && self.not_named(situation, index).is_none()
            && !own.mutated(Mutant::LastResortIgnored)
    }

    /// Those of `vips` of which nothing is here any more, and nobody knows whether they would work.
    pub(in crate::node) fn unknown_now(
        &self,
        situation: &Situation<'_>,
        vips: &[VipIndex],
    ) -> Vec<VipIndex> {
        let is_unknown = |index: &VipIndex| {
            let unwell = self.unwell(situation, *index);
            unwell.or_else(|| self.not_named(situation, *index)).is_some_and(|it| it.is_waiting)
        };
        vips.iter().copied().filter(is_unknown).collect()
    }
}

/// Whether the owner keeps the VIP while its key names nobody.
fn keeps(situation: &Situation<'_>, index: VipIndex) -> bool {
    situation.own.vip(index).policy.follow().is_some_and(|it| it.absent == Absent::Last)
}
