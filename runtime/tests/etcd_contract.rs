//! The store's contract, on real etcd.

mod support;

use support::cluster::Cluster;
use support::{PATIENCE, TestClock, run};
use turnip::etcd::Etcd;
use turnip::store_contract::{CLAUSES, Subject, TROUBLED, Trouble, check, check_troubled};
use turnip_core::Revision;

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

/// A cluster that a clause does something to.
struct Troubled(Cluster);

impl Trouble for Troubled {
    async fn leader(&self) -> usize {
        self.0.leader().await
    }

    fn pause(&self, member: usize, paused: bool) {
        if paused {
            self.0.freeze(member);
        } else {
            self.0.thaw(member);
        }
    }

    async fn compact(&self, revision: Revision) {
        let url = self.0.url(self.leader().await);
        let mut client = etcd_client::Client::connect([url], None).await.unwrap();
        client.compact(revision.0, None).await.unwrap();
    }
}

#[test]
fn three_etcd_members_in_trouble_keep_the_stores_contract() {
    run(async {
        let cluster = Troubled(Cluster::start(3).await);
        let clock = TestClock::new();
        for clause in TROUBLED {
            println!("{clause}");
            cluster.0.healthy().await;
            let handle = |first| cluster.0.handle(first);
            let stores: Vec<Etcd> = (0..3).map(handle).collect();
            let prefix = "/turnip/contract/".to_owned();
            let subject = Subject { stores: &stores, clock: &clock, prefix, patience: PATIENCE };
            check_troubled(clause, &subject, &cluster).await;
        }
    });
}
