//! Runs a plan under madsim, and judges the run.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;

use crate::check::{Held, Span};
use crate::daemon;
use crate::judge;
pub use crate::judge::Failure;
use crate::plan::Plan;
use crate::record::{Mark, Tally};
use crate::script::Happening;
use crate::time::True;
use crate::world::control::Control;
use crate::world::neighbours::Misled;
use crate::world::{Pump, World};

thread_local! {
    /// The world of this thread's run: madsim starts a node's first task by a function that can
    /// carry nothing of one thread.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The node of each host, once its daemon was started.
type Nodes = Rc<RefCell<Vec<Option<NodeId>>>>;

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What must not be, and was.
    pub failures: Vec<Failure>,
    /// How often things happened.
    pub tally: Tally,
    /// The longest overlap of an address, in ns.
    pub overlap_max: u64,
    /// The longest overlap of hosts of different clusters, in ns: nobody promises anything of it.
    pub foreign_overlap_max: u64,
    /// All overlaps.
    pub overlaps: Vec<Span>,
    /// All gaps, from the beginning to the orderly stop.
    pub gaps: Vec<Span>,
    /// Who answered when.
    pub held: Vec<Held>,
    /// When clients looked for an address at the wrong host.
    pub misled: Vec<Misled>,
    /// Who led etcd when.
    pub marks: Vec<(True, Mark)>,
    /// The most often that an address came to another host.
    pub moves_max: u64,
    /// The trace, if one was wanted.
    pub trace: Vec<String>,
    /// Turns of the daemons' loops.
    pub turns: u64,
    /// When a scenario from a file began, and whether all VIPs were held then.
    pub began: Option<(True, bool)>,
    /// What of it happened, to whom.
    pub happened: Vec<Happening>,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan, tracing: bool) -> Outcome {
    run_and_leave(plan, tracing).0
}

/// The same, and what is left of the world: nothing.
fn run_and_leave(plan: &Plan, tracing: bool) -> (Outcome, Weak<World>) {
    let runtime = Runtime::with_seed_and_config(plan.seed, madsim::Config::default());
    let nodes: Nodes = Rc::new(RefCell::new(vec![None; plan.params.hosts]));
    let world = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&world);
    let settled = Rc::new(RefCell::new(Vec::new()));
    let judged = Rc::clone(&settled);
    let result = catch_unwind(AssertUnwindSafe(|| {
        run_world(&runtime, &nodes, plan, tracing, &kept, judged);
    }));
    WORLD.with(|current| current.borrow_mut().take());
    let world: Rc<World> = world.borrow_mut().take().expect("made at the very beginning");
    let mut outcome = judge::judge(&world, settled.take(), result.is_ok());
    if let Err(panic) = result {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        outcome.failures.push(Failure::Panicked(text.unwrap_or_default()));
    }
    end(&runtime, &nodes);
    (outcome, Rc::downgrade(&world))
}

fn run_world(
    runtime: &Runtime,
    nodes: &Nodes,
    plan: &Plan,
    tracing: bool,
    kept: &RefCell<Option<Rc<World>>>,
    settled: Rc<RefCell<Vec<Failure>>>,
) {
    let (handle, nodes) = (runtime.handle().clone(), Rc::clone(nodes));
    let plan = Rc::new(plan.clone());
    runtime.block_on(async move {
        let time = madsim::time::TimeHandle::current();
        let world = World::new(Rc::clone(&plan), tracing, time);
        *kept.borrow_mut() = Some(Rc::clone(&world));
        WORLD.with(|current| *current.borrow_mut() = Some(Rc::clone(&world)));
        let judged = Rc::clone(&world);
        let control = move |control| match control {
            Control::Judge => *settled.borrow_mut() = judge::settled(&judged.inner()),
            control => obey(&handle, &mut nodes.borrow_mut(), control),
        };
        Pump::new(world, control).await;
    });
}

/// Ends what still waits: a task of madsim holds itself until it is dropped, and with it the world.
fn end(runtime: &Runtime, nodes: &Nodes) {
    let handle = runtime.handle().clone();
    nodes.borrow().iter().flatten().for_each(|node| handle.kill(*node));
    // The executor drops them in its next turns.
    runtime.block_on(async { madsim::time::sleep(Duration::from_millis(1)).await });
}

/// Does with a daemon's futures what happened to its process.
fn obey(handle: &Handle, nodes: &mut [Option<NodeId>], control: Control) {
    match control {
        Control::Start(host) => match nodes[host] {
            Some(node) => handle.restart(node),
            None => {
                let node =
                    handle.create_node().name(format!("h{}", host + 1)).init(move || async move {
                        let world = WORLD.with(|world| world.borrow().clone());
                        daemon::run(world.expect("a run has a world"), host).await;
                    });
                nodes[host] = Some(node.build().id());
            }
        },
        Control::Kill(host) => nodes[host].into_iter().for_each(|node| handle.kill(node)),
        Control::Pause(host) => nodes[host].into_iter().for_each(|node| handle.pause(node)),
        Control::Resume(host) => nodes[host].into_iter().for_each(|node| handle.resume(node)),
        Control::Judge => unreachable!("that is about no daemon"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use turnip_core::Mutant;

    use super::*;
    use crate::plan::{Daemon, Fault};
    use crate::play;
    use crate::script::Script;

    #[test]
    fn nothing_of_a_run_is_left_when_it_has_ended() {
        // Of a scenario file daemons run to the end, or are frozen then.
        let text = "[[fault]]\nat = \"1s\"\nfreeze = \"h2\"\n";
        let script = Script::parse(Path::new("frozen.toml"), text).unwrap();
        let plan = play::plan(&script, 1, Daemon::Turnip(None));
        assert_eq!(run_and_leave(&plan, false).1.strong_count(), 0);
    }

    #[test]
    fn nothing_of_a_run_is_left_that_panicked() {
        let mut plan = Plan::quiet();
        plan.params.daemon = Daemon::Turnip(Some(Mutant::ClaimFromTheLate));
        plan.fault(8_000, 2_300, Fault::CutStore { host: 0 });
        plan.fault(8_000, 2_300, Fault::CutStore { host: 1 });
        let (outcome, world) = run_and_leave(&plan, false);
        let panicked = |one: &Failure| matches!(one, Failure::Panicked(_));
        assert!(outcome.failures.iter().any(panicked), "{:?}", outcome.failures);
        assert_eq!(world.strong_count(), 0);
    }
}
