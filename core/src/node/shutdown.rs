//! The end: in an orderly way, at once, or because the node must not go on (rules 5 and 6).

use crate::action::Exit;

/// How far the node has come on the way to its end.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Shutdown {
    /// It runs.
    #[default]
    Running,
    /// Everything is handed over, then the session is deleted.
    Orderly,
    /// The same, and the deletion of the session is under way.
    Closing,
    /// Addresses are taken away; the store is not waited for.
    AtOnce(Exit),
    /// Nothing is held any more; the fence is being removed.
    RemovingFence(Exit),
    /// The fence is removed, and hooks have not ended.
    AwaitingHooks(Exit),
    /// Nothing is left to do.
    Exited,
}

/// What is to be done next on the way to the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NextStep {
    /// Nothing: it runs, or something is waited for.
    Wait,
    /// Delete the own session.
    DeleteSession,
    /// Remove the fence, which is the last.
    RemoveFence,
}

/// What the next step depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The kernel was listed, and has acknowledged that nothing is on an interface any more.
    pub(super) nothing_there: bool,
    /// The own session is there, and known to be this process's.
    pub(super) session_established: bool,
    /// It is being opened or resumed: it is there in a moment, and would outlive this process
    /// as one that others hand VIPs to.
    pub(super) session_pending: bool,
    /// A VIP still names the session, or a transaction about one is under way.
    pub(super) owns_something: bool,
}

impl Shutdown {
    /// Begins to end; says whether that is news. An orderly end may still become one at once.
    pub(super) fn begin(&mut self, how: Shutdown) -> bool {
        let hastens = matches!(how, Shutdown::AtOnce(_))
            && matches!(self, Shutdown::Orderly | Shutdown::Closing);
        let begins = *self == Shutdown::Running || hastens;
        if begins {
            *self = how;
        }
        begins
    }

    pub(super) fn has_begun(&self) -> bool {
        *self != Shutdown::Running
    }

    pub(super) fn has_exited(&self) -> bool {
        *self == Shutdown::Exited
    }

    /// Whether the store is waited for, within a limit.
    pub(super) fn waits_for_store(&self) -> bool {
        matches!(self, Shutdown::Orderly | Shutdown::Closing)
    }

    /// Whether the own session is being deleted.
    pub(super) fn is_closing(&self) -> bool {
        *self == Shutdown::Closing
    }

    /// The store did not answer in time: what is not handed over by now is free when the session
    /// ends. Says whether that changes anything.
    pub(super) fn limit_reached(&mut self) -> bool {
        let waits = self.waits_for_store();
        if waits {
            *self = Shutdown::AtOnce(Exit::Stopped);
        }
        waits
    }

    /// The next step, when the one before is done.
    pub(super) fn next_step(&self, progress: Progress) -> NextStep {
        let Progress { nothing_there, session_established, session_pending, owns_something } =
            progress;
        match self {
            _ if !nothing_there => NextStep::Wait,
            Shutdown::AtOnce(_) => NextStep::RemoveFence,
            Shutdown::Orderly if session_established && owns_something => NextStep::Wait,
            Shutdown::Orderly if session_established => NextStep::DeleteSession,
            Shutdown::Orderly if session_pending => NextStep::Wait,
            Shutdown::Orderly => NextStep::RemoveFence,
            _ => NextStep::Wait,
        }
    }

    /// The deletion of the session was sent.
    pub(super) fn closing(&mut self) {
        *self = Shutdown::Closing;
    }

    /// It was answered, or is to be tried again.
    pub(super) fn closing_ended(&mut self) {
        if *self == Shutdown::Closing {
            *self = Shutdown::Orderly;
        }
    }

    /// The removal of the fence was sent.
    pub(super) fn removing_fence(&mut self) {
        let exit = match std::mem::take(self) {
            Shutdown::AtOnce(exit) => exit,
            _ => Exit::Stopped,
        };
        *self = Shutdown::RemovingFence(exit);
    }

    /// The kernel has answered, or the fence stays.
    pub(super) fn fence_removed(&mut self) {
        if let Shutdown::RemovingFence(exit) = self {
            *self = Shutdown::AwaitingHooks(exit.clone());
        }
    }

    /// Whether nothing but hooks is waited for.
    pub(super) fn is_awaiting_hooks(&self) -> bool {
        matches!(self, Shutdown::AwaitingHooks(_))
    }

    /// No hook is waited for any more: it is over.
    pub(super) fn hooks_ended(&mut self) -> Option<Exit> {
        let Shutdown::AwaitingHooks(exit) = self else { return None };
        let exit = exit.clone();
        *self = Shutdown::Exited;
        Some(exit)
    }

    /// Everything is left as it is to the next process: it is over.
    pub(super) fn left(&mut self) {
        *self = Shutdown::Exited;
    }

    /// Why nothing is held any more, as an operator is told.
    pub(super) fn why(&self) -> Option<String> {
        match self {
            Shutdown::Running => None,
            Shutdown::AtOnce(Exit::Refused(why))
            | Shutdown::RemovingFence(Exit::Refused(why))
            | Shutdown::AwaitingHooks(Exit::Refused(why)) => Some(why.clone()),
            _ => Some("turnip stops here".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE: Progress = Progress {
        nothing_there: true,
        session_established: true,
        session_pending: false,
        owns_something: false,
    };

    #[test]
    fn an_orderly_end_waits_for_the_kernel_then_for_the_store_then_removes_the_fence() {
        let mut shutdown = Shutdown::Running;
        assert_eq!(shutdown.next_step(DONE), NextStep::Wait);
        assert!(shutdown.begin(Shutdown::Orderly));
        let step = |shutdown: &Shutdown, progress| shutdown.next_step(progress);
        assert_eq!(step(&shutdown, Progress { nothing_there: false, ..DONE }), NextStep::Wait);
        assert_eq!(step(&shutdown, Progress { owns_something: true, ..DONE }), NextStep::Wait);
        assert_eq!(step(&shutdown, DONE), NextStep::DeleteSession);
        shutdown.closing();
        assert_eq!(step(&shutdown, DONE), NextStep::Wait);
        shutdown.closing_ended();
        let closed = Progress { session_established: false, ..DONE };
        assert_eq!(step(&shutdown, closed), NextStep::RemoveFence);
        shutdown.removing_fence();
        shutdown.fence_removed();
        assert!(shutdown.is_awaiting_hooks());
        assert_eq!(shutdown.next_step(closed), NextStep::Wait);
        assert_eq!(shutdown.hooks_ended(), Some(Exit::Stopped));
        assert!(shutdown.has_exited());
    }

    #[test]
    fn an_end_at_once_waits_for_the_kernel_only_and_keeps_its_reason() {
        let mut shutdown = Shutdown::Running;
        assert!(shutdown.begin(Shutdown::Orderly));
        shutdown.closing();
        let refused = Exit::Refused("another host has the name".into());
        assert!(shutdown.begin(Shutdown::AtOnce(refused.clone())));
        assert!(!shutdown.begin(Shutdown::AtOnce(Exit::Stopped)), "the first reason counts");
        assert_eq!(shutdown.next_step(DONE), NextStep::RemoveFence);
        shutdown.removing_fence();
        shutdown.fence_removed();
        assert_eq!(shutdown.hooks_ended(), Some(refused));
    }

    #[test]
    fn a_session_that_is_being_opened_is_waited_for_and_the_store_only_until_the_limit() {
        let mut shutdown = Shutdown::Running;
        shutdown.begin(Shutdown::Orderly);
        let opening = Progress { session_established: false, session_pending: true, ..DONE };
        assert_eq!(shutdown.next_step(opening), NextStep::Wait);
        assert!(shutdown.limit_reached());
        assert_eq!(shutdown.next_step(opening), NextStep::RemoveFence);
    }
}
