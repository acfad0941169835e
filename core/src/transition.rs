//! Why a VIP came to be held here, and why it is not any more, as programs are told: words that stay the
//! same from version to version, and few enough to be counted one by one.

/// How a VIP came to the node that holds it now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Arrival {
    /// Its holder handed it over.
    HandedOver,
    /// Its holder fell silent, and its session was expired.
    Expired,
    /// Nobody owned it.
    Free,
    /// This node had it before, took it away, and has put it back.
    Returned,
}

impl Arrival {
    /// All of them.
    pub const ALL: [Arrival; 4] =
        [Arrival::HandedOver, Arrival::Expired, Arrival::Free, Arrival::Returned];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Arrival::HandedOver => "handed-over",
            Arrival::Expired => "expired",
            Arrival::Free => "free",
            Arrival::Returned => "returned",
        }
    }
}

/// Why a node takes away a VIP that it holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Departure {
    /// Its session was not renewed in time.
    NotRenewed,
    /// It has no session.
    NoSession,
    /// The kernel could not be told in time to keep it.
    KernelLate,
    /// The node is ending.
    Ending,
    /// An operator drains the node.
    Drained,
    /// The kernel cannot hold it: the interface is down, or the address is refused.
    Blocked,
    /// A check of what stands behind it fails.
    Unwell,
    /// The key that it follows does not name this host.
    NotNamed,
    /// Another VIP has one of its addresses.
    AddressConflict,
    /// The node has published it otherwise.
    Redefined,
    /// The node's configuration has changed, and has it no more, or otherwise.
    Reconfigured,
    /// The node has given up its place as the first with its addresses.
    Yielded,
    /// Another node owns it.
    OwnedElsewhere,
    /// What etcd says of it cannot be read.
    Unreadable,
    /// etcd names it for nobody, or for a session that is not this node's.
    NotOwned,
    /// It is being handed over.
    HandingOver,
    /// Placement prefers another node.
    Preferred,
    /// Not all of it is there, or not as it was put there: it is put there anew.
    Reinstall,
}

impl Departure {
    /// All of them.
    pub const ALL: [Departure; 18] = [
        Departure::NotRenewed,
        Departure::NoSession,
        Departure::KernelLate,
        Departure::Ending,
        Departure::Drained,
        Departure::Blocked,
        Departure::Unwell,
        Departure::NotNamed,
        Departure::AddressConflict,
        Departure::Redefined,
        Departure::Reconfigured,
        Departure::Yielded,
        Departure::OwnedElsewhere,
        Departure::Unreadable,
        Departure::NotOwned,
        Departure::HandingOver,
        Departure::Preferred,
        Departure::Reinstall,
    ];

    /// Whether somebody wants it so; else somebody should look.
    pub fn is_orderly(self) -> bool {
        matches!(
            self,
            Departure::Ending
                | Departure::Drained
                | Departure::NotNamed
                | Departure::Reconfigured
                | Departure::HandingOver
                | Departure::Preferred
        )
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Departure::NotRenewed => "not-renewed",
            Departure::NoSession => "no-session",
            Departure::KernelLate => "kernel-late",
            Departure::Ending => "ending",
            Departure::Drained => "drained",
            Departure::Blocked => "blocked",
            Departure::Unwell => "check-failed",
            Departure::NotNamed => "not-named",
            Departure::AddressConflict => "address-conflict",
            Departure::Redefined => "redefined",
            Departure::Reconfigured => "reconfigured",
            Departure::Yielded => "yielded",
            Departure::OwnedElsewhere => "owned-elsewhere",
            Departure::Unreadable => "unreadable",
            Departure::NotOwned => "not-owned",
            Departure::HandingOver => "handing-over",
            Departure::Preferred => "preferred",
            Departure::Reinstall => "reinstall",
        }
    }
}
