//! What every commit is held to, searched on several threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use turnip_core::Mutant;

use super::{Report, SmallWorld, run, small_worlds, where_it_shows, why_not};

/// What one search found.
struct Verdict {
    well: bool,
    states: usize,
    line: String,
}

/// The small worlds are exhausted without anything wrong, and every broken rule that can show in one is
/// found. Says a line for each, in the order of their lists; whether all was as it should be.
pub fn check(threads: usize, mut say: impl FnMut(String)) -> bool {
    let (mut well, mut total) = (true, 0);
    in_order(threads, &small_worlds(), exhaust, |verdict| {
        well &= verdict.well;
        total += verdict.states;
        say(verdict.line);
    });
    say(format!("{total} states in all"));
    in_order(
        threads,
        Mutant::ALL,
        |mutant| find(*mutant),
        |verdict| {
            well &= verdict.well;
            say(verdict.line);
        },
    );
    well
}

fn exhaust(world: &SmallWorld) -> Verdict {
    let report = run(world.options);
    Verdict {
        well: report.exhausted && report.violation.is_none(),
        states: report.states,
        line: format!("{}: {}: {report}", world.name, world.about),
    }
}

fn find(mutant: Mutant) -> Verdict {
    let Some(world) = where_it_shows(mutant) else {
        let why = why_not(mutant).unwrap_or_default();
        return Verdict {
            well: true,
            states: 0,
            line: format!("{mutant:?}: does not show here: {why}"),
        };
    };
    let Report { states, violation, .. } = run(world.options);
    let well = violation.is_some();
    let line = match violation {
        None => format!("{mutant:?}: NOT FOUND in {}", world.name),
        Some((_, path)) => {
            let (name, moves) = (world.name, path.len());
            format!("{mutant:?}: found in {name} after {states} states, {moves} moves away")
        }
    };
    Verdict { well, states, line }
}

/// Does all that there is to do on so many threads, and gives what came of it in the order of the list.
fn in_order<T: Sync, R: Send>(
    threads: usize,
    list: &[T],
    one: impl Fn(&T) -> R + Sync,
    mut done: impl FnMut(R),
) {
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.min(list.len()) {
            let (send, next, one) = (send.clone(), &next, &one);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = list.get(index) else { break };
                    let _ = send.send((index, one(item)));
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut given = 0;
        for (index, result) in receive {
            early.insert(index, result);
            while let Some(result) = early.remove(&given) {
                done(result);
                given += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_threads_find_is_given_in_the_order_of_the_list() {
        let list: Vec<u64> = (0..50).collect();
        for threads in [1, 3, 100] {
            let mut given = Vec::new();
            let slowest_first = |number: &u64| {
                thread::sleep(std::time::Duration::from_micros(500 - 10 * number));
                *number
            };
            in_order(threads, &list, slowest_first, |number| given.push(number));
            assert_eq!(given, list);
        }
    }
}
