//! The lab itself: what it leaves behind, what it refuses, and that its observers see what is wrong.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::Daemon;
use turnip_netns_tests::lab::Lab;
use turnip_netns_tests::plan::{EtcdPlan, Plan};
use turnip_netns_tests::reap::{self, PREFIX};

const DEMO: &str = env!("CARGO_BIN_EXE_turnip-demo");

fn keepalived() -> Plan {
    let daemon = Daemon::Keepalived { advert_ms: 100 };
    Plan { daemon, etcd: EtcdPlan::None, ..Plan::default() }
}

/// Namespaces and directories of labs of this process.
fn leftovers_of(process: u32) -> Vec<String> {
    let places = ["/run/netns".into(), reap::directory()];
    let entries = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("{PREFIX}{process}-"))).collect()
}

/// The demonstration, once it has made namespaces.
fn demo_in_the_middle() -> Result<Child> {
    let demo = Command::new(DEMO).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while leftovers_of(demo.id()).len() < 8 {
        anyhow::ensure!(Instant::now() < deadline, "the demonstration has not begun");
        sleep(Duration::from_millis(20));
    }
    Ok(demo)
}

fn send(signal: Signal, to: &Child) -> Result<()> {
    Ok(kill(Pid::from_raw(to.id().cast_signed()), signal)?)
}

#[test]
fn a_lab_that_is_interrupted_leaves_nothing_behind() -> Result<()> {
    let mut demo = demo_in_the_middle()?;
    send(Signal::SIGINT, &demo)?;
    let status = demo.wait()?;
    assert_eq!(status.code(), Some(130));
    assert_eq!(leftovers_of(demo.id()), Vec::<String>::new());
    Ok(())
}

#[test]
fn what_a_killed_lab_leaves_behind_is_removed_by_the_next_one() -> Result<()> {
    let mut demo = demo_in_the_middle()?;
    send(Signal::SIGKILL, &demo)?;
    demo.wait()?;
    let _next = Lab::new()?;
    assert_eq!(leftovers_of(demo.id()), Vec::<String>::new());
    Ok(())
}

#[test]
fn without_root_the_lab_fails_and_says_so() -> Result<()> {
    // Where everybody may go: the build's own directory need not be.
    let directory = std::env::temp_dir().join(format!("{PREFIX}{}-nobody", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    std::fs::set_permissions(&directory, Permissions::from_mode(0o777))?;
    let demo = directory.join("turnip-demo");
    std::fs::copy(DEMO, &demo)?;
    let mut command = Command::new(&demo);
    let output = command.uid(65_534).env("TURNIP_LAB_DIR", &directory).current_dir("/").output()?;
    std::fs::remove_dir_all(&directory)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("need root"), "{said}");
    Ok(())
}

#[test]
fn the_observers_see_two_hosts_of_keepalived_with_one_address() -> Result<()> {
    let mut cluster = Cluster::start(keepalived()).context("is keepalived installed?")?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the master is cut off");
    cluster.isolate(owner)?;
    sleep(Duration::from_secs(2));
    let seen = cluster.since(from)?;
    assert!(seen.overlap > Duration::from_millis(500), "{seen:?}");
    assert!(seen.answers_overlap > Duration::from_millis(500), "{seen:?}");
    assert!(cluster.check(from, Outcome::failed_over()).is_err());
    assert!(cluster.check(from, Outcome::failed_over().beside_a_silent_holder()).is_err());
    Ok(())
}

#[test]
fn the_observers_see_the_gap_when_keepalived_fails_over() -> Result<()> {
    let mut cluster = Cluster::start(keepalived()).context("is keepalived installed?")?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the master loses its power");
    cluster.power_off(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    sleep(Duration::from_millis(300));
    let seen = cluster.since(from)?;
    assert!(seen.gap > Duration::from_millis(100), "{seen:?}");
    assert!(seen.gap_tcp > Duration::from_millis(100), "{seen:?}");
    assert!(seen.absence > Duration::from_millis(100), "{seen:?}");
    cluster.check(from, Outcome::failed_over())?;
    assert!(cluster.check(from, Outcome::gap_at_most(Duration::from_millis(100))).is_err());
    assert!(cluster.check(from, Outcome::stayed_on(owner)).is_err());
    Ok(())
}

#[test]
fn two_labs_side_by_side_do_not_see_each_other() -> Result<()> {
    let mut first = Cluster::start(keepalived()).context("is keepalived installed?")?;
    let mut second = Cluster::start(keepalived())?;
    let owner = first.wait_for_owner()?;
    let from = first.note("the other lab loses all its hosts");
    for host in 0..second.size() {
        second.power_off(host)?;
    }
    sleep(Duration::from_secs(1));
    first.check(from, Outcome::stayed_on(owner)).map(drop)
}

#[test]
fn what_a_killed_daemon_leaves_behind_is_noticed() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the owner's turnip is killed");
    cluster.kill_daemon(owner)?;
    let outcome = Outcome::failed_over().beside_a_silent_holder();
    let left = cluster.conclude(from, outcome).expect_err("the fence is there still");
    assert!(left.to_string().starts_with("left behind on h"), "{left}");
    cluster.release(owner)?;
    cluster.assert_nothing_is_left()
}
