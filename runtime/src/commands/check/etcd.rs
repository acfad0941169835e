//! What `turnip check` finds out about etcd.

use std::time::Duration;

use turnip::config::{Config, Reach};
use turnip::etcd::Etcd;
use turnip::etcd::inspect::{EndpointStatus, History};
use turnip_core::{Keys, Lease, StoreError};

use super::{Findings, rights};
use crate::commands::membership;
use crate::commands::overview::{Overview, WhatIf};

const TIMEOUT: Duration = Duration::from_secs(3);
/// How many commits are timed.
const COMMITS: usize = 30;
/// etcd's database may grow to this unless `--quota-backend-bytes` says otherwise.
const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
/// So many revisions are a day of three nodes with the default lease.
const REVISIONS_PER_DAY: i64 = 3 * 2 * 86_400;
/// Advice when nobody compacts etcd's history.
const COMPACT: &str = "run etcd with --auto-compaction-mode=periodic --auto-compaction-retention=1h (ETCD_AUTO_COMPACTION_MODE, ETCD_AUTO_COMPACTION_RETENTION); every renewal is a revision that it keeps until then";

/// Checks etcd with what is known of the configuration.
pub async fn check(reach: &Reach, config: Option<&Config>, findings: &mut Findings) {
    let etcd = match Etcd::new(&reach.etcd) {
        Ok(etcd) => etcd,
        Err(error) => return findings.error("etcd", error.to_string()),
    };
    let answered = endpoints(&etcd, reach, findings).await;
    if answered.is_empty() {
        return;
    }
    if let Some(ip) = config.and_then(|config| config.member_ip) {
        match membership::check(&etcd, reach, ip, TIMEOUT).await {
            Ok(name) => findings.ok("TURNIP_ID", format!("{ip} is the member {name} on this host")),
            Err(StoreError::Refused(why)) => findings.error("TURNIP_ID", why),
            Err(error) => findings.error("TURNIP_ID", format!("cannot be checked: {error}")),
        }
    }
    if !keys(&etcd, reach, findings).await {
        // Nothing else is going to be answered; what is missing of rights is named at least.
        return rights::check(&etcd, reach, config, findings).await;
    }
    match etcd.history(Keys::new(&reach.cluster).prefix(), TIMEOUT).await {
        Ok(kept) => history(kept, findings),
        Err(error) => findings.warning("etcd history", format!("cannot be read: {error}")),
    }
    rights::check(&etcd, reach, config, findings).await;
    let lease = config.map(|config| config.lease);
    match etcd.commit_latencies(&reach.cluster, COMMITS, TIMEOUT).await {
        Ok(latencies) => commits(latencies, lease, findings),
        Err(StoreError::Refused(why)) => findings.warning(
            "etcd commits",
            format!("cannot be timed: {why}; that takes the right to write under /turnip-check/"),
        ),
        Err(error) => {
            let why = error.to_string();
            // It says itself what to do.
            let advice = if why.contains("is full") { "" } else { ": does etcd have a quorum?" };
            let what = format!("{why}; without commits nothing is held{advice}");
            findings.error("etcd commits", what);
        }
    }
}

async fn endpoints(etcd: &Etcd, reach: &Reach, findings: &mut Findings) -> Vec<EndpointStatus> {
    let mut answered: Vec<EndpointStatus> = Vec::new();
    let local = reach.etcd.local.iter().filter(|local| !reach.etcd.endpoints.contains(local));
    let urls: Vec<&String> = reach.etcd.endpoints.iter().chain(local).collect();
    let mut failed = Vec::new();
    for url in urls {
        match etcd.endpoint_status(url, TIMEOUT).await {
            Ok(status) => {
                endpoint(url, &status, answered.first(), findings);
                answered.push(status);
            }
            Err(error) => failed.push((url, error)),
        }
    }
    for (url, error) in failed {
        let subject = format!("etcd {url}");
        match answered.is_empty() {
            true => findings.error(subject, format!("{error}{}", advice(&error.to_string()))),
            false => findings.warning(subject, format!("{error}; the other endpoints are used")),
        }
    }
    answered
}

/// What to look at when an endpoint does not answer.
fn advice(why: &str) -> &'static str {
    match why {
        _ if why.contains("tls handshake eof") || why.contains("InvalidContentType") => {
            "; does etcd speak TLS there? If it does not, write http://"
        }
        // It says itself what is wrong.
        _ if why.contains("certificate") || why.contains("is it an https:// endpoint?") => "",
        _ => "; is etcd running, and its port open?",
    }
}

fn endpoint(
    url: &str,
    status: &EndpointStatus,
    first: Option<&EndpointStatus>,
    findings: &mut Findings,
) {
    let subject = format!("etcd {url}");
    if !is_3_4(&status.version) {
        let what = format!("version {}; turnip needs 3.4 or later", status.version);
        findings.error(&subject, what);
    } else if first.is_some_and(|first| first.cluster_id != status.cluster_id) {
        findings
            .error(&subject, "of another etcd cluster than the first endpoint; name one cluster");
    } else if status.leader_id == 0 {
        findings
            .error(&subject, "the member has no raft leader: it is cut off, or the quorum is lost");
    } else {
        let role = if status.is_leader() { "the raft leader" } else { "a follower" };
        let what = format!("version {}, member {:x}, {role}", status.version, status.member_id);
        findings.ok(&subject, what);
    }
    let mib = status.db_bytes >> 20;
    if status.db_bytes > QUOTA_DEFAULT_BYTES / 10 * 7 {
        let what = format!(
            "the database has {mib} MiB; at its quota (2048 MiB unless --quota-backend-bytes says otherwise) etcd refuses every write: compact, then `etcdctl defrag`"
        );
        findings.warning(subject, what);
    }
}

fn is_3_4(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(3), Some(4))
}

/// Whether they can be read.
async fn keys(etcd: &Etcd, reach: &Reach, findings: &mut Findings) -> bool {
    let keys = Keys::new(&reach.cluster);
    match etcd.snapshot(keys.prefix()).await {
        Ok(snapshot) => {
            let what_if = WhatIf::default();
            let overview = Overview::new(&keys, snapshot.header.revision, &snapshot.kvs, &what_if);
            let nodes = overview.nodes.values().filter(|node| node.session.is_some()).count();
            let what = format!("{} has {nodes} nodes with a session", keys.prefix());
            findings.ok("etcd keys", what);
            for (key, why) in overview.unreadable {
                findings.warning("etcd keys", format!("{key} is left alone: {why}"));
            }
            true
        }
        Err(error) => {
            findings.error("etcd keys", format!("{} cannot be read: {error}", keys.prefix()));
            false
        }
    }
}

fn history(kept: History, findings: &mut Findings) {
    let revisions = kept.current.0 - kept.oldest.0;
    let what = format!("{revisions} revisions are kept");
    match kept.oldest.0 {
        ..=1 if revisions > REVISIONS_PER_DAY => findings
            .warning("etcd history", format!("{what}, and nobody has ever compacted: {COMPACT}")),
        ..=1 => findings.ok(
            "etcd history",
            format!("{what}; nobody has compacted yet, and somebody will have to: {COMPACT}"),
        ),
        _ if revisions > 7 * REVISIONS_PER_DAY => {
            findings.warning("etcd history", format!("{what}: compaction is seldom; {COMPACT}"));
        }
        _ => findings.ok("etcd history", format!("{what}; somebody compacts")),
    }
}

fn commits(mut latencies: Vec<Duration>, lease: Option<Lease>, findings: &mut Findings) {
    latencies.sort();
    let (Some(longest), Some(median)) = (latencies.last(), latencies.get(latencies.len() / 2))
    else {
        return;
    };
    let ms = |duration: &Duration| format!("{:.1} ms", duration.as_secs_f64() * 1e3);
    let took = format!("{} in the median, {} at most", ms(median), ms(longest));
    let Some(lease) = lease else { return findings.ok("etcd commits", took) };
    let renew = lease.renew();
    // Each renewal has one interval; a busy disk is easily four times slower than an idle one.
    if *longest > renew {
        let least = *longest * 4 * 6;
        let what = format!(
            "{took}, but a renewal must be done within {renew:?}: use a lease of {least:.1?} or more, or give etcd a faster disk and network"
        );
        findings.error("etcd commits", what);
    } else if *longest * 4 > renew {
        let what = format!(
            "{took}; a renewal must be done within {renew:?}, which leaves little for a busy moment: use a longer lease, or give etcd a faster disk"
        );
        findings.warning("etcd commits", what);
    } else {
        findings.ok("etcd commits", format!("{took}; a renewal may take {renew:?}"));
    }
}
