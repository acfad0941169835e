//! What answers is no member of etcd any more, or one after the other.

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::EtcdSettings;
use turnip_netns_tests::plan::{EtcdPlan, Plan};

#[test]
fn a_member_that_was_removed_and_does_not_know_is_named_and_costs_no_address() -> Result<()> {
    let etcd = EtcdPlan::Apart(3, EtcdSettings::default());
    let mut cluster = Cluster::start(Plan { hosts: 1, etcd, ..Plan::default() })?;
    cluster.wait_until_settled()?;
    let from = cluster.note("the last member hears nothing of its peers, which remove it");
    cluster.cut_member_from_peers(2)?;
    cluster.remove_member(2)?;
    let removed = format!("{}:2379", cluster.etcd_addresses()[2]);
    cluster.wait("check says so, and names it", || {
        let (_, said) = cluster.turnip_on(0, &["check"])?;
        let says =
            |line: &str| line.contains(&removed) && line.contains("it was removed from etcd");
        ensure!(
            !said.lines().any(|line| line.contains(&removed) && line.contains("a follower")),
            "{said}"
        );
        Ok(said.lines().any(says))
    })?;
    ensure!(!cluster.logs().contains("not the store that it was"), "{}", cluster.logs());
    cluster.conclude(from, Outcome::stayed_on(0))
}
