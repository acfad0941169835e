//! Rules to break, one at a time, to show that the tests notice.
//!
//! Only with the feature `mutants`, and inert until one is set: the simulator sets one to show
//! that its checker catches it. What each breaks is a rule, an interleaving or an assumption of the
//! protocol's page.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident: $breaks:literal,)+) => {
        /// One broken rule.
        #[cfg_attr(not(feature = "mutants"), allow(dead_code))]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name),+];

            /// What it breaks, as the sources cite the protocol.
            pub fn breaks(self) -> &'static str {
                match self {
                    $(Mutant::$name => $breaks,)+
                }
            }
        }
    };
}

mutants! {
    /// The deadline counts from when the answer came.
    DeadlineFromAnswer: "rule 1, interleaving 1",
    /// The holder leaves no margin for drift.
    HolderIgnoresDrift: "rule 1, interleaving 2",
    /// Whoever waits leaves no margin for drift.
    WaiterIgnoresDrift: "rule 3, interleaving 2",
    /// Two attempts of a renewal share a nonce.
    NonceReused: "rule 1, interleaving 10",
    /// Nothing is taken away at `deadline - g`; only the kernel's backstop is left.
    GuardIgnored: "rule 2",
    /// An expiry does not compare the session's mod_revision.
    ExpireUncompared: "rule 3, interleaving 3",
    /// A failed renewal of one's own starts the count of every expiry again.
    ExpiryRestarts: "rule 3, interleaving 13",
    /// A dead node is waited for twice as long as is needed.
    PatienceDoubled: "rule 3",
    /// After an outage of the store nobody is given the time to speak.
    NoGrace: "rule 3",
    /// A VIP is claimed from a session that is merely late.
    ClaimFromTheLate: "rule 4, interleaving 4",
    /// A claim trusts the view that the named session is gone.
    ClaimByView: "rule 4, interleaving 8",
    /// A hand-over does not wait until the kernel has acknowledged the removal.
    HandOverBeforeRemoval: "rule 5, interleaving 5",
    /// A VIP whose hand-over may still land comes back to its owner as it is.
    KeepAfterHandOver: "rule 5, interleaving 6",
    /// A hand-over compares its successor's session only.
    HandOverUncompared: "rule 5, interleaving 7",
    /// What a node knows may go back to an older revision.
    ViewGoesBack: "rule 4, interleaving 9",
    /// A VIP whose hand-over may still land comes back to an owner that was killed and resumed.
    KeepAfterResume: "rule 6, interleaving 6",
    /// A resuming node takes its predecessor's last write for a second daemon.
    RefuseLateRenewal: "rule 6, interleaving 12",
    /// A resuming node takes an address that is there for proof that it is there under this name.
    KeepRenamed: "rule 6, interleaving 14",
    /// What was published in one session counts in the next.
    ActiveOutlivesSession: "rule 7",
    /// Another definition is published while the address of the old one is still there.
    PublishBeforeRemoval: "rule 7",
    /// What is not configured here is given free without a look at whether it has changed.
    FreeUncompared: "rule 7",
    /// Of two VIPs with one address the second is put there as well as the first.
    ConflictIgnored: "rule 7",
    /// Nobody looks at what somebody else did to the addresses.
    NoRepair: "rule 7",
    /// An owner that cannot hold a VIP keeps it for itself.
    SitsOnVip: "rule 7",
    /// A VIP is given up for a node whose kernel refused it the last time.
    FailureForgotten: "rule 7, interleaving 16",
    /// A node that cannot hold a VIP keeps its place as the first with the address.
    NeverYields: "rule 7, interleaving 17",
    /// That place is given up while the address is still there.
    YieldsWhileHeld: "rule 7, interleaving 17",
    /// Who cannot hear goes on renewing.
    RenewWhileStale: "rule 9",
    /// A store that turned out to be another one changes nothing.
    KeepAfterRollback: "A2",
    /// Addresses are assumed at once from a store that turned out to be another one.
    ResumeAfterRollback: "A2, interleaving 15",
}
