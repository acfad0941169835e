//! Breadth first through everything that can happen.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::arena::{Mixer, fingerprint};
use super::frontier::{Frontier, Waiting};
use super::moves::Move;
use super::rest::Rest;
use super::state::State;
use super::world::{Violation, World};

/// Why a search ends early.
const ROOM: &str = "room for states in the directory for temporary files";

type Fingerprints = HashSet<u128, BuildHasherDefault<Mixer>>;

/// What a search came to.
pub(super) struct Found {
    pub(super) states: usize,
    pub(super) depth: usize,
    /// From how many states on it was checked that all comes to rest.
    pub(super) rested: usize,
    /// How many hosts at once had another session than at the beginning, or none.
    pub(super) expired: usize,
    /// The longest gap, in ticks; counted where there is a bound on it.
    pub(super) gap: u8,
    /// Whether there was nothing left to look at.
    pub(super) exhausted: bool,
    pub(super) violation: Option<(Violation, Vec<Move>)>,
}

/// How a state was first reached.
struct Trail {
    parents: Vec<u32>,
    moves: Vec<u16>,
}

impl Trail {
    fn path_to(&self, mut state: usize) -> Vec<Move> {
        let mut path = Vec::new();
        while state != 0 {
            path.push(Move::decode(self.moves[state]));
            state = self.parents[state] as usize;
        }
        path.reverse();
        path
    }
}

/// How far to search.
pub(super) struct Bounds {
    /// Visit no more states than these.
    pub(super) states_max: usize,
    /// Check that it comes to rest in so many ticks, from those states of the last tick whose
    /// fingerprint ends with so many zeros.
    pub(super) rest_ticks_max: u32,
    pub(super) rest_zeros: u32,
}

/// Visits every state that can be reached from the initial one, nearest first, until one is
/// wrong, there is none left, or `states_max` have been visited. `progress` is told now and then.
pub(super) fn search(
    world: &mut World,
    bounds: Bounds,
    mut progress: impl FnMut(usize, usize, &World),
) -> Found {
    let mut bytes = Vec::new();
    let initial = world.initial();
    initial.encode(&mut bytes);
    let mut seen = Fingerprints::default();
    seen.insert(fingerprint(&bytes));
    let mut trail = Trail { parents: vec![0], moves: vec![0] };
    let mut frontier = Frontier::default();
    frontier.push(0, 0, &bytes).expect(ROOM);
    let mut moves = Vec::new();
    let mut depth = 0;
    let mut rested = 0;
    let mut expired = 0;
    let mut gap = 0;
    let mut rest = Rest::default();

    while let Some(Waiting { number: index, depth: at_depth, encoded }) =
        frontier.pop().expect(ROOM)
    {
        depth = at_depth as usize;
        let state = State::decode(encoded);
        world.moves(&state, &mut moves);
        for &next in &moves {
            let mut successor = state.clone();
            world.apply(&mut successor, next);
            successor.encode(&mut bytes);
            let known = fingerprint(&bytes);
            if !seen.insert(known) {
                continue;
            }
            let number = trail.parents.len();
            trail.parents.push(index);
            trail.moves.push(next.encode());
            let mut wrong = world.violation(&successor).map(|violation| (violation, Vec::new()));
            if matches!(next, Move::Tick { .. } | Move::Commit { .. }) {
                expired = expired.max(world.expired(&successor));
            }
            gap = gap.max(successor.gap);
            let last = successor.tick == world.options.last_tick();
            if wrong.is_none() && last && known.trailing_zeros() >= bounds.rest_zeros {
                rested += 1;
                wrong = rest.check(world, &successor, bounds.rest_ticks_max);
            }
            if let Some((violation, further)) = wrong {
                let mut path = trail.path_to(number);
                path.extend(further);
                let violation = Some((violation, path));
                return Found {
                    states: number,
                    depth: depth + 1,
                    rested,
                    expired,
                    gap,
                    exhausted: false,
                    violation,
                };
            }
            if number.is_multiple_of(1_000_000) {
                progress(number, depth, world);
            }
            let number = u32::try_from(number).expect("fewer than 2^32 states");
            frontier.push(number, at_depth + 1, &bytes).expect(ROOM);
        }
        if trail.parents.len() >= bounds.states_max {
            break;
        }
    }
    let exhausted = frontier.is_empty();
    Found { states: trail.parents.len(), depth, rested, expired, gap, exhausted, violation: None }
}
