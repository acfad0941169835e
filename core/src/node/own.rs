//! What the node is told, with the ways to find things in it. Nobody changes it: when the node is told
//! otherwise, another one takes its place (rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::reload::{self, Retiring};
use crate::config::{NodeConfig, Policy, VipConfig, is_link_local};
use crate::kernel::Assignment;
use crate::keys::Keys;
use crate::lease::WITHOUT_STORE;
use crate::mutant::Mutant;
use crate::name::{NodeName, VipName};
use crate::records::VipOffer;

/// One of the node's VIPs, by its place in the order of their names.
pub(super) type VipIndex = usize;

/// The node's configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Own {
    pub(super) config: NodeConfig,
    pub(super) keys: Keys,
    digests: Vec<String>,
    by_name: BTreeMap<VipName, VipIndex>,
    by_address: BTreeMap<IpAddr, Vec<VipIndex>>,
    by_interface: BTreeMap<Arc<str>, Vec<VipIndex>>,
    /// Of each VIP, by their places in the configuration.
    checks_of: Vec<Vec<usize>>,
    mutant: Option<Mutant>,
    /// The VIPs that it is on the way to.
    wanted: Option<Vec<VipConfig>>,
    /// Those of today's that must give way for that.
    retiring: BTreeMap<VipIndex, Retiring>,
    /// How often it was made anew.
    number: u64,
}

/// No two processes have the same number: it stands, with how often it was told otherwise, for all that
/// the process was told.
impl Hash for Own {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.config.process, &self.config.name, self.mutant, self.number).hash(state);
    }
}

impl Own {
    pub(super) fn new(mut config: NodeConfig) -> Self {
        config.vips.sort_by(|a, b| a.name.cmp(&b.name));
        let mut by_interface: BTreeMap<Arc<str>, Vec<VipIndex>> = BTreeMap::new();
        let mut by_address: BTreeMap<IpAddr, Vec<VipIndex>> = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for (index, vip) in config.vips.iter().enumerate() {
            by_name.insert(vip.name.clone(), index);
            for ip in vip.ips().collect::<BTreeSet<_>>() {
                by_address.entry(ip).or_default().push(index);
            }
            let own = vip.addresses.iter().map(|one| &one.interface);
            for interface in own.chain(vip.links()).collect::<BTreeSet<_>>() {
                by_interface.entry(Arc::clone(interface)).or_default().push(index);
            }
        }
        let checks_of = config.vips.iter().map(|vip| checks_of(&config, vip)).collect();
        Own {
            keys: Keys::new(&config.cluster),
            digests: config.vips.iter().map(VipConfig::digest).collect(),
            by_name,
            by_address,
            by_interface,
            checks_of,
            mutant: None,
            wanted: None,
            retiring: BTreeMap::new(),
            number: 0,
            config,
        }
    }

    /// These VIPs are wanted. What differs in nothing that is on an interface holds at once.
    pub(super) fn want(&mut self, vips: Vec<VipConfig>) {
        let mut own =
            Own::new(NodeConfig { vips: self.config.vips.clone(), ..self.config.clone() });
        (own.mutant, own.number) = (self.mutant, self.number + 1);
        let mut wanted = vips;
        wanted.sort_by(|a, b| a.name.cmp(&b.name));
        for new in &wanted {
            if let Some(index) = own.index_of(&new.name)
                && own.vip(index).is_where(new)
            {
                own.checks_of[index] = checks_of(&own.config, new);
                own.config.vips[index] = new.clone();
                own.digests[index] = new.digest();
            }
        }
        own.retiring = reload::retiring(&own.config.vips, &wanted);
        own.wanted = (own.config.vips != wanted).then_some(wanted);
        *self = own;
    }

    /// Those VIPs are today's, on the way to what is wanted.
    pub(super) fn with_vips(&self, vips: Vec<VipConfig>) -> Self {
        let mut own = Own::new(NodeConfig { vips, ..self.config.clone() });
        (own.mutant, own.number) = (self.mutant, self.number);
        own.want(self.wanted.clone().unwrap_or_else(|| own.config.vips.clone()));
        own
    }

    /// The VIPs that it is on the way to; none where it has them.
    pub(super) fn wanted(&self) -> Option<&[VipConfig]> {
        self.wanted.as_deref()
    }

    /// How the VIP has to give way for what is wanted, if it has to.
    pub(super) fn retiring(&self, index: VipIndex) -> Option<Retiring> {
        self.retiring.get(&index).copied()
    }

    #[cfg(feature = "mutants")]
    pub(super) fn set_mutant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
    }

    /// Whether a test broke this rule.
    pub(super) fn mutated(&self, mutant: Mutant) -> bool {
        cfg!(feature = "mutants") && self.mutant == Some(mutant)
    }

    /// For how long a session may go on without a write in the store (rule 10.7).
    pub(super) fn without_store(&self) -> Duration {
        self.config.heartbeats.as_ref().map_or(WITHOUT_STORE, |config| config.without_store)
    }

    pub(super) fn name(&self) -> &NodeName {
        &self.config.name
    }

    pub(super) fn vip_count(&self) -> usize {
        self.config.vips.len()
    }

    pub(super) fn vip(&self, index: VipIndex) -> &VipConfig {
        &self.config.vips[index]
    }

    pub(super) fn digest(&self, index: VipIndex) -> &str {
        &self.digests[index]
    }

    /// The checks on which the VIP depends, by their places in the configuration.
    pub(super) fn checks_of(&self, index: VipIndex) -> &[usize] {
        &self.checks_of[index]
    }

    /// The VIP of that name, if it is configured.
    pub(super) fn index_of(&self, name: &VipName) -> Option<VipIndex> {
        self.by_name.get(name).copied()
    }

    /// The VIPs to which the address belongs: one at most, but for a link-local address, which may
    /// belong to one on each interface.
    pub(super) fn vips_with(&self, address: IpAddr) -> &[VipIndex] {
        self.by_address.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Whether the address is another one than the same of another node's VIP `name`: link-local, on
    /// another link. An older turnip does not tell the interface; then the VIP of that name here has
    /// the address, too, and is on another interface.
    pub(super) fn is_elsewhere(
        &self,
        index: VipIndex,
        address: IpAddr,
        (name, offer): (&VipName, &VipOffer),
    ) -> bool {
        is_link_local(address)
            && match offer.links_of(address) {
                Some(theirs) => {
                    let own = self.vip(index).addresses.iter().filter(|own| own.ip() == address);
                    own.map(|own| own.link()).all(|own| !theirs.contains(&own))
                }
                None => self.vips_with(address).iter().any(|one| self.vip(*one).name == *name),
            }
    }

    /// The VIP of which `address` on `interface` is a part.
    pub(super) fn index_by_assignment(&self, interface: &str, address: IpNet) -> Option<VipIndex> {
        let mut with_its_ip = self.vips_with(address.addr()).iter().copied();
        with_its_ip.find(|index| self.vip(*index).belongs_on(interface, address))
    }

    /// The VIP that has the IP of `address`, which turnip does not put on `interface` in that way.
    pub(super) fn index_by_double(&self, interface: &str, address: IpNet) -> Option<VipIndex> {
        let mut with_its_ip = self.vips_with(address.addr()).iter().copied();
        with_its_ip.find(|index| self.vip(*index).has_double(interface, address))
    }

    /// The VIPs that an interface carries, or a part of them.
    pub(super) fn vips_on(&self, interface: &str) -> &[VipIndex] {
        self.by_interface.get(interface).map_or(&[], Vec::as_slice)
    }

    /// The interfaces that carry VIPs.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_interface.keys()
    }

    /// All addresses of `vips`, with their interfaces.
    pub(super) fn assignments(&self, vips: &[VipIndex]) -> Vec<Assignment> {
        vips.iter().flat_map(|&index| self.vip(index).assignments()).collect()
    }

    /// The keys of other programs that VIPs follow (rule 13).
    pub(super) fn followed_keys(&self) -> BTreeSet<String> {
        let follows = self.config.vips.iter().filter_map(|vip| vip.policy.follow());
        follows.map(|follow| follow.key.clone()).collect()
    }

    /// Whether a VIP follows etcd's leader.
    pub(super) fn follows_leader(&self) -> bool {
        self.config.vips.iter().any(|vip| vip.policy == Policy::Leader)
    }
}

fn checks_of(config: &NodeConfig, vip: &VipConfig) -> Vec<usize> {
    let checks = config.checks.iter().enumerate();
    let concerns = checks.filter(|(_, check)| check.whole_node || vip.checks.contains(&check.name));
    concerns.map(|(number, _)| number).collect()
}
