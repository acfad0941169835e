//! How faults begin and end in the world.

use turnip_core::records::{DrainRecord, PinRecord, encode};
use turnip_core::{Op, Txn};

use crate::plan::{Fault, Mishap, TxnKind, config};
use crate::time::S;

use super::Inner;
use super::etcd::{Ask, Request};
use super::event::{Event, Wish};
use super::net::Plane;
use super::raft::{MemberId, Role};

/// What the world asks of whoever runs the daemons' futures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Start the daemon.
    Start(usize),
    /// Drop the daemon's futures.
    Kill(usize),
    /// Run them no more for a while.
    Pause(usize),
    /// Run them again.
    Resume(usize),
}

/// A mishap waiting for its transaction.
#[derive(Clone, Debug)]
pub struct Meddling {
    host: usize,
    kind: TxnKind,
    skip: u32,
    left: u32,
    mishap: Mishap,
}

impl Inner {
    /// A step of the plan begins.
    pub fn step_begins(&mut self, index: usize) {
        let step = self.plan.steps[index].clone();
        self.trace(|| format!("fault begins: {:?}", step.fault));
        self.active[index] = true;
        self.begin(index, &step.fault);
        if let Some(lasts) = step.lasts {
            self.schedule(self.now + lasts, Event::StepEnds { index });
        }
    }

    /// A step's effect ends, by itself or because everything heals.
    pub fn step_ends(&mut self, index: usize) {
        if std::mem::take(&mut self.active[index]) {
            let fault = self.plan.steps[index].fault.clone();
            self.trace(|| format!("fault ends: {fault:?}"));
            self.end(&fault);
        }
    }

    /// Everything that is still wrong is set right.
    pub fn heal(&mut self) {
        self.trace(|| "everything heals".to_owned());
        for index in 0..self.active.len() {
            if !self.plan.steps[index].is_for_ever() {
                self.step_ends(index);
            }
        }
        self.meddlings.clear();
        self.net.calm();
        for member in 0..self.members.len() {
            self.start_member(member);
        }
        for host in 0..self.hosts.len() {
            self.start_daemon(host);
            // What it was started with is not what its file says now, for all alike.
            if self.hosts[host].config != self.config_of(host) {
                self.stop_daemon(host);
            }
        }
        // An operator's removals may have met an election: once more, while nothing goes wrong.
        for fault in self.plan.clone().steps.iter().map(|step| &step.fault) {
            match *fault {
                Fault::Drain { host } => self.intend(self.names.drain(host), None),
                Fault::Pin { vip, .. } => self.intend(self.names.pin(vip), None),
                _ => {}
            }
        }
    }

    fn begin(&mut self, index: usize, fault: &Fault) {
        match *fault {
            Fault::CrashMember { member } => self.member_crash(member),
            Fault::PauseMember { member } => self.member_pause(member, true),
            Fault::LoseQuorum => self.pause_majority(true),
            Fault::SlowDisk { member, by } => self.members[member].disk_slow = by,
            Fault::MoveLeader => self.move_leader(),
            Fault::CrashLeader => {
                // Which one it is turns out now; the step's end must bring back the same one.
                if let Some(member) = self.leader() {
                    self.crashed_leaders.push(member);
                    self.member_crash(member);
                }
            }
            Fault::FlapLeader { .. } => self.flap(index),
            Fault::Compact => self.etcd_compact(),
            Fault::Kill { host } => self.kill(host),
            Fault::Freeze { host } => self.freeze(host),
            Fault::Restart { host } => self.stop_daemon(host),
            Fault::PowerOff { host } => self.power_off(host),
            Fault::PauseHost { host } => self.pause_host(host),
            Fault::Drift { host, ppm } => self.set_clock_rate(host, ppm),
            Fault::WatchLag { host, by } => self.hosts[host].watch_lag = by,
            Fault::SlowNetlink { host, by } => self.hosts[host].netlink_slow = by,
            Fault::StuckNetlink { host, by } => self.hosts[host].netlink_stuck = by,
            Fault::FailingNetlink { host, permille } => {
                self.hosts[host].netlink_failing = permille;
            }
            Fault::StealAddress { host, vip } => self.meddle_with_address(host, vip, false),
            Fault::RefuseAddress { host, vip } => {
                self.hosts[host].kernel.refuses.insert(config::net(2 * vip));
            }
            Fault::LinkDown { host, interface } => self.set_link(host, interface, false),
            Fault::LinkGone { host, interface } => self.set_link_there(host, interface, false),
            Fault::Reconfigure { .. } => {}
            Fault::Drain { host } => {
                self.intend(self.names.drain(host), Some(encode(&DrainRecord {})));
            }
            Fault::Pin { vip, host } => {
                let record = PinRecord { node: self.names.node(host).clone() };
                self.intend(self.names.pin(vip), Some(encode(&record)));
            }
            Fault::Meddle { host, kind, skip, count, mishap } => {
                self.meddlings.push(Meddling { host, kind, skip, left: count, mishap });
            }
            ref link => self.set_links(link, true),
        }
    }

    /// Leadership moves, again and again while the step lasts.
    pub fn flap(&mut self, index: usize) {
        if let (true, &Fault::FlapLeader { every }) =
            (self.active[index], &self.plan.steps[index].fault)
        {
            self.move_leader();
            self.schedule(self.now + every, Event::Flap { index });
        }
    }

    fn end(&mut self, fault: &Fault) {
        match *fault {
            Fault::CrashMember { member } => self.start_member(member),
            Fault::PauseMember { member } => self.member_pause(member, false),
            Fault::SlowDisk { member, .. } => self.members[member].disk_slow = 0,
            Fault::CrashLeader => {
                if !self.crashed_leaders.is_empty() {
                    let member = self.crashed_leaders.remove(0);
                    self.start_member(member);
                }
            }
            Fault::Kill { host } | Fault::Restart { host } => self.start_daemon(host),
            Fault::Freeze { host } => self.thaw(host),
            Fault::PowerOff { host } => self.power_on(host),
            Fault::PauseHost { host } => self.resume_host(host),
            Fault::Drift { host, .. } => {
                let rate = self.plan.params.rates_ppm[host];
                self.set_clock_rate(host, rate);
            }
            Fault::WatchLag { host, .. } => self.hosts[host].watch_lag = 0,
            Fault::SlowNetlink { host, .. } => self.hosts[host].netlink_slow = 0,
            Fault::StuckNetlink { host, .. } => self.hosts[host].netlink_stuck = 0,
            Fault::FailingNetlink { host, .. } => self.hosts[host].netlink_failing = 0,
            Fault::RefuseAddress { host, vip } => {
                self.hosts[host].kernel.refuses.remove(&config::net(2 * vip));
            }
            Fault::LinkDown { host, interface } => self.set_link(host, interface, true),
            Fault::LinkGone { host, interface } => self.set_link_there(host, interface, true),
            Fault::LoseQuorum => self.pause_majority(false),
            Fault::Drain { host } => self.intend(self.names.drain(host), None),
            Fault::Pin { vip, .. } => self.intend(self.names.pin(vip), None),
            Fault::MoveLeader
            | Fault::FlapLeader { .. }
            | Fault::Compact
            | Fault::StealAddress { .. }
            | Fault::Reconfigure { .. }
            | Fault::Meddle { .. } => {}
            ref link => self.set_links(link, false),
        }
    }

    /// Cuts, slows or loses on the links that a fault is about, or takes that back.
    fn set_links(&mut self, fault: &Fault, begins: bool) {
        let sites = self.plan.params.sites();
        let both = [Plane::Peer, Plane::Client];
        let mut cuts: Vec<(Plane, usize, usize)> = Vec::new();
        let mut cut = |planes: &[Plane], from: usize, to: usize| {
            cuts.extend(planes.iter().map(|&plane| (plane, from, to)));
        };
        match fault {
            &Fault::Cut { from, to } => cut(&both, from, to),
            &Fault::Isolate { site } => {
                for other in (0..sites).filter(|&other| other != site) {
                    cut(&both, site, other);
                    cut(&both, other, site);
                }
            }
            &Fault::CutStore { host } => {
                for member in 0..self.members.len() {
                    let site = self.members[member].site;
                    cut(&[Plane::Client], host, site);
                    cut(&[Plane::Client], site, host);
                }
            }
            &Fault::CutEndpoint { host, member } => {
                let site = self.members[member].site;
                cut(&[Plane::Client], host, site);
                cut(&[Plane::Client], site, host);
            }
            &Fault::DeafTo { host } => {
                for member in 0..self.members.len() {
                    cut(&[Plane::Client], self.members[member].site, host);
                }
            }
            Fault::SplitMembers { side } | Fault::Split { side } => {
                let planes: &[Plane] = match fault {
                    Fault::Split { .. } => &both,
                    _ => &[Plane::Peer],
                };
                for a in side.iter().copied() {
                    for b in (0..sites).filter(|b| !side.contains(b)) {
                        cut(planes, a, b);
                        cut(planes, b, a);
                    }
                }
            }
            &Fault::Slow { from, to, by } => self.net.slow(from, to, if begins { by } else { 0 }),
            &Fault::Lossy { from, to, permille } => {
                self.net.lose(from, to, if begins { permille } else { 0 });
            }
            _ => unreachable!("the other faults are not about links"),
        }
        for (plane, from, to) in cuts {
            if begins {
                self.net.cut(plane, from, to);
            } else {
                self.net.mend(plane, from, to);
            }
        }
        if begins {
            self.watches_look();
        }
    }

    /// Who leads, as far as the newest term goes.
    pub fn leader(&self) -> Option<MemberId> {
        let leads = |member: &MemberId| {
            self.members[*member].up && self.members[*member].raft.role == Role::Leader
        };
        (0..self.members.len()).filter(leads).max_by_key(|&member| self.members[member].raft.term)
    }

    fn move_leader(&mut self) {
        if let Some(leader) = self.leader() {
            let to = (leader + 1) % self.members.len();
            self.raft_move_leader(leader, to);
        }
    }

    fn pause_majority(&mut self, paused: bool) {
        for member in 0..self.members.len() / 2 + 1 {
            self.member_pause(member, paused);
        }
    }

    fn start_member(&mut self, member: MemberId) {
        let site = self.members[member].site;
        if self.hosts.get(site).is_none_or(|host| host.powered) {
            self.member_start(member);
        }
    }

    fn kill(&mut self, host: usize) {
        if self.hosts[host].running {
            self.daemon_ends(host);
            self.controls.push(Control::Kill(host));
        }
    }

    /// Starts a daemon unless one runs.
    pub fn start_daemon(&mut self, host: usize) {
        if self.hosts[host].powered && !self.hosts[host].running && !self.stopping {
            self.count(|tally| &mut tally.starts);
            self.daemon_begins(host);
            self.controls.push(Control::Start(host));
        }
    }

    fn freeze(&mut self, host: usize) {
        if self.hosts[host].running {
            self.hosts[host].frozen = true;
            self.controls.push(Control::Pause(host));
        }
    }

    fn thaw(&mut self, host: usize) {
        if self.hosts[host].frozen {
            self.daemon_thaws(host);
            if !self.hosts[host].paused {
                self.controls.push(Control::Resume(host));
            }
        }
    }

    fn pause_host(&mut self, host: usize) {
        if self.hosts[host].powered {
            self.set_host_paused(host, true);
            self.controls.push(Control::Pause(host));
        }
    }

    fn resume_host(&mut self, host: usize) {
        if self.hosts[host].paused {
            self.set_host_paused(host, false);
            if !self.hosts[host].frozen {
                self.controls.push(Control::Resume(host));
            }
        }
    }

    fn power_off(&mut self, host: usize) {
        if self.hosts[host].powered {
            if self.hosts[host].paused {
                self.resume_host(host);
            }
            let kernel = self.fresh_kernel();
            self.host_off(host, kernel);
            self.controls.push(Control::Kill(host));
        }
    }

    fn power_on(&mut self, host: usize) {
        if !self.hosts[host].powered {
            self.host_on(host);
            self.start_daemon(host);
        }
    }

    /// Whether a step of the plan keeps a host's daemon down.
    pub fn is_kept_down(&self, host: usize) -> bool {
        let keeps_down = |fault: &Fault| matches!(fault, Fault::Kill { host: h } | Fault::Restart { host: h } if *h == host);
        let mut steps = self.plan.steps.iter().zip(&self.active);
        steps.any(|(step, active)| *active && keeps_down(&step.fault))
    }

    /// Asks a daemon to stop in an orderly way.
    pub fn stop_daemon(&mut self, host: usize) {
        if !self.hosts[host].running {
            return;
        }
        self.hosts[host].commands.push_back(turnip::seams::Command::Stop);
        if let Some(waker) = self.hosts[host].commands_waker.take() {
            waker.wake();
        }
    }

    /// An operator writes or removes an intent. A removal is repeated, so that one that meets an
    /// election does not leave a host drained for good.
    fn intend(&mut self, key: String, value: Option<Vec<u8>>) {
        let removes = value.is_none();
        let op = match value {
            Some(value) => Op::Put { key: key.clone(), value },
            None => Op::Delete { key: key.clone() },
        };
        let txn = Txn { success: vec![op], ..Txn::default() };
        let number = self.wishes.entry(key.clone()).or_default();
        *number += 1;
        let wish = Wish { key, number: *number, txn };
        if removes {
            for later in [2 * S, 5 * S] {
                self.schedule(self.now + later, Event::Intend { wish: Box::new(wish.clone()) });
            }
        }
        self.submit_intent(wish);
    }

    /// An operator's transaction goes to whoever leads, and is tried again while nobody does; but
    /// not once the operator wants something else of the same key.
    pub fn submit_intent(&mut self, wish: Wish) {
        if self.wishes.get(&wish.key) != Some(&wish.number) {
            return;
        }
        let Some(leader) = self.leader() else {
            return self.schedule(self.now + S, Event::Intend { wish: Box::new(wish) });
        };
        let mut request = Request::new(self.hosts.len(), None, Ask::Txn(wish.txn), self.now);
        request.member = leader;
        let id = self.add_request(request);
        self.schedule(self.now + S / 1000, Event::Request { request: id });
    }

    /// Whether a transaction of `host` meets a mishap.
    pub fn mishap(&mut self, host: usize, txn: &Txn) -> Option<Mishap> {
        if self.meddlings.is_empty() {
            return None;
        }
        let kind = self.kind(host, txn)?;
        let found = self
            .meddlings
            .iter()
            .position(|meddling| meddling.host == host && meddling.kind == kind)?;
        let meddling = &mut self.meddlings[found];
        if meddling.skip > 0 {
            meddling.skip -= 1;
            return None;
        }
        meddling.left -= 1;
        let mishap = meddling.mishap;
        if meddling.left == 0 {
            self.meddlings.remove(found);
        }
        self.count(|tally| &mut tally.mishaps);
        self.trace(|| format!("host {host}: {kind:?} meets {mishap:?}"));
        Some(mishap)
    }
}
