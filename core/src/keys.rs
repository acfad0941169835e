//! The keys under `/turnip/<cluster>/`.

use crate::name::{ClusterName, NodeName, VipName};

/// Makes a cluster's keys and takes them apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Keys {
    prefix: String,
}

/// What a key under the prefix is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeyKind {
    /// `sessions/<node>`
    Session(NodeName),
    /// `nodes/<node>`
    Node(NodeName),
    /// `vips/<vip>`
    Vip(VipName),
    /// `intents/drain/<node>`
    Drain(NodeName),
    /// `intents/pin/<vip>`
    Pin(VipName),
    /// `heartbeats/key`
    HeartbeatKeys,
    /// `history/<node>/<slot>`
    History(NodeName, u8),
    /// Nothing that this version knows: left alone.
    Foreign,
}

impl Keys {
    /// The keys of `cluster`.
    pub fn new(cluster: &ClusterName) -> Self {
        Keys { prefix: format!("/turnip/{cluster}/") }
    }

    /// What all of the cluster's keys begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the keys of all sessions begin with.
    pub fn sessions(&self) -> String {
        format!("{}sessions/", self.prefix)
    }

    /// The key that a node writes at every renewal.
    pub fn session(&self, node: &NodeName) -> String {
        format!("{}sessions/{node}", self.prefix)
    }

    /// The key in which a node says what it can take.
    pub fn node(&self, node: &NodeName) -> String {
        format!("{}nodes/{node}", self.prefix)
    }

    /// The key that names a VIP's owner.
    pub fn vip(&self, vip: &VipName) -> String {
        format!("{}vips/{vip}", self.prefix)
    }

    /// The key whose presence drains a node.
    pub fn drain(&self, node: &NodeName) -> String {
        format!("{}intents/drain/{node}", self.prefix)
    }

    /// The key that pins a VIP to a node.
    pub fn pin(&self, vip: &VipName) -> String {
        format!("{}intents/pin/{vip}", self.prefix)
    }

    /// The key in which lies what heartbeats are authenticated with.
    pub fn heartbeat_keys(&self) -> String {
        format!("{}heartbeats/key", self.prefix)
    }

    /// The key in which a node says what one of its transactions did.
    pub fn history(&self, node: &NodeName, slot: u8) -> String {
        format!("{}history/{node}/{slot:02}", self.prefix)
    }

    /// What `key` is about.
    pub fn kind(&self, key: &str) -> KeyKind {
        self.known(key).unwrap_or(KeyKind::Foreign)
    }

    fn known(&self, key: &str) -> Option<KeyKind> {
        let (kind, name) = key.strip_prefix(&self.prefix)?.split_once('/')?;
        Some(match (kind, name.split_once('/')) {
            ("sessions", None) => KeyKind::Session(name.parse().ok()?),
            ("nodes", None) => KeyKind::Node(name.parse().ok()?),
            ("vips", None) => KeyKind::Vip(name.parse().ok()?),
            ("heartbeats", None) if name == "key" => KeyKind::HeartbeatKeys,
            ("history", Some((node, slot))) => {
                KeyKind::History(node.parse().ok()?, slot.parse().ok()?)
            }
            ("intents", Some(("drain", node))) => KeyKind::Drain(node.parse().ok()?),
            ("intents", Some(("pin", vip))) => KeyKind::Pin(vip.parse().ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(&"main".parse().unwrap())
    }

    #[test]
    fn every_key_is_taken_apart_into_what_it_was_made_of() {
        let (keys, node, vip) = (keys(), "10.0.0.1".parse().unwrap(), "api".parse().unwrap());
        assert_eq!(keys.kind(&keys.session(&node)), KeyKind::Session(node.clone()));
        assert_eq!(keys.kind(&keys.node(&node)), KeyKind::Node(node.clone()));
        assert_eq!(keys.kind(&keys.history(&node, 7)), KeyKind::History(node.clone(), 7));
        assert_eq!(keys.kind(&keys.drain(&node)), KeyKind::Drain(node));
        assert_eq!(keys.kind(&keys.vip(&vip)), KeyKind::Vip(vip.clone()));
        assert_eq!(keys.kind(&keys.pin(&vip)), KeyKind::Pin(vip));
        assert_eq!(keys.kind(&keys.heartbeat_keys()), KeyKind::HeartbeatKeys);
    }

    #[test]
    fn what_is_no_key_of_ours_is_foreign() {
        for key in [
            "/turnip/main/",
            "/turnip/main/vips/",
            "/turnip/main/vips/a/b",
            "/turnip/main/x/y",
            "/turnip/main/history/a",
            "/turnip/main/history/a/x",
            "/turnip/main/history/a/256",
            "/other",
        ] {
            assert_eq!(keys().kind(key), KeyKind::Foreign, "{key}");
        }
    }
}
