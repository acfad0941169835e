//! What holds of a single node whatever comes in, in whatever order.

#![allow(missing_docs, reason = "the tests' names say it")]

mod fuzz;
mod world;

use std::time::Duration;

use fuzz::{Fuzz, Step, steps};
use proptest::prelude::*;
use turnip_core::*;
use world::{config, vip};

const SECOND: Duration = Duration::from_secs(1);

fn three_vips() -> NodeConfig {
    let priority = |preempt| Policy::Priority { priority: 1, preempt };
    let defended = VipConfig {
        defend: true,
        checks: ["api".parse().unwrap()].into(),
        ..vip("v0", "10.0.0.50/32", priority(false))
    };
    let check = CheckConfig {
        name: "api".parse().unwrap(),
        rise: 1,
        fall: 1,
        initial: Initial::Up,
        weight: None,
        whole_node: false,
    };
    let hook = |hook| (hook, HookConfig { timeout: SECOND, ignores_failure: false });
    let vips = vec![
        VipConfig { hooks: Hook::ALL.map(hook).into(), ..defended },
        vip("v1", "10.0.0.51/32 fd00::51/128", priority(true)),
        vip("v2", "10.0.0.52/32", Policy::Leader),
    ];
    let announce_every = Some(Duration::from_secs(2));
    NodeConfig { announce_every, checks: vec![check], ..config("a", vips) }
}

fn with_lifetimes() -> NodeConfig {
    let mut config = three_vips();
    config.backstop = Backstop::Lifetime;
    config.lease = Lease::new(Duration::from_secs(6)).unwrap();
    config
}

fn many_vips() -> NodeConfig {
    let policy = Policy::Priority { priority: 1, preempt: false };
    let address = |n: usize| format!("10.0.{}.{}/32", n / 250, n % 250 + 1);
    config("a", (0..400).map(|n| vip(&format!("v{n}"), &address(n), policy.clone())).collect())
}

fn play(config: NodeConfig, steps: &[Step]) -> Fuzz {
    let mut fuzz = Fuzz::new(config);
    steps.iter().for_each(|step| fuzz.play(step));
    fuzz
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_whatsoever_makes_a_node_hold_too_long_or_give_away_what_it_has(
        steps in steps(true, 200),
    ) {
        play(three_vips(), &steps);
    }

    #[test]
    fn nor_where_lifetimes_are_the_backstop(steps in steps(true, 120)) {
        play(with_lifetimes(), &steps);
    }

    #[test]
    fn nor_with_more_vips_than_one_transaction_takes(steps in steps(true, 20)) {
        let mut fuzz = Fuzz::new(many_vips());
        fuzz.run(Duration::from_secs(1));
        prop_assert_eq!(fuzz.missing(), []);
        steps.iter().for_each(|step| fuzz.play(step));
    }

    #[test]
    fn after_every_trouble_a_node_that_is_left_alone_comes_to_hold_everything(
        steps in steps(false, 120),
    ) {
        let mut fuzz = play(three_vips(), &steps);
        fuzz.heal();
        fuzz.run(Duration::from_secs(90));
        prop_assert_eq!(&fuzz.exit, &None, "{}", fuzz.transcript());
        prop_assert_eq!(fuzz.missing(), [], "{}", fuzz.transcript());
    }

    #[test]
    fn a_stop_at_once_ends_whatever_was_before_when_the_kernel_obeys(steps in steps(true, 120)) {
        let mut fuzz = play(three_vips(), &steps);
        fuzz.play(&Step::Stop { at_once: true });
        fuzz.run(Duration::from_secs(10));
        prop_assert!(fuzz.exit.is_some(), "{}", fuzz.transcript());
    }
}
