//! What happens to the daemon.

use std::time::Duration;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::plan::Plan;

use crate::{VERY_LONG_LEASE, of_both_families};

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
