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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelError;

    fn assignments(hosts: impl IntoIterator<Item = u8>) -> Vec<Assignment> {
        let assignment = |host| Assignment {
            vip: "v".parse().unwrap(),
            interface: "lo".into(),
            address: format!("10.0.0.{host}/32").parse().unwrap(),
        };
        hosts.into_iter().map(assignment).collect()
    }

    fn assume(hosts: impl IntoIterator<Item = u8>) -> KernelOp {
        KernelOp::Assume { addresses: assignments(hosts), deadline: Instant::ZERO }
    }

    fn refresh(nanos: u64) -> KernelOp {
        KernelOp::Refresh { deadline: Instant::from_nanos(nanos) }
    }

    fn withdraw(hosts: impl IntoIterator<Item = u8>) -> KernelOp {
        KernelOp::Withdraw { addresses: assignments(hosts) }
    }

    fn push(queue: &mut Queue, op: KernelOp) -> Vec<(OpId, KernelOutcome)> {
        let rules = Rules { overtakes: true, cancels: true, lowers_renewed: true };
        queue.push(OpId(0), op, None, rules)
    }

    #[test]
    fn a_withdrawal_goes_before_what_puts_addresses_there_and_cancels_it() {
        let mut queue = Queue::default();
        push(&mut queue, KernelOp::List);
        push(&mut queue, assume([1]));
        push(&mut queue, assume([1, 2]));
        let answers = push(&mut queue, withdraw([1]));
        assert!(matches!(queue.pop().unwrap().op, KernelOp::List));
        assert!(matches!(queue.pop().unwrap().op, KernelOp::Withdraw { .. }));
        let left = queue.pop().unwrap();
        assert_eq!(left.op, assume([2]));
        assert_eq!(left.cancelled, assignments([1]));
        let failed = vec![(assignments([1])[0].clone(), KernelError::TooLate)];
        assert_eq!(answers, [(OpId(0), KernelOutcome::Done { failed, until: None })]);
    }

    #[test]
    fn a_refresh_goes_before_assumptions_and_after_all_else() {
        let mut queue = Queue::default();
        let waiting = [KernelOp::List, assume([2]), refresh(7), assume([3]), refresh(8)];
        for op in waiting {
            push(&mut queue, op);
        }
        for op in [KernelOp::List, refresh(7), refresh(8), assume([2]), assume([3])] {
            assert_eq!(queue.pop().unwrap().op, op);
        }
    }

    #[test]
    fn what_the_session_was_renewed_to_is_known_when_the_refresh_is_over() {
        let mut queue = Queue::default();
        assert_eq!(queue.renewed(), None);
        push(&mut queue, refresh(7));
        push(&mut queue, withdraw([1]));
        assert!(matches!(queue.pop().unwrap().op, KernelOp::Withdraw { .. }));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(7)));
    }

    #[test]
    fn what_another_session_was_renewed_to_counts_no_longer() {
        let mut queue = Queue::default();
        let assume_until = |nanos| KernelOp::Assume {
            addresses: assignments([1]),
            deadline: Instant::from_nanos(nanos),
        };
        push(&mut queue, assume_until(60));
        assert_eq!(queue.renewed(), None, "what is assumed moves nothing else");
        push(&mut queue, refresh(60));
        push(&mut queue, withdraw([1]));
        push(&mut queue, assume_until(3));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(3)));
        push(&mut queue, refresh(4));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(4)));
        push(&mut queue, refresh(2));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(2)));
    }

    #[test]
    fn an_assumption_after_a_withdrawal_stays_after_it() {
        let mut queue = Queue::default();
        push(&mut queue, assume([1]));
        push(&mut queue, withdraw([1]));
        push(&mut queue, assume([1]));
        assert!(matches!(queue.pop().unwrap().op, KernelOp::Withdraw { .. }));
        assert_eq!(queue.pop().unwrap().op, assume([1]));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn withdrawals_keep_their_order() {
        let mut queue = Queue::default();
        push(&mut queue, assume([3]));
        for host in [1, 2] {
            push(&mut queue, withdraw([host]));
        }
        for host in [1, 2] {
            assert_eq!(queue.pop_withdrawal().unwrap().op, withdraw([host]));
        }
        assert!(queue.pop_withdrawal().is_none());
    }
}
