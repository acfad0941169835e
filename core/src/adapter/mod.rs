//! The kernel adapter: what turns a node's operations into calls to the kernel, so that an address
//! is silent at its deadline whatever happens (rule 8, assumption A3).
//!
//! # The story
//!
//! A node says: put these addresses there until `deadline`; let everything go on until a later one;
//! take those away. Between the node and the kernel lie a queue, a process that may stall or be
//! frozen anywhere, and a kernel that may be slow. What must hold all the same:
//!
//! **The kernel knows the deadline.** With the *fence*, nftables sets that silence every VIP unless
//! it is held and the *gate* is open, the gate ends at the deadline by the kernel's own timer. It is
//! never opened late: a *ticket* makes the kernel refuse what it reads too late, see `gate.rs`.
//! And a gate whose time is over is never moved, only opened anew by an `Assume`, for exactly the
//! addresses of that. Without the fence, each address has a lifetime that ends before the deadline.
//!
//! **The clock is read just before each call, and again after its answer.** What came too late by
//! then is undone.
//!
//! **First the gate, then the address; first shut, then delete.** So nothing answers before its
//! deadline is known to the kernel, and silence never waits for a slow list of addresses.
//!
//! **Removals do not wait.** A `Withdraw` goes before what waits, takes its own addresses out of
//! that, and comes between two chunks of what is under way. A `Refresh` goes before every `Assume`;
//! and while many addresses are put there, its deadline is given to the gate already.
//!
//! **Nobody else's hand goes unnoticed.** Each renewal is refused by the kernel when anybody changed
//! the rules of nftables since; then all is read, compared, and put back where it differs.
//!
//! # What is elsewhere
//!
//! Messages, sockets, interfaces' indices, marks, and packets: whoever drives this. The kernel's
//! rate, which NTP bends, comes in with each `now`, as a [`TimerRate`].

mod call;
mod deletion;
mod fence;
mod fence_job;
mod fenced;
mod gate;
mod job;
mod lifetimes;
mod put_job;
mod queue;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

pub use call::{
    Call, Change, FenceContents, GateFound, Reply, Structure, TimerRate, Transaction,
    TransactionError,
};
pub use fenced::Fenced;

use crate::action::OpId;
use crate::kernel::{Assignment, KernelError, KernelOp, KernelOutcome};
use crate::lease::Backstop;
use crate::mutant::Mutant;
use crate::time::Instant;
use fence::Fence;
use fence_job::{FenceJob, FenceNext, Goal};
use job::{Job, Next};
use lifetimes::{Lifetimes, place};
use queue::{Queue, Rules};
use shared::Shared;

/// One host's kernel adapter. It performs nothing and knows no clock.
///
/// Whoever drives it calls, in this order and for ever:
///
/// 1. [`handle_op`](Self::handle_op) for every operation, at any time, also while a call is under
///    way, in the order in which the node asks for them;
/// 2. [`poll_outcome`](Self::poll_outcome) until it gives none, and answers the operations;
/// 3. [`poll_call`](Self::poll_call), with `now` read from the host's clock and *nothing* between
///    that and sending the call to the kernel. None: there is nothing to do until 1. or 4.;
/// 4. [`handle_reply`](Self::handle_reply), with `now` read after the kernel's answer was in hand.
///    Until then `poll_call` gives nothing: there is one call at a time.
///
/// A new one first makes the fence, or takes over what an earlier process left: poll it before
/// anything is asked of it, until [`started`](Self::started) tells how that went.
///
/// `now` never goes back. Every call must be answered, if only by an error: an operation is
/// answered when the kernel has acknowledged it, however long that takes, and none is forgotten.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Adapter {
    shared: Shared,
    /// What is being carried out: the last one goes on, the one before it goes on after that.
    jobs: Vec<Job>,
    fence_job: Option<FenceJob>,
    under_way: Option<UnderWay>,
    started: Option<Result<(), KernelError>>,
    outcomes: VecDeque<(OpId, KernelOutcome)>,
}

/// For whom the call under way is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum UnderWay {
    Fence,
    Job,
}

impl Adapter {
    /// So many addresses go to the kernel at once: their acknowledgements fit a socket's buffer
    /// many times over, and a withdrawal waits for no more than these.
    pub const CHUNK: usize = 64;

    /// An adapter that knows nothing yet of the kernel. `configured` is every address that the
    /// node may ever ask for.
    pub fn new(configured: impl IntoIterator<Item = Assignment>, backstop: Backstop) -> Self {
        let configured: Vec<_> = configured.into_iter().collect();
        let vips: BTreeSet<_> = configured.iter().map(Fenced::from).collect();
        let fence = match backstop {
            Backstop::Fence => Some(Fence::new(vips)),
            Backstop::Lifetime => None,
        };
        let fence_job = fence.as_ref().map(|_| FenceJob::new(Goal::Start));
        let started = if fence_job.is_some() { None } else { Some(Ok(())) };
        Adapter {
            shared: Shared {
                configured: configured.iter().map(|one| (place(one), one.vip.clone())).collect(),
                queue: Queue::default(),
                fence,
                kept: Lifetimes::default(),
                left_out: BTreeSet::new(),
                adopted: false,
                mutant: None,
            },
            jobs: Vec::new(),
            fence_job,
            under_way: None,
            started,
            outcomes: VecDeque::new(),
        }
    }

    /// Breaks a rule, to show that it is noticed. Rules that are not the adapter's stay whole.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&mut self, mutant: Mutant) {
        self.shared.mutant = Some(mutant);
    }

    /// Whether the fence was made, or the one that is there taken over; none before that is known.
    /// Where lifetimes are the proof there is nothing to make.
    pub fn started(&self) -> Option<&Result<(), KernelError>> {
        self.started.as_ref()
    }

    /// Whether there is nothing to do and nothing under way.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
            && self.fence_job.is_none()
            && self.under_way.is_none()
            && self.shared.queue.is_empty()
            && self.outcomes.is_empty()
    }

    /// The node asks for `op`. See [`KernelOp`] for what may go before what. `id` comes back with
    /// the outcome.
    pub fn handle_op(&mut self, id: OpId, op: KernelOp, now: Instant) {
        let rules = Rules {
            overtakes: !self.shared.mutated(Mutant::WithdrawalWaits),
            cancels: !self.shared.mutated(Mutant::WithdrawalCancelsNothing),
            lowers_renewed: !self.shared.mutated(Mutant::RenewedOutlivesSession),
        };
        // Only for the mutant: when it is asked decides nothing.
        let asked = self.shared.mutated(Mutant::ClockReadInQueue).then_some(now);
        self.outcomes.extend(self.shared.queue.push(id, op, asked, rules));
    }

    /// The next call, to be sent to the kernel at once: `now` was read just before. `rate` is that
    /// of the kernel's timers.
    pub fn poll_call(&mut self, now: Instant, rate: TimerRate) -> Option<Call> {
        if self.under_way.is_some() {
            return None;
        }
        loop {
            if let Some(call) = self.poll_fence(now, rate) {
                self.under_way = Some(UnderWay::Fence);
                return Some(call);
            }
            if self.jobs.is_empty() {
                self.jobs.push(Job::new(self.shared.queue.pop()?));
            }
            let job = self.jobs.last_mut()?;
            let now = job.asked.unwrap_or(now);
            match job.poll(&mut self.shared, now, rate) {
                Next::Call(call) => {
                    self.under_way = Some(UnderWay::Job);
                    return Some(call);
                }
                Next::Fence(goal) => self.fence_job = Some(FenceJob::new(goal)),
                Next::Overtaken(withdrawal) => {
                    let removed = withdrawal.op.addresses().iter().cloned().collect();
                    self.jobs.iter_mut().for_each(|job| job.cancel(&removed));
                    self.jobs.push(Job::new(withdrawal));
                }
                Next::Again => {}
                Next::Ended(outcome) => {
                    if let Some(Job { id, cancelled, .. }) = self.jobs.pop() {
                        self.outcomes.push_back((id, outcome.with_cancelled(cancelled)));
                    }
                }
            }
        }
    }

    /// Goes on with what is being changed of the fence, if anything is.
    fn poll_fence(&mut self, now: Instant, rate: TimerRate) -> Option<Call> {
        let (fence, mut changing) = (self.shared.fence.as_mut()?, self.fence_job.take()?);
        let now = self.jobs.last().and_then(|job| job.asked).unwrap_or(now);
        match changing.poll(fence, now, rate, self.shared.mutant) {
            FenceNext::Call(call) => {
                self.fence_job = Some(changing);
                Some(call)
            }
            FenceNext::Ended(ended) => {
                if self.started.is_none() {
                    self.started = Some(ended.map(drop));
                } else if let Some(job) = self.jobs.last_mut() {
                    job.fence_ended(&mut self.shared, ended);
                }
                None
            }
        }
    }

    /// The kernel's answer to the call under way, with `now` read after it was in hand. One that
    /// nobody waits for is ignored.
    pub fn handle_reply(&mut self, reply: Reply, now: Instant) {
        match self.under_way.take() {
            None => {}
            Some(UnderWay::Fence) => {
                if let (Some(fence), Some(changing)) = (&mut self.shared.fence, &mut self.fence_job)
                {
                    let now = self.jobs.last().and_then(|job| job.asked).unwrap_or(now);
                    changing.handle_reply(fence, reply, now, self.shared.mutant);
                }
            }
            Some(UnderWay::Job) => {
                if let Some(job) = self.jobs.last_mut() {
                    job.handle_reply(&mut self.shared, reply);
                }
            }
        }
    }

    /// The next answer to an operation.
    pub fn poll_outcome(&mut self) -> Option<(OpId, KernelOutcome)> {
        self.outcomes.pop_front()
    }
}
