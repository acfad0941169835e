//! What a daemon's adapter has to do: queued as the adapter that ships does it.

use std::collections::{BTreeSet, VecDeque};

use turnip_core::{Assignment, Instant, KernelError, KernelOp, KernelOutcome};

use crate::time::US;
use crate::world::env::Env;
use crate::world::event::{Event, HostEvent};
use crate::world::ids::HostId;
use crate::world::kernel::KernelCall;
use crate::world::slots::{Reply, SlotId};

use super::Hosts;

/// What a daemon's adapter has to do.
#[derive(Default)]
pub struct Adapter {
    /// What it has not sent to the kernel yet.
    queue: VecDeque<Waiting>,
    /// The latest deadline that any `Refresh` had.
    renewed: Option<Instant>,
    busy: bool,
}

/// An operation that waits for those before it.
struct Waiting {
    slot: SlotId,
    op: KernelOp,
    /// What a later `Withdraw` took out of it.
    cancelled: Vec<Assignment>,
}

impl Adapter {
    fn take(&mut self, op: KernelOp, env: &mut Env) -> SlotId {
        let slot = env.slots.open();
        if let KernelOp::Withdraw { addresses } = &op {
            self.cancel(&addresses.iter().cloned().collect(), env);
        }
        if let KernelOp::Refresh { deadline, .. } = &op {
            self.renewed = self.renewed.max(Some(*deadline));
        }
        let overtaken = |waiting: &Waiting| op.overtakes(&waiting.op);
        let place = self.queue.iter().position(overtaken).unwrap_or(self.queue.len());
        self.queue.insert(place, Waiting { slot, op, cancelled: Vec::new() });
        slot
    }

    /// A removal takes the place of what is still queued for its addresses; where that leaves
    /// nothing to do, the answer comes at once.
    fn cancel(&mut self, removed: &BTreeSet<Assignment>, env: &mut Env) {
        for mut waiting in std::mem::take(&mut self.queue) {
            waiting.cancelled.extend(waiting.op.cancel(removed));
            if waiting.op.addresses().is_empty() && !waiting.cancelled.is_empty() {
                let nothing = KernelOutcome::Done { failed: Vec::new(), until: None };
                let outcome = nothing.with_cancelled(waiting.cancelled);
                env.slots.complete(waiting.slot, Reply::Kernel(outcome));
            } else {
                self.queue.push_back(waiting);
            }
        }
    }

    /// Whether it begins with the next operation now.
    fn begins_next(&mut self) -> bool {
        let begins = !self.busy && !self.queue.is_empty();
        self.busy |= begins;
        begins
    }
}

impl Hosts {
    /// The daemon gives the adapter an operation.
    pub fn adapter_takes(&mut self, host: HostId, op: KernelOp, env: &mut Env) -> SlotId {
        let slot = self.list[host].process.adapter.take(op, env);
        self.adapter_next(host, env);
        slot
    }

    fn adapter_next(&mut self, host: HostId, env: &mut Env) {
        let process = &mut self.list[host].process;
        if process.adapter.begins_next() {
            let event = HostEvent::AdapterSends { incarnation: process.incarnation };
            // At once, and so before the daemon's loop runs again when both were stopped.
            env.after(0, Event::Host { host, event });
        }
    }

    /// The adapter reads the clock and sends its next operation.
    pub(super) fn adapter_sends(&mut self, host: HostId, env: &mut Env) {
        let sent_at = self.local(host, env.now());
        let target = &mut self.list[host];
        let adapter = &mut target.process.adapter;
        let Some(Waiting { slot, mut op, cancelled }) = adapter.queue.pop_front() else {
            adapter.busy = false;
            return;
        };
        // What waited behind others for long is not late for that, if the session was renewed.
        if let (
            KernelOp::Assume { deadline, .. } | KernelOp::Refresh { deadline, .. },
            Some(renewed),
        ) = (&mut op, adapter.renewed)
        {
            *deadline = renewed.max(*deadline);
        }
        let (failed, refused, undo) = (Vec::new(), None, false);
        let call = KernelCall { slot, op, cancelled, sent_at, failed, refused, undo };
        if target.kernel.heeds_deadlines && is_late(&call.op, sent_at) {
            let late = KernelOutcome::Failed(KernelError::TooLate);
            env.slots.complete(slot, Reply::Kernel(late));
            adapter.busy = false;
            self.adapter_next(host, env);
            return;
        }
        self.kernel_call(host, Box::new(call), env);
    }

    fn kernel_call(&mut self, host: HostId, call: Box<KernelCall>, env: &mut Env) {
        let count = call.op.addresses().len() as u64;
        let target = &self.list[host];
        let duration = 20 * US + count * US + env.rng.below(40 * US) + target.netlink.stuck;
        let event = HostEvent::KernelActs { boot: target.boot, call };
        env.after(duration, Event::Host { host, event });
    }

    /// The adapter has an acknowledgement, reads the clock again, and answers or undoes.
    pub(super) fn adapter_hears(&mut self, host: HostId, mut call: Box<KernelCall>, env: &mut Env) {
        let local = self.local(host, env.now());
        let kernel = &self.list[host].kernel;
        let heeds = kernel.heeds_deadlines;
        let late = is_late(&call.op, local) || kernel.has_no_time(&call.op, local);
        if heeds && !call.undo && late && call.refused.is_none() {
            let addresses = call.op.addresses().to_vec();
            call.op = KernelOp::Withdraw { addresses };
            call.undo = true;
            call.failed.clear();
            self.kernel_call(host, call, env);
            return;
        }
        if heeds && !call.undo && kernel.outlives(&call, local) {
            // The kernel read it later than thought: once more, with what is left now.
            call.sent_at = local;
            call.failed.clear();
            self.kernel_call(host, call, env);
            return;
        }
        let outcome = match (&call.op, call.undo, call.refused.take()) {
            (KernelOp::List, ..) => KernelOutcome::Listed(kernel.listing()),
            (_, _, Some(refused)) => KernelOutcome::Failed(refused),
            (_, true, _) => KernelOutcome::Failed(KernelError::TooLate),
            _ => {
                let until = kernel.until(&call);
                KernelOutcome::Done { failed: std::mem::take(&mut call.failed), until }
            }
        };
        let outcome = outcome.with_cancelled(std::mem::take(&mut call.cancelled));
        env.trace(|| format!("host {host}: kernel did {:?}: {outcome:?}", call.op));
        env.slots.complete(call.slot, Reply::Kernel(outcome));
        self.list[host].process.adapter.busy = false;
        self.adapter_next(host, env);
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
