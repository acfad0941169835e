//! One change of the fence, from what is asked to the kernel's acknowledgement: with the ticket
//! before it, what somebody else changed put back, and once more when it was late.

use std::collections::BTreeSet;
use std::time::Duration;

use super::call::{Call, Change, Reply, TimerRate, Transaction, TransactionError};
use super::fence::{Fence, Gate};
use super::fenced::Fenced;
use super::gate::{self, Move, MoveStyle, PATIENCE_MAX, PATIENCE_MIN, TIMEOUT_MIN, Ticket};
use crate::kernel::KernelError;
use crate::mutant::Mutant;
use crate::time::Instant;

/// Refused so often because of what others did meanwhile, a transaction goes unguarded: somebody
/// who changes his own tables all the time must not cost turnip its addresses.
const CHANGED_MAX: u8 = 2;

/// What is asked of the fence.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Goal {
    /// Make it, closed; or take over the one that is there, with its gate as it is.
    Start,
    /// Put back what somebody changed, if anything is not as it should be.
    Repair,
    /// Let the addresses pass until the deadline, and all others that are held as well.
    Allow { addresses: Vec<Fenced>, deadline: Instant },
    /// Let what is held pass until the deadline, unless its time is over.
    Extend { deadline: Instant },
    /// Silence the addresses, and close the gate when no other is held.
    Shut(Vec<Fenced>),
    /// Fence no longer what is not configured any more, but for what is present.
    Release(BTreeSet<Fenced>),
    /// Silence what has become a VIP.
    Configure,
    /// Remove it.
    Remove,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Done {
    AsAsked,
    /// The gate had closed and is open again, for exactly what was to be let through.
    OpenedAnew,
}

pub(super) type Ended = Result<Done, KernelError>;

/// What is next.
pub(super) enum FenceNext {
    Call(Call),
    Ended(Ended),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// Find out what is there.
    Read,
    /// Make everything anew.
    MakeAnew,
    /// Do what is asked.
    Act,
    /// Close the gate: it is too late for what is asked.
    Close,
}

/// What the kernel is asked at the moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Asked {
    Read,
    Layout,
    MakeAnew,
    /// To let in many, before the gate is moved.
    Held(Move),
    Ticket,
    Gate(Move, Ticket, Vec<Change>),
    Shut,
    Release(Vec<Fenced>),
    Close,
    Remove,
}

/// One change of the fence.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct FenceJob {
    goal: Goal,
    step: Step,
    asked: Option<Asked>,
    ticket: Option<Ticket>,
    /// What is to be let in is held already.
    prepared: bool,
    /// How long the next ticket lasts.
    patience: Duration,
    /// How often somebody else's change came between.
    changed: u8,
    /// The gate was set once more, because the acknowledgement came late.
    again: bool,
    done: Done,
    /// At the start: what an earlier process held and is not configured.
    let_go: Vec<Fenced>,
    ended: Option<Ended>,
}

fn too_late() -> Ended {
    Err(KernelError::TooLate)
}

impl FenceJob {
    pub(super) fn new(goal: Goal) -> Self {
        let step = match goal {
            Goal::Start | Goal::Repair => Step::Read,
            _ => Step::Act,
        };
        FenceJob {
            goal,
            step,
            asked: None,
            ticket: None,
            prepared: false,
            patience: PATIENCE_MIN,
            changed: 0,
            again: false,
            done: Done::AsAsked,
            let_go: Vec::new(),
            ended: None,
        }
    }

    /// The next call, to be sent at once; or the end.
    pub(super) fn poll(
        &mut self,
        fence: &mut Fence,
        now: Instant,
        rate: TimerRate,
        mutant: Option<Mutant>,
    ) -> FenceNext {
        if let Some(ended) = self.ended.take() {
            return FenceNext::Ended(ended);
        }
        if fence.removed {
            match self.goal {
                Goal::Allow { .. } => {
                    fence.removed = false;
                    self.step = Step::Read;
                }
                Goal::Extend { .. } => return FenceNext::Ended(too_late()),
                _ => return FenceNext::Ended(Ok(Done::AsAsked)),
            }
        }
        if fence.lags && self.step == Step::Act && matches!(self.goal, Goal::Allow { .. }) {
            self.step = Step::Read;
        }
        match self.step {
            Step::Read => self.ask(Asked::Read, Call::ReadFence),
            Step::MakeAnew => self.change(Asked::MakeAnew, fence.made_anew()),
            Step::Act => self.act(fence, now, rate, mutant),
            Step::Close => self.close(fence),
        }
    }

    fn ask(&mut self, asked: Asked, call: Call) -> FenceNext {
        self.asked = Some(asked);
        FenceNext::Call(call)
    }

    fn change(&mut self, asked: Asked, changes: Vec<Change>) -> FenceNext {
        let guarded = self.changed < CHANGED_MAX;
        self.ask(asked, Call::Change(Transaction { guarded, changes }))
    }

    fn change_unguarded(&mut self, asked: Asked, changes: Vec<Change>) -> FenceNext {
        self.ask(asked, Call::Change(Transaction { guarded: false, changes }))
    }

    fn act(
        &mut self,
        fence: &mut Fence,
        now: Instant,
        rate: TimerRate,
        mutant: Option<Mutant>,
    ) -> FenceNext {
        // What was lost is put back only while it is certain that its time is not over.
        if let Gate::Lost(until) = fence.gate
            && until.since(now) < self.patience + TIMEOUT_MIN
        {
            fence.gate = Gate::Closed;
        }
        let wanted = match &self.goal {
            Goal::Allow { addresses, deadline } => {
                Some(Move::of(fence, addresses, *deadline, true))
            }
            Goal::Extend { deadline } => Some(Move::of(fence, &[], *deadline, false)),
            _ => match fence.gate {
                Gate::Lost(until) => Some(Move::of(fence, &[], until, false)),
                _ => None,
            },
        };
        match wanted {
            Some(Some(to)) => self.set_gate(fence, to, now, rate, mutant),
            Some(None) => FenceNext::Ended(too_late()),
            None => self.act_beside_the_gate(fence),
        }
    }

    fn act_beside_the_gate(&mut self, fence: &mut Fence) -> FenceNext {
        match &self.goal {
            // What others have done is noticed with the next renewal: to set that right may close the gate
            // for a moment.
            Goal::Configure => self.change_unguarded(Asked::Layout, vec![fence.layout()]),
            Goal::Start => {
                let mut changes = vec![fence.layout()];
                if !self.let_go.is_empty() {
                    changes.push(Change::DeleteHeld(self.let_go.clone()));
                }
                self.change(Asked::Layout, changes)
            }
            Goal::Shut(addresses) => {
                let gone = fence.release_held(addresses);
                let closes = fence.holds_nothing() && fence.gate != Gate::Closed;
                let mut changes = Vec::new();
                if !gone.is_empty() {
                    changes.push(Change::DeleteHeld(gone));
                }
                if closes {
                    changes.push(Change::FlushGate);
                    fence.gate = Gate::Closed;
                }
                if changes.is_empty() {
                    return FenceNext::Ended(Ok(self.done));
                }
                // To silence is never put off to find out what others did.
                self.change_unguarded(Asked::Shut, changes)
            }
            Goal::Release(present) => {
                let gone = fence.former_gone(present);
                if gone.is_empty() {
                    return FenceNext::Ended(Ok(self.done));
                }
                let change = Change::DeleteVips(gone.clone());
                self.change(Asked::Release(gone), vec![change])
            }
            Goal::Remove => self.ask(Asked::Remove, Call::RemoveFence),
            Goal::Repair | Goal::Allow { .. } | Goal::Extend { .. } => {
                FenceNext::Ended(Ok(self.done))
            }
        }
    }

    fn set_gate(
        &mut self,
        fence: &Fence,
        mut to: Move,
        now: Instant,
        rate: TimerRate,
        mutant: Option<Mutant>,
    ) -> FenceNext {
        let style = MoveStyle {
            ticket: mutant != Some(Mutant::NoTicket),
            refuses_expired: mutant != Some(Mutant::ExpiredGateMoved),
            silences_others: mutant != Some(Mutant::EarlierHeldRevived),
        };
        let rate = if mutant == Some(Mutant::TimerRateIgnored) { TimerRate::TRUE } else { rate };
        if self.prepared {
            to.prepare();
        } else if to.is_large() {
            let changes = to.letting_in(&style);
            return self.change(Asked::Held(to), changes);
        }
        if !style.ticket {
            self.ticket = Some(Ticket { acknowledged: now, lasts: Duration::from_millis(1) });
        }
        let Some(ticket) = self.ticket else {
            if to.deadline.since(now) < self.patience + TIMEOUT_MIN {
                return self.close(fence);
            }
            let change = Change::AddTicket(rate.count(self.patience));
            return self.change(Asked::Ticket, vec![change]);
        };
        match to.changes(ticket, rate, &style) {
            Some(changes) => self.change(Asked::Gate(to, ticket, changes.clone()), changes),
            None => self.close(fence),
        }
    }

    /// Too little is left of the deadline, or the kernel is too slow.
    fn close(&mut self, fence: &Fence) -> FenceNext {
        match fence.gate {
            Gate::Closed => FenceNext::Ended(too_late()),
            _ => self.change_unguarded(Asked::Close, vec![Change::FlushGate]),
        }
    }

    /// The kernel's answer, with `now` read after it was in hand.
    pub(super) fn handle_reply(
        &mut self,
        fence: &mut Fence,
        reply: Reply,
        now: Instant,
        mutant: Option<Mutant>,
    ) {
        let Some(asked) = self.asked.take() else { return };
        match (asked, reply) {
            (Asked::Read, Reply::Fence(found)) => {
                if self.goal == Goal::Start {
                    let forgets = mutant == Some(Mutant::FormerNotFenced);
                    self.let_go = fence.inherit(&found, forgets);
                    self.step = Step::Act;
                } else if fence.is_as_it_should_be(&found, now)
                    || mutant == Some(Mutant::ForeignChangesIgnored)
                {
                    fence.lags = false;
                    self.step = Step::Act;
                } else {
                    self.step = Step::MakeAnew;
                }
            }
            (Asked::Remove, Reply::Removed) => {
                fence.let_go();
                fence.removed = true;
                self.ended = Some(Ok(self.done));
            }
            (Asked::Close, _) => {
                fence.gate = Gate::Closed;
                self.ended = Some(too_late());
            }
            (asked, Reply::Changed(Ok(()))) => self.changed_as_asked(fence, asked, now),
            (asked, Reply::Changed(Err(error))) => {
                self.refused(fence, asked, error, now, mutant);
            }
            (_, Reply::Failed(error)) => self.ended = Some(Err(error)),
            (_, _) => {
                let why = "an answer to something else".to_owned();
                self.ended = Some(Err(KernelError::Refused(why)));
            }
        }
    }

    fn changed_as_asked(&mut self, fence: &mut Fence, asked: Asked, now: Instant) {
        match asked {
            Asked::Layout => {
                fence.lags = false;
                self.ended = Some(Ok(self.done));
            }
            Asked::Shut => self.ended = Some(Ok(self.done)),
            Asked::MakeAnew => {
                fence.lags = false;
                fence.lose_gate();
                match self.goal {
                    Goal::Start => self.ended = Some(Ok(self.done)),
                    _ => self.step = Step::Act,
                }
            }
            Asked::Ticket => {
                self.ticket = Some(Ticket { acknowledged: now, lasts: self.patience });
            }
            Asked::Held(to) => {
                fence.hold(&to.new, to.is_alone());
                self.prepared = true;
            }
            Asked::Gate(to, ticket, _) => {
                fence.hold(&to.new, to.is_alone());
                fence.gate = Gate::Open(to.deadline);
                self.ticket = None;
                if to.from == gate::From::Closed {
                    self.done = Done::OpenedAnew;
                }
                // The kernel itself may have been held up between the ticket and the gate. It is
                // asked once more, with the time that it needs.
                let took = now.since(ticket.acknowledged);
                if took > ticket.lasts && !std::mem::replace(&mut self.again, true) {
                    self.patience = (took + TIMEOUT_MIN).clamp(PATIENCE_MIN, PATIENCE_MAX);
                } else {
                    self.ended = Some(Ok(self.done));
                }
            }
            Asked::Release(gone) => {
                fence.forget_former(&gone);
                self.ended = Some(Ok(self.done));
            }
            Asked::Read | Asked::Close | Asked::Remove => {}
        }
    }

    fn refused(
        &mut self,
        fence: &mut Fence,
        asked: Asked,
        error: TransactionError,
        now: Instant,
        mutant: Option<Mutant>,
    ) {
        match (asked, error) {
            (Asked::Gate(_, ticket, changes), TransactionError::Absent(places)) => {
                let absent = |change: &Change| {
                    let place = changes.iter().position(|one| one == change);
                    place.is_some_and(|place| places.contains(&place))
                };
                let ticket_late = absent(&Change::DeleteTicket);
                if ticket_late {
                    self.ticket = None;
                }
                if absent(&Change::DeleteGate) {
                    self.gate_had_closed(fence, mutant);
                } else if ticket_late {
                    self.be_more_patient(now.since(ticket.acknowledged));
                } else {
                    self.somebody_changed();
                }
            }
            // Another shape, made by another version: then nothing passes until it is held anew.
            (Asked::Layout, TransactionError::Absent(_) | TransactionError::Other(_))
                if fence.gate == Gate::Inherited && self.goal == Goal::Start =>
            {
                fence.let_go();
                self.step = Step::MakeAnew;
            }
            (_, TransactionError::Changed | TransactionError::Absent(_))
                if self.changed < CHANGED_MAX =>
            {
                self.somebody_changed();
            }
            (asked, error) => {
                let why = match error {
                    TransactionError::Other(why) => why,
                    _ => "somebody changes it all the time".to_owned(),
                };
                let missing = if asked == Asked::MakeAnew { "no fence: " } else { "" };
                self.ended = Some(Err(KernelError::Refused(format!("{missing}{why}"))));
            }
        }
    }

    fn gate_had_closed(&mut self, fence: &mut Fence, mutant: Option<Mutant>) {
        fence.gate = Gate::Closed;
        self.prepared = false;
        match self.goal {
            Goal::Allow { .. } => {}
            Goal::Extend { deadline } if mutant == Some(Mutant::RefreshReopensGate) => {
                fence.gate = Gate::Lost(deadline);
            }
            _ => self.ended = Some(too_late()),
        }
    }

    /// The kernel read the message too late for the ticket.
    fn be_more_patient(&mut self, took: Duration) {
        if self.patience >= PATIENCE_MAX {
            self.step = Step::Close;
        } else {
            self.patience = (self.patience * 2).max(took + TIMEOUT_MIN).min(PATIENCE_MAX);
        }
    }

    fn somebody_changed(&mut self) {
        self.changed = self.changed.saturating_add(1);
        self.ticket = None;
        self.step = Step::Read;
    }
}
