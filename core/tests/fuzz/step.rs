//! What can happen to a node, and how often it does.

use proptest::prelude::*;
use turnip_core::{Assignment, Conflict, KernelEvent, Link, Mac};

/// One thing that happens to the node or around it.
#[derive(Clone, Debug)]
pub enum Step {
    /// The transaction reaches the store; its answer stays on its way.
    Apply(usize),
    /// The transaction reaches the store and the answer the node.
    Commit(usize),
    /// An answer that was on its way arrives.
    Answer(usize),
    /// The node is told that there was no answer; the transaction may land later.
    Fail(usize),
    /// A transaction that was given up lands.
    Land(usize),
    /// An answer that no store would give.
    Nonsense { which: usize, succeeded: bool, revision: i64, gets: usize },
    /// An answer to nothing that was asked.
    Unasked,
    /// Somebody else writes.
    Write(Write),
    /// The watch brings the next revisions.
    Tell(usize),
    /// The watch begins with a snapshot, fresh or as it was.
    Snapshot { fresh: bool },
    /// The watch breaks.
    WatchBreaks,
    /// The next kernel operation is performed and answered.
    Perform(Kerneling),
    /// The kernel tells something unasked.
    Tells(KernelEvent),
    /// Somebody adds the first address of a VIP, or takes it away.
    Meddle { vip: usize, add: bool },
    /// Time passes until the node wants to be called.
    Wake,
    /// Time passes, and the node is called.
    Pass(u64),
    /// The etcd member answers.
    Member(Option<u64>),
    /// A check of what stands behind the first VIP is tried.
    Attempt(bool),
    /// A hook ends.
    HookEnds { which: usize, well: bool },
    /// The operator stops the node.
    Stop { at_once: bool },
}

/// How the kernel answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kerneling {
    Well,
    TooLate,
    NoInterface,
    Refuses,
    Fails,
}

/// What somebody else writes.
#[derive(Clone, Debug)]
pub enum Write {
    /// Another node renews or opens its session, and offers what it can take.
    Other,
    OtherGone,
    /// A VIP is given to somebody.
    Give {
        vip: usize,
        to: Whom,
    },
    Drain {
        own: bool,
        on: bool,
    },
    Pin {
        vip: usize,
        to: Option<bool>,
    },
    /// The own session key is written by a stranger or deleted.
    Stranger {
        host: bool,
    },
    OwnGone,
    Garbage(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Whom {
    Node,
    Other,
    Nobody,
    Ghost,
}

pub fn steps(chaos: bool, count: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(chaos), 1..count)
}

fn step(chaos: bool) -> impl Strategy<Value = Step> {
    let which = || 0..8usize;
    let sane = prop_oneof![
        8 => which().prop_map(Step::Commit),
        3 => which().prop_map(Step::Apply),
        3 => which().prop_map(Step::Answer),
        3 => which().prop_map(Step::Fail),
        2 => which().prop_map(Step::Land),
        1 => Just(Step::Unasked),
        4 => write(chaos).prop_map(Step::Write),
        8 => (1..4usize).prop_map(Step::Tell),
        3 => Just(Step::Snapshot { fresh: true }),
        1 => Just(Step::WatchBreaks),
        12 => Just(Step::Perform(Kerneling::Well)),
        3 => kerneling().prop_map(Step::Perform),
        2 => kernel_event().prop_map(Step::Tells),
        2 => (0..3usize, any::<bool>()).prop_map(|(vip, add)| Step::Meddle { vip, add }),
        10 => Just(Step::Wake),
        4 => (0..700u64).prop_map(Step::Pass),
        1 => (700..4000u64).prop_map(Step::Pass),
        1 => prop::option::of(1..4u64).prop_map(Step::Member),
        4 => (which(), prop::bool::weighted(0.8))
            .prop_map(|(which, well)| Step::HookEnds { which, well }),
    ];
    if !chaos {
        return sane.boxed();
    }
    let insane = prop_oneof![
        3 => (which(), any::<bool>(), 0..40i64, 0..4usize).prop_map(
            |(which, succeeded, revision, gets)| Step::Nonsense { which, succeeded, revision, gets }
        ),
        2 => Just(Step::Snapshot { fresh: false }),
        4 => any::<bool>().prop_map(Step::Attempt),
        1 => any::<bool>().prop_map(|at_once| Step::Stop { at_once }),
    ];
    prop_oneof![15 => sane, 1 => insane].boxed()
}

fn kerneling() -> impl Strategy<Value = Kerneling> {
    prop_oneof![
        Just(Kerneling::TooLate),
        Just(Kerneling::NoInterface),
        Just(Kerneling::Refuses),
        Just(Kerneling::Fails),
    ]
}

fn kernel_event() -> impl Strategy<Value = KernelEvent> {
    prop_oneof![
        4 => Just(KernelEvent::AddressChanged),
        1 => Just(KernelEvent::Lost),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(up, carrier)| {
            KernelEvent::LinkChanged(Link { name: "eth0".into(), up, carrier })
        }),
        1 => Just(KernelEvent::LinkGone("eth0".into())),
        1 => Just(KernelEvent::AnnounceAnew("eth0".into())),
        1 => any::<u8>().prop_map(|machine| KernelEvent::Conflict(conflict(machine))),
    ]
}

/// Another machine claims an address of the first VIP.
fn conflict(machine: u8) -> Conflict {
    let assignment = Assignment {
        vip: "v0".parse().unwrap(),
        interface: "eth0".into(),
        address: "10.0.0.50/32".parse().unwrap(),
    };
    Conflict { assignment, heard_on: "eth0".into(), mac: Mac([2, 0, 0, 0, 0, machine]) }
}

fn write(chaos: bool) -> impl Strategy<Value = Write> {
    let whom =
        prop_oneof![Just(Whom::Node), Just(Whom::Other), Just(Whom::Nobody), Just(Whom::Ghost)];
    let sane = prop_oneof![
        4 => Just(Write::Other),
        1 => Just(Write::OtherGone),
        3 => (0..3usize, whom).prop_map(|(vip, to)| Write::Give { vip, to }),
        2 => any::<(bool, bool)>().prop_map(|(own, on)| Write::Drain { own, on }),
        2 => (0..3usize, any::<Option<bool>>()).prop_map(|(vip, to)| Write::Pin { vip, to }),
        1 => Just(Write::OwnGone),
    ];
    if !chaos {
        return sane.boxed();
    }
    let insane = prop_oneof![
        any::<bool>().prop_map(|host| Write::Stranger { host }),
        (0..6usize).prop_map(Write::Garbage),
    ];
    prop_oneof![8 => sane, 1 => insane].boxed()
}
