//! The hosts: each a kernel, a clock, and a daemon with its adapter, that can be killed, frozen,
//! paused and switched off.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use ipnet::IpNet;
use turnip::seams::Command;
use turnip_core::{Assignment, Instant, KernelError, KernelEvent, KernelOp, KernelOutcome, Link};

use crate::plan::config::{self, HostConfig};
use crate::record::Configured;
use crate::time::{HostClock, US};

use super::Inner;
use super::event::{Event, KernelCall};
use super::kernel::HostKernel;
use super::raft::MemberId;
use super::slots::{Reply, SlotId};

/// A host's number, and its site.
pub type HostId = usize;

/// One host.
pub struct Host {
    /// Its clock.
    pub clock: HostClock,
    /// Its kernel.
    pub kernel: HostKernel,
    /// The etcd member that runs on it.
    pub member: Option<MemberId>,
    /// The members that its daemon knows, in the order of its configuration.
    pub endpoints: Vec<MemberId>,
    /// Which of them it asks now.
    pub endpoint: usize,
    /// Which of them its newest watch is at.
    pub watch_endpoint: usize,
    /// Switched on.
    pub powered: bool,
    /// Paused as a whole, as a virtual machine is.
    pub paused: bool,
    /// Counts its boots.
    pub boot: u32,
    /// Counts the daemon's processes.
    pub incarnation: u32,
    /// The daemon's process runs, or is frozen.
    pub running: bool,
    /// The daemon's process is stopped by a signal.
    pub frozen: bool,
    /// What the watch takes longer than usual, in ns.
    pub watch_lag: u64,
    /// What netlink takes longer than usual, in ns.
    pub netlink_slow: u64,
    /// How long a message waits before the kernel reads it, in ns.
    pub netlink_stuck: u64,
    /// How many operations of netlink in a thousand fail.
    pub netlink_failing: u64,
    /// What the kernel has told the daemon and it has not read.
    pub told: VecDeque<KernelEvent>,
    /// Who waits for that.
    pub told_waker: Option<Waker>,
    /// What an operator asks of the daemon.
    pub commands: VecDeque<Command>,
    /// Who waits for that.
    pub commands_waker: Option<Waker>,
    /// Who sleeps on the host's clock.
    pub sleeper: Option<Waker>,
    /// What the newest process of the daemon was configured with.
    pub config: HostConfig,
    /// What the daemon's adapter has not sent to the kernel yet.
    queue: VecDeque<Waiting>,
    /// The latest deadline that any `Refresh` of the daemon's had.
    renewed: Option<Instant>,
    busy: bool,
    /// What the daemon would have done while it was frozen.
    deferred: Vec<Event>,
    /// What the kernel would have done while the host was paused.
    deferred_by_kernel: Vec<Event>,
    gate_armed: Option<u64>,
    lifetimes_armed: Option<u64>,
}

/// An operation that waits for those before it.
struct Waiting {
    slot: SlotId,
    op: KernelOp,
    /// What a later `Withdraw` took out of it.
    cancelled: Vec<Assignment>,
}

impl Host {
    /// A host switched on, with no daemon yet.
    pub fn new(
        clock: HostClock,
        kernel: HostKernel,
        endpoints: Vec<MemberId>,
        config: HostConfig,
    ) -> Self {
        Host {
            clock,
            kernel,
            member: None,
            endpoints,
            endpoint: 0,
            watch_endpoint: 0,
            powered: true,
            paused: false,
            boot: 0,
            incarnation: 0,
            running: false,
            frozen: false,
            watch_lag: 0,
            netlink_slow: 0,
            netlink_stuck: 0,
            netlink_failing: 0,
            told: VecDeque::new(),
            told_waker: None,
            commands: VecDeque::new(),
            commands_waker: None,
            sleeper: None,
            config,
            queue: VecDeque::new(),
            renewed: None,
            busy: false,
            deferred: Vec::new(),
            deferred_by_kernel: Vec::new(),
            gate_armed: None,
            lifetimes_armed: None,
        }
    }
}

impl Inner {
    /// What `host`'s clock reads.
    pub fn local(&self, host: HostId) -> u64 {
        self.hosts[host].clock.read(self.now).as_nanos()
    }

    /// The daemon gives the adapter an operation. It is queued as the adapter that ships does it.
    pub fn adapter_takes(&mut self, host: HostId, op: KernelOp) -> SlotId {
        let slot = self.slots.open();
        if let KernelOp::Withdraw { addresses } = &op {
            self.adapter_cancels(host, &addresses.iter().cloned().collect());
        }
        if let KernelOp::Refresh { deadline, .. } = &op {
            let renewed = &mut self.hosts[host].renewed;
            *renewed = (*renewed).max(Some(*deadline));
        }
        let queue = &mut self.hosts[host].queue;
        let overtaken = |waiting: &Waiting| op.overtakes(&waiting.op);
        let place = queue.iter().position(overtaken).unwrap_or(queue.len());
        queue.insert(place, Waiting { slot, op, cancelled: Vec::new() });
        self.adapter_next(host);
        slot
    }

    /// A removal takes the place of what is still queued for its addresses; where that leaves
    /// nothing to do, the answer comes at once.
    fn adapter_cancels(&mut self, host: HostId, removed: &BTreeSet<Assignment>) {
        for mut waiting in std::mem::take(&mut self.hosts[host].queue) {
            waiting.cancelled.extend(waiting.op.cancel(removed));
            if waiting.op.addresses().is_empty() && !waiting.cancelled.is_empty() {
                let nothing = KernelOutcome::Done { failed: Vec::new(), until: None };
                let outcome = nothing.with_cancelled(waiting.cancelled);
                self.slots.complete(waiting.slot, Reply::Kernel(outcome));
            } else {
                self.hosts[host].queue.push_back(waiting);
            }
        }
    }

    fn adapter_next(&mut self, host: HostId) {
        let now = self.now;
        let target = &mut self.hosts[host];
        if !target.busy && !target.queue.is_empty() {
            target.busy = true;
            let incarnation = target.incarnation;
            // At once, and so before the daemon's loop runs again when both were stopped.
            self.schedule(now, Event::AdapterSends { host, incarnation });
        }
    }

    /// Keeps what a frozen or paused daemon would do for later.
    fn defer(&mut self, host: HostId, event: Event) -> Option<Event> {
        let target = &mut self.hosts[host];
        if target.frozen || target.paused {
            target.deferred.push(event);
            return None;
        }
        Some(event)
    }

    /// The adapter reads the clock and sends its next operation.
    pub fn adapter_sends(&mut self, host: HostId, incarnation: u32) {
        if self.hosts[host].incarnation != incarnation
            || self.defer(host, Event::AdapterSends { host, incarnation }).is_none()
        {
            return;
        }
        let sent_at = self.local(host);
        let target = &mut self.hosts[host];
        let Some(Waiting { slot, mut op, cancelled }) = target.queue.pop_front() else {
            target.busy = false;
            return;
        };
        // What waited behind others for long is not late for that, if the session was renewed.
        if let (
            KernelOp::Assume { deadline, .. } | KernelOp::Refresh { deadline, .. },
            Some(renewed),
        ) = (&mut op, target.renewed)
        {
            *deadline = renewed.max(*deadline);
        }
        let (failed, refused, undo) = (Vec::new(), None, false);
        let call = KernelCall { slot, op, cancelled, sent_at, failed, refused, undo };
        if self.hosts[host].kernel.heeds_deadlines && is_late(&call.op, sent_at) {
            self.slots.complete(slot, Reply::Kernel(KernelOutcome::Failed(KernelError::TooLate)));
            self.hosts[host].busy = false;
            self.adapter_next(host);
            return;
        }
        self.kernel_call(host, Box::new(call));
    }

    fn kernel_call(&mut self, host: HostId, call: Box<KernelCall>) {
        let count = call.op.addresses().len() as u64;
        let target = &self.hosts[host];
        let (boot, stuck) = (target.boot, target.netlink_stuck);
        let duration = 20 * US + count * US + self.rng.below(40 * US) + stuck;
        self.schedule(self.now + duration, Event::KernelActs { host, boot, call });
    }

    /// The kernel carries an operation out, whatever has become of the daemon.
    pub fn kernel_acts(&mut self, host: HostId, boot: u32, mut call: Box<KernelCall>) {
        if self.hosts[host].boot != boot || !self.hosts[host].powered {
            return;
        }
        if self.hosts[host].paused {
            let event = Event::KernelActs { host, boot, call };
            self.hosts[host].deferred_by_kernel.push(event);
            return;
        }
        let local = self.local(host);
        let target = &mut self.hosts[host];
        let failing = target.netlink_failing;
        if target.kernel.act(&mut call, local, failing, &mut self.rng) {
            self.kernel_tells(host, KernelEvent::AddressChanged);
        }
        self.kernel_changed(host);
        // What makes netlink slow does so after the kernel has acted: a message that is stuck
        // before that is a fault of its own, because timeouts count from when it is read.
        let mut back = self.rng.within(5 * US..=60 * US);
        if self.hosts[host].netlink_slow > 0 {
            back += self.rng.below(self.hosts[host].netlink_slow);
        }
        let incarnation = self.hosts[host].incarnation;
        self.schedule(self.now + back, Event::AdapterHears { host, incarnation, call });
    }

    /// The adapter has an acknowledgement, reads the clock again, and answers or undoes.
    pub fn adapter_hears(&mut self, host: HostId, incarnation: u32, mut call: Box<KernelCall>) {
        if self.hosts[host].incarnation != incarnation {
            return;
        }
        if self.hosts[host].frozen || self.hosts[host].paused {
            let event = Event::AdapterHears { host, incarnation, call };
            self.hosts[host].deferred.push(event);
            return;
        }
        let local = self.local(host);
        let heeds = self.hosts[host].kernel.heeds_deadlines;
        let late = is_late(&call.op, local) || self.hosts[host].kernel.has_no_time(&call.op, local);
        if heeds && !call.undo && late && call.refused.is_none() {
            let addresses = call.op.addresses().to_vec();
            call.op = KernelOp::Withdraw { addresses };
            call.undo = true;
            call.failed.clear();
            self.kernel_call(host, call);
            return;
        }
        if heeds && !call.undo && self.hosts[host].kernel.outlives(&call, local) {
            // The kernel read it later than thought: once more, with what is left now.
            call.sent_at = local;
            call.failed.clear();
            self.kernel_call(host, call);
            return;
        }
        let outcome = match (&call.op, call.undo, call.refused.take()) {
            (KernelOp::List, ..) => KernelOutcome::Listed(self.hosts[host].kernel.listing()),
            (_, _, Some(refused)) => KernelOutcome::Failed(refused),
            (_, true, _) => KernelOutcome::Failed(KernelError::TooLate),
            _ => {
                let until = self.hosts[host].kernel.until(&call);
                KernelOutcome::Done { failed: std::mem::take(&mut call.failed), until }
            }
        };
        let outcome = outcome.with_cancelled(std::mem::take(&mut call.cancelled));
        self.trace(|| format!("host {host}: kernel did {:?}: {outcome:?}", call.op));
        self.slots.complete(call.slot, Reply::Kernel(outcome));
        self.hosts[host].busy = false;
        self.adapter_next(host);
    }

    /// The kernel tells the daemon something unasked.
    pub fn kernel_tells(&mut self, host: HostId, event: KernelEvent) {
        let target = &mut self.hosts[host];
        // As the adapter does: while a hint to look is unread, another says nothing new.
        if event == KernelEvent::AddressChanged && target.told.contains(&event) {
            return;
        }
        target.told.push_back(event);
        if let Some(waker) = target.told_waker.take() {
            waker.wake();
        }
    }

    /// Something in the kernel changed: who answers now, and when does it change by itself?
    pub fn kernel_changed(&mut self, host: HostId) {
        self.observe(host);
        let target = &mut self.hosts[host];
        if target.paused {
            return;
        }
        let gate = target.kernel.gate_until().filter(|until| *until > 0);
        let ends = target.kernel.lifetimes_end();
        for (end, is_gate) in [(gate, true), (ends, false)] {
            let Some(end) = end else { continue };
            let target = &mut self.hosts[host];
            let armed = if is_gate { &mut target.gate_armed } else { &mut target.lifetimes_armed };
            // One timer is enough: when it fires too early, it is set anew.
            if armed.is_some_and(|armed| armed <= end) {
                continue;
            }
            let at = target.clock.when(Instant::from_nanos(end));
            // A gate that closes now is closed already.
            let Some(at) = at.filter(|&at| at > self.now || !is_gate) else { continue };
            *if is_gate { &mut target.gate_armed } else { &mut target.lifetimes_armed } = Some(end);
            let event =
                if is_gate { Event::GateCloses { host } } else { Event::LifetimesEnd { host } };
            self.schedule(at, event);
        }
    }

    /// A timer of the kernel fired, perhaps too early.
    pub fn kernel_timer(&mut self, host: HostId, is_gate: bool) {
        let local = self.local(host);
        let target = &mut self.hosts[host];
        *if is_gate { &mut target.gate_armed } else { &mut target.lifetimes_armed } = None;
        if !target.powered || target.paused {
            return;
        }
        if is_gate && target.kernel.has_closed_over_addresses(local) {
            self.trace(|| format!("host {host}: the fence silences its addresses"));
            self.count(|tally| &mut tally.gates_closed);
        }
        let target = &mut self.hosts[host];
        if !is_gate && target.kernel.expire(local) {
            self.trace(|| format!("host {host}: the kernel ends lifetimes of addresses"));
            self.count(|tally| &mut tally.lifetimes_ended);
            self.kernel_tells(host, KernelEvent::AddressChanged);
        }
        self.kernel_changed(host);
    }

    /// Tells the checker who answers on this host.
    fn observe(&mut self, host: HostId) {
        for index in 0..self.addresses.len() {
            let (address, net) = self.addresses[index];
            let answers = self.answers(host, net);
            let before = self.checker.holders(address);
            if answers == (before >> host & 1 == 1) {
                continue;
            }
            // Others may have fallen silent by a timer that is due at this very instant and comes
            // later in the queue. What matters is whether they answer.
            for other in (0..self.hosts.len()).filter(|other| before >> other & 1 == 1) {
                if other != host && answers {
                    let still = self.answers(other, net);
                    self.checker.observe(self.now, address, other, still);
                }
            }
            self.checker.observe(self.now, address, host, answers);
        }
    }

    fn answers(&self, host: HostId, net: IpNet) -> bool {
        let target = &self.hosts[host];
        target.powered && !target.paused && target.kernel.answers(net, self.local(host))
    }

    /// Somebody else takes an address away, or puts it there.
    pub fn meddle_with_address(&mut self, host: HostId, vip: usize, plant: bool) {
        let net = config::net(2 * vip);
        let interface = Arc::clone(&self.interfaces[self.plan.params.vips[vip].interface]);
        let kernel = &mut self.hosts[host].kernel;
        let changed = if plant { kernel.plant(net, &interface) } else { kernel.steal(net) };
        if changed {
            self.kernel_tells(host, KernelEvent::AddressChanged);
            self.kernel_changed(host);
        }
    }

    /// A link of a host goes down or up.
    pub fn set_link(&mut self, host: HostId, interface: usize, up: bool) {
        let interface = Arc::clone(&self.interfaces[interface]);
        if let Some(link) = self.hosts[host].kernel.set_link(&interface, up) {
            self.kernel_tells(host, KernelEvent::LinkChanged(link));
            self.kernel_changed(host);
        }
    }

    /// A link of a host disappears, with its addresses, or comes back.
    pub fn set_link_there(&mut self, host: HostId, interface: usize, there: bool) {
        let interface = Arc::clone(&self.interfaces[interface]);
        let kernel = &mut self.hosts[host].kernel;
        let event = if there {
            let link: Link = kernel.add_link(&interface);
            KernelEvent::LinkChanged(link)
        } else {
            kernel.remove_link(&interface);
            KernelEvent::LinkGone(interface)
        };
        self.kernel_tells(host, event);
        self.kernel_changed(host);
    }

    /// A daemon's process begins.
    pub fn daemon_begins(&mut self, host: HostId) {
        let config = self.config_of(host);
        let addresses: BTreeSet<IpNet> = config.addresses().map(config::net).collect();
        self.checker.joins(host, config.cluster);
        let at = self.now;
        self.record.configs.push(Configured { at, host, config: config.clone() });
        let target = &mut self.hosts[host];
        target.config = config;
        target.running = true;
        target.frozen = false;
        target.told.clear();
        target.kernel.configure(addresses);
        self.kernel_changed(host);
    }

    /// A daemon's process ends: what its adapter had not sent is lost.
    pub fn daemon_ends(&mut self, host: HostId) {
        let target = &mut self.hosts[host];
        target.incarnation += 1;
        target.running = false;
        target.frozen = false;
        target.queue.clear();
        target.renewed = None;
        target.busy = false;
        target.deferred.clear();
        target.told_waker = None;
        target.commands.clear();
        target.commands_waker = None;
        target.sleeper = None;
    }

    /// A daemon's process goes on.
    pub fn daemon_thaws(&mut self, host: HostId) {
        self.hosts[host].frozen = false;
        self.undefer(host);
    }

    fn undefer(&mut self, host: HostId) {
        let target = &mut self.hosts[host];
        if target.frozen || target.paused {
            return;
        }
        for event in std::mem::take(&mut target.deferred) {
            self.schedule(self.now, event);
        }
    }

    /// A host's clock changes its rate; what waits for it looks again.
    pub fn set_clock_rate(&mut self, host: HostId, rate_ppm: i64) {
        let now = self.now;
        self.hosts[host].clock.set_rate(now, rate_ppm);
        self.rearm(host);
    }

    fn rearm(&mut self, host: HostId) {
        let target = &mut self.hosts[host];
        (target.gate_armed, target.lifetimes_armed) = (None, None);
        self.kernel_changed(host);
        if let Some(waker) = self.hosts[host].sleeper.take() {
            waker.wake();
        }
    }

    /// Pauses a whole host with its member, clock and all, or lets it go on.
    pub fn set_host_paused(&mut self, host: HostId, paused: bool) {
        let now = self.now;
        let target = &mut self.hosts[host];
        target.paused = paused;
        target.clock.set_stopped(now, paused);
        if let Some(member) = target.member {
            self.member_pause(member, paused);
        }
        if !paused {
            for event in std::mem::take(&mut self.hosts[host].deferred_by_kernel) {
                self.schedule(now, event);
            }
            self.undefer(host);
        }
        self.rearm(host);
    }

    /// A host is switched off: its kernel, its member and its daemon are gone.
    pub fn host_off(&mut self, host: HostId, kernel: HostKernel) {
        self.daemon_ends(host);
        let target = &mut self.hosts[host];
        target.powered = false;
        target.boot += 1;
        let before = std::mem::replace(&mut target.kernel, kernel);
        target.kernel.refuses = before.refuses;
        target.deferred_by_kernel.clear();
        if let Some(member) = target.member {
            self.member_crash(member);
        }
        self.kernel_changed(host);
        self.watches_look();
    }

    /// A host is switched on again.
    pub fn host_on(&mut self, host: HostId) {
        self.hosts[host].powered = true;
        if let Some(member) = self.hosts[host].member {
            self.member_start(member);
        }
    }

    /// Whether the machine at a site is on.
    pub fn site_is_up(&self, site: usize) -> bool {
        self.hosts.get(site).is_none_or(|host| host.powered && !host.paused)
    }
}

fn is_late(op: &KernelOp, now: u64) -> bool {
    match op {
        KernelOp::Assume { deadline, .. } | KernelOp::Refresh { deadline, .. } => {
            deadline.as_nanos() <= now
        }
        _ => false,
    }
}
