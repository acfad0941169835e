//! The hosts: each a kernel, a clock, and a daemon with its adapter, that can be killed, frozen,
//! paused and switched off.

mod adapter;
mod host;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipnet::IpNet;
use turnip::seams::Command;
use turnip_core::{Assignment, Instant, KernelEvent};

use crate::plan::config::{self, HostConfig};
use crate::plan::{Daemon, Params};
use crate::record::Configured;
use crate::time::{HostClock, True, US};

use super::env::Env;
use super::event::{Event, HostEvent};
use super::ids::HostId;
use super::kernel::{HostKernel, KernelCall};
use super::net::Site;

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
            Host::new(clock, kernel, params.config(host, []))
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
            HostEvent::AdapterSends { incarnation }
            | HostEvent::AdapterHears { incarnation, .. } => {
                if target.process.incarnation != incarnation {
                    return;
                }
                if target.process_rests() {
                    target.process.deferred.push(event);
                    return;
                }
            }
            HostEvent::KernelActs { boot, .. } => {
                if target.boot != boot || !target.powered {
                    return;
                }
                if target.paused {
                    target.deferred.push(event);
                    return;
                }
            }
            _ => {}
        }
        match event {
            HostEvent::AdapterSends { .. } => self.adapter_sends(host, env),
            HostEvent::AdapterHears { call, .. } => self.adapter_hears(host, call, env),
            HostEvent::KernelActs { call, .. } => self.kernel_acts(host, call, env),
            HostEvent::GateCloses => self.kernel_timer(host, true, env),
            HostEvent::LifetimesEnd => self.kernel_timer(host, false, env),
            HostEvent::Start => unreachable!("the service manager's affair"),
        }
    }

    /// The kernel carries an operation out, whatever has become of the daemon.
    fn kernel_acts(&mut self, host: HostId, mut call: Box<KernelCall>, env: &mut Env) {
        let local = self.local(host, env.now());
        let target = &mut self.list[host];
        if target.kernel.act(&mut call, local, target.netlink.failing, &mut env.rng) {
            target.process.tell(KernelEvent::AddressChanged);
        }
        self.kernel_changed(host, env);
        // What makes netlink slow does so after the kernel has acted: a message that is stuck
        // before that is a fault of its own, because timeouts count from when it is read.
        let mut back = env.rng.within(5 * US..=60 * US);
        let target = &self.list[host];
        if target.netlink.slow > 0 {
            back += env.rng.below(target.netlink.slow);
        }
        let incarnation = target.process.incarnation;
        let event = HostEvent::AdapterHears { incarnation, call };
        env.after(back, Event::Host { host, event });
    }

    /// Something in the kernel changed: who answers now, and when does it change by itself?
    fn kernel_changed(&mut self, host: HostId, env: &mut Env) {
        self.observe(host, env);
        let target = &mut self.list[host];
        if target.paused {
            return;
        }
        let gate = target.kernel.gate_until().filter(|until| *until > 0);
        let ends = target.kernel.lifetimes_end();
        for (end, is_gate) in [(gate, true), (ends, false)] {
            let Some(end) = end else { continue };
            let timers = &mut target.timers;
            let armed = if is_gate { &mut timers.gate } else { &mut timers.lifetimes };
            // One timer is enough: when it fires too early, it is set anew.
            if armed.is_some_and(|armed| armed <= end) {
                continue;
            }
            let at = target.clock.when(Instant::from_nanos(end));
            // A gate that closes now is closed already.
            let Some(at) = at.filter(|&at| at > env.now() || !is_gate) else { continue };
            *armed = Some(end);
            let event = if is_gate { HostEvent::GateCloses } else { HostEvent::LifetimesEnd };
            env.schedule(at, Event::Host { host, event });
        }
    }

    /// A timer of the kernel fired, perhaps too early.
    fn kernel_timer(&mut self, host: HostId, is_gate: bool, env: &mut Env) {
        let local = self.local(host, env.now());
        let target = &mut self.list[host];
        *if is_gate { &mut target.timers.gate } else { &mut target.timers.lifetimes } = None;
        if !target.is_awake() {
            return;
        }
        if is_gate && target.kernel.has_closed_over_addresses(local) {
            env.trace(|| format!("host {host}: the fence silences its addresses"));
            env.count(|tally| &mut tally.gates_closed);
        }
        if !is_gate && target.kernel.expire(local) {
            env.trace(|| format!("host {host}: the kernel ends lifetimes of addresses"));
            env.count(|tally| &mut tally.lifetimes_ended);
            target.process.tell(KernelEvent::AddressChanged);
        }
        self.kernel_changed(host, env);
    }

    /// Tells the checker who answers on this host.
    fn observe(&mut self, host: HostId, env: &mut Env) {
        let (now, layout) = (env.now(), Rc::clone(&env.layout));
        for &(address, net) in &layout.addresses {
            let answers = self.answers(host, net, now);
            let before = env.checker.holders(address);
            if answers == (before >> host & 1 == 1) {
                continue;
            }
            // Others may have fallen silent by a timer that is due at this very instant and comes
            // later in the queue. What matters is whether they answer.
            for other in (0..self.list.len()).filter(|other| before >> other & 1 == 1) {
                if other != host && answers {
                    let still = self.answers(other, net, now);
                    env.checker.observe(now, address, other, still);
                }
            }
            env.checker.observe(now, address, host, answers);
        }
    }

    fn answers(&self, host: HostId, net: IpNet, now: True) -> bool {
        let target = &self.list[host];
        target.is_awake() && target.kernel.answers(net, self.local(host, now))
    }
}

/// What befalls hosts.
impl Hosts {
    /// Somebody else takes an address away.
    pub fn steal(&mut self, host: HostId, vip: usize, env: &mut Env) {
        let target = &mut self.list[host];
        if target.kernel.steal(config::net(2 * vip)) {
            target.process.tell(KernelEvent::AddressChanged);
            self.kernel_changed(host, env);
        }
    }

    /// A host's kernel refuses the first address of a VIP from now on, or does no longer.
    pub fn refuse(&mut self, host: HostId, vip: usize, refuses: bool) {
        let (net, refused) = (config::net(2 * vip), &mut self.list[host].kernel.refuses);
        if refuses {
            refused.insert(net)
        } else {
            refused.remove(&net)
        };
    }

    /// A link of a host goes down or up.
    pub fn set_link(&mut self, host: HostId, interface: usize, up: bool, env: &mut Env) {
        let target = &mut self.list[host];
        if let Some(link) = target.kernel.set_link(&env.layout.interfaces[interface], up) {
            target.process.tell(KernelEvent::LinkChanged(link));
            self.kernel_changed(host, env);
        }
    }

    /// A link of a host disappears, with its addresses, or comes back.
    pub fn set_link_there(&mut self, host: HostId, interface: usize, there: bool, env: &mut Env) {
        let interface = Arc::clone(&env.layout.interfaces[interface]);
        let target = &mut self.list[host];
        let event = if there {
            KernelEvent::LinkChanged(target.kernel.add_link(&interface))
        } else {
            target.kernel.remove_link(&interface);
            KernelEvent::LinkGone(interface)
        };
        target.process.tell(event);
        self.kernel_changed(host, env);
    }

    /// A daemon's process begins, with this configuration.
    pub fn begin_daemon(&mut self, host: HostId, config: HostConfig, env: &mut Env) {
        let sections = config.vips.iter();
        let configured: Vec<Assignment> = sections
            .flat_map(|(&name, section)| {
                section.addresses.iter().map(move |&id| (name, section, id))
            })
            .map(|(name, section, id)| Assignment {
                vip: env.layout.names.vip(name).clone(),
                interface: Arc::clone(&env.layout.interfaces[section.interface]),
                address: config::net(id),
            })
            .collect();
        env.checker.joins(host, config.cluster);
        env.names_of[host] = config.name;
        let at = env.now();
        env.record.configs.push(Configured { at, host, config: config.clone() });
        let target = &mut self.list[host];
        target.config = config;
        target.process.running = true;
        target.process.frozen = false;
        target.process.told.clear();
        target.kernel.configure(&configured);
        self.kernel_changed(host, env);
    }

    /// A daemon's process ends.
    pub fn end_daemon(&mut self, host: HostId) {
        self.list[host].process.end();
    }

    /// A daemon's process is stopped by a signal.
    pub fn freeze(&mut self, host: HostId) {
        self.list[host].process.frozen = true;
    }

    /// A daemon's process goes on.
    pub fn thaw(&mut self, host: HostId, env: &mut Env) {
        self.list[host].process.frozen = false;
        self.undefer(host, env);
    }

    /// An operator asks a daemon for something.
    pub fn command(&mut self, host: HostId, command: Command) {
        if self.list[host].process.running {
            self.list[host].process.command(command);
        }
    }

    /// A host's clock changes its rate; what waits for it looks again.
    pub fn set_clock_rate(&mut self, host: HostId, rate_ppm: i64, env: &mut Env) {
        self.list[host].clock.set_rate(env.now(), rate_ppm);
        self.rearm(host, env);
    }

    /// Pauses a whole host, clock and all, or lets it go on.
    pub fn pause(&mut self, host: HostId, paused: bool, env: &mut Env) {
        let target = &mut self.list[host];
        target.paused = paused;
        target.clock.set_stopped(env.now(), paused);
        if !paused {
            for event in std::mem::take(&mut target.deferred) {
                env.after(0, Event::Host { host, event });
            }
            self.undefer(host, env);
        }
        self.rearm(host, env);
    }

    /// A host is switched off: its kernel and its daemon are gone.
    pub fn power_off(&mut self, host: HostId, env: &mut Env) {
        let target = &mut self.list[host];
        target.process.end();
        target.powered = false;
        target.boot += 1;
        let kernel = fresh_kernel(&env.plan.params, &env.layout.interfaces);
        let before = std::mem::replace(&mut target.kernel, kernel);
        target.kernel.refuses = before.refuses;
        target.deferred.clear();
        self.kernel_changed(host, env);
    }

    /// A host is switched on again.
    pub fn power_on(&mut self, host: HostId) {
        self.list[host].powered = true;
    }

    fn undefer(&mut self, host: HostId, env: &mut Env) {
        let target = &mut self.list[host];
        if !target.process_rests() {
            for event in std::mem::take(&mut target.process.deferred) {
                env.after(0, Event::Host { host, event });
            }
        }
    }

    fn rearm(&mut self, host: HostId, env: &mut Env) {
        self.list[host].timers = host::Timers::default();
        self.kernel_changed(host, env);
        if let Some(waker) = self.list[host].process.sleeper.take() {
            waker.wake();
        }
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

    /// Its clock has not come to a reading yet: it is woken when the clock changes its rate.
    pub fn sleep(&mut self, host: HostId, cx: &mut Context<'_>) {
        match &mut self.list[host].process.sleeper {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
    }
}

/// A kernel just booted.
fn fresh_kernel(params: &Params, interfaces: &[Arc<str>]) -> HostKernel {
    let mut kernel = HostKernel::new(params.backstop, interfaces, params.gate_early_max);
    kernel.heeds_deadlines = params.daemon != Daemon::HeedlessAdapter;
    kernel
}
