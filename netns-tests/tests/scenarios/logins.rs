//! etcd asks for a password, and that takes its time.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Daemon, TurnipSettings};
use turnip_netns_tests::etcd::EtcdSettings;
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::a_lease_passes;

/// Hosts that have nothing but etcd: nobody's consent covers up what a login costs.
fn asking_for_passwords(arguments: &[&str]) -> Plan {
    let arguments = arguments.iter().map(|&argument| argument.into()).collect();
    let settings = EtcdSettings { secured: true, arguments, ..EtcdSettings::default() };
    let daemon = TurnipSettings { listen: Some("off".into()), ..TurnipSettings::default() };
    Plan { etcd: EtcdPlan::OnHosts(settings), daemon: Daemon::Turnip(daemon), ..Plan::default() }
}

fn short_tokens_move_nothing(bcrypt_cost: u32) -> Result<()> {
    let cost = format!("--bcrypt-cost={bcrypt_cost}");
    let mut cluster = Cluster::start(asking_for_passwords(&["--auth-token-ttl=2", &cost]))?;
    let owner = cluster.wait_until_settled()?;
    let from = cluster.note("tokens end, six times over");
    sleep(Duration::from_secs(13));
    cluster.note("a daemon is started, which has to log in");
    cluster.restart_daemon((owner + 1) % 3)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn tokens_of_two_seconds_at_etcds_own_price_of_a_login_move_nothing() -> Result<()> {
    short_tokens_move_nothing(10)
}

/// A login takes as long as a renewal may, and longer when several hosts want one.
#[test]
fn tokens_of_two_seconds_at_four_times_the_price_of_a_login_move_nothing() -> Result<()> {
    short_tokens_move_nothing(12)
}

/// Nobody changes it in etcd and in a file at one instant.
#[test]
fn a_password_that_is_changed_in_etcd_and_in_the_file_moves_nothing_whichever_comes_first()
-> Result<()> {
    let mut cluster = Cluster::start(asking_for_passwords(&[]))?;
    let owner = cluster.wait_until_settled()?;
    let from = cluster.note("another password is in the file, and after a while in etcd too");
    cluster.write_password("the second")?;
    cluster.wait("the hosts have noticed", || {
        Ok(cluster.logs().contains("accepts the one before it"))
    })?;
    cluster.change_password("the second")?;
    a_lease_passes();
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("another is in etcd, and a moment later in the file");
    cluster.change_password("the third")?;
    sleep(Duration::from_millis(300));
    cluster.write_password("the third")?;
    a_lease_passes();
    ensure!(cluster.logs().contains("accepts the new password"), "{}", cluster.logs());
    cluster.conclude(from, Outcome::stayed_on(owner))
}
