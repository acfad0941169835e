//! `turnip forget`: the session of a host that is off and does not come back (rule 10.7).

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use turnip::config::{Reach, Sources};
use turnip::peers::{Identity, probe};
use turnip_core::records::{NodeRecord, SessionRecord, decode};
use turnip_core::{
    Compare, HeartbeatKeys, KeyKind, Keys, NodeName, OPS_PER_TXN_MAX, Op, Revision, Txn,
};

use super::cluster::{Cluster, ClusterState};
use super::intents::{finish, known, overview};
use super::overview::Overview;

/// What its help ends with.
pub const AFTER_HELP: &str = "\
While hosts hear each other, a session is ended only by those hosts that it lists. When all of \
these are gone for good together with its own host, nobody takes its VIPs for a day. This ends it \
at once, on the word of whoever calls it: if the host is alive after all and holds an address, two \
hosts have that address. What else is kept of it goes too: its drain, and what it told of its past.";

/// How long a daemon is given to reply to a probe.
const REPLY_WITHIN: Duration = Duration::from_millis(900);

/// Which node, and that it is off.
#[derive(Args)]
pub struct ForgetArgs {
    /// The node
    #[arg(value_name = "NODE")]
    node: NodeName,
    /// You know that its host is off, or cut off from the network, and stays so for a lease
    #[arg(long)]
    it_is_off: bool,
}

/// Ends the session of a node that is off, and takes away what it published.
pub fn forget(sources: &Sources, args: &ForgetArgs) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    let node = &args.node;
    finish(&reach, async |cluster, state| {
        let before = overview(cluster, state);
        let (left, nodes) = leftovers(&cluster.keys, state, node);
        known("node", node.as_str(), nodes.iter().map(NodeName::as_str))?;
        let session = cluster.keys.session(node);
        let owned = before.nodes.get(node).map_or(&[][..], |node| &node.owns);
        let owned: Vec<String> = owned.iter().map(ToString::to_string).collect();
        let seen = state.modified(&session);
        if let Some(value) = state.value(&session) {
            let record = decode::<SessionRecord>(value)
                .map_err(|error| format!("the session of {node} is left alone: {error}"))?;
            if !args.it_is_off {
                return Err(asks(node, &owned));
            }
            demand_silence(cluster, state, node, &reach)?;
            // One that is at ease is renewed once in a lease, and later when etcd is slow.
            tokio::time::sleep(2 * record.lease() + Duration::from_secs(1)).await;
        }
        let is = seen.unwrap_or(Revision(0));
        let txn = Txn {
            compares: vec![Compare::ModRevision { key: session.clone(), is }],
            success: left.iter().map(|key| Op::Delete { key: key.clone() }).collect(),
            ..Txn::default()
        };
        match cluster.commit(txn).await.map_err(|error| error.to_string())?.succeeded {
            true => {
                let drained = left.contains(&cluster.keys.drain(node));
                Ok(forgotten(node, &owned, seen.is_some()) + &intents(node, drained, &before))
            }
            false => Err(format!(
                "the session of {node} was renewed meanwhile: it is alive. Nothing was touched"
            )),
        }
    })
}

/// The keys that are about `node` alone, and all nodes of which there is one: a host that stopped in an
/// orderly way has no session, and may be drained still.
fn leftovers(
    keys: &Keys,
    state: &ClusterState,
    node: &NodeName,
) -> (Vec<String>, BTreeSet<NodeName>) {
    let (mut left, mut nodes) = (vec![keys.session(node), keys.node(node)], BTreeSet::new());
    for kv in state.kvs() {
        let (of, is_more) = match keys.kind(&kv.key) {
            KeyKind::Session(of) | KeyKind::Node(of) => (of, false),
            KeyKind::Drain(of) | KeyKind::History(of, _) => (of, true),
            _ => continue,
        };
        if of == *node && is_more && left.len() < OPS_PER_TXN_MAX {
            left.push(kv.key.clone());
        }
        nodes.insert(of);
    }
    (left, nodes)
}

/// What operators wanted of it.
fn intents(node: &NodeName, drained: bool, before: &Overview) -> String {
    let mut said = String::new();
    if drained {
        said += &format!("{node} is not drained any more\n");
    }
    let pinned = before.vips.iter().filter(|(_, vip)| vip.pinned.as_ref() == Some(node));
    for (vip, _) in pinned {
        said += &format!("{vip} is pinned to {node} still, without effect: turnip unpin {vip}\n");
    }
    said
}

fn asks(node: &NodeName, owned: &[String]) -> String {
    let what = match owned {
        [] => "it owns nothing".to_owned(),
        owned => format!("it owns {}, which others take then", owned.join(", ")),
    };
    format!(
        "nothing was touched: {node} has a session, and {what}. Is its host off, or cut off from the network? If it is not, two hosts will have its addresses. When you are sure: turnip forget {node} --it-is-off"
    )
}

/// A daemon that replies is not off.
fn demand_silence(
    cluster: &Cluster,
    state: &ClusterState,
    node: &NodeName,
    reach: &Reach,
) -> Result<(), String> {
    let record = state.value(&cluster.keys.node(node)).map(decode::<NodeRecord>);
    let keys = state.value(&cluster.keys.heartbeat_keys()).map(decode::<HeartbeatKeys>);
    let (Some(Ok(record)), Some(Ok(keys))) = (record, keys) else { return Ok(()) };
    let Some(address) = record.heartbeats else { return Ok(()) };
    let identity = Identity {
        cluster: reach.cluster.clone(),
        node: "operator".parse().expect("it is a name"),
    };
    let number = getrandom::u64().map_err(|error| format!("no randomness: {error}"))?;
    let replies = probe(&identity, &keys, &[(node.clone(), address)].into(), number, REPLY_WITHIN);
    match replies {
        Ok(replies) if replies.contains_key(node) => Err(format!(
            "turnip on {node} replies at {address}: its host is not off. Nothing was touched"
        )),
        // Nothing is known by that: a firewall may be between.
        _ => Ok(()),
    }
}

fn forgotten(node: &NodeName, owned: &[String], had_session: bool) -> String {
    match (had_session, owned) {
        (false, _) => format!("{node} had no session; what it had published is gone\n"),
        (true, []) => format!("{node} is forgotten; it owned nothing\n"),
        (true, owned) => format!("{node} is forgotten; others take {}\n", owned.join(", ")),
    }
}
