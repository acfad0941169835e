//! The things that can happen, and which of them can happen next.

use super::state::{Host, LOST, Life, State};
use super::world::World;

/// What becomes of the renewal that a host sends at a tick, and of what its daemon does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is committed and answered.
    Prompt,
    /// It never arrives.
    Lost,
    /// It is committed; the answer stays on its way.
    Slow,
    /// It may land later, when nobody waits for it any more.
    Late,
    /// The daemon does not run at all.
    Stalled,
}

pub(super) const FATES: [Fate; 5] =
    [Fate::Prompt, Fate::Lost, Fate::Slow, Fate::Late, Fate::Stalled];

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Move {
    /// True time goes on by a tick. Daemons whose timers are due run, and renew their sessions;
    /// one fate for each host.
    Tick { fates: [Fate; 3] },
    /// A transaction reaches the store and its answer the node.
    Commit { host: u8, nth: u8 },
    /// A transaction reaches the store; its answer stays on its way.
    Land { host: u8, nth: u8 },
    /// An answer reaches the node.
    Answer { host: u8, nth: u8 },
    /// The node is told that there is no answer; the transaction may land whenever.
    Delay { host: u8, nth: u8 },
    /// A transaction that nobody waits for lands.
    LandLate { nth: u8 },
    /// The watch tells the next news.
    Tell { host: u8 },
    /// The kernel performs the next operation.
    Perform { host: u8 },
    /// The daemon is killed; what it sent may still land, its kernel keeps what it has.
    Kill { host: u8 },
    /// The host is booted again: nothing is left in its kernel.
    Reboot { host: u8 },
    /// The daemon starts again.
    Start { host: u8 },
    /// The operator pins the VIP to a host.
    Pin { host: u8 },
    /// The operator drains a host, or no longer does.
    Drain { host: u8, on: bool },
    /// The operator stops the daemon in an orderly way.
    Stop { host: u8 },
}

impl Move {
    /// All of it in 16 bits.
    pub(super) fn encode(self) -> u16 {
        let (kind, host, nth) = match self {
            Move::Tick { fates } => {
                let number = |fate| FATES.iter().position(|f| *f == fate).unwrap_or_default();
                let sum = fates.iter().rev().fold(0, |sum, fate| sum * FATES.len() + number(*fate));
                (0, 0, u8::try_from(sum).expect("5 to the third"))
            }
            Move::Commit { host, nth } => (1, host, nth),
            Move::Land { host, nth } => (2, host, nth),
            Move::Answer { host, nth } => (3, host, nth),
            Move::Delay { host, nth } => (4, host, nth),
            Move::LandLate { nth } => (5, 0, nth),
            Move::Tell { host } => (6, host, 0),
            Move::Perform { host } => (7, host, 0),
            Move::Kill { host } => (8, host, 0),
            Move::Start { host } => (9, host, 0),
            Move::Pin { host } => (10, host, 0),
            Move::Stop { host } => (11, host, 0),
            Move::Drain { host, on } => (12, host, on.into()),
            Move::Reboot { host } => (13, host, 0),
        };
        (kind << 12) | (u16::from(host) << 8) | u16::from(nth)
    }

    pub(super) fn decode(code: u16) -> Move {
        let [high, nth] = code.to_be_bytes();
        let host = high & 15;
        match high >> 4 {
            0 => {
                let nth = usize::from(nth);
                let fates = [nth % 5, nth / 5 % 5, nth / 25].map(|number| FATES[number]);
                Move::Tick { fates }
            }
            1 => Move::Commit { host, nth },
            2 => Move::Land { host, nth },
            3 => Move::Answer { host, nth },
            4 => Move::Delay { host, nth },
            5 => Move::LandLate { nth },
            6 => Move::Tell { host },
            7 => Move::Perform { host },
            8 => Move::Kill { host },
            9 => Move::Start { host },
            10 => Move::Pin { host },
            11 => Move::Stop { host },
            12 => Move::Drain { host, on: nth != 0 },
            _ => Move::Reboot { host },
        }
    }
}

impl World {
    /// Everything that can happen next.
    pub(super) fn moves(&self, state: &State, moves: &mut Vec<Move>) {
        moves.clear();
        let (options, spent) = (&self.options, &state.spent);
        for (index, host) in state.hosts.iter().enumerate() {
            let index = u8::try_from(index).expect("few");
            self.moves_of(state, index, host, moves);
        }
        for (nth, &txn) in state.late.iter().enumerate() {
            if self.stores.would_succeed(state.store, txn) {
                moves.push(Move::LandLate { nth: u8::try_from(nth).expect("few") });
            }
        }
        if spent.moves < options.moves_max {
            for host in 0..u8::try_from(options.nodes).expect("few") {
                if state.pinned != host + 1 {
                    moves.push(Move::Pin { host });
                }
            }
        }
        if spent.drains < options.drains_max {
            for host in 0..u8::try_from(options.nodes).expect("few") {
                moves.push(Move::Drain { host, on: state.drained & (1 << host) == 0 });
            }
        }
        // Without a fence the daemon and its kernel are taken to be quick: the guard is for that.
        let busy = |host: &Host| !options.fence && !host.ops.is_empty();
        if state.tick < options.ticks_max && !state.hosts.iter().any(busy) {
            self.ticks(state, [Fate::Prompt; 3], 0, moves);
        }
    }

    /// A tick with every combination of fates that the bounds permit.
    fn ticks(&self, state: &State, fates: [Fate; 3], from: usize, moves: &mut Vec<Move>) {
        if from == state.hosts.len() {
            return moves.push(Move::Tick { fates });
        }
        if state.hosts[from].life != Life::Running {
            return self.ticks(state, fates, from + 1, moves);
        }
        let (options, spent) = (&self.options, &state.spent);
        for fate in FATES {
            let before = fates[..from].iter().filter(|f| **f == fate).count();
            let within = |spent: u8, max: u8| usize::from(spent) + before < usize::from(max);
            let may = match fate {
                Fate::Prompt | Fate::Lost => true,
                Fate::Slow => within(spent.slow, options.slow_max),
                Fate::Late => within(spent.late, options.late_max),
                Fate::Stalled => within(spent.stalls, options.stalls_max),
            };
            if may {
                let mut fates = fates;
                fates[from] = fate;
                self.ticks(state, fates, from + 1, moves);
            }
        }
    }

    fn moves_of(&self, state: &State, index: u8, host: &Host, moves: &mut Vec<Move>) {
        let (options, spent) = (&self.options, &state.spent);
        match host.life {
            Life::Running => {}
            Life::Killed => return moves.push(Move::Start { host: index }),
            Life::Stopped | Life::Refused => return,
        }
        for nth in 0..u8::try_from(host.requests.len()).expect("few") {
            if host.requests[usize::from(nth)].txn == LOST {
                continue;
            }
            moves.push(Move::Commit { host: index, nth });
            if spent.slow < options.slow_max {
                moves.push(Move::Land { host: index, nth });
            }
            if spent.late < options.late_max {
                moves.push(Move::Delay { host: index, nth });
            }
        }
        for nth in 0..u8::try_from(host.answers.len()).expect("few") {
            moves.push(Move::Answer { host: index, nth });
        }
        if !host.watch.is_empty() {
            moves.push(Move::Tell { host: index });
        }
        if !host.ops.is_empty() {
            moves.push(Move::Perform { host: index });
        }
        if spent.crashes < options.crashes_max {
            moves.push(Move::Kill { host: index });
        }
        if spent.reboots < options.reboots_max {
            moves.push(Move::Reboot { host: index });
        }
        if spent.stops < options.stops_max {
            moves.push(Move::Stop { host: index });
        }
    }
}
