//! The store's contract, on real etcd.

mod support;

use support::cluster::Cluster;
use support::{PATIENCE, TestClock, run};
use turnip::etcd::Etcd;
use turnip::store_contract::{CLAUSES, Subject, check};

async fn keeps_the_contract(members: usize) {
    // The contract is about a healthy cluster: a disk that is slow for once calls no election.
    let patient = ["--heartbeat-interval", "200", "--election-timeout", "3000"];
    let cluster = Cluster::start_with(members, None, &patient).await;
    let stores: Vec<Etcd> = (0..3).map(|first| cluster.handle(first % members)).collect();
    let clock = TestClock::new();
    for clause in CLAUSES {
        println!("{clause}");
        let prefix = "/turnip/contract/".to_owned();
        let subject = Subject { stores: &stores, clock: &clock, prefix, patience: PATIENCE };
        check(clause, &subject).await;
    }
}

#[test]
fn a_single_etcd_member_keeps_the_stores_contract() {
    run(keeps_the_contract(1));
}

#[test]
fn three_etcd_members_keep_the_stores_contract() {
    run(keeps_the_contract(3));
}
