//! How the hooks of a run behave (rule 12).

use std::time::Duration;

use turnip_core::{Hook, HookConfig, Hooks};

use crate::time::MS;

/// The hooks of all VIPs, which all have all of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookParams {
    /// How long each may take, in ms.
    pub timeout_ms: u64,
    /// How long one takes at most that ends by itself, in ms.
    pub takes_ms: u64,
    /// How many in a thousand hang until they are killed.
    pub hang_permille: u64,
    /// How many in a thousand fail.
    pub fail_permille: u64,
    /// A host on which each `before_assume` hangs.
    pub broken_on: Option<usize>,
}

impl HookParams {
    /// What a daemon is configured with.
    pub fn config(&self) -> Hooks {
        let timeout = Duration::from_millis(self.timeout_ms);
        Hook::ALL.map(|hook| (hook, HookConfig { timeout, ignores_failure: false })).into()
    }

    /// Whether a `before_assume` may be one that does not end well, so that another host takes the VIP.
    pub fn may_fail(&self) -> bool {
        self.fail_permille > 0 || self.hangs() || self.takes_ms >= self.timeout_ms
    }

    fn hangs(&self) -> bool {
        self.hang_permille > 0 || self.broken_on.is_some()
    }

    /// How long a hook takes at most, in ns.
    pub fn longest(&self) -> u64 {
        let most = if self.hangs() { self.timeout_ms } else { self.takes_ms.min(self.timeout_ms) };
        most * MS
    }
}
