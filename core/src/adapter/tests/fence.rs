//! The gate, the ticket, what others do to the fence, what an earlier process left.

use super::super::{Adapter, Call, Change, Fenced};
use super::holds_unless;
use super::kernel::*;
use crate::kernel::{Assignment, KernelError, KernelOp, KernelOutcome};
use crate::lease::Backstop::{Fence, Lifetime};
use crate::mutant::Mutant;

const CLOSED: KernelOutcome = KernelOutcome::Failed(KernelError::TooLate);

/// Rules 8.3 and 8.4.
#[test]
fn what_is_assumed_answers_until_the_deadline_and_a_refresh_moves_it() {
    let mut world = World::new(Fence, 3, None);
    assert_eq!(world.assume([1, 2], at(4_000)), done());
    assert!(world.answers(1) && world.answers(2) && !world.answers(3));
    assert!(world.gate().unwrap() <= at(4_000) && world.gate().unwrap() > at(3_950));
    world.now = at(3_900);
    assert_eq!(world.refresh(at(6_870)), done());
    world.now = at(6_800);
    assert!(world.answers(1) && world.answers(2));
    world.now = at(6_870);
    assert!(!world.answers(1) && !world.answers(2));
}

/// Rule 8.4, interleaving 11.
#[test]
fn a_refresh_never_moves_a_gate_whose_time_is_over() {
    for mutant in [Mutant::ExpiredGateMoved, Mutant::RefreshReopensGate] {
        holds_unless(mutant, Fence, |world| {
            assert_eq!(world.assume([1], at(2_000)), done());
            world.now = at(2_001);
            let refused = world.refresh(at(60_000)) == CLOSED;
            refused && !world.answers(1)
        });
    }
}

/// Rule 8.5.
#[test]
fn a_gate_opens_anew_for_exactly_what_is_assumed_and_the_rest_is_told_with_the_next_refresh() {
    holds_unless(Mutant::EarlierHeldRevived, Fence, |world| {
        assert_eq!(world.assume([1, 2], at(2_000)), done());
        world.now = at(2_001);
        assert_eq!(world.assume([3], at(5_000)), done());
        world.answers(3) && !world.answers(1) && !world.answers(2)
    });
    holds_unless(Mutant::LeftOutUntold, Fence, |world| {
        assert_eq!(world.assume([1, 2], at(2_000)), done());
        world.now = at(2_001);
        assert_eq!(world.assume([3], at(5_000)), done());
        let told = world.refresh(at(6_000)) == too_late([1, 2]);
        assert_eq!(world.withdraw([1, 2]), done());
        assert_eq!(world.assume([1], at(6_000)), done());
        assert_eq!(world.refresh(at(6_100)), done());
        told && world.answers(1) && world.answers(3)
    });
}

#[test]
fn what_was_left_out_and_put_back_before_the_next_refresh_is_not_told() {
    let mut world = World::new(Fence, 3, None);
    assert_eq!(world.assume([1, 2], at(2_000)), done());
    world.now = at(2_001);
    assert_eq!(world.assume([3], at(5_000)), done());
    assert_eq!(world.assume([1], at(5_000)), done());
    assert_eq!(world.withdraw([2]), done());
    assert_eq!(world.refresh(at(6_000)), done());
    assert!(world.answers(1) && !world.answers(2) && world.answers(3));
}

/// Rule 8.17, interleaving 18.
#[test]
fn however_long_a_process_stalls_the_gate_never_outlives_its_deadline() {
    // It stalls before the ticket, before the gate, and before it could set anything right.
    for stalls in [[0, 300, 0], [300, 0, 0], [15, 15, 0], [300, 300, 300], [0, 900, 900]] {
        let stalled = |world: &mut World| {
            assert_eq!(world.assume([1], at(2_900)), done());
            world.now = at(1_500);
            world.stalls = stalls.iter().map(|stall| (ms(*stall), ms(0))).collect();
            let deadline = at(3_000);
            world.ask(KernelOp::Refresh { deadline });
            // Frozen for good after any of its calls.
            let mut sound = true;
            while world.step() {
                sound &= world.gate().is_none_or(|until| until <= deadline);
            }
            sound
        };
        assert!(stalled(&mut World::new(Fence, 1, None)), "{stalls:?}");
    }
    holds_unless(Mutant::NoTicket, Fence, |world| {
        assert_eq!(world.assume([1], at(2_900)), done());
        world.now = at(1_500);
        world.stalls = vec![(ms(300), ms(0)); 2];
        world.ask(KernelOp::Refresh { deadline: at(3_000) });
        let mut sound = true;
        while world.step() {
            sound &= world.gate().is_none_or(|until| until <= at(3_000));
        }
        sound
    });
}

#[test]
fn a_host_that_is_slow_between_two_calls_is_given_the_time_that_it_needs() {
    for slow in [25, 60, 200] {
        let mut world = World::new(Fence, 1, None);
        world.takes = (ms(slow), ms(1));
        assert_eq!(world.assume([1], at(9_000)), done(), "{slow}");
        assert_eq!(world.refresh(at(12_000)), done(), "{slow}");
        let until = world.gate().unwrap();
        assert!(until <= at(12_000) && until > at(11_000), "{slow} {until:?}");
    }
}

#[test]
fn a_kernel_that_is_held_up_itself_is_asked_once_more() {
    let mut world = World::new(Fence, 1, None);
    world.stalls = vec![(ms(0), ms(0)), (ms(0), ms(100))];
    assert_eq!(world.assume([1], at(9_000)), done());
    let gates = world.calls.iter().filter(|call| {
        matches!(call, Call::Change(transaction)
        if transaction.changes.iter().any(|change| matches!(change, Change::AddGate(_))))
    });
    assert_eq!(gates.count(), 2);
}

#[test]
fn many_addresses_are_let_in_before_the_ticket_and_the_gate() {
    for deadline in [9_000, 1_030] {
        let mut world = World::new(Fence, 300, None);
        world.stalls = vec![(ms(0), ms(900))];
        let late = deadline < 2_000;
        let expected = if late { too_late(1..=200) } else { done() };
        assert_eq!(world.assume(1..=200, at(deadline)), expected);
        let first = match &world.calls[..] {
            [Call::Change(held), Call::Change(_), ..] => &held.changes[..],
            other => panic!("{other:?}"),
        };
        assert!(matches!(first, [Change::FlushHeld, Change::AddHeld(all)] if all.len() == 200));
        assert_eq!(world.tables().held.len(), if late { 0 } else { 200 });
        assert_eq!(world.gate().is_some(), !late);
    }
}

#[test]
fn with_too_little_time_left_the_gate_is_closed_and_the_answer_is_too_late() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1], at(1_030)), too_late([1]));
    assert!(!world.is_present(1) && world.gate().is_none());
    assert_eq!(world.assume([1], at(1_500)), done());
    world.now = at(1_470);
    assert_eq!(world.refresh(at(1_500)), CLOSED);
    assert!(world.gate().is_none());
}

/// Rule 8.11.
#[test]
fn timeouts_are_shorter_while_the_kernels_timers_run_slow() {
    holds_unless(Mutant::TimerRateIgnored, Fence, |world| {
        world.kernel.slow_ppm = 80_000;
        world.rate.slow_ppm = 80_000;
        assert_eq!(world.assume([1], at(4_000)), done());
        world.gate().unwrap() <= at(4_000)
    });
}

#[test]
fn a_deadline_that_is_earlier_takes_nothing_from_the_others() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1], at(9_000)), done());
    assert_eq!(world.assume([2], at(5_000)), done());
    assert!(world.gate().unwrap() > at(8_900));
}

#[test]
fn silencing_the_last_address_closes_the_gate() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1, 2], at(9_000)), done());
    assert_eq!(world.withdraw([1]), done());
    assert!(world.gate().is_some() && world.answers(2));
    assert_eq!(world.withdraw([2]), done());
    assert!(world.gate().is_none());
}

/// Rule 8.13.
#[test]
fn what_somebody_changes_in_the_fence_is_put_back_by_the_next_refresh() {
    let damage: [fn(&mut World); 5] = [
        |world| world.kernel.tables = None,
        |world| world.tables().held.clear(),
        |world| world.tables().held.extend([Fenced::from(&address(2))]),
        |world| world.tables().vips.clear(),
        |world| world.tables().gate = None,
    ];
    for damage in damage {
        holds_unless(Mutant::ForeignChangesIgnored, Fence, |world| {
            assert_eq!(world.assume([1], at(9_000)), done());
            let whole = world.tables().clone();
            damage(world);
            world.kernel.changed = true;
            let done = world.refresh(at(9_001)) == done();
            let tables = world.kernel.tables.clone().unwrap_or_default();
            done && world.answers(1) && (tables.held, tables.vips) == (whole.held, whole.vips)
        });
    }
}

#[test]
fn a_gate_that_somebody_removed_is_not_opened_again_when_its_time_is_over() {
    let mut world = World::new(Fence, 1, None);
    assert_eq!(world.assume([1], at(2_000)), done());
    world.now = at(1_990);
    world.kernel.tables = None;
    world.kernel.changed = true;
    assert_eq!(world.refresh(at(9_000)), CLOSED);
    assert!(world.gate().is_none() && !world.answers(1));
}

#[test]
fn a_look_at_the_addresses_puts_the_fence_back_and_keeps_it_open() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1], at(9_000)), done());
    world.kernel.tables = None;
    world.kernel.changed = true;
    assert!(matches!(world.perform(KernelOp::List), KernelOutcome::Listed(_)));
    assert!(world.answers(1) && world.gate().unwrap() > at(8_900));
    assert!(world.kernel.tables.is_some());
}

#[test]
fn what_others_do_in_tables_of_their_own_leaves_the_fence_as_it_is() {
    let mut world = World::new(Fence, 2, None);
    assert_eq!(world.assume([1], at(9_000)), done());
    world.kernel.changed = true;
    world.calls.clear();
    assert_eq!(world.refresh(at(9_500)), done());
    let anew = |call: &Call| {
        matches!(call, Call::Change(transaction)
        if transaction.changes.iter().any(|change| matches!(change, Change::LayoutAnew { .. })))
    };
    assert!(!world.calls.iter().any(anew));
}

#[test]
fn somebody_who_changes_his_tables_all_the_time_costs_turnip_no_address() {
    let mut world = World::new(Fence, 1, None);
    let id = world.ask(KernelOp::Assume { addresses: addresses([1]), deadline: at(9_000) });
    for _ in 0..100 {
        world.kernel.changed = true;
        world.step();
    }
    assert_eq!(world.outcome(id), Some(done()));
    assert!(world.answers(1));
}

#[test]
fn a_withdrawal_silences_though_somebody_changed_the_fence() {
    let damage: [fn(&mut World); 2] =
        [|world| world.kernel.tables = None, |world| world.tables().held.clear()];
    for damage in damage {
        let mut world = World::new(Fence, 2, None);
        assert_eq!(world.assume([1, 2], at(9_000)), done());
        damage(&mut world);
        world.kernel.changed = true;
        assert_eq!(world.withdraw([1]), done());
        let held = world.tables().held.clone();
        assert_eq!(held, [Fenced::from(&address(2))].into());
        assert!(world.answers(2));
    }
}

#[test]
fn a_new_process_takes_over_the_fence_as_it_is_and_goes_on_with_what_answers() {
    let mut earlier = World::new(Fence, 3, None);
    assert_eq!(earlier.assume([1, 3], at(9_000)), done());
    let mut kernel = earlier.kernel.clone();
    // Put back by hand: it is there, and silent.
    kernel.present.insert(("lo".into(), address(2).address), (true, None));
    let mut world = World::on(kernel, earlier.now, Fence, 2, None);
    assert!(world.answers(1) && !world.answers(2));
    assert!(!world.answers(3), "it is configured no more");
    let KernelOutcome::Listed(listing) = world.perform(KernelOp::List) else { panic!() };
    let marked: Vec<_> = listing.addresses.iter().map(|one| one.marked).collect();
    assert_eq!(marked, [true, false, true]);
    assert_eq!(world.refresh(at(12_000)), done());
    world.now = at(11_900);
    assert!(world.answers(1) && !world.answers(2));
}

/// Rule 8.12.
#[test]
fn what_is_there_but_silent_is_not_taken_for_held() {
    let silent = |mutant| {
        let mut kernel = World::new(Fence, 1, None).kernel;
        kernel.present.insert(("lo".into(), address(1).address), (true, None));
        let mut world = World::on(kernel, at(2_000), Fence, 1, mutant);
        let KernelOutcome::Listed(listing) = world.perform(KernelOp::List) else { panic!() };
        !listing.addresses[0].marked
    };
    assert!(silent(None) && !silent(Some(Mutant::SilentTakenForHeld)));
}

/// Rule 8.12.
#[test]
fn what_an_earlier_process_fenced_stays_fenced_until_it_is_gone() {
    let fenced = |mutant| {
        let mut earlier = World::new(Fence, 2, None);
        assert_eq!(earlier.assume([2], at(9_000)), done());
        let mut kernel = earlier.kernel.clone();
        kernel.tables.as_mut().unwrap().gate = None;
        let mut world = World::on(kernel, earlier.now, Fence, 1, mutant);
        let mut fenced = !world.answers(2);
        assert!(matches!(world.perform(KernelOp::List), KernelOutcome::Listed(_)));
        fenced &= !world.answers(2);
        assert_eq!(world.withdraw([2]), done());
        // From now on it is no matter of turnip's.
        world.kernel.present.insert(("lo".into(), address(2).address), (false, None));
        fenced && world.answers(2)
    };
    assert!(fenced(None) && !fenced(Some(Mutant::FormerNotFenced)));
}

#[test]
fn a_fence_taken_over_closed_stays_closed_until_something_is_assumed() {
    let mut earlier = World::new(Fence, 1, None);
    assert_eq!(earlier.assume([1], at(2_000)), done());
    let mut world = World::on(earlier.kernel.clone(), at(2_001), Fence, 1, None);
    assert!(matches!(world.perform(KernelOp::List), KernelOutcome::Listed(_)));
    assert_eq!(world.refresh(at(60_000)), CLOSED);
    assert!(!world.answers(1));
    assert_eq!(world.assume([1], at(60_000)), done());
    assert!(world.answers(1));
}

/// Rule 8.3.
#[test]
fn a_link_local_address_is_let_pass_on_the_interface_of_its_vip_and_on_no_other() {
    let on = |interface: &str| Assignment {
        vip: interface.parse().unwrap(),
        interface: interface.into(),
        address: "fe80::1/64".parse().unwrap(),
    };
    let (one, other) = (on("br100"), on("br200"));
    let mut world = World::new(Fence, 0, None);
    world.adapter = Adapter::new([one.clone(), other.clone()], Fence);
    world.run();
    let both = [&one, &other].map(Fenced::from);
    assert_eq!(world.tables().vips, both.clone().into());
    let assume = |addresses: &[&Assignment]| KernelOp::Assume {
        addresses: addresses.iter().copied().cloned().collect(),
        deadline: at(9_000),
    };
    assert_eq!(world.perform(assume(&[&one])), done());
    assert_eq!(world.tables().held, [both[0].clone()].into());
    assert_eq!(world.perform(assume(&[&other])), done());
    assert_eq!(world.perform(KernelOp::Withdraw { addresses: vec![one] }), done());
    assert_eq!(world.tables().held, [both[1].clone()].into());
}

/// Rule 8.6.
#[test]
fn what_could_not_be_put_there_is_not_let_pass() {
    holds_unless(Mutant::FailedLetPass, Fence, |world| {
        world.kernel.refuses.insert(("lo".into(), address(2).address));
        assert_ne!(world.assume([1, 2], at(9_000)), done());
        world.tables().held == [Fenced::from(&address(1))].into()
    });
}

/// Rule 8.6.
#[test]
fn the_gate_comes_before_the_address_and_goes_before_it() {
    let in_order = |world: &mut World, first: fn(&Change) -> bool, then: fn(&Call) -> bool| {
        let of_fence = |call: &Call| match call {
            Call::Change(transaction) => transaction.changes.iter().any(first),
            _ => false,
        };
        world.calls.iter().position(of_fence) < world.calls.iter().position(then)
    };
    holds_unless(Mutant::AddressBeforeGate, Fence, |world| {
        assert_eq!(world.assume([1], at(9_000)), done());
        let opens = |change: &Change| matches!(change, Change::AddGate(_));
        in_order(world, opens, |call| matches!(call, Call::Put { .. }))
    });
    holds_unless(Mutant::DeleteBeforeShut, Fence, |world| {
        assert_eq!(world.assume([1, 2], at(9_000)), done());
        world.calls.clear();
        assert_eq!(world.withdraw([1]), done());
        let shuts = |change: &Change| matches!(change, Change::DeleteHeld(_));
        in_order(world, shuts, |call| matches!(call, Call::Delete { .. }))
    });
}

#[test]
fn a_stray_of_the_same_address_elsewhere_is_no_reason_to_silence_a_vip() {
    let mut world = World::new(Fence, 1, None);
    assert_eq!(world.assume([1], at(9_000)), done());
    let mut stray = address(1);
    stray.interface = "eth0".into();
    assert_eq!(world.perform(KernelOp::Withdraw { addresses: vec![stray] }), done());
    assert!(world.answers(1));
}

#[test]
fn a_fence_that_was_removed_is_not_missed() {
    let mut world = World::new(Fence, 1, None);
    assert_eq!(world.assume([1], at(9_000)), done());
    assert_eq!(world.withdraw([1]), done());
    assert_eq!(world.perform(KernelOp::RemoveFence), done());
    world.kernel.changed = true;
    assert!(matches!(world.perform(KernelOp::List), KernelOutcome::Listed(_)));
    assert!(world.kernel.tables.is_none());
    assert_eq!(world.assume([1], at(9_000)), done());
    assert!(world.answers(1));
}

#[test]
fn by_lifetimes_there_is_no_fence() {
    let mut world = World::new(Lifetime, 1, None);
    assert!(matches!(world.assume([1], at(9_000)), KernelOutcome::Done { until: Some(_), .. }));
    assert!(world.calls.iter().all(|call| matches!(call, Call::Put { .. })));
    assert_eq!(world.withdraw([1]), done());
    world.calls.clear();
    // What else was set for the addresses' sake is put back nonetheless.
    assert_eq!(world.perform(KernelOp::RemoveFence), done());
    assert_eq!(world.calls, [Call::RemoveFence]);
}
