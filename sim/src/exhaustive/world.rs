//! What can happen in the small world, and what comes of it.

use turnip_core::{Lease, Op, Txn};

use super::Options;
use super::daemon::{Daemons, Effect, Input, Outcome, Start, Step, clock_micros, host_name};
use super::state::{Answer, Host, LOST, Life, OpKind, QueuedOp, Request, Spent, State};
use super::store::Stores;

/// Under which the operator's wishes are.
const INTENTS: &str = "/turnip/c/intents";

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

const FATES: [Fate; 5] = [Fate::Prompt, Fate::Lost, Fate::Slow, Fate::Late, Fate::Stalled];

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

/// What must never be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Two hosts answer for the VIP at the same instant.
    Overlap(&'static str, &'static str),
    /// A daemon takes another of its own processes for a stranger and ends.
    Refusal(&'static str),
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

/// The rules by which one state leads to the next, and all that is remembered of them.
pub(super) struct World {
    pub(super) options: Options,
    pub(super) stores: Stores,
    pub(super) daemons: Daemons,
    /// Transactions of the operator's, for each host: pin the VIP to it, undrain it, drain it.
    pins: Vec<u32>,
    drains: Vec<[u32; 2]>,
}

impl World {
    pub(super) fn new(options: Options, lease: Lease) -> Self {
        let mut stores = Stores::default();
        let mut write = |op| stores.txns.intern(Txn { success: vec![op], ..Txn::default() });
        let mut pins = Vec::new();
        let mut drains = Vec::new();
        for name in (0..options.nodes).map(host_name) {
            let value = format!(r#"{{"v":1,"node":"{name}"}}"#).into_bytes();
            pins.push(write(Op::Put { key: format!("{INTENTS}/pin/v"), value }));
            let (key, value) = (format!("{INTENTS}/drain/{name}"), br#"{"v":1}"#.to_vec());
            drains.push([write(Op::Delete { key: key.clone() }), write(Op::Put { key, value })]);
        }
        let daemons = Daemons::new(lease, options.mutant);
        World { options, stores, daemons, pins, drains }
    }

    /// Every host has joined (or only the first, where it is to be alone), the first one holds the
    /// VIP, and nothing is on its way.
    pub(super) fn initial(&mut self) -> State {
        let mut state = State {
            tick: 0,
            store: self.stores.empty(),
            pinned: 0,
            drained: 0,
            spent: Spent::default(),
            late: Vec::new(),
            hosts: Vec::new(),
        };
        for host in 0..self.options.nodes {
            state.hosts.push(Host::off());
            if host == 0 || !self.options.alone {
                self.start(&mut state, host);
                self.calm(&mut state);
            }
        }
        state
    }

    /// Lets everything that is on its way arrive.
    fn calm(&mut self, state: &mut State) {
        let mut moves = Vec::new();
        loop {
            self.moves(state, &mut moves);
            let orderly = |m: &&Move| {
                matches!(m, Move::Commit { .. } | Move::Tell { .. } | Move::Perform { .. })
            };
            match moves.iter().find(orderly) {
                Some(&next) => self.apply(state, next),
                None => return,
            }
        }
    }

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

    /// What is wrong with a state, if anything is.
    pub(super) fn violation(&self, state: &State) -> Option<Violation> {
        let mut answering = state.answering(self.options.fence);
        if let (Some(one), Some(other)) = (answering.next(), answering.next()) {
            return Some(Violation::Overlap(host_name(one), host_name(other)));
        }
        let refused = state.hosts.iter().position(|host| host.life == Life::Refused)?;
        Some(Violation::Refusal(host_name(refused)))
    }

    /// Makes `state` what it is after `next`.
    pub(super) fn apply(&mut self, state: &mut State, next: Move) {
        match next {
            Move::Tick { fates } => self.tick(state, fates),
            Move::Commit { host, nth } => {
                let host = usize::from(host);
                let request = state.hosts[host].requests.remove(nth.into());
                let response = self.land(state, request.txn);
                let input = Input::Committed { id: request.id, response: Some(response) };
                self.tell_node(state, host, input);
                self.echo(state, host);
            }
            Move::Land { host, nth } => {
                state.spent.slow += 1;
                let host = usize::from(host);
                let request = state.hosts[host].requests.remove(nth.into());
                let response = self.land(state, request.txn);
                let answer = Answer { id: request.id, response, old: false };
                state.hosts[host].answers.push(answer);
            }
            Move::Answer { host, nth } => {
                let host = usize::from(host);
                let answer = state.hosts[host].answers.remove(nth.into());
                let input = Input::Committed { id: answer.id, response: Some(answer.response) };
                self.tell_node(state, host, input);
            }
            Move::Delay { host, nth } => {
                state.spent.late += 1;
                let host = usize::from(host);
                let request = state.hosts[host].requests.remove(nth.into());
                self.leave_late(state, request.txn);
                let input = Input::Committed { id: request.id, response: None };
                self.tell_node(state, host, input);
            }
            Move::LandLate { nth } => {
                let txn = state.late.remove(nth.into());
                self.land(state, txn);
            }
            Move::Tell { host } => {
                let host = usize::from(host);
                self.tell_news(state, host);
            }
            Move::Perform { host } => self.perform_next(state, host.into()),
            Move::Kill { host } => {
                state.spent.crashes += 1;
                self.kill(state, host.into());
            }
            Move::Reboot { host } => {
                state.spent.reboots += 1;
                self.kill(state, host.into());
                let host = &mut state.hosts[usize::from(host)];
                host.boots += 1;
                host.present = false;
                host.until = 0;
            }
            Move::Start { host } => self.start(state, host.into()),
            Move::Pin { host } => {
                state.spent.moves += 1;
                state.pinned = host + 1;
                self.land(state, self.pins[usize::from(host)]);
            }
            Move::Drain { host, on } => {
                state.spent.drains += 1;
                state.drained ^= 1 << host;
                self.land(state, self.drains[usize::from(host)][usize::from(on)]);
            }
            Move::Stop { host } => {
                state.spent.stops += 1;
                self.tell_node(state, host.into(), Input::Stop);
            }
        }
    }

    fn tick(&mut self, state: &mut State, fates: [Fate; 3]) {
        state.tick += 1;
        for (index, fate) in fates.into_iter().enumerate().take(state.hosts.len()) {
            if state.hosts[index].life != Life::Running {
                continue;
            }
            if fate == Fate::Stalled {
                state.spent.stalls += 1;
                continue;
            }
            // A request that has not landed within a renew interval is given up, and an answer
            // that has waited in the process for a whole tick comes too late.
            let lost = std::mem::take(&mut state.hosts[index].requests);
            let (old, young): (Vec<Answer>, Vec<Answer>) =
                std::mem::take(&mut state.hosts[index].answers).into_iter().partition(|a| a.old);
            state.hosts[index].answers = young;
            state.hosts[index].answers.iter_mut().for_each(|answer| answer.old = true);
            for id in lost.iter().map(|r| r.id).chain(old.iter().map(|a| a.id)) {
                self.tell_node(state, index, Input::Committed { id, response: None });
            }
            self.wake(state, index);
        }
        for (index, fate) in fates.into_iter().enumerate().take(state.hosts.len()) {
            if fate != Fate::Stalled {
                self.renew(state, index, fate);
            }
        }
    }

    /// The renewals that host `index` has just sent meet their fate.
    fn renew(&mut self, state: &mut State, index: usize, fate: Fate) {
        let host = u8::try_from(index).expect("few");
        let renewal = |world: &World, request: &Request| {
            request.txn != LOST && world.stores.is_renewal(request.txn)
        };
        while let Some(nth) = state.hosts[index].requests.iter().position(|r| renewal(self, r)) {
            match fate {
                Fate::Prompt | Fate::Slow => {
                    let nth = u8::try_from(nth).expect("few");
                    let slow = fate == Fate::Slow;
                    let next =
                        if slow { Move::Land { host, nth } } else { Move::Commit { host, nth } };
                    self.apply(state, next);
                }
                Fate::Late => {
                    state.spent.late += 1;
                    let txn = state.hosts[index].requests[nth].txn;
                    state.hosts[index].requests[nth].txn = LOST;
                    self.leave_late(state, txn);
                }
                Fate::Lost | Fate::Stalled => state.hosts[index].requests[nth].txn = LOST,
            }
        }
    }

    /// A node that follows closely hears at once what it has just written itself.
    fn echo(&mut self, state: &mut State, index: usize) {
        if let [news] = state.hosts[index].watch.as_slice()
            && self.stores.tells_renewal(*news)
        {
            self.tell_news(state, index);
        }
    }

    /// The watch tells the next news. Renewals come in one batch: of several that a node hears at
    /// the same instant only the last matters.
    fn tell_news(&mut self, state: &mut State, index: usize) {
        loop {
            let update = state.hosts[index].watch.remove(0);
            let renewal = self.stores.tells_renewal(update);
            self.tell_node(state, index, Input::Watch { update });
            let more = state.hosts[index].watch.first();
            if !renewal || more.is_none_or(|news| !self.stores.tells_renewal(*news)) {
                return;
            }
        }
    }

    fn wake(&mut self, state: &mut State, index: usize) {
        let now = clock_micros(index, state.tick);
        for round in 0.. {
            assert!(round < 10, "a node wants to be called for ever");
            let host = &state.hosts[index];
            if host.life != Life::Running || self.daemons.timeout(host.node) > now {
                return;
            }
            self.tell_node(state, index, Input::Wake);
        }
    }

    /// A transaction reaches the store, and every watch has something to tell.
    fn land(&mut self, state: &mut State, txn: u32) -> u32 {
        let applied = self.stores.apply(state.store, txn, state.tick);
        state.store = applied.store;
        if let Some(news) = applied.news {
            for host in state.hosts.iter_mut().filter(|host| host.life == Life::Running) {
                host.watch.push(news);
            }
            let stores = &self.stores;
            state.late.retain(|&txn| !stores.is_spent(applied.store, txn));
        }
        applied.response
    }

    /// The order in which such requests were sent means nothing.
    fn leave_late(&mut self, state: &mut State, txn: u32) {
        if !self.stores.is_spent(state.store, txn) {
            let at = state.late.partition_point(|&other| other < txn);
            state.late.insert(at, txn);
        }
    }

    fn kill(&mut self, state: &mut State, index: usize) {
        let host = &mut state.hosts[index];
        host.life = Life::Killed;
        host.node = 0;
        host.watch.clear();
        host.answers.clear();
        host.ops.clear();
        let requests = std::mem::take(&mut host.requests);
        for request in requests.iter().filter(|request| request.txn != LOST) {
            self.leave_late(state, request.txn);
        }
    }

    fn start(&mut self, state: &mut State, index: usize) {
        let host = &mut state.hosts[index];
        host.life = Life::Running;
        host.incarnation += 1;
        let start = Start { host: index, incarnation: host.incarnation, boots: host.boots };
        let step = self.daemons.start(&mut self.stores, start, state.tick);
        state.hosts[index].node = step.node;
        self.carry_out(state, index, &step);
        self.wake(state, index);
    }

    fn tell_node(&mut self, state: &mut State, index: usize, input: Input) {
        let node = (index, state.hosts[index].node);
        let step = self.daemons.step(&mut self.stores, node, state.tick, input);
        state.hosts[index].node = step.node;
        self.carry_out(state, index, &step);
    }

    fn carry_out(&mut self, state: &mut State, index: usize, step: &Step) {
        for effect in step.effects.iter() {
            self.carry_out_one(state, index, *effect);
        }
    }

    fn carry_out_one(&mut self, state: &mut State, index: usize, effect: Effect) {
        let now = clock_micros(index, state.tick);
        match effect {
            Effect::Follow => {
                let snapshot = self.stores.snapshot(state.store);
                let watch = &mut state.hosts[index].watch;
                watch.clear();
                watch.push(snapshot);
            }
            Effect::Commit { id, txn } => {
                state.hosts[index].requests.push(Request { id, txn });
            }
            Effect::List { id } => {
                let present = state.hosts[index].present;
                let outcome = Outcome::Listed { present };
                self.tell_node(state, index, Input::Kernel { id, outcome });
            }
            Effect::Assume { id, until } => {
                let op = QueuedOp { id, kind: OpKind::Assume, until };
                state.hosts[index].ops.push(op);
                self.perform_quick(state, index);
            }
            Effect::Refresh { id, until } => {
                let op = QueuedOp { id, kind: OpKind::Refresh, until };
                state.hosts[index].ops.push(op);
                self.perform_quick(state, index);
            }
            Effect::Withdraw { id } => {
                // It takes the place of what is still queued.
                let queued = std::mem::take(&mut state.hosts[index].ops);
                let op = QueuedOp { id, kind: OpKind::Withdraw, until: now };
                state.hosts[index].ops.push(op);
                for op in queued {
                    let outcome = Outcome::TooLate;
                    self.tell_node(state, index, Input::Kernel { id: op.id, outcome });
                }
            }
            Effect::RemoveFence { id } => {
                state.hosts[index].until = u32::MAX;
                let outcome = Outcome::Done;
                self.tell_node(state, index, Input::Kernel { id, outcome });
            }
            Effect::Exit { refused } => {
                let host = &mut state.hosts[index];
                host.life = if refused { Life::Refused } else { Life::Stopped };
                host.watch.clear();
                host.answers.clear();
                let requests = std::mem::take(&mut host.requests);
                for request in requests.iter().filter(|request| request.txn != LOST) {
                    self.leave_late(state, request.txn);
                }
            }
        }
    }

    /// What is not slow in this world is performed at once. An addition or a refresh that comes
    /// later only answers for a shorter time.
    fn perform_quick(&mut self, state: &mut State, index: usize) {
        let slow = |kind| match kind {
            OpKind::Withdraw => true,
            OpKind::Assume | OpKind::Refresh => self.options.slow_kernel,
        };
        if state.hosts[index].ops.first().is_some_and(|op| !slow(op.kind)) {
            self.perform_next(state, index);
        }
    }

    fn perform_next(&mut self, state: &mut State, index: usize) {
        let now = clock_micros(index, state.tick);
        let host = &mut state.hosts[index];
        let op = host.ops.remove(0);
        let outcome = match op.kind {
            OpKind::Withdraw => {
                host.present = false;
                host.until = 0;
                Outcome::Done
            }
            _ if op.until <= now => Outcome::TooLate,
            OpKind::Refresh if !host.present => Outcome::TooLate,
            OpKind::Assume | OpKind::Refresh => {
                host.present = true;
                host.until = op.until;
                Outcome::Done
            }
        };
        self.tell_node(state, index, Input::Kernel { id: op.id, outcome });
        self.perform_quick(state, index);
    }
}
