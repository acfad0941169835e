//! One host: a kernel, a clock, and a daemon with its adapter.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use ipnet::IpNet;
use turnip::seams::Command;
use turnip_core::{Instant, KernelEvent};

use crate::plan::config::HostConfig;
use crate::time::{HostClock, True};
use crate::world::event::HostEvent;
use crate::world::kernel::{Failing, Kernel};

use super::adapter::Line;
use super::datagrams::Socket;
use super::hooks::HookProcesses;

/// One host.
pub struct Host {
    /// Its clock.
    pub clock: HostClock,
    /// The clock that its kernel's timers count.
    ticks: HostClock,
    /// By how many parts per million NTP makes that faster than the host's own.
    slewed_ppm: i64,
    /// It is suspended: the kernel's timers stand still, and the clock does not.
    pub suspended: bool,
    /// Somebody forges acknowledgements of its heartbeats.
    pub forged: bool,
    /// Its kernel.
    pub kernel: Kernel,
    /// Switched on.
    pub powered: bool,
    /// Paused as a whole, as a virtual machine is.
    pub paused: bool,
    /// Counts its boots.
    pub boot: u32,
    /// What is wrong with its netlink.
    pub netlink: Netlink,
    /// The daemon's process.
    pub process: Process,
    /// What the newest process of the daemon was configured with.
    pub config: HostConfig,
    /// What the kernel would have done while the host was paused.
    pub deferred: Vec<HostEvent>,
    /// For when the kernel's timers are set.
    pub timers: Timers,
    /// The hooks that run on it.
    pub hooks: HookProcesses,
    /// What stands before the host's own addresses, and since when, in true time.
    pub misplaced: BTreeMap<IpNet, True>,
}

/// What is wrong with a daemon's ways to its kernel and its neighbours.
#[derive(Clone, Copy, Default)]
pub struct Netlink {
    /// What an answer takes longer than usual at most, in ns.
    pub slow: u64,
    /// How long a message waits before the kernel reads it, in ns.
    pub stuck: u64,
    /// How long the process may get no time between reading the clock and sending, in ns.
    pub stall: u64,
    /// What of it fails.
    pub failing: Failing,
    /// How long the announcer may get no time between looking at the deadline and sending, in ns.
    pub announcer_stall: u64,
    /// How many announcements in a thousand are lost.
    pub announcements_lost: u64,
}

/// For when the kernel's timers are set, in ns of what they count.
#[derive(Clone, Copy, Default)]
pub struct Timers {
    /// The one for the fence's gate.
    pub gate: Option<u64>,
    /// The one for lifetimes.
    pub lifetimes: Option<u64>,
}

/// A daemon's process, and what waits for it.
#[derive(Default)]
pub struct Process {
    /// Counts the processes.
    pub incarnation: u32,
    /// It runs, or is frozen.
    pub running: bool,
    /// It is stopped by a signal.
    pub frozen: bool,
    /// What the kernel has told it and it has not read.
    pub told: VecDeque<KernelEvent>,
    /// Who waits for that.
    pub told_waker: Option<Waker>,
    /// What an operator asks of it.
    pub commands: VecDeque<Command>,
    /// Who waits for that.
    pub commands_waker: Option<Waker>,
    /// Who sleeps on the host's clock.
    pub sleeper: Option<Waker>,
    /// Where it receives datagrams.
    pub socket: Socket,
    /// Its way to the kernel.
    pub line: Option<Line>,
    /// What it would have done while it was frozen.
    pub deferred: Vec<HostEvent>,
}

impl Host {
    /// A host switched on, with no daemon yet.
    pub fn new(clock: HostClock, kernel: Kernel, config: HostConfig) -> Self {
        Host {
            ticks: HostClock::new(0, 0),
            slewed_ppm: 0,
            suspended: false,
            forged: false,
            clock,
            kernel,
            powered: true,
            paused: false,
            boot: 0,
            netlink: Netlink::default(),
            process: Process::default(),
            config,
            deferred: Vec::new(),
            timers: Timers::default(),
            hooks: HookProcesses::default(),
            misplaced: BTreeMap::new(),
        }
    }

    /// Whether its kernel works.
    pub fn is_awake(&self) -> bool {
        self.powered && !self.paused && !self.suspended
    }

    /// Whether its daemon's process does nothing for now.
    pub fn process_rests(&self) -> bool {
        self.process.frozen || self.paused || self.suspended
    }

    /// What its kernel's timers have counted.
    pub fn ticks(&self, now: True) -> u64 {
        self.ticks.read(now).as_nanos()
    }

    /// When its kernel's timers have counted so much.
    pub fn when_ticked(&self, ticks: u64) -> Option<True> {
        self.ticks.when(Instant::from_nanos(ticks))
    }

    /// How much slower than its clock its kernel's timers are, in parts per million.
    pub fn timers_slow_ppm(&self) -> u32 {
        u32::try_from(-self.slewed_ppm).unwrap_or(0)
    }

    /// NTP bends what its kernel's timers count.
    pub fn slew(&mut self, now: True, ppm: i64) {
        self.slewed_ppm = ppm;
        self.set_rate(now, self.clock.rate_ppm());
    }

    /// Its clock changes its rate, and what its kernel's timers count with it.
    pub fn set_rate(&mut self, now: True, rate_ppm: i64) {
        self.clock.set_rate(now, rate_ppm);
        // The rates multiply; what is less than a millionth is gone.
        let product = rate_ppm * self.slewed_ppm / 1_000_000;
        self.ticks.set_rate(now, rate_ppm + self.slewed_ppm + product);
    }

    /// Its clocks stop and go on as it is paused or suspended.
    pub fn set_stopped(&mut self, now: True) {
        self.clock.set_stopped(now, self.paused);
        self.ticks.set_stopped(now, self.paused || self.suspended);
    }
}

impl Process {
    /// It ends: what its adapter had not sent is lost.
    pub fn end(&mut self) {
        self.incarnation += 1;
        self.running = false;
        self.frozen = false;
        self.line = None;
        self.deferred.clear();
        self.told_waker = None;
        self.socket = Socket::default();
        self.commands.clear();
        self.commands_waker = None;
        self.sleeper = None;
    }

    /// The kernel tells it something unasked.
    pub fn tell(&mut self, event: KernelEvent) {
        // As the adapter does: while a hint to look is unread, another says nothing new.
        if event == KernelEvent::AddressChanged && self.told.contains(&event) {
            return;
        }
        self.told.push_back(event);
        if let Some(waker) = self.told_waker.take() {
            waker.wake();
        }
    }

    /// An operator asks it for something.
    pub fn command(&mut self, command: Command) {
        self.commands.push_back(command);
        if let Some(waker) = self.commands_waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Params;
    use crate::time::{MS, S};

    #[test]
    fn the_kernels_timers_are_bent_by_ntp_and_stand_still_while_the_host_is_suspended() {
        let config = Params::plain(1, 1, 1).config(0, []);
        let kernel = Kernel::new(&[], MS, true);
        let mut host = Host::new(HostClock::new(7 * S, 0), kernel, config);
        host.slew(0, -50_000);
        assert_eq!((host.ticks(S), host.timers_slow_ppm()), (950 * MS, 50_000));
        host.suspended = true;
        host.set_stopped(S);
        assert_eq!((host.ticks(9 * S), host.clock.read(9 * S).as_nanos()), (950 * MS, 16 * S));
        host.suspended = false;
        host.set_stopped(9 * S);
        host.slew(9 * S, 50_000);
        assert_eq!((host.ticks(10 * S), host.timers_slow_ppm()), (2 * S, 0));
    }
}
