//! The cluster of a scenario file, as real etcd, kernel and network namespaces make it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use turnip_sim::script::{Client, Script, Verb, Version};

use super::file::{Own, TurnipFile};
use crate::cluster::Cluster;
use crate::daemon::{Daemon, TurnipSettings, Vip, turnip_file};
use crate::etcd::{self, EtcdSettings};
use crate::links::Via;
use crate::network::{CLIENT_PORT_NAME, port, port_beside};
use crate::plan::{EtcdPlan, LINK, NetworkPlan, Plan, Probed};
use crate::switch::{Fault, Switch};

/// The networks of the lab itself, in which no VIP may be one of its machines' addresses.
const TAKEN: [&str; 4] = ["10.77.0.0/27", "10.77.0.192/26", "198.18.0.0/15", "fd77::/120"];

/// A running cluster, with what the script says of it.
pub(super) struct World<'a> {
    pub(super) script: &'a Script,
    pub(super) cluster: Cluster,
    file: TurnipFile,
    /// How long what goes from one port to another takes, where it takes time.
    usual: BTreeMap<(String, String), Duration>,
    /// Of each host, another weight and priority than it has.
    pub(super) reloaded: Vec<(Option<u32>, Option<u32>)>,
}

impl<'a> World<'a> {
    /// Builds the cluster, starts everything, and waits until all VIPs are held.
    pub(super) fn build(script: &'a Script, file: TurnipFile) -> Result<Self> {
        check_addresses(script)?;
        let cluster = Cluster::lay_out(plan(script)?)?;
        let reloaded = vec![(None, None); script.hosts.len()];
        let mut world = World { script, cluster, file, usual: BTreeMap::new(), reloaded };
        for net in world.addresses() {
            let via = Via::Link { name: LINK, metric: 0 };
            world.cluster.client().add_route(IpNet::from(net.addr()), via)?;
        }
        world.lay_links()?;
        world.write_files()?;
        // Another program's election is over when turnip starts.
        (0..script.config.vips.len()).try_for_each(|vip| world.move_key(vip, Some(0)))?;
        for host in 0..script.hosts.len() {
            world.cluster.start_daemon(host)?;
        }
        world.cluster.wait_until_all_stay(script.config.lease.duration() * 2)?;
        Ok(world)
    }

    /// All addresses of all VIPs.
    fn addresses(&self) -> Vec<IpNet> {
        self.cluster.plan().vips.iter().flat_map(|vip| vip.addresses.clone()).collect()
    }

    /// What comes before all: how far machines are from each other.
    fn lay_links(&mut self) -> Result<()> {
        if !self.has_relays() {
            return Ok(());
        }
        // All begin now: each interrupts its port for a moment.
        let machines = 0..self.script.machines();
        machines.into_iter().try_for_each(|machine| self.switch().relay(&self.port(machine)))?;
        let mut faults = Vec::new();
        for link in &self.script.links {
            for (one, other) in [(link.one, link.other), (link.other, link.one)] {
                let (from, to) = (self.port(one), self.port(other));
                self.switch().delay_between(&from, &to, link.rtt / 2)?;
                if link.loss_ppm > 0 {
                    faults.push(Fault::LossBetween(from.clone(), to.clone(), link.loss_ppm));
                }
                self.usual.insert((from, to), link.rtt / 2);
            }
        }
        self.switch().begin(&faults)?;
        etcd::wait_for_leader(&self.cluster.members).map(drop)
    }

    /// Whether something takes longer than it does by itself, now or then.
    fn has_relays(&self) -> bool {
        let slows = |fault: &turnip_sim::script::Fault| fault.verb == Verb::Slow;
        !self.script.links.is_empty() || self.script.faults.iter().any(slows)
    }

    /// Has the relay of a machine run again that it had before it lost its power.
    pub(super) fn relay_again(&self, machine: usize) -> Result<()> {
        match self.has_relays() {
            true => self.switch().relay(&self.port(machine)),
            false => Ok(()),
        }
    }

    /// How long what goes from one port to another takes before anything befalls it.
    pub(super) fn usual_delay(&self, from: &str, to: &str) -> Duration {
        self.usual.get(&(from.to_owned(), to.to_owned())).copied().unwrap_or_default()
    }

    /// Writes turnip.toml of every host. A daemon that runs goes on with what it has read.
    pub(super) fn write_files(&self) -> Result<()> {
        (0..self.script.hosts.len()).try_for_each(|host| {
            let member = self.cluster.plan().etcd.member_on(host);
            let mut etcd = self.cluster.etcd_addresses().to_vec();
            etcd.rotate_left(member.unwrap_or_default());
            let directory = &self.cluster.host(host).directory;
            let text = self.file.of_host(&Own {
                host: &self.script.hosts[host],
                reloaded: self.reloaded[host],
                etcd: &etcd,
                has_member: member.is_some(),
                directory,
            })?;
            Ok(fs::write(turnip_file(directory), text)?)
        })
    }

    /// Writes the key that a VIP follows, where it follows one: it names this host, or there is none.
    pub(super) fn move_key(&self, vip: usize, host: Option<usize>) -> Result<()> {
        let Some(follow) = self.script.followed(vip) else { return Ok(()) };
        let name = host.map(|host| self.script.machine(host));
        let value = name.map(|name| value_that_names(name, follow.pointer.as_deref()));
        some_member(&self.cluster.members, |member| match &value {
            Some(value) => member.put(&follow.key, value),
            None => member.delete(&follow.key),
        })
    }

    /// The switch that everything is plugged into.
    pub(super) fn switch(&self) -> &Switch {
        self.cluster.network().switch(0)
    }

    /// The name of a machine's port.
    pub(super) fn port(&self, machine: usize) -> String {
        match machine.checked_sub(self.script.hosts.len()) {
            None => port(machine),
            Some(beside) => port_beside(beside),
        }
    }

    /// The ports behind a machine's uplink: its own, and the client's where that is beside it.
    pub(super) fn ports(&self, machine: usize) -> Vec<String> {
        let mut ports = vec![self.port(machine)];
        if self.script.client == Client::Beside(machine) {
            ports.push(CLIENT_PORT_NAME.into());
        }
        ports
    }

    /// The number of etcd's member on a machine.
    pub(super) fn member(&self, machine: usize) -> Result<usize> {
        let member = self.script.etcd.members.iter().position(|one| *one == machine);
        member.with_context(|| format!("{} has no member of etcd", self.script.machine(machine)))
    }

    /// The machine whose member leads.
    pub(super) fn leader(&self) -> Option<usize> {
        etcd::leader(&self.cluster.members).map(|member| self.script.etcd.members[member])
    }

    /// The host that has a VIP; of several the one that the client has heard last.
    pub(super) fn holder(&self, vip: usize) -> Option<usize> {
        let address = self.cluster.plan().vips[vip].addresses[0].addr();
        let holders = self.cluster.holders_of(address).ok()?;
        let heard = self.cluster.last_to_answer(address);
        let is_heard = |host: &&usize| heard.as_deref() == Some(self.script.machine(**host));
        holders.iter().find(is_heard).or(holders.first()).copied()
    }
}

/// What stands under a key that names a host: its name, or JSON with that at a pointer.
fn value_that_names(name: &str, pointer: Option<&str>) -> String {
    let Some(pointer) = pointer else { return name.to_owned() };
    let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    let whole = steps.collect::<Vec<_>>().into_iter().rev();
    whole
        .fold(serde_json::Value::from(name), |inner, step| serde_json::json!({ step: inner }))
        .to_string()
}

/// By the first member that does it, as an operator tries one after the other.
pub(super) fn some_member(
    members: &[etcd::Member],
    what: impl Fn(&etcd::Member) -> Result<()>,
) -> Result<()> {
    let mut last = None;
    for member in members.iter().filter(|member| member.runs()) {
        match what(member) {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no member of etcd runs")?)
}

/// Every one of these with every one of those.
pub(super) fn pairs(ones: &[String], others: &[String]) -> Vec<(String, String)> {
    let each = ones.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
    each.filter(|(one, other)| one != other)
        .map(|(one, other)| (one.clone(), other.clone()))
        .collect()
}

fn plan(script: &Script) -> Result<Plan> {
    let vips = script.config.vips.iter().map(|vip| Vip {
        name: vip.config.name.as_str().into(),
        addresses: vip.config.addresses.iter().map(|one| one.net).collect(),
        interface: LINK.into(),
        elsewhere: Vec::new(),
        lines: Vec::new(),
    });
    let ms = |time: Duration| u32::try_from(time.as_millis()).context("etcd's timers");
    let settings = EtcdSettings {
        heartbeat_ms: ms(script.etcd.heartbeat)?,
        election_ms: ms(script.etcd.election)?,
        program: Some(program(script.etcd.version)?),
        ..EtcdSettings::default()
    };
    let hosts = script.hosts.len();
    let on = script.etcd.members.iter().copied().filter(|machine| *machine < hosts).collect();
    Ok(Plan {
        hosts,
        network: NetworkPlan::OneSwitch,
        etcd: EtcdPlan::Placed { on, beside: script.beside.clone(), settings },
        daemon: Daemon::Turnip(TurnipSettings { by_own_file: true, ..TurnipSettings::default() }),
        vips: vips.collect(),
        probed: Probed::AllVips,
        names: script.hosts.iter().map(|host| host.name.clone()).collect(),
    })
}

/// No VIP is an address of the lab's own machines.
fn check_addresses(script: &Script) -> Result<()> {
    for vip in &script.config.vips {
        for one in &vip.config.addresses {
            let is_taken =
                |net: &str| net.parse::<IpNet>().is_ok_and(|net| net.contains(&one.net.addr()));
            if let Some(net) = TAKEN.iter().find(|net| is_taken(net)) {
                bail!(
                    "{} of vip {:?}: {net} is the lab's own; give the VIP another address, such as 10.77.0.100",
                    one.net,
                    vip.config.name.as_str(),
                );
            }
        }
    }
    Ok(())
}

/// An etcd of this version: the one that the lab is told of, else the one in `PATH` if it is one.
fn program(version: Version) -> Result<String> {
    let (number, variable) = match version {
        Version::V3_4 => ("3.4", etcd::OLDER_VARIABLE),
        Version::V3_5 => ("3.5", etcd::NEWER_VARIABLE),
    };
    let candidates = [std::env::var(variable).ok(), Some(etcd::binary()), Some("etcd".into())];
    let mut found = Vec::new();
    for program in candidates.into_iter().flatten() {
        let Ok(output) = Command::new(&program).arg("--version").output() else { continue };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().next().unwrap_or_default().to_owned();
        if line.contains(&format!("Version: {number}.")) {
            return Ok(program);
        }
        found.push(format!("{program} is {line:?}"));
    }
    let how = match version {
        Version::V3_4 => format!("{variable}=/path/to/etcd"),
        Version::V3_5 => format!("{variable}=$(ci/etcd-3.5)"),
    };
    bail!("the scenario wants etcd {number}, and {}; say where it is: {how}", found.join(", "))
}

/// The address of a VIP that is looked at in tables and pictures is its first; this is of all.
pub(super) fn addresses_of(cluster: &Cluster, vip: usize) -> Vec<IpAddr> {
    cluster.plan().vips[vip].addresses.iter().map(IpNet::addr).collect()
}

/// Reads turnip's part of a file.
pub(super) fn file(path: &Path, script: &Script) -> Result<TurnipFile> {
    TurnipFile::load(path, script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_a_host_plainly_or_at_a_pointer() {
        assert_eq!(value_that_names("h1", None), "h1");
        assert_eq!(value_that_names("h1", Some("/a~1b/~0c")), r#"{"a/b":{"~c":"h1"}}"#);
    }
}
