//! `Assume` and `Refresh`: first the gate, then the addresses, some at a time; and all of it back
//! when it came too late.

use std::collections::BTreeSet;
use std::time::Duration;

use super::call::{Call, Reply, TimerRate};
use super::deletion::{Deletion, take_chunk};
use super::fence_job::{Done, Ended, Goal};
use super::job::Next;
use super::shared::{Shared, fenced};
use crate::kernel::{Assignment, KernelError, KernelOutcome};
use crate::lease::Backstop;
use crate::mutant::Mutant;
use crate::time::Instant;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// The gate is to be set.
    Gate,
    /// What a `Refresh` must send is to be found.
    Fill,
    /// The next chunk is to be sent.
    Chunks,
    /// This one is to be sent: again, when its lifetime turned out to be too long.
    Chunk {
        chunk: Vec<Assignment>,
        again: bool,
    },
    /// This one was sent.
    Sent {
        chunk: Vec<Assignment>,
        secs: u32,
        before: Instant,
    },
    /// Of this one, what the kernel took.
    Taken {
        chunk: Vec<Assignment>,
        secs: u32,
        before: Instant,
    },
    /// This one came too late and is taken away.
    Drop(Deletion),
    /// A chunk is done: a renewal that waits moves the gate already.
    Between,
    /// And what is withdrawn meanwhile goes first.
    Withdrawals,
    /// All is sent.
    Check,
    /// Too late: all is taken away, when the fence is shut.
    Undo(Deletion),
    /// What could not be put there must not be let through either.
    Silence,
    End,
}

/// An `Assume` or a `Refresh`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct PutJob {
    assumes: bool,
    deadline: Instant,
    /// What is still to be sent, the next one last.
    left: Vec<Assignment>,
    put: Vec<Assignment>,
    failed: Vec<(Assignment, KernelError)>,
    until: Option<Instant>,
    slack: Duration,
    stage: Stage,
    /// The fence is being asked to let pass what this is about.
    asks_gate: bool,
    /// Why the whole of a `Refresh` failed.
    refused: Option<KernelError>,
    /// Of a mutant: the gate was set after the addresses.
    gated: bool,
}

impl PutJob {
    pub(super) fn assume(mut addresses: Vec<Assignment>, deadline: Instant) -> Self {
        addresses.reverse();
        PutJob {
            assumes: true,
            deadline,
            left: addresses,
            put: Vec::new(),
            failed: Vec::new(),
            until: None,
            slack: Duration::ZERO,
            stage: Stage::Gate,
            asks_gate: false,
            refused: None,
            gated: false,
        }
    }

    pub(super) fn refresh(deadline: Instant) -> Self {
        PutJob { assumes: false, ..Self::assume(Vec::new(), deadline) }
    }

    /// Takes out what a withdrawal that goes first removes.
    pub(super) fn cancel(&mut self, removed: &BTreeSet<Assignment>) {
        let gone = |one: &mut Assignment| removed.contains(one);
        let mut cancelled: Vec<_> = self.left.extract_if(.., gone).collect();
        cancelled.extend(self.put.extract_if(.., gone));
        self.fail(cancelled, &KernelError::TooLate);
    }

    fn fail(&mut self, addresses: Vec<Assignment>, why: &KernelError) {
        self.failed.extend(addresses.into_iter().map(|one| (one, why.clone())));
    }

    /// Does the next thing.
    pub(super) fn poll(&mut self, shared: &mut Shared, now: Instant, rate: TimerRate) -> Next {
        let (stage, next) = match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Gate => self.set_gate(shared),
            Stage::Fill => self.fill(shared),
            Stage::Chunks => match take_chunk(&mut self.left) {
                chunk if chunk.is_empty() => (Stage::Check, Next::Again),
                chunk => (Stage::Chunk { chunk, again: false }, Next::Again),
            },
            Stage::Chunk { chunk, again } => self.send(shared, chunk, again, now, rate),
            Stage::Taken { chunk, secs, before } => {
                self.taken(shared, chunk, (secs, before), now, rate)
            }
            Stage::Drop(mut deletion) => match deletion.poll() {
                Some(call) => (Stage::Drop(deletion), Next::Call(call)),
                None => (Stage::Between, Next::Again),
            },
            Stage::Between if self.left.is_empty() => (Stage::Check, Next::Again),
            Stage::Between => (Stage::Withdrawals, Next::extended(shared)),
            Stage::Withdrawals if !shared.mutated(Mutant::WithdrawalWaits) => {
                match shared.queue.pop_withdrawal() {
                    Some(waiting) => (Stage::Withdrawals, Next::Overtaken(waiting)),
                    None => (Stage::Chunks, Next::Again),
                }
            }
            Stage::Withdrawals => (Stage::Chunks, Next::Again),
            Stage::Check => self.check(shared, now),
            Stage::Undo(mut deletion) => match deletion.poll() {
                Some(call) => (Stage::Undo(deletion), Next::Call(call)),
                None => (Stage::Silence, Next::Again),
            },
            Stage::Silence => self.silence(shared),
            stage @ (Stage::Sent { .. } | Stage::End) => (stage, Next::Ended(self.outcome(shared))),
        };
        self.stage = stage;
        next
    }

    fn set_gate(&mut self, shared: &mut Shared) -> (Stage, Next) {
        if !self.assumes {
            let silent = std::mem::take(&mut shared.left_out);
            if !shared.mutated(Mutant::LeftOutUntold) {
                self.fail(silent.into_iter().collect(), &KernelError::TooLate);
            }
        }
        let nothing = if self.assumes { self.left.is_empty() } else { shared.keeps_nothing() };
        if nothing {
            return (Stage::Silence, Next::Again);
        }
        if shared.fence.is_none() || shared.mutated(Mutant::AddressBeforeGate) {
            return (Stage::Fill, Next::Again);
        }
        self.asks_gate = true;
        (Stage::Fill, Next::Fence(self.gate_goal(shared, &self.left)))
    }

    fn gate_goal(&self, shared: &Shared, addresses: &[Assignment]) -> Goal {
        let deadline = shared.queue.latest(self.deadline);
        if self.assumes {
            Goal::Allow { addresses: fenced(addresses), deadline }
        } else {
            Goal::Extend { deadline }
        }
    }

    /// The fence's answer, to whatever it was asked last.
    pub(super) fn fence_ended(&mut self, shared: &mut Shared, ended: Ended) {
        // That a renewal's deadline could not be had ahead of its turn, or that a fence could not
        // be shut, is no reason to stop.
        if !std::mem::take(&mut self.asks_gate) {
            return;
        }
        match ended {
            Ok(Done::AsAsked) => {}
            Ok(Done::OpenedAnew) => {
                let let_in: Vec<_> = self.left.iter().chain(&self.put).cloned().collect();
                shared.leave_out_all_but(&let_in);
            }
            Err(error) if self.assumes => {
                let mut all = std::mem::take(&mut self.left);
                all.reverse();
                self.fail(all, &error);
                // Some may be let in already.
                self.stage = Stage::Silence;
            }
            Err(error) => {
                self.refused = Some(error);
                self.stage = Stage::End;
            }
        }
    }

    /// Finds what is to be sent, when the gate is set.
    fn fill(&mut self, shared: &mut Shared) -> (Stage, Next) {
        self.slack = shared.slack(self.left.len());
        if !self.assumes {
            let deadline = shared.queue.latest(self.deadline);
            self.left = match shared.backstop() {
                Backstop::Fence => shared.kept.due(deadline, self.slack),
                Backstop::Lifetime => shared.kept.all(),
            };
            self.left.reverse();
        }
        (Stage::Chunks, Next::Again)
    }

    /// Sends a chunk with lifetimes that fit the deadline, and `slack` more beside the fence.
    fn send(
        &mut self,
        shared: &mut Shared,
        chunk: Vec<Assignment>,
        again: bool,
        now: Instant,
        rate: TimerRate,
    ) -> (Stage, Next) {
        let deadline = shared.queue.latest(self.deadline);
        let in_time = shared.lifetime_secs(deadline, now, rate);
        let with_slack = || shared.lifetime_secs(deadline + self.slack, now, rate);
        if let Some(secs) = in_time.and_then(|_| with_slack()) {
            let call = Call::Put { addresses: chunk.clone(), lifetime_secs: secs };
            return (Stage::Sent { chunk, secs, before: now }, Next::Call(call));
        }
        self.fail(chunk.clone(), &KernelError::TooLate);
        // While there is time left, but too little for a lifetime, an earlier one stays.
        if again || now >= deadline {
            shared.forget(&chunk);
            return (Stage::Drop(Deletion::new(chunk)), Next::Again);
        }
        (Stage::Between, Next::Again)
    }

    /// The kernel's answer to what was sent last.
    pub(super) fn handle_reply(&mut self, shared: &mut Shared, reply: Reply) {
        match std::mem::replace(&mut self.stage, Stage::End) {
            Stage::Sent { chunk, secs, before } => {
                let mut taken = Vec::with_capacity(chunk.len());
                for (one, answer) in chunk.into_iter().zip(reply.each()) {
                    match answer {
                        Ok(()) => {
                            shared.keep(&one, before + seconds(secs));
                            taken.push(one);
                        }
                        Err(error) => self.failed.push((one, error)),
                    }
                }
                self.stage = Stage::Taken { chunk: taken, secs, before };
            }
            Stage::Drop(mut deletion) => {
                deletion.handle_reply(reply);
                self.stage = Stage::Drop(deletion);
            }
            Stage::Undo(mut deletion) => {
                deletion.handle_reply(reply);
                self.stage = Stage::Undo(deletion);
            }
            stage => self.stage = stage,
        }
    }

    /// The kernel has acknowledged a chunk. It counted the lifetimes from when it read the
    /// message: where they are the proof and that was too late, they are set again.
    fn taken(
        &mut self,
        shared: &Shared,
        chunk: Vec<Assignment>,
        (secs, before): (u32, Instant),
        now: Instant,
        rate: TimerRate,
    ) -> (Stage, Next) {
        let deadline = shared.queue.latest(self.deadline);
        let longest = shared.lifetime_secs(deadline, now, rate);
        let is_proof = shared.backstop() == Backstop::Lifetime;
        let trusts = shared.mutated(Mutant::LifetimeNotLookedAtAgain);
        if is_proof && !trusts && longest.is_none_or(|longest| secs > longest) {
            return (Stage::Chunk { chunk, again: true }, Next::Again);
        }
        let ends = before + seconds(secs);
        if !chunk.is_empty() {
            self.until = Some(self.until.map_or(ends, |until| until.min(ends)));
        }
        self.put.extend(chunk);
        (Stage::Between, Next::Again)
    }

    /// Takes away what was put there, when its time is over by now.
    fn check(&mut self, shared: &mut Shared, now: Instant) -> (Stage, Next) {
        if shared.mutated(Mutant::AddressBeforeGate) && shared.fence.is_some() && !self.gated {
            self.gated = true;
            self.asks_gate = true;
            return (Stage::Check, Next::Fence(self.gate_goal(shared, &self.put)));
        }
        let late = now >= shared.queue.latest(self.deadline) || shared.is_shut();
        if self.put.is_empty() || !late || shared.mutated(Mutant::LateNotUndone) {
            return (Stage::Silence, Next::Again);
        }
        let late = std::mem::take(&mut self.put);
        shared.forget(&late);
        self.fail(late.clone(), &KernelError::TooLate);
        (Stage::Undo(Deletion::new(late.clone())), Next::shut(shared, fenced(&late)))
    }

    fn silence(&mut self, shared: &mut Shared) -> (Stage, Next) {
        let failed: Vec<_> = self.failed.iter().map(|(one, _)| one.clone()).collect();
        if !self.assumes || failed.is_empty() || shared.mutated(Mutant::FailedLetPass) {
            return (Stage::End, Next::Again);
        }
        (Stage::End, Next::shut(shared, fenced(&failed)))
    }

    fn outcome(&mut self, shared: &Shared) -> KernelOutcome {
        if let Some(error) = self.refused.take() {
            return KernelOutcome::Failed(error);
        }
        let until = if shared.fence.is_some() { None } else { self.until };
        KernelOutcome::Done { failed: std::mem::take(&mut self.failed), until }
    }
}

fn seconds(secs: u32) -> Duration {
    Duration::from_secs(secs.into())
}
