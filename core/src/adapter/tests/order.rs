//! What goes before what.

use super::super::Call;
use super::holds_unless;
use super::kernel::*;
use crate::kernel::{KernelError, KernelOp, KernelOutcome};
use crate::lease::Backstop::{Fence, Lifetime};
use crate::mutant::Mutant;

fn assume(hosts: impl IntoIterator<Item = u32>, deadline: crate::Instant) -> KernelOp {
    KernelOp::Assume { addresses: addresses(hosts), deadline }
}

fn withdraw(hosts: impl IntoIterator<Item = u32>) -> KernelOp {
    KernelOp::Withdraw { addresses: addresses(hosts) }
}

/// Rule 8.9.
#[test]
fn a_withdrawal_goes_before_what_waits_and_takes_its_addresses_out_of_that() {
    holds_unless(Mutant::WithdrawalCancelsNothing, Fence, |world| {
        let wholly = world.ask(assume([1], at(9_000)));
        let partly = world.ask(assume([1, 2], at(9_000)));
        world.ask(withdraw([1]));
        let at_once = world.adapter.poll_outcome() == Some((wholly, too_late([1])));
        world.run();
        at_once && world.outcome(partly) == Some(too_late([1])) && !world.is_present(1)
    });
}

/// Rule 8.9.
#[test]
fn a_withdrawal_comes_between_two_chunks_of_what_is_under_way() {
    holds_unless(Mutant::WithdrawalWaits, Fence, |world| {
        assert_eq!(world.assume([299], at(9_000)), done());
        let many = world.ask(assume(1..=200, at(9_000)));
        while !world.is_present(1) {
            world.step();
        }
        let withdrawal = world.ask(withdraw([1, 200, 299]));
        for _ in 0..5 {
            world.step();
        }
        let first = world.outcome(withdrawal) == Some(done());
        let gone = [1, 200, 299].iter().all(|&host| !world.is_present(host));
        world.run();
        let failed = [200, 1].map(|host| (address(host), KernelError::TooLate)).to_vec();
        let told = world.outcome(many) == Some(KernelOutcome::Done { failed, until: None });
        first && gone && told && !world.is_present(200) && world.answers(100)
    });
}

#[test]
fn withdrawals_keep_their_order_and_an_assumption_after_one_stays_after_it() {
    let mut world = World::new(Fence, 9, None);
    world.ask(assume([1], at(9_000)));
    let first = world.ask(withdraw([2]));
    let second = world.ask(withdraw([1]));
    let again = world.ask(assume([1], at(9_000)));
    let mut order = Vec::new();
    while world.step() {
        for id in [first, second, again] {
            order.extend(world.outcome(id).map(|_| id));
        }
    }
    order.extend([first, second, again].into_iter().filter(|id| world.outcome(*id).is_some()));
    assert_eq!(order, [first, second, again]);
    assert!(world.answers(1));
}

/// Rule 8.9.
#[test]
fn a_refresh_goes_before_assumptions_that_wait() {
    let mut world = World::new(Fence, 9, None);
    assert_eq!(world.assume([1], at(5_000)), done());
    let slow = world.ask(assume([2], at(5_000)));
    let refresh = world.ask(KernelOp::Refresh { deadline: at(9_000) });
    while world.outcome(refresh).is_none() {
        assert!(world.outcome(slow).is_none() && world.step());
    }
    world.run();
    assert_eq!(world.outcome(slow), Some(done()));
}

#[test]
fn a_renewal_that_waits_behind_many_addresses_extends_the_gate_early() {
    let mut world = World::new(Fence, 300, None);
    assert_eq!(world.assume([299], at(5_000)), done());
    let many = world.ask(assume(1..=200, at(5_000)));
    while !world.is_present(1) {
        world.step();
    }
    world.ask(KernelOp::Refresh { deadline: at(9_000) });
    for _ in 0..3 {
        world.step();
    }
    assert!(world.outcome(many).is_none() && world.gate().unwrap() > at(8_900));
    // And between two chunks that are taken away.
    world.run();
    assert_eq!(world.outcome(many), Some(done()));
    world.ask(withdraw(1..=200));
    world.step();
    world.step();
    world.ask(KernelOp::Refresh { deadline: at(12_000) });
    for _ in 0..3 {
        world.step();
    }
    assert!(world.gate().unwrap() > at(11_900) && world.is_present(200));
}

/// Rule 8.10.
#[test]
fn what_waited_for_longer_than_a_lease_is_not_late_when_the_session_was_renewed() {
    let mut world = World::new(Fence, 9, None);
    assert_eq!(world.assume([1], at(2_000)), done());
    let waits = world.ask(assume([2], at(2_000)));
    world.ask(KernelOp::Refresh { deadline: at(9_000) });
    world.stalls = vec![(ms(0), ms(0)), (ms(0), ms(0)), (ms(0), ms(1_500))];
    world.run();
    assert_eq!(world.outcome(waits), Some(done()));
}

/// Rule 8.10.
#[test]
fn what_another_session_was_renewed_to_counts_no_longer() {
    for backstop in [Fence, Lifetime] {
        holds_unless(Mutant::RenewedOutlivesSession, backstop, |world| {
            world.assume([1], at(60_000));
            world.refresh(at(60_000));
            assert!(matches!(world.withdraw([1]), KernelOutcome::Done { .. }));
            world.assume([2], at(5_000));
            world.now = at(5_000);
            !world.answers(2)
        });
    }
}

#[test]
fn there_is_an_answer_to_everything_and_then_nothing_to_do() {
    let mut world = World::new(Fence, 300, None);
    let ops = [
        KernelOp::List,
        assume(1..=100, at(9_000)),
        KernelOp::Refresh { deadline: at(9_500) },
        withdraw(50..=150),
        assume([], at(9_000)),
        withdraw([]),
        KernelOp::Configure { addresses: Vec::new() },
        KernelOp::RemoveFence,
    ];
    let ids: Vec<_> = ops.into_iter().map(|op| world.ask(op)).collect();
    world.run();
    assert!(ids.into_iter().all(|id| world.outcome(id).is_some()));
    assert!(world.adapter.is_idle());
}

#[test]
fn a_reply_that_nobody_waits_for_does_nothing() {
    let mut world = World::new(Fence, 1, None);
    let before = world.adapter.clone();
    world.adapter.handle_reply(super::super::Reply::Removed, at(1));
    assert_eq!(world.adapter, before);
}

#[test]
fn at_most_a_chunk_goes_to_the_kernel_at_once() {
    let mut world = World::new(Fence, 300, None);
    assert_eq!(world.assume(1..=300, at(9_000)), done());
    assert_eq!(world.withdraw(1..=300), done());
    let sizes = world.calls.iter().filter_map(|call| match call {
        Call::Put { addresses, .. } | Call::Delete { addresses } => Some(addresses.len()),
        _ => None,
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [64, 64, 64, 64, 44, 64, 64, 64, 64, 44]);
}

#[test]
fn an_address_that_the_kernel_does_not_answer_for_has_failed() {
    let mut world = World::new(Lifetime, 2, None);
    let id = world.ask(assume([1, 2], at(9_000)));
    assert!(world.adapter.poll_call(world.now, world.rate).is_some());
    world.adapter.handle_reply(super::super::Reply::Each(vec![Ok(())]), world.now);
    world.run();
    let no_answer = KernelError::Refused("no answer".into());
    assert!(matches!(world.outcome(id), Some(KernelOutcome::Done { failed, .. })
        if failed == [(address(2), no_answer)]));
}
