//! Who should own what: a pure function of candidates and policy.
//!
//! It is a preference. Safety never depends on it, and two nodes may disagree for a while.

use std::cmp::Reverse;

use xxhash_rust::xxh3::xxh3_64;

use crate::config::Policy;
use crate::name::{NodeName, VipName};

/// A live, healthy, undrained node that can take a VIP and defines it as we do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: NodeName,
    /// Its share under `spread`.
    pub weight: u32,
    /// Its priority for this VIP under `priority`.
    pub priority: u32,
    /// The raft term in which its host's etcd member says that it leads, if it does.
    pub leads_term: Option<u64>,
}

/// The candidates for `vip`, most wanted first. The second is who takes it when the first does
/// not, and so on.
///
/// `owner` is who has it now: it stays first where the policy has no reason to move it. `pinned`
/// is where an operator wants it; a pin to a node that is no candidate is of no effect.
pub fn rank(
    policy: Policy,
    vip: &VipName,
    candidates: &[Candidate],
    owner: Option<&NodeName>,
    pinned: Option<&NodeName>,
) -> Vec<NodeName> {
    let mut ranked: Vec<&Candidate> = candidates.iter().collect();
    let owns = |candidate: &Candidate| Some(&candidate.name) == owner;
    match policy {
        Policy::Leader => {
            // Rendezvous hashing breaks the tie among those that do not lead, so that VIPs whose
            // leader died do not all go to the same survivor.
            ranked.sort_by_key(|c| {
                (Reverse(c.leads_term), Reverse(owns(c)), Reverse(score(vip, c)), c.name.clone())
            });
        }
        Policy::Spread => ranked.sort_by_key(|c| (Reverse(score(vip, c)), c.name.clone())),
        Policy::Priority { preempt, .. } => ranked.sort_by_key(|c| {
            (Reverse(!preempt && owns(c)), Reverse(c.priority), Reverse(owns(c)), c.name.clone())
        }),
    }
    ranked.sort_by_key(|c| Some(&c.name) != pinned);
    ranked.into_iter().map(|candidate| candidate.name.clone()).collect()
}

/// The score of weighted rendezvous hashing, `-weight / ln(u)` with `u` in (0, 1) from a hash of
/// VIP and node: a node that joins or leaves changes only its own scores, so only its share moves.
///
/// Scaled to an integer: of two candidates, every host finds the same one greater.
fn score(vip: &VipName, candidate: &Candidate) -> u128 {
    let hash = xxh3_64(format!("{vip}\0{}", candidate.name).as_bytes());
    // 53 bits, the middle of each step: never 0, never 1.
    let u = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let score = f64::from(candidate.weight) / -libm::log(u);
    (score * 1e9) as u128
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn candidate(name: &str) -> Candidate {
        let name = name.parse().unwrap();
        Candidate { name, weight: 100, priority: 0, leads_term: None }
    }

    fn first(policy: Policy, vip: &str, candidates: &[Candidate], owner: Option<&str>) -> String {
        let owner = owner.map(|name| name.parse().unwrap());
        rank(policy, &vip.parse().unwrap(), candidates, owner.as_ref(), None)[0].to_string()
    }

    fn spread(candidates: &[Candidate]) -> BTreeMap<String, String> {
        (0..3_000)
            .map(|i| format!("vip{i}"))
            .map(|vip| (vip.clone(), first(Policy::Spread, &vip, candidates, None)))
            .collect()
    }

    #[test]
    fn spread_gives_each_node_a_share_by_weight() {
        let mut candidates = vec![candidate("a"), candidate("b"), candidate("c")];
        candidates[2].weight = 200;
        let owners = spread(&candidates);
        let share = |name| owners.values().filter(|owner| *owner == name).count();
        assert!((600..900).contains(&share("a")), "{}", share("a"));
        assert!((600..900).contains(&share("b")), "{}", share("b"));
        assert!((1_350..1_650).contains(&share("c")), "{}", share("c"));
    }

    #[test]
    fn a_leaving_node_moves_only_its_share() {
        let all = vec![candidate("a"), candidate("b"), candidate("c")];
        let (before, after) = (spread(&all), spread(&all[..2]));
        for (vip, owner) in before.iter().filter(|(_, owner)| *owner != "c") {
            assert_eq!(&after[vip], owner);
        }
    }

    #[test]
    fn leader_prefers_the_highest_term_and_without_any_the_owner() {
        let mut candidates = vec![candidate("a"), candidate("b"), candidate("c")];
        assert_eq!(first(Policy::Leader, "v", &candidates, Some("b")), "b");
        candidates[0].leads_term = Some(4);
        candidates[2].leads_term = Some(5);
        assert_eq!(first(Policy::Leader, "v", &candidates, Some("b")), "c");
    }

    #[test]
    fn priority_prefers_the_highest_and_leaves_a_vip_where_it_is_without_preempt() {
        let mut candidates = vec![candidate("a"), candidate("b")];
        candidates[1].priority = 10;
        let policy = |preempt| Policy::Priority { priority: 0, preempt };
        assert_eq!(first(policy(true), "v", &candidates, Some("a")), "b");
        assert_eq!(first(policy(false), "v", &candidates, Some("a")), "a");
        assert_eq!(first(policy(false), "v", &candidates, None), "b");
    }

    #[test]
    fn equal_priorities_do_not_move_a_vip() {
        let candidates = vec![candidate("a"), candidate("b")];
        let policy = Policy::Priority { priority: 0, preempt: true };
        assert_eq!(first(policy, "v", &candidates, Some("b")), "b");
    }

    #[test]
    fn a_pin_beats_the_policy_and_one_to_no_candidate_is_ignored() {
        let candidates = vec![candidate("a"), candidate("b"), candidate("c")];
        let vip = "v".parse().unwrap();
        let unpinned = rank(Policy::Spread, &vip, &candidates, None, None);
        let last = unpinned.last().unwrap();
        let pinned = rank(Policy::Spread, &vip, &candidates, None, Some(last));
        assert_eq!(&pinned[0], last);
        let gone = "gone".parse().unwrap();
        assert_eq!(rank(Policy::Spread, &vip, &candidates, None, Some(&gone)), unpinned);
    }
}
