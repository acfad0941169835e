//! The contract of the store's seam, kept by the model of etcd.

use std::rc::Rc;
use std::time::Duration;

use futures::future::{Either, select};
use madsim::runtime::Runtime;
use turnip::seams::Clock;
use turnip::store_contract::{self, CLAUSES, Subject, TROUBLED, Trouble};
use turnip_core::Revision;

use crate::plan::Plan;
use crate::time::S;

use super::seams::SimHost;
use super::{Pump, World};

/// The members of the simulated cluster.
struct Members(Rc<World>, SimHost);

impl Trouble for Members {
    async fn leader(&self) -> usize {
        loop {
            let leader = self.0.inner().etcd.leader();
            if let Some(leader) = leader {
                return leader;
            }
            self.1.sleep_until(self.1.now() + Duration::from_millis(50)).await;
        }
    }

    fn pause(&self, member: usize, paused: bool) {
        let inner = &mut *self.0.inner();
        inner.etcd.pause(member, paused, &mut inner.env);
    }

    /// The model forgets all but its newest revision.
    async fn compact(&self, _: Revision) {
        self.0.inner().etcd.compact();
    }
}

/// Runs one clause against a cluster of three members, with a handle at each.
fn check(clause: &'static str, troubled: bool) {
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
            // Elections first: healthy is how every clause begins.
            clock.sleep_until(clock.now() + patience).await;
            if troubled {
                let members = Members(Rc::clone(&world), clock.clone());
                store_contract::check_troubled(clause, &subject, &members).await;
            } else {
                store_contract::check(clause, &subject).await;
            }
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
        check(clause, false);
    }
}

#[test]
fn the_model_of_etcd_in_trouble_keeps_the_contract_of_the_store() {
    assert!(!TROUBLED.is_empty());
    for clause in TROUBLED {
        println!("{clause}");
        check(clause, true);
    }
}
