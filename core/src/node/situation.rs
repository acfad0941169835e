//! What all parts look at and none of them changes while it is at work.

use std::time::Duration;

use super::cluster::Cluster;
use super::following::Following;
use super::health::Health;
use super::own::{Own, VipIndex};
use super::peers::Peers;
use super::session::Session;
use super::shutdown::Shutdown;
use super::store_identity::{Knowing, StoreIdentity};
use crate::lease::Lease;
use crate::name::{NodeName, Revision, SessionId};
use crate::records::VipRecord;
use crate::time::Instant;
use crate::view::{Known, View};

/// The situation of a node, beside a part of it that is changed.
macro_rules! situation {
    ($node:ident, $now:expr) => {
        $crate::node::situation::Situation::new(
            &$node.own,
            &$node.cluster,
            &$node.health,
            &$node.following,
            &$node.shutdown,
            $node.unix_ms,
            $now,
        )
    };
}

/// The same with the parts that decide about VIPs.
macro_rules! context {
    ($node:ident, $now:expr) => {
        $crate::node::vips::Context {
            situation: $crate::node::situation::situation!($node, $now),
            publication: &$node.publication,
            candidates: &$node.candidates,
        }
    };
}

pub(super) use {context, situation};

/// The node's situation at one instant.
#[derive(Clone, Copy)]
pub(super) struct Situation<'a> {
    pub(super) own: &'a Own,
    pub(super) view: &'a View,
    pub(super) session: &'a Session,
    pub(super) peers: &'a Peers,
    pub(super) store: &'a StoreIdentity,
    pub(super) health: &'a Health,
    pub(super) following: &'a Following,
    pub(super) shutdown: &'a Shutdown,
    /// The wall clock, for people who read `vips/`.
    pub(super) unix_ms: u64,
    pub(super) now: Instant,
}

impl<'a> Situation<'a> {
    pub(super) fn new(
        own: &'a Own,
        cluster: &'a Cluster,
        health: &'a Health,
        following: &'a Following,
        shutdown: &'a Shutdown,
        unix_ms: u64,
        now: Instant,
    ) -> Self {
        let Cluster { view, store, session, peers, .. } = cluster;
        Situation { own, view, session, peers, store, health, following, shutdown, unix_ms, now }
    }

    pub(super) fn lease(&self) -> Lease {
        self.session.lease()
    }

    /// When something that failed is tried again.
    pub(super) fn retry_at(&self) -> Instant {
        self.now + self.lease().retry_delay()
    }

    /// What is known of the store, for what is asked of it now.
    pub(super) fn knowing(&self) -> Knowing {
        self.store.knowing(self.view.newest)
    }

    /// How long a transaction may take.
    pub(super) fn timeout(&self) -> Duration {
        self.lease().renew()
    }

    /// Whether anything may be held now (rule 2).
    pub(super) fn in_time(&self) -> bool {
        self.session.in_time(self.own, self.now)
    }

    /// Whether nothing may be assumed or claimed, for the store has turned out to be another (A2).
    pub(super) fn is_quiet(&self) -> bool {
        self.store.is_quiet(self.now)
    }

    pub(super) fn is_drained(&self) -> bool {
        self.view.drained(self.own.name())
    }

    /// What `vips/<vip>` says.
    pub(super) fn vip_key(&self, index: VipIndex) -> Option<&Known<VipRecord>> {
        self.view.vip(&self.own.vip(index).name)
    }

    /// Whom it names.
    pub(super) fn named(&self, index: VipIndex) -> Option<(&NodeName, SessionId)> {
        let record = self.vip_key(index)?.readable()?;
        Some((&record.node, record.session))
    }

    /// Whom it names, if that session is there.
    pub(super) fn owner(&self, index: VipIndex) -> Option<&NodeName> {
        let (node, session) = self.named(index)?;
        (self.view.session_id(node) == Some(session)).then_some(node)
    }

    /// The mod_revision at which it names the session that this node has, if it does.
    pub(super) fn owned(&self, index: VipIndex) -> Option<Revision> {
        let id = self.session.owner_id()?;
        let known = self.vip_key(index)?;
        let record = known.readable()?;
        (record.node == *self.own.name() && record.session == id).then_some(known.modified)
    }

    /// Absent, or named for a session that is gone. One that cannot be read is left alone.
    pub(super) fn is_free(&self, index: VipIndex) -> bool {
        match self.vip_key(index) {
            None => true,
            Some(known) => {
                known.readable().is_some_and(|r| self.view.session_id(&r.node) != Some(r.session))
            }
        }
    }

    /// The VIPs of this node that a session of `node` has.
    pub(super) fn vips_of<'s>(
        &'s self,
        node: &'s NodeName,
        session: SessionId,
    ) -> impl Iterator<Item = VipIndex> + 's {
        let is_named = move |index: &VipIndex| self.named(*index) == Some((node, session));
        let configured = self.view.vips_of(session).filter_map(|vip| self.own.index_of(vip));
        configured.filter(is_named)
    }
}
