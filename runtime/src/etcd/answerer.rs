//! Who answers at an endpoint: a member, or something that stands before members.
//!
//! Behind a proxy or a load balancer the member that answers may be another one each time. For keys that is
//! no matter; who asks a member for itself, whether it is the raft leader, must know that it is one.

use std::collections::BTreeSet;
use std::fmt;

use super::inspect::{EndpointStatus, Member};

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answerer {
    /// A member that votes, of this name.
    Member(String),
    /// A member that does not vote yet, of this name: it is never the leader, and refuses turnip's requests.
    Learner(String),
    /// etcd's grpc-proxy: what it says of the cluster is not what members say.
    Proxy,
    /// One after the other, these: a load balancer, or a proxy that hides.
    Several(BTreeSet<u64>),
    /// One that the other members do not know: it was removed, or never added.
    Removed(u64),
}

impl Answerer {
    /// By what it said of itself each time that it was asked, over connections of their own, and which
    /// members it named; and which members the others name, where there are others that know a leader.
    pub fn of(
        said: &[EndpointStatus],
        named: &[Member],
        named_by_others: Option<&[Member]>,
    ) -> Option<Self> {
        let ids: BTreeSet<u64> = said.iter().map(|status| status.member_id).collect();
        let status = said.last()?;
        let id = status.member_id;
        let find = |members: &[Member]| members.iter().find(|member| member.id == id).cloned();
        // A proxy names itself, in the place of all members, and has no id.
        if named.iter().all(|member| member.id == 0) && !named.is_empty() {
            return Some(Answerer::Proxy);
        }
        if ids.len() > 1 {
            return Some(Answerer::Several(ids));
        }
        // It does not say which members there are.
        if status.is_learner {
            let name = find(named_by_others.unwrap_or(named)).map(|member| member.name);
            let name = name.filter(|name| !name.is_empty());
            return Some(Answerer::Learner(name.unwrap_or_else(|| format!("{id:x}"))));
        }
        let Some(member) = find(named_by_others.unwrap_or(named)).or_else(|| {
            // The others have no say where they named nobody.
            named_by_others.filter(|others| others.is_empty()).and_then(|_| find(named))
        }) else {
            return Some(Answerer::Removed(id));
        };
        Some(match member.is_learner {
            true => Answerer::Learner(member.name),
            false => Answerer::Member(member.name),
        })
    }

    /// Whether it can be asked for itself.
    pub fn is_a_member(&self) -> bool {
        matches!(self, Answerer::Member(_) | Answerer::Learner(_))
    }
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answerer::Member(name) => write!(f, "the member {name}"),
            Answerer::Learner(name) => write!(f, "the member {name}, a learner"),
            Answerer::Proxy => f.write_str("etcd's grpc-proxy, and no member"),
            Answerer::Several(ids) => {
                let ids: Vec<String> = ids.iter().map(|id| format!("{id:x}")).collect();
                write!(
                    f,
                    "one member after the other ({}): a load balancer or a proxy",
                    ids.join(", ")
                )
            }
            Answerer::Removed(id) => {
                write!(f, "{id:x}, which the other members do not know: it was removed from etcd")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: u64) -> EndpointStatus {
        EndpointStatus { member_id: id, leader_id: 1, ..EndpointStatus::default() }
    }

    fn member(id: u64) -> Member {
        let name = if id == 0 { "proxy-host".to_owned() } else { format!("m{id}") };
        Member { id, name, peer_urls: vec![], client_urls: vec![], is_learner: false }
    }

    fn of(said: &[u64], named: &[u64], by_others: Option<&[u64]>) -> Answerer {
        let said: Vec<_> = said.iter().map(|id| status(*id)).collect();
        let members = |ids: &[u64]| ids.iter().map(|id| member(*id)).collect::<Vec<_>>();
        let by_others = by_others.map(members);
        Answerer::of(&said, &members(named), by_others.as_deref()).unwrap()
    }

    #[test]
    fn a_member_is_one_that_it_and_the_others_name() {
        assert_eq!(of(&[1, 1], &[1, 2], None), Answerer::Member("m1".into()));
        assert_eq!(of(&[1], &[1, 2], Some(&[1, 2])), Answerer::Member("m1".into()));
    }

    #[test]
    fn a_proxy_names_itself_and_a_balancer_answers_for_several() {
        assert_eq!(of(&[1, 2], &[0], None), Answerer::Proxy);
        assert_eq!(of(&[1], &[0], Some(&[1, 2])), Answerer::Proxy);
        assert_eq!(of(&[1, 2, 1], &[1, 2, 3], None), Answerer::Several([1, 2].into()));
    }

    #[test]
    fn who_is_not_named_by_the_others_was_removed() {
        assert_eq!(of(&[3], &[1, 2, 3], Some(&[1, 2])), Answerer::Removed(3));
        assert_eq!(of(&[3], &[1, 2], None), Answerer::Removed(3));
        assert!(Answerer::Removed(3).to_string().contains("removed"));
    }

    #[test]
    fn a_learner_is_a_member_that_does_not_vote() {
        let learner = Member { is_learner: true, ..member(4) };
        let who = Answerer::of(&[status(4)], &[member(1), learner], None).unwrap();
        assert_eq!(who, Answerer::Learner("m4".into()));
        assert!(who.is_a_member() && !Answerer::Proxy.is_a_member());
        let said = EndpointStatus { is_learner: true, ..status(10) };
        assert_eq!(Answerer::of(&[said], &[], None), Some(Answerer::Learner("a".into())));
    }
}
