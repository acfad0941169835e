//! The hosts: each a kernel, a clock, and a daemon with its adapter, that can be killed, frozen,
//! paused and switched off.

mod adapter;
mod datagrams;
mod hooks;
mod host;
mod troubles;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipnet::IpNet;
use turnip::seams::Command;
use turnip_core::adapter::Call;
use turnip_core::{Assignment, HookEnd, Instant, KernelEvent};

use crate::plan::config::{self, HostConfig, VipSection};
use crate::plan::{AddressId, Params};
use crate::record::Misplaced;
use crate::time::{HostClock, True, US};

use super::env::Env;
use super::event::{Event, HostEvent};
use super::ids::HostId;
use super::kernel::{Affected, Kernel};
use super::net::Site;

pub use datagrams::Sealed;
use host::Host;
pub use host::Netlink;

/// All hosts.
pub struct Hosts {
    list: Vec<Host>,
}

impl Hosts {
    /// All switched on, with no daemon yet.
    pub fn new(env: &Env) -> Self {
        let params = &env.plan.params;
        let host = |host: HostId| {
            let clock = HostClock::new(params.offsets[host], params.rates_ppm[host]);
            let kernel = fresh_kernel(params, &env.layout.interfaces);
            let mut made = Host::new(clock, kernel, params.config(host, []));
            made.slew(0, params.slews_ppm[host]);
            made
        };
        Hosts { list: (0..params.hosts).map(host).collect() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// What a host's clock reads.
    pub fn local(&self, host: HostId, now: True) -> u64 {
        self.list[host].clock.read(now).as_nanos()
    }

    /// A host's clock.
    pub fn clock(&self, host: HostId) -> &HostClock {
        &self.list[host].clock
    }

    /// Which boot of a host it is.
    pub fn boot(&self, host: HostId) -> u32 {
        self.list[host].boot
    }

    /// Which process of a host's daemon it is.
    pub fn incarnation(&self, host: HostId) -> u32 {
        self.list[host].process.incarnation
    }

    /// What the newest process of a host's daemon was configured with.
    pub fn config(&self, host: HostId) -> &HostConfig {
        &self.list[host].config
    }

    /// Whether a host's daemon runs, or is frozen.
    pub fn is_running(&self, host: HostId) -> bool {
        self.list[host].process.running
    }

    /// Whether a host's daemon is stopped by a signal.
    pub fn is_frozen(&self, host: HostId) -> bool {
        self.list[host].process.frozen
    }

    /// Whether a host is paused as a whole.
    pub fn is_paused(&self, host: HostId) -> bool {
        self.list[host].paused
    }

    /// Whether a host is suspended.
    pub fn is_suspended(&self, host: HostId) -> bool {
        self.list[host].suspended
    }

    /// Whether a host's kernel works.
    pub fn is_awake(&self, host: HostId) -> bool {
        self.list[host].is_awake()
    }

    /// Whether a host is switched on.
    pub fn is_powered(&self, host: HostId) -> bool {
        self.list[host].powered
    }

    /// Whether the machine at a site is on, and not paused.
    pub fn site_is_up(&self, site: Site) -> bool {
        self.list.get(site).is_none_or(Host::is_awake)
    }

    /// What is left of turnip on a host: addresses with its mark, and whether the fence is there.
    pub fn leftovers(&self, host: HostId) -> (Vec<IpNet>, bool) {
        self.list[host].kernel.leftovers()
    }

    /// What is wrong with a host's netlink.
    pub fn netlink(&mut self, host: HostId) -> &mut Netlink {
        &mut self.list[host].netlink
    }

    /// Something happens to a host. What would happen to a daemon or a kernel that rests waits for
    /// it.
    pub fn event(&mut self, host: HostId, event: HostEvent, env: &mut Env) {
        let target = &mut self.list[host];
        match event {
            HostEvent::AdapterLooks { incarnation }
            | HostEvent::AdapterSends { incarnation, .. }
            | HostEvent::AdapterHears { incarnation, .. }
            | HostEvent::AnnouncerSends { incarnation, .. } => {
                if target.process.incarnation != incarnation {
                    return;
                }
                if target.process_rests() {
                    target.process.deferred.push(event);
                    return;
                }
            }
            // Who kills it rests. What ends by itself, ends.
            HostEvent::HookEnds { incarnation, end: HookEnd::Killed, .. }
                if target.process.incarnation == incarnation && target.process_rests() =>
            {
                target.process.deferred.push(event);
                return;
            }
            HostEvent::KernelReads { boot, .. } => {
                if target.boot != boot || !target.powered {
                    return;
                }
                if !target.is_awake() {
                    target.deferred.push(event);
                    return;
                }
            }
            _ => {}
        }
        match event {
            HostEvent::AdapterLooks { .. } => self.adapter_looks(host, env),
            HostEvent::AdapterSends { call, .. } => self.adapter_sends(host, call, env),
            HostEvent::AdapterHears { reply, .. } => self.adapter_hears(host, *reply, env),
            HostEvent::KernelReads { incarnation, call, .. } => {
                self.kernel_reads(host, incarnation, &call, env);
            }
            HostEvent::AnnouncerSends { addresses, .. } => self.send(host, &addresses, env),
            HostEvent::HookEnds { incarnation, id, end } => {
                self.hook_ends(host, (incarnation, id), end, env);
            }
            HostEvent::GateCloses => self.gate_closes(host, env),
            HostEvent::LifetimesEnd => self.lifetimes_end(host, env),
            HostEvent::Start | HostEvent::TriesChecks { .. } => {
                unreachable!("the service manager's affair, and the world's")
            }
        }
    }

    /// The kernel carries out what it reads, whatever has become of the daemon.
    fn kernel_reads(&mut self, host: HostId, incarnation: u32, call: &Call, env: &mut Env) {
        let target = &mut self.list[host];
        let now = target.ticks(env.now());
        let configured = target.process.line.as_ref().map(|line| &line.configured);
        let none = BTreeSet::new();
        let failing = target.netlink.failing;
        let read = target.kernel.read(
            call,
            configured.unwrap_or(&none),
            now,
            failing,
            &mut env.kernel_rng,
        );
        if target.process.incarnation != incarnation {
            // Of an earlier process: the one that runs now does not know of it.
            target.kernel.change_rules(false);
        }
        self.kernel_changed(host, &read.affected, env);
        // What makes netlink slow does so after the kernel has acted: a message that is stuck
        // before that is a fault of its own, because timeouts count from when it is read.
        let target = &self.list[host];
        let mut back = env.kernel_rng.within(5 * US..=60 * US);
        if target.netlink.slow > 0 {
            back += env.kernel_rng.below(target.netlink.slow);
        }
        let event = HostEvent::AdapterHears { incarnation, reply: Box::new(read.reply) };
        env.after(back, Event::Host { host, event });
    }

    /// Writes down what stands before the host's own addresses no longer.
    fn note_misplaced(&mut self, host: HostId, env: &mut Env) {
        let target = &mut self.list[host];
        let now = env.now();
        target.misplaced.retain(|net, since| {
            let still = target.kernel.is_misplaced(*net);
            if !still {
                let one = Misplaced { host, address: *net, from: *since, to: now };
                env.record.misplaced.push(one);
            }
            still
        });
    }

    /// Something in the kernel changed: who answers now, and when does it change by itself?
    fn kernel_changed(&mut self, host: HostId, affected: &Affected, env: &mut Env) {
        self.observe(host, affected, env);
        self.note_misplaced(host, env);
        let target = &mut self.list[host];
        if !target.is_awake() {
            return;
        }
        let now = target.ticks(env.now());
        let gate = target.kernel.gate_ends(now);
        let ends = target.kernel.lifetimes_end();
        for (end, is_gate) in [(gate, true), (ends, false)] {
            let Some(end) = end else { continue };
            let timers = &mut target.timers;
            let armed = if is_gate { &mut timers.gate } else { &mut timers.lifetimes };
            // One timer is enough: when it fires too early, it is set anew.
            if armed.is_some_and(|armed| armed <= end) {
                continue;
            }
            *armed = Some(end);
            let Some(at) = target.when_ticked(end) else { continue };
            let event = if is_gate { HostEvent::GateCloses } else { HostEvent::LifetimesEnd };
            env.schedule(at, Event::Host { host, event });
        }
    }

    /// The gate may have closed: the timer may have been set for an earlier time.
    fn gate_closes(&mut self, host: HostId, env: &mut Env) {
        let target = &mut self.list[host];
        target.timers.gate = None;
        if !target.is_awake() {
            return;
        }
        let now = target.ticks(env.now());
        let closed = target.kernel.gate_ends(now).is_none();
        if closed && target.kernel.silenced(now) > 0 {
            env.trace(|params| {
                format!("{h}: the fence silences its addresses", h = params.host(host))
            });
            env.count(|tally| &mut tally.gates_closed);
        }
        let affected = if closed { Affected::All } else { Affected::Nothing };
        self.kernel_changed(host, &affected, env);
    }

    /// Lifetimes may have ended.
    fn lifetimes_end(&mut self, host: HostId, env: &mut Env) {
        let target = &mut self.list[host];
        target.timers.lifetimes = None;
        if !target.is_awake() {
            return;
        }
        let gone = target.kernel.expire(target.ticks(env.now()));
        if !gone.is_empty() {
            env.trace(|params| {
                format!("{h}: the kernel ends lifetimes of {gone:?}", h = params.host(host))
            });
            env.count(|tally| &mut tally.lifetimes_ended);
            target.process.tell(KernelEvent::AddressChanged);
        }
        let gone = gone.iter().map(IpNet::addr).collect();
        self.kernel_changed(host, &Affected::Some(gone), env);
    }

    /// Tells the checker who answers on this host, as far as that may have changed.
    fn observe(&mut self, host: HostId, affected: &Affected, env: &mut Env) {
        let layout = Rc::clone(&env.layout);
        match affected {
            Affected::Nothing => {}
            Affected::Some(addresses) => {
                for address in addresses {
                    if let Some(&(id, net)) = layout.address_of(*address) {
                        self.observe_address(host, id, net, env);
                    }
                }
            }
            Affected::All => {
                for &(id, net) in &layout.addresses {
                    self.observe_address(host, id, net, env);
                }
            }
        }
    }

    fn observe_address(&self, host: HostId, address: AddressId, net: IpNet, env: &mut Env) {
        let now = env.now();
        let answers = self.answers(host, net, now);
        let before = env.checker.holders(address);
        if answers == (before >> host & 1 == 1) {
            return;
        }
        // Others may have fallen silent by a timer that is due at this very instant and comes
        // later in the queue. What matters is whether they answer.
        for other in (0..self.list.len()).filter(|other| before >> other & 1 == 1) {
            if other != host && answers {
                let still = self.answers(other, net, now);
                env.observe(address, other, still);
            }
        }
        env.observe(address, host, answers);
    }

    fn answers(&self, host: HostId, net: IpNet, now: True) -> bool {
        let target = &self.list[host];
        target.is_awake() && target.kernel.answers(net, target.ticks(now))
    }
}

/// What hosts tell their neighbours.
impl Hosts {
    /// The daemon announces addresses, unless its deadline has passed.
    pub fn announce(
        &mut self,
        host: HostId,
        addresses: &[Assignment],
        deadline: Instant,
        env: &mut Env,
    ) {
        if self.local(host, env.now()) >= deadline.as_nanos() {
            return;
        }
        env.count(|tally| &mut tally.announcements);
        env.trace(|params| format!("{h} announces {addresses:?}", h = params.host(host)));
        let target = &self.list[host];
        let up = addresses.iter().filter(|one| target.kernel.is_up(&one.interface));
        let ids = up.filter_map(|one| env.layout.address_of(one.address.addr()));
        let ids: Vec<AddressId> = ids.map(|(id, _)| *id).collect();
        if target.netlink.announcer_stall == 0 {
            return self.send(host, &ids, env);
        }
        // The announcer has looked at the deadline, and gets no time.
        let stall = env.kernel_rng.below(target.netlink.announcer_stall);
        let incarnation = target.process.incarnation;
        let event = HostEvent::AnnouncerSends { incarnation, addresses: ids };
        env.after(stall, Event::Host { host, event });
    }

    fn send(&self, host: HostId, addresses: &[AddressId], env: &mut Env) {
        let now = env.now();
        let lost = self.list[host].netlink.announcements_lost;
        for (at, event) in env.neighbours.sent(now, host, addresses, lost) {
            env.schedule(at, Event::Neighbour(event));
        }
    }
}

/// What hosts do about connections, which are not simulated.
impl Hosts {
    /// The daemon has connections through addresses ended.
    pub fn end_connections(&self, host: HostId, addresses: &[IpAddr], env: &mut Env) {
        env.trace(|params| {
            format!("{h} ends connections through {addresses:?}", h = params.host(host))
        });
    }
}

/// What a daemon waits for.
impl Hosts {
    /// What the kernel has told it.
    pub fn poll_told(&mut self, host: HostId, cx: &mut Context<'_>) -> Poll<KernelEvent> {
        let process = &mut self.list[host].process;
        match process.told.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                process.told_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// What an operator asks of it.
    pub fn poll_command(&mut self, host: HostId, cx: &mut Context<'_>) -> Poll<Command> {
        let process = &mut self.list[host].process;
        match process.commands.pop_front() {
            Some(command) => Poll::Ready(command),
            None => {
                process.commands_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// What a daemon's process does waits while that rests; else it is given back.
    pub fn defer(&mut self, host: HostId, event: HostEvent) -> Option<HostEvent> {
        let target = &mut self.list[host];
        if target.process_rests() {
            target.process.deferred.push(event);
            return None;
        }
        Some(event)
    }

    /// Its clock has not come to a reading yet: it is woken when the clock changes its rate.
    pub fn sleep(&mut self, host: HostId, cx: &mut Context<'_>) {
        match &mut self.list[host].process.sleeper {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
    }
}

/// A kernel just booted.
fn fresh_kernel(params: &Params, interfaces: &[Arc<str>]) -> Kernel {
    Kernel::new(interfaces, params.tick, params.backstop.is_some())
}

/// Every address that a daemon with this configuration may ever ask for.
fn assignments(config: &HostConfig, env: &Env) -> Vec<Assignment> {
    let layout = &env.layout;
    let of_section = |(&name, section): (&usize, &VipSection)| {
        let vip = layout.names.vip(name).clone();
        let one = move |(&id, &interface): (&AddressId, &usize)| Assignment {
            vip: vip.clone(),
            interface: Arc::clone(&layout.interfaces[interface]),
            address: config::net(id),
        };
        section.addresses.iter().map(one).collect::<Vec<_>>()
    };
    config.vips.iter().flat_map(of_section).collect()
}
