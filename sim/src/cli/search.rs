//! `exhaustive`.

use crate::exhaustive::{self, large_worlds, small_worlds, wide_world};
use crate::plan::Daemon;

use super::say::say;
use super::{ExhaustiveArgs, jobs};

pub(super) fn exhaustive(args: &ExhaustiveArgs) -> bool {
    // A search that panics tells nothing of its own: say where.
    drop(std::panic::take_hook());
    let Some(name) = &args.world else {
        return exhaustive::check(jobs(None), |line| say!("{line}"));
    };
    if name == "large" {
        let all = large_worlds().into_iter().map(|world| {
            let report = exhaustive::run(world.options);
            say!("{}: {}: {report}", world.name, world.about);
            report.violation.is_none()
        });
        return all.fold(true, |well, one| well & one);
    }
    let worlds = small_worlds().into_iter().chain(large_worlds()).chain([wide_world()]);
    let worlds: Vec<_> = worlds.collect();
    let Some(world) = worlds.iter().find(|world| world.name == name.as_str()) else {
        let names: Vec<_> = worlds.iter().map(|world| world.name).collect();
        eprintln!("there is no world {name:?}: {} are", names.join(", "));
        return false;
    };
    let mut options = world.options;
    if let Some(most) = args.max_states {
        options.states_max = most;
    }
    if let Some(Daemon::Turnip(mutant)) = args.algorithm {
        options.mutant = mutant;
    }
    let report = exhaustive::run_with_progress(options, |states, depth| {
        eprintln!("{states} states, depth {depth}");
    });
    say!("{report}");
    report.violation.is_none()
}
