//! How a node and its VIPs stand at one instant, for whoever watches it. Nothing is decided by it.

use std::time::Duration;

use super::Node;
use super::own::VipIndex;
use crate::check::CheckState;
use crate::name::{CheckName, NodeName, VipName};
use crate::time::Instant;
use crate::view::Known;

/// How a node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeStanding {
    /// It has a session in the store.
    pub has_session: bool,
    /// How long everything that it holds may stay; zero without a session.
    pub left: Duration,
    /// Its renewals are answered; also while there is nothing to renew.
    pub store_answers: bool,
    /// They are not, and it holds because all other nodes acknowledge (rule 10).
    pub by_consent: bool,
    /// An operator drains it.
    pub is_drained: bool,
    /// It is on the way to its end.
    pub is_ending: bool,
    /// How many nodes have a session.
    pub nodes: usize,
}

/// How one of its VIPs stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VipStanding<'a> {
    /// Its name.
    pub vip: &'a VipName,
    /// Whom the store names, if that session is there.
    pub owner: Option<&'a NodeName>,
    /// It is on its interface here, and lets clients in.
    pub is_held: bool,
    /// It should be held here: this node owns it, or would be the one to take it, or nobody can take it.
    pub is_wanted: bool,
    /// It cannot be held here for now: the interface is down, the kernel refuses it, or a check fails.
    pub is_blocked: bool,
}

/// How one of its checks stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckStanding<'a> {
    /// Its name.
    pub name: &'a CheckName,
    /// What it is.
    pub state: CheckState,
    /// Since when, by the wall clock, in ms since 1970; 0 for since the start.
    pub since_unix_ms: u64,
    /// For how long it counts as down although attempts pass (rule 11.3).
    pub held_down_for: Option<Duration>,
    /// How many attempts passed, and how many failed, since the start.
    pub attempts: (u64, u64),
    /// Why the newest attempt that failed did; empty where none has.
    pub last_reason: &'a str,
}

impl Node {
    /// How the node stands.
    pub fn standing(&self, now: Instant) -> NodeStanding {
        let session = &self.cluster.session;
        let has_session = session.id().is_some();
        let store_answers = session.failing_since().is_none();
        let left = session.deadline().filter(|_| has_session).map(|at| at.since(now));
        NodeStanding {
            has_session,
            left: left.unwrap_or_default(),
            store_answers,
            by_consent: has_session && !store_answers && session.is_by_consent(),
            is_drained: self.cluster.view.drained(self.own.name()),
            is_ending: self.shutdown.has_begun(),
            nodes: self.cluster.view.nodes_with_session().count(),
        }
    }

    /// How its VIPs stand, in the order of their names.
    pub fn vips(&self, now: Instant) -> impl Iterator<Item = VipStanding<'_>> {
        let is_in_time = self.cluster.session.in_time(&self.own, now);
        (0..self.own.vip_count()).map(move |index| self.vip(index, is_in_time))
    }

    /// How its checks stand, in the order of the configuration.
    pub fn checks(&self, now: Instant) -> impl Iterator<Item = CheckStanding<'_>> {
        self.own.config.checks.iter().enumerate().map(move |(number, config)| {
            let check = self.health.check(number);
            CheckStanding {
                name: &config.name,
                state: check.state(),
                since_unix_ms: check.since_unix_ms(),
                held_down_for: check.held_down_for(now),
                attempts: check.attempts(),
                last_reason: check.last_reason(),
            }
        })
    }

    fn vip(&self, index: VipIndex, is_in_time: bool) -> VipStanding<'_> {
        let (own, view, vips) = (&self.own, &self.cluster.view, &self.host.vips);
        let vip = &own.vip(index).name;
        let named = view.vip(vip).and_then(Known::readable);
        let owner = named.filter(|named| view.session_id(&named.node) == Some(named.session));
        let owner = owner.map(|named| &named.node);
        let is_next = self.candidates.rank(index).first().is_none_or(|first| first == own.name());
        let is_wanted = match owner {
            Some(owner) => owner == own.name(),
            None => is_next && !view.drained(own.name()),
        };
        // That nothing is known yet hinders nothing that is here.
        let unwell = self.health.unwell(own, index);
        let is_unwell = unwell.is_some_and(|it| !it.is_waiting || !vips.is_held(index));
        VipStanding {
            vip,
            owner,
            is_held: vips.is_held(index) && is_in_time,
            is_wanted: is_wanted && !self.shutdown.has_begun(),
            is_blocked: vips.blocked(index).is_some() || is_unwell,
        }
    }
}
