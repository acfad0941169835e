//! The kernels of the small world: which addresses are there, and until when they answer.

use std::collections::BTreeMap;
use std::rc::Rc;

use ipnet::IpNet;
use turnip_core::{
    Assignment, Instant, KernelError, KernelOp, KernelOutcome, Link, Listing, PresentAddress,
};

use super::arena::{Arena, NumberMap};
use super::daemon::clock;
use super::files::INTERFACE;
use super::messages::Messages;

/// A host's kernel, and what waits for it.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Kernel {
    /// Each address that is there, and until when the fence lets it answer, on the host's clock.
    addresses: BTreeMap<IpNet, Instant>,
    queue: Vec<Queued>,
}

/// An operation that has not been performed.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Queued {
    id: u32,
    op: KernelOp,
    /// What was taken out of it by a later withdrawal.
    cancelled: Vec<Assignment>,
}

/// What happens to a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum KernelInput {
    /// Its daemon asks for something.
    Op { id: u32, op: u32 },
    /// It performs the next operation that waits.
    Perform,
    /// Its daemon is no more: what waits is forgotten, what was done stays.
    Abandon,
    /// The host is booted again.
    Reboot,
}

/// A kernel, and what it answered on the way there.
#[derive(Clone)]
pub(super) struct KernelStep {
    pub(super) kernel: u32,
    /// Ids and outcomes.
    pub(super) answers: Rc<[(u32, u32)]>,
}

/// Every kernel that was ever reached, by number, and every step of one.
pub(super) struct Kernels {
    /// Additions and refreshes take their time too, not withdrawals only.
    slow: bool,
    kernels: Arena<Kernel>,
    steps: NumberMap<(u32, u8, u8, KernelInput), KernelStep>,
}

impl Kernels {
    pub(super) fn new(slow: bool) -> Self {
        let mut kernels = Arena::default();
        kernels.intern(Kernel::default());
        Kernels { slow, kernels, steps: NumberMap::default() }
    }

    /// What becomes of a kernel.
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
        let mut next = self.kernels.get(kernel).clone();
        let now = clock(host, tick);
        let mut answers = Vec::new();
        match input {
            KernelInput::Op { id, op } => next.queue(id, messages.ops.get(op), &mut answers),
            KernelInput::Perform => answers.push(next.perform(now)),
            KernelInput::Abandon => next.queue.clear(),
            KernelInput::Reboot => next = Kernel::default(),
        }
        while next.queue.first().is_some_and(|queued| !self.is_slow(&queued.op)) {
            answers.push(next.perform(now));
        }
        let answers =
            answers.into_iter().map(|(id, outcome)| (id, messages.outcomes.intern(outcome)));
        let answers = answers.collect();
        let step = KernelStep { kernel: self.kernels.intern(next), answers };
        self.steps.insert(key, step.clone());
        step
    }

    /// What is not slow in this world is performed at once. An addition or a refresh that comes
    /// later only answers for a shorter time.
    fn is_slow(&self, op: &KernelOp) -> bool {
        match op {
            KernelOp::Withdraw { .. } => true,
            KernelOp::Assume { .. } | KernelOp::Refresh { .. } => self.slow,
            KernelOp::List | KernelOp::RemoveFence => false,
        }
    }

    /// The operation that a kernel performs next.
    pub(super) fn next_op(&self, kernel: u32) -> Option<&KernelOp> {
        self.kernels.get(kernel).queue.first().map(|queued| &queued.op)
    }

    /// The addresses that are there; with a time, those only that the fence lets answer then.
    pub(super) fn answering(
        &self,
        kernel: u32,
        now: Option<Instant>,
    ) -> impl Iterator<Item = IpNet> + Clone + '_ {
        let addresses = self.kernels.get(kernel).addresses.iter();
        let answers = move |until: &Instant| now.is_none_or(|now| now < *until);
        addresses.filter(move |(_, until)| answers(until)).map(|(address, _)| *address)
    }

    /// How many different kernels were met.
    pub(super) fn len(&self) -> usize {
        self.kernels.len()
    }
}

impl Kernel {
    /// Takes an operation, as adapters do.
    fn queue(&mut self, id: u32, op: &KernelOp, answers: &mut Vec<(u32, KernelOutcome)>) {
        if let KernelOp::Withdraw { addresses } = op {
            let removed = addresses.iter().cloned().collect();
            for queued in &mut self.queue {
                queued.cancelled.extend(queued.op.cancel(&removed));
            }
            let nothing_left = |queued: &mut Queued| {
                !queued.cancelled.is_empty() && queued.op.addresses().is_empty()
            };
            for queued in self.queue.extract_if(.., nothing_left) {
                answers.push((queued.id, done(Vec::new()).with_cancelled(queued.cancelled)));
            }
        }
        let overtaken = |waiting: &Queued| op.overtakes(&waiting.op);
        let place = self.queue.iter().position(overtaken).unwrap_or(self.queue.len());
        self.queue.insert(place, Queued { id, op: op.clone(), cancelled: Vec::new() });
    }

    fn perform(&mut self, now: Instant) -> (u32, KernelOutcome) {
        let Queued { id, op, cancelled } = self.queue.remove(0);
        let late = |assignment: Assignment| (assignment, KernelError::TooLate);
        let outcome = match op {
            KernelOp::List => KernelOutcome::Listed(self.listing()),
            KernelOp::Withdraw { addresses } => {
                for assignment in &addresses {
                    self.addresses.remove(&assignment.address);
                }
                done(Vec::new())
            }
            KernelOp::Assume { addresses, deadline } if deadline <= now => {
                done(addresses.into_iter().map(late).collect())
            }
            KernelOp::Assume { addresses, deadline } => {
                for assignment in addresses {
                    self.addresses.insert(assignment.address, deadline);
                }
                done(Vec::new())
            }
            KernelOp::Refresh { addresses, deadline } => {
                let mut failed = Vec::new();
                for assignment in addresses {
                    match self.addresses.get_mut(&assignment.address) {
                        Some(until) if *until > now && deadline > now => *until = deadline,
                        _ => failed.push(late(assignment)),
                    }
                }
                done(failed)
            }
            KernelOp::RemoveFence => {
                let for_ever = Instant::from_nanos(u64::MAX);
                self.addresses.values_mut().for_each(|until| *until = for_ever);
                done(Vec::new())
            }
        };
        (id, outcome.with_cancelled(cancelled))
    }

    fn listing(&self) -> Listing {
        let present = |&address: &IpNet| PresentAddress {
            interface: INTERFACE.into(),
            address,
            marked: true,
        };
        Listing {
            addresses: self.addresses.keys().map(present).collect(),
            links: vec![Link { name: INTERFACE.into(), up: true }],
        }
    }
}

fn done(failed: Vec<(Assignment, KernelError)>) -> KernelOutcome {
    KernelOutcome::Done { failed, until: None }
}
