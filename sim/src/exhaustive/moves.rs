//! The things that can happen, and which of them can happen next.

use super::state::{Host, LOST, Life, State, Trouble};
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

impl Fate {
    /// The trouble that it is, if it is one that is counted.
    fn trouble(self) -> Option<Trouble> {
        match self {
            Fate::Prompt => None,
            Fate::Lost => Some(Trouble::Loss),
            Fate::Slow => Some(Trouble::Slow),
            Fate::Late => Some(Trouble::Late),
            Fate::Stalled => Some(Trouble::Stall),
        }
    }
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
    /// A node hears the next event of its watch.
    Watch { host: u8 },
    /// The kernel performs the next operation.
    Perform { host: u8 },
    /// The daemon is killed; what it sent may still land, its kernel keeps what it has.
    Kill { host: u8 },
    /// The host is booted again: nothing is left in its kernel.
    Reboot { host: u8 },
    /// The daemon starts again, with that configuration file.
    Start { host: u8, file: u8 },
    /// A node's watch stands still, or goes on.
    StallWatch { host: u8, on: bool },
    /// The operator pins v to a host.
    Pin { host: u8 },
    /// The operator drains a host, or no longer does.
    Drain { host: u8, on: bool },
    /// The operator stops the daemon in an orderly way.
    Stop { host: u8 },
    /// A heartbeat reaches a host; or it does and is still on its way.
    Hear { host: u8, nth: u8, again: bool },
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
            Move::Watch { host } => (6, host, 0),
            Move::Perform { host } => (7, host, 0),
            Move::Kill { host } => (8, host, 0),
            Move::Start { host, file } => (9, host, file),
            Move::Pin { host } => (10, host, 0),
            Move::Stop { host } => (11, host, 0),
            Move::Drain { host, on } => (12, host, on.into()),
            Move::Reboot { host } => (13, host, 0),
            Move::StallWatch { host, on } => (14, host, on.into()),
            Move::Hear { host, nth, again } => (15, host, nth << 1 | u8::from(again)),
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
            6 => Move::Watch { host },
            7 => Move::Perform { host },
            8 => Move::Kill { host },
            9 => Move::Start { host, file: nth },
            10 => Move::Pin { host },
            11 => Move::Stop { host },
            12 => Move::Drain { host, on: nth != 0 },
            13 => Move::Reboot { host },
            14 => Move::StallWatch { host, on: nth != 0 },
            _ => Move::Hear { host, nth: nth >> 1, again: nth & 1 != 0 },
        }
    }
}

impl World {
    /// Everything that can happen next.
    pub(super) fn moves(&self, state: &State, moves: &mut Vec<Move>) {
        moves.clear();
        let asks = |host: &Host| host.requests.iter().any(|request| request.txn != LOST);
        let first = self.options.prompt && state.hosts.iter().any(asks);
        for (index, host) in state.hosts.iter().enumerate() {
            self.arrivals_of(state, small(index), host, moves);
            if !first {
                self.troubles_of(state, small(index), host, moves);
            }
        }
        if first {
            return;
        }
        self.hearings(state, moves);
        for (nth, &txn) in state.late.iter().enumerate() {
            if self.stores.would_succeed(state.store, txn) {
                moves.push(Move::LandLate { nth: small(nth) });
            }
        }
        let hosts = 0..small(self.options.nodes);
        if self.may(state, Trouble::Move) {
            let elsewhere = hosts.clone().filter(|host| state.pinned != host + 1);
            moves.extend(elsewhere.map(|host| Move::Pin { host }));
        }
        if self.may(state, Trouble::Drain) {
            let on = |host: u8| state.drained & (1 << host) == 0;
            moves.extend(hosts.map(|host| Move::Drain { host, on: on(host) }));
        }
        // Without a fence the daemon and its kernel are taken to be quick: the guard is for that.
        let busy = |host: &Host| !self.options.fence && self.adapters.call(host.kernel).is_some();
        if state.tick < self.options.last_tick() && !state.hosts.iter().any(busy) {
            self.ticks(state, [Fate::Prompt; 3], 0, moves);
        }
    }

    /// Whether a request may land when nobody waits for it any more.
    pub(super) fn may_be_late(&self, txn: u32) -> bool {
        !self.options.late_freeing || self.stores.frees(txn)
    }

    /// Whether the bounds permit one more of those troubles.
    fn may(&self, state: &State, trouble: Trouble) -> bool {
        state.used.of(trouble) < self.options.max(trouble)
    }

    /// Any heartbeat that is on its way may arrive.
    fn hearings(&self, state: &State, moves: &mut Vec<Move>) {
        for (nth, flying) in state.flying.iter().enumerate() {
            let nth = small(nth);
            for host in self.reached_by(state, flying.to) {
                moves.push(Move::Hear { host, nth, again: false });
                if self.may(state, Trouble::Double) {
                    moves.push(Move::Hear { host, nth, again: true });
                }
            }
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
        for fate in FATES {
            let cut = |host: usize| !self.reaches_store(host, state.tick + 1);
            if cut(from) && !matches!(fate, Fate::Lost | Fate::Stalled) {
                continue;
            }
            let goes_on =
                |host: usize| fate == Fate::Lost && (state.hosts[host].losing || cut(host));
            let before = (0..from).filter(|&host| fates[host] == fate && !goes_on(host)).count();
            let may = goes_on(from)
                || fate.trouble().is_none_or(|trouble| {
                    let used = usize::from(state.used.of(trouble)) + before;
                    used < usize::from(self.options.max(trouble))
                });
            if may {
                let mut fates = fates;
                fates[from] = fate;
                self.ticks(state, fates, from + 1, moves);
            }
        }
    }

    /// What is on its way to or from a host.
    fn arrivals_of(&self, state: &State, index: u8, host: &Host, moves: &mut Vec<Move>) {
        for nth in 0..small(host.requests.len()) {
            if host.requests[usize::from(nth)].txn == LOST {
                continue;
            }
            moves.push(Move::Commit { host: index, nth });
            if self.may(state, Trouble::Slow) {
                moves.push(Move::Land { host: index, nth });
            }
            if self.may(state, Trouble::Late)
                && self.may_be_late(host.requests[usize::from(nth)].txn)
            {
                moves.push(Move::Delay { host: index, nth });
            }
        }
        moves.extend((0..small(host.answers.len())).map(|nth| Move::Answer { host: index, nth }));
        if host.watch_stalled {
            moves.push(Move::StallWatch { host: index, on: false });
        } else if !host.watch.is_empty() {
            moves.push(Move::Watch { host: index });
        }
        if host.life == Life::Running && self.adapters.call(host.kernel).is_some() {
            moves.push(Move::Perform { host: index });
        }
    }

    /// What else can befall a host. Where all is prompt, it waits for what is on its way.
    fn troubles_of(&self, state: &State, index: u8, host: &Host, moves: &mut Vec<Move>) {
        match host.life {
            Life::Running => {}
            Life::Killed | Life::Stopped => return self.starts_of(state, index, host, moves),
            Life::Refused => return,
        }
        for (trouble, next) in [
            (Trouble::Crash, Move::Kill { host: index }),
            (Trouble::Reboot, Move::Reboot { host: index }),
            (Trouble::Stop, Move::Stop { host: index }),
            (Trouble::StalledWatch, Move::StallWatch { host: index, on: true }),
        ] {
            let spared = match trouble {
                Trouble::StalledWatch => host.watch_stalled,
                _ => self.is_spared(index),
            };
            if self.may(state, trouble) && !spared {
                moves.push(next);
            }
        }
    }

    fn is_spared(&self, host: u8) -> bool {
        self.options.unlucky.is_some_and(|unlucky| unlucky != usize::from(host))
    }

    /// A daemon that was killed can start again as it was; with another file, any that ended can.
    fn starts_of(&self, state: &State, index: u8, host: &Host, moves: &mut Vec<Move>) {
        let again = host.life == Life::Killed && !self.options.stay_down;
        let changed = self.may(state, Trouble::Change) && !self.is_spared(index);
        let may = |file| if file == host.file { again } else { changed };
        let files = 0..self.files;
        moves.extend(files.filter(|&f| may(f)).map(|file| Move::Start { host: index, file }));
    }
}

/// Everything of which there are several is few here.
fn small(count: usize) -> u8 {
    u8::try_from(count).expect("few")
}
