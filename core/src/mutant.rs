//! Rules to break, one at a time, to show that the tests notice.
//!
//! Only with the feature `mutants`, and inert until one is set: the simulator sets one to show
//! that its checker catches it. What each breaks is cited as in `core/PROTOCOL.md`.

/// One broken rule.
#[cfg_attr(not(feature = "mutants"), allow(dead_code))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mutant {
    /// 1: the deadline counts from when the answer came.
    DeadlineFromAnswer,
    /// 2: the holder leaves no margin for drift.
    HolderIgnoresDrift,
    /// 2: whoever waits leaves no margin for drift.
    WaiterIgnoresDrift,
    /// 3: an expiry does not compare the session's mod_revision.
    ExpireUncompared,
    /// 4: a VIP is claimed from a session that is merely late.
    ClaimFromTheLate,
    /// 5: a hand-over does not wait until the kernel has acknowledged the removal.
    HandOverBeforeRemoval,
    /// 6: a VIP whose hand-over may still land comes back to its owner as it is.
    KeepAfterHandOver,
    /// 6: the same, when the owner was killed and resumed in between.
    KeepAfterResume,
    /// 7: a hand-over compares its successor's session only.
    HandOverUncompared,
    /// 8: a claim trusts the view that the named session is gone.
    ClaimByView,
    /// 9: what a node knows may go back to an older revision.
    ViewGoesBack,
    /// 10: two attempts of a renewal share a nonce.
    NonceReused,
    /// 12: a resuming node takes its predecessor's last write for a second daemon.
    RefuseLateRenewal,
    /// 13: a failed renewal of one's own starts the count of every expiry again.
    ExpiryRestarts,
    /// Nothing is taken away at `deadline - g`; only the kernel's backstop is left.
    GuardIgnored,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 15] = [
        Mutant::DeadlineFromAnswer,
        Mutant::HolderIgnoresDrift,
        Mutant::WaiterIgnoresDrift,
        Mutant::ExpireUncompared,
        Mutant::ClaimFromTheLate,
        Mutant::HandOverBeforeRemoval,
        Mutant::KeepAfterHandOver,
        Mutant::KeepAfterResume,
        Mutant::HandOverUncompared,
        Mutant::ClaimByView,
        Mutant::ViewGoesBack,
        Mutant::NonceReused,
        Mutant::RefuseLateRenewal,
        Mutant::ExpiryRestarts,
        Mutant::GuardIgnored,
    ];
    /// What it breaks, as it is cited: a rule or clause, an interleaving, an assumption.
    pub fn breaks(self) -> &'static str {
        match self {
            Mutant::DeadlineFromAnswer => "interleaving 1",
            Mutant::HolderIgnoresDrift | Mutant::WaiterIgnoresDrift => "interleaving 2",
            Mutant::ExpireUncompared => "interleaving 3",
            Mutant::ClaimFromTheLate => "interleaving 4",
            Mutant::HandOverBeforeRemoval => "interleaving 5",
            Mutant::KeepAfterHandOver | Mutant::KeepAfterResume => "interleaving 6",
            Mutant::HandOverUncompared => "interleaving 7",
            Mutant::ClaimByView => "interleaving 8",
            Mutant::ViewGoesBack => "interleaving 9",
            Mutant::NonceReused => "interleaving 10",
            Mutant::RefuseLateRenewal => "interleaving 12",
            Mutant::ExpiryRestarts => "interleaving 13",
            Mutant::GuardIgnored => "rule 2.3",
        }
    }
}
