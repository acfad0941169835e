//! Who should own what: a pure function of candidates and policy.
//!
//! It is a preference. Safety never depends on it, and two nodes may disagree for a while.

use std::cmp::Reverse;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::name::{NodeName, Revision, VipName};
use crate::records::{MemberRecord, NodeRecord, SharedPolicy};

/// Where an operator wants a VIP.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pin {
    /// The node.
    pub node: NodeName,
    /// At which revision the pin was written.
    pub since: Revision,
}

/// A live, healthy, undrained node that can take a VIP and defines it as we do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: NodeName,
    /// Its share under `spread`.
    pub weight: Weight,
    /// Its priority for this VIP under `priority`.
    pub priority: u32,
    /// A check of what stands behind the VIP fails there, for this reason: it takes it when nobody is
    /// better (rule 11.4).
    pub unwell: Option<String>,
    /// The raft term in which its host's etcd member says that it leads, if it does.
    pub leads_term: Option<u64>,
    /// When it last tried to hold the VIP its kernel refused, as of this revision.
    pub failed_at: Option<Revision>,
}

/// A node's share under `spread`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Weight {
    /// Of all VIPs.
    pub of_node: u32,
    /// Of this VIP, where the node knows of such.
    pub of_vip: Option<u32>,
}

impl From<u32> for Weight {
    fn from(weight: u32) -> Self {
        Weight { of_node: weight, of_vip: Some(weight) }
    }
}

impl Candidate {
    /// Whether its checks pass, and its last attempt to hold the VIP did not fail.
    pub fn is_well(&self, pin: Option<&Pin>) -> bool {
        self.behind(pin).is_none()
    }

    /// Why it comes after those that are well.
    pub fn behind(&self, pin: Option<&Pin>) -> Option<Unfit> {
        match &self.unwell {
            _ if self.fails(pin) => Some(Unfit::LastAttemptFailed),
            Some(why) => Some(Unfit::LastResort(why.clone())),
            None => None,
        }
    }

    /// Whether its last attempt to hold the VIP failed, so that nobody gives up for it a VIP that
    /// works (rule 7.7). A pin to it that was written later is worth another attempt.
    pub fn fails(&self, pin: Option<&Pin>) -> bool {
        let wanted_since =
            pin.filter(|pin| pin.node == self.name).map_or(Revision(0), |pin| pin.since);
        self.failed_at.is_some_and(|at| at >= wanted_since)
    }
}

/// Why a node is no candidate for a VIP.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Unfit {
    /// It has no session, or has published nothing in the one that it has.
    NotLive,
    /// An operator drains it.
    Drained,
    /// It publishes that it holds nothing: it stops, or has not seen yet that a drain has ended.
    Retiring,
    /// It is not configured with the VIP.
    NotConfigured,
    /// It cannot hold the VIP now, for the reason that it gives.
    Blocked(String),
    /// Its definition of the VIP is another one.
    DefinedOtherwise,
    /// A check fails there, for the reason that it gives: it takes the VIP when nobody is better.
    LastResort(String),
    /// It could take the VIP, but its kernel refused when it last tried (rule 7.7).
    LastAttemptFailed,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unfit::NotLive => "it is not live",
            Unfit::Drained => "it is drained",
            Unfit::Retiring => "it is stopping, or was drained until now",
            Unfit::NotConfigured => "it is not configured there",
            Unfit::Blocked(why) | Unfit::LastResort(why) => why,
            Unfit::DefinedOtherwise => "it is defined in another way there",
            Unfit::LastAttemptFailed => {
                "its kernel refused the address when it last tried; another pin has it try once more"
            }
        })
    }
}

/// The node `name` as a candidate for `vip`, whose definition has this `digest`.
///
/// `published` is what the node published in the session that it has, and `drained` whether an
/// operator wants it to hold nothing.
///
/// # Errors
/// With the first reason why it is none.
pub fn candidate(
    name: &NodeName,
    published: Option<&NodeRecord>,
    drained: bool,
    vip: &VipName,
    digest: &str,
) -> Result<Candidate, Unfit> {
    let record = published.ok_or(Unfit::NotLive)?;
    if drained {
        return Err(Unfit::Drained);
    }
    if record.drained {
        return Err(Unfit::Retiring);
    }
    let offer = record.vips.get(vip).ok_or(Unfit::NotConfigured)?;
    let unwell = offer.blocked.as_ref().map(|why| crate::text::shown(why));
    if let Some(why) = &unwell
        && !offer.last_resort
    {
        return Err(Unfit::Blocked(why.clone()));
    }
    if offer.digest != digest {
        return Err(Unfit::DefinedOtherwise);
    }
    Ok(Candidate {
        name: name.clone(),
        weight: Weight {
            of_node: record.weight,
            of_vip: record.weighs_vips.then(|| offer.weight.unwrap_or(record.weight)),
        },
        priority: offer.priority,
        unwell,
        leads_term: record.member.as_ref().and_then(MemberRecord::leads_term),
        failed_at: offer.failed_at,
    })
}

/// The candidates for `vip`, most wanted first. The second is who takes it when the first does
/// not, and so on.
///
/// `owner` is who has it now: it stays first where the policy has no reason to move it. `pinned`
/// is where an operator wants it; a pin to a node that is no candidate is of no effect. A node whose
/// last attempt failed comes after all others, and before these the nodes whose checks fail: of them the
/// owner is the most wanted, so that nobody gives up what fails for what fails as well (rule 11.4).
pub fn rank(
    policy: SharedPolicy,
    vip: &VipName,
    candidates: &[Candidate],
    owner: Option<&NodeName>,
    pinned: Option<&Pin>,
) -> Vec<NodeName> {
    let mut ranked: Vec<&Candidate> = candidates.iter().collect();
    let owns = |candidate: &Candidate| Some(&candidate.name) == owner;
    let by_vip = candidates.iter().all(|candidate| candidate.weight.of_vip.is_some());
    let score = |vip: &VipName, candidate: &Candidate| {
        let Weight { of_node, of_vip } = candidate.weight;
        score(vip, &candidate.name, of_vip.filter(|_| by_vip).unwrap_or(of_node))
    };
    match policy {
        SharedPolicy::Leader => {
            // Rendezvous hashing breaks the tie among those that do not lead, so that VIPs whose
            // leader died do not all go to the same survivor.
            ranked.sort_by_key(|c| {
                (Reverse(c.leads_term), Reverse(owns(c)), Reverse(score(vip, c)), c.name.clone())
            });
        }
        SharedPolicy::Spread => ranked.sort_by_key(|c| (Reverse(score(vip, c)), c.name.clone())),
        SharedPolicy::Priority | SharedPolicy::PriorityNoPreempt => ranked.sort_by_key(|c| {
            let stays = policy == SharedPolicy::PriorityNoPreempt && owns(c);
            (Reverse(stays), Reverse(c.priority), Reverse(owns(c)), c.name.clone())
        }),
    }
    ranked.sort_by_key(|c| {
        let is_unwell = c.unwell.is_some();
        let is_pinned = Some(&c.name) == pinned.map(|pin| &pin.node);
        (c.fails(pinned), is_unwell, is_unwell && !owns(c), !is_pinned)
    });
    ranked.into_iter().map(|candidate| candidate.name.clone()).collect()
}

/// The score of weighted rendezvous hashing, `-weight / ln(u)` with `u` in (0, 1) from a hash of
/// VIP and node: a node that joins or leaves changes only its own scores, so only its share moves.
///
/// Scaled to an integer: of two candidates, every host finds the same one greater.
fn score(vip: &VipName, node: &NodeName, weight: u32) -> u128 {
    let hash = xxh3_64(format!("{vip}\0{node}").as_bytes());
    // 53 bits, the middle of each step: never 0, never 1.
    let u = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let score = f64::from(weight) / -libm::log(u);
    (score * 1e9) as u128
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Policy, VipAddress, VipConfig};
    use crate::records::VipOffer;

    fn node(name: &str) -> Candidate {
        let name = name.parse().unwrap();
        Candidate {
            name,
            weight: 100.into(),
            priority: 0,
            unwell: None,
            leads_term: None,
            failed_at: None,
        }
    }

    fn first(
        policy: SharedPolicy,
        vip: &str,
        candidates: &[Candidate],
        owner: Option<&str>,
    ) -> String {
        let owner = owner.map(|name| name.parse().unwrap());
        rank(policy, &vip.parse().unwrap(), candidates, owner.as_ref(), None)[0].to_string()
    }

    fn spread(candidates: &[Candidate]) -> BTreeMap<String, String> {
        (0..3_000)
            .map(|i| format!("vip{i}"))
            .map(|vip| (vip.clone(), first(SharedPolicy::Spread, &vip, candidates, None)))
            .collect()
    }

    #[test]
    fn a_candidate_is_live_not_drained_not_stopping_able_and_of_one_mind_with_us() {
        let (name, vip): (NodeName, VipName) = ("a".parse().unwrap(), "v".parse().unwrap());
        let config = VipConfig {
            name: vip.clone(),
            addresses: VipAddress::all_on("lo", ["10.0.0.50/32".parse().unwrap()]),
            policy: Policy::Priority { priority: 7, preempt: true },
            defend: false,
            require_carrier: true,
            keep_connections: false,
            checks: [].into(),
            last_resort: crate::check::LastResort::Keep,
            hooks: crate::hook::Hooks::new(),
        };
        let fit = NodeRecord {
            vips: [(vip.clone(), VipOffer::of(&config, "d".into()))].into(),
            checks: BTreeMap::new(),
            weighs_vips: true,
            weight: 50,
            drained: false,
            member: Some(MemberRecord { id: "1".into(), leader: true, term: 4 }),
            repairs: 0,
            heartbeats: None,
            version: String::new(),
        };
        let of = |record: &NodeRecord| candidate(&name, Some(record), false, &vip, "d");
        let expected = Candidate {
            name: name.clone(),
            weight: 50.into(),
            priority: 7,
            unwell: None,
            leads_term: Some(4),
            failed_at: None,
        };
        assert_eq!(of(&fit), Ok(expected));

        assert_eq!(candidate(&name, None, false, &vip, "d"), Err(Unfit::NotLive));
        assert_eq!(candidate(&name, Some(&fit), true, &vip, "d"), Err(Unfit::Drained));
        assert_eq!(of(&NodeRecord { drained: true, ..fit.clone() }), Err(Unfit::Retiring));
        let other = "w".parse().unwrap();
        assert_eq!(candidate(&name, Some(&fit), false, &other, "d"), Err(Unfit::NotConfigured));
        let mut blocked = fit.clone();
        blocked.vips.get_mut(&vip).unwrap().blocked = Some("the interface is down".into());
        assert_eq!(of(&blocked), Err(Unfit::Blocked("the interface is down".into())));
        blocked.vips.get_mut(&vip).unwrap().last_resort = true;
        assert_eq!(of(&blocked).unwrap().unwell.as_deref(), Some("the interface is down"));
        assert_eq!(candidate(&name, Some(&fit), false, &vip, "e"), Err(Unfit::DefinedOtherwise));
    }

    #[test]
    fn spread_gives_each_node_a_share_by_weight() {
        let mut candidates = vec![node("a"), node("b"), node("c")];
        candidates[2].weight = 200.into();
        let owners = spread(&candidates);
        let share = |name| owners.values().filter(|owner| *owner == name).count();
        assert!((600..900).contains(&share("a")), "{}", share("a"));
        assert!((600..900).contains(&share("b")), "{}", share("b"));
        assert!((1_350..1_650).contains(&share("c")), "{}", share("c"));
    }

    /// Rule 11.5.
    #[test]
    fn a_share_of_one_vip_counts_where_all_know_of_such() {
        let mut candidates = vec![node("a"), node("b")];
        candidates[0].weight = Weight { of_node: 100, of_vip: Some(0) };
        assert!(spread(&candidates).values().all(|owner| owner == "b"));
        candidates[1].weight = Weight { of_node: 100, of_vip: None };
        let (owners, plain) = (spread(&candidates), spread(&[node("a"), node("b")]));
        assert_eq!(owners, plain, "an older turnip ranks by the nodes' shares");
    }

    /// Rule 11.4.
    #[test]
    fn who_fails_its_checks_comes_after_all_that_are_well_and_of_these_the_owner_comes_first() {
        let mut candidates = vec![node("a"), node("b"), node("c")];
        let policy = SharedPolicy::Priority;
        (candidates[0].priority, candidates[1].priority) = (20, 10);
        candidates[0].unwell = Some("refused".into());
        assert_eq!(first(policy, "v", &candidates, Some("a")), "b");
        candidates[1].unwell = Some("refused".into());
        candidates[2].failed_at = Some(Revision(7));
        assert_eq!(first(policy, "v", &candidates, Some("b")), "b", "as good as the others");
        assert_eq!(first(policy, "v", &candidates, None), "a", "by policy");
        let pin = Pin { node: "c".parse().unwrap(), since: Revision(8) };
        let ranked = rank(policy, &"v".parse().unwrap(), &candidates, None, Some(&pin));
        assert_eq!(ranked[0].as_str(), "c", "an operator wants another attempt");
    }

    #[test]
    fn a_leaving_node_moves_only_its_share() {
        let all = vec![node("a"), node("b"), node("c")];
        let (before, after) = (spread(&all), spread(&all[..2]));
        for (vip, owner) in before.iter().filter(|(_, owner)| *owner != "c") {
            assert_eq!(&after[vip], owner);
        }
    }

    #[test]
    fn leader_prefers_the_highest_term_and_without_any_the_owner() {
        let mut candidates = vec![node("a"), node("b"), node("c")];
        assert_eq!(first(SharedPolicy::Leader, "v", &candidates, Some("b")), "b");
        candidates[0].leads_term = Some(4);
        candidates[2].leads_term = Some(5);
        assert_eq!(first(SharedPolicy::Leader, "v", &candidates, Some("b")), "c");
    }

    #[test]
    fn priority_prefers_the_highest_and_leaves_a_vip_where_it_is_without_preempt() {
        let mut candidates = vec![node("a"), node("b")];
        candidates[1].priority = 10;
        let policy = |preempt| match preempt {
            true => SharedPolicy::Priority,
            false => SharedPolicy::PriorityNoPreempt,
        };
        assert_eq!(first(policy(true), "v", &candidates, Some("a")), "b");
        assert_eq!(first(policy(false), "v", &candidates, Some("a")), "a");
        assert_eq!(first(policy(false), "v", &candidates, None), "b");
    }

    #[test]
    fn equal_priorities_do_not_move_a_vip() {
        let candidates = vec![node("a"), node("b")];
        let policy = SharedPolicy::Priority;
        assert_eq!(first(policy, "v", &candidates, Some("b")), "b");
    }

    #[test]
    fn a_pin_beats_the_policy_and_one_to_no_candidate_is_ignored() {
        let candidates = vec![node("a"), node("b"), node("c")];
        let vip = "v".parse().unwrap();
        let unpinned = rank(SharedPolicy::Spread, &vip, &candidates, None, None);
        let last = unpinned.last().unwrap();
        let pin = |node: &NodeName, since| Pin { node: node.clone(), since: Revision(since) };
        let pinned = rank(SharedPolicy::Spread, &vip, &candidates, None, Some(&pin(last, 1)));
        assert_eq!(&pinned[0], last);
        let gone = pin(&"gone".parse().unwrap(), 1);
        assert_eq!(rank(SharedPolicy::Spread, &vip, &candidates, None, Some(&gone)), unpinned);
    }

    #[test]
    fn a_node_whose_last_attempt_failed_comes_last_until_a_later_pin_wants_it() {
        let mut candidates = vec![node("a"), node("b")];
        (candidates[1].priority, candidates[1].failed_at) = (10, Some(Revision(7)));
        let vip = "v".parse().unwrap();
        let policy = SharedPolicy::Priority;
        let first = |since| {
            let pin = Pin { node: "b".parse().unwrap(), since: Revision(since) };
            rank(policy, &vip, &candidates, None, Some(&pin))[0].to_string()
        };
        assert_eq!(rank(policy, &vip, &candidates, None, None)[0].as_str(), "a");
        assert_eq!(first(6), "a", "it failed after it was pinned");
        assert_eq!(first(8), "b", "the operator wants another attempt");
    }
}
