//! The run's plan: how faults begin and end.

use turnip_core::records::{DrainRecord, PinRecord, SessionRecord, decode, encode};

use crate::plan::config::{self, HostConfig};
use crate::plan::{Fault, Step};

use super::Inner;
use super::event::{Event, RunEvent};
use super::ids::{HostId, MemberId};
use super::kernel::Failing;

/// What of the plan is under way.
pub struct Faults {
    steps: Vec<Step>,
    active: Vec<bool>,
    crashed_leaders: Vec<MemberId>,
}

impl Faults {
    /// Nothing of these steps.
    pub fn new(steps: Vec<Step>) -> Self {
        Faults { active: vec![false; steps.len()], steps, crashed_leaders: Vec::new() }
    }

    /// One more step. Its number.
    pub fn add(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.active.push(false);
        self.steps.len() - 1
    }

    /// Of what is going on the last that does what this fault does. What is between sites is counted there.
    fn last_alike(&self, fault: &Fault) -> Option<Fault> {
        let is_alike = |step: &&Step| step.fault.is_alike(fault) && !fault.is_of_links();
        self.active().rev().find(is_alike).map(|step| step.fault.clone())
    }

    /// What is going on.
    fn active(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps.iter().zip(&self.active).filter(|(_, active)| **active).map(|(step, _)| step)
    }
}

impl Inner {
    /// A step of the plan begins.
    pub(super) fn step_begins(&mut self, index: usize) {
        let step = self.faults.steps[index].clone();
        self.env.trace(|params| format!("fault begins: {}", params.tell(&step.fault)));
        self.faults.active[index] = true;
        self.begin(index, &step.fault);
        if let Some(lasts) = step.lasts {
            self.env.after(lasts, Event::Run(RunEvent::StepEnds { index }));
        }
    }

    /// A step's effect ends, by itself or because everything heals.
    pub(super) fn step_ends(&mut self, index: usize) {
        if std::mem::take(&mut self.faults.active[index]) {
            let fault = self.faults.steps[index].fault.clone();
            self.env.trace(|params| format!("fault ends: {}", params.tell(&fault)));
            // What two faults of a scenario do at once lasts until the later one ends.
            let is_played = self.env.is_played();
            match self.faults.last_alike(&fault).filter(|_| is_played) {
                Some(other) if other == fault => {}
                Some(other) => self.begin(index, &other),
                None => self.end(&fault),
            }
        }
    }

    /// Everything that is still wrong is set right.
    pub(super) fn heal(&mut self) {
        self.env.trace(|_| "everything heals".to_owned());
        for index in 0..self.faults.active.len() {
            if !self.faults.steps[index].is_for_ever() {
                self.step_ends(index);
            }
        }
        self.mishaps.clear();
        self.env.after(self.env.plan.forgets_after(), Event::Run(RunEvent::Forget));
        self.env.net.calm();
        for member in 0..self.etcd.size() {
            self.start_member(member);
        }
        for host in 0..self.hosts.len() {
            self.start_daemon(host);
            // What it was started with is not what its file says now, for all alike.
            if *self.hosts.config(host) != self.config_of(host) {
                self.stop_daemon(host);
            }
        }
        // An operator's removals may have met an election: once more, while nothing goes wrong.
        for step in self.faults.steps.clone() {
            if matches!(step.fault, Fault::Drain { .. } | Fault::Pin { .. }) {
                self.end(&step.fault);
            }
        }
        self.name_all();
    }

    /// An operator gives up sessions of hosts that went by another host's name, and do not any more: those
    /// that they list may be gone as well, and then nobody else does for long (rule 10.7).
    pub(super) fn forget_former_names(&mut self) {
        for host in 0..self.hosts.len() {
            let key = self.env.layout.names.session(host);
            let Some(kv) = self.etcd.newest(&key) else { continue };
            let Ok(record) = decode::<SessionRecord>(&kv.value) else { continue };
            let is_own = record.host.0.starts_with(&format!("m{host}/"));
            let goes_by_it = |other: HostId| {
                other != host
                    && self.hosts.is_running(other)
                    && self.hosts.config(other).name == host
            };
            if !is_own && !(0..self.hosts.len()).any(goes_by_it) {
                let modified = kv.mod_revision;
                self.operator.forget(key, modified, &mut self.etcd, &mut self.env);
            }
        }
    }

    /// What a host's configuration file says now.
    pub(super) fn config_of(&self, host: HostId) -> HostConfig {
        let plan = &self.env.plan;
        let changes = self.faults.active().filter_map(|step| match &step.fault {
            Fault::Reconfigure { host: of, change } if *of == host => Some(change),
            _ => None,
        });
        plan.params.config(host, changes)
    }

    /// Whether a host's check of a VIP fails now.
    pub(super) fn check_fails(&self, host: HostId, vip: usize) -> bool {
        let now = self.env.now();
        let fails = |fault: &Fault, since: u64| match fault {
            Fault::FailCheck { hosts, vip: of, every } => {
                // It begins with failing.
                let is_turn = every.is_none_or(|every| (since / every).is_multiple_of(2));
                *of == vip && hosts.contains(&host) && is_turn
            }
            _ => false,
        };
        self.faults.active().any(|step| fails(&step.fault, now - step.at))
    }

    /// Whether a step of the plan keeps a host's daemon down.
    pub fn is_kept_down(&self, host: HostId) -> bool {
        let keeps_down = |fault: &Fault| matches!(fault, Fault::Kill { host: h } | Fault::Restart { host: h } | Fault::Leave { host: h } if *h == host);
        self.faults.active().any(|step| keeps_down(&step.fault))
    }

    /// Whether a step of the plan keeps a member of etcd down.
    pub fn is_member_kept_down(&self, member: MemberId) -> bool {
        let keeps_down = |fault: &Fault| match *fault {
            Fault::CrashMember { member: of } => of == member,
            Fault::RestoreStore { .. } => true,
            _ => false,
        };
        self.faults.active().any(|step| keeps_down(&step.fault))
    }

    /// The links of a host that a step of the plan keeps down.
    pub fn links_kept_down(&self, host: HostId) -> Vec<usize> {
        let link = |step: &Step| match step.fault {
            Fault::LinkDown { host: of, interface } if of == host => Some(interface),
            _ => None,
        };
        self.faults.active().filter_map(link).collect()
    }

    /// The other programs say where the VIPs are that follow them.
    pub(super) fn name_all(&mut self) {
        let plan = std::rc::Rc::clone(&self.env.plan);
        let vips = 0..plan.params.vips.len();
        vips.filter(|vip| plan.params.follows(*vip)).for_each(|vip| self.name(vip));
    }

    /// The program that a VIP follows says where it is now.
    fn name(&mut self, vip: usize) {
        let plan = std::rc::Rc::clone(&self.env.plan);
        let names = |step: &Step| match step.fault {
            Fault::Name { vip: of, host } if of == vip => Some(host),
            _ => None,
        };
        let mut active = self.faults.active().rev();
        let usual = plan.params.usually_named(vip);
        let host = active.find_map(names).unwrap_or(Some(usual));
        let value = host.map(|host| config::name_there(host).into_bytes());
        // A program that leads goes on until etcd has it.
        let key = config::followed_key(vip);
        self.operator.write(key, value, true, &mut self.etcd, &mut self.env);
    }

    /// Leadership moves, again and again while the step lasts.
    pub(super) fn flap(&mut self, index: usize) {
        if let (true, &Fault::FlapLeader { every }) =
            (self.faults.active[index], &self.faults.steps[index].fault)
        {
            self.etcd.move_leader(None, &mut self.env);
            self.env.after(every, Event::Run(RunEvent::Flap { index }));
        }
    }

    fn begin(&mut self, index: usize, fault: &Fault) {
        let env = &mut self.env;
        match *fault {
            Fault::CrashMember { member } => self.crash_member(member),
            Fault::PauseMember { member } => self.etcd.pause(member, true, env),
            Fault::LoseQuorum => self.pause_majority(true),
            Fault::SlowDisk { member, by } => self.etcd.set_disk_slow(member, by),
            Fault::SlowAnswers { member, by } => self.etcd.set_answers_slow(member, by),
            Fault::RefuseWrites => self.etcd.refuse_writes(true),
            Fault::ForgeAcknowledgements { host } => self.hosts.forge(host, true),
            Fault::MoveLeader => self.etcd.move_leader(None, env),
            Fault::LeadFrom { member } => self.etcd.move_leader(Some(member), env),
            Fault::CrashLeader => {
                // Which one it is turns out now; the step's end must bring back the same one.
                if let Some(member) = self.etcd.leader() {
                    self.faults.crashed_leaders.push(member);
                    self.crash_member(member);
                }
            }
            Fault::FlapLeader { .. } => self.flap(index),
            Fault::Compact => self.etcd.compact(),
            Fault::BackUpStore => self.etcd.back_up(),
            Fault::RestoreStore { other_cluster, raise } => {
                self.etcd.restore(other_cluster, raise, env);
            }
            Fault::Kill { host } => self.kill(host),
            Fault::Freeze { host } => self.freeze(host),
            Fault::Restart { host } => self.stop_daemon(host),
            Fault::PowerOff { host } => self.power_off(host),
            Fault::PauseHost { host } => self.pause_host(host),
            Fault::Drift { host, ppm } => self.hosts.set_clock_rate(host, ppm, env),
            Fault::WatchLag { host, by } => self.etcd.set_watch_lag(host, by),
            Fault::SlowNetlink { host, by } => self.hosts.netlink(host).slow = by,
            Fault::StuckNetlink { host, by } => self.hosts.netlink(host).stuck = by,
            Fault::StallAnnouncer { host, by } => self.hosts.netlink(host).announcer_stall = by,
            Fault::LoseAnnouncements { host, permille } => {
                self.hosts.netlink(host).announcements_lost = permille;
            }
            Fault::ClaimAddress { host, vip } => self.hosts.claim(host, vip, env),
            Fault::ChangeHardware { host, interface } => {
                self.hosts.change_hardware(host, interface, env);
            }
            Fault::StallAdapter { host, by } => self.hosts.netlink(host).stall = by,
            Fault::FailingNetlink { host, permille } => {
                self.hosts.netlink(host).failing.permille = permille;
            }
            Fault::Slew { host, ppm } => self.hosts.slew(host, ppm, env),
            Fault::Suspend { host } => self.suspend_host(host),
            Fault::ChangeRules { host } => self.hosts.change_rules(host, false, env),
            Fault::FlushRules { host } => self.hosts.change_rules(host, true, env),
            Fault::StealAddress { host, vip } => self.hosts.steal(host, vip, env),
            Fault::PlantAddress { host, vip } => self.hosts.plant(host, vip, env),
            Fault::OwnAddressReturns { host, interface } => {
                self.hosts.misplace(host, interface, env);
            }
            Fault::Double { host, vip } => self.hosts.set_double(host, vip, true, env),
            Fault::RefuseAddress { host, vip } => self.hosts.refuse(host, vip, true),
            Fault::LinkDown { host, interface } => {
                self.hosts.set_link(host, interface, false, env);
            }
            Fault::LinkGone { host, interface } => {
                self.hosts.set_link_there(host, interface, false, env);
            }
            Fault::Reconfigure { .. } | Fault::FailCheck { .. } => {}
            Fault::Reload { host } => self.reload_daemon(host),
            Fault::Leave { host } => self.leave_daemon(host),
            Fault::Drain { host } => {
                let key = env.layout.names.drain(host);
                let value = Some(encode(&DrainRecord {}));
                self.operator.intend(key, value, &mut self.etcd, env);
            }
            Fault::Pin { vip, host } => {
                let names = &env.layout.names;
                let (key, node) = (names.pin(vip), names.node(host).clone());
                let value = Some(encode(&PinRecord { node }));
                self.operator.intend(key, value, &mut self.etcd, env);
            }
            Fault::Name { vip, .. } => self.name(vip),
            Fault::Meddle { host, kind, skip, count, mishap } => {
                self.mishaps.add(host, kind, skip, count, mishap);
            }
            ref link => {
                env.net.apply(link, true, &env.plan.params);
                self.etcd.look(env);
            }
        }
    }

    fn end(&mut self, fault: &Fault) {
        let env = &mut self.env;
        match *fault {
            Fault::CrashMember { member } => self.start_member(member),
            Fault::PauseMember { member } => self.etcd.pause(member, false, env),
            Fault::SlowDisk { member, .. } => self.etcd.set_disk_slow(member, 0),
            Fault::SlowAnswers { member, .. } => self.etcd.set_answers_slow(member, 0),
            Fault::CrashLeader => {
                if !self.faults.crashed_leaders.is_empty() {
                    let member = self.faults.crashed_leaders.remove(0);
                    self.start_member(member);
                }
            }
            Fault::Kill { host } | Fault::Restart { host } | Fault::Leave { host } => {
                self.start_daemon(host);
            }
            Fault::Freeze { host } => self.thaw(host),
            Fault::PowerOff { host } => self.power_on(host),
            Fault::PauseHost { host } => self.resume_host(host),
            Fault::Drift { host, .. } => {
                let rate = env.plan.params.rates_ppm[host];
                self.hosts.set_clock_rate(host, rate, env);
            }
            Fault::WatchLag { host, .. } => self.etcd.set_watch_lag(host, 0),
            Fault::SlowNetlink { host, .. } => self.hosts.netlink(host).slow = 0,
            Fault::StuckNetlink { host, .. } => self.hosts.netlink(host).stuck = 0,
            Fault::StallAnnouncer { host, .. } => self.hosts.netlink(host).announcer_stall = 0,
            Fault::LoseAnnouncements { host, .. } => {
                self.hosts.netlink(host).announcements_lost = 0;
            }
            Fault::ClaimAddress { host, vip } => self.hosts.claim(host, vip, env),
            Fault::ChangeHardware { host, interface } => {
                self.hosts.change_hardware(host, interface, env);
            }
            Fault::StallAdapter { host, .. } => self.hosts.netlink(host).stall = 0,
            Fault::FailingNetlink { host, .. } => {
                self.hosts.netlink(host).failing = Failing::default();
            }
            Fault::Slew { host, .. } => {
                let ppm = env.plan.params.slews_ppm[host];
                self.hosts.slew(host, ppm, env);
            }
            Fault::Suspend { host } => self.wake_host(host),
            Fault::Double { host, vip } => self.hosts.set_double(host, vip, false, env),
            Fault::RefuseAddress { host, vip } => self.hosts.refuse(host, vip, false),
            Fault::LinkDown { host, interface } => {
                self.hosts.set_link(host, interface, true, env);
            }
            Fault::LinkGone { host, interface } => {
                self.hosts.set_link_there(host, interface, true, env);
            }
            Fault::LoseQuorum => self.pause_majority(false),
            Fault::RefuseWrites => self.etcd.refuse_writes(false),
            Fault::ForgeAcknowledgements { host } => self.hosts.forge(host, false),
            Fault::RestoreStore { .. } => {
                for member in 0..self.etcd.size() {
                    self.start_member(member);
                }
            }
            Fault::Drain { host } => {
                let key = env.layout.names.drain(host);
                self.operator.intend(key, None, &mut self.etcd, env);
            }
            Fault::Pin { vip, .. } => {
                let key = env.layout.names.pin(vip);
                self.operator.intend(key, None, &mut self.etcd, env);
            }
            Fault::Name { vip, .. } => self.name(vip),
            Fault::MoveLeader
            | Fault::LeadFrom { .. }
            | Fault::FlapLeader { .. }
            | Fault::Compact
            | Fault::BackUpStore
            | Fault::StealAddress { .. }
            | Fault::PlantAddress { .. }
            | Fault::OwnAddressReturns { .. }
            | Fault::ChangeRules { .. }
            | Fault::FlushRules { .. }
            | Fault::Reconfigure { .. }
            | Fault::Reload { .. }
            | Fault::FailCheck { .. }
            | Fault::Meddle { .. } => {}
            ref link => env.net.apply(link, false, &env.plan.params),
        }
    }
}
