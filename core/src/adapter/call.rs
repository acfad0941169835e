//! What the adapter sends to the kernel, and what the kernel answers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fenced::Fenced;
use crate::kernel::{Assignment, KernelError, Listing};

/// One call to the kernel. There is at most one at a time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// Tell every address, every interface, and whether somebody else changed nftables' rules.
    /// Answered by [`Reply::Listed`].
    List,
    /// Put the addresses there for so many seconds; one that is there is given these seconds
    /// from now on. One that is there and [misplaced](crate::kernel::PresentAddress::misplaced) may
    /// be taken away first. Answered by [`Reply::Each`].
    Put {
        /// At most [`Adapter::CHUNK`](super::Adapter::CHUNK) of them.
        addresses: Vec<Assignment>,
        /// Their lifetime, which the kernel counts from when it reads the message.
        lifetime_secs: u32,
    },
    /// Take the addresses away, from wherever they were put or found, whatever that interface is
    /// called by now (rule 8.19). One that is not there, or whose interface is gone, counts as taken
    /// away. Answered by [`Reply::Each`].
    Delete {
        /// At most [`Adapter::CHUNK`](super::Adapter::CHUNK) of them.
        addresses: Vec<Assignment>,
    },
    /// Change the fence: all of it or nothing. Answered by [`Reply::Changed`].
    Change(Transaction),
    /// Tell what is in the fence. Answered by [`Reply::Fence`].
    ReadFence,
    /// Remove the fence, if it is there, and whatever else was changed for the addresses' sake: none
    /// is left. Answered by [`Reply::Removed`].
    RemoveFence,
}

/// A transaction of nftables.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Transaction {
    /// The kernel must refuse it, with [`TransactionError::Changed`], when anybody's transaction
    /// took place since the last one of this adapter, or since the last [`Call::ReadFence`] if
    /// that was later; and when that is not certain.
    pub guarded: bool,
    /// What it changes, in this order.
    pub changes: Vec<Change>,
}

/// One change of the fence. The sets are: the VIPs, which are silent unless they are held; those
/// held; the gate, which is one element with a timeout here (in nftables one for each family of
/// protocols, always changed together); and the ticket, another element with a timeout.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// Make the tables, chains and sets that are not there, and make the rules anew. The VIPs are
    /// then exactly these; what is held and the gate stay as they are.
    Layout {
        /// The addresses that are silent unless held.
        vips: Vec<Fenced>,
    },
    /// Delete the tables and make them anew, with these VIPs: nothing is held, the gate is closed
    /// and there is no ticket.
    LayoutAnew {
        /// The addresses that are silent unless held.
        vips: Vec<Fenced>,
    },
    /// Delete addresses from the VIPs.
    DeleteVips(Vec<Fenced>),
    /// Add addresses to what is held.
    AddHeld(Vec<Fenced>),
    /// Delete addresses from what is held. One that is not there refuses the transaction.
    DeleteHeld(Vec<Fenced>),
    /// Delete everything from what is held.
    FlushHeld,
    /// Open the gate for so long, counted from when the kernel reads this. An element that is
    /// there stays as it is.
    AddGate(Duration),
    /// Delete the gate. One that is not there, or has reached its timeout, refuses the
    /// transaction.
    DeleteGate,
    /// Close the gate, open or not.
    FlushGate,
    /// Add the ticket for so long, counted from when the kernel reads this.
    AddTicket(Duration),
    /// Delete the ticket. One that is not there, or has reached its timeout, refuses the
    /// transaction.
    DeleteTicket,
}

/// Why a transaction did not take place.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TransactionError {
    /// It was [guarded](Transaction::guarded), and somebody else changed something, or may have.
    Changed,
    /// The deletions at these places of [`Transaction::changes`] named what is not there: all of
    /// those, not only the first.
    Absent(BTreeSet<usize>),
    /// The kernel refused for another reason, or did not answer: then it may have taken place.
    Other(String),
}

/// The kernel's answer to a [`Call`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Reply {
    /// To [`Call::List`].
    Listed {
        /// Every address that carries turnip's mark, and every configured one.
        listing: Listing,
        /// Whether a [guarded](Transaction::guarded) transaction would have been refused.
        fence_changed: bool,
    },
    /// To [`Call::Put`] and [`Call::Delete`]: what became of each address, in their order.
    Each(Vec<Result<(), KernelError>>),
    /// To [`Call::Change`].
    Changed(Result<(), TransactionError>),
    /// To [`Call::ReadFence`].
    Fence(FenceContents),
    /// To [`Call::RemoveFence`].
    Removed,
    /// To [`Call::List`], [`Call::ReadFence`] and [`Call::RemoveFence`], when it failed.
    Failed(KernelError),
}

impl Reply {
    /// What became of each address: one that there is no answer for counts as refused.
    pub(super) fn each(self) -> impl Iterator<Item = Result<(), KernelError>> {
        let answers = match self {
            Reply::Each(answers) => answers,
            _ => Vec::new(),
        };
        let none = || Some(Err(KernelError::Refused("no answer".to_owned())));
        answers.into_iter().chain(std::iter::from_fn(none))
    }
}

/// What is in the fence.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct FenceContents {
    /// The tables, chains and rules.
    pub structure: Structure,
    /// The addresses that are silent unless held.
    pub vips: BTreeSet<Fenced>,
    /// Those that are held.
    pub held: BTreeSet<Fenced>,
    /// Whether the gate is open.
    pub gate: GateFound,
}

/// What the tables, chains and rules of the fence are like.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Structure {
    /// There is no table.
    #[default]
    Absent,
    /// There is something else than what this adapter made: it made nothing yet, or somebody
    /// changed it, or the sets that should be alike in both tables are not.
    Other,
    /// As this adapter made them.
    AsMade,
}

/// What is found of the gate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum GateFound {
    /// It is closed.
    #[default]
    Closed,
    /// It is open.
    Open,
    /// Only some of its elements are there.
    Torn,
}

/// How slow the kernel's timers run against the host's clock, at present.
///
/// They follow a clock that NTP bends. A timeout that is to end at a deadline would end late while
/// they run slow, so it is set shorter then; and never longer while they run fast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TimerRate {
    /// Parts per million that the kernel's timers are short of the host's clock.
    pub slow_ppm: u32,
}

impl TimerRate {
    /// As fast as the host's clock.
    pub const TRUE: TimerRate = TimerRate { slow_ppm: 0 };

    /// How much the kernel's timers may count, so that no more than `time` passes.
    pub fn count(self, time: Duration) -> Duration {
        let kept = 1_000_000_u32.saturating_sub(self.slow_ppm);
        let nanos = time.as_nanos() * u128::from(kept) / 1_000_000;
        u64::try_from(nanos).map_or(time, Duration::from_nanos)
    }
}
