//! The jobs of the adapter: each carries out one operation, one call at a time.

use std::collections::BTreeSet;

use super::call::{Call, Reply, TimerRate};
use super::deletion::Deletion;
use super::fence::Fence;
use super::fence_job::{Ended, Goal};
use super::fenced::Fenced;
use super::lifetimes::place;
use super::put_job::PutJob;
use super::queue::Waiting;
use super::shared::{Shared, fenced};
use crate::action::OpId;
use crate::kernel::{Assignment, KernelError, KernelOp, KernelOutcome, Listing};
use crate::mutant::Mutant;
use crate::time::Instant;

/// What a job does next.
pub(super) enum Next {
    /// Call the kernel.
    Call(Call),
    /// Change the fence.
    Fence(Goal),
    /// Let this withdrawal go first.
    Overtaken(Waiting),
    /// Look again.
    Again,
    /// Nothing more: this is the answer.
    Ended(KernelOutcome),
}

impl Next {
    /// Silence the addresses, where there is a fence.
    pub(super) fn shut(shared: &Shared, addresses: Vec<Fenced>) -> Self {
        match shared.fence {
            Some(_) => Next::Fence(Goal::Shut(addresses)),
            None => Next::Again,
        }
    }

    /// Extend the gate early, where a renewal waits.
    pub(super) fn extended(shared: &Shared) -> Self {
        shared.extension().map_or(Next::Again, Next::Fence)
    }
}

/// One operation that is being carried out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Job {
    pub(super) id: OpId,
    pub(super) cancelled: Vec<Assignment>,
    /// When it was asked, for the mutant that goes by that.
    pub(super) asked: Option<Instant>,
    work: Work,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Work {
    List(ListJob),
    Put(PutJob),
    Withdraw(WithdrawJob),
    /// Of these, until they are known; then why the fence could not follow, if it could not.
    Configure(Option<Vec<Assignment>>, Option<KernelError>),
    /// Whether it was asked, and why it failed.
    RemoveFence {
        asked: bool,
        refused: Option<KernelError>,
    },
}

impl Job {
    pub(super) fn new(Waiting { id, op, cancelled, asked }: Waiting) -> Self {
        let work = match op {
            KernelOp::List => Work::List(ListJob::default()),
            KernelOp::Assume { addresses, deadline } => {
                Work::Put(PutJob::assume(addresses, deadline))
            }
            KernelOp::Refresh { deadline } => Work::Put(PutJob::refresh(deadline)),
            KernelOp::Withdraw { addresses } => Work::Withdraw(WithdrawJob::new(addresses)),
            KernelOp::Configure { addresses } => Work::Configure(Some(addresses), None),
            KernelOp::RemoveFence => Work::RemoveFence { asked: false, refused: None },
        };
        Job { id, cancelled, asked, work }
    }

    pub(super) fn cancel(&mut self, removed: &BTreeSet<Assignment>) {
        if let Work::Put(job) = &mut self.work {
            job.cancel(removed);
        }
    }

    pub(super) fn poll(&mut self, shared: &mut Shared, now: Instant, rate: TimerRate) -> Next {
        match &mut self.work {
            Work::List(job) => job.poll(shared),
            Work::Put(job) => job.poll(shared, now, rate),
            Work::Withdraw(job) => job.poll(shared),
            Work::Configure(addresses, refused) => match addresses.take() {
                Some(addresses) => configure(shared, &addresses),
                None => Next::Ended(done_unless(refused.take())),
            },
            Work::RemoveFence { asked, refused } => {
                if !std::mem::replace(asked, true) {
                    // Where there is no fence, something else may be left to set right.
                    return match shared.fence {
                        Some(_) => Next::Fence(Goal::Remove),
                        None => Next::Call(Call::RemoveFence),
                    };
                }
                Next::Ended(done_unless(refused.take()))
            }
        }
    }

    pub(super) fn fence_ended(&mut self, shared: &mut Shared, ended: Ended) {
        match &mut self.work {
            Work::Put(job) => job.fence_ended(shared, ended),
            Work::Configure(_, refused) | Work::RemoveFence { refused, .. } => {
                *refused = ended.err();
            }
            Work::List(_) | Work::Withdraw(_) => {}
        }
    }

    pub(super) fn handle_reply(&mut self, shared: &mut Shared, reply: Reply) {
        match &mut self.work {
            Work::List(job) => job.handle_reply(shared, reply),
            Work::Put(job) => job.handle_reply(shared, reply),
            Work::Withdraw(job) => job.handle_reply(reply),
            Work::Configure(..) => {}
            Work::RemoveFence { refused, .. } => {
                if let Reply::Failed(error) = reply {
                    *refused = Some(error);
                }
            }
        }
    }
}

fn done_unless(refused: Option<KernelError>) -> KernelOutcome {
    match refused {
        Some(error) => KernelOutcome::Failed(error),
        None => KernelOutcome::Done { failed: Vec::new(), until: None },
    }
}

/// These are all addresses from now on: the fence follows, before any of them is put there.
fn configure(shared: &mut Shared, addresses: &[Assignment]) -> Next {
    shared.configured = addresses.iter().map(|one| (place(one), one.vip.clone())).collect();
    match &mut shared.fence {
        Some(fence) => {
            fence.configure(addresses.iter().map(Fenced::from).collect());
            Next::Fence(Goal::Configure)
        }
        None => Next::Again,
    }
}

/// A `List`: what is there, what an earlier process left, and whether the fence is whole.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct ListJob {
    stage: ListStage,
    outcome: Option<KernelOutcome>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum ListStage {
    #[default]
    Ask,
    /// Put the fence back, if somebody changed it.
    Repair(bool, BTreeSet<Fenced>),
    /// Fence no longer what is gone.
    Release(BTreeSet<Fenced>),
    End,
}

impl ListJob {
    fn poll(&mut self, shared: &Shared) -> Next {
        let (stage, next) = match std::mem::replace(&mut self.stage, ListStage::End) {
            ListStage::Ask => (ListStage::End, Next::Call(Call::List)),
            ListStage::Repair(changed, present) => {
                let next = if changed { Next::Fence(Goal::Repair) } else { Next::Again };
                (ListStage::Release(present), next)
            }
            ListStage::Release(present) => (ListStage::End, released(shared, present)),
            ListStage::End => {
                let nothing = || KernelOutcome::Done { failed: Vec::new(), until: None };
                (ListStage::End, Next::Ended(self.outcome.take().unwrap_or_else(nothing)))
            }
        };
        self.stage = stage;
        next
    }

    fn handle_reply(&mut self, shared: &mut Shared, reply: Reply) {
        match reply {
            Reply::Listed { mut listing, fence_changed } => {
                let present = marked(&listing);
                if !std::mem::replace(&mut shared.adopted, true) {
                    adopt(shared, &listing);
                }
                if !shared.mutated(Mutant::SilentTakenForHeld) {
                    for one in &mut listing.addresses {
                        let place = (one.interface.clone(), one.address);
                        one.marked &= shared.lets_pass(&place);
                    }
                }
                self.outcome = Some(KernelOutcome::Listed(listing));
                let changed = fence_changed && shared.fence.is_some();
                self.stage = ListStage::Repair(changed, present);
            }
            Reply::Failed(error) => self.outcome = Some(KernelOutcome::Failed(error)),
            _ => {}
        }
    }
}

fn released(shared: &Shared, present: BTreeSet<Fenced>) -> Next {
    match &shared.fence {
        Some(fence) if fence.has_former() => Next::Fence(Goal::Release(present)),
        _ => Next::Again,
    }
}

/// The addresses that carry turnip's mark.
fn marked(listing: &Listing) -> BTreeSet<Fenced> {
    let marked = listing.addresses.iter().filter(|one| one.marked);
    marked.map(|one| Fenced::new(&one.interface, one.address.addr())).collect()
}

/// What an earlier process left goes on, as far as it is still let pass: when it ends is not known.
fn adopt(shared: &mut Shared, listing: &Listing) {
    // The name of the VIP is not in the kernel; the configuration has it.
    for one in &listing.addresses {
        let place = (one.interface.clone(), one.address);
        let passes = shared.lets_pass(&place) || shared.mutated(Mutant::SilentTakenForHeld);
        let new = !shared.kept.contains(&place);
        if let Some(vip) = shared.configured.get(&place)
            && one.marked
            && passes
            && new
        {
            let (interface, address) = place;
            let assignment = Assignment { vip: vip.clone(), interface, address };
            shared.kept.set(&assignment, Instant::ZERO);
        }
    }
}

/// A `Withdraw`: silences first, which is one transaction; then takes the addresses away.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct WithdrawJob {
    addresses: Vec<Assignment>,
    deletion: Deletion,
    stage: WithdrawStage,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum WithdrawStage {
    Shut,
    Delete,
    /// A chunk is gone: a renewal that waits moves the gate already.
    Extend,
    /// Of a mutant: the fence is shut when all is gone.
    ShutLast,
    /// Whether something that is no VIP any more is gone now.
    Look,
    /// Fence that no longer.
    Release(BTreeSet<Fenced>),
    End,
}

impl WithdrawJob {
    fn new(addresses: Vec<Assignment>) -> Self {
        let deletion = Deletion::new(addresses.clone());
        WithdrawJob { addresses, deletion, stage: WithdrawStage::Shut }
    }

    fn poll(&mut self, shared: &mut Shared) -> Next {
        let (stage, next) = match std::mem::replace(&mut self.stage, WithdrawStage::End) {
            WithdrawStage::Shut => {
                shared.forget(&self.addresses);
                match shared.mutated(Mutant::DeleteBeforeShut) {
                    true => (WithdrawStage::Delete, Next::Again),
                    false => (WithdrawStage::Delete, self.shut(shared)),
                }
            }
            WithdrawStage::Delete => match self.deletion.poll() {
                Some(call) => (WithdrawStage::Extend, Next::Call(call)),
                None if shared.mutated(Mutant::DeleteBeforeShut) => {
                    (WithdrawStage::ShutLast, Next::Again)
                }
                None => (WithdrawStage::Look, Next::Again),
            },
            WithdrawStage::Extend => (WithdrawStage::Delete, Next::extended(shared)),
            WithdrawStage::ShutLast => (WithdrawStage::Look, self.shut(shared)),
            WithdrawStage::Look => {
                let former = shared.fence.as_ref().is_some_and(Fence::has_former);
                let next = if former { Next::Call(Call::List) } else { Next::Again };
                (WithdrawStage::End, next)
            }
            WithdrawStage::Release(present) => (WithdrawStage::End, released(shared, present)),
            WithdrawStage::End => {
                let failed = std::mem::replace(&mut self.deletion, Deletion::new(Vec::new()));
                let failed = failed.into_failed();
                (WithdrawStage::End, Next::Ended(KernelOutcome::Done { failed, until: None }))
            }
        };
        self.stage = stage;
        next
    }

    fn shut(&self, shared: &Shared) -> Next {
        // A stray on another interface or of another length is no reason to silence a VIP.
        let is_vip = |one: &&Assignment| shared.configured.contains_key(&place(one));
        let vips: Vec<_> = self.addresses.iter().filter(is_vip).cloned().collect();
        Next::shut(shared, fenced(&vips))
    }

    fn handle_reply(&mut self, reply: Reply) {
        match reply {
            Reply::Listed { listing, .. } => {
                self.stage = WithdrawStage::Release(marked(&listing));
            }
            reply => self.deletion.handle_reply(reply),
        }
    }
}
