//! Hosts in separate networks, joined by a router; with BGP it learns from each host which floating
//! addresses are there.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::addressing::{ends, network_of};
use super::{Bgp, Network, bird, port};
use crate::lab::Lab;
use crate::links::Via;
use crate::namespace::Namespace;
use crate::plan::LINK;
use crate::process::Process;
use crate::responder::Responder;
use crate::switch::Switch;

/// Host n is 10.80.n.2 behind the router's 10.80.n.1, counted from 1, and has a switch between
/// itself and the router, so that the router sees no link go down; likewise in fd80:n::.
/// 10.80.100.2 is beyond the router: the client, and a service.
#[derive(Debug)]
pub struct Routed {
    _router_bird: Option<Process>,
    _outside_service: Responder,
    bgp: Option<Bgp>,
    switches: Vec<Switch>,
    router: Arc<Namespace>,
    outside: Arc<Namespace>,
}

/// The network beyond the router.
const OUTSIDE: u8 = 100;

impl Routed {
    /// The router, what is beyond it, and a switch for each host.
    ///
    /// # Errors
    /// When the kernel refuses, or bird is not there.
    pub fn new(lab: &Lab, hosts: usize, bgp: Option<Bgp>) -> Result<Self> {
        let (router, outside) = (lab.namespace("router")?, lab.namespace("outside")?);
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            router.sysctl(forwarding, "1")?;
        }
        router.cable("outside", &outside, LINK)?;
        join(&router, "outside", &outside, OUTSIDE)?;
        let mut switches = Vec::new();
        for host in 0..hosts {
            let switch = Switch::new(lab, &format!("switch-{}", port(host)))?;
            switch.connect("router", &router, &port(host))?;
            let (v4, v6) = ends(network_of(host)).0;
            router.configure_link(&port(host), v4, v6)?;
            switches.push(switch);
        }
        let router_bird = match &bgp {
            Some(bgp) => Some(bird::on_router(bgp, &router, &lab.directory_of("router")?, hosts)?),
            None => None,
        };
        Ok(Routed {
            _router_bird: router_bird,
            _outside_service: Responder::start(&outside, "outside")?,
            bgp,
            switches,
            router,
            outside,
        })
    }

    /// Connects a machine to the router by a cable, in a network of this number.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn connect(&self, name: &str, network: u8, namespace: &Namespace) -> Result<IpAddr> {
        self.router.cable(name, namespace, LINK)?;
        join(&self.router, name, namespace, network)?;
        Ok(ends(network).1.0.addr().into())
    }

    /// The machine beyond the router.
    pub fn outside(&self) -> &Arc<Namespace> {
        &self.outside
    }
}

impl Network for Routed {
    fn client(&self) -> &Arc<Namespace> {
        &self.outside
    }

    fn plug(&self, host: usize, namespace: &Namespace, directory: &Path) -> Result<Vec<Process>> {
        self.switches[host].connect(&port(host), namespace, LINK)?;
        configure_far_end(namespace, network_of(host))?;
        match &self.bgp {
            Some(bgp) => Ok(vec![bird::on_host(bgp, namespace, directory, host)?]),
            None => Ok(Vec::new()),
        }
    }

    fn switch(&self, host: usize) -> &Switch {
        &self.switches[host]
    }

    fn router(&self) -> Result<&Namespace> {
        Ok(&self.router)
    }

    fn address(&self, host: usize) -> IpAddr {
        ends(network_of(host)).1.0.addr().into()
    }
}

fn join(router: &Namespace, link: &str, other: &Namespace, network: u8) -> Result<()> {
    let (v4, v6) = ends(network).0;
    router.configure_link(link, v4, v6)?;
    configure_far_end(other, network)
}

/// Addresses, and the router as the way to everything else.
fn configure_far_end(namespace: &Namespace, network: u8) -> Result<()> {
    let (router, own) = ends(network);
    namespace.configure_link(LINK, own.0, own.1)?;
    namespace.add_route("0.0.0.0/0".parse()?, Via::Gateway(router.0.addr().into()))?;
    namespace.add_route("::/0".parse()?, Via::Gateway(router.1.addr().into()))
}
