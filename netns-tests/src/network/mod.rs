//! What connects the hosts of a cluster with each other and with clients.

mod addressing;
mod bird;
mod one_switch;
mod overlay;
mod route_monitor;
mod routed;

use std::fmt::Debug;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use ipnet::IpNet;

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::plan::NetworkPlan;
use crate::process::Process;
use crate::switch::Switch;

pub use bird::Bgp;
pub use one_switch::OneSwitch;
pub use overlay::{BRIDGE, BRIDGED, Overlay, probe_outside};
pub use route_monitor::RouteMonitor;
pub use routed::Routed;

/// A network with a place for every host.
pub trait Network: Debug {
    /// Where clients ask from.
    fn client(&self) -> &Arc<Namespace>;

    /// The client's addresses of both families on the switch that it shares with the hosts.
    ///
    /// # Errors
    /// When there is no such switch.
    fn client_addresses(&self) -> Result<[IpAddr; 2]> {
        bail!("the client of this network is on no switch of a host")
    }

    /// Where an operator sits: reaches etcd whatever becomes of the floating address.
    fn operator(&self) -> &Arc<Namespace> {
        self.client()
    }

    /// Connects a host that has just booted, and starts what the network needs on it.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn plug(&self, host: usize, namespace: &Namespace, directory: &Path) -> Result<Vec<Process>>;

    /// The switch that a host is plugged into, at [`port`].
    fn switch(&self, host: usize) -> &Switch;

    /// The address of a host for other hosts.
    fn address(&self, host: usize) -> IpAddr;

    /// The guest behind a host.
    ///
    /// # Errors
    /// When hosts of the network have none.
    fn guest(&self, _host: usize) -> Result<&Arc<Namespace>> {
        bail!("hosts of this network have no guests")
    }

    /// The addresses of both families that a host has on the switch that it shares with the client.
    ///
    /// # Errors
    /// When there is no such switch.
    fn addresses(&self, _host: usize) -> Result<[IpNet; 2]> {
        bail!("hosts of this network are on no switch of the client")
    }

    /// The router between the hosts.
    ///
    /// # Errors
    /// When there is none.
    fn router(&self) -> Result<&Namespace> {
        bail!("this network has no router")
    }

    /// Connects a machine that is no host of the cluster, and returns its address.
    ///
    /// # Errors
    /// When the network has no place for such.
    fn attach(&self, name: &str, _number: usize, _namespace: &Namespace) -> Result<IpAddr> {
        bail!("there is no place for {name} in this network")
    }
}

/// The name of the client's port, where it is on a switch with the hosts.
pub const CLIENT_PORT_NAME: &str = "client";

/// The name of a host's port of its switch.
pub fn port(host: usize) -> String {
    format!("h{}", host + 1)
}

/// The name of the port of a machine that runs a member of etcd and is no host: so many come before it.
pub fn port_beside(number: usize) -> String {
    format!("e{}", number + 1)
}

/// Builds the network of a plan for this many hosts.
///
/// # Errors
/// When the kernel refuses.
pub fn build(plan: NetworkPlan, lab: &Lab, hosts: usize) -> Result<Box<dyn Network>> {
    Ok(match plan {
        NetworkPlan::OneSwitch => Box::new(OneSwitch::new(lab)?),
        NetworkPlan::Bgp { bfd } => Box::new(Routed::new(lab, hosts, Some(Bgp { bfd }))?),
        NetworkPlan::Routed => Box::new(Routed::new(lab, hosts, None)?),
        NetworkPlan::Overlay => Box::new(Overlay::new(lab, hosts)?),
    })
}
