//! The values in etcd: JSON with a version field.
//!
//! A value that cannot be read, or has another version, is named and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::check::CheckState;
use crate::config::{Policy, VipConfig};
use crate::heartbeat::HeartbeatKeys;
use crate::lease::Lease;
use crate::name::{CheckName, HostId, NodeName, Revision, SessionId, VipName};
use crate::text;

/// A value in etcd, and the versions of it.
///
/// A daemon leaves a record alone whose version it does not read: so what an older one must not
/// misunderstand has another version.
pub trait Record: Serialize + DeserializeOwned {
    /// The versions that this code reads.
    const READS: RangeInclusive<u32> = 1..=1;
    /// What is wrong with such a value is told without a word of it.
    const IS_SECRET: bool = false;

    /// The version that this record has.
    fn version(&self) -> u32 {
        1
    }
}

/// Makes each of a process's writes of its session unlike every other write of anybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Nonce {
    /// Drawn at random when the process starts.
    pub process: u64,
    /// Counts the process's writes.
    pub count: u64,
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> String {
        format!("{:016x}-{}", nonce.process, nonce.count)
    }
}

impl TryFrom<String> for Nonce {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (process, count) = text.split_once('-')?;
            Some(Nonce {
                process: u64::from_str_radix(process, 16).ok()?,
                count: count.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("{text:?} is no nonce"))
    }
}

/// `sessions/<node>`: the hot key, written at every renewal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The lease: how long its node may hold after a renewal.
    pub lease_ms: u64,
    /// The host that the node runs on.
    pub host: HostId,
    /// Of this very write.
    pub nonce: Nonce,
    /// Who alone may expire the session when it falls silent (rule 10.1). Empty: everybody may, and
    /// nothing but a write in etcd makes it last longer.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub witnesses: BTreeSet<NodeName>,
}

/// An older daemon would expire a session that hosts keep alive among themselves.
impl Record for SessionRecord {
    const READS: RangeInclusive<u32> = 1..=2;

    fn version(&self) -> u32 {
        if self.witnesses.is_empty() { 1 } else { 2 }
    }
}

impl Record for NodeRecord {}

impl<T: Record> Record for Arc<T>
where
    Arc<T>: Serialize + DeserializeOwned,
{
    const READS: RangeInclusive<u32> = T::READS;

    fn version(&self) -> u32 {
        T::version(self)
    }
}

impl Record for VipRecord {}
impl Record for DrainRecord {}
impl Record for PinRecord {}
impl Record for HeartbeatKeys {
    const IS_SECRET: bool = true;
}

impl SessionRecord {
    /// The lease by which others go: the one that the session declares, within what can be configured
    /// (rule 9.10). Nobody holds for longer than that.
    pub fn lease(&self) -> Duration {
        self.declared_lease().clamp(Lease::DURATION_MIN, Lease::DURATION_MAX)
    }

    /// The lease that the session declares, whatever that is.
    pub fn declared_lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

/// `nodes/<node>`: what the others need for placement. It belongs to the session of its node when
/// its mod_revision is at or after that session's create_revision.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The VIPs that the node is configured with.
    pub vips: BTreeMap<VipName, VipOffer>,
    /// The checks of what stands behind them, for people; nothing is decided by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<CheckName, CheckRecord>,
    /// Its share under `spread`, relative to the others'. 0 takes nothing that another can.
    pub weight: u32,
    /// It knows that a VIP may have a share of its own (rule 11.5). While some turnip does not, nobody
    /// goes by these, or two would hand a VIP to each other without end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub weighs_vips: bool,
    /// It sees that an operator drains it, or it stops, and holds nothing.
    pub drained: bool,
    /// The etcd member on its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberRecord>,
    /// Addresses put back or taken away because somebody else had changed them.
    #[serde(default)]
    pub repairs: u64,
    /// Where it receives heartbeats; absent where it does not (rule 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeats: Option<SocketAddr>,
    /// turnip's version.
    pub version: String,
}

/// Interfaces, with the link-local addresses that each has.
pub type LinkLocal = BTreeMap<Arc<str>, BTreeSet<IpAddr>>;

/// What a node publishes of one of its VIPs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct VipOffer {
    /// Of the definition: hosts with different ones do not hand over to each other.
    pub digest: String,
    /// The VIP's addresses.
    pub addresses: Vec<IpNet>,
    /// The interface that has those of them which are link-local: it says which is meant of those
    /// that have this name (rule 4.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Arc<str>>,
    /// The same where they are on several: which of them each of these has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: LinkLocal,
    /// Its policy: for people and programs that ask who should own it and have no definition.
    pub policy: SharedPolicy,
    /// The key that it follows (rule 13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// This node's under the policy `priority`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// This node's share of it under `spread`, where that differs from that of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// At which revision the node first published these addresses under this name in its session;
    /// absent in that publication, whose own revision it is. It is the VIP's and not the record's:
    /// another VIP that comes or goes takes nothing from the right of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defined_at: Option<Revision>,
    /// Why the node cannot take it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
    /// Only checks are why: it takes it all the same, when nobody is better (rule 11.4). An older turnip
    /// takes it for blocked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub last_resort: bool,
    /// What an operator should see to on the node, although it can take the VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// The node cannot take it, has nothing of it on its interface, and gives up its right as the
    /// first with these addresses: before it takes the VIP again it publishes it anew, as the
    /// youngest (rule 4.10).
    #[serde(default, skip_serializing_if = "is_false")]
    pub yields: bool,
    /// The kernel refused the VIP when the node last tried to hold it, as of this revision: nobody
    /// gives up a VIP that works for such a node (rule 7.7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Revision>,
    /// That is for an interface that comes and goes, and is over by itself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unsteady: bool,
}

impl VipOffer {
    /// Since which revision its node has had these addresses under this name: in a session that began at
    /// `session`, and in a record that was written at `modified`. What it says beyond these two is not
    /// believed (rule 4.7).
    pub fn defined_since(&self, session: Revision, modified: Revision) -> Revision {
        self.defined_at.unwrap_or(modified).min(modified).max(session)
    }

    /// The interfaces of a link-local address; none from an older turnip, which does not tell.
    pub fn links_of(&self, address: IpAddr) -> Option<Vec<&Arc<str>>> {
        if self.links.is_empty() {
            return Some(vec![self.interface.as_ref()?]);
        }
        let with_it = self.links.iter().filter(|(_, has)| has.contains(&address));
        Some(with_it.map(|(link, _)| link).collect())
    }

    /// Whether it is of the interfaces that the VIP's link-local addresses are on. What an older turnip
    /// wrote does not say, and so is `unsaid` of all.
    pub fn has_links_of(&self, vip: &VipConfig, unsaid: bool) -> bool {
        let says_nothing = self.interface.is_none() && self.links.is_empty();
        let (interface, links) = links(vip);
        (unsaid && says_nothing) || (self.interface == interface && self.links == links)
    }

    /// The offer of a VIP that can be taken; `digest` is [`VipConfig::digest`], which takes a while
    /// for thousands.
    pub fn of(vip: &VipConfig, digest: String) -> Self {
        let priority = match vip.policy {
            Policy::Priority { priority, .. } => priority,
            _ => 0,
        };
        let (interface, links) = links(vip);
        let addresses: BTreeSet<IpNet> = vip.addresses.iter().map(|one| one.net).collect();
        VipOffer {
            digest,
            addresses: addresses.into_iter().collect(),
            interface,
            links,
            policy: SharedPolicy::from(&vip.policy),
            follows: vip.policy.follow().map(|follow| follow.key.clone()),
            priority,
            weight: None,
            defined_at: None,
            blocked: None,
            last_resort: false,
            notice: None,
            yields: false,
            failed_at: None,
            unsteady: false,
        }
    }
}

/// Where the VIP's link-local addresses are: the one interface, or which of several each is on.
fn links(vip: &VipConfig) -> (Option<Arc<str>>, LinkLocal) {
    let mut all = vip.link_local();
    match all.len() {
        0 | 1 => (all.pop_first().map(|(interface, _)| interface), BTreeMap::new()),
        _ => (None, all),
    }
}

/// How one of a node's checks stands.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CheckRecord {
    /// What it is.
    pub state: CheckState,
    /// Since when, by the node's wall clock, in ms since 1970; 0 for since it was started.
    #[serde(default)]
    pub since_unix_ms: u64,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The part of a VIP's policy that is the same on all hosts: not a node's own priority.
///
/// One that follows a key has a word for older turnips, which know no other: of the hosts that the key
/// names, and there is one, it stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedPolicy {
    /// The host whose etcd member is the raft leader.
    Leader,
    /// The winner of weighted rendezvous hashing.
    Spread,
    /// The host with the highest priority.
    Priority,
    /// The same, but the VIP stays where it is.
    PriorityNoPreempt,
}

impl From<&Policy> for SharedPolicy {
    fn from(policy: &Policy) -> Self {
        match policy {
            Policy::Leader => SharedPolicy::Leader,
            Policy::Spread => SharedPolicy::Spread,
            Policy::Priority { preempt: true, .. } => SharedPolicy::Priority,
            Policy::Priority { preempt: false, .. } | Policy::Follow(_) => {
                SharedPolicy::PriorityNoPreempt
            }
        }
    }
}

/// What the etcd member on a node's host says of itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The member's id, in hexadecimal as etcdctl prints it.
    pub id: String,
    /// Whether it is the raft leader.
    pub leader: bool,
    /// In which raft term.
    pub term: u64,
}

impl MemberRecord {
    /// The raft term in which it is the leader, if it is.
    pub fn leads_term(&self) -> Option<u64> {
        self.leader.then_some(self.term)
    }
}

/// `vips/<vip>`: who owns it. Its mod_revision is the ownership's fencing token.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct VipRecord {
    /// The owner.
    pub node: NodeName,
    /// The owner's session: without it the VIP is free.
    pub session: SessionId,
    /// When the ownership began, by its writer's wall clock, in ms since 1970. For people only.
    #[serde(default)]
    pub since_unix_ms: u64,
}

/// `intents/drain/<node>`: an operator wants the node to hold nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct DrainRecord {}

/// `intents/pin/<vip>`: an operator wants the VIP on one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PinRecord {
    /// Where it should be.
    pub node: NodeName,
}

/// A value that this version does not read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UnreadableRecord {
    why: String,
    /// Of which version it is, where this turnip does not read that.
    version: Option<u32>,
    /// The host that such a record names as its own.
    host: Option<String>,
}

impl UnreadableRecord {
    fn no_record<T: Record>(error: &serde_json::Error) -> Self {
        let why = match T::IS_SECRET {
            true => "not a record of turnip, and nobody is shown what it is".to_owned(),
            false => format!("not a record of turnip: {}", text::shown(&error.to_string())),
        };
        UnreadableRecord { why, version: None, host: None }
    }

    /// Whether another version of turnip may have written it, and know what it means.
    pub fn is_of_another_version(&self) -> bool {
        self.version.is_some()
    }

    /// Whether another version of turnip wrote it on this very host.
    pub fn is_of_host(&self, host: &HostId) -> bool {
        self.host.as_deref() == Some(&*host.0)
    }
}

impl fmt::Display for UnreadableRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for UnreadableRecord {}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u32,
    #[serde(flatten)]
    record: &'a T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
    #[serde(default)]
    host: Option<serde_json::Value>,
}

/// The record as it goes into etcd.
pub fn encode<T: Record>(record: &T) -> Vec<u8> {
    serde_json::to_vec(&Versioned { v: record.version(), record })
        .expect("records have string keys only")
}

/// Reads a record.
///
/// # Errors
/// When the value is not the JSON of such a record, or of another version.
pub fn decode<T: Record>(value: &[u8]) -> Result<T, UnreadableRecord> {
    let Version { v, host } =
        serde_json::from_slice(value).map_err(|error| UnreadableRecord::no_record::<T>(&error))?;
    if !T::READS.contains(&v) {
        let newest = *T::READS.end();
        return Err(UnreadableRecord {
            why: format!("of version {v}, and this turnip reads version {newest}"),
            version: Some(v),
            host: host.and_then(|host| Some(host.as_str()?.to_owned())),
        });
    }
    serde_json::from_slice(value).map_err(|error| UnreadableRecord::no_record::<T>(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_went() {
        let record = SessionRecord {
            lease_ms: 3_000,
            host: HostId("m/b/n".into()),
            nonce: Nonce { process: 7, count: 1 },
            witnesses: BTreeSet::new(),
        };
        let json = encode(&record);
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"v":1,"lease_ms":3000,"host":"m/b/n","nonce":"0000000000000007-1"}"#
        );
        assert_eq!(decode(&json), Ok(record));
    }

    /// Rule 10.1.
    #[test]
    fn a_session_with_witnesses_is_of_a_version_that_an_older_daemon_leaves_alone() {
        let record = SessionRecord {
            lease_ms: 3_000,
            host: HostId("m/b/n".into()),
            nonce: Nonce { process: 7, count: 1 },
            witnesses: ["b".parse().unwrap()].into(),
        };
        let json = encode(&record);
        assert!(json.starts_with(br#"{"v":2,"#));
        assert_eq!(decode(&json), Ok(record));
    }

    #[test]
    fn another_version_is_named() {
        let error = decode::<PinRecord>(br#"{"v":2,"node":"a"}"#).unwrap_err();
        assert_eq!(error.to_string(), "of version 2, and this turnip reads version 1");
    }

    /// Rule 9.10.
    #[test]
    fn a_lease_that_cannot_be_configured_counts_as_the_nearest_that_can() {
        let lease = |lease_ms| {
            let host = HostId("m/b/n".into());
            let nonce = Nonce { process: 7, count: 1 };
            SessionRecord { lease_ms, host, nonce, witnesses: BTreeSet::new() }.lease()
        };
        assert_eq!(lease(3_000), Duration::from_secs(3));
        assert_eq!(lease(u64::MAX), Lease::DURATION_MAX);
        assert_eq!(lease(0), Lease::DURATION_MIN);
    }

    /// Rule 4.7.
    #[test]
    fn nobody_was_the_first_before_its_session_or_after_what_it_says() {
        let mut offer: VipOffer =
            serde_json::from_str(r#"{"digest":"","addresses":[],"policy":"spread"}"#).unwrap();
        let mut since = |defined_at: Option<i64>| {
            offer.defined_at = defined_at.map(Revision);
            offer.defined_since(Revision(5), Revision(9)).0
        };
        assert_eq!(since(None), 9);
        assert_eq!(since(Some(7)), 7);
        assert_eq!([since(Some(0)), since(Some(-1)), since(Some(i64::MAX))], [5, 5, 9]);
    }

    #[test]
    fn what_is_wrong_with_a_value_is_told_on_one_short_line() {
        let value = format!(r#"{{"v":1,"node":"{}"}}"#, "\\u001b[2J\\n".repeat(10_000));
        let error = decode::<PinRecord>(value.as_bytes()).unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains(char::is_control), "{error}");
    }

    #[test]
    fn of_a_key_that_cannot_be_read_nothing_is_shown() {
        for value in
            [&br#""5ec7e7""#[..], br#"{"v":"5ec7e7"}"#, br#"{"v":1,"current":{"5ec7e7":1}}"#]
        {
            let error = decode::<HeartbeatKeys>(value).unwrap_err().to_string();
            assert!(!error.contains("5ec7e7"), "{error}");
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for value in [&b"hello"[..], b"", b"{}", br#"{"v":1}"#, br#"{"v":1,"node":"a/b"}"#] {
            assert!(decode::<PinRecord>(value).is_err());
        }
    }
}
