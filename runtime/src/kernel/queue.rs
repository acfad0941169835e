//! The operations that wait for the kernel's thread. Which of them overtakes which, and what a
//! `Withdraw` takes out of those that wait, is core's to say: the simulator's queue does the same.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;
use turnip_core::{Assignment, Instant, KernelOp, KernelOutcome};

/// An operation that waits, or is under way.
pub(super) struct Job {
    /// What to do.
    pub op: KernelOp,
    /// What a later `Withdraw` took out of it.
    pub cancelled: Vec<Assignment>,
    reply: oneshot::Sender<KernelOutcome>,
}

impl Job {
    /// Answers: what was cancelled came too late, besides the outcome of the rest.
    pub fn answer(self, outcome: KernelOutcome) {
        // Whoever dropped the future does not want to know.
        let _ = self.reply.send(outcome.with_cancelled(self.cancelled));
    }

    /// Takes `removed` out of what is to be put there; whether nothing is left to do.
    fn cancel(&mut self, removed: &BTreeSet<Assignment>) -> bool {
        self.cancelled.extend(self.op.cancel(removed));
        self.op.addresses().is_empty() && !self.cancelled.is_empty()
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    renewed: Option<Instant>,
    closed: bool,
    abandoned: bool,
}

/// The queue between whoever asks and the thread that does it.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    /// Queues the operation, before what it overtakes. A `Withdraw` takes its addresses out of
    /// what waits; where that leaves nothing to do, the answer comes at once.
    pub fn push(&self, op: KernelOp) -> oneshot::Receiver<KernelOutcome> {
        let (reply, answer) = oneshot::channel();
        let job = Job { op, cancelled: Vec::new(), reply };
        let mut state = self.lock();
        if state.abandoned {
            return answer;
        }
        match &job.op {
            KernelOp::Withdraw { addresses } => {
                let addresses: BTreeSet<_> = addresses.iter().cloned().collect();
                for mut waiting in std::mem::take(&mut state.jobs) {
                    if waiting.cancel(&addresses) {
                        waiting.answer(KernelOutcome::Done { failed: Vec::new(), until: None });
                    } else {
                        state.jobs.push_back(waiting);
                    }
                }
            }
            KernelOp::Refresh { deadline, .. } => state.renewed = Some(*deadline),
            // What was renewed for longer was another session, which has ended.
            KernelOp::Assume { deadline, .. } => {
                state.renewed = state.renewed.map(|renewed| renewed.min(*deadline));
            }
            _ => {}
        }
        let overtaken = |waiting: &Job| job.op.overtakes(&waiting.op);
        let place = state.jobs.iter().position(overtaken).unwrap_or(state.jobs.len());
        state.jobs.insert(place, job);
        self.changed.notify_one();
        answer
    }

    /// Waits for the next operation; none when the queue is closed and empty.
    pub fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next `Withdraw`, for a thread that is busy putting addresses there.
    pub fn next_withdrawal(&self) -> Option<Job> {
        let mut state = self.lock();
        let place =
            state.jobs.iter().position(|job| matches!(job.op, KernelOp::Withdraw { .. }))?;
        state.jobs.remove(place)
    }

    /// The deadline of the newest `Refresh`, whether it waits still or not; or that of an `Assume`
    /// after it, if earlier.
    pub fn renewed(&self) -> Option<Instant> {
        self.lock().renewed
    }

    /// Lets [`Queue::next`] end when nothing is left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Lets go of everything, now and from now on: nobody is there any more to do it, and whoever
    /// waits for an answer learns so.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.jobs.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use turnip_core::KernelError;

    use super::*;

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

    #[test]
    fn a_withdrawal_goes_before_what_puts_addresses_there_and_cancels_it() {
        let queue = Queue::default();
        let list = queue.push(KernelOp::List);
        let mut wholly = queue.push(assume([1]));
        let partly = queue.push(assume([1, 2]));
        drop(queue.push(KernelOp::Withdraw { addresses: assignments([1]) }));
        assert!(matches!(queue.next().unwrap().op, KernelOp::List));
        assert!(matches!(queue.next().unwrap().op, KernelOp::Withdraw { .. }));
        let left = queue.next().unwrap();
        assert_eq!(left.op, assume([2]));
        assert_eq!(left.cancelled, assignments([1]));
        let answer = wholly.try_recv().unwrap();
        let failed = vec![(assignments([1])[0].clone(), KernelError::TooLate)];
        assert_eq!(answer, Some(KernelOutcome::Done { failed, until: None }));
        drop((list, partly));
    }

    fn refresh(hosts: impl IntoIterator<Item = u8>, nanos: u64) -> KernelOp {
        {
            let _ = hosts.into_iter().count();
            KernelOp::Refresh { deadline: Instant::from_nanos(nanos) }
        }
    }

    #[test]
    fn a_refresh_goes_before_assumptions_and_after_all_else() {
        let queue = Queue::default();
        let waiting = [KernelOp::List, assume([2]), refresh([1], 7), assume([3]), refresh([1], 8)];
        for op in waiting {
            drop(queue.push(op));
        }
        for op in [KernelOp::List, refresh([1], 7), refresh([1], 8), assume([2]), assume([3])] {
            assert_eq!(queue.next().unwrap().op, op);
        }
    }

    #[test]
    fn what_the_session_was_renewed_to_is_known_when_the_refresh_is_over_or_void() {
        let queue = Queue::default();
        assert_eq!(queue.renewed(), None);
        drop(queue.push(refresh([1], 7)));
        drop(queue.push(KernelOp::Withdraw { addresses: assignments([1]) }));
        assert!(matches!(queue.next().unwrap().op, KernelOp::Withdraw { .. }));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(7)));
    }

    #[test]
    fn what_another_session_was_renewed_to_counts_no_longer() {
        let queue = Queue::default();
        let assume_until = |nanos| KernelOp::Assume {
            addresses: assignments([1]),
            deadline: Instant::from_nanos(nanos),
        };
        drop(queue.push(assume_until(60)));
        assert_eq!(queue.renewed(), None, "what is assumed moves nothing else");
        drop(queue.push(refresh([1], 60)));
        drop(queue.push(KernelOp::Withdraw { addresses: assignments([1]) }));
        drop(queue.push(assume_until(3)));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(3)));
        drop(queue.push(refresh([1], 4)));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(4)));
        drop(queue.push(refresh([1], 2)));
        assert_eq!(queue.renewed(), Some(Instant::from_nanos(2)));
    }

    #[test]
    fn an_assumption_after_a_withdrawal_stays_after_it() {
        let queue = Queue::default();
        drop(queue.push(assume([1])));
        drop(queue.push(KernelOp::Withdraw { addresses: assignments([1]) }));
        drop(queue.push(assume([1])));
        assert!(matches!(queue.next().unwrap().op, KernelOp::Withdraw { .. }));
        assert_eq!(queue.next().unwrap().op, assume([1]));
        queue.close();
        assert!(queue.next().is_none());
    }

    #[test]
    fn nobody_waits_for_a_thread_that_has_ended() {
        let queue = Queue::default();
        let mut before = queue.push(KernelOp::List);
        queue.abandon();
        let mut after = queue.push(KernelOp::List);
        assert!(before.try_recv().is_err() && after.try_recv().is_err());
    }

    #[test]
    fn withdrawals_keep_their_order() {
        let queue = Queue::default();
        drop(queue.push(assume([3])));
        for host in [1, 2] {
            drop(queue.push(KernelOp::Withdraw { addresses: assignments([host]) }));
        }
        for host in [1, 2] {
            let next = queue.next_withdrawal().unwrap();
            assert_eq!(next.op, KernelOp::Withdraw { addresses: assignments([host]) });
        }
        assert!(queue.next_withdrawal().is_none());
    }
}
