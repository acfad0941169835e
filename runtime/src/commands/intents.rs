//! `turnip drain`, `undrain`, `pin` and `unpin`: what an operator wants, written into etcd.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use turnip::config::{Reach, Sources};
use turnip_core::placement::Unfit;
use turnip_core::records::{DrainRecord, PinRecord, decode, encode};
use turnip_core::{NodeName, Op, VipName};

use super::cluster::{Cluster, ClusterState, block_on, unanswered};
use super::overview::{Overview, WhatIf};
use super::{FAILED, OK, fail, print};

/// A node.
#[derive(Args)]
pub struct DrainArgs {
    /// The node [default: this host's]
    #[arg(value_name = "NODE", env = "TURNIP_NODE")]
    node: Option<String>,
}

/// A VIP, and where it should be.
#[derive(Args)]
pub struct PinArgs {
    /// The VIP
    #[arg(value_name = "VIP")]
    vip: VipName,
    /// The node that should own it
    #[arg(value_name = "NODE")]
    to: NodeName,
}

/// A VIP.
#[derive(Args)]
pub struct UnpinArgs {
    /// The VIP
    #[arg(value_name = "VIP")]
    vip: VipName,
}

/// Drains a node, or lets it take VIPs again.
pub fn drain(sources: &Sources, on: bool) -> ExitCode {
    let (reach, node) = match Reach::load_with_node(sources) {
        Ok(loaded) => loaded,
        Err(problems) => return super::refuse(&problems),
    };
    finish(&reach, async |cluster, state| {
        let key = cluster.keys.drain(&node);
        if !on {
            if !state.has(&key) {
                return Ok(format!("{node} was not drained\n"));
            }
            cluster.change(Op::Delete { key }).await.map_err(|error| error.to_string())?;
            return Ok(format!("{node} takes VIPs again, as their policies say\n"));
        }
        known("node", node.as_str(), overview(cluster, state).nodes.keys().map(NodeName::as_str))?;
        if overview(cluster, state).nodes.get(&node).is_some_and(|node| node.drained) {
            return Ok(format!("{node} is drained already; `turnip undrain {node}` ends that\n"));
        }
        let before = overview(cluster, state);
        let what_if = WhatIf { drained: BTreeSet::from([node.clone()]), ..WhatIf::default() };
        let after = state.overview(&cluster.keys, &what_if);
        let value = encode(&DrainRecord {});
        cluster.change(Op::Put { key, value }).await.map_err(|error| error.to_string())?;
        Ok(drained(&node, &before, &after))
    })
}

/// Pins a VIP to a node.
pub fn pin(sources: &Sources, args: &PinArgs) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    let PinArgs { vip, to } = args;
    finish(&reach, async |cluster, state| {
        let before = overview(cluster, state);
        known("VIP", vip.as_str(), before.vips.keys().map(VipName::as_str))?;
        known("node", to.as_str(), before.nodes.keys().map(NodeName::as_str))?;
        let what_if = WhatIf { pinned: [(vip.clone(), to.clone())].into(), ..WhatIf::default() };
        let after = state.overview(&cluster.keys, &what_if);
        let key = cluster.keys.pin(vip);
        let value = encode(&PinRecord { node: to.clone() });
        cluster.change(Op::Put { key, value }).await.map_err(|error| error.to_string())?;
        Ok(pinned(vip, to, &before, &after))
    })
}

/// Lets the policy decide again.
pub fn unpin(sources: &Sources, args: &UnpinArgs) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    let vip = &args.vip;
    finish(&reach, async |cluster, state| {
        let key = cluster.keys.pin(vip);
        let Some(value) = state.value(&key) else {
            let overview = overview(cluster, state);
            known("VIP", vip.as_str(), overview.vips.keys().map(VipName::as_str))?;
            return Ok(format!("{vip} was not pinned\n"));
        };
        let from = match decode::<PinRecord>(value) {
            Ok(pin) => format!("to {}", pin.node),
            Err(_) => "by a record that this version cannot read".into(),
        };
        cluster.change(Op::Delete { key }).await.map_err(|error| error.to_string())?;
        Ok(format!("{vip} is no longer pinned {from}; its policy decides\n"))
    })
}

/// Reads the cluster, does the work, and says what will happen.
pub fn finish(
    reach: &Reach,
    work: impl AsyncFnOnce(&Cluster, &ClusterState) -> Result<String, String>,
) -> ExitCode {
    super::notice(reach);
    let all = async {
        let cluster = Cluster::new(reach)?;
        let state =
            cluster.observe(|_| Duration::ZERO).await.map_err(|error| unanswered(&error, reach))?;
        work(&cluster, &state).await
    };
    match block_on(all).flatten() {
        Ok(said) => {
            print(&said);
            ExitCode::from(OK)
        }
        Err(why) => fail(FAILED, why),
    }
}

/// What the cluster looks like.
pub fn overview(cluster: &Cluster, state: &ClusterState) -> Overview {
    state.overview(&cluster.keys, &WhatIf::default())
}

/// A name that nobody knows is a typing error, or belongs to another cluster.
///
/// # Errors
/// When it is none of `all`.
pub fn known<'a>(kind: &str, name: &str, all: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let all: Vec<&str> = all.collect();
    match all.as_slice() {
        all if all.contains(&name) => Ok(()),
        [] => Err(format!("there is no {kind} {name:?}, nor any other in this cluster")),
        all => Err(format!("there is no {kind} {name:?}; there are {}", all.join(", "))),
    }
}

fn drained(node: &NodeName, before: &Overview, after: &Overview) -> String {
    let mut said = String::new();
    let owned = &before.nodes[node].owns;
    for vip in owned {
        said += &match &after.vips[vip].preferred {
            Some(next) => format!("{vip} moves to {next}\n"),
            None => format!("{vip} will have no owner: no other node can take it\n"),
        };
    }
    if owned.is_empty() {
        said += &format!("{node} owns nothing now\n");
    }
    said + &format!("{node} takes nothing until `turnip undrain {node}`\n")
}

fn pinned(vip: &VipName, to: &NodeName, before: &Overview, after: &Overview) -> String {
    let owner = before.vips[vip].owner.as_ref();
    let until = format!("it stays there until `turnip unpin {vip}`, while {to} can take it\n");
    let after = &after.vips[vip];
    match (&after.preferred, owner) {
        (Some(next), Some(owner)) if next == to && owner == to => {
            format!("{vip} is on {to}; {until}")
        }
        (Some(next), Some(owner)) if next == to => {
            format!("{vip} moves from {owner} to {to}; {until}")
        }
        (Some(next), None) if next == to => format!("{to} takes {vip}; {until}"),
        _ => {
            // Pinned and no candidate, or it would be preferred.
            let why = after.pin_ignored.as_ref().map(Unfit::to_string).unwrap_or_default();
            format!(
                "the pin of {vip} to {to} is written, and has no effect for now, as {to} cannot take it: {why}\n"
            )
        }
    }
}
