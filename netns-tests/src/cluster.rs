//! Hosts on one switch, with etcd on them or apart, a daemon on each, a client, and the observers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use crate::daemon::{CLUSTER, Daemon, Place, TurnipSettings, Vip, turnip_command};
use crate::etcd::{self, EtcdSettings, Member};
use crate::eye::Eye;
use crate::host::Host;
use crate::lab::Lab;
use crate::links::Via;
use crate::measure::{self, Span};
use crate::namespace::Namespace;
use crate::probe::{Prober, Shot, Target, Way};
use crate::process::Process;
use crate::switch::Switch;

/// The link of every host that is plugged into the switch.
pub const LINK: &str = "eth0";

/// What a cluster is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// How many hosts run the daemon.
    pub hosts: usize,
    /// Where etcd runs.
    pub etcd: EtcdPlan,
    /// What keeps the addresses.
    pub daemon: Daemon,
    /// The addresses; clients probe the first VIP.
    pub vips: Vec<Vip>,
}

/// Where etcd runs.
#[derive(Clone, PartialEq, Debug)]
pub enum EtcdPlan {
    /// A member on each host.
    OnHosts(EtcdSettings),
    /// This many members on hosts of their own.
    Apart(usize, EtcdSettings),
    /// Not at all.
    None,
}

impl Default for Plan {
    /// Three hosts with etcd and turnip on each, and one IPv4 address.
    fn default() -> Self {
        Plan {
            hosts: 3,
            etcd: EtcdPlan::OnHosts(EtcdSettings::default()),
            daemon: Daemon::Turnip(TurnipSettings::default()),
            vips: vec![vip("api", &["10.77.0.100/24"])],
        }
    }
}

/// A VIP on [`LINK`].
///
/// # Panics
/// When an address is none.
pub fn vip(name: &str, addresses: &[&str]) -> Vip {
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    Vip { name: name.into(), addresses, interface: LINK.into() }
}

/// A running cluster. Hosts are named `h1`, `h2` and so on, and counted from 0.
#[derive(Debug)]
pub struct Cluster {
    client_probes: Prober,
    hosts: Vec<Host>,
    /// etcd's members: the first is on the first host, or apart.
    pub members: Vec<Member>,
    eye: Eye,
    /// The switch that connects all of them.
    pub switch: Switch,
    client: Arc<Namespace>,
    plan: Plan,
    etcd_addresses: Vec<IpAddr>,
    lab: Arc<Lab>,
}

/// What the observers saw in a span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// How long two hosts had an address at once.
    pub overlap: Duration,
    /// How long two hosts answered at once, each asked itself.
    pub answers_overlap: Duration,
    /// The longest time without an answer for a client that sends datagrams.
    pub gap: Duration,
    /// The same for one that connects.
    pub gap_tcp: Duration,
    /// The longest time in which no host had the address.
    pub absence: Duration,
}

impl Cluster {
    /// Lays the hosts out and starts etcd, but no daemon.
    ///
    /// # Errors
    /// Without root, or when something cannot be started.
    pub fn lay_out(plan: Plan) -> Result<Self> {
        let lab = Lab::new()?;
        let switch = Switch::new(&lab, "switch")?;
        let eye = Eye::new(&lab)?;
        let client = lab.namespace("client")?;
        switch.connect("client", &client, LINK)?;
        client.add_address(LINK, v4(200).into())?;
        client.add_address(LINK, v6(200).into())?;
        // Addresses of other networks than the hosts' own are on the same link.
        client.add_route("10.64.0.0/10".parse()?, Via::Link { name: LINK, metric: 0 })?;
        let probed: Vec<IpNet> = plan.vips.first().map_or(Vec::new(), |vip| vip.addresses.clone());
        let mut hosts = Vec::new();
        for index in 0..plan.hosts {
            let mut host = Host::new(&lab, index, format!("h{}", index + 1), probed.clone())?;
            host.boot(&lab, &eye, |host| plug(&switch, host, index))?;
            hosts.push(host);
        }
        let (members, etcd_addresses) = set_up_etcd(&lab, &switch, &plan.etcd, &hosts)?;
        let ways = |address: &IpNet| [Way::Udp, Way::Tcp].map(|way| (address.addr(), way));
        let targets = probed.iter().flat_map(ways);
        let targets = targets.map(|(address, way)| Target { address, way }).collect();
        let client_probes = Prober::start(&client, targets)?;
        let mut cluster = Cluster {
            client_probes,
            hosts,
            members,
            eye,
            switch,
            client,
            plan,
            etcd_addresses,
            lab,
        };
        if !cluster.members.is_empty() {
            for member in &mut cluster.members {
                member.start()?;
            }
            etcd::wait_for_leader(&cluster.members)?;
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
        for host in 0..cluster.hosts.len() {
            cluster.start_daemon(host)?;
        }
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
        &self.client
    }

    /// A host.
    pub fn host(&self, host: usize) -> &Host {
        &self.hosts[host]
    }

    /// The observer of addresses.
    pub fn eye(&self) -> &Eye {
        &self.eye
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

    // ---- daemons ----

    /// Starts the daemon of a host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_daemon(&mut self, index: usize) -> Result<()> {
        let has_member = matches!(self.plan.etcd, EtcdPlan::OnHosts(_));
        let host = &self.hosts[index];
        let place = Place {
            host: &host.name,
            index,
            namespace: host.namespace(),
            directory: &host.directory,
            has_member,
            etcd: &self.etcd_addresses,
        };
        let command = self.plan.daemon.command(place, &self.plan.vips)?;
        let log = host.directory.join("daemon.log");
        let process = Process::start(command, &format!("daemon of {}", host.name), log)?;
        self.hosts[index].daemon = Some(process);
        Ok(())
    }

    /// The daemon of a host.
    ///
    /// # Errors
    /// When none runs.
    pub fn daemon(&mut self, host: usize) -> Result<&mut Process> {
        let host = &mut self.hosts[host];
        host.daemon.as_mut().with_context(|| format!("no daemon runs on {}", host.name))
    }

    /// Ends the daemon of a host in an orderly way.
    ///
    /// # Errors
    /// When it does not end within 10 s.
    pub fn stop_daemon(&mut self, host: usize) -> Result<()> {
        if let Some(mut process) = self.hosts[host].daemon.take() {
            process.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Kills the daemon of a host.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_daemon(&mut self, host: usize) -> Result<()> {
        self.daemon(host)?.kill();
        self.hosts[host].daemon = None;
        Ok(())
    }

    /// Stops the execution of the daemon of a host.
    ///
    /// # Errors
    /// When none runs.
    pub fn freeze_daemon(&mut self, host: usize) -> Result<()> {
        self.daemon(host)?.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When none runs.
    pub fn thaw_daemon(&mut self, host: usize) -> Result<()> {
        self.daemon(host)?.thaw()
    }

    /// Starts on `host` a daemon that believes to be that of `other`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_twin(&self, host: usize, other: usize) -> Result<Process> {
        let directory = self.lab.directory_of(&format!("twin-of-h{}", other + 1))?;
        let place = Place {
            host: &self.hosts[other].name,
            index: other,
            namespace: self.hosts[host].namespace(),
            directory: &directory,
            has_member: matches!(self.plan.etcd, EtcdPlan::OnHosts(_)),
            etcd: &self.etcd_addresses,
        };
        let command = self.plan.daemon.command(place, &self.plan.vips)?;
        Process::start(command, "the twin", directory.join("daemon.log"))
    }

    // ---- the network ----

    /// Pulls the cable of a host, whose link disappears with it.
    ///
    /// # Errors
    /// As of the switch.
    pub fn unplug(&mut self, host: usize) -> Result<()> {
        self.switch.disconnect(&port(host))
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// As of the switch.
    pub fn plug_in(&mut self, host: usize) -> Result<()> {
        plug(&self.switch, self.hosts[host].namespace(), host)
    }

    /// Cuts a host off from everything; its link stays up.
    ///
    /// # Errors
    /// As of the switch.
    pub fn isolate(&self, host: usize) -> Result<()> {
        self.switch.cut(&port(host))
    }

    /// Cuts two hosts off from each other.
    ///
    /// # Errors
    /// As of the switch.
    pub fn cut(&self, a: usize, b: usize) -> Result<()> {
        self.switch.cut_between(&port(a), &port(b))
    }

    /// Cuts a host off from etcd on all other hosts, while clients still reach it.
    ///
    /// # Errors
    /// As of the switch.
    pub fn cut_from_store(&self, host: usize) -> Result<()> {
        self.switch.cut_from_store(&port(host))
    }

    /// Loses what a host sends; it still receives.
    ///
    /// # Errors
    /// As of the switch.
    pub fn mute(&self, host: usize) -> Result<()> {
        self.switch.cut_from(&port(host))
    }

    /// Loses what is sent to a host; it still sends.
    ///
    /// # Errors
    /// As of the switch.
    pub fn deafen(&self, host: usize) -> Result<()> {
        self.switch.cut_to(&port(host))
    }

    /// Loses this many percent of a host's frames.
    ///
    /// # Errors
    /// As of the switch.
    pub fn lose(&self, host: usize, percent: u32) -> Result<()> {
        self.switch.lose(&port(host), percent)
    }

    /// Ends all faults of the network.
    ///
    /// # Errors
    /// As of the switch.
    pub fn heal(&self) -> Result<()> {
        self.switch.heal()
    }

    // ---- hosts ----

    /// Takes the power from a host: its links are gone at once, then all that ran on it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn power_off(&mut self, host: usize) -> Result<()> {
        self.switch.disconnect(&port(host))?;
        self.hosts[host].power_off()?;
        if matches!(self.plan.etcd, EtcdPlan::OnHosts(_)) {
            self.members[host].kill();
        }
        Ok(())
    }

    /// Gives a host its power back: it starts with nothing but its files, then etcd, then the
    /// daemon.
    ///
    /// # Errors
    /// When something cannot be started.
    pub fn power_on(&mut self, index: usize) -> Result<()> {
        let Cluster { switch, hosts, eye, lab, .. } = self;
        hosts[index].boot(lab, eye, |host| plug(switch, host, index))?;
        if matches!(self.plan.etcd, EtcdPlan::OnHosts(_)) {
            self.members[index].move_to(Arc::clone(self.hosts[index].shared_namespace()));
            self.members[index].start()?;
        }
        self.start_daemon(index)
    }

    // ---- operators ----

    /// Runs turnip on the client's machine, as an operator does, with the cluster's endpoints.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn turnip(&self, arguments: &[&str]) -> Result<String> {
        let endpoint = |ip: &IpAddr| format!("http://{}", SocketAddr::new(*ip, 2379));
        let endpoints: Vec<String> = self.etcd_addresses.iter().map(endpoint).collect();
        let mut command = turnip_command(&self.client)?;
        command.args(arguments).args(["--cluster", CLUSTER, "--endpoints", &endpoints.join(",")]);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("turnip {}: {}\n{said}{error}", arguments.join(" "), output.status);
        }
        Ok(said)
    }

    // ---- what is so ----

    /// The hosts that have the address now.
    ///
    /// # Errors
    /// When events were lost.
    pub fn holders(&self) -> Result<Vec<usize>> {
        let names = self.eye.holders(self.address(), Instant::now())?;
        let index = |name: String| self.hosts.iter().position(|host| host.name == name);
        Ok(names.into_iter().filter_map(index).collect())
    }

    /// Waits until one host has the address and clients hear from it.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_for_owner(&self) -> Result<usize> {
        self.wait_for_owner_among(|_| true)
    }

    /// Waits until one host has had the address for so long that placement has had its way: the
    /// first to start takes what another should have, and gives it up after a while.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_until_settled(&self) -> Result<usize> {
        let mut since = (self.wait_for_owner()?, Instant::now());
        self.wait("the address has settled", || {
            match self.holders()?[..] {
                [owner] if owner == since.0 => {}
                _ => since = (self.wait_for_owner()?, Instant::now()),
            }
            Ok(since.1.elapsed() > self.plan.daemon.settles_within())
        })?;
        Ok(since.0)
    }

    /// Waits until one host that `wanted` accepts has the address and clients hear from it.
    ///
    /// # Errors
    /// When that is not so within 30 s; with what the daemons said.
    pub fn wait_for_owner_among(&self, wanted: impl Fn(usize) -> bool) -> Result<usize> {
        let asked = Instant::now();
        let mut found = None;
        self.wait("one host has the address and answers", || {
            let last = self.client_shots(Way::Udp).into_iter().rev().find(Shot::answered);
            let answering = last.and_then(|shot| shot.answer).filter(|(at, _)| *at > asked);
            if let (&[owner], Some((_, name))) = (&self.holders()?[..], answering)
                && wanted(owner)
                && self.hosts[owner].name == *name
            {
                found = Some(owner);
            }
            Ok(found.is_some())
        })?;
        found.context("an owner")
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not within 30 s; with what the daemons said.
    pub fn wait(&self, what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if so()? {
                return Ok(());
            }
            sleep(Duration::from_millis(2));
        }
        bail!("not within 30 s: {what}\n{}", self.said())
    }

    /// What is left of turnip on a host: its addresses and tables.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn left_behind(&self, host: usize) -> Result<Vec<String>> {
        let namespace = self.hosts[host].namespace();
        let floating: Vec<IpAddr> =
            self.plan.vips.iter().flat_map(|vip| &vip.addresses).map(IpNet::addr).collect();
        let addresses = namespace.addresses()?.into_iter().filter(|ip| floating.contains(ip));
        let mut left: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let tables = namespace.output("nft", &["list", "tables"])?;
        left.extend(tables.lines().map(str::to_owned));
        Ok(left)
    }

    /// Fails unless, since `from`, no two hosts had the address and no two answered at once.
    ///
    /// # Errors
    /// When two did; with what the daemons said.
    pub fn assert_alone_since(&self, from: Instant) -> Result<Seen> {
        let seen = self.since(from)?;
        if !seen.overlap.is_zero() || !seen.answers_overlap.is_zero() {
            bail!("two hosts at once: {seen:?}\n{}", self.said());
        }
        Ok(seen)
    }

    /// Fails unless, since `from`, no two hosts answered at once. Two may have had the address.
    ///
    /// # Errors
    /// When two did; with what the daemons said.
    pub fn assert_one_answers_since(&self, from: Instant) -> Result<Seen> {
        let seen = self.since(from)?;
        if !seen.answers_overlap.is_zero() {
            bail!("two hosts answered at once: {seen:?}\n{}", self.said());
        }
        Ok(seen)
    }

    /// Fails unless, since `from`, the address stayed on `owner` and clients heard it throughout.
    ///
    /// # Errors
    /// When it did not; with what the daemons said.
    pub fn assert_stayed_since(&self, from: Instant, owner: usize) -> Result<()> {
        let seen = self.assert_alone_since(from)?;
        if !seen.absence.is_zero() || !seen.gap.is_zero() || self.holders()? != [owner] {
            bail!("it did not stay on h{}: {seen:?}\n{}", owner + 1, self.said());
        }
        Ok(())
    }

    /// What all daemons have said, and the journal.
    pub fn said(&self) -> String {
        let mut said = String::new();
        for (at, what) in self.lab.journal().entries() {
            let after = at.duration_since(self.lab.journal().start());
            said += &format!("{:9.3} {what}\n", after.as_secs_f64());
        }
        for host in &self.hosts {
            let log = std::fs::read_to_string(host.directory.join("daemon.log"));
            said += &format!("--- {}\n{}\n", host.name, log.unwrap_or_default());
        }
        said
    }

    /// What the observers saw since `from`.
    ///
    /// # Errors
    /// When events were lost.
    pub fn since(&self, from: Instant) -> Result<Seen> {
        self.seen(Span { from, to: Instant::now() })
    }

    /// What the observers saw in `span`.
    ///
    /// # Errors
    /// When events were lost.
    pub fn seen(&self, span: Span) -> Result<Seen> {
        let addresses = self.plan.vips.iter().flat_map(|vip| &vip.addresses);
        let probed: Vec<IpAddr> = self.plan.vips[0].addresses.iter().map(IpNet::addr).collect();
        let mut seen = Seen {
            overlap: Duration::ZERO,
            answers_overlap: Duration::ZERO,
            gap: Duration::ZERO,
            gap_tcp: Duration::ZERO,
            absence: Duration::ZERO,
        };
        let mut by_address = self.eye.events_by_address()?;
        for address in addresses {
            let events = by_address.remove(&address.addr()).unwrap_or_default();
            seen.overlap = seen.overlap.max(measure::overlap(&events, span));
            seen.absence = seen.absence.max(measure::longest_absence(&events, span));
        }
        for address in probed {
            let panels: Vec<Vec<Shot>> =
                self.hosts.iter().map(|host| host.answers(address)).collect();
            let overlap = measure::answers_overlap(&panels, span);
            seen.answers_overlap = seen.answers_overlap.max(overlap);
        }
        for (target, shots) in self.client_probes.records() {
            let gap = measure::gap(&shots, span).length();
            let longest = if target.way == Way::Tcp { &mut seen.gap_tcp } else { &mut seen.gap };
            *longest = gap.max(*longest);
        }
        Ok(seen)
    }

    /// The client's probes of the first address.
    pub fn client_shots(&self, way: Way) -> Vec<Shot> {
        let address = self.address();
        let mut records = self.client_probes.records().into_iter();
        let found = records.find(|(target, _)| *target == Target { address, way });
        found.map_or(Vec::new(), |(_, shots)| shots)
    }
}

fn plug(switch: &Switch, host: &Namespace, index: usize) -> Result<()> {
    switch.connect(&port(index), host, LINK)?;
    let number = u8::try_from(11 + index)?;
    host.add_address(LINK, v4(number).into())?;
    host.add_address(LINK, v6(number).into())
}

type EtcdOfCluster = (Vec<Member>, Vec<IpAddr>);

fn set_up_etcd(
    lab: &Lab,
    switch: &Switch,
    plan: &EtcdPlan,
    hosts: &[Host],
) -> Result<EtcdOfCluster> {
    let mut places = Vec::new();
    let settings = match plan {
        EtcdPlan::None => return Ok((Vec::new(), Vec::new())),
        EtcdPlan::OnHosts(settings) => {
            for (index, host) in hosts.iter().enumerate() {
                let ip = v4(u8::try_from(11 + index)?).addr().into();
                let namespace = Arc::clone(host.shared_namespace());
                places.push((host.name.clone(), namespace, ip, host.directory.clone()));
            }
            settings
        }
        EtcdPlan::Apart(count, settings) => {
            for index in 0..*count {
                let name = format!("e{}", index + 1);
                let namespace = lab.namespace(&name)?;
                switch.connect(&name, &namespace, LINK)?;
                let address = v4(u8::try_from(31 + index)?);
                namespace.add_address(LINK, address.into())?;
                let directory = lab.directory_of(&name)?;
                places.push((name, namespace, address.addr().into(), directory));
            }
            settings
        }
    };
    let addresses = places.iter().map(|(_, _, ip, _)| *ip).collect();
    Ok((etcd::members(&places, settings), addresses))
}

/// The switch's port of a host.
pub fn port(host: usize) -> String {
    format!("h{}", host + 1)
}

fn v4(number: u8) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new(Ipv4Addr::new(10, 77, 0, number), 24).expect("24 is a prefix length")
}

fn v6(number: u8) -> ipnet::Ipv6Net {
    let address = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(number));
    ipnet::Ipv6Net::new(address, 64).expect("64 is a prefix length")
}
