//! The state machine: its parts, and how they are wired.

mod candidates;
mod cluster;
mod consent;
mod following;
mod freeing;
mod health;
mod hearing;
mod host;
mod interfaces;
mod leave;
mod outbox;
mod own;
mod own_member;
mod peers;
mod publication;
mod reload;
mod session;
mod shutdown;
mod situation;
mod standing;
mod store_identity;
#[cfg(test)]
mod testing;
mod unreadable;
mod vips;
mod watch;
mod wiring;

use std::sync::Arc;

use crate::action::{Action, Exit, OpId, TxnId};
use crate::check::Attempt;
use crate::config::NodeConfig;
use crate::heartbeat::Datagram;
use crate::hook::{HookEnd, HookId, Owed};
use crate::kernel::{KernelEvent, KernelOutcome};
#[cfg(feature = "mutants")]
use crate::mutant::Mutant;
use crate::name::{NodeName, SessionId};
use crate::store::{ForeignKey, MemberStatus, StoreError, TxnResponse, Update};
use crate::time::Instant;
use crate::timer::Timer;

use candidates::Candidates;
use cluster::Cluster;
use following::Following;
use freeing::Freeing;
use health::Health;
use host::{Host, HostNews};
use leave::Leaving;
use outbox::Outbox;
use own::Own;
use own_member::OwnMember;
use publication::Publication;
use shutdown::Shutdown;
use situation::{context, situation};

pub use standing::{CheckStanding, NodeStanding, VipStanding};
pub use vips::state::transitions_in_markdown;

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
    /// What it was told, at its start and since.
    own: Arc<Own>,
    /// What it knows of the store, its own session, and the others'.
    cluster: Cluster,
    /// The etcd member on this host.
    own_member: OwnMember,
    /// What it tells the others of itself.
    publication: Publication,
    /// Who should own what.
    candidates: Candidates,
    /// The checks of what stands behind the VIPs.
    health: Health,
    /// What the keys say that VIPs follow.
    following: Following,
    /// The interfaces of this host, and the VIPs on them.
    host: Host,
    /// VIPs that are not configured any more.
    freeing: Freeing,
    /// How far it is on the way to its end.
    shutdown: Shutdown,
    /// It leaves all to the next process.
    leaving: Option<Leaving>,
    unix_ms: u64,
    /// What it asks of the world, and waits for.
    out: Outbox,
}

impl Node {
    /// A node that knows nothing yet. Its first actions ask the kernel and the store what is.
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        let (own, mut out) = (Arc::new(Own::new(config)), Outbox::default());
        let mut node = Node {
            host: Host::new(&own, &mut out),
            cluster: Cluster::new(&own, &mut out, now),
            own_member: OwnMember::default(),
            publication: Publication::default(),
            candidates: Candidates::new(&own),
            health: Health::new(&own),
            following: Following::new(&own),
            freeing: Freeing::default(),
            shutdown: Shutdown::default(),
            leaving: None,
            unix_ms: 0,
            out,
            own,
        };
        node.publication.mark_stale();
        node.out.timers.set(Timer::Member, now);
        node.settle(now);
        node
    }

    /// Breaks one rule, to see whether it is noticed.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&mut self, mutant: Mutant) {
        Arc::make_mut(&mut self.own).set_mutant(mutant);
        self.cluster.view.goes_back = mutant == Mutant::ViewGoesBack;
    }

    /// Numbers what it asks for from `id` on, if it has not got there yet: nodes whose pasts differ
    /// only in how much they asked for become equal, which an exhaustive search needs.
    #[cfg(feature = "mutants")]
    pub fn skip_ids_to(&mut self, id: u64) {
        self.out.skip_ids_to(id);
    }

    // ---- inputs

    /// What following the prefix brought.
    pub fn handle_update(&mut self, update: Update, now: Instant) {
        let news = self.cluster.watch_told(&self.own, update, &mut self.out, now);
        self.pass_on(news, now);
        self.settle(now);
    }

    /// A key of another program, which is followed beside the prefix (rule 13).
    pub fn handle_key(&mut self, key: ForeignKey, now: Instant) {
        // What another store still tells is nothing to this one (rule 13.7).
        if self.cluster.is_asked() {
            self.following.told(&self.own, key, now);
        }
        self.settle(now);
    }

    /// Following the prefix ended, or did not begin.
    pub fn handle_follow_failed(&mut self, error: &StoreError, now: Instant) {
        self.cluster.follow_failed(error, &mut self.out, now);
        self.settle(now);
    }

    /// The answer to `Action::Commit`.
    pub fn handle_committed(
        &mut self,
        id: TxnId,
        answer: Result<TxnResponse, StoreError>,
        now: Instant,
    ) {
        if let Some(pending) = self.out.answered_txn(id) {
            self.committed(id, pending, answer, now);
        }
        self.settle(now);
    }

    /// The answer to `Action::AskMember`.
    pub fn handle_member(&mut self, answer: Result<MemberStatus, StoreError>, now: Instant) {
        let followed = self.own.follows_leader();
        let member = self.own_member.answered(answer, followed, &mut self.out);
        if self.publication.member_answered(member, &mut self.out) {
            self.candidates.leadership_changed(&self.own);
        }
        self.settle(now);
    }

    /// The answer to `Action::Kernel`.
    pub fn handle_kernel_outcome(&mut self, id: OpId, outcome: KernelOutcome, now: Instant) {
        if let Some(pending) = self.out.answered_op(id) {
            let (context, out) = (context!(self, now), &mut self.out);
            let news = self.host.answered(&context, (id, pending), outcome, out);
            self.pass_on_from_host(news);
        }
        self.settle(now);
    }

    /// The kernel told something unasked.
    pub fn handle_kernel_event(&mut self, event: KernelEvent, now: Instant) {
        let newest = self.cluster.view.newest;
        let news = self.host.told(&self.own, event, (now, newest), &mut self.out);
        self.pass_on_from_host(news);
        self.settle(now);
    }

    /// A check was tried (rule 11).
    pub fn handle_attempt(&mut self, attempt: &Attempt, now: Instant) {
        let at = (now, self.unix_ms);
        let concerned = self.health.tried(&self.own, attempt, at, &mut self.out);
        self.host.vips.mark_dirty(concerned.iter().copied());
        self.pass_on_from_host(HostNews::from(concerned));
        self.settle(now);
    }

    /// What an earlier process on this host has left to be made good (rule 12.9). Once, before any other input.
    pub fn handle_owed(&mut self, owed: Vec<Owed>) {
        self.host.vips.inherit(&self.own, owed);
    }

    /// A hook has ended.
    pub fn handle_hook_ended(&mut self, id: HookId, end: &HookEnd, now: Instant) {
        let (context, out) = (context!(self, now), &mut self.out);
        let changed = self.host.vips.hook_ended(&context, id, end, out);
        self.pass_on_from_host(changed.into());
        self.settle(now);
    }

    /// A heartbeat of another node came in. Who it is from has been authenticated.
    pub fn handle_datagram(&mut self, from: &NodeName, datagram: &Datagram, now: Instant) {
        let news = self.cluster.datagram_came(&self.own, from, datagram, &mut self.out, now);
        self.pass_on(news, now);
        self.settle(now);
    }

    /// An operator has changed the configuration: VIPs, their settings, the node's weight, how often it
    /// announces. What belongs to the session, or to the process, stays as it was at the start, whatever
    /// is said of it here (rule 14).
    pub fn handle_configured(&mut self, config: NodeConfig, now: Instant) {
        self.configured(config, now);
        self.settle(now);
    }

    /// An operator wants the node to end, and to leave what it has to the next process on this host
    /// (rule 14.6).
    pub fn handle_leave(&mut self, now: Instant) {
        self.leave(now);
        self.settle(now);
    }

    /// An operator wants the node to hand everything over and end.
    pub fn handle_stop(&mut self, now: Instant) {
        self.stop(Shutdown::Orderly, now);
        self.settle(now);
    }

    /// An operator does not want to wait for the store: the node takes its addresses away and ends.
    ///
    /// When nothing but hooks is waited for, it does not wait for these either; what is owed is left to the
    /// next process.
    pub fn handle_stop_now(&mut self, now: Instant) {
        if self.shutdown.is_awaiting_hooks() {
            self.exit_when_hooks_have_ended(false);
        } else {
            self.stop(Shutdown::AtOnce(Exit::Stopped), now);
        }
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
        self.out.pop()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.shutdown.has_exited() {
            return None;
        }
        self.out.timers.next().into_iter().chain(self.host.vips.next_due()).min()
    }

    // ---- what others may look at

    /// The session that this node knows to be its own and alive.
    pub fn session(&self) -> Option<SessionId> {
        self.cluster.session.id()
    }

    /// When everything that this node holds must be silent.
    pub fn deadline(&self) -> Option<Instant> {
        self.cluster.session.deadline()
    }

    // ---- the order in which the parts act

    /// Brings what is held in line with what is known. Every input ends here. The order matters:
    ///
    /// 1. timers fire and what was waited for comes due, so that no step below acts on a time that is
    ///    over;
    /// 2. a session is opened or resumed, once the kernel and the store are known;
    /// 3. what followed keys say is heeded; conflicts and ranks follow from what has changed, before anything is decided by them; what of
    ///    another configuration can be today's becomes so;
    /// 4. VIPs are taken away, handed over, claimed, assumed, in this order: nothing waits for
    ///    removals but safety; what is not configured here is given free, once nothing is left over;
    /// 5. `nodes/<node>` is written, with the reasons that came up above;
    /// 6. what is held is announced;
    /// 7. the end comes one step nearer.
    fn settle(&mut self, now: Instant) {
        if self.shutdown.has_exited() {
            return self.out.keep_reports_only();
        }
        self.fire_timers(now);
        self.join(now);
        self.heed_followed(now);
        self.review(now);
        self.adopt(now);
        let context = context!(self, now);
        self.host.vips.reconcile(&context, &mut self.out);
        if self.host.interfaces.is_ready() {
            self.host.vips.run_what_is_left(&mut self.out, now);
            self.out.flush_last();
        }
        if self.host.vips.is_settling() {
            self.cluster.hurry(&self.own, &mut self.out);
        }
        self.freeing.free(&context, &self.host.vips, &mut self.out);
        let situation = situation!(self, now);
        self.publication.publish(&situation, &self.host.vips, &self.candidates, &mut self.out);
        self.host.vips.announce_due(&context!(self, now), &mut self.out);
        self.advance_shutdown(now);
        self.advance_leaving(now);
    }
}
