//! `turnip wait`: returns when VIPs are held, for scripts and units that need an address first.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, sleep, timeout};
use turnip::config::{Reach, Sources, duration};
use turnip_core::{NodeName, VipName};

use super::cluster::{Cluster, block_on};
use super::local::{self, Local};
use super::overview::{Overview, WhatIf};
use super::run::runtime_directory;
use super::{FAILED, OK, fail, print};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
A VIP is held when the daemon on this host says that it has it, whether or not etcd answers, or when a \
living node owns it in etcd.

Exit status: 0 all are held; 1 not in time, and why; 2 wrong configuration or command line.";

/// How long until it is looked again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A look that has begun has as long as this, whatever is left.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// What to wait for.
#[derive(Args)]
pub struct WaitArgs {
    /// A VIP that some host is to hold; may be given more than once
    #[arg(long, value_name = "VIP", required = true)]
    held: Vec<VipName>,
    /// How long to wait, as in 30s; 0s looks once
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

/// Waits.
pub fn wait(sources: &Sources, args: &WaitArgs) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    match block_on(until_held(&reach, args)).flatten() {
        Ok(said) => {
            print(&said);
            ExitCode::from(OK)
        }
        Err(why) => fail(FAILED, format!("not within {:?}: {why}", args.timeout)),
    }
}

async fn until_held(reach: &Reach, args: &WaitArgs) -> Result<String, String> {
    let cluster = Cluster::new(reach)?;
    let deadline = Instant::now() + args.timeout;
    loop {
        let local = local::ask(&runtime_directory(), &reach.cluster);
        let here = |vip: &VipName| local.as_ref().is_some_and(|local| local.holds.contains(vip));
        let overview = match args.held.iter().all(here) {
            true => Err("not asked".to_owned()),
            false => {
                let left = deadline.saturating_duration_since(Instant::now()).max(LOOK_MIN);
                look(&cluster, left).await
            }
        };
        let holders: Result<Vec<NodeName>, String> = args
            .held
            .iter()
            .map(|vip| holder(vip, overview.as_ref().map_err(Clone::clone), local.as_ref()))
            .collect();
        match holders {
            Ok(holders) => {
                let lines = args.held.iter().zip(holders);
                return Ok(lines.map(|(vip, on)| format!("{vip} is held by {on}\n")).collect());
            }
            Err(why) if Instant::now() >= deadline => return Err(why),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

async fn look(cluster: &Cluster, within: Duration) -> Result<Overview, String> {
    // As `status` does: an interval of renewing is a sixth of the lease, or up to a third.
    let patience =
        |lease: Duration| (lease / 4).min(Duration::from_secs(10)) + Duration::from_millis(100);
    match timeout(within, cluster.observe(patience)).await {
        Ok(Ok(state)) => Ok(state.overview(&cluster.keys, &WhatIf::default())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("etcd does not answer within {within:.1?}")),
    }
}

/// Who holds the VIP, or why nobody does, as far as is known.
fn holder(
    vip: &VipName,
    overview: Result<&Overview, String>,
    local: Option<&Local>,
) -> Result<NodeName, String> {
    if let Some(local) = local.filter(|local| local.holds.contains(vip)) {
        return Ok(local.node.clone());
    }
    let overview = overview.map_err(|why| format!("{vip} is not held here; {why}"))?;
    let Some(known) = overview.vips.get(vip) else {
        let all: Vec<&str> = overview.vips.keys().map(VipName::as_str).collect();
        return Err(match all.as_slice() {
            [] => format!("no node knows a VIP {vip}, or any other"),
            all => format!("no node knows a VIP {vip}; known are {}", all.join(", ")),
        });
    };
    let Some(owner) = &known.owner else { return Err(format!("nobody owns {vip}")) };
    if local.is_some_and(|local| local.node == *owner) {
        return Err(format!("{owner} owns {vip}, and has not put it up yet"));
    }
    let silent = overview.nodes.get(owner).and_then(|node| {
        node.silent_for_ms
            .filter(|silent| node.renewed_ago_ms.is_none() && !node.is_at_ease_for(*silent))
    });
    match silent {
        Some(_) => Err(format!("{owner} owns {vip}, and nothing is heard of {owner}")),
        None => Ok(owner.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use turnip_core::Revision;

    use super::*;
    use crate::commands::overview::{Node, Vip};

    fn overview(owner: Option<&str>, node: Node) -> Overview {
        let owner = owner.map(|name| name.parse().unwrap());
        let nodes = owner.iter().cloned().map(|name: NodeName| (name, Node::default()));
        let mut nodes: BTreeMap<NodeName, Node> = nodes.collect();
        nodes.values_mut().for_each(|known| {
            known.silent_for_ms = node.silent_for_ms;
            known.renewed_ago_ms = node.renewed_ago_ms;
        });
        let vip = Vip { owner, ..Vip::default() };
        Overview {
            revision: Revision(1),
            certificates: Vec::new(),
            vips: [("api".parse().unwrap(), vip)].into(),
            nodes,
            unreadable: BTreeMap::new(),
        }
    }

    fn local(holds: &[&str]) -> Local {
        let holds: BTreeSet<&str> = holds.iter().copied().collect();
        let json = serde_json::json!({
            "cluster": "main", "node": "a", "lease_ms": 3000, "holds": holds,
            "etcd_away_ms": null, "by_consent": false, "heartbeats": null,
        });
        serde_json::from_value(json).unwrap()
    }

    fn ask(overview: Result<&Overview, String>, local: Option<&Local>) -> Result<String, String> {
        let vip = "api".parse().unwrap();
        holder(&vip, overview, local).map(|node| node.to_string())
    }

    #[test]
    fn what_this_host_holds_is_held_whatever_etcd_says() {
        let away = || Err("etcd does not answer".to_owned());
        assert_eq!(ask(away(), Some(&local(&["api"]))).as_deref(), Ok("a"));
        let why = ask(away(), Some(&local(&[]))).unwrap_err();
        assert!(why.contains("etcd does not answer"), "{why}");
    }

    #[test]
    fn a_living_owner_elsewhere_holds_and_a_silent_one_does_not() {
        let alive = overview(Some("b"), Node { renewed_ago_ms: Some(9), ..Node::default() });
        assert_eq!(ask(Ok(&alive), Some(&local(&[]))).as_deref(), Ok("b"));
        let silent = overview(Some("b"), Node { silent_for_ms: Some(900), ..Node::default() });
        assert!(ask(Ok(&silent), None).unwrap_err().contains("nothing is heard of b"));
    }

    #[test]
    fn an_owner_that_has_not_put_it_up_yet_does_not_hold() {
        let named = overview(Some("a"), Node { renewed_ago_ms: Some(9), ..Node::default() });
        assert!(ask(Ok(&named), Some(&local(&[]))).unwrap_err().contains("not put it up"));
        assert!(ask(Ok(&overview(None, Node::default())), None).unwrap_err().contains("nobody"));
    }
}
