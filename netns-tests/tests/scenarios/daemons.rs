//! What happens to the daemon.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::TurnipSettings;
use turnip_netns_tests::plan::Plan;

use crate::{
    VERY_LONG_LEASE, a_lease_passes, a_long_lease_passes, of_both_families, with_a_long_lease,
    with_settings,
};

#[test]
fn a_killed_daemons_address_is_silent_before_another_answers_and_goes_by_itself() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the turnip of h{} is killed", owner + 1));
    cluster.kill_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    a_lease_passes();
    cluster.check(from, Outcome::failed_over().beside_a_silent_holder(owner))?;
    let started = cluster.note("it is started");
    cluster.start_daemon(owner)?;
    a_lease_passes();
    cluster.conclude(started, Outcome::moved())
}

#[test]
fn a_frozen_daemons_address_is_silent_before_another_answers_and_thawing_it_harms_nobody()
-> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the turnip of h{} is frozen", owner + 1));
    cluster.freeze_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    a_lease_passes();
    cluster.check(from, Outcome::failed_over().beside_a_silent_holder(owner))?;
    let thawed = cluster.note("it is thawed");
    cluster.thaw_daemon(owner)?;
    // What it was about to send when it was frozen the kernel reads late, and has the address for a moment
    // (rule 8.2), which the gate keeps silent. That is over before it opens a session (rule 6.6).
    cluster.wait("it has a session again", || Ok(cluster.listed_by(owner)?.is_some()))?;
    let again = cluster.note("it has a session again");
    cluster.check(thawed, Outcome::moved().beside_a_silent_holder(owner))?;
    a_lease_passes();
    cluster.conclude(again, Outcome::moved())
}

#[test]
fn a_daemon_that_is_frozen_for_less_than_a_lease_keeps_the_address() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("a short freeze");
    cluster.freeze_daemon(owner)?;
    sleep(Duration::from_millis(800));
    cluster.thaw_daemon(owner)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_daemon_that_is_killed_and_started_again_at_once_keeps_the_address() -> Result<()> {
    let plan = Plan { vips: of_both_families().vips, ..with_settings(with_a_long_lease()) };
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("killed and started");
    cluster.kill_daemon(owner)?;
    sleep(Duration::from_millis(200));
    cluster.start_daemon(owner)?;
    a_long_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_stopped_daemon_hands_over_and_leaves_nothing_behind() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families().with_lease(VERY_LONG_LEASE))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the turnip of h{} is stopped", owner + 1));
    cluster.stop_daemon(owner)?;
    assert_eq!(cluster.left_behind(owner)?, Vec::<String>::new(), "{}", cluster.logs());
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.conclude(from, Outcome::moved())
}

/// The hosts of three, the holder first, so that it hands over.
fn one_after_the_other(owner: usize) -> [usize; 3] {
    [owner, (owner + 1) % 3, (owner + 2) % 3]
}

#[test]
fn a_restart_of_one_daemon_after_the_other_never_makes_two_holders() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default().with_lease(VERY_LONG_LEASE))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("rolling restart of turnip");
    for host in one_after_the_other(owner) {
        cluster.restart_daemon(host)?;
        // It has handed over, and gets nothing back before a lease has passed.
        cluster.wait_for_owner_among(|other| other != host)?;
    }
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn an_upgrade_of_one_daemon_after_the_other_never_makes_two_holders() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default().with_lease(VERY_LONG_LEASE))?;
    for host in cluster.plan().in_order_of_start() {
        cluster.install_daemon(host)?;
        cluster.start_daemon(host)?;
    }
    let owner = cluster.wait_until_settled()?;
    let from = cluster.note("upgrade");
    for host in one_after_the_other(owner) {
        // As a package does: the file is another while the old daemon runs, which is then restarted.
        let old = cluster.daemon_program(host)?;
        cluster.install_daemon(host)?;
        cluster.restart_daemon(host)?;
        assert_ne!(cluster.daemon_program(host)?, old, "h{} runs the old turnip", host + 1);
    }
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn all_daemons_killed_at_once_leave_an_address_that_goes_by_itself() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let from = cluster.note("all daemons are killed");
    for host in 0..3 {
        cluster.kill_daemon(host)?;
    }
    cluster.wait("nobody has the address", || Ok(cluster.holders()?.is_empty()))?;
    let started = cluster.note("all are started");
    for host in 0..3 {
        cluster.start_daemon(host)?;
    }
    cluster.conclude(from, Outcome::failed_over().since(started))
}

#[test]
fn without_the_fence_the_kernels_expiry_alone_keeps_a_killed_holder_from_overlapping() -> Result<()>
{
    let settings = TurnipSettings {
        fence: Some("lifetime".into()),
        lease: Some("5s".into()),
        ..TurnipSettings::default()
    };
    let plan = Plan { vips: of_both_families().vips, ..with_settings(settings) };
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the turnip of h{} is killed", owner + 1));
    cluster.kill_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.release(owner)?;
    // Here the lifetime is the proof, so not even the addresses may overlap.
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_second_daemon_with_the_name_of_a_living_one_refuses_to_run() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let other = (owner + 1) % 3;
    cluster.stop_daemon(other)?;
    let from = cluster.note("a daemon with the owner's name starts elsewhere");
    let mut duplicate = cluster.start_duplicate_daemon(other, owner)?;
    let status = duplicate.wait(Duration::from_secs(20))?;
    assert!(!status.success(), "it ended well: {}", duplicate.log_text());
    // By the name alone: any other failure would be one of the lab.
    let reason = format!("the node name h{} is in use by host", owner + 1);
    assert!(duplicate.log_text().contains(&reason), "{}", duplicate.log_text());
    cluster.conclude(from, Outcome::stayed_on(owner))
}
