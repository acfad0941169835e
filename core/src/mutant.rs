//! Rules to break, one at a time, to show that the tests notice.
//!
//! Only with the feature `mutants`, and inert until one is set: the simulator sets one to show
//! that its checker catches it. The numbers are those of the interleavings at the end of the
//! design.

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
    /// 11: the gate is closed and opened, and not refused, where its time may be over.
    ExpiredGateMoved,
    /// 11: a refresh that the kernel refused because the gate had closed opens it again.
    RefreshReopensGate,
    /// A gate that opens anew lets through what was held before it closed.
    EarlierHeldRevived,
    /// The gate is set without a ticket: it stays open by as much as a process stalled before.
    NoTicket,
    /// What came too late is left where it is.
    LateNotUndone,
    /// Lifetimes are given by when an operation was asked, not by when it is sent.
    ClockReadInQueue,
    /// A lifetime that the kernel counts from later than thought stays as it is.
    LifetimeNotLookedAtAgain,
    /// Without the fence, a lifetime is rounded up.
    LifetimeRoundedUp,
    /// The kernel's timers are taken to be as fast as the host's clock.
    TimerRateIgnored,
    /// A withdrawal waits behind what puts addresses there.
    WithdrawalWaits,
    /// A withdrawal leaves what waits as it is.
    WithdrawalCancelsNothing,
    /// What another session was renewed to still counts.
    RenewedOutlivesSession,
    /// What an earlier process fenced, and is not configured any more, is fenced no more.
    FormerNotFenced,
    /// Addresses are put there before the gate is set.
    AddressBeforeGate,
    /// Addresses are taken away before the fence is shut for them.
    DeleteBeforeShut,
    /// What could not be put there is let pass all the same.
    FailedLetPass,
    /// What a closing of the gate left out is not told.
    LeftOutUntold,
    /// What is there but silent is taken for held.
    SilentTakenForHeld,
    /// What others change in the fence is not looked at.
    ForeignChangesIgnored,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 34] = [
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
        Mutant::ExpiredGateMoved,
        Mutant::RefreshReopensGate,
        Mutant::EarlierHeldRevived,
        Mutant::NoTicket,
        Mutant::LateNotUndone,
        Mutant::ClockReadInQueue,
        Mutant::LifetimeNotLookedAtAgain,
        Mutant::LifetimeRoundedUp,
        Mutant::TimerRateIgnored,
        Mutant::WithdrawalWaits,
        Mutant::WithdrawalCancelsNothing,
        Mutant::RenewedOutlivesSession,
        Mutant::FormerNotFenced,
        Mutant::AddressBeforeGate,
        Mutant::DeleteBeforeShut,
        Mutant::FailedLetPass,
        Mutant::LeftOutUntold,
        Mutant::SilentTakenForHeld,
        Mutant::ForeignChangesIgnored,
    ];
}
