//! The state machine: its parts, and how they are wired.

mod candidates;
mod freeing;
mod interfaces;
mod outbox;
mod own;
mod peers;
mod publication;
mod session;
mod shutdown;
mod situation;
mod store_identity;
#[cfg(test)]
mod testing;
mod unreadable;
mod vips;
mod watch;
mod wiring;

use std::sync::Arc;

use crate::action::{Action, Exit, OpId, TxnId};
use crate::config::NodeConfig;
use crate::kernel::{KernelEvent, KernelOutcome};
use crate::lease::Lease;
#[cfg(feature = "mutants")]
use crate::mutant::Mutant;
use crate::name::SessionId;
use crate::records::MemberRecord;
use crate::store::{MemberStatus, StoreError, TxnResponse, Update};
use crate::time::Instant;
use crate::timer::Timer;
use crate::view::View;

use candidates::Candidates;
use freeing::Freeing;
use interfaces::Interfaces;
use outbox::Outbox;
use own::Own;
use peers::Peers;
use publication::Publication;
use session::Session;
use shutdown::Shutdown;
use store_identity::StoreIdentity;
use unreadable::Unreadable;
use vips::Vips;
use watch::Watch;

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
    /// What it was told at its start.
    own: Arc<Own>,
    /// What it knows of the store.
    view: View,
    /// Whether that is still the same store (A2).
    store: StoreIdentity,
    /// Whether news of it come (rule 9).
    watch: Watch,
    /// The own session (rules 1 and 6).
    session: Session,
    /// The others', and their silence (rule 3).
    peers: Peers,
    /// What it tells the others of itself.
    publication: Publication,
    /// Who should own what.
    candidates: Candidates,
    /// What the kernel has.
    interfaces: Interfaces,
    /// The VIPs (rules 2, 4, 5, 7 and 8).
    vips: Vips,
    /// VIPs that are not configured any more (rule 7).
    freeing: Freeing,
    /// How far it is on the way to its end.
    shutdown: Shutdown,
    unreadable: Unreadable,
    unix_ms: u64,
    out: Outbox,
}

impl Node {
    /// A node that knows nothing yet. Its first actions ask the kernel and the store what is.
    pub fn new(config: NodeConfig, now: Instant) -> Self {
        let own = Arc::new(Own::new(config));
        let mut node = Node {
            view: View::default(),
            store: StoreIdentity::default(),
            watch: Watch::default(),
            session: Session::new(own.config.lease, now),
            peers: Peers::default(),
            publication: Publication::default(),
            candidates: Candidates::new(&own),
            interfaces: Interfaces::default(),
            vips: Vips::new(&own),
            freeing: Freeing::default(),
            shutdown: Shutdown::default(),
            unreadable: Unreadable::default(),
            unix_ms: 0,
            out: Outbox::default(),
            own,
        };
        node.publication.mark_stale();
        node.set_guard_timer();
        node.interfaces.list(&mut node.out);
        node.follow(false, now);
        node.out.timers.set(Timer::Member, now);
        node.settle(now);
        node
    }

    /// Breaks one rule, to see whether it is noticed.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&mut self, mutant: Mutant) {
        Arc::make_mut(&mut self.own).set_mutant(mutant);
        self.view.goes_back = mutant == Mutant::ViewGoesBack;
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
        self.watch_told(update, now);
        self.settle(now);
    }

    /// Following the prefix ended, or did not begin.
    pub fn handle_follow_failed(&mut self, error: &StoreError, now: Instant) {
        self.watch.failed(error.to_string(), self.lease(), &mut self.out, now);
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
        let member = answer.ok().map(|status| MemberRecord {
            id: format!("{:x}", status.member_id),
            leader: status.is_leader,
            term: status.term,
        });
        if self.publication.member_answered(member, &mut self.out) {
            self.candidates.leadership_changed(&self.own);
        }
        self.settle(now);
    }

    /// The answer to `Action::Kernel`.
    pub fn handle_kernel_outcome(&mut self, id: OpId, outcome: KernelOutcome, now: Instant) {
        if let Some(pending) = self.out.answered_op(id) {
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
        self.stop(Shutdown::Orderly, now);
        self.settle(now);
    }

    /// An operator does not want to wait for the store: the node takes its addresses away and ends.
    pub fn handle_stop_now(&mut self, now: Instant) {
        self.stop(Shutdown::AtOnce(Exit::Stopped), now);
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
        self.out.timers.next().into_iter().chain(self.vips.next_due()).min()
    }

    // ---- what others may look at

    /// The session that this node knows to be its own and alive.
    pub fn session(&self) -> Option<SessionId> {
        self.session.id()
    }

    /// When everything that this node holds must be silent.
    pub fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }

    fn lease(&self) -> Lease {
        self.session.lease()
    }

    // ---- the order in which the parts act

    /// Brings what is held in line with what is known. Every input ends here. The order matters:
    ///
    /// 1. timers fire, so that no step below acts on a time that is over;
    /// 2. what was waited for comes due;
    /// 3. a session is opened or resumed, once the kernel and the store are known;
    /// 4. conflicts and ranks follow from what has changed, before anything is decided by them;
    /// 5. VIPs are taken away, handed over, claimed, assumed, in this order: nothing waits for
    ///    removals but safety;
    /// 6. what is not configured here is given free, once nothing is left over from it;
    /// 7. `nodes/<node>` is written, with the reasons that came up above;
    /// 8. what is held is announced;
    /// 9. the end comes one step nearer.
    fn settle(&mut self, now: Instant) {
        if self.shutdown.has_exited() {
            return self.out.keep_reports_only();
        }
        self.fire_timers(now);
        self.wake_due(now);
        self.join(now);
        self.review(now);
        self.reconcile(now);
        self.publish(now);
        self.announce(now);
        self.advance_shutdown(now);
    }
}
