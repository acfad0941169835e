//! The end: in an orderly way, at once, or because the node must not go on (rules 5 and 6).

use super::membership::Membership;
use super::{Node, PendingOp, Purpose};
use crate::action::{Action, Exit};
use crate::kernel::KernelOp;
use crate::store::{Compare, Op, Txn};
use crate::time::Instant;
use crate::timer::Timer;

/// How the node ends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stopping {
    /// Everything is handed over, then the session is deleted.
    Orderly,
    /// Addresses are taken away; the store is not waited for.
    AtOnce(Exit),
    /// Nothing is held any more; the fence is being removed.
    Fence(Exit),
}

impl Stopping {
    /// Why nothing is held any more, as an operator is told.
    pub(super) fn why(&self) -> String {
        match self {
            Stopping::AtOnce(Exit::Refused(why)) | Stopping::Fence(Exit::Refused(why)) => {
                why.clone()
            }
            _ => "turnip stops here".to_owned(),
        }
    }
}

impl Node {
    pub(super) fn stop(&mut self, how: Stopping, now: Instant) {
        match (&self.stopping, &how) {
            (None, _) | (Some(Stopping::Orderly), Stopping::AtOnce(_)) => {}
            _ => return,
        }
        if how == Stopping::Orderly {
            self.timers.set(Timer::StopLimit, now + self.lease.holding());
        } else {
            self.membership = Membership::Closed;
            self.timers.stop(Timer::Renew);
        }
        self.stopping = Some(how);
        self.placement_stale = true;
        self.touch_all();
    }

    /// The store does not answer: what is not handed over by now is free when the session ends.
    pub(super) fn stop_limit(&mut self) {
        if self.stopping == Some(Stopping::Orderly) {
            self.membership = Membership::Closed;
            self.stopping = Some(Stopping::AtOnce(Exit::Stopped));
            self.touch_all();
        }
    }

    /// Takes the next step towards the end, when the one before is done.
    pub(super) fn wind_up(&mut self) {
        let Some(stopping) = &self.stopping else { return };
        let empty = self.kernel_ready && self.vips.iter().all(|vip| !vip.may_be_present());
        // Only an orderly stop waits for the store.
        if !empty || (self.closing && *stopping == Stopping::Orderly) {
            return;
        }
        match stopping.clone() {
            Stopping::Orderly => match self.membership {
                Membership::Live { .. } if self.owns_something() => {}
                Membership::Live { .. } => self.close(),
                Membership::Closed => self.remove_fence(Exit::Stopped),
                // The session that is being opened or resumed is there in a moment, and would
                // outlive this process as one that others hand VIPs to.
                Membership::Opening | Membership::Resuming { .. } if self.renewing() => {}
                // There is no session to delete, or none that is known to be this process's.
                _ => {
                    self.membership = Membership::Closed;
                    self.timers.stop(Timer::Renew);
                    self.remove_fence(Exit::Stopped);
                }
            },
            Stopping::AtOnce(exit) => self.remove_fence(exit),
            Stopping::Fence(_) => {}
        }
    }

    fn renewing(&self) -> bool {
        self.txns.values().any(|txn| matches!(txn.purpose, Purpose::Renew { .. }))
    }

    fn owns_something(&self) -> bool {
        (0..self.vips.len())
            .any(|index| self.owned(index).is_some() || self.vips[index].pending.is_some())
            || !self.freeing.is_empty()
    }

    /// Deletes the own session and what it published, if the last write is the one that is known.
    fn close(&mut self) {
        let name = &self.config.name;
        let (session, node) = (self.keys.session(name), self.keys.node(name));
        let Some(known) = self.view.session(name) else { return };
        let txn = Txn {
            compares: vec![Compare::ModRevision { key: session.clone(), is: known.modified }],
            success: vec![Op::Delete { key: session.clone() }, Op::Delete { key: node }],
            failure: vec![Op::Get { key: session }],
        };
        self.closing = true;
        self.timers.stop(Timer::Renew);
        self.commit(Purpose::Close, txn);
    }

    pub(super) fn close_answered(&mut self, unknown: bool, now: Instant) {
        if unknown {
            // Tried again after the usual delay, until the limit.
            self.timers.set(Timer::Close, now + self.retry_delay());
        } else {
            self.closing = false;
        }
    }

    fn remove_fence(&mut self, exit: Exit) {
        self.stopping = Some(Stopping::Fence(exit));
        self.kernel(PendingOp::RemoveFence, KernelOp::RemoveFence);
    }

    pub(super) fn fence_removed(&mut self) {
        if let Some(Stopping::Fence(exit)) = self.stopping.clone() {
            self.exited = true;
            self.actions.push_back(Action::Exit(exit));
        }
    }
}
