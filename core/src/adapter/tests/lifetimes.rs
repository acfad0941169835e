//! The clock and the lifetimes: where they are the proof, and beside the fence.

use std::time::Duration;

use super::super::Call;
use super::holds_unless;
use super::kernel::*;
use crate::kernel::{KernelError, KernelOp, KernelOutcome};
use crate::lease::Backstop::{Fence, Lifetime};
use crate::mutant::Mutant;

fn until(outcome: &KernelOutcome) -> Option<crate::Instant> {
    match outcome {
        KernelOutcome::Done { until, .. } => *until,
        other => panic!("{other:?}"),
    }
}

/// The kernel looks up to a second late for what has outlived its lifetime.
fn may_be_there(world: &World, host: u32, when: crate::Instant) -> bool {
    let place = ("lo".into(), address(host).address);
    world
        .kernel
        .present
        .get(&place)
        .is_some_and(|(_, ends)| ends.is_none_or(|ends| ends + Duration::from_secs(1) > when))
}

/// Rule 8.8.
#[test]
fn by_lifetimes_an_address_goes_by_itself_before_its_deadline_and_the_answer_says_when() {
    holds_unless(Mutant::LifetimeRoundedUp, Lifetime, |world| {
        let outcome = world.assume([1], at(5_000));
        let said = until(&outcome).unwrap();
        said <= at(4_000) && said > at(3_000) && !may_be_there(world, 1, at(5_000))
    });
}

#[test]
fn by_lifetimes_every_refresh_renews_all_of_them() {
    let mut world = World::new(Lifetime, 200, None);
    world.assume(1..=200, at(5_000));
    world.now = at(2_000);
    let outcome = world.refresh(at(6_100));
    assert!(until(&outcome).unwrap() >= at(5_000));
    assert!((1..=200).all(|host| world.is_present(host)));
    world.now = at(4_600);
    assert!((1..=200).all(|host| world.is_present(host)));
}

/// Rule 8.1.
#[test]
fn by_lifetimes_the_clock_is_read_just_before_the_message_goes() {
    holds_unless(Mutant::ClockReadInQueue, Lifetime, |world| {
        world.stalls = vec![(ms(0), ms(2_000))];
        world.ask(KernelOp::Assume { addresses: addresses([1]), deadline: at(9_000) });
        world.ask(KernelOp::Assume { addresses: addresses([2]), deadline: at(6_000) });
        world.run();
        !may_be_there(world, 2, at(6_000))
    });
}

/// Rule 8.2.
#[test]
fn by_lifetimes_what_the_kernel_read_too_late_is_set_again_or_taken_away() {
    holds_unless(Mutant::LifetimeNotLookedAtAgain, Lifetime, |world| {
        world.stalls = vec![(ms(1_500), ms(0))];
        let outcome = world.assume([1], at(6_000));
        until(&outcome).is_some() && !may_be_there(world, 1, at(6_000))
    });
    let mut world = World::new(Lifetime, 1, None);
    world.stalls = vec![(ms(3_500), ms(0))];
    assert_eq!(world.assume([1], at(5_000)), too_late([1]));
    assert!(!world.is_present(1));
}

/// Rule 8.8, interleaving 11.
#[test]
fn by_lifetimes_a_refresh_that_waited_too_long_does_not_put_back_what_the_kernel_removed() {
    let mut world = World::new(Lifetime, 1, None);
    world.assume([1], at(5_000));
    world.now = at(4_500);
    assert_eq!(world.refresh(at(5_000)), too_late([1]));
    assert!(!world.is_present(1));
}

#[test]
fn with_too_little_left_for_a_lifetime_an_earlier_one_stays() {
    let mut world = World::new(Lifetime, 1, None);
    world.assume([1], at(5_100));
    world.now = at(3_900);
    world.assume([1], at(5_100));
    assert_eq!(world.refresh(at(5_100)), too_late([1]));
    assert!(world.is_present(1));
    world.now = at(4_001);
    assert!(!world.is_present(1));
}

/// Rule 8.2.
#[test]
fn what_came_too_late_is_taken_away_again() {
    holds_unless(Mutant::LateNotUndone, Fence, |world| {
        // The gate in time, and the address not.
        world.stalls = vec![(ms(0), ms(0)), (ms(0), ms(0)), (ms(0), ms(900))];
        let late = world.assume([1], at(1_800)) == too_late([1]);
        late && !world.is_present(1) && world.tables().held.is_empty()
    });
}

#[test]
fn nothing_is_put_there_at_or_after_the_deadline() {
    for backstop in [Fence, Lifetime] {
        let mut world = World::new(backstop, 1, None);
        assert_eq!(world.assume([1], world.now), too_late([1]));
        assert!(!world.is_present(1));
    }
}

/// Rule 8.11.
#[test]
fn by_lifetimes_slow_timers_are_given_less_to_count() {
    holds_unless(Mutant::TimerRateIgnored, Lifetime, |world| {
        world.kernel.slow_ppm = 80_000;
        world.rate.slow_ppm = 80_000;
        world.assume([1], at(32_000));
        !may_be_there(world, 1, at(32_000))
    });
}

/// Rule 8.7.
#[test]
fn beside_the_fence_a_refresh_renews_what_would_end_and_nothing_else() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1, 2], at(4_000)), done());
    world.calls.clear();
    assert_eq!(world.refresh(at(4_000)), done());
    assert!(!world.calls.iter().any(|call| matches!(call, Call::Put { .. })));
    world.now = at(3_500);
    assert_eq!(world.refresh(at(6_500)), done());
    world.now = at(6_400);
    assert!(world.answers(1) && world.answers(2));
}

#[test]
fn a_refusal_of_a_lifetime_is_told_with_each_refresh_until_the_address_is_withdrawn() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1, 2], at(4_000)), done());
    world.kernel.refuses.insert(("lo".into(), address(2).address));
    let failed = vec![(address(2), KernelError::Refused("no".into()))];
    for deadline in [9_000, 9_500] {
        let outcome = world.refresh(at(deadline));
        assert_eq!(outcome, KernelOutcome::Done { failed: failed.clone(), until: None });
    }
    world.kernel.refuses.clear();
    assert_eq!(world.withdraw([2]), done());
    assert_eq!(world.refresh(at(20_000)), done());
    assert!(world.answers(1) && !world.is_present(2));
}

#[test]
fn a_withdrawal_that_is_refused_says_so_and_goes_on_no_more() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1, 2], at(4_000)), done());
    world.kernel.refuses.insert(("lo".into(), address(1).address));
    let failed = vec![(address(1), KernelError::Refused("no".into()))];
    assert_eq!(world.withdraw([1]), KernelOutcome::Done { failed, until: None });
    assert!(world.is_present(1) && !world.answers(1));
    assert_eq!(world.refresh(at(9_000)), done());
    assert!(!world.answers(1) && world.answers(2));
}
