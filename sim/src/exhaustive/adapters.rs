//! The real kernel adapter on a small kernel, remembered: the same two given the same input do the
//! same again, as nodes do.

use std::rc::Rc;

use ipnet::IpNet;
use turnip_core::adapter::{Adapter, Call, Change, TimerRate};
use turnip_core::{Assignment, Backstop, Instant, Mutant, OpId, VipConfig};

use super::Options;
use super::arena::{Arena, NumberMap};
use super::daemon::{Clocks, small};
use super::kernel::Kernel;
use super::messages::Messages;

/// A host's kernel, the adapter of its daemon if that runs, and what is on its way between them.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Side {
    kernel: Kernel,
    adapter: Option<Adapter>,
    /// A call that was sent and that the kernel has not read.
    call: Option<Call>,
}

/// What happens to a host's kernel and the adapter before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum KernelInput {
    /// A daemon starts, with that configuration file.
    Start { file: u8 },
    /// Its node asks for something.
    Op { id: u32, op: u32 },
    /// The kernel reads the call that is on its way, and answers.
    Perform,
    /// The daemon is no more: what waits is forgotten, what was done stays.
    Abandon,
    /// The host is booted again.
    Reboot,
}

/// What a host's kernel and adapter are then, and the operations answered on the way there.
#[derive(Clone)]
pub(super) struct KernelStep {
    pub(super) kernel: u32,
    /// Ids and outcomes.
    pub(super) answers: Rc<[(u32, u32)]>,
}

/// Every kernel with its adapter that was ever reached, by number, and every step of one.
pub(super) struct Adapters {
    mutant: Option<Mutant>,
    /// Every call takes its time, not only those that take something away.
    slow: bool,
    clocks: Clocks,
    configured: Vec<Vec<Assignment>>,
    sides: Arena<Side>,
    steps: NumberMap<(u32, u8, u8, KernelInput), KernelStep>,
}

impl Adapters {
    pub(super) fn new(options: &Options) -> Self {
        let mut sides = Arena::default();
        sides.intern(Side::default());
        let of_file =
            |vips: &Vec<VipConfig>| vips.iter().flat_map(VipConfig::assignments).collect();
        Adapters {
            mutant: options.mutant,
            slow: options.slow_kernel,
            clocks: Clocks(options.rates_percent),
            configured: options.files.list().iter().map(of_file).collect(),
            sides,
            steps: NumberMap::default(),
        }
    }

    /// What becomes of the kernel and adapter number `kernel`, of host `host`.
    pub(super) fn step(
        &mut self,
        messages: &mut Messages,
        (host, kernel): (usize, u32),
        tick: u8,
        input: KernelInput,
    ) -> KernelStep {
        let key = (kernel, u8::try_from(host).expect("few"), tick, input);
        if let Some(step) = self.steps.get(&key) {
            return step.clone();
        }
        let mut next = self.sides.get(kernel).clone();
        let now = self.clocks.at(host, tick);
        match input {
            KernelInput::Start { file } => {
                let configured = self.configured[usize::from(file)].clone();
                let mut adapter = Adapter::new(configured, Backstop::Fence);
                if let Some(mutant) = self.mutant {
                    adapter.set_mutant(mutant);
                }
                next.adapter = Some(adapter);
                next.run(now, |_| false);
                let started = next.adapter.as_ref().and_then(Adapter::started);
                assert_eq!(started, Some(&Ok(())), "nothing refuses the fence");
            }
            KernelInput::Op { id, op } => {
                let adapter = next.adapter.as_mut().expect("the daemon runs");
                adapter.handle_op(OpId(id.into()), messages.ops.get(op).clone(), now);
            }
            KernelInput::Perform => next.perform(now),
            KernelInput::Abandon => {
                (next.adapter, next.call) = (None, None);
                next.kernel.abandon();
            }
            KernelInput::Reboot => next = Side::default(),
        }
        next.run(now, |call| self.is_slow(call));
        let mut answers = Vec::new();
        while let Some((id, outcome)) = next.adapter.as_mut().and_then(Adapter::poll_outcome) {
            answers.push((small(id.0), messages.outcomes.intern(outcome)));
        }
        let step = KernelStep { kernel: self.sides.intern(next), answers: answers.into() };
        self.steps.insert(key, step.clone());
        step
    }

    /// Whether the kernel takes its time for a call. What is not slow is performed at once.
    fn is_slow(&self, call: &Call) -> bool {
        let takes_away = |change: &Change| matches!(change, Change::DeleteHeld(_));
        self.slow
            || match call {
                Call::Delete { .. } => true,
                Call::Change(transaction) => transaction.changes.iter().any(takes_away),
                _ => false,
            }
    }

    /// The call that is on its way to the kernel.
    pub(super) fn call(&self, kernel: u32) -> Option<&Call> {
        self.sides.get(kernel).call.as_ref()
    }

    /// The addresses that are there; with a time, those only that the fence lets answer then.
    pub(super) fn answering(
        &self,
        kernel: u32,
        now: Option<Instant>,
    ) -> impl Iterator<Item = IpNet> + Clone + '_ {
        self.sides.get(kernel).kernel.answering(now)
    }

    /// How many different kernels with adapters were met.
    pub(super) fn len(&self) -> usize {
        self.sides.len()
    }
}

impl Side {
    /// Goes on until there is nothing to do, or a slow call is on its way.
    fn run(&mut self, now: Instant, is_slow: impl Fn(&Call) -> bool) {
        for round in 0.. {
            assert!(round < 1000, "the adapter calls the kernel for ever");
            let None = self.call else { return };
            self.call = self.adapter.as_mut().and_then(|it| it.poll_call(now, TimerRate::TRUE));
            match &self.call {
                Some(call) if !is_slow(call) => self.perform(now),
                _ => return,
            }
        }
    }

    /// The kernel reads the call, and the adapter its answer.
    fn perform(&mut self, now: Instant) {
        if let (Some(call), Some(adapter)) = (self.call.take(), &mut self.adapter) {
            adapter.handle_reply(self.kernel.act(&call, now), now);
        }
    }
}
