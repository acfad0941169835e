//! Names and keys of a run, and what a transaction with them is for.

use turnip_core::{ClusterName, KeyKind, Keys, NodeName, Op, Txn, VipName, records};

use crate::plan::{NameId, Params, TxnKind};

/// The names that hosts and VIPs have in every run.
pub struct Names {
    keys: Keys,
    nodes: Vec<NodeName>,
    vips: Vec<VipName>,
}

impl Names {
    /// The names of the hosts and VIPs; each VIP has a second name to go by.
    pub fn new(params: &Params) -> Self {
        let vips = 0..params.vips.len();
        let seconds = vips.clone().map(|vip| format!("w{}", vip + 1).parse().expect("a name"));
        let (nodes, firsts) = match &params.played {
            Some(played) => {
                let firsts = played.vips.iter().map(|vip| vip.name.clone());
                (played.hosts.clone(), firsts.collect())
            }
            None => {
                let firsts: Vec<VipName> = vips.map(vip_name).collect();
                ((0..params.hosts).map(node_name).collect(), firsts)
            }
        };
        let vips = firsts.into_iter().chain(seconds).collect();
        Names { keys: Keys::new(&Self::cluster(0)), nodes, vips }
    }

    /// A cluster's name.
    pub fn cluster(number: usize) -> ClusterName {
        let text = if number == 0 { "sim".to_owned() } else { format!("sim{number}") };
        text.parse().expect("a valid name")
    }

    /// The keys of the first cluster.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A host's node.
    pub fn node(&self, host: usize) -> &NodeName {
        &self.nodes[host]
    }

    /// A VIP.
    pub fn vip(&self, vip: NameId) -> &VipName {
        &self.vips[vip]
    }

    /// A host's number by its node's name.
    pub fn host_of(&self, node: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|name| name == node)
    }

    /// The key of a host's session.
    pub fn session(&self, host: usize) -> String {
        self.keys.session(&self.nodes[host])
    }

    /// The key that drains a host.
    pub fn drain(&self, host: usize) -> String {
        self.keys.drain(&self.nodes[host])
    }

    /// The key that pins a VIP.
    pub fn pin(&self, vip: usize) -> String {
        self.keys.pin(&self.vips[vip])
    }

    /// What a transaction is for, of the host whose name is that of `own`; nothing when it is none of
    /// turnip's.
    pub fn kind(&self, own: usize, txn: &Txn) -> Option<TxnKind> {
        let own = self.nodes.get(own)?;
        let kinds = txn.success.iter().filter_map(|op| match op {
            Op::Get { .. } => None,
            Op::Delete { key } => match self.keys.kind(key) {
                KeyKind::Session(node) if node == *own => Some(TxnKind::Close),
                KeyKind::Session(_) => Some(TxnKind::Expire),
                KeyKind::Vip(_) => Some(TxnKind::HandOver),
                _ => None,
            },
            Op::Put { key, value } => match self.keys.kind(key) {
                KeyKind::Session(_) => {
                    Some(if opens(txn) { TxnKind::Open } else { TxnKind::Renew })
                }
                KeyKind::Node(_) => Some(TxnKind::Publish),
                KeyKind::Vip(_) => {
                    let record: records::VipRecord = records::decode(value).ok()?;
                    let claims = record.node == *own;
                    Some(if claims { TxnKind::Claim } else { TxnKind::HandOver })
                }
                _ => None,
            },
        });
        // An expiry brings claims with it, and is an expiry all the same.
        kinds.reduce(|first, kind| if kind == TxnKind::Expire { kind } else { first })
    }
}

/// Whether a put of a session makes it: it compares with the key's absence.
fn opens(txn: &Txn) -> bool {
    txn.compares.iter().any(|compare| match compare {
        turnip_core::Compare::ModRevision { is, .. }
        | turnip_core::Compare::CreateRevision { is, .. } => is.0 == 0,
        turnip_core::Compare::CreateRevisionNot { .. } => false,
    })
}

/// The name of a host's node, as in the lab.
fn node_name(host: usize) -> NodeName {
    format!("h{}", host + 1).parse().expect("a valid name")
}

/// The name of a VIP, as in the lab.
pub fn vip_name(vip: usize) -> VipName {
    format!("v{}", vip + 1).parse().expect("a valid name")
}
