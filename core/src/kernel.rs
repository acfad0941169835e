//! The language in which the core speaks with the host's kernel: addresses, links, deadlines.

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
    /// Whether it carries turnip's mark.
    pub marked: bool,
}

/// An interface and whether it can carry traffic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link {
    /// The interface's name.
    pub name: Arc<str>,
    /// Administratively up and with a carrier.
    pub up: bool,
}

/// What the kernel holds now.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Listing {
    /// Every address that carries turnip's mark, and every configured address that is there
    /// with or without it.
    pub addresses: Vec<PresentAddress>,
    /// Every interface.
    pub links: Vec<Link>,
}

/// What the kernel is asked to do.
///
/// Operations take effect in the order in which they are given, but for two things. A `Withdraw`
/// never waits behind an `Assume` or a `Refresh`; it takes the place of what is still queued for
/// its addresses. And a `Refresh` never waits behind an `Assume`, which may put thousands of
/// addresses there; what the `Assume` puts there may then stay until the later deadline as well.
/// An operation's answer comes when the kernel has acknowledged it, however long that takes; no
/// operation is ever forgotten.
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
    /// Let all addresses held go on until `deadline`. The addresses are there.
    Refresh {
        /// All addresses that are held.
        addresses: Vec<Assignment>,
        /// When they must be silent at the latest.
        deadline: Instant,
    },
    /// Take the addresses away. One that is not there counts as taken away.
    Withdraw {
        /// The addresses.
        addresses: Vec<Assignment>,
    },
    /// Remove the fence: the last step of an orderly stop, when no address is left.
    RemoveFence,
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

/// What the kernel tells unasked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KernelEvent {
    /// A configured or marked address appeared, or went away: a hint to look.
    AddressChanged,
    /// An interface appeared, went up or down.
    LinkChanged(Link),
    /// An interface is gone.
    LinkGone(Arc<str>),
    /// Events were lost: look at everything again.
    Lost,
}
