//! Certificates that are about to end.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Daemon, TurnipSettings};
use turnip_netns_tests::etcd::EtcdSettings;
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::a_lease_passes;
use crate::metrics::{ADDRESS, get};

const DAY: Duration = Duration::from_secs(86_400);
const WHOSE: [&str; 3] = [
    "this client's certificate ",
    "the certificate of etcd at https://",
    "the certificate of the authority CN=turnip's test authority",
];

#[test]
fn certificates_that_end_within_a_month_a_week_and_a_day_are_named_everywhere_each_time()
-> Result<()> {
    let settings = EtcdSettings { secured: true, ..EtcdSettings::default() };
    let daemon = TurnipSettings { metrics: Some(ADDRESS.into()), ..TurnipSettings::default() };
    let daemon = Daemon::Turnip(daemon);
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), daemon, ..Plan::default() };
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_until_settled()?;
    let (_, status) = cluster.turnip_says(&["status"])?;
    ensure!(!status.contains("certificate"), "nothing ends soon: {status}");

    let from = cluster.note("certificates are put there that end ever sooner");
    for (valid_for, ends_in, level, grade) in [
        (DAY * 20, "ends in 19 days", "WARN", "warning"),
        (DAY * 6, "ends in 5 days", "WARN", "warning"),
        (DAY / 2, "ends in 11 h", "ERROR", "error"),
    ] {
        cluster.renew_authority(Some(valid_for))?;
        cluster.renew_certificates(Some(valid_for))?;
        let named = |said: &str, whose: &str, begin: &str| {
            let mut lines = said.lines();
            lines.any(|line| [begin, whose, ends_in].iter().all(|words| line.contains(words)))
        };
        // The server's is seen by a connection: the daemon makes one when etcd goes away and comes back.
        let log = |whose: &str| cluster.logs().lines().any(|line| named(line, whose, level));
        cluster.wait(&format!("the logs say that they {ends_in}"), || {
            Ok(log(WHOSE[0]) && log(WHOSE[2]))
        })?;
        let (_, status) = cluster.turnip_says(&["status"])?;
        let (code, check) = cluster.turnip_on(owner, &["check"])?;
        for whose in WHOSE {
            ensure!(named(&status, whose, ""), "{whose} {ends_in}: {status}");
            ensure!(named(&check, whose, grade), "{whose} {ends_in}: {check}");
        }
        ensure!(code == Some(i32::from(grade == "error")), "{check}");
        let now = SystemTime::UNIX_EPOCH.elapsed()?.as_secs_f64();
        let end = now + valid_for.as_secs_f64();
        for certificate in ["client", "authority"] {
            let (_, page) = get(&cluster, owner, "/metrics")?;
            let found = end_of(&page, certificate).with_context(|| page.clone())?;
            ensure!((found - end).abs() < 600.0, "{certificate} {found}, not {end}: {page}");
        }
    }
    cluster.note("etcd is restarted member by member, and shows what it has");
    cluster.roll_etcd(owner)?;
    cluster.wait("the logs name the server's certificate", || {
        Ok(cluster
            .logs()
            .lines()
            .any(|line| line.contains(WHOSE[1]) && line.contains("ends in 11 h")))
    })?;
    let (_, page) = get(&cluster, owner, "/metrics")?;
    ensure!(end_of(&page, "server").is_some(), "{page}");
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// When the certificate ends of which a page says so, in seconds since 1970.
fn end_of(page: &str, certificate: &str) -> Option<f64> {
    let label = format!("certificate=\"{certificate}\"");
    let is_its = |line: &&str| {
        line.starts_with("turnip_certificate_end_timestamp_seconds{") && line.contains(&label)
    };
    page.lines().find(is_its)?.rsplit(' ').next()?.parse().ok()
}
