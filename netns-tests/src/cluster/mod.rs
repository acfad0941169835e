//! Hosts on a network, with etcd on them or apart, a daemon on each, a client, and the observers.

mod daemons;
mod faults;
mod many;
mod members;
mod operator;
mod outcome;
mod seen;
mod terminal;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::address_monitor::AddressMonitor;
use crate::daemon::{CLUSTER, Vip};
use crate::etcd::{self, Access, Member, Place};
use crate::host::Host;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::network::{self, Network, port_beside};
use crate::plan::{EtcdPlan, Plan, Probed};
use crate::probe::{Prober, Target, Transport};
use crate::security::Security;
use anyhow::Result;

pub(crate) use outcome::SILENT_MAX;
pub use outcome::{OWN_LINK, Outcome, companions};
pub use seen::Seen;
pub use terminal::Terminal;

/// A running cluster. Hosts are named `h1`, `h2` and so on, and counted from 0.
#[derive(Debug)]
pub struct Cluster {
    client_prober: Prober,
    hosts: Vec<Host>,
    /// etcd's members: the first is on the first host, or apart.
    pub members: Vec<Member>,
    address_monitor: AddressMonitor,
    network: Box<dyn Network>,
    plan: Plan,
    /// What each host is configured with.
    configured: Vec<Vec<Vip>>,
    etcd_addresses: Vec<IpAddr>,
    security: Option<Security>,
    lab: Arc<Lab>,
}

impl Cluster {
    /// Lays the hosts out and starts etcd, but no daemon.
    ///
    /// # Errors
    /// Without root, or when something cannot be started.
    pub fn lay_out(plan: Plan) -> Result<Self> {
        let lab = Lab::new()?;
        let address_monitor = AddressMonitor::new(&lab)?;
        let network = network::build(plan.network, &lab, plan.hosts)?;
        let probed = plan.probed_addresses();
        let mut hosts = Vec::new();
        for index in 0..plan.hosts {
            let mut host = Host::new(&lab, index, plan.name(index), probed.clone())?;
            host.boot(&lab, &address_monitor, &*network)?;
            hosts.push(host);
        }
        let (members, etcd_addresses, security) = set_up_etcd(&lab, &*network, &plan.etcd, &hosts)?;
        let client_prober = Prober::start(network.client(), targets(&plan))?;
        let mut cluster = Cluster {
            client_prober,
            hosts,
            members,
            address_monitor,
            network,
            configured: vec![plan.vips.clone(); plan.hosts],
            plan,
            etcd_addresses,
            security,
            lab,
        };
        if !cluster.members.is_empty() {
            for member in &mut cluster.members {
                member.start()?;
            }
            let leader = etcd::wait_for_leader(&cluster.members)?;
            if cluster.security.is_some() {
                cluster.members[leader].demand_password(CLUSTER)?;
            }
        }
        Ok(cluster)
    }

    /// Lays the hosts out, starts everything, and waits until the address has settled on one of
    /// them.
    ///
    /// # Errors
    /// Without root, or when something cannot be started, or when nobody takes the address.
    pub fn start(plan: Plan) -> Result<Self> {
        let mut cluster = Self::lay_out(plan)?;
        cluster.start_daemons()?;
        cluster.wait_until_settled()?;
        Ok(cluster)
    }

    /// How many hosts there are.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// The lab that it is in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The namespace of the client.
    pub fn client(&self) -> &Namespace {
        self.network.client()
    }

    /// What connects the hosts.
    pub fn network(&self) -> &dyn Network {
        &*self.network
    }

    /// A host.
    pub fn host(&self, host: usize) -> &Host {
        &self.hosts[host]
    }

    /// The observer of addresses.
    pub fn address_monitor(&self) -> &AddressMonitor {
        &self.address_monitor
    }

    /// What it is made of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// etcd's addresses for clients.
    pub fn etcd_addresses(&self) -> &[IpAddr] {
        &self.etcd_addresses
    }

    /// The address that clients ask for.
    pub fn address(&self) -> IpAddr {
        self.plan.vips[0].addresses[0].addr()
    }

    /// Notes that something happens now, and returns now.
    pub fn note(&self, what: impl Into<String>) -> Instant {
        self.lab.journal().note(what)
    }
}

/// What the client asks.
fn targets(plan: &Plan) -> Vec<Target> {
    let transports: &[Transport] = match plan.probed {
        Probed::AllVips => &[Transport::Udp],
        _ => &[Transport::Udp, Transport::Tcp],
    };
    let addresses = plan.probed_addresses().into_iter().map(|address| address.addr());
    let each =
        addresses.flat_map(|address| transports.iter().map(move |&transport| (address, transport)));
    each.map(|(address, transport)| Target { address, transport }).collect()
}

type EtcdOfCluster = (Vec<Member>, Vec<IpAddr>, Option<Security>);

fn set_up_etcd(
    lab: &Lab,
    network: &dyn Network,
    plan: &EtcdPlan,
    hosts: &[Host],
) -> Result<EtcdOfCluster> {
    let (on, beside, settings) = match plan {
        EtcdPlan::None => return Ok((Vec::new(), Vec::new(), None)),
        EtcdPlan::OnHosts(settings) => ((0..hosts.len()).collect(), Vec::new(), settings),
        EtcdPlan::Apart(count, settings) => {
            (Vec::new(), (1..=*count).map(|number| format!("e{number}")).collect(), settings)
        }
        EtcdPlan::Placed { on, beside, settings } => (on.clone(), beside.clone(), settings),
    };
    let mut places = Vec::new();
    for index in on {
        let host = &hosts[index];
        let namespace = Arc::clone(host.shared_namespace());
        let (address, directory) = (network.address(index), host.directory.clone());
        places.push(Place::on_host(host.name.clone(), namespace, address, directory));
    }
    for (index, name) in beside.into_iter().enumerate() {
        let namespace = lab.namespace(&name)?;
        let address = network.attach(&port_beside(index), index, &namespace)?;
        let directory = lab.directory_of(&name)?;
        places.push(Place::on_host(name, namespace, address, directory));
    }
    let addresses: Vec<IpAddr> = places.iter().map(|place| place.clients.ip()).collect();
    let security = match settings.secured {
        true => Some(Security::create(&lab.directory_of("tls")?, &addresses)?),
        false => None,
    };
    let access = security.clone().map_or(Access::Open, Access::Secured);
    Ok((etcd::members(&places, settings, &access), addresses, security))
}
