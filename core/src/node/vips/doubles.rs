//! Doubles: what is on this host of a VIP's IPs, and is not turnip's (rule 7.9).
//!
//! It has another prefix length, or is on another interface, as what keepalived was configured with, or
//! what a network manager puts there. turnip takes away nothing that it has not put there. So a VIP
//! with a double is not taken: it would be silenced with the fence's `held`, and let pass when it moves.
//! One that is held already stays, for two addresses on one host are one owner; when it moves, the fence
//! silences its double, for the fence goes by the IP.

use std::collections::{BTreeMap, BTreeSet};

use super::Vips;
use crate::kernel::PresentAddress;
use crate::node::outbox::Outbox;
use crate::node::own::{Own, VipIndex};
use crate::report::Report;

/// The doubles of each VIP, in words.
pub(super) fn in_words(
    found: BTreeMap<VipIndex, Vec<&PresentAddress>>,
) -> BTreeMap<VipIndex, String> {
    let one = |double: &PresentAddress| format!("{} on {}", double.address, double.interface);
    let all = |doubles: Vec<&PresentAddress>| {
        let doubles: Vec<String> = doubles.into_iter().map(one).collect();
        let verb = if doubles.len() == 1 { "is" } else { "are" };
        format!("{} {verb} not turnip's doing", doubles.join(" and "))
    };
    found.into_iter().map(|(index, doubles)| (index, all(doubles))).collect()
}

impl Vips {
    /// The double of the VIP, while that keeps it from being held: where it is held, it stays.
    pub(super) fn hindering_double(&self, index: VipIndex) -> Option<&str> {
        let double = self.doubles.get(&index)?;
        (!self.vips[index].state.may_be_there()).then_some(double.as_str())
    }

    /// The double of a VIP that is here all the same.
    pub(in crate::node) fn double_beside(&self, index: VipIndex) -> Option<&str> {
        let double = self.doubles.get(&index)?;
        self.vips[index].state.may_be_there().then_some(double.as_str())
    }

    /// The first double that there is: without the fence it would answer.
    pub(in crate::node) fn any_double(&self) -> Option<&str> {
        self.doubles.values().next().map(String::as_str)
    }

    /// Tells of those that differ from those `before`; says which VIPs they are of.
    pub(super) fn doubles_changed(
        &mut self,
        own: &Own,
        before: &BTreeMap<VipIndex, String>,
        out: &mut Outbox,
    ) -> Vec<VipIndex> {
        let differs = |index: &VipIndex| before.get(index) != self.doubles.get(index);
        let all = before.keys().chain(self.doubles.keys()).copied();
        let changed: BTreeSet<VipIndex> = all.filter(differs).collect();
        for &index in &changed {
            self.report_double(own, index, out);
        }
        self.agenda.mark_dirty(changed.iter().copied());
        changed.into_iter().collect()
    }

    /// Those of `vips` that are gone from here, and have a double: they are blocked from now on.
    pub(in crate::node) fn hindered_now(
        &self,
        own: &Own,
        vips: &[VipIndex],
        out: &mut Outbox,
    ) -> Vec<VipIndex> {
        let is_hindered = |index: &VipIndex| self.hindering_double(*index).is_some();
        let hindered: Vec<VipIndex> = vips.iter().copied().filter(is_hindered).collect();
        for &index in &hindered {
            self.report_double(own, index, out);
        }
        hindered
    }

    fn report_double(&self, own: &Own, index: VipIndex, out: &mut Outbox) {
        let vip = own.vip(index).name.clone();
        out.report(match self.doubles.get(&index) {
            Some(why) => {
                let held = self.vips[index].state.may_be_there();
                Report::Double { vip, why: why.clone(), held }
            }
            None => Report::DoubleGone { vip },
        });
    }
}
