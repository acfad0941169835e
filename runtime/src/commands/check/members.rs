//! Who answers at each endpoint of etcd: a member, or something that stands before members.

use std::time::Duration;

use turnip::config::{Config, Reach};
use turnip::etcd::inspect::{EndpointStatus, Member};
use turnip::etcd::{Answerer, Etcd, EtcdSettings};
use turnip_core::{Policy, StoreError};

use super::Findings;

/// So many connections of their own are made: what leads each elsewhere is then seen.
const CONNECTIONS: usize = 3;

/// What an endpoint said.
pub struct Endpoint {
    url: String,
    /// What the first answer was, and the ones over further connections.
    pub said: Vec<EndpointStatus>,
    named: Vec<Member>,
}

/// Asks an endpoint.
///
/// # Errors
/// When it does not answer within `timeout`.
pub async fn ask(reach: &Reach, url: &str, timeout: Duration) -> Result<Endpoint, StoreError> {
    let alone = EtcdSettings {
        endpoints: vec![url.to_owned()],
        local: Some(url.to_owned()),
        ..reach.etcd.clone()
    };
    let mut endpoint = Endpoint { url: url.to_owned(), said: Vec::new(), named: Vec::new() };
    for _ in 0..CONNECTIONS {
        let etcd = Etcd::new(&alone).map_err(|error| StoreError::Refused(error.to_string()))?;
        match etcd.endpoint_status(url, timeout).await {
            Ok(status) => endpoint.said.push(status),
            Err(error) if endpoint.said.is_empty() => return Err(error),
            Err(_) => break,
        }
        if endpoint.named.is_empty() {
            endpoint.named = etcd.members_at(url, timeout).await.unwrap_or_default();
        }
    }
    Ok(endpoint)
}

impl Endpoint {
    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who answers there, as far as that is known: none when it names no members.
    pub fn answerer(&self, all: &[Endpoint]) -> Option<Answerer> {
        let said = self.said.first()?;
        let cluster = said.cluster_id;
        let has_a_say = |other: &&Endpoint| {
            let said = other.said.first();
            other.url != self.url
                && said.is_some_and(|said| said.leader_id != 0 && said.cluster_id == cluster)
                && other.named.iter().all(|member| member.id != 0)
                && !other.named.is_empty()
        };
        if self.named.is_empty() && !said.is_learner {
            return None;
        }
        let others = all.iter().find(has_a_say).map(|other| other.named.as_slice());
        Answerer::of(&self.said, &self.named, others)
    }

    /// What to do about who answers there; nothing about a member that votes. `follows`: a VIP of this host
    /// follows the member there.
    pub fn advise(&self, who: &Answerer, follows: bool, findings: &mut Findings) {
        let subject = format!("etcd {}", self.url);
        let what = match who {
            Answerer::Member(_) => return,
            Answerer::Learner(_) => format!(
                "{who}: it does not vote yet, never leads, and refuses turnip's requests, which go to other endpoints meanwhile; promote it (`etcdctl member promote`)"
            ),
            Answerer::Proxy | Answerer::Several(_) => format!(
                "here answers {who}: name the members themselves, for turnip asks another when one does not answer, and sees sooner that it does not"
            ),
            Answerer::Removed(_) => {
                format!("here answers {who}: name one that is there, and stop this one")
            }
        };
        match who {
            Answerer::Removed(_) => findings.error(subject, what),
            _ => findings.warning(subject, what),
        }
        if follows && !who.is_a_member() {
            findings.error(
                "etcd.local",
                format!(
                    "{} is no member of its own, so no VIP with the policy \"leader\" prefers this host; name the member on this host, or choose another policy",
                    self.url
                ),
            );
        }
    }
}

/// Whether a VIP follows the member at this endpoint.
pub fn is_followed(reach: &Reach, config: Option<&Config>, url: &str) -> bool {
    let by_leader =
        |config: &Config| config.vips.iter().any(|vip| vip.config.policy == Policy::Leader);
    reach.etcd.local.as_deref() == Some(url) && config.is_some_and(by_leader)
}
