//! Interfaces of turnip's own, each with a virtual hardware address: where VIPs live that have one.
//!
//! Neighbours then need not learn another hardware address when the VIP moves; only switches learn
//! another port. The interface is a macvlan on one of the host's. It is made before the VIP's first
//! address is put there, and removed when the last one is gone. In its alias it says whose it is: one
//! that a turnip which was killed has left is removed as soon as it has no address of turnip's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::MacVlanMode;
use rtnetlink::{LinkMacVlan, LinkUnspec};
use turnip_core::{ClusterName, KernelError, Mac, VipName, virtual_link_name, virtual_mac};

use super::address::{self, LinkState};
use super::neighbourhood::Neighbourhood;
use super::route::Route;
use super::setting::Setting;

/// What the alias of each begins with.
pub(super) const ALIAS: &str = "turnip: ";
/// Replies only for addresses of its own, where others of the host would reply for them too.
const ARP_IGNORE: (u16, u32) = (19, 1);
/// A packet may come in although its answer leaves by another interface.
const RP_FILTER_LOOSE: (u16, u32) = (8, 2);
/// A packet is dropped where its answer would leave by another interface.
const RP_FILTER_STRICT: u32 = 1;

/// An interface for a VIP's addresses on one of the host's interfaces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualLink {
    /// What it is called.
    pub name: Arc<str>,
    /// The host's interface that it is on.
    pub parent: Arc<str>,
    /// The VIP's hardware address.
    pub mac: Mac,
    alias: String,
}

impl VirtualLink {
    /// That of a VIP on the interface `parent`.
    pub fn new(cluster: &ClusterName, vip: &VipName, parent: &Arc<str>) -> Self {
        VirtualLink {
            name: virtual_link_name(cluster, vip, parent),
            parent: Arc::clone(parent),
            mac: virtual_mac(cluster, vip),
            alias: format!("{ALIAS}VIP {vip} of the cluster {cluster}, on {parent}"),
        }
    }
}

/// Those that may be made. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct KnownLinks(Arc<Mutex<BTreeMap<Arc<str>, VirtualLink>>>);

impl KnownLinks {
    pub fn new(all: Vec<VirtualLink>) -> Self {
        let known = KnownLinks::default();
        known.extend(all);
        known
    }

    /// These may be made too. Each name is that of one VIP on one interface, so those of an earlier
    /// configuration stand in nobody's way, and their VIPs may be there for a while.
    pub fn extend(&self, all: Vec<VirtualLink>) {
        self.lock().extend(all.into_iter().map(|link| (Arc::clone(&link.name), link)));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, VirtualLink>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them.
pub(super) struct VirtualLinks {
    known: KnownLinks,
    /// The indices of those that there are.
    there: BTreeSet<u32>,
    /// That neighbours learn no other hardware address for what is on these.
    of_parents: [Setting; 2],
    neighbourhood: Neighbourhood,
}

impl VirtualLinks {
    pub fn new(known: KnownLinks, of_parents: [Setting; 2], neighbourhood: Neighbourhood) -> Self {
        VirtualLinks { known, there: BTreeSet::new(), of_parents, neighbourhood }
    }

    /// Makes those of these interfaces that are configured and missing. Says why one cannot be.
    pub fn make<'a>(
        &mut self,
        route: &mut Route,
        interfaces: impl IntoIterator<Item = &'a Arc<str>>,
    ) -> BTreeMap<Arc<str>, KernelError> {
        let mut failed = BTreeMap::new();
        let known = self.known.lock().clone();
        if known.is_empty() {
            return failed;
        }
        for name in interfaces.into_iter().collect::<BTreeSet<_>>() {
            let Some(link) = known.get(name) else { continue };
            let existing = if_nametoindex(&**name).ok();
            if existing.is_some_and(|index| self.there.contains(&index)) {
                continue;
            }
            match make(route, link, existing) {
                Ok((index, parent)) => {
                    self.there.insert(index);
                    for setting in &mut self.of_parents {
                        setting.keep(route, parent);
                    }
                    // Before it is heard of: what is on it is announced on it.
                    self.neighbourhood.tell();
                }
                Err(error) => {
                    failed.insert(Arc::clone(name), error);
                }
            }
        }
        failed
    }

    /// These interfaces are there. Those of turnip's that have no address of its own go.
    pub fn found(
        &mut self,
        route: &mut Route,
        links: &BTreeMap<u32, LinkState>,
        has_addresses: impl Fn(u32) -> bool,
    ) {
        // A process that was killed while it made one had not yet said whose it is.
        let known = self.known.lock();
        let is_own = |state: &&LinkState| state.is_turnips || known.contains_key(&state.name);
        self.there = links.values().filter(is_own).map(|state| state.index).collect();
        drop(known);
        self.of_parents.iter_mut().for_each(Setting::look_again);
        self.remove_unused(route, has_addresses);
    }

    /// Addresses have gone from these interfaces: those of turnip's that have none left go as well.
    pub fn remove_unused(&mut self, route: &mut Route, has_addresses: impl Fn(u32) -> bool) {
        let unused: Vec<u32> =
            self.there.iter().copied().filter(|index| !has_addresses(*index)).collect();
        if unused.is_empty() {
            return;
        }
        match remove(route, &unused) {
            Ok(gone) => {
                gone.iter().for_each(|index| {
                    self.there.remove(index);
                });
                self.neighbourhood.tell();
            }
            Err(error) => {
                tracing::warn!(%error, "an interface with a virtual hardware address stays for now")
            }
        }
    }

    /// Puts back what was set of the host's interfaces.
    pub fn put_back(&mut self, route: &mut Route) {
        if self.there.is_empty() {
            for setting in &mut self.of_parents {
                setting.put_back_and_tell(route, |_| false);
            }
        }
    }
}

/// Makes the interface, if it does not exist, and gives its index and that of its parent.
fn make(
    route: &mut Route,
    link: &VirtualLink,
    existing: Option<u32>,
) -> Result<(u32, u32), KernelError> {
    let refused = |why: String| {
        KernelError::Refused(format!(
            "cannot make the interface {} on {}: {why}",
            link.name, link.parent
        ))
    };
    let parent = route.index_of(&link.parent).map_err(|error| refused(error.to_string()))?;
    let parent = parent.ok_or(KernelError::NoInterface)?;
    if let Some(index) = existing {
        let set_up = set_up(route, link, index).map_err(|error| refused(error.to_string()));
        return set_up.map(|()| (index, parent));
    }
    // Private: what else is on the parent is reached as before, by the parent.
    let message = LinkMacVlan::new(&link.name, parent, MacVlanMode::Private)
        .address(link.mac.0.to_vec())
        .build();
    request(route, RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        .map_err(|error| refused(error.to_string()))?;
    let index = if_nametoindex(&*link.name).map_err(|error| refused(error.to_string()))?;
    let set_up = set_up(route, link, index);
    if let Err(error) = set_up {
        let _ = remove(route, &[index]);
        return Err(refused(error.to_string()));
    }
    tracing::debug!(interface = %link.name, parent = %link.parent, mac = %link.mac,
        "made an interface with a virtual hardware address");
    Ok((index, parent))
}

/// Says whose the interface is, which the kernel takes only of one that exists, and sets it up.
fn set_up(route: &mut Route, link: &VirtualLink, index: u32) -> io::Result<()> {
    let named = LinkUnspec::new_with_index(index).alias(link.alias.clone()).build();
    request(route, RouteNetlinkMessage::SetLink(named), 0)?;
    let mut settings = vec![ARP_IGNORE];
    if ["all", &link.name].iter().any(|name| rp_filter(name) == Some(RP_FILTER_STRICT)) {
        settings.push(RP_FILTER_LOOSE);
    }
    request(route, RouteNetlinkMessage::SetLink(address::ipv4_settings(index, &settings)), 0)?;
    // No link-local address of its own: two hosts might have it. Without IPv6 there is none anyway.
    let without = address::without_link_local(index);
    if let Err(error) = request(route, RouteNetlinkMessage::SetLink(without), 0) {
        tracing::debug!(%error, "an interface may get a link-local address");
    }
    // Else a router's advertisements would have it get addresses and routes of its own. A service
    // manager may have /proc/sys read-only; `turnip check` tells.
    if let Err(error) = std::fs::write(accept_ra(&link.name), "0") {
        tracing::debug!(%error, "an interface may follow router advertisements");
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    request(route, RouteNetlinkMessage::SetLink(up), 0)
}

/// Where it is said whether an interface follows router advertisements.
pub(super) fn accept_ra(interface: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra")
}

fn rp_filter(interface: &str) -> Option<u32> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Removes the interfaces, with whatever is on them; gives those that are gone.
///
/// # Errors
/// When the kernel does not answer.
pub(super) fn remove(route: &mut Route, indices: &[u32]) -> io::Result<Vec<u32>> {
    let deletion = |index: &u32| {
        let mut message = rtnetlink::packet_route::link::LinkMessage::default();
        message.header.index = *index;
        (RouteNetlinkMessage::DelLink(message), 0)
    };
    let answers = route.request(indices.iter().map(deletion).collect())?;
    let mut gone = Vec::new();
    for (index, answer) in indices.iter().zip(answers) {
        match answer {
            Err(refusal) if Errno::from_raw(refusal.errno) != Errno::ENODEV => {
                tracing::warn!(interface = index, %refusal, "cannot remove an interface of turnip's");
            }
            _ => gone.push(*index),
        }
    }
    Ok(gone)
}

fn request(route: &mut Route, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    match route.request(vec![(message, flags)])?.pop() {
        Some(Err(refusal)) => Err(refusal.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vip_has_its_own_on_each_interface_and_the_name_fits() {
        let link = |vip: &str, parent: &str| {
            VirtualLink::new(&"main".parse().unwrap(), &vip.parse().unwrap(), &parent.into())
        };
        let (one, other) = (link("router", "wan0"), link("router", "br100"));
        assert_ne!(one.name, other.name);
        assert_eq!(one.mac, other.mac);
        assert_eq!(one.name.len(), 14);
        assert_eq!(one, link("router", "wan0"));
        assert_eq!(one.alias, "turnip: VIP router of the cluster main, on wan0");
    }
}
