//! What verbs do in the lab, and how that ends again.

use std::fs;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
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
use crate::switch::Fault;

/// What keeps a host's daemon from running until it ends.
const KEEP_DOWN: [Verb; 4] = [Verb::Kill, Verb::Stop, Verb::Leave, Verb::Reboot];

/// A daemon ends in an orderly way by then.
const END: Duration = Duration::from_secs(10);

impl Player<'_> {
    /// Does it. It is under way from now on, if it lasts.
    pub(super) fn begin_deed(&mut self, deed: &Deed, lasts: bool) -> Result<()> {
        let new = self.otherwise_well(deed);
        if lasts {
            self.under_way.begins(deed);
        }
        self.world.switch().begin(&self.world.faults(deed))?;
        let whom = numbers(&deed.whom);
        match deed.verb {
            Verb::CutFromStore => {
                self.each_host(&new, |player, host| player.cut_from_own_member(host, true))
            }
            Verb::LinkDown => {
                self.each_host(whom, |player, host| player.link(host, LinkState::Down))
            }
            Verb::Kill => {
                self.each_daemon(whom, |player, host| player.world.cluster.kill_daemon(host))
            }
            Verb::Stop | Verb::Reboot => {
                self.each_daemon(whom, |player, host| player.world.cluster.stop_daemon(host))
            }
            Verb::Leave => self.each_daemon(whom, Self::leave),
            Verb::Freeze => {
                self.each_daemon(whom, |player, host| player.world.cluster.freeze_daemon(host))
            }
            Verb::PowerOff => self.power_off(&new),
            Verb::StopEtcd => self.each_member(whom, |member| {
                member.kill();
                Ok(())
            }),
            Verb::FreezeEtcd => self.each_member(whom, |member| member.freeze()),
            Verb::MoveLeader => self.move_leader(deed),
            Verb::FillEtcd => some_member(self.members(), etcd::Member::raise_alarm),
            Verb::CompactEtcd => some_member(self.members(), etcd::Member::compact),
            Verb::BackUpEtcd => {
                let to = self.snapshot();
                // Of the newest only: etcdctl does not write over one.
                drop(fs::remove_file(&to));
                some_member(self.members(), |member| member.save_snapshot(&to))
            }
            Verb::RestoreEtcd => self.restore_etcd(),
            Verb::RemoveAddress => self.remove_address(deed),
            Verb::AddAddress => self.add_address(deed),
            Verb::FlushRules => self.each_host(whom, |player, host| {
                player.namespace(host).output("nft", &["flush", "ruleset"]).map(drop)
            }),
            Verb::Isolate
            | Verb::Cut
            | Verb::CutOneWay
            | Verb::CutFromPeers
            | Verb::CutMember
            | Verb::Lossy => Ok(()),
            _ => self.follow(deed),
        }
    }

    /// Ends it, as far as nothing else that is under way does the same.
    pub(super) fn end_deed(&mut self, deed: &Deed) -> Result<()> {
        self.under_way.ends(deed);
        self.world.switch().end(&self.world.faults(deed))?;
        let whom = self.otherwise_well(deed);
        match deed.verb {
            Verb::CutFromStore => {
                self.each_host(&whom, |player, host| player.cut_from_own_member(host, false))
            }
            Verb::LinkDown => {
                self.each_host(&whom, |player, host| player.link(host, LinkState::Up))
            }
            Verb::Kill | Verb::Stop | Verb::Leave | Verb::Reboot => {
                self.each_host(&whom, Self::start_daemon)
            }
            Verb::Freeze => {
                self.each_daemon(&whom, |player, host| player.world.cluster.thaw_daemon(host))
            }
            Verb::PowerOff => whom.iter().try_for_each(|&machine| self.power_on(machine)),
            Verb::StopEtcd => whom.iter().try_for_each(|&machine| self.start_member(machine)),
            Verb::FreezeEtcd => self.each_member(&whom, |member| member.thaw()),
            Verb::FillEtcd if self.under_way.of(Verb::FillEtcd).next().is_none() => {
                some_member(self.members(), etcd::Member::end_alarm)
            }
            Verb::RestoreEtcd => {
                let machines = self.world.script.etcd.members.clone();
                machines.into_iter().try_for_each(|machine| self.start_member(machine))
            }
            Verb::Slow
            | Verb::SlowDisk
            | Verb::Drain
            | Verb::Pin
            | Verb::MoveKey
            | Verb::Reload
            | Verb::FailCheck => self.follow(deed),
            _ => Ok(()),
        }
    }

    /// Of those whom a deed befalls, whom none of its verb does that is under way.
    fn otherwise_well(&self, deed: &Deed) -> Vec<usize> {
        let all = numbers(&deed.whom).iter().copied();
        all.filter(|&one| !self.under_way.befalls(&[deed.verb], one)).collect()
    }

    /// Sets what a deed is about as those say that are under way; as it was before, where none is.
    fn follow(&mut self, deed: &Deed) -> Result<()> {
        let whom = numbers(&deed.whom);
        match deed.verb {
            Verb::Slow => self.slow(deed),
            Verb::SlowDisk => whom.iter().try_for_each(|&machine| self.slow_disk(machine)),
            Verb::Drain => whom.iter().try_for_each(|&host| self.drain(host)),
            Verb::Pin => whom.iter().try_for_each(|&vip| self.pin(vip)),
            Verb::MoveKey => whom.iter().try_for_each(|&vip| {
                let last = self.under_way.on(Verb::MoveKey, vip).last();
                self.world.move_key(vip, last.map_or(Some(0), other_host))
            }),
            Verb::Reload => self.reload(whom),
            Verb::FailCheck => self.fail_check(deed),
            _ => bail!("the lab cannot do this"),
        }
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
        let is_kept_down = self.under_way.befalls(&KEEP_DOWN, host);
        match self.world.cluster.host(host).daemon {
            None if !is_kept_down => self.world.cluster.start_daemon(host),
            _ => Ok(()),
        }
    }

    fn leave(&mut self, host: usize) -> Result<()> {
        let cluster = &mut self.world.cluster;
        let (status, said) = cluster.ask_daemon(host, &["stop", "--leave"])?;
        ensure!(status == Some(0), "turnip stop --leave: {said}");
        cluster.forget_daemon(host, END)
    }

    /// Starts etcd's member on a machine, unless something keeps it from running.
    fn start_member(&mut self, machine: usize) -> Result<()> {
        let is_restored = self.under_way.of(Verb::RestoreEtcd).next().is_some();
        let is_down = self.under_way.befalls(&[Verb::StopEtcd, Verb::PowerOff], machine);
        let member = self.world.member(machine)?;
        let member = &mut self.world.cluster.members[member];
        if is_restored || is_down || member.runs() {
            return Ok(());
        }
        member.start()?;
        self.slow_disk(machine)
    }

    /// Makes the disk of a machine's member as slow as it is to be.
    fn slow_disk(&mut self, machine: usize) -> Result<()> {
        let by = self.under_way.on(Verb::SlowDisk, machine).last().map(|deed| deed.details.by);
        self.each_member(&[machine], |member| {
            // One tracer at a time.
            member.fast_disk()?;
            by.map_or(Ok(()), |by| member.slow_disk(by))
        })
    }

    /// Takes the power of machines, of all at the same moment for the others: each takes a tenth of a second to end.
    fn power_off(&mut self, machines: &[usize]) -> Result<()> {
        let of_machine = |&machine: &usize| {
            let port = self.world.port(machine);
            [Fault::From(port.clone()), Fault::To(port)]
        };
        let silent: Vec<Fault> = machines.iter().flat_map(of_machine).collect();
        self.world.switch().begin(&silent)?;
        for &machine in machines {
            if machine < self.world.script.hosts.len() {
                self.each_host(&[machine], |player, host| player.world.cluster.power_off(host))?;
            } else {
                let member = self.world.member(machine)?;
                self.world.cluster.power_off_member(member)?;
            }
        }
        self.world.switch().end(&silent)
    }

    /// Gives a machine its power back. What befell its processes is over; what befalls itself goes on.
    fn power_on(&mut self, machine: usize) -> Result<()> {
        if machine >= self.world.script.hosts.len() {
            let member = self.world.member(machine)?;
            self.world.cluster.plug_in_member(member)?;
            self.slow_again(machine)?;
            return self.start_member(machine);
        }
        if self.world.cluster.host(machine).has_power() {
            return Ok(());
        }
        self.world.cluster.boot(machine)?;
        self.slow_again(machine)?;
        if self.under_way.befalls(&[Verb::CutFromStore], machine) {
            self.cut_from_own_member(machine, true)?;
        }
        if self.under_way.befalls(&[Verb::LinkDown], machine) {
            self.link(machine, LinkState::Down)?;
        }
        if self.world.cluster.plan().etcd.member_on(machine).is_some() {
            self.start_member(machine)?;
        }
        self.start_daemon(machine)
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

    /// All members at once: etcdctl takes half a second for each.
    fn restore_etcd(&mut self) -> Result<()> {
        let from = Some(self.snapshot()).filter(|path| path.exists());
        let from = from.as_deref();
        self.world.cluster.members.iter_mut().for_each(etcd::Member::kill);
        thread::scope(|scope| {
            let members = self.world.cluster.members.iter();
            let all: Vec<_> =
                members.map(|member| scope.spawn(|| member.restore_snapshot(from))).collect();
            all.into_iter().try_for_each(|one| match one.join() {
                Ok(restored) => restored,
                Err(panic) => resume_unwind(panic),
            })
        })
    }

    fn drain(&self, host: usize) -> Result<()> {
        let is_drained = self.under_way.befalls(&[Verb::Drain], host);
        let word = if is_drained { "drain" } else { "undrain" };
        self.world.cluster.turnip(&[word, self.world.script.machine(host)]).map(drop)
    }

    fn pin(&self, vip: usize) -> Result<()> {
        let script = self.world.script;
        let name = script.config.vips[vip].config.name.as_str();
        let said = match self.under_way.on(Verb::Pin, vip).last() {
            Some(deed) => {
                let to = other_host(deed).context("a host to pin it to")?;
                self.world.cluster.turnip(&["pin", name, script.machine(to)])
            }
            None => self.world.cluster.turnip(&["unpin", name]),
        };
        said.map(drop)
    }

    /// Has hosts read their files again, as what is under way says that they are.
    fn reload(&mut self, hosts: &[usize]) -> Result<()> {
        for &host in hosts {
            let all = self.under_way.on(Verb::Reload, host).map(|deed| deed.details);
            self.world.reloaded[host] = all.fold((None, None), |(weight, priority), details| {
                (details.weight.or(weight), details.priority.or(priority))
            });
        }
        self.world.write_files()?;
        self.each_daemon(hosts, |player, host| {
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

    fn fail_check(&self, deed: &Deed) -> Result<()> {
        for host in self.hosts_of(deed) {
            for &check in numbers(&deed.whom) {
                let name = self.world.script.config.checks[check].config.name.as_str();
                let file = failing(&self.world.cluster.host(host).directory, name);
                let mut all = self.under_way.on(Verb::FailCheck, check);
                match all.any(|deed| self.hosts_of(deed).contains(&host)) {
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
