//! All hosts and the client on one switch.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{CLIENT_PORT_NAME, Network, port};
use crate::lab::Lab;
use crate::links::Via;
use crate::namespace::Namespace;
use crate::plan::LINK;
use crate::process::Process;
use crate::switch::Switch;

/// The last number of the client's addresses.
const CLIENT: u8 = 200;

/// That of the first machine that is no host.
const OTHERS: u8 = 201;

/// Hosts are 10.77.0.11 and up, the client 10.77.0.200, other machines 10.77.0.201 and up; likewise
/// in fd77::. A VIP may be 10.77.0.100, which is that of a ninetieth host.
#[derive(Debug)]
pub struct OneSwitch {
    switch: Switch,
    client: Arc<Namespace>,
}

impl OneSwitch {
    /// The switch with the client.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(lab: &Lab) -> Result<Self> {
        let network =
            OneSwitch { switch: Switch::new(lab, "switch")?, client: lab.namespace("client")? };
        network.connect(CLIENT_PORT_NAME, CLIENT, &network.client)?;
        // Addresses of other networks than the hosts' own are on the same link.
        network.client.add_route("10.64.0.0/10".parse()?, Via::Link { name: LINK, metric: 0 })?;
        Ok(network)
    }

    fn connect(&self, name: &str, number: u8, namespace: &Namespace) -> Result<IpAddr> {
        self.switch.connect(name, namespace, LINK)?;
        let (v4, v6) = numbered(number);
        namespace.configure_link(LINK, Ipv4Net::new(v4, 24)?, Ipv6Net::new(v6, 64)?)?;
        Ok(v4.into())
    }
}

impl Network for OneSwitch {
    fn client(&self) -> &Arc<Namespace> {
        &self.client
    }

    fn client_addresses(&self) -> Result<[IpAddr; 2]> {
        let (v4, v6) = numbered(CLIENT);
        Ok([v4.into(), v6.into()])
    }

    fn plug(&self, host: usize, namespace: &Namespace, _: &Path) -> Result<Vec<Process>> {
        self.connect(&port(host), u8::try_from(11 + host)?, namespace)?;
        Ok(Vec::new())
    }

    fn switch(&self, _: usize) -> &Switch {
        &self.switch
    }

    fn address(&self, host: usize) -> IpAddr {
        numbered(11 + u8::try_from(host).expect("few hosts")).0.into()
    }

    fn addresses(&self, host: usize) -> Result<[IpNet; 2]> {
        let (v4, v6) = numbered(u8::try_from(11 + host)?);
        Ok([IpNet::new(v4.into(), 24)?, IpNet::new(v6.into(), 64)?])
    }

    fn attach(&self, name: &str, number: usize, namespace: &Namespace) -> Result<IpAddr> {
        self.connect(name, OTHERS + u8::try_from(number)?, namespace)
    }
}

/// The addresses of the machine with this number.
fn numbered(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(number));
    (Ipv4Addr::new(10, 77, 0, number), v6)
}
