//! At rest somebody holds every VIP: from a state on, all goes well, and that must come to be.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::arena::{Mixer, fingerprint};
use super::moves::{Fate, Move};
use super::state::{Host, Life, State, Used};
use super::world::{Violation, World};

/// What is known to come to rest.
#[derive(Default)]
pub(super) struct Rest {
    restful: HashSet<u128, BuildHasherDefault<Mixer>>,
    bytes: Vec<u8>,
}

impl Rest {
    /// Lets everything go well from `state` on: what is on its way arrives, daemons that were
    /// killed start again, and every renewal is prompt. Late requests never land, for that is a
    /// move of its own. If an address is then nobody's for longer than `ticks_max`, says
    /// so, with the moves that led there.
    pub(super) fn check(
        &mut self,
        world: &mut World,
        state: &State,
        ticks_max: u32,
    ) -> Option<(Violation, Vec<Move>)> {
        let mut state = state.clone();
        state.used = Used::default();
        state.gap = 0;
        state.late.clear();
        state.flying.clear();
        let mut moves = Vec::new();
        let mut passed = Vec::new();
        for ticks in 0.. {
            world.recover(&mut state, &mut moves);
            if let Some(violation) = world.violation(&state) {
                return Some((violation, moves));
            }
            state.encode(&mut self.bytes);
            let known = fingerprint(&self.bytes);
            passed.push(known);
            let missing = world.missing(&state);
            if missing.is_none() || self.restful.contains(&known) {
                self.restful.extend(passed);
                return None;
            }
            if let Some(address) = missing
                && ticks == ticks_max
            {
                return Some((Violation::Nobody(address), moves));
            }
            let tick = Move::Tick { fates: [Fate::Prompt; 3] };
            moves.push(tick);
            world.apply(&mut state, tick);
        }
        unreachable!("there is an end to every wait")
    }
}

impl World {
    /// What is on its way arrives, and what was killed starts again.
    fn recover(&mut self, state: &mut State, moves: &mut Vec<Move>) {
        loop {
            self.calm(state, |next| moves.push(next));
            // A host that has not joined yet need not.
            let returns = |host: &Host| host.life == Life::Killed && host.incarnation > 0;
            let again = state.hosts.iter().position(returns).filter(|_| !self.options.stay_down);
            let Some(index) = again else { return };
            let (host, file) = (u8::try_from(index).expect("few"), state.hosts[index].file);
            let start = Move::Start { host, file };
            moves.push(start);
            self.apply(state, start);
        }
    }
}
