//! What somebody else writes into turnip's part of etcd, by mistake or on purpose.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::CLUSTER;
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::store::quick_elections;
use crate::{VERY_LONG_LEASE, a_lease_passes};

/// What one daemon may grow by when others' keys of 40 MiB have come by.
const GROWTH_KIB_MAX: u64 = 8 << 10;

/// A reason that begins lines and clears the screen.
const TOLD_BY_A_STRANGER: &str = r#"{"v":1,"at_unix_ms":1,"transitions":[{"vips":["api"],"from":"stranger","why":"blocked","detail":"\u001b[2J\nb\u0000","after_ms":1}]}"#;

fn one_host() -> Result<(Cluster, usize)> {
    let etcd = EtcdPlan::Apart(1, quick_elections());
    let plan = Plan { hosts: 1, etcd, ..Plan::default() }.with_lease(VERY_LONG_LEASE);
    let cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    Ok((cluster, owner))
}

fn key(rest: &str) -> String {
    format!("/turnip/{CLUSTER}/{rest}")
}

/// The memory that a process has, in KiB.
fn resident_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Garbage for its session, its drain and a stranger's session costs a host nothing: it holds on, and
/// nothing of it moves the cursor of whoever reads about it.
#[test]
fn garbage_under_the_prefix_takes_no_address_away_and_is_told_on_lines_of_its_own() -> Result<()> {
    let (mut cluster, owner) = one_host()?;
    let from = cluster.note("somebody writes garbage");
    let name = cluster.host(owner).name.clone();
    let garbage = "gar\nbage\u{1b}[2J\0";
    let etcd = &cluster.members[0];
    etcd.put(&key(&format!("intents/drain/{name}")), garbage)?;
    etcd.put(&key("nodes/stranger"), garbage)?;
    etcd.put(&key(&format!("what\n{garbage}")), garbage)?;
    etcd.put(&key(&format!("history/{name}/{garbage}")), garbage)?;
    etcd.put(&key("history/stranger/31"), TOLD_BY_A_STRANGER)?;
    etcd.put(&key("intents/pin/api"), garbage)?;
    etcd.put(&key(&format!("sessions/{name}")), garbage)?;
    cluster.wait("the session is as it should be again", || {
        let value = cluster.members[0].value(&key(&format!("sessions/{name}")))?;
        Ok(value.is_some_and(|value| value.starts_with(b"{")))
    })?;
    cluster.wait("the drain is left alone", || {
        Ok(cluster
            .logs()
            .contains(&format!("leaving {} alone", key(&format!("intents/drain/{name}")))))
    })?;
    for command in ["status", "check"] {
        let (_, said) = cluster.turnip_on(owner, &[command])?;
        let said = said.replace('\n', " ");
        ensure!(!said.contains(char::is_control), "turnip {command}: {said:?}");
        ensure!(said.contains("is left alone"), "turnip {command}: {said}");
    }
    for command in [&["history"][..], &["why", "api"]] {
        let (_, said) = cluster.turnip_on(owner, command)?;
        let said = said.replace('\n', " ");
        ensure!(!said.contains(char::is_control), "turnip {command:?}: {said:?}");
    }
    let (_, said) = cluster.turnip_on(owner, &["history"])?;
    ensure!(said.contains("[2J") && said.contains("stranger"), "it is shown: {said}");
    // What it declares is longer than anybody waits for.
    let endless =
        r#"{"v":1,"lease_ms":18446744073709551615,"host":"x","nonce":"0000000000000001-1"}"#;
    cluster.members[0].put(&key("sessions/stranger"), endless)?;
    a_lease_passes();
    // Nobody else takes it away within minutes, and nothing is to stay behind.
    cluster.members[0].ask(Duration::from_secs(10), |mut client| async move {
        client.delete(key("sessions/stranger"), None).await?;
        Ok(())
    })?;
    let log = cluster.daemon(owner)?.log_text().replace('\n', " ");
    ensure!(!log.contains(char::is_control), "{log:?}");
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// A stranger writes keys with names of a mebibyte: a few are named, shortly, and none is kept.
#[test]
fn keys_of_strangers_cost_neither_memory_nor_the_log() -> Result<()> {
    let (mut cluster, owner) = one_host()?;
    let process = cluster.daemon(owner)?.id();
    let from = cluster.note("somebody writes large keys");
    let before = (resident_kib(process)?, cluster.daemon(owner)?.log_text().len());
    for number in 0..40 {
        let name = key(&format!("{number:03}{}", "x".repeat(1 << 20)));
        cluster.members[0].put(&name, "")?;
        cluster.members[0].put(&name, "again")?;
    }
    cluster.wait("they are counted", || Ok(cluster.logs().contains("leaving 32 keys alone")))?;
    let until = Instant::now() + Duration::from_secs(5);
    let after = loop {
        let now = resident_kib(process)?;
        if now < before.0 + GROWTH_KIB_MAX || Instant::now() > until {
            break now;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    ensure!(after < before.0 + GROWTH_KIB_MAX, "{} KiB before, {after} KiB after", before.0);
    let logged = cluster.daemon(owner)?.log_text().len() - before.1;
    ensure!(logged < 8 << 10, "{logged} bytes of log");
    cluster.conclude(from, Outcome::stayed_on(owner))
}
