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
    GuardIgnored: "rule 2.3",
    /// An expiry does not compare the session's mod_revision.
    ExpireUncompared: "rule 3, interleaving 3",
    /// A failed renewal of one's own starts the count of every expiry again.
    ExpiryRestarts: "rule 3, interleaving 13",
    /// A dead node is waited for twice as long as is needed.
    PatienceDoubled: "rule 3.1",
    /// After an outage of the store nobody is given the time to speak.
    NoGrace: "rule 3.5",
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
    ViewGoesBack: "rule 2.2, interleaving 9",
    /// A VIP whose hand-over may still land comes back to an owner that was killed and resumed.
    KeepAfterResume: "rule 6, interleaving 6",
    /// A resuming node takes its predecessor's last write for a second daemon.
    RefuseLateRenewal: "rule 6, interleaving 12",
    /// A resuming node takes an address that is there for proof that it is there under this name.
    KeepRenamed: "rule 6.4, interleaving 14",
    /// What was published in one session counts in the next.
    ActiveOutlivesSession: "rule 4.6",
    /// A resuming node takes its predecessor's record for its own, although another may still land.
    InheritedRecordTrusted: "rule 4.8, interleaving 19",
    /// Another definition is published while the address of the old one is still there.
    PublishBeforeRemoval: "rule 4.9",
    /// What is not configured here is given free without a look at whether it has changed.
    FreeUncompared: "rule 5.6",
    /// What is here of a VIP that this node owns hinders no freeing, although it must go.
    LeftoversOwned: "rule 5.6, interleaving 20",
    /// Of two VIPs with one address the second is put there as well as the first.
    ConflictIgnored: "rule 4.7",
    /// An orderly stop removes the fence beside an address that is not turnip's and answers without it.
    FenceRemovedBesideDouble: "rule 7.9",
    /// Nobody looks at what somebody else did to the addresses.
    NoRepair: "rule 7.1",
    /// Nobody looks at how addresses stand beside the host's own.
    MisplacedLeft: "rule 7.8",
    /// A VIP stays where one of its interfaces can carry it, and another cannot.
    OneLinkSuffices: "rule 7.3",
    /// An owner that cannot hold a VIP keeps it for itself.
    SitsOnVip: "rule 7.4",
    /// A VIP is given up for a node whose kernel refused it the last time.
    FailureForgotten: "rule 7.7, interleaving 16",
    /// A node that cannot hold a VIP keeps its place as the first with the address.
    NeverYields: "rule 4.10, interleaving 17",
    /// That place is given up while the address is still there.
    YieldsWhileHeld: "rule 4.10, interleaving 17",
    /// Who cannot hear goes on renewing.
    RenewWhileStale: "rule 9.3",
    /// A renewal counts as soon as it is answered, by whichever store.
    CountsUntold: "rule 9.3",
    /// A store that turned out to be another one changes nothing.
    KeepAfterRollback: "A2, rule 9.4",
    /// Addresses are assumed at once from a store that turned out to be another one.
    ResumeAfterRollback: "A2, rule 9.5, interleaving 15",
    /// A member that answers in an earlier raft term than it did changes nothing.
    EarlierTermIgnored: "A2, rule 9.7",
    /// An answer that was under way when a member's later raft term was learnt is held against it.
    OldTermAlarms: "A2, rule 9.7",
    /// A key at an earlier write than it was, or at one that never was, changes nothing.
    EarlierWriteIgnored: "A2, rule 9.8",
    /// A key that came to be anew without having been deleted changes nothing.
    RecreationIgnored: "A2, rule 9.8",
    /// A write that has another value than it had changes nothing.
    OtherContentIgnored: "A2, rule 9.8",
    /// A key that is absent at a revision at which it was there changes nothing.
    PresenceIgnored: "A2, rule 9.8",
    /// That the own session is gone while nobody may have expired it changes nothing.
    OwnAbsenceIgnored: "A2, rule 9.9",
    /// Who has noticed another store waits for its own lease only.
    QuietByOwnLease: "A2, rule 9.5",
    /// A lease is believed however long it is.
    LeaseUnlimited: "rule 9.10",
    /// A stranger's claim to have been the first is believed however early it is.
    FirstBeforeSession: "rule 4.7",
    /// The gate is closed and opened, and not refused, where its time may be over.
    ExpiredGateMoved: "rule 8.4, interleaving 11",
    /// A refresh that the kernel refused because the gate had closed opens it again.
    RefreshReopensGate: "rule 8.5, interleaving 11",
    /// A gate that opens anew lets through what was held before it closed.
    EarlierHeldRevived: "rule 8.5",
    /// The gate is set without a ticket: it stays open by as much as a process stalled before.
    NoTicket: "rule 8.17, interleaving 18",
    /// What came too late is left where it is.
    LateNotUndone: "rule 8.2",
    /// Lifetimes are given by when an operation was asked, not by when it is sent.
    ClockReadInQueue: "rule 8.1",
    /// A lifetime that the kernel counts from later than thought stays as it is.
    LifetimeNotLookedAtAgain: "rule 8.2",
    /// Without the fence, a lifetime is rounded up.
    LifetimeRoundedUp: "rule 8.8",
    /// The kernel's timers are taken to be as fast as the host's clock.
    TimerRateIgnored: "A3, rule 8.11",
    /// A withdrawal waits behind what puts addresses there.
    WithdrawalWaits: "rule 8.9",
    /// A withdrawal leaves what waits as it is.
    WithdrawalCancelsNothing: "rule 8.9",
    /// What another session was renewed to still counts.
    RenewedOutlivesSession: "rule 8.10",
    /// What an earlier process fenced, and is not configured any more, is fenced no more.
    FormerNotFenced: "rule 8.12",
    /// Addresses are put there before the gate is set.
    AddressBeforeGate: "rule 8.6",
    /// Addresses are taken away before the fence is shut for them.
    DeleteBeforeShut: "rule 8.6",
    /// What could not be put there is let pass all the same.
    FailedLetPass: "rule 8.6",
    /// What a closing of the gate left out is not told.
    LeftOutUntold: "rule 8.5",
    /// What is there but silent is taken for held.
    SilentTakenForHeld: "rule 8.12",
    /// What others change in the fence is not looked at.
    ForeignChangesIgnored: "rule 8.13",
    /// Who is not listed expires a session as if it were.
    UnlistedExpires: "rule 10.2",
    /// An expiry of whoever has the own name is tried again soon, though that host has renewed meanwhile.
    ContestEndsEarly: "rule 6.5",
    /// An expiry does not compare the own session: one of an earlier process may land.
    ExpiryOutlivesProcess: "rule 10.2",
    /// A process counts silence from before it was started.
    SilentFromBefore: "rule 10.2",
    /// A process counts silence from before its session was opened.
    SilentFromBeforeSession: "rule 10.2, interleaving 21",
    /// A process counts silence from before it has written the session that it resumes.
    SilentFromBeforeResuming: "rule 10.2",
    /// A process acknowledges before it has written its session.
    AcknowledgeBeforeWrite: "rule 10.4",
    /// A process acknowledges by a view from before it has written its session.
    AcknowledgeByOldView: "rule 10.4",
    /// A session is acknowledged that the view does not show.
    UnknownSessionAcknowledged: "rule 10.4",
    /// A node acknowledges after its own deadline.
    AcknowledgeWhenLate: "rule 10.4",
    /// A session is acknowledged that was written as the own store never had it.
    OtherHistoryAcknowledged: "rule 10.4",
    /// Who does not know of its write since the store changed is acknowledged.
    UnawareAcknowledged: "rule 10.4",
    /// A session is acknowledged although an own expiry of it may land.
    AcknowledgedWhileExpiring: "rule 10.4",
    /// An own write of the session ends the doubt whether an expiry may land.
    BarEndsWithOwnWrite: "rule 10.4",
    /// Who hears nothing of its acknowledgement is acknowledged.
    UnhearingAcknowledged: "rule 10.4",
    /// Whom a node acknowledges is silent all the same.
    AcknowledgedCountsOn: "rule 10.4",
    /// An acknowledgement counts whichever process it was for.
    AcknowledgementOfAnyProcess: "rule 10.5",
    /// An acknowledgement counts for the newest heartbeat.
    AcknowledgementOfAny: "rule 10.5",
    /// One that acknowledges is as good as all.
    AnyWitness: "rule 10.5",
    /// Lists of own writes that may still land are not looked at.
    UnknownListIgnored: "rule 10.5",
    /// A list counts before its write is known to be committed.
    ListBeforeCommit: "rule 10.5",
    /// Without a list nobody is asked, and the deadline moves.
    ExtendWithoutWitnesses: "rule 10.5",
    /// A process moves its deadline before it has written its session.
    ExtendBeforeWrite: "rule 10.5",
    /// The deadline counts from when the last acknowledgement came.
    ConsentFromAcknowledgement: "rule 10.5",
    /// A session goes on without a write in the store for ever.
    WithoutStoreForEver: "rule 10.7",
    /// Another machine of that name expires the session by itself.
    NamesakeExpires: "rule 10.8",
    /// Whose session may be deleted already, by itself, still acknowledges.
    AcknowledgeWhenClosing: "rule 10.9",
    /// A node says that it knows of VIPs that it does not hold.
    UnheldTakenForHeld: "rule 10.10",
    /// A node that does not hear of its VIPs is acknowledged.
    DeafAcknowledged: "rule 10.10",
    /// An interface that comes and goes is trusted as soon as it is there.
    FlapsForgotten: "rule 7.7",
    /// One attempt makes a check up or down.
    OneAttemptIsEnough: "rule 11.1",
    /// A check that was not tried yet is as good as one that passes.
    UntriedTakenForUp: "rule 11.2",
    /// A check that falls again and again is believed as soon as it passes.
    HoldDownIgnored: "rule 11.3",
    /// A check that fails changes nothing.
    ChecksIgnored: "rule 11.4",
    /// A VIP whose checks fail everywhere is given free although it is to be kept.
    LastResortIgnored: "rule 11.4",
    /// A VIP whose checks fail is given up for a host where they fail as well.
    FailingLeftForFailing: "rule 11.4",
    /// The weight of a check that fails is not taken from anything.
    WeightIgnored: "rule 11.5",
    /// A VIP's hook begins while another one of its runs.
    HooksInParallel: "rule 12.1",
    /// The kernel is asked for a VIP while its `before_assume` runs.
    AssumeBesideHook: "rule 12.2",
    /// A VIP is taken when its `before_assume` has ended, whatever has come to be meanwhile.
    AssumeWithoutLook: "rule 12.3",
    /// A host takes a VIP although its `before_assume` failed.
    HookFailureIgnored: "rule 12.4",
    /// A planned move does not wait for `before_release`.
    MoveBesideHook: "rule 12.5",
    /// What must go at once waits for `before_release`.
    ForcedWaitsForHook: "rule 12.5",
    /// A `before_release` goes on when what it was for has been taken away.
    HookOutlivesRelease: "rule 12.6",
    /// What has not begun is run although something else was decided since.
    SupersededRuns: "rule 12.7",
    /// A node ends while hooks run.
    ExitBesideHooks: "rule 12.8",
    /// Nothing is written down of what is owed.
    NothingOwed: "rule 12.9",
    /// What an earlier process owed is not run.
    OwedForgotten: "rule 12.9",
    /// A VIP goes wherever it may, whatever the key says that it follows.
    FollowedIgnored: "rule 13.1",
    /// A VIP stays where its key named it last for as long as the store is away.
    FollowedWhileAway: "rule 13.6",
    /// Another configuration takes the place of what is still on an interface.
    RedefinedWhileHeld: "rule 14.2, interleaving 22",
    /// What is new in the configuration is assumed before all that was published earlier is known.
    AddedAtOnce: "rule 14.3",
    /// A VIP that is configured again is held without a look at what this process still has under way.
    ReaddedTrusted: "rule 14.4, interleaving 23",
    /// What did not change in the configuration is put there anew.
    UnchangedTouched: "rule 14.1",
}
