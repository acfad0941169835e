//! `turnip status`: who owns what.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;
use turnip::config::{Reach, Sources};
use turnip_core::records::SharedPolicy;
use turnip_core::{CheckState, NO_NEWS, VipName, text};

use super::certificates;
use super::cluster::{Cluster, beyond, block_on, unanswered};
use super::local::{self, Local};
use super::overview::{Node, Overview, Vip, WhatIf};
use super::run::runtime_directory;
use super::table::{Table, how_long};
use super::{OK, fail, print};

const UNOWNED: u8 = 1;
const NO_ANSWER: u8 = 2;

/// What its help ends with.
pub const AFTER_HELP: &str = "\
It reads etcd and listens until it has heard of every node, for a lease at most: who is silent for \
longer than that owns nothing. It works from any machine that reaches etcd, with --endpoints and \
--cluster alone. On a host where the daemon runs it also shows what that knows by itself, whether or \
not etcd answers.

Exit status: 0 every VIP has a living owner; 1 some VIP has none, or there is no VIP; 2 no answer \
from etcd, or wrong configuration.";

/// How to show it.
#[derive(Args)]
pub struct StatusArgs {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Shows the cluster.
pub fn status(sources: &Sources, args: &StatusArgs) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    super::notice(&reach);
    let overview = block_on(overview(&reach)).flatten();
    let local = local::ask(&runtime_directory(), &reach.cluster);
    if args.json {
        let cluster = reach.cluster.as_str();
        let answer = Answer {
            schema: SCHEMA,
            cluster,
            overview: overview.as_ref().ok(),
            local: local.as_ref(),
        };
        if overview.is_ok() || local.is_some() {
            let json = serde_json::to_string_pretty(&answer).expect("its keys are strings");
            print(&(json + "\n"));
        }
    } else {
        if let Ok(overview) = &overview {
            print(&text(&reach, overview, local.is_some()));
        }
        if let Some(local) = &local {
            print(&daemon_here(local));
        }
        let seen = overview.iter().flat_map(|overview| &overview.certificates);
        print(&certificates::near(seen.chain(local.iter().flat_map(|local| &local.certificates))));
    }
    match overview {
        Ok(overview) => ExitCode::from(if overview.all_held() { OK } else { UNOWNED }),
        Err(why) => fail(NO_ANSWER, why),
    }
}

/// Of the form of the JSON, which runtime/STATUS.md describes: within one number fields are added only.
pub const SCHEMA: u32 = 1;

/// What `--json` prints.
#[derive(Serialize)]
pub struct Answer<'a> {
    /// The version of this form.
    pub schema: u32,
    /// The cluster's name.
    pub cluster: &'a str,
    /// What etcd says, where it answers.
    #[serde(flatten)]
    pub overview: Option<&'a Overview>,
    /// What the daemon on this host knows by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<&'a Local>,
}

async fn overview(reach: &Reach) -> Result<Overview, String> {
    let cluster = Cluster::new(reach)?;
    let observed = cluster.observe(beyond).await;
    let mut state = observed.map_err(|error| unanswered(&error, reach))?;
    if let Some(local) = local::ask(&runtime_directory(), &reach.cluster) {
        state.vouch_for(local.holding_by_consent());
    }
    let mut overview = state.overview(&cluster.keys, &WhatIf::default());
    overview.certificates = cluster.certificate_ends();
    Ok(overview)
}

fn text(reach: &Reach, overview: &Overview, runs_here: bool) -> String {
    let mut text = format!("cluster {} at revision {}\n", reach.cluster, overview.revision);
    if overview.vips.is_empty() && overview.nodes.is_empty() {
        text += match runs_here {
            true => "no turnip has a session\n",
            false => "no turnip was ever here, or the cluster has another name (--cluster)\n",
        };
    }
    if !overview.vips.is_empty() {
        text.push('\n');
        text += &vips(overview).render();
    }
    if !overview.nodes.is_empty() {
        text.push('\n');
        text += &nodes(overview).render();
    }
    let notes = notes(overview);
    if !notes.is_empty() {
        text.push('\n');
        text += &notes;
    }
    text
}

/// What the daemon on this host knows by itself.
fn daemon_here(local: &Local) -> String {
    let mut text = format!("\n{} runs here, ", local.node);
    let names: Vec<&str> = local.holds.iter().map(VipName::as_str).collect();
    text += &match names.as_slice() {
        [] => "and holds nothing\n".to_owned(),
        names => format!("and holds {}\n", names.join(", ")),
    };
    let lease = how_long(local.lease_ms);
    let is_without_news = local.etcd_says.as_deref() == Some(NO_NEWS);
    if let Some(why) = local.etcd_says.as_ref().filter(|_| local.etcd_away_ms.is_some()) {
        text += &match is_without_news {
            true => format!("no renewal is sent: {why}\n"),
            false => format!("the last renewal that failed: {why}\n"),
        };
    }
    let refuses = local.etcd_says.as_ref().is_some_and(|why| why.starts_with("etcd refuses"));
    let verb = match (is_without_news, refuses) {
        (true, _) => "has not been followed",
        (_, true) => "has refused every renewal",
        _ => "has taken no renewal",
    };
    if let Some(away) = local.etcd_away_ms.map(how_long) {
        text += &match (local.by_consent, local.holds.is_empty()) {
            (true, true) => format!(
                "etcd {verb} for {away}. All hosts hear each other, so they go on holding what they hold. Do not restart turnip now. If a host goes now, everybody's addresses go after at most a lease ({lease}), until etcd answers\n"
            ),
            (true, false) => format!(
                "held by consent of all hosts; etcd {verb} for {away}. Do not restart turnip now. If a host goes now, its and everybody's addresses go after at most a lease ({lease}), until etcd answers\n"
            ),
            (false, _) => format!(
                "etcd {verb} for {away}. Without it, and without consent of all hosts, addresses are held for at most a lease ({lease})\n"
            ),
        };
    }
    for concern in &local.etcd_concerns {
        text += &format!("{concern}\n");
    }
    for claim in &local.claims {
        text += &format!(
            "{}: the machine {} on {}, none of turnip's, says that it has {} too: {} times since {} ago, the last time {} ago\n",
            claim.vip,
            claim.mac,
            claim.heard_on,
            claim.address,
            claim.packets,
            how_long(claim.first_ago_ms),
            how_long(claim.last_ago_ms),
        );
    }
    match &local.heartbeats {
        None => text += "it does not hear the other hosts past etcd: addresses do not outlive it\n",
        Some(heartbeats) if heartbeats.from.is_empty() => {}
        Some(heartbeats) => {
            let mut table = Table::new(&["HEARTBEATS FROM", "HEARD", "PATH"]);
            for (node, way) in &heartbeats.from {
                let heard = way.heard_ago_ms.map(|ago| format!("{} ago", how_long(ago)));
                let path = if way.lost { "lost" } else { "ok" };
                table.row(vec![node.to_string(), shown(heard), path.into()]);
            }
            text += &table.render();
        }
    }
    text
}

/// The VIPs, one a row.
pub fn vips(overview: &Overview) -> Table {
    let mut table =
        Table::new(&["VIP", "ADDRESSES", "POLICY", "OWNER", "SINCE", "TOKEN", "PREFERRED"]);
    for (name, vip) in &overview.vips {
        let addresses: Vec<String> = vip.addresses.iter().map(ToString::to_string).collect();
        table.row(vec![
            name.to_string(),
            addresses.join(" "),
            policy(vip),
            shown(vip.owner.as_ref()),
            shown(since(vip)),
            shown(vip.token),
            preferred(vip),
        ]);
    }
    table
}

/// How long ago its ownership began.
pub fn since(vip: &Vip) -> Option<String> {
    ago(vip.since_unix_ms?)
}

/// Its policy, in words.
pub fn policy(vip: &Vip) -> String {
    vip.policy.map(|policy| policy_in_words(policy, vip.follows.as_deref())).unwrap_or_default()
}

/// A policy in words. `follows` is the key of another program that decides first.
pub fn policy_in_words(policy: SharedPolicy, follows: Option<&str>) -> String {
    let policy = match (follows, policy) {
        (Some(key), _) => return format!("follow {}", text::shown(key)),
        (None, SharedPolicy::Leader) => "leader",
        (None, SharedPolicy::Spread) => "spread",
        (None, SharedPolicy::Priority) => "priority",
        (None, SharedPolicy::PriorityNoPreempt) => "priority, stays",
    };
    policy.to_owned()
}

fn preferred(vip: &Vip) -> String {
    match (&vip.preferred, &vip.pinned) {
        (Some(preferred), Some(pinned)) if preferred == pinned => format!("{preferred} (pinned)"),
        (preferred, _) => shown(preferred.as_ref()),
    }
}

/// The nodes, one a row.
pub fn nodes(overview: &Overview) -> Table {
    let mut table = Table::new(&[
        "NODE",
        "HEALTH",
        "LEASE",
        "RENEWED",
        "VIPS",
        "WEIGHT",
        "ETCD MEMBER",
        "RAFT",
        "TURNIP",
    ]);
    for (name, node) in &overview.nodes {
        table.row(vec![
            name.to_string(),
            health(node),
            shown(node.lease_ms.map(how_long)),
            renewed(node),
            node.owns.len().to_string(),
            shown(node.weight),
            shown(node.member.as_ref()),
            raft(node),
            shown(node.version.as_ref()),
        ]);
    }
    table
}

fn health(node: &Node) -> String {
    match (node.session, node.drained, node.blocked.len()) {
        _ if node.session_unreadable => "unreadable".into(),
        _ if node.silent_beyond_lease => "silent".into(),
        (None, ..) => "down".into(),
        (_, true, _) => "drained".into(),
        (.., 0) if node.healthy => "ok".into(),
        (.., 0) => "starting".into(),
        (.., blocked) => format!("{blocked} blocked"),
    }
}

fn renewed(node: &Node) -> String {
    match (node.renewed_ago_ms, node.silent_for_ms) {
        (Some(ago), _) => format!("{} ago", how_long(ago)),
        // While all hosts hear each other, it is renewed once in a lease, which is not waited for.
        (None, Some(silent)) if node.is_at_ease_for(silent) => "at ease".into(),
        (None, Some(silent)) => format!("silent for > {}", how_long(silent)),
        (None, None) => String::new(),
    }
}

fn raft(node: &Node) -> String {
    match (node.raft_leader, node.raft_term) {
        (Some(true), Some(term)) => format!("leader, term {term}"),
        (Some(false), _) => "follower".into(),
        _ => String::new(),
    }
}

fn notes(overview: &Overview) -> String {
    let mut notes = String::new();
    for (name, vip) in &overview.vips {
        for note in &vip.notes {
            notes += &format!("{name}: {note}\n");
        }
    }
    for (name, node) in &overview.nodes {
        for (vip, why) in &node.blocked {
            notes += &format!("{name} cannot hold {vip}: {why}\n");
        }
        for (vip, what) in &node.notices {
            notes += &format!("{name} can hold {vip}, but {what}\n");
        }
        if node.repairs > 0 {
            notes += &format!(
                "{name} repaired addresses {} times: something on it takes them away or puts them back\n",
                node.repairs
            );
        }
    }
    notes += &checks_down(overview);
    for line in overview.left_alone() {
        notes += &format!("{line}\n");
    }
    notes
}

/// The checks that do not pass, since when, and why.
pub fn checks_down(overview: &Overview) -> String {
    let mut text = String::new();
    for (node, check, record) in overview
        .nodes
        .iter()
        .flat_map(|(node, of)| of.checks.iter().map(move |(check, record)| (node, check, record)))
    {
        let since = ago(record.since_unix_ms).map(|ago| format!(" since {ago}"));
        text += &match record.state {
            CheckState::Up => continue,
            CheckState::Waiting => format!("check {check} of {node} has not been tried yet\n"),
            CheckState::Down => {
                format!("check {check} of {node} fails{}: {}\n", shown(since), record.reason)
            }
        };
    }
    text
}

/// How long ago that was.
fn ago(unix_ms: u64) -> Option<String> {
    let now_ms = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_millis() as u64);
    (unix_ms > 0).then(|| format!("{} ago", how_long(now_ms.saturating_sub(unix_ms))))
}

/// The value where there is one.
pub fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
