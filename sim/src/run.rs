//! Runs a plan under madsim, and judges the run.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;

use crate::check::{Held, Span};
use crate::daemon;
use crate::judge;
use crate::plan::Plan;
use crate::record::{Mark, Tally};
use crate::time::{S, True};
use crate::world::control::Control;
use crate::world::{Pump, World};

thread_local! {
    /// The world of this thread's run: madsim starts a node's first task by a function that can
    /// carry nothing of one thread.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Two hosts answered at once.
    Overlap(Span),
    /// After everything healed, a VIP was not on exactly one host, whole.
    NotHeld { vip: usize, hosts: Vec<usize> },
    /// After everything healed, a VIP still moved when all should have been in order.
    NotSettled { vip: usize, after_ns: u64 },
    /// After everything healed, a VIP was not where its policy wants it.
    Misplaced { vip: usize, on: usize, wanted: usize },
    /// A daemon that was asked to stop did not.
    StillRuns { host: usize },
    /// A stopped daemon left something behind.
    LeftBehind { host: usize, what: String },
    /// A stopped daemon left its session in the store.
    SessionLeft { host: usize },
    /// A daemon refused to run, or to go on, without a reason.
    Refused { host: usize, why: String },
    /// Something panicked.
    Panicked(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Overlap(span) => {
                let hosts: Vec<u32> = (0..32).filter(|host| span.hosts >> host & 1 == 1).collect();
                write!(
                    f,
                    "v{} answered on hosts {hosts:?} at once for {} ns from {:.9} s",
                    span.vip,
                    span.length(),
                    span.from as f64 / S as f64
                )
            }
            Failure::NotHeld { vip, hosts } => {
                write!(f, "after healing v{vip} was on hosts {hosts:?} instead of exactly one")
            }
            Failure::NotSettled { vip, after_ns } => write!(
                f,
                "v{vip} still moved {:.3} s after everything had healed",
                *after_ns as f64 / S as f64
            ),
            Failure::Misplaced { vip, on, wanted } => {
                write!(
                    f,
                    "after healing v{vip} stayed on host {on}; its policy wants host {wanted}"
                )
            }
            Failure::StillRuns { host } => write!(f, "host {host}'s daemon did not stop"),
            Failure::LeftBehind { host, what } => {
                write!(f, "host {host}'s daemon stopped and left behind {what}")
            }
            Failure::SessionLeft { host } => {
                write!(f, "host {host}'s daemon stopped and left its session")
            }
            Failure::Refused { host, why } => write!(f, "host {host}'s daemon refused: {why}"),
            Failure::Panicked(what) => write!(f, "panicked: {what}"),
        }
    }
}

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What must not be, and was.
    pub failures: Vec<Failure>,
    /// How often things happened.
    pub tally: Tally,
    /// The longest overlap of a VIP, in ns.
    pub overlap_max: u64,
    /// All overlaps.
    pub overlaps: Vec<Span>,
    /// All gaps, from the beginning to the orderly stop.
    pub gaps: Vec<Span>,
    /// Who answered when.
    pub held: Vec<Held>,
    /// Who led etcd when.
    pub marks: Vec<(True, Mark)>,
    /// The most often that a VIP came to another host.
    pub moves_max: u64,
    /// The trace, if one was wanted.
    pub trace: Vec<String>,
    /// Turns of the daemons' loops.
    pub turns: u64,
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
                let node = handle.create_node().name(format!("n{host}")).init(move || async move {
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
