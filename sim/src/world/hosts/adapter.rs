//! A daemon's way to its kernel: the adapter that ships, driven call by call.
//!
//! Between the adapter and the kernel time passes, and the process may be stopped: the adapter says
//! what to send, the message is sent, the kernel reads it, the kernel's answer is read. Each is an
//! event of its own where anything can come between.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use turnip_core::adapter::{Adapter, Call, Reply as KernelReply, TimerRate};
use turnip_core::{Assignment, Instant, KernelError, KernelOp, KernelOutcome, OpId};

use crate::time::US;
use crate::world::env::Env;
use crate::world::event::{Event, HostEvent};
use crate::world::ids::HostId;
use crate::world::slots::{Reply, SlotId};

use super::Hosts;

/// The adapter in a daemon's process, and who waits for it.
pub struct Line {
    adapter: Adapter,
    /// What it looks for in the kernel.
    pub configured: BTreeSet<IpNet>,
    /// Who waits for which operation, with what that was.
    waits: BTreeMap<OpId, (SlotId, Option<KernelOp>)>,
    next: u64,
    /// Who waits for it to have started.
    starting: Option<SlotId>,
    /// It is about to look for something to do.
    awake: bool,
}

impl Line {
    /// An adapter that has not started.
    pub fn new(adapter: Adapter, configured: &[Assignment]) -> Self {
        Line {
            adapter,
            configured: configured.iter().map(|one| one.address).collect(),
            waits: BTreeMap::new(),
            next: 0,
            starting: None,
            awake: false,
        }
    }

    /// Hands out the answers that it has.
    fn answer(&mut self, host: HostId, env: &mut Env) {
        while let Some((id, outcome)) = self.adapter.poll_outcome() {
            let Some((slot, op)) = self.waits.remove(&id) else { continue };
            env.trace(|params| match &op {
                Some(op) => format!("{h}: kernel did {op:?}: {outcome:?}", h = params.host(host)),
                None => {
                    format!("{h}: kernel did what was asked: {outcome:?}", h = params.host(host))
                }
            });
            env.slots.complete(slot, Reply::Kernel(outcome));
        }
        if let (Some(slot), Some(started)) = (self.starting, self.adapter.started()) {
            let outcome = match started {
                Ok(()) => KernelOutcome::Done { failed: Vec::new(), until: None },
                Err(error) => KernelOutcome::Failed(error.clone()),
            };
            env.slots.complete(slot, Reply::Kernel(outcome));
            self.starting = None;
        }
    }
}

impl Hosts {
    /// The daemon waits until its adapter has started.
    pub fn adapter_starts(&mut self, host: HostId, env: &mut Env) -> SlotId {
        let slot = env.slots.open();
        match &mut self.list[host].process.line {
            Some(line) => {
                line.starting = Some(slot);
                line.answer(host, env);
                self.adapter_wakes(host, env);
            }
            None => {
                env.slots.complete(slot, Reply::Kernel(KernelOutcome::Failed(no_process())));
            }
        }
        slot
    }

    /// The daemon gives the adapter an operation.
    pub fn adapter_takes(&mut self, host: HostId, op: KernelOp, env: &mut Env) -> SlotId {
        let slot = env.slots.open();
        let now = Instant::from_nanos(self.local(host, env.now()));
        let Some(line) = &mut self.list[host].process.line else {
            env.slots.complete(slot, Reply::Kernel(KernelOutcome::Failed(no_process())));
            return slot;
        };
        if matches!(op, KernelOp::Refresh { .. }) {
            env.checker.goes_on(host);
        }
        if let KernelOp::Configure { addresses } = &op {
            line.configured = addresses.iter().map(|one| one.address).collect();
        }
        let id = OpId(line.next);
        line.next += 1;
        line.waits.insert(id, (slot, env.record.is_tracing().then(|| op.clone())));
        line.adapter.handle_op(id, op, now);
        line.answer(host, env);
        self.adapter_wakes(host, env);
        slot
    }

    fn adapter_wakes(&mut self, host: HostId, env: &mut Env) {
        let process = &mut self.list[host].process;
        let incarnation = process.incarnation;
        if let Some(line) = &mut process.line
            && !std::mem::replace(&mut line.awake, true)
        {
            // At once, and so before the daemon's loop runs again when both were stopped.
            let event = HostEvent::AdapterLooks { incarnation };
            env.after(0, Event::Host { host, event });
        }
    }

    /// The adapter reads the clock and says what to send.
    pub(super) fn adapter_looks(&mut self, host: HostId, env: &mut Env) {
        let now = Instant::from_nanos(self.local(host, env.now()));
        let target = &mut self.list[host];
        let rate = TimerRate { slow_ppm: target.timers_slow_ppm() };
        let process = &mut target.process;
        let Some(line) = &mut process.line else { return };
        line.awake = false;
        let call = line.adapter.poll_call(now, rate);
        line.answer(host, env);
        let Some(call) = call else { return };
        let event =
            HostEvent::AdapterSends { incarnation: process.incarnation, call: Box::new(call) };
        if target.netlink.stall > 0 {
            // The process gets no time between reading the clock and sending.
            let stall = env.kernel_rng.below(target.netlink.stall);
            env.after(stall, Event::Host { host, event });
        } else {
            self.event(host, event, env);
        }
    }

    /// The adapter sends a message to the kernel.
    pub(super) fn adapter_sends(&mut self, host: HostId, call: Box<Call>, env: &mut Env) {
        let target = &self.list[host];
        let calls = crate::world::kernel::Kernel::duration(&call);
        let duration = 20 * US + calls + env.kernel_rng.below(40 * US) + target.netlink.stuck;
        let (boot, incarnation) = (target.boot, target.process.incarnation);
        let event = HostEvent::KernelReads { boot, incarnation, call };
        env.after(duration, Event::Host { host, event });
    }

    /// The adapter has the kernel's answer, reads the clock again and goes on.
    pub(super) fn adapter_hears(&mut self, host: HostId, reply: KernelReply, env: &mut Env) {
        let now = Instant::from_nanos(self.local(host, env.now()));
        if let Some(line) = &mut self.list[host].process.line {
            line.adapter.handle_reply(reply, now);
            line.answer(host, env);
            self.adapter_looks(host, env);
        }
    }
}

fn no_process() -> KernelError {
    KernelError::Refused("there is no adapter any more".into())
}
