//! Hosts that hear each other need no store to go on (rule 10).

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::{a_lease_passes, of_both_families};

/// Several leases: without heartbeats every host would have withdrawn long before.
const LONG: Duration = Duration::from_secs(12);

/// A cluster whose hosts hear each other, and the owner.
fn that_hear_each_other(plan: Plan) -> Result<(Cluster, usize)> {
    let cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    cluster.wait_until_sessions_list_all_others()?;
    // A heartbeat of each has been acknowledged by all by then.
    a_lease_passes();
    Ok((cluster, owner))
}

/// etcd is still for so long.
fn freeze_etcd_for(cluster: &Cluster, duration: Duration) -> Result<Instant> {
    let from = cluster.note(format!("all of etcd's members are frozen for {duration:?}"));
    cluster.freeze_etcd()?;
    sleep(duration);
    cluster.note("they go on");
    cluster.thaw_etcd()?;
    Ok(from)
}

#[test]
fn etcd_still_for_a_minute_moves_nothing_and_takes_nothing_away() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(of_both_families())?;
    let from = freeze_etcd_for(&cluster, Duration::from_secs(60))?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn with_the_heartbeats_port_closed_the_address_is_away_while_etcd_is_still() -> Result<()> {
    let (mut cluster, _) = that_hear_each_other(of_both_families())?;
    cluster.note("a firewall closes the port of heartbeats between all hosts");
    (0..cluster.size()).try_for_each(|host| cluster.cut_heartbeats(host))?;
    a_lease_passes();
    let from = cluster.note("all of etcd's members are frozen");
    cluster.freeze_etcd()?;
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    a_lease_passes();
    assert!(cluster.nobody_has_it()?, "it came back without etcd: {}", cluster.logs());
    let back = cluster.note("they go on");
    cluster.thaw_etcd()?;
    cluster.wait_for_owner()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over().since(back))
}

#[test]
fn a_holder_cut_off_from_etcd_alone_keeps_the_address() -> Result<()> {
    let etcd = EtcdPlan::Apart(3, EtcdSettings::default());
    let (mut cluster, owner) = that_hear_each_other(Plan { etcd, ..Plan::default() })?;
    let from = cluster.note(format!("h{} is cut off from etcd", owner + 1));
    cluster.cut_from_store(owner)?;
    sleep(LONG);
    ensure!(cluster.logs().contains("held by consent of all hosts"), "{}", cluster.logs());
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// A member of etcd 3.4 that comes back from a cut deposes the leader.
#[test]
fn a_bystander_that_comes_back_costs_nothing() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default())?;
    let leader = etcd::wait_for_leader(&cluster.members)?;
    let other = (0..3).find(|&host| host != owner && host != leader).unwrap_or((owner + 1) % 3);
    let from = cluster.note("a bystander is cut off");
    cluster.isolate(other)?;
    // Until it is expired, and nobody lists it any more.
    a_lease_passes();
    a_lease_passes();
    cluster.heal()?;
    a_lease_passes();
    cluster.wait_until_sessions_list_all_others()?;
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn an_etcd_that_is_stopped_as_a_whole_and_started_costs_nothing() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default())?;
    let from = cluster.note("etcd is stopped as a whole");
    cluster.members.iter_mut().for_each(etcd::Member::kill);
    sleep(LONG);
    cluster.note("and started");
    cluster.members.iter_mut().try_for_each(etcd::Member::start)?;
    etcd::wait_for_leader(&cluster.members)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// A full etcd refuses writes, and answers everything else.
#[test]
fn an_etcd_whose_quota_is_filled_costs_nothing() -> Result<()> {
    let arguments = vec!["--quota-backend-bytes=4194304".into()];
    let settings = EtcdSettings { arguments, ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..Plan::default() };
    let (mut cluster, owner) = that_hear_each_other(plan)?;
    let from = cluster.note("etcd is filled until it refuses writes");
    cluster.wait("it refuses writes", || {
        let refused = cluster.members[0].write_kib(512);
        Ok(refused.is_err_and(|error| format!("{error:#}").contains("space exceeded")))
    })?;
    sleep(LONG);
    ensure!(cluster.logs().contains("held by consent of all hosts"), "{}", cluster.logs());
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("there is room again, and the alarm is off");
    cluster.members[0].compact()?;
    cluster.members.iter().try_for_each(etcd::Member::defragment)?;
    cluster.members[0].end_alarm()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// What costs the address all the same: a host that is gone while etcd is away.
#[test]
fn a_host_that_dies_while_etcd_is_away_costs_the_address_until_etcd_is_back() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default())?;
    let from = cluster.note("all of etcd's members are frozen");
    cluster.freeze_etcd()?;
    a_lease_passes();
    cluster.check(from, Outcome::stayed_on(owner))?;
    let bystander = (owner + 1) % 3;
    cluster.note("a bystander's daemon is killed");
    cluster.kill_daemon(bystander)?;
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    ensure!(cluster.logs().contains("does not acknowledge"), "{}", cluster.logs());
    let back = cluster.note("etcd goes on, and the daemon is started");
    cluster.thaw_etcd()?;
    etcd::wait_for_leader(&cluster.members)?;
    cluster.start_daemon(bystander)?;
    cluster.wait_for_owner()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over().since(back))
}

/// With etcd's own timers an election takes several such leases.
#[test]
fn a_lease_of_600_ms_bears_an_election_of_an_untouched_etcd() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default().with_lease("600ms"))?;
    let leader = (owner + 1) % 3;
    cluster.lead_from(leader)?;
    cluster.wait_until_sessions_list_all_others()?;
    a_lease_passes();
    let from = cluster.note("etcd's leader is killed");
    cluster.members[leader].kill();
    cluster.wait("another member leads", || {
        Ok(etcd::leader(&cluster.members).is_some_and(|other| other != leader))
    })?;
    a_lease_passes();
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.members[leader].start()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}
