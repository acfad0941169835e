//! The state machine.

mod claiming;
mod expiry;
mod hearing;
mod holding;
mod membership;
mod owning;
mod publication;
mod stopping;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::action::{Action, Exit, OpId, TxnId};
use crate::config::NodeConfig;
use crate::kernel::{Assignment, KernelEvent, KernelOp, KernelOutcome};
use crate::keys::{KeyKind, Keys};
use crate::lease::Lease;
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId, VipName};
use crate::records::MemberRecord;
use crate::report::Report;
use crate::silence::SilenceClock;
use crate::store::{KeyValue, MemberStatus, Op, StoreError, Txn, TxnResponse, Update};
use crate::time::Instant;
use crate::timer::{Timer, Timers};
use crate::view::{Change, View};
use crate::vip::{Agenda, Vip};

use expiry::Peer;
use hearing::Ear;
use membership::{Attempt, Membership};
use stopping::Stopping;

/// One host's part in the protocol: which addresses it holds, and what it writes.
///
/// It performs nothing and knows no clock. Whoever drives it calls, in this order and for ever:
///
/// 1. [`poll_action`](Self::poll_action) until it gives none, performing each action;
/// 2. [`poll_timeout`](Self::poll_timeout), and waits until then or until something comes in;
/// 3. one `handle_*` for what came in, or [`handle_timeout`](Self::handle_timeout), with `now`
///    read from the host's clock *after* the input was in hand.
///
/// `now` never goes back. A timeout that comes too early, or twice, does nothing. Answers may come
/// in any order, late, or never; an answer to something that was never asked is ignored.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    config: NodeConfig,
    keys: Keys,
    /// The lease of the session, which a resumed one brings with it.
    lease: Lease,
    view: View,
    cluster_id: Option<u64>,

    membership: Membership,
    /// When everything held must be silent.
    deadline: Option<Instant>,
    attempts: Vec<Attempt>,
    nonces: u64,
    /// Since when renewals have been failing.
    failing_since: Option<Instant>,
    /// When a renewal was last answered.
    answered_at: Option<Instant>,

    silence: SilenceClock,
    peers: BTreeMap<NodeName, Peer>,
    ear: Ear,

    vips: Vec<Vip>,
    by_name: BTreeMap<VipName, usize>,
    agenda: Agenda,
    /// Something that placement depends on has changed.
    placement_stale: bool,
    links: BTreeMap<Arc<str>, bool>,
    /// Whether the kernel has been listed and strays of an earlier configuration are gone.
    kernel_ready: bool,
    listing: Option<OpId>,
    list_again: bool,
    repairs: u64,

    member: Option<MemberRecord>,
    drained: bool,
    /// Addresses may be assumed: see `is_active`.
    active: bool,
    publishing: bool,
    /// What this node publishes may have changed.
    publication_stale: bool,
    /// VIPs that name this session and are not configured here, with the transaction that frees
    /// them while it is under way.
    freeing: BTreeMap<VipName, TxnId>,
    stopping: Option<Stopping>,
    /// The deletion of the own session is under way.
    closing: bool,
    exited: bool,
    /// Keys already reported as unreadable, with the revision at which they were.
    reported: BTreeMap<String, Revision>,
    pins_reported: BTreeSet<(VipName, NodeName)>,

    unix_ms: u64,
    timers: Timers,
    txns: BTreeMap<TxnId, PendingTxn>,
    ops: BTreeMap<OpId, PendingOp>,
    next_id: u64,
    actions: VecDeque<Action>,
    mutant: Option<Mutant>,
}

/// A transaction that has not been answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct PendingTxn {
    purpose: Purpose,
    txn: Txn,
    /// The newest revision known when it was sent: an answer from before that means that the
    /// store went back (A2).
    sent_knowing: Revision,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Purpose {
    /// Renews the session, or opens one where there is none yet.
    Renew { session: Option<SessionId>, sent: Instant },
    /// Deletes another's session, and claims VIPs with it.
    Expire { node: NodeName, vips: Vec<usize> },
    /// Names this session in `vips/`.
    Claim { vips: Vec<usize> },
    /// Names successors, or nobody.
    HandOver { vips: Vec<(usize, Option<NodeName>)> },
    /// Gives free what is not configured here.
    Free { vips: Vec<VipName> },
    /// Writes `nodes/<node>`.
    Publish,
    /// Deletes the own session.
    Close,
}

/// A kernel operation that has not been answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum PendingOp {
    List,
    Assume(Vec<usize>),
    Refresh(Vec<usize>),
    Withdraw(Vec<usize>),
    WithdrawStrays { initial: bool, addresses: Vec<Assignment> },
    RemoveFence,
}

/// A delay for things that failed: long enough not to flood, short enough to matter in a lease.
const RETRIES_PER_RENEW: u32 = 3;

impl Node {
    /// A node that knows nothing yet. Its first actions ask the kernel and the store what is.
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        let mut vips: Vec<Vip> = config.vips.iter().cloned().map(Vip::new).collect();
        vips.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        let by_name = vips.iter().enumerate().map(|(i, v)| (v.config.name.clone(), i)).collect();
        let inherited_until = now + config.lease.holding();
        let mut node = Node {
            keys: Keys::new(&config.cluster),
            lease: config.lease,
            view: View::default(),
            cluster_id: None,
            membership: Membership::Joining,
            // What a predecessor held is silent by then, whenever it last renewed (rule 6).
            deadline: Some(inherited_until),
            attempts: Vec::new(),
            nonces: 0,
            failing_since: None,
            answered_at: None,
            silence: SilenceClock::default(),
            peers: BTreeMap::new(),
            ear: Ear::default(),
            vips,
            by_name,
            agenda: Agenda::default(),
            placement_stale: true,
            links: BTreeMap::new(),
            kernel_ready: false,
            listing: None,
            list_again: false,
            repairs: 0,
            member: None,
            drained: false,
            active: false,
            publishing: false,
            publication_stale: true,
            freeing: BTreeMap::new(),
            stopping: None,
            closing: false,
            exited: false,
            reported: BTreeMap::new(),
            pins_reported: BTreeSet::new(),
            unix_ms: 0,
            timers: Timers::default(),
            txns: BTreeMap::new(),
            ops: BTreeMap::new(),
            next_id: 0,
            actions: VecDeque::new(),
            mutant: None,
            config,
        };
        node.timers.set(Timer::Guard, inherited_until - node.lease.guard());
        node.list();
        node.follow(false, now);
        node.timers.set(Timer::Member, now);
        node.settle(now);
        node
    }

    /// Breaks one rule, to see whether it is noticed.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
        self.view.goes_back = mutant == Mutant::ViewGoesBack;
    }

    /// Numbers what it asks for from `id` on, if it has not got there yet: nodes whose pasts differ
    /// only in how much they asked for become equal, which an exhaustive search needs.
    #[cfg(feature = "mutants")]
    pub fn skip_ids_to(&mut self, id: u64) {
        self.next_id = self.next_id.max(id);
    }

    // ---- inputs

    /// What following the prefix brought.
    pub fn handle_update(&mut self, update: Update, now: Instant) {
        self.hear(update, now);
        self.settle(now);
    }

    /// Following the prefix ended, or did not begin.
    pub fn handle_follow_failed(&mut self, error: &StoreError, now: Instant) {
        self.follow_failed(error, now);
        self.settle(now);
    }

    /// The answer to `Action::Commit`.
    pub fn handle_committed(
        &mut self,
        id: TxnId,
        answer: Result<TxnResponse, StoreError>,
        now: Instant,
    ) {
        if let Some(pending) = self.txns.remove(&id) {
            self.committed(id, pending, answer, now);
        }
        self.settle(now);
    }

    /// The answer to `Action::AskMember`.
    pub fn handle_member(&mut self, answer: Result<MemberStatus, StoreError>, now: Instant) {
        let member = answer.ok().map(|status| MemberRecord {
            id: format!("{:x}", status.member_id),
            leader: status.is_leader,
            term: status.term,
        });
        self.member_answered(member);
        self.settle(now);
    }

    /// The answer to `Action::Kernel`.
    pub fn handle_kernel_outcome(&mut self, id: OpId, outcome: KernelOutcome, now: Instant) {
        if let Some(pending) = self.ops.remove(&id) {
            self.kernel_answered(id, pending, outcome, now);
        }
        self.settle(now);
    }

    /// The kernel told something unasked.
    pub fn handle_kernel_event(&mut self, event: KernelEvent, now: Instant) {
        self.kernel_told(event, now);
        self.settle(now);
    }

    /// An operator wants the node to hand everything over and end.
    pub fn handle_stop(&mut self, now: Instant) {
        self.stop(Stopping::Orderly, now);
        self.settle(now);
    }

    /// An operator does not want to wait for the store: the node takes its addresses away and ends.
    pub fn handle_stop_now(&mut self, now: Instant) {
        self.stop(Stopping::AtOnce(Exit::Stopped), now);
        self.settle(now);
    }

    /// What the wall clock says, for people who read `vips/`. Nothing is decided by it.
    pub fn handle_wall_clock(&mut self, unix_ms: u64) {
        self.unix_ms = unix_ms;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
    }

    // ---- outputs

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.exited {
            return None;
        }
        self.timers.next().into_iter().chain(self.agenda.next()).min()
    }

    // ---- what others may look at

    /// The session that this node knows to be its own and alive.
    pub fn session(&self) -> Option<SessionId> {
        match self.membership {
            Membership::Live { id } => Some(id),
            _ => None,
        }
    }

    /// When everything that this node holds must be silent.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    // ---- the frame in which the rules stand

    /// Fires what is due, then brings what is held in line with what is known.
    fn settle(&mut self, now: Instant) {
        if self.exited {
            self.actions.retain(|action| matches!(action, Action::Exit(_) | Action::Report(_)));
            return;
        }
        self.fire_timers(now);
        self.agenda.wake_due(now);
        self.unblock_due(now);
        self.join(now);
        self.keep_vips(now);
        self.publish(now);
        self.announce_due(now);
        self.wind_up();
    }

    fn fire_timers(&mut self, now: Instant) {
        for timer in Timer::ALL {
            if !self.timers.take_due(timer, now) {
                continue;
            }
            match timer {
                Timer::Renew => self.renew(now),
                // Every VIP is looked at; none may be held any more.
                Timer::Guard => self.touch_all(),
                Timer::Expire => self.expire_silent(now),
                Timer::Echo => self.echo_missing(now),
                Timer::Follow => self.follow(true, now),
                Timer::Deaf => self.ear.hearing = false,
                Timer::Member => self.ask_member(now),
                Timer::Contest => self.expire_own_name(),
                // `publish` looks by itself.
                Timer::Publish => {}
                Timer::StopLimit => self.stop_limit(),
                Timer::List => self.list(),
                Timer::Close => self.closing = false,
                Timer::Free => self.free_unconfigured(None, now),
            }
        }
    }

    /// Learns from an answer what it says about keys; what to hold follows from that.
    fn committed(
        &mut self,
        id: TxnId,
        pending: PendingTxn,
        answer: Result<TxnResponse, StoreError>,
        now: Instant,
    ) {
        if let Ok(response) = &answer {
            if self.store_changed(response.header, pending.sent_knowing, now) {
                return;
            }
            self.learn_answer(&pending, response, now);
        }
        let succeeded = answer.as_ref().is_ok_and(|response| response.succeeded);
        match pending.purpose {
            Purpose::Renew { sent, .. } => self.renewal_answered(sent, answer, now),
            Purpose::Expire { node, vips } => {
                self.expiry_answered(&node, succeeded, answer.is_err(), now);
                self.vips_answered(id, &vips, answer.is_err(), now);
            }
            Purpose::Claim { vips } => self.vips_answered(id, &vips, answer.is_err(), now),
            Purpose::HandOver { vips } => {
                if succeeded {
                    for (index, to) in &vips {
                        let vip = self.vips[*index].config.name.clone();
                        self.report(Report::HandedOver { vip, to: to.clone() });
                    }
                }
                let vips: Vec<usize> = vips.into_iter().map(|(index, _)| index).collect();
                self.vips_answered(id, &vips, answer.is_err(), now);
            }
            Purpose::Free { vips } => {
                self.freeing.retain(|vip, _| !vips.contains(vip));
                if answer.is_err() {
                    self.timers.set(Timer::Free, now + self.retry_delay());
                }
            }
            Purpose::Publish => self.publication_answered(answer.is_err(), now),
            Purpose::Close => self.close_answered(answer.is_err(), now),
        }
    }

    fn learn_answer(&mut self, pending: &PendingTxn, response: &TxnResponse, now: Instant) {
        let as_of = response.header.revision;
        let txn = &pending.txn;
        // The create_revision of what was put matters for sessions only.
        let created = match pending.purpose {
            Purpose::Renew { session: Some(session), .. } => session.0,
            _ => as_of,
        };
        let branch = if response.succeeded { &txn.success } else { &txn.failure };
        let mut gets = response.gets.iter();
        for op in branch {
            match op {
                Op::Put { key, value } => {
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: created,
                        mod_revision: as_of,
                    };
                    self.learn(key, Some(&kv), as_of, now);
                }
                Op::Delete { key } => self.learn(key, None, as_of, now),
                Op::Get { key } => match gets.next() {
                    Some(kv) => self.learn(key, kv.as_ref(), as_of, now),
                    None => break,
                },
            }
        }
    }

    fn learn(&mut self, key: &str, kv: Option<&KeyValue>, as_of: Revision, now: Instant) {
        let change = self.view.learn(&self.keys, key, kv, as_of);
        if let Some(change) = change {
            self.report_unreadable(key, kv.map_or(as_of, |kv| kv.mod_revision));
            self.changed(change, now);
        }
    }

    fn changed(&mut self, change: Change, now: Instant) {
        match change {
            Change::Renewed(node) if node == self.config.name => self.own_session_written(now),
            Change::Renewed(node) => self.peer_heard(&node, now),
            Change::Session(node) => {
                self.placement_stale = true;
                if node == self.config.name {
                    self.own_session_written(now);
                } else {
                    self.peer_heard(&node, now);
                }
            }
            Change::Node(_) | Change::Intent => self.placement_stale = true,
            Change::Vip(vip) => match self.by_name.get(&vip) {
                Some(&index) => {
                    self.rank_vip(index);
                    self.agenda.dirty.insert(index);
                }
                None => self.free_unconfigured(Some(&vip), now),
            },
            Change::Foreign => {}
        }
    }

    fn report_unreadable(&mut self, key: &str, modified: Revision) {
        let why = match self.keys.kind(key) {
            KeyKind::Foreign => "it is no key of this version of turnip".to_owned(),
            _ => match self.view.unreadable(&self.keys, key) {
                Some(error) => error.to_string(),
                None => return,
            },
        };
        if self.reported.insert(key.to_owned(), modified) != Some(modified) {
            self.report(Report::Unreadable { key: key.to_owned(), why });
        }
    }

    fn commit(&mut self, purpose: Purpose, txn: Txn) -> TxnId {
        let id = TxnId(self.fresh_id());
        let timeout = self.lease.renew();
        self.actions.push_back(Action::Commit { id, txn: txn.clone(), timeout });
        let sent_knowing = self.view.newest;
        self.txns.insert(id, PendingTxn { purpose, txn, sent_knowing });
        id
    }

    fn kernel(&mut self, pending: PendingOp, op: KernelOp) -> OpId {
        let id = OpId(self.fresh_id());
        self.actions.push_back(Action::Kernel { id, op });
        self.ops.insert(id, pending);
        id
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }

    fn retry_delay(&self) -> Duration {
        self.lease.renew() / RETRIES_PER_RENEW
    }

    fn touch_all(&mut self) {
        self.agenda.crowded_out.clear();
        self.agenda.dirty.extend(0..self.vips.len());
    }

    /// Whether a test broke this rule.
    fn mutated(&self, mutant: Mutant) -> bool {
        cfg!(feature = "mutants") && self.mutant == Some(mutant)
    }
}
