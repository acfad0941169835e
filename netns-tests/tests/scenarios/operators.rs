//! Drains, pins and questions.

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::Policy;
use turnip_netns_tests::plan::Plan;

use crate::{VERY_LONG_LEASE, a_lease_passes, of_both_families, with_policy};

fn name(host: usize) -> String {
    format!("h{}", host + 1)
}

#[test]
fn a_drained_host_hands_over_and_takes_nothing_until_it_is_undrained() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("drain");
    cluster.turnip(&["drain", &name(owner)])?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    a_lease_passes();
    assert_eq!(cluster.holders()?, [next], "{}", cluster.logs());
    cluster.turnip(&["undrain", &name(owner)])?;
    // It had settled where hashing puts it.
    cluster.wait_for_owner_among(|host| host == owner)?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_pinned_address_goes_where_it_is_pinned_and_stays() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families().with_lease(VERY_LONG_LEASE))?;
    let from = cluster.note("pins");
    for host in [0, 1, 2, 0] {
        cluster.pin("api", host)?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
    }
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn with_priorities_the_first_host_has_the_address_and_takes_it_back() -> Result<()> {
    let mut cluster = Cluster::start(with_policy(Policy::Priority { preempt: true }))?;
    cluster.wait_for_owner_among(|host| host == 0)?;
    let from = cluster.note("h1 is stopped");
    cluster.stop_daemon(0)?;
    cluster.wait_for_owner_among(|host| host == 1)?;
    cluster.start_daemon(0)?;
    cluster.wait_for_owner_among(|host| host == 0)?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn without_preemption_the_first_host_does_not_take_the_address_back() -> Result<()> {
    let mut cluster = Cluster::start(with_policy(Policy::Priority { preempt: false }))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the holder is stopped");
    cluster.stop_daemon(owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.start_daemon(owner)?;
    a_lease_passes();
    assert_eq!(cluster.holders()?, [next], "{}", cluster.logs());
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn the_status_names_the_owner_and_every_host() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("questions");
    let status: serde_json::Value = serde_json::from_str(&cluster.turnip(&["status", "--json"])?)?;
    let text = status.to_string();
    for host in 0..3 {
        assert!(text.contains(&name(host)), "{text}");
    }
    assert!(text.contains("api") && text.contains(&name(owner)), "{text}");
    cluster.conclude(from, Outcome::stayed_on(owner))
}
