//! What verbs do in the lab, and how that ends again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use turnip_sim::script::{Deed, Verb};

use super::Player;
use super::file::failing;
use super::network::numbers;
use super::world::{addresses_of, some_member};
use crate::etcd;

use crate::namespace::{LinkState, Namespace};
use crate::plan::LINK;

/// A daemon ends in an orderly way by then.
const END: Duration = Duration::from_secs(10);

impl Player<'_> {
    /// Does it.
    pub(super) fn begin_deed(&mut self, deed: &Deed) -> Result<()> {
        let whom = self.on_the_switch(deed, true)?;
        match deed.verb {
            Verb::Slow => self.slow(deed),
            Verb::CutFromStore => {
                self.each_host(&whom, |player, host| player.cut_from_own_member(host, true))
            }
            Verb::LinkDown => {
                self.each_host(&whom, |player, host| player.link(host, LinkState::Down))
            }
            Verb::Kill => {
                self.each_daemon(&whom, |player, host| player.world.cluster.kill_daemon(host))
            }
            Verb::Stop | Verb::Reboot => {
                self.each_daemon(&whom, |player, host| player.world.cluster.stop_daemon(host))
            }
            Verb::Leave => self.each_daemon(&whom, Self::leave),
            Verb::Freeze => {
                self.each_daemon(&whom, |player, host| player.world.cluster.freeze_daemon(host))
            }
            Verb::PowerOff => whom.iter().try_for_each(|&machine| self.power_off(machine)),
            Verb::StopEtcd => self.each_member(&whom, |member| {
                member.kill();
                Ok(())
            }),
            Verb::FreezeEtcd => self.each_member(&whom, |member| member.freeze()),
            Verb::SlowDisk => {
                let by = deed.details.by;
                self.each_member(&whom, |member| member.slow_disk(by))
            }
            Verb::MoveLeader => self.move_leader(deed),
            Verb::FillEtcd => some_member(self.members(), etcd::Member::raise_alarm),
            Verb::CompactEtcd => some_member(self.members(), etcd::Member::compact),
            Verb::BackUpEtcd => {
                let to = self.snapshot();
                // Of the newest only: etcdctl does not write over one.
                drop(fs::remove_file(&to));
                some_member(self.members(), |member| member.save_snapshot(&to))
            }
            Verb::RestoreEtcd => {
                self.world.cluster.members.iter_mut().try_for_each(etcd::Member::stop)?;
                let from = Some(self.snapshot()).filter(|path| path.exists());
                let mut members = self.world.cluster.members.iter();
                members.try_for_each(|member| member.restore_snapshot(from.as_deref()))
            }
            Verb::Drain | Verb::Pin => self.intend(deed, true),
            Verb::MoveKey => {
                whom.iter().try_for_each(|&vip| self.world.move_key(vip, other_host(deed)))
            }
            Verb::Reload => self.reload(deed, (deed.details.weight, deed.details.priority)),
            Verb::RemoveAddress => self.remove_address(deed),
            Verb::AddAddress => self.add_address(deed),
            Verb::FlushRules => self.each_host(&whom, |player, host| {
                player.namespace(host).output("nft", &["flush", "ruleset"]).map(drop)
            }),
            Verb::FailCheck => self.fail_check(deed, true),
            Verb::Isolate
            | Verb::Cut
            | Verb::CutOneWay
            | Verb::CutFromPeers
            | Verb::CutMember
            | Verb::Lossy => Ok(()),
            _ => bail!("the lab cannot do this"),
        }
    }

    /// Ends it.
    pub(super) fn end_deed(&mut self, deed: &Deed) -> Result<()> {
        let whom = self.on_the_switch(deed, false)?;
        match deed.verb {
            Verb::Slow => self.hasten(deed),
            Verb::CutFromStore => {
                self.each_host(&whom, |player, host| player.cut_from_own_member(host, false))
            }
            Verb::LinkDown => {
                self.each_host(&whom, |player, host| player.link(host, LinkState::Up))
            }
            Verb::Kill | Verb::Stop | Verb::Leave => self.each_host(&whom, Self::start_daemon),
            Verb::Freeze => {
                self.each_daemon(&whom, |player, host| player.world.cluster.thaw_daemon(host))
            }
            Verb::PowerOff => whom.iter().try_for_each(|&machine| self.power_on(machine)),
            Verb::StopEtcd => whom.iter().try_for_each(|&machine| self.start_member(machine)),
            Verb::FreezeEtcd => self.each_member(&whom, |member| member.thaw()),
            Verb::SlowDisk => self.each_member(&whom, etcd::Member::fast_disk),
            Verb::FillEtcd => some_member(self.members(), etcd::Member::end_alarm),
            Verb::RestoreEtcd => {
                let machines = self.world.script.etcd.members.clone();
                machines.into_iter().try_for_each(|machine| self.start_member(machine))
            }
            Verb::Drain | Verb::Pin => self.intend(deed, false),
            Verb::MoveKey => whom.iter().try_for_each(|&vip| self.world.move_key(vip, Some(0))),
            Verb::Reload => self.reload(deed, (None, None)),
            Verb::FailCheck => self.fail_check(deed, false),
            _ => Ok(()),
        }
    }

    /// What of it the switch does begins or ends; the numbers of those whom it befalls.
    fn on_the_switch(&self, deed: &Deed, begins: bool) -> Result<Vec<usize>> {
        let faults = self.world.faults(deed);
        match begins {
            _ if faults.is_empty() => {}
            true => self.world.switch().begin(&faults)?,
            false => self.world.switch().end(&faults)?,
        }
        Ok(numbers(&deed.whom).to_vec())
    }

    /// Where the backup of etcd is.
    fn snapshot(&self) -> PathBuf {
        self.world.cluster.lab().directory().join("snapshot.db")
    }

    fn members(&self) -> &[etcd::Member] {
        &self.world.cluster.members
    }

    fn namespace(&self, host: usize) -> &Namespace {
        self.world.cluster.host(host).namespace()
    }

    /// Hosts without power are left alone: nothing can befall them.
    fn each_host(
        &mut self,
        hosts: &[usize],
        mut what: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        for &host in hosts {
            if self.world.cluster.host(host).has_power() {
                what(self, host)?;
            }
        }
        Ok(())
    }

    /// So are those on which no daemon runs.
    fn each_daemon(
        &mut self,
        hosts: &[usize],
        mut what: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        self.each_host(hosts, |player, host| match player.world.cluster.host(host).daemon {
            Some(_) => what(player, host),
            None => Ok(()),
        })
    }

    /// And members that do not run.
    fn each_member(
        &mut self,
        machines: &[usize],
        mut what: impl FnMut(&mut etcd::Member) -> Result<()>,
    ) -> Result<()> {
        for &machine in machines {
            let member = self.world.member(machine)?;
            let member = &mut self.world.cluster.members[member];
            if member.runs() {
                what(member)?;
            }
        }
        Ok(())
    }

    fn start_daemon(&mut self, host: usize) -> Result<()> {
        match self.world.cluster.host(host).daemon {
            Some(_) => Ok(()),
            None => self.world.cluster.start_daemon(host),
        }
    }

    fn leave(&mut self, host: usize) -> Result<()> {
        let cluster = &mut self.world.cluster;
        let (status, said) = cluster.ask_daemon(host, &["stop", "--leave"])?;
        ensure!(status == Some(0), "turnip stop --leave: {said}");
        cluster.forget_daemon(host, END)
    }

    fn start_member(&mut self, machine: usize) -> Result<()> {
        let has_power = |host: usize| self.world.cluster.host(host).has_power();
        if machine < self.world.script.hosts.len() && !has_power(machine) {
            return Ok(());
        }
        let member = self.world.member(machine)?;
        let member = &mut self.world.cluster.members[member];
        if member.runs() { Ok(()) } else { member.start() }
    }

    fn power_off(&mut self, machine: usize) -> Result<()> {
        if machine < self.world.script.hosts.len() {
            return self.each_host(&[machine], |player, host| player.world.cluster.power_off(host));
        }
        let member = self.world.member(machine)?;
        match self.world.cluster.members[member].runs() {
            true => self.world.cluster.power_off_member(member),
            false => Ok(()),
        }
    }

    fn power_on(&mut self, machine: usize) -> Result<()> {
        if machine < self.world.script.hosts.len() {
            if !self.world.cluster.host(machine).has_power() {
                self.world.cluster.power_on(machine)?;
            }
        } else {
            let member = self.world.member(machine)?;
            if !self.world.cluster.members[member].runs() {
                self.world.cluster.power_on_member(member)?;
            }
        }
        self.slow_again(machine)
    }

    /// A host's interface goes down, or up; what the kernel forgets of it then, whoever configures the network puts
    /// back.
    fn link(&mut self, host: usize, state: LinkState) -> Result<()> {
        let namespace = self.namespace(host);
        namespace.set_link(LINK, state)?;
        if state == LinkState::Up {
            let own = self.world.cluster.network().addresses(host)?;
            let known = namespace.addresses()?;
            for net in own.into_iter().filter(|net| !known.contains(&net.addr())) {
                namespace.add_address(LINK, net)?;
            }
        }
        Ok(())
    }

    /// turnip reaches the member on its own host past the switch; there is no fault for that on a wire. So that host's
    /// routing loses it: no rule of a filter, for that is where the fence is.
    fn cut_from_own_member(&mut self, host: usize, cut: bool) -> Result<()> {
        if self.world.cluster.plan().etcd.member_on(host).is_none() {
            return Ok(());
        }
        let namespace = self.namespace(host);
        let rules = namespace.output("ip", &["rule", "list"])?;
        if rules.lines().any(|rule| rule.starts_with("0:")) {
            // Rules of one's own come before the kernel's first one only when that stands further down.
            namespace.output("ip", &["rule", "add", "pref", "10", "lookup", "local"])?;
            namespace.output("ip", &["rule", "del", "pref", "0", "lookup", "local"])?;
        }
        let word = if cut { "add" } else { "del" };
        let own = self.world.cluster.network().address(host).to_string();
        for to in [own.as_str(), "127.0.0.1"] {
            for end in ["dport", "sport"] {
                let rule = [
                    "rule", word, "pref", "5", "iif", "lo", "to", to, "ipproto", "tcp", end, "2379",
                ];
                namespace.output("ip", &[&rule[..], &["blackhole"]].concat())?;
            }
        }
        Ok(())
    }

    fn move_leader(&self, deed: &Deed) -> Result<()> {
        if let Some(to) = &deed.other {
            let lead = |&machine: &usize| self.world.cluster.lead_from(self.world.member(machine)?);
            return numbers(to).iter().try_for_each(lead);
        }
        let members = &self.world.cluster.members;
        let leader = etcd::wait_for_leader(members)?;
        let others = (1..members.len()).map(|further| (leader + further) % members.len());
        for next in others.filter(|next| members[*next].runs()) {
            if let Ok(status) = members[next].status()
                && members[leader].move_leader_to(status.id).is_ok()
            {
                return Ok(());
            }
        }
        bail!("no other member takes the leadership")
    }

    /// What an operator tells the cluster, and takes back.
    fn intend(&self, deed: &Deed, begins: bool) -> Result<()> {
        let script = self.world.script;
        let cluster = &self.world.cluster;
        for &one in numbers(&deed.whom) {
            let said = match (deed.verb, begins) {
                (Verb::Drain, true) => cluster.turnip(&["drain", script.machine(one)]),
                (Verb::Drain, false) => cluster.turnip(&["undrain", script.machine(one)]),
                (_, true) => {
                    let to = other_host(deed).context("a host to pin it to")?;
                    let vip = script.config.vips[one].config.name.as_str();
                    cluster.turnip(&["pin", vip, script.machine(to)])
                }
                (_, false) => {
                    cluster.turnip(&["unpin", script.config.vips[one].config.name.as_str()])
                }
            };
            said?;
        }
        Ok(())
    }

    fn reload(&mut self, deed: &Deed, to: (Option<u32>, Option<u32>)) -> Result<()> {
        let hosts = numbers(&deed.whom).to_vec();
        hosts.iter().for_each(|&host| self.world.reloaded[host] = to);
        self.world.write_files()?;
        self.each_daemon(&hosts, |player, host| {
            let (status, said) = player.world.cluster.ask_daemon(host, &["reload"])?;
            ensure!(status == Some(0), "turnip reload: {said}");
            Ok(())
        })
    }

    /// The hosts that a deed of VIPs or checks is about; without any, all.
    pub(super) fn hosts_of(&self, deed: &Deed) -> Vec<usize> {
        match &deed.other {
            Some(other) => numbers(other).to_vec(),
            None => (0..self.world.script.hosts.len()).collect(),
        }
    }

    fn remove_address(&mut self, deed: &Deed) -> Result<()> {
        let hosts = self.hosts_of(deed);
        for &vip in numbers(&deed.whom) {
            let addresses = addresses_of(&self.world.cluster, vip);
            self.each_host(&hosts, |player, host| {
                let here = player.namespace(host).addresses()?;
                let its = addresses.iter().filter(|address| here.contains(address));
                // turnip may take it away at the same time.
                its.into_iter()
                    .for_each(|&address| drop(player.namespace(host).remove_address(address)));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn add_address(&mut self, deed: &Deed) -> Result<()> {
        let hosts = self.hosts_of(deed);
        for &vip in numbers(&deed.whom) {
            let nets = self.world.cluster.plan().vips[vip].addresses.clone();
            self.each_host(&hosts, |player, host| {
                let here = player.namespace(host).addresses()?;
                let new = nets.iter().filter(|net| !here.contains(&net.addr()));
                new.into_iter().try_for_each(|net| player.namespace(host).add_address(LINK, *net))
            })?;
        }
        Ok(())
    }

    fn fail_check(&mut self, deed: &Deed, fails: bool) -> Result<()> {
        for host in self.hosts_of(deed) {
            for &check in numbers(&deed.whom) {
                let name = self.world.script.config.checks[check].config.name.as_str();
                let file = failing(&self.world.cluster.host(host).directory, name);
                match fails {
                    true => fs::write(&file, "")?,
                    false if file.exists() => fs::remove_file(&file)?,
                    false => {}
                }
            }
        }
        Ok(())
    }
}

/// The host beside a verb, `to` which something goes.
fn other_host(deed: &Deed) -> Option<usize> {
    deed.other.as_ref().and_then(|to| numbers(to).first().copied())
}
