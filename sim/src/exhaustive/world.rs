//! What comes of the things that happen in the small world.

use turnip_core::records::{DrainRecord, PinRecord, encode};
use turnip_core::{Keys, Lease, NodeName, Op, Txn};

use super::Options;
use super::daemon::{
    Daemons, Effect, Input, Outcome, Start, Step, clock_micros, cluster, host_name, vip,
};
use super::moves::{Fate, Move};
use super::state::{Answer, Host, LOST, Life, OpKind, QueuedOp, Request, Spent, State};
use super::store::Stores;

/// What must never be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Two hosts answer for the VIP at the same instant.
    Overlap(&'static str, &'static str),
    /// A daemon takes another of its own processes for a stranger and ends.
    Refusal(&'static str),
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
        let keys = Keys::new(&cluster());
        let mut stores = Stores::new(keys.clone());
        let mut write = |op| stores.txns.intern(Txn { success: vec![op], ..Txn::default() });
        let mut pins = Vec::new();
        let mut drains = Vec::new();
        for name in (0..options.nodes).map(host_name) {
            let node: NodeName = name.parse().expect("a name");
            let (key, value) = (keys.drain(&node), encode(&DrainRecord {}));
            pins.push(write(Op::Put {
                key: keys.pin(&vip().name),
                value: encode(&PinRecord { node }),
            }));
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
                queue(state, index, QueuedOp { id, kind: OpKind::Assume, until });
                self.perform_quick(state, index);
            }
            Effect::Refresh { id, until } => {
                queue(state, index, QueuedOp { id, kind: OpKind::Refresh, until });
                self.perform_quick(state, index);
            }
            Effect::Withdraw { id } => {
                // There is one VIP: what waits for it and puts it there is cancelled as a whole.
                let queued = &mut state.hosts[index].ops;
                let puts = |op: &mut QueuedOp| op.kind != OpKind::Withdraw;
                let cancelled: Vec<_> = queued.extract_if(.., puts).collect();
                queue(state, index, QueuedOp { id, kind: OpKind::Withdraw, until: now });
                for op in cancelled {
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

/// Queues an operation for the kernel of a host, as adapters do.
fn queue(state: &mut State, index: usize, op: QueuedOp) {
    let queued = &mut state.hosts[index].ops;
    let overtaken = |waiting: &QueuedOp| op.kind.op().overtakes(&waiting.kind.op());
    let place = queued.iter().position(overtaken).unwrap_or(queued.len());
    queued.insert(place, op);
}
