//! The operations that wait, in the order in which they take effect.

use std::collections::{BTreeSet, VecDeque};

use crate::action::OpId;
use crate::kernel::{Assignment, KernelOp, KernelOutcome};
use crate::time::Instant;

/// An operation that waits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Waiting {
    pub(super) id: OpId,
    pub(super) op: KernelOp,
    /// What a later `Withdraw` took out of it.
    pub(super) cancelled: Vec<Assignment>,
    /// When it was asked, for the mutant that goes by that.
    pub(super) asked: Option<Instant>,
}

impl Waiting {
    /// Takes `removed` out of what is to be put there; whether nothing is left to do.
    fn cancel(&mut self, removed: &BTreeSet<Assignment>) -> bool {
        self.cancelled.extend(self.op.cancel(removed));
        self.op.addresses().is_empty() && !self.cancelled.is_empty()
    }
}

/// How a queue orders and cancels. Both are as they should be but for mutants.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) overtakes: bool,
    pub(super) cancels: bool,
    pub(super) lowers_renewed: bool,
}

/// The operations that wait, and until when the session was renewed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    renewed: Option<Instant>,
}

impl Queue {
    /// Queues the operation, before what it overtakes. A `Withdraw` takes its addresses out of
    /// what waits; where that leaves nothing to do, the answer is given here.
    pub(super) fn push(
        &mut self,
        id: OpId,
        op: KernelOp,
        asked: Option<Instant>,
        rules: Rules,
    ) -> Vec<(OpId, KernelOutcome)> {
        let mut answers = Vec::new();
        match &op {
            KernelOp::Withdraw { addresses } if rules.cancels => {
                let addresses: BTreeSet<_> = addresses.iter().cloned().collect();
                for mut waiting in std::mem::take(&mut self.waiting) {
                    if waiting.cancel(&addresses) {
                        let nothing = KernelOutcome::Done { failed: Vec::new(), until: None };
                        answers.push((waiting.id, nothing.with_cancelled(waiting.cancelled)));
                    } else {
                        self.waiting.push_back(waiting);
                    }
                }
            }
            KernelOp::Refresh { deadline } => self.renewed = Some(*deadline),
            // What was renewed for longer was another session, which has ended.
            KernelOp::Assume { deadline, .. } if rules.lowers_renewed => {
                self.renewed = self.renewed.map(|renewed| renewed.min(*deadline));
            }
            _ => {}
        }
        let overtaken = |waiting: &Waiting| {
            op.overtakes(&waiting.op) && (rules.overtakes || !is_withdrawal(&op))
        };
        let place = self.waiting.iter().position(overtaken).unwrap_or(self.waiting.len());
        self.waiting.insert(place, Waiting { id, op, cancelled: Vec::new(), asked });
        answers
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next operation.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// The next `Withdraw`, for whoever is busy putting addresses there.
    pub(super) fn pop_withdrawal(&mut self) -> Option<Waiting> {
        let place = self.waiting.iter().position(|waiting| is_withdrawal(&waiting.op))?;
        self.waiting.remove(place)
    }

    /// The deadline of the newest `Refresh`, whether it waits still or not; or that of an `Assume`
    /// after it, if earlier.
    pub(super) fn renewed(&self) -> Option<Instant> {
        self.renewed
    }

    /// Until when what is put there may stay: until `deadline`, or that of a renewal that came
    /// after it. The deadline is the session's, and what must not stay after all was taken out of
    /// the queue by the `Withdraw` that said so. Without this, what waits behind thousands of
    /// others for longer than a lease would come too late for ever.
    pub(super) fn latest(&self, deadline: Instant) -> Instant {
        self.renewed.map_or(deadline, |renewed| renewed.max(deadline))
    }
}

fn is_withdrawal(op: &KernelOp) -> bool {
    matches!(op, KernelOp::Withdraw { .. })
}
