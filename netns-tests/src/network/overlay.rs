//! Hypervisors on a routed underlay, with one network for their guests: VXLAN 100, bridged to `br100` on
//! each. The floating address is the guests' gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use ipnet::{Ipv4Net, Ipv6Net};

use super::addressing::{ends, network_of};
use super::{Network, Routed};
use crate::lab::Lab;
use crate::links::Via;
use crate::namespace::Namespace;
use crate::plan::LINK;
use crate::probe::{Prober, Target, Transport};
use crate::process::Process;
use crate::switch::Switch;

/// The bridge of every hypervisor that guests and the floating address are on.
pub const BRIDGE: &str = "br100";

/// What every hypervisor bridges there: the way to the other hypervisors, and to its own guest.
pub const BRIDGED: [&str; 2] = [VXLAN, GUEST];

/// What guests want to reach, beyond their gateway: the client of the underlay.
const OUTSIDE: [&str; 2] = ["10.80.100.2", "fd80:64::2"];
const VXLAN: &str = "vxlan100";
const VXLAN_ID: u32 = 100;
const GUEST: &str = "guest";
/// The underlay network of the hypervisor that is no host of the cluster: the client is its guest.
const SPARE: u8 = 99;

/// Guests are 10.90.0.51 and up, and the client 10.90.0.200; likewise in fd90::. All believe that
/// 10.90.0.1 and fd90::1 lead outside.
#[derive(Debug)]
pub struct Overlay {
    underlay: Routed,
    guests: Vec<Arc<Namespace>>,
    client: Arc<Namespace>,
    _spare: Arc<Namespace>,
}

impl Overlay {
    /// The underlay, a guest for each host, and one more hypervisor with the client.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(lab: &Lab, hosts: usize) -> Result<Self> {
        let underlay = Routed::new(lab, hosts, None)?;
        let guest = |host: usize| lab.namespace(&format!("guest{}", host + 1));
        let guests = (0..hosts).map(guest).collect::<Result<Vec<_>>>()?;
        let (spare, client) = (lab.namespace("spare")?, lab.namespace("client")?);
        underlay.connect("spare", SPARE, &spare)?;
        let overlay = Overlay { underlay, guests, client, _spare: Arc::clone(&spare) };
        overlay.bridge(&spare, SPARE)?;
        connect_guest(&spare, &overlay.client, 200)?;
        Ok(overlay)
    }

    fn bridge(&self, hypervisor: &Namespace, network: u8) -> Result<()> {
        // Of its own, so that guests can only learn of a new gateway from its announcement.
        hypervisor.bridge(BRIDGE, Some([2, 0, 0, 0, 100, network]))?;
        hypervisor.vxlan(VXLAN, VXLAN_ID, ends(network).1.0.addr())?;
        hypervisor.plug(VXLAN, BRIDGE)?;
        let hosts = (0..self.guests.len()).map(network_of).chain([SPARE]);
        for other in hosts.filter(|&other| other != network) {
            hypervisor.vxlan_peer(VXLAN, ends(other).1.0.addr().into())?;
        }
        Ok(())
    }
}

/// Somebody on the overlay who asks for the outside, beyond the gateway, in both families.
///
/// # Errors
/// When sockets cannot be made.
pub fn probe_outside(from: &Arc<Namespace>) -> Result<Prober> {
    let target =
        |address: &str| Ok(Target { address: address.parse()?, transport: Transport::Udp });
    Prober::start(from, OUTSIDE.into_iter().map(target).collect::<Result<_>>()?)
}

impl Network for Overlay {
    fn client(&self) -> &Arc<Namespace> {
        &self.client
    }

    fn operator(&self) -> &Arc<Namespace> {
        self.underlay.outside()
    }

    fn plug(&self, host: usize, namespace: &Namespace, directory: &Path) -> Result<Vec<Process>> {
        let processes = self.underlay.plug(host, namespace, directory)?;
        self.bridge(namespace, network_of(host))?;
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            namespace.sysctl(forwarding, "1")?;
        }
        turn_off_bridge_netfilter(namespace)?;
        masquerade_guests(namespace)?;
        connect_guest(namespace, &self.guests[host], 51 + u8::try_from(host)?)?;
        Ok(processes)
    }

    fn guest(&self, host: usize) -> Result<&Arc<Namespace>> {
        Ok(&self.guests[host])
    }

    fn switch(&self, host: usize) -> &Switch {
        self.underlay.switch(host)
    }

    fn address(&self, host: usize) -> IpAddr {
        self.underlay.address(host)
    }
}

fn connect_guest(hypervisor: &Namespace, guest: &Namespace, number: u8) -> Result<()> {
    hypervisor.cable(GUEST, guest, LINK)?;
    hypervisor.plug(GUEST, BRIDGE)?;
    let v6 = |last| Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, last);
    let own = Ipv4Net::new(Ipv4Addr::new(10, 90, 0, number), 24)?;
    guest.configure_link(LINK, own, Ipv6Net::new(v6(u16::from(number)), 64)?)?;
    guest.add_route("0.0.0.0/0".parse()?, Via::Gateway(Ipv4Addr::new(10, 90, 0, 1).into()))?;
    guest.add_route("::/0".parse()?, Via::Gateway(v6(1).into()))
}

/// Where the kernel has `br_netfilter`, it tracks connections of frames that are only bridged too. What a
/// guest has begun while another hypervisor was the gateway would be known here as one that is not
/// to be hidden, and go on like that when this becomes the gateway: hypervisors turn it off.
fn turn_off_bridge_netfilter(hypervisor: &Namespace) -> Result<()> {
    if !Path::new("/proc/sys/net/bridge").exists() {
        return Ok(());
    }
    let calls = ["iptables", "ip6tables"].map(|name| format!("bridge/bridge-nf-call-{name}"));
    calls.iter().try_for_each(|call| hypervisor.sysctl(call, "0"))
}

/// What guests send outside goes under the hypervisor's own address, so that answers find back
/// whichever hypervisor is the gateway.
fn masquerade_guests(hypervisor: &Namespace) -> Result<()> {
    hypervisor.nft(
        "table inet guests {\n chain out {\n  type nat hook postrouting priority srcnat;\n  \
         ip saddr 10.90.0.0/24 oifname eth0 masquerade\n  \
         ip6 saddr fd90::/64 oifname eth0 masquerade\n }\n}\n",
    )
}
