//! The subnets of IPv6 VIPs, and that they are on-link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::IpNet;
use nix::errno::Errno;

use super::address::Slot;
use super::prefix_route::{PrefixRoute, Subnet};
use super::refusal::Refusal;
use super::route::Route;
use super::routes::Routes;

/// Which subnets VIPs have, and to which of these there may be a route of turnip's.
#[derive(Default)]
pub(super) struct Subnets {
    vips: BTreeMap<Subnet, BTreeSet<Ipv6Addr>>,
    routed: BTreeSet<Subnet>,
}

impl Subnets {
    /// An address of turnip's was found there. An earlier process may have made a route.
    pub fn found(&mut self, slot: Slot) {
        let subnet = self.add(slot);
        self.routed.extend(subnet);
    }

    /// Addresses were put there for so many seconds: their subnets are on-link for as long.
    pub fn keep_on_link(
        &mut self,
        (route, routes): (&mut Route, &Routes),
        slots: impl IntoIterator<Item = Slot>,
        lifetime_secs: u32,
    ) {
        let (needy, needless) = self.put(slots, |subnet| routes.is_on_link(subnet));
        let needy = routes_to(needy, routes);
        if !needy.is_empty() {
            match route.put_routes(&needy, lifetime_secs) {
                Ok(answers) => complain(&needy, &answers, Errno::EEXIST, "cannot make"),
                Err(error) => tracing::debug!(%error, "no routes to the subnets of VIPs"),
            }
        }
        delete(route, &routes_to(needless, routes));
    }

    /// Addresses were taken away: so are the routes that were there for them.
    pub fn let_go(
        &mut self,
        (route, routes): (&mut Route, &Routes),
        slots: impl IntoIterator<Item = Slot>,
    ) {
        let empty = self.gone(slots);
        delete(route, &routes_to(empty, routes));
    }

    /// Addresses were put there, or renewed. Gives the subnets that need a route of turnip's, and
    /// those that have one and need it no longer.
    fn put(
        &mut self,
        slots: impl IntoIterator<Item = Slot>,
        is_on_link: impl Fn(Subnet) -> bool,
    ) -> (Vec<Subnet>, Vec<Subnet>) {
        let subnets: BTreeSet<Subnet> =
            slots.into_iter().filter_map(|slot| self.add(slot)).collect();
        let (on_link, needy): (Vec<_>, Vec<_>) =
            subnets.into_iter().partition(|subnet| is_on_link(*subnet));
        self.routed.extend(&needy);
        let needless = on_link.into_iter().filter(|subnet| self.routed.remove(subnet)).collect();
        (needy, needless)
    }

    /// Addresses are gone. Gives the subnets whose route goes with them.
    fn gone(&mut self, slots: impl IntoIterator<Item = Slot>) -> Vec<Subnet> {
        let mut empty = Vec::new();
        for slot in slots {
            let (Some(subnet), IpNet::V6(net)) = (Subnet::of(slot), slot.address) else { continue };
            let Some(vips) = self.vips.get_mut(&subnet) else { continue };
            vips.remove(&net.addr());
            if vips.is_empty() {
                self.vips.remove(&subnet);
                empty.push(subnet);
            }
        }
        empty.retain(|subnet| self.routed.remove(subnet));
        empty
    }

    fn add(&mut self, slot: Slot) -> Option<Subnet> {
        let (Some(subnet), IpNet::V6(net)) = (Subnet::of(slot), slot.address) else { return None };
        self.vips.entry(subnet).or_default().insert(net.addr());
        Some(subnet)
    }
}

fn routes_to(subnets: Vec<Subnet>, routes: &Routes) -> Vec<PrefixRoute> {
    let route = |subnet: Subnet| PrefixRoute { subnet, table: routes.table(subnet.index) };
    subnets.into_iter().map(route).collect()
}

fn delete(route: &mut Route, gone: &[PrefixRoute]) {
    if gone.is_empty() {
        return;
    }
    match route.delete_routes(gone) {
        Ok(answers) => complain(gone, &answers, Errno::ESRCH, "cannot take away"),
        Err(error) => tracing::debug!(%error, "routes to the subnets of VIPs stay for now"),
    }
}

/// Tells of routes with which something other than `usual` went wrong.
fn complain(
    routes: &[PrefixRoute],
    answers: &[Result<(), Refusal>],
    usual: Errno,
    what: &'static str,
) {
    for (route, answer) in routes.iter().zip(answers) {
        if let Err(refusal) = answer
            && Errno::from_raw(refusal.errno) != usual
        {
            let Subnet { index, net } = route.subnet;
            tracing::warn!(interface = index, subnet = %net, %refusal, "{what} the route of a VIP");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(address: &str) -> Slot {
        Slot { index: 3, address: address.parse().unwrap() }
    }

    fn subnet(net: &str) -> Subnet {
        Subnet { index: 3, net: net.parse().unwrap() }
    }

    #[test]
    fn a_subnet_that_is_not_on_link_has_a_route_until_its_last_vip_is_gone() {
        let mut subnets = Subnets::default();
        let vips = [slot("fd00:1::50/64"), slot("fd00:1::51/64"), slot("fd00:2::1/64")];
        let (needy, needless) = subnets.put(vips, |_| false);
        assert_eq!((needy, needless), (vec![subnet("fd00:1::/64"), subnet("fd00:2::/64")], vec![]));
        assert_eq!(subnets.gone([vips[0]]), []);
        assert_eq!(
            subnets.gone([vips[1], vips[2]]),
            [subnet("fd00:1::/64"), subnet("fd00:2::/64")]
        );
        assert_eq!(subnets.gone(vips), []);
    }

    #[test]
    fn a_subnet_that_comes_to_be_on_link_otherwise_loses_its_route_once() {
        let mut subnets = Subnets::default();
        let vip = slot("fd00:1::50/64");
        assert_eq!(subnets.put([vip], |_| true), (vec![], vec![]));
        assert_eq!(subnets.put([vip], |_| false), (vec![subnet("fd00:1::/64")], vec![]));
        assert_eq!(subnets.put([vip], |_| true), (vec![], vec![subnet("fd00:1::/64")]));
        assert_eq!(subnets.put([vip], |_| true), (vec![], vec![]));
        assert_eq!(subnets.gone([vip]), []);
    }

    #[test]
    fn what_an_earlier_process_left_may_have_a_route() {
        let mut subnets = Subnets::default();
        subnets.found(slot("fd00:1::50/64"));
        assert_eq!(subnets.gone([slot("fd00:1::50/64")]), [subnet("fd00:1::/64")]);
    }

    #[test]
    fn addresses_without_a_subnet_and_of_ipv4_need_no_route() {
        let mut subnets = Subnets::default();
        let vips = [slot("fd00:1::50/128"), slot("10.0.0.50/24")];
        assert_eq!(subnets.put(vips, |_| false), (vec![], vec![]));
        assert_eq!(subnets.gone(vips), []);
    }
}
