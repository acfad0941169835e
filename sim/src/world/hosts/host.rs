//! One host: a kernel, a clock, and a daemon with its adapter.

use std::collections::VecDeque;
use std::task::Waker;

use turnip::seams::Command;
use turnip_core::KernelEvent;

use crate::plan::config::HostConfig;
use crate::time::HostClock;
use crate::world::event::HostEvent;
use crate::world::kernel::HostKernel;

use super::adapter::Adapter;

/// One host.
pub struct Host {
    /// Its clock.
    pub clock: HostClock,
    /// Its kernel.
    pub kernel: HostKernel,
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
    /// For when the kernel's timers are set, in ns of the host's clock.
    pub timers: Timers,
}

/// What is wrong with netlink.
#[derive(Clone, Copy, Default)]
pub struct Netlink {
    /// What an answer takes longer than usual at most, in ns.
    pub slow: u64,
    /// How long a message waits before the kernel reads it, in ns.
    pub stuck: u64,
    /// How many operations in a thousand fail.
    pub failing: u64,
}

/// For when the kernel's timers are set.
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
    /// Its way to the kernel.
    pub adapter: Adapter,
    /// What it would have done while it was frozen.
    pub deferred: Vec<HostEvent>,
}

impl Host {
    /// A host switched on, with no daemon yet.
    pub fn new(clock: HostClock, kernel: HostKernel, config: HostConfig) -> Self {
        Host {
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
        }
    }

    /// Whether its kernel works.
    pub fn is_awake(&self) -> bool {
        self.powered && !self.paused
    }

    /// Whether its daemon's process does nothing for now.
    pub fn process_rests(&self) -> bool {
        self.process.frozen || self.paused
    }
}

impl Process {
    /// It ends: what its adapter had not sent is lost.
    pub fn end(&mut self) {
        self.incarnation += 1;
        self.running = false;
        self.frozen = false;
        self.adapter = Adapter::default();
        self.deferred.clear();
        self.told_waker = None;
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
