//! A host of a lab, through its boots, with its out-of-band prober: a namespace at the other end of a
//! cable that leads to this host alone. The prober asks whether this host answers at an address,
//! whatever the rest of the network believes. It sends to the hardware address of that cable and so
//! does without ARP: whether a host resolves an address for its neighbours is what the tests of the
//! fence ask; here the question is whether it would answer somebody who believes that it has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::address_monitor::AddressMonitor;
use crate::daemon::{boot_id, machine_id, runtime_directory};
use crate::guard;
use crate::lab::Lab;
use crate::links::Via;
use crate::namespace::Namespace;
use crate::network::Network;
use crate::poll::Poll;
use crate::probe::{Probe, Prober, Target, Transport};
use crate::process::Process;
use crate::responder::Responder;

const PROBER_LINK: &str = "prober";
const HOST_LINK: &str = "host";

/// Processes that are killed are gone after some milliseconds, on however busy a machine by then.
const DEATH: Poll = Poll::every(Duration::from_millis(1)).within(Duration::from_secs(5));

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Where it keeps its files.
    pub directory: PathBuf,
    /// The daemon that runs on it.
    pub daemon: Option<Process>,
    services: Vec<Process>,
    index: usize,
    probed: Vec<IpNet>,
    running: Option<Boot>,
    /// Of earlier boots, in order of time.
    past_answers: Vec<(IpAddr, Vec<Probe>)>,
    namespace: Arc<Namespace>,
}

#[derive(Debug)]
struct Boot {
    prober: Prober,
    _responder: Responder,
    _prober_namespace: Arc<Namespace>,
}

/// As the kernel makes them.
fn random_id() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?)
}

impl Host {
    /// A host without power, which is to be asked at the addresses `probed`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(lab: &Lab, index: usize, name: String, probed: Vec<IpNet>) -> Result<Self> {
        let directory = lab.directory_of(&name)?;
        std::fs::write(machine_id(&directory), random_id()?.replace('-', ""))?;
        Ok(Host {
            directory,
            daemon: None,
            services: Vec::new(),
            index,
            probed,
            running: None,
            past_answers: Vec::new(),
            namespace: lab.namespace(&name)?,
            name,
        })
    }

    /// Gives it a fresh namespace, plugs it in, and starts its responder and its out-of-band prober.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn boot(
        &mut self,
        lab: &Lab,
        monitor: &AddressMonitor,
        network: &dyn Network,
    ) -> Result<()> {
        self.namespace = lab.namespace(&self.name)?;
        guard::make_directory(&runtime_directory(&self.directory))?;
        // Drawn at random by the kernel at each boot.
        std::fs::write(boot_id(&self.directory), random_id()?)?;
        monitor.watch(&self.namespace, &self.name)?;
        self.plug(network)?;
        let responder = Responder::start(&self.namespace, &self.name)?;
        let prober_namespace = self.connect_prober(lab)?;
        let target = |net: &IpNet| Target { address: net.addr(), transport: Transport::Udp };
        let prober = Prober::start(&prober_namespace, self.probed.iter().map(target).collect())?;
        self.running =
            Some(Boot { prober, _responder: responder, _prober_namespace: prober_namespace });
        Ok(())
    }

    /// Plugs it into the network.
    ///
    /// # Errors
    /// When it is plugged in already.
    pub fn plug(&mut self, network: &dyn Network) -> Result<()> {
        self.services = network.plug(self.index, &self.namespace, &self.directory)?;
        Ok(())
    }

    /// Whether it has power.
    pub fn has_power(&self) -> bool {
        self.running.is_some()
    }

    /// The namespace of its present or last boot.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The same, to keep.
    pub fn shared_namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// Takes its power: links first, so that nothing that ends can say so to anybody.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn power_off(&mut self) -> Result<()> {
        for link in self.namespace.link_names()? {
            self.namespace.remove_link(&link)?;
        }
        self.end_processes()?;
        for address in self.namespace.addresses()? {
            if !address.is_loopback() {
                self.namespace.remove_address(address)?;
            }
        }
        self.daemon = None;
        self.services.clear();
        self.keep_answers();
        self.running = None;
        Ok(std::fs::remove_dir_all(runtime_directory(&self.directory))?)
    }

    /// Until all are gone: one that is dying could put an address there yet.
    fn end_processes(&self) -> Result<()> {
        let mut processes = Vec::new();
        let all_ended = DEATH.is_so(|| {
            processes = self.namespace.processes()?;
            for process in &processes {
                let _ = kill(Pid::from_raw(*process), Signal::SIGKILL);
            }
            std::io::Result::Ok(processes.is_empty())
        })?;
        ensure!(all_ended, "{} has no power, and {processes:?} run", self.name);
        Ok(())
    }

    /// What became of the out-of-band prober's probes for `address`, in all boots.
    pub fn answers(&self, address: IpAddr) -> Vec<Probe> {
        let past = self.past_answers.iter().filter(|(asked, _)| *asked == address);
        let mut probes: Vec<Probe> = past.flat_map(|(_, probes)| probes.clone()).collect();
        let records = self.running.as_ref().map_or(Vec::new(), |boot| boot.prober.records());
        let present = records.into_iter().filter(|(target, _)| target.address == address);
        probes.extend(present.flat_map(|(_, probes)| probes));
        probes
    }

    fn keep_answers(&mut self) {
        let records = self.running.as_ref().map_or(Vec::new(), |boot| boot.prober.records());
        let records = records.into_iter().map(|(target, probes)| (target.address, probes));
        self.past_answers.extend(records);
    }

    /// Neighbours are permanent at both ends, so that nothing but the host's own decision keeps
    /// it from answering.
    fn connect_prober(&self, lab: &Lab) -> Result<Arc<Namespace>> {
        let namespace = lab.namespace(&format!("{}-prober", self.name))?;
        self.namespace.cable(PROBER_LINK, &namespace, HOST_LINK)?;
        let (host_mac, prober_mac) = (self.namespace.mac(PROBER_LINK)?, namespace.mac(HOST_LINK)?);
        for (host_end, prober_end) in [self.v4_ends()?, self.v6_ends()?] {
            self.namespace.add_address(PROBER_LINK, host_end)?;
            namespace.add_address(HOST_LINK, prober_end)?;
            self.namespace.add_neighbour(PROBER_LINK, prober_end.addr(), prober_mac)?;
        }
        for address in &self.probed {
            let alone = IpNet::from(address.addr());
            namespace.add_route(alone, Via::Link { name: HOST_LINK, metric: 0 })?;
            namespace.add_neighbour(HOST_LINK, address.addr(), host_mac)?;
        }
        Ok(namespace)
    }

    fn v4_ends(&self) -> Result<(IpNet, IpNet)> {
        let third = u8::try_from(self.index)?;
        let end = |last| Ipv4Net::new(Ipv4Addr::new(198, 18, third, last), 30).map(IpNet::from);
        Ok((end(1)?, end(2)?))
    }

    fn v6_ends(&self) -> Result<(IpNet, IpNet)> {
        let third = u16::try_from(self.index)?;
        let end = |last| {
            Ipv6Net::new(Ipv6Addr::new(0xfd18, 0, third, 0, 0, 0, 0, last), 64).map(IpNet::from)
        };
        Ok((end(1)?, end(2)?))
    }
}
