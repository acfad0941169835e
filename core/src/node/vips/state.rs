//! Where a VIP stands on this host: one state machine, whose transitions are one table.

use crate::action::{OpId, TxnId};

/// Where a VIP stands, as far as the kernel has acknowledged and the store has answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum State {
    /// The kernel has not been asked yet what is there.
    Unlisted,
    /// Nothing of it is on its interface.
    Absent,
    /// The same, and a transaction that names this node as its owner has not been answered.
    Claiming(TxnId),
    /// The kernel is putting its addresses there.
    Adding(OpId),
    /// Its addresses, or some of them, are on their interface.
    Held,
    /// The kernel is taking its addresses away.
    Removing(OpId),
    /// Nothing of it is there, and a transaction that names another owner, or none, has not been
    /// answered.
    HandingOver(TxnId),
}

/// A state without what belongs to a single VIP in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Unlisted,
    Absent,
    Claiming,
    Adding,
    Held,
    Removing,
    HandingOver,
}

/// What moves a VIP from one state to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The first listing has nothing of it.
    FoundAbsent,
    /// A listing has some of it, without this node's doing.
    FoundPresent,
    /// A claim, or an expiry with a claim, was sent.
    ClaimSent(TxnId),
    /// A hand-over was sent, or a transaction that gives the VIP free.
    HandOverSent(TxnId),
    /// A transaction was answered, if only by an error.
    Answered(TxnId),
    /// The store is another one: no answer counts.
    StoreChanged,
    /// The kernel was asked to put it there.
    AssumeSent(OpId),
    /// The kernel has put it there, or part of it.
    Assumed(OpId),
    /// The kernel was asked to take it away.
    WithdrawSent(OpId),
    /// The kernel has taken all of it away.
    Withdrawn(OpId),
    /// The kernel has not.
    WithdrawFailed(OpId),
}

/// What happens, by the name that it has in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Transition {
    pub(crate) from: Stage,
    pub(crate) event: &'static str,
    pub(crate) to: Stage,
}

/// Every transition that there is.
pub(crate) const TRANSITIONS: [Transition; 18] = {
    use Stage::{Absent, Adding, Claiming, HandingOver, Held, Removing, Unlisted};
    const fn row(from: Stage, event: &'static str, to: Stage) -> Transition {
        Transition { from, event, to }
    }
    [
        row(Unlisted, "found absent", Absent),
        row(Unlisted, "found present", Held),
        row(Absent, "claim sent", Claiming),
        row(Claiming, "answered", Absent),
        row(Absent, "assume sent", Adding),
        row(Adding, "assumed", Held),
        row(Held, "withdraw sent", Removing),
        row(Adding, "withdraw sent", Removing),
        row(Removing, "withdrawn", Absent),
        row(Removing, "withdraw failed", Held),
        row(Absent, "hand-over sent", HandingOver),
        row(HandingOver, "answered", Absent),
        row(Held, "assume sent", Adding),
        row(Absent, "found present", Held),
        row(Claiming, "found present", Held),
        row(HandingOver, "found present", Held),
        row(Claiming, "store changed", Absent),
        row(HandingOver, "store changed", Absent),
    ]
};

impl State {
    pub(crate) fn stage(self) -> Stage {
        match self {
            State::Unlisted => Stage::Unlisted,
            State::Absent => Stage::Absent,
            State::Claiming(_) => Stage::Claiming,
            State::Adding(_) => Stage::Adding,
            State::Held => Stage::Held,
            State::Removing(_) => Stage::Removing,
            State::HandingOver(_) => Stage::HandingOver,
        }
    }

    /// Whether one of the VIP's addresses may be on its interface.
    pub(crate) fn may_be_there(self) -> bool {
        !matches!(self, State::Absent | State::Claiming(_) | State::HandingOver(_))
    }

    /// The state after `event`; none when the event means nothing here: an answer to what has been
    /// superseded, for instance.
    pub(crate) fn after(self, event: Event) -> Option<State> {
        let is_awaited = match (self, event) {
            (State::Claiming(sent) | State::HandingOver(sent), Event::Answered(id)) => sent == id,
            (State::Adding(sent), Event::Assumed(id)) => sent == id,
            (State::Removing(sent), Event::Withdrawn(id) | Event::WithdrawFailed(id)) => sent == id,
            _ => true,
        };
        let (stage, name) = (self.stage(), event.name());
        let row = TRANSITIONS.iter().find(|row| row.from == stage && row.event == name);
        let to = row.filter(|_| is_awaited)?.to;
        Some(match (to, event) {
            (Stage::Unlisted, _) => State::Unlisted,
            (Stage::Absent, _) => State::Absent,
            (Stage::Held, _) => State::Held,
            (Stage::Claiming, Event::ClaimSent(id)) => State::Claiming(id),
            (Stage::HandingOver, Event::HandOverSent(id)) => State::HandingOver(id),
            (Stage::Adding, Event::AssumeSent(id)) => State::Adding(id),
            (Stage::Removing, Event::WithdrawSent(id)) => State::Removing(id),
            (Stage::Claiming | Stage::HandingOver | Stage::Adding | Stage::Removing, _) => {
                return None;
            }
        })
    }
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Event::FoundAbsent => "found absent",
            Event::FoundPresent => "found present",
            Event::ClaimSent(_) => "claim sent",
            Event::HandOverSent(_) => "hand-over sent",
            Event::Answered(_) => "answered",
            Event::StoreChanged => "store changed",
            Event::AssumeSent(_) => "assume sent",
            Event::Assumed(_) => "assumed",
            Event::WithdrawSent(_) => "withdraw sent",
            Event::Withdrawn(_) => "withdrawn",
            Event::WithdrawFailed(_) => "withdraw failed",
        }
    }
}

/// The table of a VIP's transitions in Markdown, as the page of the protocol shows it.
pub fn transitions_in_markdown() -> String {
    let mut table = String::from("| from | what happens | to |\n|---|---|---|\n");
    for Transition { from, event, to } in TRANSITIONS {
        table += &format!("| {from:?} | {event} | {to:?} |\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const TXN: TxnId = TxnId(1);
    const OP: OpId = OpId(2);
    const STATES: [State; 7] = [
        State::Unlisted,
        State::Absent,
        State::Claiming(TXN),
        State::Adding(OP),
        State::Held,
        State::Removing(OP),
        State::HandingOver(TXN),
    ];
    const EVENTS: [Event; 11] = [
        Event::FoundAbsent,
        Event::FoundPresent,
        Event::ClaimSent(TXN),
        Event::HandOverSent(TXN),
        Event::Answered(TXN),
        Event::StoreChanged,
        Event::AssumeSent(OP),
        Event::Assumed(OP),
        Event::WithdrawSent(OP),
        Event::Withdrawn(OP),
        Event::WithdrawFailed(OP),
    ];

    #[test]
    fn every_row_of_the_table_can_happen_and_nothing_else_does() {
        let mut happened = 0;
        for state in STATES {
            for event in EVENTS {
                let row =
                    TRANSITIONS.iter().find(|r| r.from == state.stage() && r.event == event.name());
                let after = state.after(event).map(State::stage);
                assert_eq!(after, row.map(|row| row.to), "{state:?} {event:?}");
                happened += usize::from(row.is_some());
            }
        }
        assert_eq!(happened, TRANSITIONS.len());
    }

    #[test]
    fn nothing_is_handed_over_or_claimed_while_it_may_be_there() {
        for row in TRANSITIONS {
            if matches!(row.to, Stage::Claiming | Stage::HandingOver) {
                assert_eq!(row.from, Stage::Absent);
            }
        }
        assert!(STATES.iter().all(|state| {
            state.may_be_there() || state.after(Event::WithdrawSent(OP)).is_none()
        }));
    }

    #[test]
    fn an_answer_to_what_was_superseded_changes_nothing() {
        assert_eq!(State::Claiming(TXN).after(Event::Answered(TxnId(9))), None);
        assert_eq!(State::Adding(OP).after(Event::Assumed(OpId(9))), None);
        assert_eq!(State::Removing(OP).after(Event::Withdrawn(OpId(9))), None);
        assert_eq!(State::Removing(OP).after(Event::WithdrawFailed(OpId(9))), None);
    }
}
