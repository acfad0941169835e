//! Runs a plan under madsim, and judges the run.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

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
    let world = Rc::new(RefCell::new(None));
    let kept = Rc::clone(&world);
    let settled = Rc::new(RefCell::new(Vec::new()));
    let judged = Rc::clone(&settled);
    let result = catch_unwind(AssertUnwindSafe(|| run_world(plan, tracing, &kept, judged)));
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
    outcome
}

fn run_world(
    plan: &Plan,
    tracing: bool,
    kept: &RefCell<Option<Rc<World>>>,
    settled: Rc<RefCell<Vec<Failure>>>,
) {
    let runtime = Runtime::with_seed_and_config(plan.seed, madsim::Config::default());
    let handle = runtime.handle().clone();
    let plan = Rc::new(plan.clone());
    runtime.block_on(async move {
        let time = madsim::time::TimeHandle::current();
        let world = World::new(Rc::clone(&plan), tracing, time);
        *kept.borrow_mut() = Some(Rc::clone(&world));
        WORLD.with(|current| *current.borrow_mut() = Some(Rc::clone(&world)));
        let mut nodes: Vec<Option<NodeId>> = vec![None; plan.params.hosts];
        let judged = Rc::clone(&world);
        let control = move |control| match control {
            Control::Judge => *settled.borrow_mut() = judge::settled(&judged.inner()),
            control => obey(&handle, &mut nodes, control),
        };
        Pump::new(world, control).await;
    });
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
