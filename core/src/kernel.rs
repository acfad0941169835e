//! The language in which the core speaks with the host's kernel: addresses, links, deadlines.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use crate::name::VipName;
use crate::time::Instant;

/// One address of a VIP on one interface.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Assignment {
    /// The VIP that the address belongs to.
    pub vip: VipName,
    /// The interface's name.
    pub interface: Arc<str>,
    /// Address and prefix length.
    pub address: IpNet,
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.address, self.interface)
    }
}

/// An address that the kernel has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PresentAddress {
    /// The interface's name.
    pub interface: Arc<str>,
    /// Address and prefix length.
    pub address: IpNet,
    /// Whether it carries turnip's mark; and, of a configured one, whether the fence lets it pass.
    pub marked: bool,
    /// Whether it does not stand as it should beside the host's own addresses, so that the kernel
    /// may take it for the source of the host's own connections. Putting it there anew sets that
    /// right.
    pub misplaced: bool,
}

/// An interface and whether it can carry traffic. One that has several names which matter is told
/// of once by each.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link {
    /// The interface's name.
    pub name: Arc<str>,
    /// Administratively up.
    pub up: bool,
    /// With a carrier, if it is up: a bridge without ports has none.
    pub carrier: bool,
}

/// What the kernel holds now.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Listing {
    /// Every address that carries turnip's mark; and, with or without it, every one whose IP a
    /// VIP has, on whatever interface and with whatever prefix length.
    pub addresses: Vec<PresentAddress>,
    /// Every interface.
    pub links: Vec<Link>,
}

/// What the kernel is asked to do.
///
/// Operations take effect in the order in which they are given, but for two things, which
/// [`overtakes`](KernelOp::overtakes) and [`cancel`](KernelOp::cancel) decide for every queue. A
/// `Withdraw` never waits behind an `Assume` or a `Refresh`; it takes the place of what is still
/// queued for its addresses. And a `Refresh` never waits behind an `Assume`, which may put
/// thousands of addresses there; what the `Assume` puts there may then stay until the later
/// deadline as well. An operation's answer comes when the kernel has acknowledged it, however long
/// that takes; no operation is ever forgotten.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KernelOp {
    /// Tell what is there.
    List,
    /// Put the addresses there and let them answer until `deadline`, not longer.
    Assume {
        /// All addresses of each VIP that is named.
        addresses: Vec<Assignment>,
        /// When they must be silent at the latest.
        deadline: Instant,
    },
    /// Let everything that was assumed, and not withdrawn since, go on until `deadline`; and what
    /// an earlier process left, if the first `List` found it and it answers still. What does not go
    /// on is among the outcome's `failed`; `Failed(TooLate)` when nothing does.
    Refresh {
        /// When they must be silent at the latest.
        deadline: Instant,
    },
    /// Take the addresses away. One that is not there counts as taken away.
    Withdraw {
        /// The addresses.
        addresses: Vec<Assignment>,
    },
    /// These are from now on all addresses that may ever be asked for (rule 14.3). What is silent until
    /// it is held follows; what goes on does so. It is behind all that was asked before, and before all
    /// that is asked after it.
    Configure {
        /// All addresses of all VIPs.
        addresses: Vec<Assignment>,
    },
    /// Remove the fence: the last step of an orderly stop, when no address is left.
    RemoveFence,
}

impl KernelOp {
    /// Whether this one, given later, goes before `waiting`. A queue puts it before the first one
    /// that it overtakes, and so before all that were given after that.
    pub fn overtakes(&self, waiting: &KernelOp) -> bool {
        match self {
            KernelOp::Withdraw { .. } => {
                matches!(waiting, KernelOp::Assume { .. } | KernelOp::Refresh { .. })
            }
            KernelOp::Refresh { .. } => matches!(waiting, KernelOp::Assume { .. }),
            KernelOp::List
            | KernelOp::Assume { .. }
            | KernelOp::Configure { .. }
            | KernelOp::RemoveFence => false,
        }
    }

    /// Takes the addresses that a later `Withdraw` removes out of what an `Assume` is still to do,
    /// and gives them: their answer is [`KernelError::TooLate`], see
    /// [`KernelOutcome::with_cancelled`].
    pub fn cancel(&mut self, removed: &BTreeSet<Assignment>) -> Vec<Assignment> {
        match self {
            KernelOp::Assume { addresses, .. } => {
                addresses.extract_if(.., |assignment| removed.contains(assignment)).collect()
            }
            KernelOp::List
            | KernelOp::Refresh { .. }
            | KernelOp::Withdraw { .. }
            | KernelOp::Configure { .. }
            | KernelOp::RemoveFence => Vec::new(),
        }
    }

    /// The addresses that it is about; none for those that are about all.
    pub fn addresses(&self) -> &[Assignment] {
        match self {
            KernelOp::Assume { addresses, .. } | KernelOp::Withdraw { addresses } => addresses,
            KernelOp::List
            | KernelOp::Refresh { .. }
            | KernelOp::Configure { .. }
            | KernelOp::RemoveFence => &[],
        }
    }
}

/// Why the kernel did not do what it was asked to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KernelError {
    /// There is no such interface.
    NoInterface,
    /// The deadline had passed before or during the operation; what it did was undone.
    TooLate,
    /// The kernel refused, with its reason.
    Refused(String),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelError::NoInterface => f.write_str("the interface does not exist"),
            KernelError::TooLate => f.write_str("the deadline passed meanwhile"),
            KernelError::Refused(why) => write!(f, "the kernel refuses: {why}"),
        }
    }
}

impl std::error::Error for KernelError {}

/// The answer to a [`KernelOp`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KernelOutcome {
    /// To `List`.
    Listed(Listing),
    /// To everything else.
    Done {
        /// The assignments with which it went wrong; all others went well.
        failed: Vec<(Assignment, KernelError)>,
        /// To `Assume` and `Refresh` where the addresses' lifetimes are the proof (no fence):
        /// when the kernel removes the addresses by itself at the earliest.
        until: Option<Instant>,
    },
    /// The whole operation failed.
    Failed(KernelError),
}

impl KernelOutcome {
    /// The outcome of an operation of which a `Withdraw` had [cancelled](KernelOp::cancel)
    /// something: that came too late, besides what became of the rest.
    pub fn with_cancelled(mut self, cancelled: Vec<Assignment>) -> Self {
        if let KernelOutcome::Done { failed, .. } = &mut self {
            failed.extend(cancelled.into_iter().map(|one| (one, KernelError::TooLate)));
        }
        self
    }
}

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

/// Another machine that says that it has an address which is here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Conflict {
    /// The address, as it is here.
    pub assignment: Assignment,
    /// The interface on which the other one was heard.
    pub heard_on: Arc<str>,
    /// The other one.
    pub mac: Mac,
}

/// What the kernel tells unasked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KernelEvent {
    /// A marked address, or one whose IP a VIP has, appeared or went away, or one of the host's own
    /// beside which a VIP stands: a hint to look.
    AddressChanged,
    /// An interface appeared, went up or down.
    LinkChanged(Link),
    /// An interface is gone.
    LinkGone(Arc<str>),
    /// Neighbours may not know any more, or not yet, where the addresses on this interface are: its
    /// hardware address is another, or that of an interface on which they are announced.
    AnnounceAnew(Arc<str>),
    /// Another machine says that it has an address which is here.
    Conflict(Conflict),
    /// Events were lost: look at everything again.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignments(hosts: impl IntoIterator<Item = u8>) -> Vec<Assignment> {
        let assignment = |host| Assignment {
            vip: "v".parse().unwrap(),
            interface: "lo".into(),
            address: format!("10.0.0.{host}/32").parse().unwrap(),
        };
        hosts.into_iter().map(assignment).collect()
    }

    fn all() -> [KernelOp; 6] {
        let (addresses, deadline) = (assignments([1, 2]), Instant::ZERO);
        [
            KernelOp::List,
            KernelOp::Assume { addresses: addresses.clone(), deadline },
            KernelOp::Refresh { deadline },
            KernelOp::Withdraw { addresses: addresses.clone() },
            KernelOp::Configure { addresses },
            KernelOp::RemoveFence,
        ]
    }

    #[test]
    fn a_withdrawal_overtakes_what_lets_addresses_answer_and_a_refresh_what_puts_them_there() {
        let overtaken = |op: &KernelOp| all().map(|waiting| op.overtakes(&waiting));
        let [list, assume, refresh, withdraw, configure, remove_fence] = all();
        assert_eq!(overtaken(&withdraw), [false, true, true, false, false, false]);
        assert_eq!(overtaken(&refresh), [false, true, false, false, false, false]);
        for op in [list, assume, configure, remove_fence] {
            assert_eq!(overtaken(&op), [false; 6]);
        }
    }

    #[test]
    fn what_is_withdrawn_is_cancelled_where_it_is_still_to_answer_and_nowhere_else() {
        let removed = assignments([2, 3]).into_iter().collect();
        for mut op in all() {
            let cancels = matches!(op, KernelOp::Assume { .. });
            let before = op.clone();
            let cancelled = op.cancel(&removed);
            if cancels {
                assert_eq!((op.addresses(), cancelled), (&*assignments([1]), assignments([2])));
            } else {
                assert_eq!((op, cancelled), (before, Vec::new()));
            }
        }
    }

    #[test]
    fn what_was_cancelled_came_too_late() {
        let [one, two] = assignments([1, 2]).try_into().unwrap();
        let refused = (one, KernelError::NoInterface);
        let done = KernelOutcome::Done { failed: vec![refused.clone()], until: None };
        let failed = vec![refused, (two.clone(), KernelError::TooLate)];
        let expected = KernelOutcome::Done { failed, until: None };
        assert_eq!(done.with_cancelled(vec![two.clone()]), expected);
        let failed = KernelOutcome::Failed(KernelError::TooLate);
        assert_eq!(failed.clone().with_cancelled(vec![two]), failed);
    }
}
