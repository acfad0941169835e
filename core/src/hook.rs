//! The language of hooks: commands that are run beside what becomes of a VIP (rule 12). The core says when
//! which is to run; it knows none of the commands.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::kernel::Assignment;
use crate::name::{Revision, VipName};
use crate::time::Instant;

/// When a hook is run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hook {
    /// This host owns the VIP, and its addresses are not here yet: they wait for it.
    BeforeAssume,
    /// The VIP is here.
    AfterAssume,
    /// The VIP is about to leave by a planned move, which waits for it.
    BeforeRelease,
    /// The VIP is not here any more, or was not put here after all.
    AfterRelease,
    /// Another machine says that it has an address which is here.
    OnConflict,
}

impl Hook {
    /// All of them.
    pub const ALL: [Hook; 5] = [
        Hook::BeforeAssume,
        Hook::AfterAssume,
        Hook::BeforeRelease,
        Hook::AfterRelease,
        Hook::OnConflict,
    ];

    /// Its name in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Hook::BeforeAssume => "before_assume",
            Hook::AfterAssume => "after_assume",
            Hook::BeforeRelease => "before_release",
            Hook::AfterRelease => "after_release",
            Hook::OnConflict => "on_conflict",
        }
    }

    /// Whether something waits for its end.
    pub fn is_awaited(self) -> bool {
        matches!(self, Hook::BeforeAssume | Hook::BeforeRelease)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What of a hook's configuration something is decided by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HookConfig {
    /// How long it may take; then it is killed.
    pub timeout: Duration,
    /// Of `before_assume`: the VIP is taken although it failed.
    pub ignores_failure: bool,
}

/// A VIP's hooks.
pub type Hooks = BTreeMap<Hook, HookConfig>;

/// Names a run of a hook until its end is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HookId(pub u64);

/// A hook to be run, with what it is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HookRun {
    /// Comes back with its end.
    pub id: HookId,
    /// Which.
    pub hook: Hook,
    /// Of which VIP.
    pub vip: VipName,
    /// The VIP's addresses and where they belong.
    pub assignments: Vec<Assignment>,
    /// Why, in a word that stays the same from version to version.
    pub reason: &'static str,
    /// Who had the VIP, or is to have it; of a conflict the other machine's hardware address. None where
    /// that is not known.
    pub peer: Option<String>,
    /// The fencing token of the ownership that it is about.
    pub token: Revision,
    /// How long it may take.
    pub timeout: Duration,
    /// When it must have ended; whoever runs it kills it then.
    pub deadline: Instant,
}

/// How a hook has ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HookEnd {
    /// With the exit status 0.
    Succeeded,
    /// Otherwise, or it could not be started: why.
    Failed(String),
    /// It was killed: by its deadline, or because this node asked for it.
    Killed,
}

impl HookEnd {
    /// Whether all is well.
    pub fn is_success(&self) -> bool {
        *self == HookEnd::Succeeded
    }
}

impl fmt::Display for HookEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookEnd::Succeeded => f.write_str("it ended well"),
            HookEnd::Failed(why) => f.write_str(why),
            HookEnd::Killed => f.write_str("it had not ended in time and was killed"),
        }
    }
}

/// How far a host has come with a VIP, for the next process should this one be killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum OwedStage {
    /// It has begun to take it, and `after_assume` has not ended.
    Taking,
    /// It is here.
    Held,
    /// It has begun to release it.
    Releasing,
}

/// What is to be made good should this process be killed: what was begun for a VIP here, and not ended
/// (rule 12.9).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Owed {
    /// The VIP.
    pub vip: VipName,
    /// How far.
    pub stage: OwedStage,
    /// The fencing token of the ownership that it is about.
    pub token: Revision,
    /// The VIP's addresses and where they were.
    pub assignments: Vec<Assignment>,
    /// How long `after_release` may take; none where there is none.
    pub after_release: Option<Duration>,
}

/// What is to be done about hooks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HookAction {
    /// Write down what is owed for a VIP from now on, in the place of what was. It must be durable before
    /// anything that follows it is done.
    Owe(Owed),
    /// Nothing is owed for a VIP any more.
    Paid(VipName),
    /// Run a hook. Its end is always told.
    Run(HookRun),
    /// Kill a hook that runs, before its deadline.
    Kill(HookId),
}
