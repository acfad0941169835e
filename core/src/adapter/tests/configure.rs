//! Other addresses than before (rule 14.3).

use super::super::{Call, Change, Fenced};
use super::kernel::*;
use crate::kernel::{KernelError, KernelOp, KernelOutcome};
use crate::lease::Backstop::{Fence, Lifetime};

fn configure(hosts: impl IntoIterator<Item = u32>) -> KernelOp {
    KernelOp::Configure { addresses: addresses(hosts) }
}

/// Rule 14.3.
#[test]
fn what_is_held_goes_on_and_what_has_become_a_vip_is_silent_until_it_is_held() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1], at(9_000)), done());
    let gate = world.gate();
    // Somebody has the third already.
    world.kernel.present.insert(super::super::lifetimes::place(&address(3)), (false, None));
    assert!(world.answers(3));
    let id = world.ask(configure([1, 3]));
    while world.step() {
        assert!(world.answers(1), "not for a packet");
    }
    assert_eq!(world.outcome(id), Some(done()));
    assert!(world.answers(1) && !world.answers(3));
    assert_eq!(world.gate(), gate);
    assert_eq!(world.refresh(at(9_500)), done());
    assert_eq!(world.assume([3], at(9_500)), done());
    assert!(world.answers(1) && world.answers(3));
}

/// Rule 14.3.
#[test]
fn what_is_no_vip_any_more_is_silent_until_it_is_gone() {
    let mut world = World::new(Fence, 2, None);
    let gone = super::super::lifetimes::place(&address(2));
    world.kernel.present.insert(gone.clone(), (true, None));
    assert_eq!(world.perform(configure([1])), done());
    let fenced = Fenced::from(&address(2));
    assert!(matches!(world.perform(KernelOp::List), KernelOutcome::Listed(_)));
    assert!(world.tables().vips.contains(&fenced), "it is there still");
    world.kernel.present.remove(&gone);
    assert!(matches!(world.perform(KernelOp::List), KernelOutcome::Listed(_)));
    assert!(!world.tables().vips.contains(&fenced));
}

/// Rule 14.3.
#[test]
fn where_the_fence_could_not_follow_nothing_is_put_there_before_it_has() {
    let mut world = World::new(Fence, 1, None);
    let refuses = |world: &mut World, refuses: bool| world.kernel.refuses_layouts = refuses;
    refuses(&mut world, true);
    let no = KernelOutcome::Failed(KernelError::Refused("no".into()));
    assert_eq!(world.perform(configure([1, 2])), no);
    let KernelOutcome::Done { failed, .. } = world.assume([2], at(9_000)) else { panic!() };
    assert_eq!(failed.len(), 1, "it would not be silent at its deadline");
    assert!(!world.is_present(2));
    refuses(&mut world, false);
    assert_eq!(world.assume([2], at(9_000)), done());
    assert!(world.answers(2) && world.tables().vips.contains(&Fenced::from(&address(2))));
}

#[test]
fn the_fence_is_changed_before_anything_of_the_new_is_put_there() {
    let mut world = World::new(Fence, 1, None);
    world.ask(configure([1, 2]));
    world.ask(KernelOp::Assume { addresses: addresses([2]), deadline: at(9_000) });
    world.run();
    let layout = |call: &Call| match call {
        Call::Change(transaction) => {
            transaction.changes.iter().any(|change| matches!(change, Change::Layout { .. }))
        }
        _ => false,
    };
    let put = |call: &Call| matches!(call, Call::Put { .. });
    assert!(world.calls.iter().position(layout) < world.calls.iter().position(put));
    assert!(world.answers(2));
}

#[test]
fn by_lifetimes_there_is_nothing_to_change() {
    let mut world = World::new(Lifetime, 1, None);
    assert_eq!(world.perform(configure([1, 2])), done());
    assert!(world.calls.is_empty());
}
