//! What `turnip check` finds out about etcd.

use std::time::Duration;

use turnip::config::{Compact, Config, Reach};
use turnip::etcd::growth::{Source, mib};
use turnip::etcd::inspect::{EndpointStatus, History};
use turnip::etcd::{Answerer, Etcd};
use turnip_core::{Keys, Lease, Level, StoreError};

use super::members::{self, Endpoint};
use super::{Findings, followed, rights};
use crate::commands::behind::{self, Vips};
use crate::commands::overview::{Overview, WhatIf};
use crate::commands::{certificates, membership};

const TIMEOUT: Duration = Duration::from_secs(3);
/// How many commits are timed.
const COMMITS: usize = 30;
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
    let answered = endpoints(reach, config, findings).await;
    if let Some(config) = config {
        way_to_etcd(&etcd, config, findings).await;
    }
    if !answered.is_empty() {
        databases(&etcd, config, findings).await;
    }
    // By now each endpoint has shown its certificate.
    certificates::check(&etcd, findings);
    if answered.is_empty() {
        return;
    }
    if let Some(ip) = config.and_then(|config| config.member_ip) {
        match membership::check(&etcd, reach, ip, TIMEOUT).await {
            Ok(name) => findings.ok("TURNIP_ID", format!("{ip} is the member {name} on this host")),
            Err(StoreError::Refused(why)) => findings.error("TURNIP_ID", why),
            Err(StoreError::Unavailable(why)) => {
                findings.error("TURNIP_ID", format!("cannot be checked: {why}"));
            }
        }
    }
    if !keys(&etcd, reach, findings).await {
        // Nothing else is going to be answered; what is missing of rights is named at least.
        return rights::check(&etcd, reach, config, findings).await;
    }
    match etcd.history(Keys::new(&reach.cluster).prefix(), TIMEOUT).await {
        Ok(kept) => history(kept, compacts(&etcd, config).await, findings),
        Err(error) => findings.warning("etcd history", format!("cannot be read: {error}")),
    }
    rights::check(&etcd, reach, config, findings).await;
    if let Some(config) = config {
        followed::check(&etcd, config, findings).await;
    }
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

/// Whether endpoints, names and resolvers are behind a VIP, of this host or of others.
async fn way_to_etcd(etcd: &Etcd, config: &Config, findings: &mut Findings) {
    let keys = Keys::new(&config.reach.cluster);
    let mut vips = Vips::new();
    // That etcd does not answer is said elsewhere.
    let read = tokio::time::timeout(TIMEOUT, etcd.snapshot(keys.prefix())).await;
    if let Ok(Ok(snapshot)) = read {
        let what_if = WhatIf::default();
        let overview = Overview::new(&keys, snapshot.header.revision, &snapshot.kvs, &what_if);
        for (name, vip) in overview.vips {
            vips.extend(vip.addresses.iter().map(|net| (net.addr(), name.clone())));
        }
    }
    vips.extend(behind::vips_of(config));
    for danger in behind::look(config, etcd, &vips).await {
        match danger.is_certain {
            true => findings.error("way to etcd", danger.what),
            false => findings.warning("way to etcd", danger.what),
        }
    }
}

async fn endpoints(
    reach: &Reach,
    config: Option<&Config>,
    findings: &mut Findings,
) -> Vec<Endpoint> {
    let mut answered: Vec<Endpoint> = Vec::new();
    let local = reach.etcd.local.iter().filter(|local| !reach.etcd.endpoints.contains(local));
    let urls: Vec<&String> = reach.etcd.endpoints.iter().chain(local).collect();
    let mut failed = Vec::new();
    for url in &urls {
        match members::ask(reach, url, TIMEOUT).await {
            Ok(endpoint) => answered.push(endpoint),
            Err(error) => failed.push((*url, error)),
        }
    }
    for endpoint in &answered {
        let first = answered.first().and_then(|first| first.said.first());
        let (Some(status), url) = (endpoint.said.first(), endpoint.url()) else { continue };
        let who = endpoint.answerer(&answered);
        let is_member = who.as_ref().is_none_or(Answerer::is_a_member);
        self::endpoint(url, status, first, is_member, findings);
        if let Some(who) = who {
            endpoint.advise(&who, members::is_followed(reach, config, url), findings);
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
    is_member: bool,
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
    } else if is_member && !status.is_learner {
        let role = if status.is_leader() { "the raft leader" } else { "a follower" };
        let what = format!("version {}, member {:x}, {role}", status.version, status.member_id);
        findings.ok(&subject, what);
    }
}

/// How full etcd is.
async fn databases(etcd: &Etcd, config: Option<&Config>, findings: &mut Findings) {
    let setting = config.and_then(|config| config.growth.quota);
    for database in etcd.databases(setting, TIMEOUT).await {
        let subject = format!("etcd {}", database.url);
        let concerns = database.concerns();
        if concerns.is_empty() {
            let of = match database.quota {
                Some((quota, Source::Assumed)) => {
                    format!("of {}, which is etcd's default, for it says nothing", mib(quota))
                }
                Some((quota, _)) => format!("of {}", mib(quota)),
                None => "without a limit".to_owned(),
            };
            findings.ok(&subject, format!("its database has {} {of}", mib(database.bytes)));
        }
        for concern in concerns {
            match concern.level {
                Level::Error => findings.error(&subject, concern.what),
                _ => findings.warning(&subject, concern.what),
            }
        }
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
            for line in overview.left_alone() {
                findings.warning("etcd keys", line);
            }
            true
        }
        Err(error) => {
            findings.error("etcd keys", format!("{} cannot be read: {error}", keys.prefix()));
            false
        }
    }
}

/// Whether turnip's daemon compacts, as it is configured here.
async fn compacts(etcd: &Etcd, config: Option<&Config>) -> bool {
    match config.map(|config| config.growth.compact) {
        None | Some(Compact::Never) => false,
        Some(Compact::Keep(_)) => true,
        Some(Compact::Auto) => etcd.foreign_keys(TIMEOUT).await.is_ok_and(|keys| keys == 0),
    }
}

fn history(kept: History, by_turnip: bool, findings: &mut Findings) {
    let revisions = kept.current.0 - kept.oldest.0;
    let what = format!("{revisions} revisions are kept");
    match kept.oldest.0 {
        _ if by_turnip => {
            findings.ok("etcd history", format!("{what}; turnip compacts where nobody else does"));
        }
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
            "{took}, but a renewal must be done within {renew:.0?}: use a lease of {least:.1?} or more, or give etcd a faster disk and network"
        );
        findings.error("etcd commits", what);
    } else if *longest * 4 > renew {
        let what = format!(
            "{took}; a renewal must be done within {renew:.0?}, which leaves little for a busy moment: use a longer lease, or give etcd a faster disk"
        );
        findings.warning("etcd commits", what);
    } else {
        findings.ok("etcd commits", format!("{took}; a renewal may take {renew:.0?}"));
    }
}
