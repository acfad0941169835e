//! The contract of the store's seam, kept by the model of etcd.

use std::rc::Rc;
use std::time::Duration;

use futures::future::{Either, select};
use madsim::runtime::Runtime;
use turnip::seams::Clock;
use turnip::store_contract::{self, CLAUSES, Subject};

use crate::plan::Plan;
use crate::time::S;

use super::seams::SimHost;
use super::{Pump, World};

/// Runs one clause against a cluster of three members, with a handle at each.
fn check(clause: &'static str) {
    let mut plan = Plan::quiet();
    plan.lasting(3_600 * S);
    // The clauses are the clients here: no daemon runs.
    plan.params.start_spread = u64::MAX / 4;
    plan.params.weather.tail_permille = 50;
    plan.params.weather.tail = S / 10;
    let runtime = Runtime::with_seed_and_config(1, madsim::Config::default());
    runtime.block_on(async {
        let time = madsim::time::TimeHandle::current();
        let world = World::new(Rc::new(plan), false, time);
        let pump = Pump::new(Rc::clone(&world), |_| {});
        let stores: Vec<SimHost> =
            (0..3).map(|host| SimHost::new(Rc::clone(&world), host)).collect();
        let patience = Duration::from_secs(30);
        let clock = &stores[0];
        let prefix = "/contract/".to_owned();
        let subject = Subject { stores: &stores, clock, prefix, patience };
        let clause = Box::pin(async {
            // Elections first: what happens without a leader is not what this is about.
            clock.sleep_until(clock.now() + patience).await;
            store_contract::check(clause, &subject).await;
        });
        match select(clause, Box::pin(pump)).await {
            Either::Left(_) => {}
            Either::Right(_) => panic!("the clause never ended"),
        }
    });
}

#[test]
fn the_model_of_etcd_keeps_the_contract_of_the_store() {
    assert!(!CLAUSES.is_empty());
    for clause in CLAUSES {
        println!("{clause}");
        check(clause);
    }
}
