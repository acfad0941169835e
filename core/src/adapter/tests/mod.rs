//! The adapter against a kernel that is a few sets. Rules have a test that breaks them too.

mod configure;
mod cost;
mod fence;
mod kernel;
mod lifetimes;
mod order;
mod random;

use kernel::World;

use crate::lease::Backstop;
use crate::mutant::Mutant;

/// The rule holds, and does not when `mutant` breaks it.
fn holds_unless(mutant: Mutant, backstop: Backstop, rule: impl Fn(&mut World) -> bool) {
    assert!(rule(&mut World::new(backstop, 300, None)), "it does not hold");
    assert!(!rule(&mut World::new(backstop, 300, Some(mutant))), "{mutant:?} goes unnoticed");
}
