//! What a renewal of the session costs.

use std::time::Duration;

use super::super::Call;
use super::kernel::*;
use crate::lease::Backstop::Fence;

#[test]
fn a_renewal_takes_two_calls_however_many_addresses_are_held() {
    for count in [1, 1_000, 10_000] {
        let mut world = World::new(Fence, count, None);
        assert_eq!(world.assume(1..=count, at(4_000)), done());
        world.calls.clear();
        assert_eq!(world.refresh(at(4_001)), done());
        let changes = world.calls.iter().map(|call| match call {
            Call::Change(transaction) => transaction.changes.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(changes.collect::<Vec<_>>(), [1, 3]);
    }
}

#[test]
fn lifetimes_are_renewed_some_at_a_time() {
    let mut world = World::new(Fence, 5_000, None);
    assert_eq!(world.assume(1..=5_000, world.now + ms(2_970)), done());
    for _ in 0..200 {
        world.now += Duration::from_millis(500);
        world.calls.clear();
        assert_eq!(world.refresh(world.now + ms(2_966)), done());
        let renewed: usize = world
            .calls
            .iter()
            .map(|call| match call {
                Call::Put { addresses, .. } => addresses.len(),
                _ => 0,
            })
            .sum();
        assert!(renewed <= 512);
    }
    assert!((1..=5_000).all(|host| world.answers(host)));
}
