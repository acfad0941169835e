//! Addresses of VIPs that this host has already, and that turnip did not put there (rule 7.9).
//!
//! They are looked at before the fence is made: it would silence them, and with the host's own address
//! the host would be off the network.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use turnip::config::Config;
use turnip::etcd::Etcd;
use turnip::kernel::check;
use turnip_core::records::{VipRecord, decode};
use turnip_core::{
    Assignment, KeyKind, Keys, NodeName, PresentAddress, Snapshot, StoreError, VipConfig, VipName,
};

use super::heartbeats;
use super::run::runtime_directory;

/// An address that is on this host without turnip's doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnAddress {
    /// The VIP that has its IP.
    pub vip: VipName,
    /// Where it is.
    pub interface: Arc<str>,
    /// The address.
    pub address: IpNet,
    /// What turnip would put there, if that is another address.
    pub instead_of: Option<Assignment>,
    /// Whether turnip has put that there as well: a daemon that was killed goes on with it.
    pub is_beside: bool,
}

impl fmt::Display for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OwnAddress { vip, interface, address, instead_of, .. } = self;
        write!(f, "{address} is on {interface}, and turnip did not put it there; ")?;
        match instead_of {
            None => write!(f, "it is the address of the VIP {vip}"),
            Some(vips) => write!(f, "the VIP {vip} has {vips}"),
        }
    }
}

impl OwnAddress {
    /// How to get rid of it.
    pub fn remedy(&self) -> String {
        let OwnAddress { interface, address, .. } = self;
        format!(
            "give the VIP an address that no host has, or take {address} out of this host's network configuration and off {interface} (`ip address del {address} dev {interface}`)"
        )
    }
}

/// What there is of that kind.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OwnAddresses {
    /// Where and as turnip would put them.
    pub exact: Vec<OwnAddress>,
    /// On another interface, or with another prefix length.
    pub doubles: Vec<OwnAddress>,
}

impl OwnAddresses {
    /// Looks at this host.
    ///
    /// # Errors
    /// When the kernel does not list its addresses.
    pub fn look(config: &Config) -> Result<Self, String> {
        let vips: Vec<&VipConfig> = config.vips.iter().map(|vip| &vip.config).collect();
        let configured: Vec<Assignment> = vips.iter().flat_map(|vip| vip.assignments()).collect();
        let present = check::addresses(&configured, &runtime_directory())
            .map_err(|error| format!("cannot list the addresses of this host: {error}"))?;
        Ok(Self::among(&vips, &present))
    }

    /// Those among what is `present`.
    fn among(vips: &[&VipConfig], present: &[PresentAddress]) -> Self {
        let mut found = OwnAddresses::default();
        let (marked, unmarked): (Vec<_>, Vec<_>) = present.iter().partition(|one| one.marked);
        // As a rule there is none, and there may be very many VIPs.
        for one in unmarked {
            for vip in vips {
                let is_put = |put: &Assignment| {
                    let is_it = |one: &&PresentAddress| {
                        one.interface == put.interface && one.address == put.address
                    };
                    marked.iter().any(is_it)
                };
                let own = |instead_of: Option<Assignment>| OwnAddress {
                    is_beside: instead_of.as_ref().is_some_and(is_put),
                    vip: vip.name.clone(),
                    interface: Arc::clone(&one.interface),
                    address: one.address,
                    instead_of,
                };
                let (belongs, is_double) = (
                    vip.belongs_on(&one.interface, one.address),
                    vip.has_double(&one.interface, one.address),
                );
                if belongs {
                    found.exact.push(own(None));
                } else if is_double {
                    let same = |put: &Assignment| put.address.addr() == one.address.addr();
                    found.doubles.push(own(vip.assignments().find(same)));
                }
            }
        }
        found
    }

    /// Those that are the host's own, for sure: etcd does not say that turnip, whose mark or record
    /// was lost, had the VIP here.
    pub fn are_the_hosts(self, named_here: &BTreeSet<VipName>) -> Vec<OwnAddress> {
        self.exact.into_iter().filter(|one| !named_here.contains(&one.vip)).collect()
    }
}

/// The VIPs that etcd says this node has, or had last.
pub fn named_here(keys: &Keys, node: &NodeName, snapshot: &Snapshot) -> BTreeSet<VipName> {
    let named = snapshot.kvs.iter().filter_map(|kv| match keys.kind(&kv.key) {
        KeyKind::Vip(vip) => decode::<VipRecord>(&kv.value).ok().map(|record| (vip, record.node)),
        _ => None,
    });
    named.filter(|(_, owner)| owner == node).map(|(vip, _)| vip).collect()
}

/// Asks etcd for them.
///
/// # Errors
/// When it does not answer within `timeout`.
pub async fn ask_named_here(
    config: &Config,
    etcd: &Etcd,
    timeout: Duration,
) -> Result<BTreeSet<VipName>, StoreError> {
    let keys = Keys::new(&config.reach.cluster);
    let late = |_| StoreError::Unavailable(format!("no answer within {timeout:?}"));
    let snapshot = tokio::time::timeout(timeout, etcd.snapshot(keys.prefix())).await;
    Ok(named_here(&keys, &config.node, &snapshot.map_err(late)??))
}

/// Refuses to run where a VIP has an address that is this host's own. Nothing is touched by then.
///
/// # Errors
/// When one has, or when that cannot be told.
pub async fn refuse(config: &Config, etcd: &Etcd, timeout: Duration) -> Result<(), String> {
    let found = OwnAddresses::look(config)?;
    let mut own = Vec::new();
    if !found.doubles.is_empty() {
        let reached = heartbeats::reached_at(config, etcd, timeout).await;
        let is_reached =
            |one: &&OwnAddress| !one.is_beside && reached.contains(&one.address.addr());
        own.extend(found.doubles.iter().filter(is_reached).cloned());
    }
    if !found.exact.is_empty() {
        let named = ask_named_here(config, etcd, timeout).await.map_err(|error| {
            let first = &found.exact[0];
            format!(
                "{first}; whether it ever did cannot be told, for etcd does not answer: {error}"
            )
        })?;
        own.extend(found.are_the_hosts(&named));
    }
    let Some(first) = own.first() else { return Ok(()) };
    let more = match own.len() - 1 {
        0 => String::new(),
        more => format!(" {more} more are like it: `turnip check` names them."),
    };
    Err(format!(
        "not starting, for it would take this host off the network: {first}. To have it float, {}.{more} Nothing was touched",
        first.remedy()
    ))
}

#[cfg(test)]
mod tests {
    use turnip_core::{Policy, VipAddress};

    use super::*;

    fn vip() -> VipConfig {
        VipConfig {
            name: "api".parse().unwrap(),
            addresses: VipAddress::all_on("eth0", ["10.99.0.3/24".parse().unwrap()]),
            policy: Policy::Spread,
            defend: false,
            require_carrier: true,
            keep_connections: false,
            checks: BTreeSet::new(),
            last_resort: turnip_core::LastResort::Keep,
            hooks: turnip_core::Hooks::new(),
        }
    }

    fn on(interface: &str, address: &str, marked: bool) -> PresentAddress {
        let address = address.parse().unwrap();
        PresentAddress { interface: interface.into(), address, marked, misplaced: false }
    }

    fn among(present: &[PresentAddress]) -> (Vec<String>, Vec<String>) {
        let found = OwnAddresses::among(&[&vip()], present);
        let text = |all: Vec<OwnAddress>| all.iter().map(ToString::to_string).collect();
        (text(found.exact), text(found.doubles))
    }

    #[test]
    fn what_turnip_put_there_is_not_the_hosts_own() {
        let none = (Vec::new(), Vec::new());
        assert_eq!(among(&[on("eth0", "10.99.0.3/24", true)]), none);
        assert_eq!(among(&[on("eth0", "10.99.0.4/24", false)]), none);
    }

    #[test]
    fn what_is_beside_a_vip_that_turnip_has_put_there_is_named_and_known_to_be_so() {
        let present = [on("eth0", "10.99.0.3/24", true), on("eth1", "10.99.0.3/32", false)];
        let found = OwnAddresses::among(&[&vip()], &present);
        assert!(found.exact.is_empty() && found.doubles[0].is_beside);
        assert!(!OwnAddresses::among(&[&vip()], &present[1..]).doubles[0].is_beside);
    }

    #[test]
    fn an_own_address_is_the_hosts_although_turnip_has_put_another_one_of_the_vip_there() {
        let nets = ["10.99.0.3/24", "10.99.0.4/24"].map(|one| one.parse().unwrap());
        let addresses = VipAddress::all_on("eth0", nets);
        let vip = VipConfig { addresses, ..vip() };
        let present = [on("eth0", "10.99.0.3/24", true), on("eth0", "10.99.0.4/24", false)];
        let found = OwnAddresses::among(&[&vip], &present);
        assert_eq!(found.exact.len(), 1);
        assert_eq!(found.are_the_hosts(&BTreeSet::new()).len(), 1);
    }

    #[test]
    fn an_own_address_is_named_with_its_vip_and_its_interface() {
        let exact = "10.99.0.3/24 is on eth0, and turnip did not put it there; it is the address of the VIP api";
        assert_eq!(among(&[on("eth0", "10.99.0.3/24", false)]).0, [exact]);
        let double = "10.99.0.3/32 is on eth1, and turnip did not put it there; the VIP api has 10.99.0.3/24 on eth0";
        assert_eq!(among(&[on("eth1", "10.99.0.3/32", false)]).1, [double]);
    }

    #[test]
    fn an_address_without_mark_is_turnips_where_etcd_names_this_node() {
        let found = OwnAddresses::among(&[&vip()], &[on("eth0", "10.99.0.3/24", false)]);
        assert_eq!(found.clone().are_the_hosts(&BTreeSet::new()).len(), 1);
        assert!(found.are_the_hosts(&["api".parse().unwrap()].into()).is_empty());
    }
}
