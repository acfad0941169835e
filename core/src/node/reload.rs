//! Taking another configuration while the node runs (rule 14).
//!
//! The node goes by *today's* configuration ([`Own::config`]) and, while the new one does not hold in
//! full, towards a *wanted* one. Today's changes VIP by VIP: one whose addresses and interface stay is
//! never touched; any other goes first, and gives way when the kernel has acknowledged that. So at
//! every instant what is published, fenced and held is of one configuration, in which no address is
//! two VIPs'.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Node;
use super::own::{Own, VipIndex};
use super::situation::context;
use crate::config::{NodeConfig, VipConfig, is_link_local};
use crate::name::VipName;
use crate::report::Report;
use crate::time::Instant;

/// How a VIP, as it is today, gives way to what is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Retiring {
    /// It is put here anew, otherwise: no other name has one of its IPs, before or after.
    InPlace,
    /// It is no VIP any more, or an IP moves to or from another name: who still has it as it is today
    /// may go on with it.
    PassedOn,
}

impl Retiring {
    /// Why it is not to be here, as others and the operator are told.
    pub(super) const WHY: &str = "this node's configuration has changed";
}

/// Where each VIP has gone when the configuration changed: those that are gone, or are defined
/// otherwise, are nowhere.
#[derive(Clone, Debug)]
pub(super) struct Moved(Vec<Option<VipIndex>>);

impl Moved {
    fn between(before: &Own, after: &Own) -> Self {
        let stays = |index: VipIndex| {
            let vip = before.vip(index);
            let to = after.index_of(&vip.name)?;
            vip.is_where(after.vip(to)).then_some(to)
        };
        Moved((0..before.vip_count()).map(stays).collect())
    }

    pub(super) fn to(&self, index: VipIndex) -> Option<VipIndex> {
        self.0.get(index).copied().flatten()
    }

    pub(super) fn all<C: FromIterator<VipIndex>>(
        &self,
        vips: impl IntoIterator<Item = VipIndex>,
    ) -> C {
        vips.into_iter().filter_map(|index| self.to(index)).collect()
    }

    pub(super) fn map<T>(&self, of: BTreeMap<VipIndex, T>) -> BTreeMap<VipIndex, T> {
        of.into_iter().filter_map(|(index, what)| Some((self.to(index)?, what))).collect()
    }

    /// The old place of the VIP at a new one.
    fn from(&self) -> BTreeMap<VipIndex, VipIndex> {
        let known = self.0.iter().enumerate().filter_map(|(old, new)| Some(((*new)?, old)));
        known.collect()
    }
}

/// One step towards what is wanted.
pub(super) struct Step {
    pub(super) before: Arc<Own>,
    pub(super) after: Arc<Own>,
    pub(super) moved: Moved,
    /// By the new places.
    pub(super) from: BTreeMap<VipIndex, VipIndex>,
}

impl Step {
    pub(super) fn new(before: Arc<Own>, after: Own) -> Self {
        let moved = Moved::between(&before, &after);
        Step { from: moved.from(), before, after: Arc::new(after), moved }
    }

    /// Whether other addresses may be put on interfaces than before.
    pub(super) fn is_about_addresses(&self) -> bool {
        self.from.len() != self.after.vip_count() || self.from.len() != self.before.vip_count()
    }
}

/// An IP, and on which interface where every link may have it.
type Ip = (IpAddr, Option<Arc<str>>);

fn ips(vip: &VipConfig) -> impl Iterator<Item = Ip> + '_ {
    vip.addresses.iter().map(|one| {
        let ip = one.ip();
        (ip, is_link_local(ip).then(|| Arc::clone(one.link())))
    })
}

fn names_of(vips: &[VipConfig]) -> BTreeMap<Ip, &VipName> {
    vips.iter().flat_map(|vip| ips(vip).map(move |ip| (ip, &vip.name))).collect()
}

/// How each of today's VIPs has to give way to what is wanted.
pub(super) fn retiring(today: &[VipConfig], wanted: &[VipConfig]) -> BTreeMap<VipIndex, Retiring> {
    let new: BTreeMap<&VipName, &VipConfig> = wanted.iter().map(|vip| (&vip.name, vip)).collect();
    let (had, has) = (names_of(today), names_of(wanted));
    let way = |vip: &VipConfig| match new.get(&vip.name) {
        Some(new) if vip.is_where(new) => None,
        None => Some(Retiring::PassedOn),
        Some(new) => {
            let is_others = |names: &BTreeMap<Ip, &VipName>, ip: Ip| {
                names.get(&ip).is_some_and(|name| **name != vip.name)
            };
            let moves =
                ips(vip).any(|ip| is_others(&has, ip)) || ips(new).any(|ip| is_others(&had, ip));
            Some(if moves { Retiring::PassedOn } else { Retiring::InPlace })
        }
    };
    let ways = today.iter().enumerate().filter_map(|(index, vip)| Some((index, way(vip)?)));
    ways.collect()
}

/// What of the wanted VIPs can be today's: all whose addresses are no other's, once those of today's
/// that are `clear` have given way.
pub(super) fn next(
    own: &Own,
    wanted: &[VipConfig],
    is_clear: impl Fn(VipIndex) -> bool,
) -> Vec<VipConfig> {
    let today: BTreeMap<&VipName, &VipConfig> =
        own.config.vips.iter().map(|vip| (&vip.name, vip)).collect();
    let stays = |index: &VipIndex| own.retiring(*index).is_some() && !is_clear(*index);
    let kept = (0..own.vip_count()).filter(stays).map(|index| own.vip(index));
    let mut kept: BTreeMap<&VipName, &VipConfig> = kept.map(|vip| (&vip.name, vip)).collect();
    let mut waits: BTreeSet<&VipName> = BTreeSet::new();
    loop {
        let taken: BTreeMap<Ip, &VipName> =
            kept.values().flat_map(|vip| ips(vip).map(|ip| (ip, &vip.name))).collect();
        let is_taken =
            |vip: &VipConfig| ips(vip).any(|ip| taken.get(&ip).is_some_and(|n| **n != vip.name));
        let new = wanted.iter().filter(|vip| !kept.contains_key(&vip.name));
        let later: Vec<_> = new.filter(|vip| is_taken(vip) && !waits.contains(&vip.name)).collect();
        if later.is_empty() {
            break;
        }
        for vip in later {
            // What gives way for it is not here, and may as well stay as it was for a while.
            kept.extend(today.get(&vip.name).map(|vip| (&vip.name, *vip)));
            waits.insert(&vip.name);
        }
    }
    let new =
        wanted.iter().filter(|vip| !kept.contains_key(&vip.name) && !waits.contains(&vip.name));
    kept.values().copied().chain(new).cloned().collect()
}

impl Own {
    /// The same on the way to that configuration. What needs no way holds at once; what belongs to the
    /// session stays as it is.
    pub(super) fn towards(&self, wanted: NodeConfig) -> Own {
        let NodeConfig { weight, announce_every, checks, vips, .. } = wanted;
        let mut own = self.clone();
        (own.config.weight, own.config.announce_every) = (weight, announce_every);
        own.config.checks = checks;
        own.want(vips);
        own
    }
}

impl Node {
    /// Another configuration is wanted.
    pub(super) fn configured(&mut self, wanted: NodeConfig, now: Instant) {
        if self.shutdown.has_begun() {
            return;
        }
        let after = self.own.towards(wanted);
        self.take(after, now);
        self.report_reconfigured();
    }

    /// What of the wanted configuration can be today's by now becomes so.
    pub(super) fn adopt(&mut self, now: Instant) {
        let Some(wanted) = self.own.wanted() else { return };
        let context = context!(self, now);
        self.host.vips.end_tenures_of_retiring(&context, &mut self.out);
        let next = next(&self.own, wanted, |index| self.host.vips.is_clear(&context, index));
        let after = self.own.with_vips(next);
        if after.config.vips == self.own.config.vips {
            return;
        }
        self.take(after, now);
        self.report_reconfigured();
        // What is decided next is decided by it.
        self.heed_followed(now);
        self.review(now);
    }

    /// Goes by that configuration from now on.
    fn take(&mut self, after: Own, now: Instant) {
        let step = Step::new(Arc::clone(&self.own), after);
        self.out.moved(&step.moved);
        self.host.reconfigured(&step, &self.cluster.view, &mut self.out, now);
        self.publication.reconfigured(&step, &self.cluster.view);
        self.candidates.reconfigured(&step);
        self.health.reconfigured(&step);
        self.following.reconfigured(&step);
        self.own = step.after;
        // Also a key that another VIP follows already is told once more only when all is followed anew.
        if self.following.has_unread() {
            self.cluster.follow(&self.own, false, &mut self.out, now);
        }
        // What names this session, and is no VIP here any more, is given free.
        self.own_standing_changed();
    }

    fn report_reconfigured(&mut self) {
        let own = &self.own;
        let retiring = (0..own.vip_count()).filter(|index| own.retiring(*index).is_some());
        let waits_for = retiring.map(|index| own.vip(index).name.clone()).collect();
        self.out.report(Report::Reconfigured { waits_for });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VipAddress;
    use crate::node::testing;

    fn vip(name: &str, interface: &str, addresses: &str) -> VipConfig {
        let nets = addresses.split(' ').map(|one| one.parse().unwrap());
        let mut vip = testing::own_with_vips(1).config.vips.remove(0);
        (vip.name, vip.addresses) = (name.parse().unwrap(), VipAddress::all_on(interface, nets));
        vip
    }

    fn named(vips: &[VipConfig]) -> Vec<String> {
        let one = |vip: &VipConfig| {
            let addresses: Vec<String> =
                vip.addresses.iter().map(|one| one.net.to_string()).collect();
            format!("{}={}", vip.name, addresses.join("+"))
        };
        let mut all: Vec<String> = vips.iter().map(one).collect();
        all.sort();
        all
    }

    fn own(today: Vec<VipConfig>, wanted: Vec<VipConfig>) -> Own {
        let mut config = testing::own_with_vips(0).config;
        config.vips = today;
        let own = Own::new(config.clone());
        own.towards(NodeConfig { vips: wanted, ..config })
    }

    /// Rule 14.2.
    #[test]
    fn what_keeps_its_ips_is_put_anew_here_and_what_moves_between_names_is_passed_on() {
        let today = [
            vip("a", "eth0", "10.0.0.1/24"),
            vip("b", "eth0", "10.0.0.2/24"),
            vip("c", "eth0", "10.0.0.3/24 10.0.0.4/24"),
            vip("d", "eth0", "10.0.0.5/24"),
            vip("e", "eth0", "10.0.0.6/24"),
        ];
        let wanted = [
            vip("a", "eth0", "10.0.0.1/24"),
            vip("b", "eth1", "10.0.0.2/24"),
            vip("c", "eth0", "10.0.0.3/24"),
            vip("d", "eth0", "10.0.0.5/24 10.0.0.4/24"),
            vip("f", "eth0", "10.0.0.7/24"),
        ];
        let expected = [
            (1, Retiring::InPlace),
            (2, Retiring::PassedOn),
            (3, Retiring::PassedOn),
            (4, Retiring::PassedOn),
        ];
        assert_eq!(retiring(&today, &wanted), expected.into());
    }

    /// Rule 14.2.
    #[test]
    fn an_address_is_never_two_vips_while_the_configuration_changes() {
        let exchanged = || {
            own(
                vec![vip("a", "eth0", "10.0.0.1/32"), vip("b", "eth0", "10.0.0.2/32")],
                vec![vip("a", "eth0", "10.0.0.2/32"), vip("b", "eth0", "10.0.0.1/32")],
            )
        };
        let own = exchanged();
        let wanted = own.wanted().unwrap();
        let at = |clear: &[VipIndex]| named(&next(&own, wanted, |index| clear.contains(&index)));
        assert_eq!(at(&[]), ["a=10.0.0.1/32", "b=10.0.0.2/32"]);
        assert_eq!(at(&[0]), ["a=10.0.0.1/32", "b=10.0.0.2/32"], "b has it still");
        assert_eq!(at(&[0, 1]), ["a=10.0.0.2/32", "b=10.0.0.1/32"]);
    }

    /// Rule 14.2.
    #[test]
    fn who_waits_for_one_that_waits_waits_too_and_the_rest_does_not() {
        let today = vec![
            vip("a", "eth0", "10.0.0.1/32"),
            vip("b", "eth0", "10.0.0.2/32"),
            vip("c", "eth0", "10.0.0.3/32"),
        ];
        // a takes what b has, u what a has; c is renamed, and w is new.
        let wanted = vec![
            vip("a", "eth0", "10.0.0.2/32"),
            vip("b", "eth0", "10.0.0.9/32"),
            vip("u", "eth0", "10.0.0.1/32"),
            vip("v", "eth0", "10.0.0.3/32"),
            vip("w", "eth0", "10.0.0.4/32"),
        ];
        let own = own(today, wanted);
        let next = next(&own, own.wanted().unwrap(), |index| index != 1);
        assert_eq!(
            named(&next),
            ["a=10.0.0.1/32", "b=10.0.0.2/32", "v=10.0.0.3/32", "w=10.0.0.4/32"]
        );
    }

    #[test]
    fn a_gateways_link_local_address_is_another_one_on_each_bridge() {
        let today = [vip("a", "br1", "fe80::1/64"), vip("b", "br2", "fe80::1/64")];
        let wanted = [vip("a", "br1", "fe80::1/64"), vip("b", "br3", "fe80::1/64")];
        assert_eq!(retiring(&today, &wanted), [(1, Retiring::InPlace)].into());
    }
}
