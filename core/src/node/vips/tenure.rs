//! How far this host has come with a VIP, from the first hook of a take-over to the last one of a release
//! (rule 12).

use std::time::Duration;

use crate::hook::{Hook, HookId, Hooks};
use crate::name::{NodeName, Revision};

/// The reason that hooks are told which an earlier process owed.
pub(super) const RESTART: &str = "restart";
/// The reason that `on_conflict` is told.
pub(super) const CONFLICT: &str = "conflict";

/// What a VIP's hooks have come to here.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct VipHooks {
    /// What runs now: one at most.
    pub(super) running: Option<Running>,
    /// What nothing waits for and has not begun, in order. A new decision takes it away.
    waiting: Vec<Waiting>,
    pub(super) tenure: Option<Tenure>,
    /// It is written down that something is owed.
    pub(super) is_owed: bool,
    /// Who else owned the VIP last, as far as this node knows.
    pub(super) other_owner: Option<NodeName>,
}

/// A hook that runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Running {
    pub(super) id: HookId,
    pub(super) hook: Hook,
    /// It was asked for that it is killed.
    pub(super) is_killed: bool,
}

/// A hook that is to run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Waiting {
    pub(super) hook: Hook,
    pub(super) reason: &'static str,
    pub(super) peer: Option<String>,
    pub(super) token: Revision,
    pub(super) timeout: Duration,
}

/// From when this host begins to take a VIP until it has gone from here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Tenure {
    /// The ownership that it is about.
    pub(super) token: Revision,
    pub(super) stage: Stage,
    /// An earlier process began it, and this one has not looked at it yet.
    pub(super) is_inherited: bool,
    /// The VIP has been here, and that was told.
    pub(super) has_come: bool,
    /// How long `after_release` may take; none where there is none.
    pub(super) after_release: Option<Duration>,
    /// Why the VIP leaves, and to whom, once that is decided.
    pub(super) leaves: Option<(&'static str, Option<String>)>,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// `before_assume` runs.
    Preparing,
    /// It has ended, or there is none: the kernel may be asked.
    Prepared,
    /// The VIP is here.
    Here,
    /// `before_release` runs.
    Releasing,
    /// It has ended, or is not waited for any more: the VIP may go.
    Released,
}

impl VipHooks {
    /// Whether something runs, or is to.
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// Whether there is nothing left but an `after_release` that runs.
    pub(super) fn is_through(&self) -> bool {
        self.tenure.is_none()
            && self.waiting.is_empty()
            && self.running.as_ref().is_none_or(|running| running.hook == Hook::AfterRelease)
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        self.tenure.as_ref().map(|tenure| tenure.stage)
    }

    /// Whether its `before_release` has begun, so that the VIP goes whatever becomes of the wish.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.stage(), Some(Stage::Releasing | Stage::Released))
    }

    pub(super) fn set_stage(&mut self, stage: Stage) {
        if let Some(tenure) = &mut self.tenure {
            tenure.stage = stage;
        }
    }

    /// Has a hook run that nothing waits for, after those that are to run already.
    pub(super) fn enqueue(&mut self, waiting: Waiting) {
        // Of what is told again and again the newest counts.
        self.waiting.retain(|one| one.hook != waiting.hook);
        self.waiting.push(waiting);
    }

    /// Another decision takes the place of what has not begun (rule 12.7).
    pub(super) fn supersede(&mut self) {
        self.waiting.clear();
    }

    /// The next that nothing waits for, if nothing runs.
    pub(super) fn next(&self) -> Option<&Waiting> {
        self.waiting.first().filter(|_| self.running.is_none())
    }

    pub(super) fn take_next(&mut self) -> Option<Waiting> {
        self.next()?;
        Some(self.waiting.remove(0))
    }
}

/// Whether a VIP with these hooks has a beginning and an end that matter.
pub(super) fn concern_tenure(hooks: &Hooks) -> bool {
    hooks.keys().any(|hook| *hook != Hook::OnConflict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(hook: Hook, token: i64) -> Waiting {
        let timeout = Duration::from_secs(1);
        Waiting { hook, reason: "free", peer: None, token: Revision(token), timeout }
    }

    /// Rule 12.1.
    #[test]
    fn what_waits_runs_in_order_and_not_beside_what_runs() {
        let mut hooks = VipHooks::default();
        hooks.enqueue(waiting(Hook::AfterAssume, 1));
        hooks.enqueue(waiting(Hook::OnConflict, 1));
        assert_eq!(hooks.take_next().unwrap().hook, Hook::AfterAssume);
        let running = Running { id: HookId(1), hook: Hook::AfterAssume, is_killed: false };
        hooks.running = Some(running);
        assert_eq!(hooks.take_next(), None);
        hooks.running = None;
        assert_eq!(hooks.take_next().unwrap().hook, Hook::OnConflict);
        assert!(!hooks.is_busy());
    }

    /// Rule 12.7.
    #[test]
    fn of_conflicts_that_wait_the_newest_is_told() {
        let mut hooks = VipHooks::default();
        hooks.enqueue(waiting(Hook::OnConflict, 1));
        hooks.enqueue(waiting(Hook::OnConflict, 2));
        assert_eq!(hooks.take_next().unwrap().token, Revision(2));
        assert_eq!(hooks.take_next(), None);
    }
}
