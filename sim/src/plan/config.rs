//! What a host's configuration file says: everybody's, with the changes that the plan makes to this
//! host's. A daemon reads it when its process starts, and when it is told to.

use std::collections::BTreeMap;

use ipnet::IpNet;
use turnip_core::{Follow, Policy};

use super::{Params, PolicyParams};

/// An address, by number: that of the VIP which has it in everybody's configuration times two, and
/// one more for its second address.
pub type AddressId = usize;

/// A VIP's name, by number: the VIP's own number, or that plus the number of VIPs in the plan for
/// the other name that it can go by.
pub type NameId = usize;

/// The durations of a lease, in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseParams {
    /// `L`.
    pub lease_ms: u64,
    /// `r`; the usual proportion when absent.
    pub renew_ms: Option<u64>,
    /// `g`; the usual proportion when absent.
    pub guard_ms: Option<u64>,
}

/// One host's configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// Which cluster it is in; 0 for everybody's.
    pub cluster: usize,
    /// The host whose name its node has; its own, but for a mistake.
    pub name: usize,
    /// Its lease.
    pub lease: LeaseParams,
    /// Whose machine id its machine has; its own, but for a broken assumption (A4).
    pub machine: usize,
    /// It speaks rule 10.
    pub heartbeats: bool,
    /// Its share under `spread`.
    pub weight: u32,
    /// Its VIPs.
    pub vips: BTreeMap<NameId, VipSection>,
}

/// A VIP in a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VipSection {
    /// Its addresses, each with which of the host's interfaces carries it; at least one.
    pub addresses: BTreeMap<AddressId, usize>,
    /// The host's part in its policy.
    pub policy: Policy,
}

/// A change of one host's configuration file. One that does not fit what the file says is of no
/// effect: no file names a VIP or an address twice, and no VIP is without an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is put into another cluster, by mistake.
    Cluster { cluster: usize },
    /// Its node has another host's name, by mistake.
    NameOf { host: usize },
    /// Its machine has another's machine id, as a cloned one may (A4).
    MachineOf { host: usize },
    /// It speaks rule 10, or no longer does: another version of turnip runs.
    Heartbeats { speaks: bool },
    /// Another lease.
    Lease(LeaseParams),
    /// Another share under `spread`.
    Weight { weight: u32 },
    /// A VIP's name changes, and its addresses stay.
    Rename { vip: NameId, to: NameId },
    /// An address moves from one VIP to another; a VIP that has none left is gone.
    MoveAddress { from: NameId, to: NameId },
    /// Two VIPs exchange their addresses.
    Swap { one: NameId, other: NameId },
    /// A VIP is not configured.
    Remove { vip: NameId },
    /// Another priority for this host.
    Priority { vip: NameId, priority: u32 },
    /// Another policy.
    Policy { vip: NameId, policy: PolicyParams },
    /// A VIP is on another of the host's interfaces.
    Interface { vip: NameId, interface: usize },
}

/// The key of another program that a VIP follows.
pub fn followed_key(vip: usize) -> String {
    format!("/leaders/{vip}/")
}

/// What such a key says when it names a host.
pub fn name_there(host: usize) -> String {
    format!("member {host}")
}

/// The address of a number.
pub fn net(id: AddressId) -> IpNet {
    let vip = id / 2;
    let text = match id % 2 {
        0 => format!("10.0.{}.{}/32", vip / 200, vip % 200 + 1),
        number => format!("fd00::{number}:{:x}/128", vip + 1),
    };
    text.parse().expect("a valid address")
}

impl LeaseParams {
    /// The interval between renewals, in ms.
    pub fn renew_ms(&self) -> u64 {
        self.renew_ms.unwrap_or(self.lease_ms / 6)
    }

    /// How long before the deadline addresses are taken away, in ms.
    pub fn guard_ms(&self) -> u64 {
        self.guard_ms.unwrap_or(self.lease_ms / 15)
    }
}

impl PolicyParams {
    /// A host's part in the policy of a VIP.
    pub fn of(&self, host: usize, vip: NameId) -> Policy {
        match self {
            PolicyParams::Leader => Policy::Leader,
            PolicyParams::Spread => Policy::Spread,
            PolicyParams::Priority { priorities, preempt } => {
                Policy::Priority { priority: priorities[host], preempt: *preempt }
            }
            PolicyParams::Follow { absent } => Policy::Follow(Follow {
                key: followed_key(vip),
                value: name_there(host),
                pointer: None,
                absent: *absent,
                unchanged: None,
            }),
        }
    }
}

impl Params {
    /// The addresses of the VIP `vip` in everybody's configuration.
    pub fn addresses_of(&self, vip: usize) -> impl Iterator<Item = AddressId> + use<> {
        (0..self.vips[vip].addresses).map(move |number| 2 * vip + number)
    }

    /// The addresses of the VIP `vip`, each with which of a host's interfaces carries it.
    pub fn places_of(&self, vip: usize) -> BTreeMap<AddressId, usize> {
        self.addresses_of(vip).zip(self.vips[vip].interfaces).collect()
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = AddressId> + '_ {
        (0..self.vips.len()).flat_map(|vip| self.addresses_of(vip))
    }

    /// The lease in everybody's configuration.
    pub fn lease(&self) -> LeaseParams {
        let Params { lease_ms, renew_ms, guard_ms, .. } = *self;
        LeaseParams { lease_ms, renew_ms, guard_ms }
    }

    /// A host's configuration file with these changes, made one after the other.
    pub fn config<'a>(
        &self,
        host: usize,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> HostConfig {
        let section = |vip: usize| VipSection {
            addresses: self.places_of(vip),
            policy: self.vips[vip].policy.of(host, vip),
        };
        let mut config = HostConfig {
            cluster: 0,
            name: host,
            machine: host,
            heartbeats: self.heartbeats[host],
            lease: self.lease(),
            weight: self.weights[host],
            vips: (0..self.vips.len()).map(|vip| (vip, section(vip))).collect(),
        };
        changes.into_iter().for_each(|change| config.change(host, change));
        config
    }
}

impl HostConfig {
    /// All addresses in the file.
    #[cfg(test)]
    pub fn addresses(&self) -> impl Iterator<Item = AddressId> + '_ {
        self.vips.values().flat_map(|vip| vip.addresses.keys().copied())
    }

    fn change(&mut self, host: usize, change: &Change) {
        match change {
            Change::Cluster { cluster } => self.cluster = *cluster,
            Change::NameOf { host } => self.name = *host,
            Change::MachineOf { host } => self.machine = *host,
            Change::Heartbeats { speaks } => self.heartbeats = *speaks,
            Change::Lease(lease) => self.lease = *lease,
            Change::Weight { weight } => self.weight = *weight,
            Change::Rename { vip, to } => {
                if !self.vips.contains_key(to)
                    && let Some(section) = self.vips.remove(vip)
                {
                    self.vips.insert(*to, section);
                }
            }
            Change::MoveAddress { from, to } => self.move_address(*from, *to),
            Change::Swap { one, other } => {
                if let (Some(a), Some(b)) = (self.vips.get(one), self.vips.get(other)) {
                    let with = |section: &VipSection, of: &VipSection| VipSection {
                        policy: section.policy.clone(),
                        ..of.clone()
                    };
                    let (a, b) = (with(a, b), with(b, a));
                    self.vips.extend([(*one, a), (*other, b)]);
                }
            }
            Change::Remove { vip } => {
                self.vips.remove(vip);
            }
            Change::Priority { vip, priority: new } => {
                if let Some(section) = self.vips.get_mut(vip)
                    && let Policy::Priority { priority, .. } = &mut section.policy
                {
                    *priority = *new;
                }
            }
            Change::Interface { vip, interface } => {
                if let Some(section) = self.vips.get_mut(vip) {
                    section.addresses.values_mut().for_each(|on| *on = *interface);
                }
            }
            Change::Policy { vip, policy } => {
                if let Some(section) = self.vips.get_mut(vip) {
                    section.policy = policy.of(host, *vip);
                }
            }
        }
    }

    fn move_address(&mut self, from: NameId, to: NameId) {
        if from == to || !self.vips.contains_key(&to) {
            return;
        }
        let Some(section) = self.vips.get_mut(&from) else { return };
        let moved = section.addresses.pop_first();
        if section.addresses.is_empty() {
            self.vips.remove(&from);
        }
        if let Some(section) = self.vips.get_mut(&to) {
            section.addresses.extend(moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn config(changes: &[Change]) -> HostConfig {
        let mut params = Params::plain(2, 1, 3);
        params.vips[0].addresses = 2;
        params.config(0, changes)
    }

    fn addresses(config: &HostConfig, vip: NameId) -> Vec<AddressId> {
        config.vips.get(&vip).into_iter().flat_map(|vip| vip.addresses.keys().copied()).collect()
    }

    #[test]
    fn a_renamed_vip_keeps_its_addresses() {
        let config = config(&[Change::Rename { vip: 0, to: 3 }]);
        assert_eq!(addresses(&config, 3), [0, 1]);
        assert!(!config.vips.contains_key(&0));
    }

    #[test]
    fn a_vip_whose_last_address_moves_away_is_gone() {
        let config = config(&[Change::MoveAddress { from: 1, to: 2 }]);
        assert_eq!(addresses(&config, 2), [2, 4]);
        assert!(!config.vips.contains_key(&1));
    }

    #[test]
    fn no_file_names_a_vip_or_an_address_twice() {
        let changes = [
            Change::Rename { vip: 1, to: 2 },
            Change::MoveAddress { from: 0, to: 0 },
            Change::Swap { one: 1, other: 1 },
            Change::Swap { one: 1, other: 2 },
            Change::MoveAddress { from: 0, to: 9 },
        ];
        let config = config(&changes);
        let all: Vec<AddressId> = config.addresses().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(config.vips.values().all(|vip| !vip.addresses.is_empty()));
    }
}
