//! What a host of the small world does with what happens to it: its daemon is told, and what that
//! asks for is carried out.

use super::adapters::KernelInput;
use super::daemon::{Effect, Input, Start, Step};
use super::state::{LOST, Life, Request, State};
use super::world::World;

impl World {
    /// A node that follows closely hears at once what it has just written itself.
    pub(super) fn echo(&mut self, state: &mut State, index: usize) {
        let host = &state.hosts[index];
        if let ([event], false) = (host.watch.as_slice(), host.watch_stalled)
            && self.stores.is_renewal_event(*event)
        {
            self.hear(state, index);
        }
    }

    /// A node hears the next event. Renewals come in one batch: of several that a node hears at the
    /// same instant only the last matters.
    pub(super) fn hear(&mut self, state: &mut State, index: usize) {
        loop {
            let update = state.hosts[index].watch.remove(0);
            let renewal = self.stores.is_renewal_event(update);
            self.feed(state, index, Input::Watch { update });
            let more = state.hosts[index].watch.first();
            if !renewal || more.is_none_or(|event| !self.stores.is_renewal_event(*event)) {
                return;
            }
        }
    }

    pub(super) fn wake(&mut self, state: &mut State, index: usize) {
        let now = self.daemons.clocks.micros(index, state.tick);
        for round in 0.. {
            assert!(round < 10, "a node wants to be called for ever");
            let host = &state.hosts[index];
            if host.life != Life::Running || self.daemons.timeout(host.node) > now {
                return;
            }
            self.feed(state, index, Input::Wake);
        }
    }

    /// A transaction reaches the store, and every watch has something to tell.
    pub(super) fn land(&mut self, state: &mut State, txn: u32) -> u32 {
        let applied = self.stores.apply(state.store, txn, state.tick);
        state.store = applied.store;
        if let Some(event) = applied.event {
            for host in state.hosts.iter_mut().filter(|host| host.life == Life::Running) {
                host.watch.push(event);
            }
            let stores = &self.stores;
            state.late.retain(|&txn| !stores.is_obsolete(applied.store, txn));
        }
        applied.response
    }

    /// The order in which such requests were sent means nothing.
    pub(super) fn leave_late(&mut self, state: &mut State, txn: u32) {
        if self.may_be_late(txn) && !self.stores.is_obsolete(state.store, txn) {
            let at = state.late.partition_point(|&other| other < txn);
            state.late.insert(at, txn);
        }
    }

    pub(super) fn kill(&mut self, state: &mut State, index: usize) {
        self.end(state, index, Life::Killed);
    }

    /// The daemon is no more; what it sent to the store may still land.
    fn end(&mut self, state: &mut State, index: usize, life: Life) {
        let host = &mut state.hosts[index];
        host.life = life;
        host.watch_stalled = false;
        if life == Life::Killed {
            host.node = 0;
        }
        host.watch.clear();
        host.answers.clear();
        let requests = std::mem::take(&mut host.requests);
        for request in requests.iter().filter(|request| request.txn != LOST) {
            self.leave_late(state, request.txn);
        }
        self.kernel(state, index, KernelInput::Abandon);
    }

    pub(super) fn start(&mut self, state: &mut State, index: usize, file: u8) {
        let host = &mut state.hosts[index];
        host.life = Life::Running;
        host.file = file;
        host.incarnation += 1;
        self.kernel(state, index, KernelInput::Start { file });
        let host = &state.hosts[index];
        let start = Start { host: index, incarnation: host.incarnation, boots: host.boots, file };
        let step = self.daemons.start(&mut self.stores.messages, start, state.tick);
        state.hosts[index].node = step.node;
        self.carry_out(state, index, &step);
        self.wake(state, index);
    }

    /// Gives a node an input, and carries out what it asks for.
    pub(super) fn feed(&mut self, state: &mut State, index: usize, input: Input) {
        let node = (index, state.hosts[index].node);
        let step = self.daemons.step(&mut self.stores.messages, node, state.tick, input);
        state.hosts[index].node = step.node;
        self.carry_out(state, index, &step);
    }

    fn carry_out(&mut self, state: &mut State, index: usize, step: &Step) {
        for effect in step.effects.iter() {
            match *effect {
                Effect::Follow => {
                    let snapshot = self.stores.snapshot(state.store);
                    let host = &mut state.hosts[index];
                    host.watch_stalled = false;
                    host.watch.clear();
                    host.watch.push(snapshot);
                }
                Effect::Commit { id, txn } => {
                    let reaches = self.reaches_store(index, state.tick);
                    let txn = if reaches || !self.stores.is_renewal(txn) { txn } else { LOST };
                    state.hosts[index].requests.push(Request { id, txn });
                }
                Effect::Kernel { id, op } => self.kernel(state, index, KernelInput::Op { id, op }),
                Effect::Send { to, datagram } => self.send(state, index, (to, datagram)),
                Effect::Exit { refused } => {
                    let life = if refused { Life::Refused } else { Life::Stopped };
                    self.end(state, index, life);
                }
            }
        }
    }

    /// Gives a kernel an input, and its daemon what it answers.
    pub(super) fn kernel(&mut self, state: &mut State, index: usize, input: KernelInput) {
        let kernel = (index, state.hosts[index].kernel);
        let step = self.adapters.step(&mut self.stores.messages, kernel, state.tick, input);
        state.hosts[index].kernel = step.kernel;
        for &(id, outcome) in step.answers.iter() {
            if state.hosts[index].life == Life::Running {
                self.feed(state, index, Input::Kernel { id, outcome });
            }
        }
    }
}
