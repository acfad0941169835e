//! What befalls hosts: their addresses, links and clocks, their daemons, and they as a whole.

use std::sync::Arc;

use turnip::seams::Command;
use turnip_core::adapter::Adapter;
use turnip_core::{Assignment, Backstop, Conflict, KernelEvent, Mac};

use crate::plan::Daemon;
use crate::plan::config::{self, HostConfig};
use crate::record::Configured;
use crate::world::env::Env;
use crate::world::event::Event;
use crate::world::ids::HostId;
use crate::world::kernel::Affected;

use super::adapter::Line;
use super::host::Timers;
use super::{Hosts, assignments, fresh_kernel};

impl Hosts {
    /// Somebody else takes an address away.
    pub fn steal(&mut self, host: HostId, vip: usize, env: &mut Env) {
        let target = &mut self.list[host];
        let net = config::net(2 * vip);
        if target.kernel.steal(net) {
            target.process.tell(KernelEvent::AddressChanged);
            self.kernel_changed(host, &Affected::Some(vec![net.addr()]), env);
        }
    }

    /// Somebody else puts an address there.
    pub fn plant(&mut self, host: HostId, vip: usize, env: &mut Env) {
        let target = &mut self.list[host];
        let net = config::net(2 * vip);
        let interface = &env.layout.interfaces[env.plan.params.vips[vip].interfaces[0]];
        if target.kernel.plant(net, interface) {
            target.process.tell(KernelEvent::AddressChanged);
            self.kernel_changed(host, &Affected::Some(vec![net.addr()]), env);
        }
    }

    /// The host's own address on an interface goes and comes back.
    pub fn misplace(&mut self, host: HostId, interface: usize, env: &mut Env) {
        let target = &mut self.list[host];
        let (now, interface) = (env.now(), &env.layout.interfaces[interface]);
        for net in target.kernel.misplace(interface) {
            target.misplaced.entry(net).or_insert(now);
        }
        target.process.tell(KernelEvent::AddressChanged);
    }

    /// Somebody else puts an address on another interface, or takes it away from there.
    pub fn set_double(&mut self, host: HostId, vip: usize, there: bool, env: &mut Env) {
        let target = &mut self.list[host];
        let net = config::net(2 * vip);
        if target.kernel.set_double(net, there) {
            target.process.tell(KernelEvent::AddressChanged);
            self.kernel_changed(host, &Affected::Some(vec![net.addr()]), env);
        }
    }

    /// Somebody else changes rules of nftables: his own, or all are flushed.
    pub fn change_rules(&mut self, host: HostId, flush: bool, env: &mut Env) {
        self.list[host].kernel.change_rules(flush);
        self.kernel_changed(host, &Affected::All, env);
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
            self.kernel_changed(host, &Affected::All, env);
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
        self.kernel_changed(host, &Affected::All, env);
    }

    /// A host hears that a machine which knows nothing of turnip has the first address of a VIP.
    pub fn claim(&mut self, host: HostId, vip: usize, env: &mut Env) {
        let interface = &env.layout.interfaces[env.plan.params.vips[vip].interfaces[0]];
        let assignment = Assignment {
            vip: env.layout.names.vip(vip).clone(),
            interface: Arc::clone(interface),
            address: config::net(2 * vip),
        };
        let (heard_on, mac) = (Arc::clone(interface), Mac([2, 0, 0, 0, 0, 0x99]));
        let conflict = Conflict { assignment, heard_on, mac };
        self.list[host].process.tell(KernelEvent::Conflict(conflict));
    }

    /// An interface of a host has another hardware address.
    pub fn change_hardware(&mut self, host: HostId, interface: usize, env: &mut Env) {
        let name = Arc::clone(&env.layout.interfaces[interface]);
        self.list[host].process.tell(KernelEvent::AnnounceAnew(name));
    }

    /// A daemon's process begins, with this configuration.
    pub fn begin_daemon(&mut self, host: HostId, config: HostConfig, env: &mut Env) {
        env.checker.joins(host, config.cluster);
        env.names_of[host] = config.name;
        let at = env.now();
        env.record.configs.push(Configured { at, host, config: config.clone() });
        let configured = assignments(&config, env);
        let params = &env.plan.params;
        let backstop = params.backstop.unwrap_or(Backstop::Fence);
        let mut adapter = Adapter::new(configured.iter().cloned(), backstop);
        if let Daemon::Turnip(Some(mutant)) = params.daemon {
            adapter.set_mutant(mutant);
        }
        let target = &mut self.list[host];
        target.config = config;
        target.process.running = true;
        target.process.frozen = false;
        target.process.told.clear();
        target.process.line = Some(Line::new(adapter, &configured));
        target.kernel.new_process();
    }

    /// A daemon goes by another configuration from now on.
    pub fn reconfigure(&mut self, host: HostId, config: HostConfig, env: &mut Env) {
        let at = env.now();
        env.record.configs.push(Configured { at, host, config: config.clone() });
        self.list[host].config = config;
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
        self.list[host].set_rate(env.now(), rate_ppm);
        self.rearm(host, env);
    }

    /// NTP makes what a host's kernel counts faster than its clock by so many parts per million.
    pub fn slew(&mut self, host: HostId, ppm: i64, env: &mut Env) {
        self.list[host].slew(env.now(), ppm);
        self.rearm(host, env);
    }

    /// Pauses a whole host, clock and all, or lets it go on.
    pub fn pause(&mut self, host: HostId, paused: bool, env: &mut Env) {
        self.list[host].paused = paused;
        self.rest(host, env);
    }

    /// Suspends a host, whose clock goes on, or wakes it.
    pub fn suspend(&mut self, host: HostId, suspended: bool, env: &mut Env) {
        self.list[host].suspended = suspended;
        self.rest(host, env);
    }

    fn rest(&mut self, host: HostId, env: &mut Env) {
        let target = &mut self.list[host];
        target.set_stopped(env.now());
        if target.is_awake() {
            for event in std::mem::take(&mut target.deferred) {
                env.after(0, Event::Host { host, event });
            }
        }
        self.undefer(host, env);
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
        target.hooks.power_off();
        env.record.hooks.rebooted(host);
        target.deferred.clear();
        target.timers = Timers::default();
        self.kernel_changed(host, &Affected::All, env);
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
        self.list[host].timers = Timers::default();
        self.kernel_changed(host, &Affected::All, env);
        if let Some(waker) = self.list[host].process.sleeper.take() {
            waker.wake();
        }
    }
}
