//! VIPs that are where a key of another program says.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etcd_client::{Permission, PermissionType};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Policy, TurnipSettings};
use turnip_netns_tests::etcd::EtcdSettings;
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::{VERY_LONG_LEASE, a_lease_passes, with_settings};

const KEY: &str = "/service/batman/leader";
const BY_NAME: &str = r#"key = "/service/batman/leader""#;

/// Three hosts whose VIP follows the key, each by its own name.
fn following(follow: &'static str) -> Plan {
    let policy = Policy::Follow(follow);
    with_settings(TurnipSettings { policy, own_member_first: true, ..TurnipSettings::default() })
}

/// Starts all, with this value under the key.
fn start(plan: Plan, value: &str) -> Result<Cluster> {
    let mut cluster = Cluster::lay_out(plan)?;
    cluster.members[0].put(KEY, value)?;
    for host in 0..cluster.size() {
        cluster.start_daemon(host)?;
    }
    Ok(cluster)
}

/// Waits until this host has the address, and clients get answers from it.
fn wait_for(cluster: &Cluster, host: usize) -> Result<()> {
    cluster.wait_for_owner_among(|owner| owner == host).map(drop)
}

#[test]
fn the_address_is_at_once_where_the_key_says() -> Result<()> {
    let mut cluster = start(following(BY_NAME).with_lease(VERY_LONG_LEASE), "h2")?;
    wait_for(&cluster, 1)?;
    let from = cluster.note("the key names one host after the other");
    for (host, name) in [(2, "h3"), (0, "h1"), (1, "h2")] {
        cluster.members[0].put(KEY, name)?;
        wait_for(&cluster, host)?;
    }
    let (_, text) = cluster.turnip_says(&["why", "api"])?;
    ensure!(text.contains(KEY), "{text}");
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn nobody_has_the_address_while_the_key_is_gone_or_names_a_stranger() -> Result<()> {
    let mut cluster = start(following(BY_NAME), "h2")?;
    wait_for(&cluster, 1)?;
    let from = cluster.note("the key is gone");
    cluster.members[0].delete(KEY)?;
    cluster.wait("nobody has it", || cluster.nobody_has_it())?;
    cluster.note("it names a host that is none of turnip's");
    cluster.members[0].put(KEY, "h9")?;
    a_lease_passes();
    ensure!(cluster.nobody_has_it()?, "{}", cluster.logs());
    let named = cluster.note("it names a host");
    cluster.members[0].put(KEY, "h3")?;
    wait_for(&cluster, 2)?;
    cluster.check(named, Outcome::gap_at_most(Duration::from_secs(3)))?;
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(30)).since(named))
}

#[test]
fn with_absent_last_the_address_stays_while_the_key_is_gone_and_follows_the_next_name() -> Result<()>
{
    let follow = r#"key = "/service/batman/leader", absent = "last""#;
    let mut cluster = start(following(follow), "h2")?;
    wait_for(&cluster, 1)?;
    let from = cluster.note("the key is gone");
    cluster.members[0].delete(KEY)?;
    a_lease_passes();
    cluster.check(from, Outcome::stayed_on(1))?;
    cluster.note("it names another host");
    cluster.members[0].put(KEY, "h1")?;
    wait_for(&cluster, 0)?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_json_pointer_finds_the_name_and_a_value_that_is_no_json_names_nobody() -> Result<()> {
    let follow = r#"key = "/service/batman/leader", pointer = "/leader/name""#;
    let mut cluster = start(following(follow), r#"{"leader": {"name": "h2"}, "count": 1}"#)?;
    wait_for(&cluster, 1)?;
    let from = cluster.note("something else in the value changes");
    cluster.members[0].put(KEY, r#"{"leader": {"name": "h2"}, "count": 2}"#)?;
    a_lease_passes();
    cluster.check(from, Outcome::stayed_on(1))?;
    cluster.note("the name changes");
    cluster.members[0].put(KEY, r#"{"leader": {"name": "h3"}, "count": 3}"#)?;
    wait_for(&cluster, 2)?;
    cluster.check(from, Outcome::moved())?;
    cluster.note("it is no JSON any more");
    cluster.members[0].put(KEY, r#"{"leader": {"name": "h3"#)?;
    cluster.wait("nobody has it", || cluster.nobody_has_it())?;
    let named = cluster.note("it is JSON again");
    cluster.members[0].put(KEY, r#"{"leader": {"name": "h3"}}"#)?;
    wait_for(&cluster, 2)?;
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(3)).since(named))
}

#[test]
fn a_key_that_turnip_may_not_read_names_nobody_and_that_is_said() -> Result<()> {
    let settings = EtcdSettings { secured: true, ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..following(BY_NAME) };
    let mut cluster = start(plan, "h2")?;
    let reason = format!("the key {KEY} cannot be read");
    cluster
        .wait("that is said", || Ok(cluster.turnip_says(&["why", "api"])?.1.contains(&reason)))?;
    ensure!(cluster.nobody_has_it()?, "{}", cluster.logs());
    let from = cluster.note("turnip's user may read it");
    cluster.members[0].ask(Duration::from_secs(20), |mut client| async move {
        let permission = Permission::new(PermissionType::Read, KEY);
        client.role_grant_permission("turnip", permission).await?;
        Ok(())
    })?;
    wait_for(&cluster, 1)?;
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(20)))
}

#[test]
fn a_holder_cut_off_from_etcd_alone_lets_go_of_the_address_for_the_host_that_is_named_meanwhile()
-> Result<()> {
    // The member that was cut off comes back without an election: a VIP that follows a key need not outlive one
    // that takes longer than a lease.
    let settings = EtcdSettings { arguments: vec!["--pre-vote".into()], ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..following(BY_NAME) };
    let mut cluster = start(plan, "h2")?;
    wait_for(&cluster, 1)?;
    cluster.wait_until_sessions_list_all_others()?;
    cluster.lead_from(0)?;
    let from = cluster.note("the holder is cut off from etcd");
    cluster.cut_from_store(1)?;
    // Whom it names at most two leases ago, turnip takes for named.
    sleep(Duration::from_secs(2));
    cluster.note("another host is named");
    cluster.members[0].put(KEY, "h3")?;
    wait_for(&cluster, 2)?;
    cluster.check(from, Outcome::gap_at_most(Duration::from_secs(15)))?;
    cluster.note("the cut is healed");
    cluster.heal()?;
    let healed = Instant::now();
    a_lease_passes();
    cluster.check(healed, Outcome::stayed_on(2))?;
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(15)))
}

#[test]
fn with_unchanged_a_key_that_is_not_written_any_more_names_nobody() -> Result<()> {
    let follow = r#"key = "/service/batman/leader", unchanged = "4s""#;
    let mut cluster = start(following(follow), "h2")?;
    wait_for(&cluster, 1)?;
    let from = cluster.note("the same value is written every second");
    for _ in 0..8 {
        cluster.members[0].put(KEY, "h2")?;
        sleep(Duration::from_secs(1));
    }
    cluster.check(from, Outcome::stayed_on(1))?;
    cluster.note("it is not written any more");
    cluster.wait("nobody has it", || cluster.nobody_has_it())?;
    let written = cluster.note("it is written again");
    cluster.members[0].put(KEY, "h2")?;
    wait_for(&cluster, 1)?;
    cluster.check(written, Outcome::gap_at_most(Duration::from_secs(3)))?;
    for host in 0..cluster.size() {
        cluster.stop_daemon(host)?;
    }
    cluster.check(from, Outcome::gap_at_most(Duration::MAX))?;
    cluster.assert_nothing_is_left()
}
