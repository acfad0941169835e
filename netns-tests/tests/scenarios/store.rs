//! What happens to etcd.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Policy, TurnipSettings};
use turnip_netns_tests::etcd::{self, EtcdSettings, MemberStatus};
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::{
    a_lease_passes, a_long_lease_passes, of_both_families, with_a_long_lease, with_policy,
    with_settings,
};

/// With etcd's own second an election that is split, one in ten, takes longer than a lease of 3 s
/// allows. These scenarios are about everything else.
pub fn quick_elections() -> EtcdSettings {
    EtcdSettings { heartbeat_ms: 30, election_ms: 300, ..EtcdSettings::default() }
}

/// A cluster whose hosts ask their own member first, its owner, and its etcd leader: on the host
/// that is so many after the owner.
fn led_by(hosts_after_owner: usize) -> Result<(Cluster, usize, usize)> {
    let settings = TurnipSettings { own_member_first: true, ..with_a_long_lease() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(quick_elections()), ..with_settings(settings) };
    let cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    let leader = (owner + hosts_after_owner) % 3;
    cluster.lead_from(leader)?;
    Ok((cluster, owner, leader))
}

fn led_from_elsewhere() -> Result<(Cluster, usize, usize)> {
    led_by(1)
}

fn led_from_beside_the_holder() -> Result<(Cluster, usize, usize)> {
    led_by(0)
}

/// What etcd's leader says of itself.
pub fn leader_status(cluster: &Cluster) -> Result<MemberStatus> {
    let leader = etcd::wait_for_leader(&cluster.members)?;
    cluster.members[leader].status()
}

/// Waits until another member leads than this one, which led in this term: the proof that what was
/// done to it has unseated it.
pub fn wait_for_successor(cluster: &Cluster, leader: usize, term: u64) -> Result<()> {
    cluster.wait("another member leads, in a later term", || {
        let next = etcd::wait_for_leader(&cluster.members)?;
        Ok(next != leader && cluster.members[next].status().is_ok_and(|next| next.term > term))
    })
}

/// etcd's leader is killed and comes back: another is elected before the lease is over.
pub fn survives_the_death_of_the_leader(led: (Cluster, usize, usize)) -> Result<()> {
    let (mut cluster, owner, leader) = led;
    cluster.lead_from(leader)?;
    let term = leader_status(&cluster)?.term;
    let from = cluster.note(format!("etcd's member {}, the leader, is killed", leader + 1));
    cluster.members[leader].kill();
    wait_for_successor(&cluster, leader, term)?;
    a_long_lease_passes();
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.members[leader].start()?;
    a_long_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// The same for a leader that does not run for a while, and does not know.
fn survives_a_frozen_leader(led: (Cluster, usize, usize)) -> Result<()> {
    let (mut cluster, owner, leader) = led;
    cluster.lead_from(leader)?;
    let term = leader_status(&cluster)?.term;
    let from = cluster.note(format!("etcd's leader on h{} is frozen", leader + 1));
    cluster.members[leader].freeze()?;
    wait_for_successor(&cluster, leader, term)?;
    a_long_lease_passes();
    assert_ne!(etcd::leader(&cluster.members), Some(leader), "it is not frozen any more");
    cluster.members[leader].thaw()?;
    a_long_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn the_death_of_etcds_leader_on_another_host_moves_nothing() -> Result<()> {
    survives_the_death_of_the_leader(led_from_elsewhere()?)
}

#[test]
fn the_death_of_etcds_leader_beside_the_holder_moves_nothing() -> Result<()> {
    survives_the_death_of_the_leader(led_from_beside_the_holder()?)
}

#[test]
fn a_frozen_leader_of_etcd_on_another_host_moves_nothing() -> Result<()> {
    survives_a_frozen_leader(led_from_elsewhere()?)
}

#[test]
fn a_frozen_leader_of_etcd_beside_the_holder_moves_nothing() -> Result<()> {
    survives_a_frozen_leader(led_from_beside_the_holder()?)
}

#[test]
fn a_leadership_that_moves_moves_nothing() -> Result<()> {
    let (mut cluster, owner, leader) = led_from_elsewhere()?;
    let from = cluster.note("the leadership is moved");
    cluster.lead_from(owner)?;
    sleep(Duration::from_secs(2));
    cluster.lead_from(leader)?;
    sleep(Duration::from_secs(2));
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn the_death_of_the_member_beside_the_holder_moves_nothing() -> Result<()> {
    let (mut cluster, owner, _) = led_from_elsewhere()?;
    let from = cluster.note(format!("etcd on h{} is killed", owner + 1));
    cluster.members[owner].kill();
    a_long_lease_passes();
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.members[owner].start()?;
    a_long_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// Waits until the address is where etcd's leader is, wherever that is by then.
fn wait_for_owner_that_leads(cluster: &Cluster) -> Result<usize> {
    cluster.wait_for_owner_among(|host| etcd::leader(&cluster.members) == Some(host))
}

#[test]
fn with_the_policy_leader_the_address_follows_etcds_leader() -> Result<()> {
    let mut cluster = Cluster::start(with_policy(Policy::Leader))?;
    let from = cluster.note("the leadership is moved about");
    for _ in 0..3 {
        let leader = wait_for_owner_that_leads(&cluster)?;
        cluster.lead_from((leader + 1) % 3)?;
        wait_for_owner_that_leads(&cluster)?;
    }
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn with_the_policy_leader_the_death_of_the_leader_makes_no_overlap() -> Result<()> {
    let mut cluster = Cluster::start(with_policy(Policy::Leader))?;
    let leader = wait_for_owner_that_leads(&cluster)?;
    let from = cluster.note("etcd's leader is killed");
    cluster.members[leader].kill();
    wait_for_owner_that_leads(&cluster)?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn without_a_quorum_the_address_is_withdrawn_and_it_comes_back_with_the_quorum() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families().without_heartbeats())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("two members of three are killed");
    let others = [(owner + 1) % 3, (owner + 2) % 3];
    for member in others {
        cluster.members[member].kill();
    }
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    a_lease_passes();
    assert!(cluster.nobody_has_it()?, "it came back without a quorum: {}", cluster.logs());
    let back = cluster.note("they are back");
    for member in others {
        cluster.members[member].start()?;
    }
    cluster.wait_for_owner()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over().since(back))
}

#[test]
fn a_rolling_restart_of_etcd_moves_nothing() -> Result<()> {
    let (mut cluster, owner, leader) = led_from_elsewhere()?;
    let from = cluster.note("rolling restart of etcd, the leader last");
    cluster.roll_etcd(leader)?;
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// Moves the leadership at every second for so long: which the original turnip did not survive. Fails
/// when it has not moved three times of four at least.
fn flap(cluster: &Cluster, duration: Duration) -> Result<()> {
    let begin = Instant::now();
    let seconds = u32::try_from(duration.as_secs())?;
    let mut leaderships = BTreeSet::new();
    for second in 0..seconds {
        let tick = begin + Duration::from_secs(second.into());
        sleep(tick.saturating_duration_since(Instant::now()));
        let leader = etcd::wait_for_leader(&cluster.members)?;
        leaderships
            .extend(cluster.members[leader].status().map(|status| (status.term, status.leader)));
        // A leadership that has just moved by itself cannot be moved from here, nor to a member that
        // does not answer at the moment: the next second.
        if let Ok(next) = cluster.members[(leader + 1) % 3].status() {
            let _ = cluster.members[leader].move_leader_to(next.id);
        }
    }
    let moved = leaderships.len() * 4 >= 3 * usize::try_from(seconds)?;
    ensure!(moved, "in {:?} only these led: {leaderships:?}", begin.elapsed());
    Ok(())
}

fn an_address_that_follows_a_flapping_leader(duration: Duration) -> Result<()> {
    let mut cluster = Cluster::start(with_policy(Policy::Leader))?;
    let from = cluster.note("etcd's leader flaps every second");
    flap(&cluster, duration)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_leader_that_flaps_every_second_for_a_while_never_makes_two_holders() -> Result<()> {
    an_address_that_follows_a_flapping_leader(Duration::from_secs(10))
}

#[test]
#[ignore = "slow: ci/test --all"]
fn a_leader_that_flaps_every_second_for_a_minute_never_makes_two_holders() -> Result<()> {
    an_address_that_follows_a_flapping_leader(Duration::from_secs(60))
}

fn a_flapping_leader_does_not_move_a_spread_address(duration: Duration) -> Result<()> {
    let etcd = EtcdPlan::OnHosts(quick_elections());
    let mut cluster = Cluster::start(Plan { etcd, ..with_settings(with_a_long_lease()) })?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("etcd's leader flaps every second");
    flap(&cluster, duration)?;
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_leader_that_flaps_for_a_while_does_not_move_a_spread_address() -> Result<()> {
    a_flapping_leader_does_not_move_a_spread_address(Duration::from_secs(10))
}

#[test]
#[ignore = "slow: ci/test --all"]
fn a_leader_that_flaps_for_a_minute_does_not_move_a_spread_address() -> Result<()> {
    a_flapping_leader_does_not_move_a_spread_address(Duration::from_secs(60))
}

/// etcd's leader has a slow disk for a while: nobody ever shares the address.
fn a_slow_disk_is_safe(delay: Duration) -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let leader = etcd::wait_for_leader(&cluster.members)?;
    let from = cluster.note(format!("each write of etcd's leader on h{} takes long", leader + 1));
    cluster.members[leader].slow_disk(delay)?;
    cluster.wait("a commit by way of it takes as long, or it leads no more", || {
        let slow = cluster.members[leader].time_to_commit().is_ok_and(|taken| taken >= delay);
        Ok(slow || etcd::leader(&cluster.members).is_some_and(|another| another != leader))
    })?;
    a_lease_passes();
    a_lease_passes();
    cluster.note("its disk is fast again");
    cluster.members[leader].fast_disk()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_slow_disk_of_etcds_leader_never_makes_two_holders() -> Result<()> {
    a_slow_disk_is_safe(Duration::from_millis(300))
}

#[test]
fn a_disk_of_etcds_leader_that_is_too_slow_to_lead_never_makes_two_holders() -> Result<()> {
    a_slow_disk_is_safe(Duration::from_secs(2))
}

/// Fails unless etcd asks for the certificate and the password, and lets turnip do what its role says
/// and nothing else.
fn assert_nobody_gets_in_without(cluster: &Cluster) -> Result<()> {
    const NO_ANSWER: Option<i32> = Some(2);
    for lacking in [&["user", "password_file"][..], &["cert", "key"]] {
        let (code, said) = cluster.status_without(lacking)?;
        assert_eq!(code, NO_ANSWER, "without {lacking:?}: {said}");
    }
    assert_eq!(cluster.status_without(&[])?.0, Some(0));
    let (code, said) = cluster.status_of("other")?;
    assert!(code == NO_ANSWER && said.contains("permission denied"), "{code:?}: {said}");
    Ok(())
}

#[test]
fn with_certificates_a_password_and_a_narrow_role_everything_works_as_without() -> Result<()> {
    let settings = EtcdSettings { secured: true, ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..Plan::default() };
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    assert_nobody_gets_in_without(&cluster)?;
    let from = cluster.note("the holder loses its power");
    cluster.power_off(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.power_on(owner)?;
    a_lease_passes();
    let wanted = (cluster.wait_for_owner()? + 1) % 3;
    cluster.pin("api", wanted)?;
    cluster.wait_for_owner_among(|host| host == wanted)?;
    let status = cluster.turnip(&["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    assert_eq!(status["vips"]["api"]["owner"], *cluster.host(wanted).name, "{status}");
    cluster.conclude(from, Outcome::failed_over())
}
