//! What can go wrong, or be done by an operator.

use crate::time::True;
use crate::timing::Mishandling;

use super::config::Change;

/// What a client's transaction is for, as far as a network that is out to get it can tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TxnKind {
    /// Renews a session.
    Renew,
    /// Opens one.
    Open,
    /// Deletes one's own.
    Close,
    /// Deletes another's.
    Expire,
    /// Names its sender as owner.
    Claim,
    /// Names another as owner, or nobody.
    HandOver,
    /// Says what its sender can take.
    Publish,
}

/// What befalls a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// It never arrives.
    LoseRequest,
    /// It is carried out, and its sender never learns.
    LoseAnswer,
    /// It arrives this much later, in ns.
    DelayRequest(u64),
    /// Its answer does.
    DelayAnswer(u64),
}

/// Something that goes wrong, or that an operator does. Most end by themselves after a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing gets from one site to another.
    Cut { from: usize, to: usize },
    /// A site hears nobody and is heard by nobody.
    Isolate { site: usize },
    /// A host's clients reach no member; the members reach each other.
    CutStore { host: usize },
    /// A host's clients reach one member no more.
    CutEndpoint { host: usize, member: usize },
    /// A host is heard by the members, and does not hear them: answers and watches are cut.
    CutAnswers { host: usize },
    /// Members on two sides do not hear each other; clients reach all.
    SplitMembers { side: Vec<usize> },
    /// Everything between two sides is cut.
    Split { side: Vec<usize> },
    /// Messages take longer by so many ns.
    Slow { from: usize, to: usize, by: u64 },
    /// Segments and datagrams are lost, in a million.
    Lossy { from: usize, to: usize, ppm: u64 },
    /// A host's datagrams do not get to another one; both reach etcd as ever.
    CutPeers { from: usize, to: usize },
    /// A host's datagrams to another one are lost, doubled and late.
    LossyPeers { from: usize, to: usize, how: Mishandling },
    /// Somebody who has the key acknowledges all heartbeats of a host in the names of all others.
    ForgeAcknowledgements { host: usize },
    /// A member's process ends.
    CrashMember { member: usize },
    /// A member's process is stopped by a signal.
    PauseMember { member: usize },
    /// A member's disk takes longer by so many ns.
    SlowDisk { member: usize, by: u64 },
    /// A member takes up to so many ns from carrying a request out until it answers; what the answer says of
    /// the raft term is from then.
    SlowAnswers { member: usize, by: u64 },
    /// A majority of the members' processes is stopped by signals.
    LoseQuorum,
    /// etcd's quota is full: it answers, and refuses every transaction that puts a key.
    RefuseWrites,
    /// Whoever leads gives leadership to the member after it.
    MoveLeader,
    /// Whoever leads gives leadership to this member.
    LeadFrom { member: usize },
    /// Whoever leads crashes and comes back.
    CrashLeader,
    /// Leadership moves every `every` ns.
    FlapLeader { every: u64 },
    /// etcd forgets its history.
    Compact,
    /// An operator makes a backup of etcd.
    BackUpStore,
    /// An operator stops etcd and restores it from the newest backup, or empty where there is none;
    /// it runs again at the end. The cluster may have another id then, and the revisions be raised
    /// by so many, as `etcdutl --bump-revision` does it.
    RestoreStore { other_cluster: bool, raise: i64 },
    /// A daemon is killed, and started again.
    Kill { host: usize },
    /// A daemon is stopped by a signal.
    Freeze { host: usize },
    /// A daemon is stopped in an orderly way, and started again.
    Restart { host: usize },
    /// A host is switched off, and on again.
    PowerOff { host: usize },
    /// A whole host is paused, its clock too, as a virtual machine is.
    PauseHost { host: usize },
    /// A host's clock changes its rate.
    Drift { host: usize, ppm: i64 },
    /// What a host hears on its watch is late by so many ns.
    WatchLag { host: usize, by: u64 },
    /// Netlink takes longer by up to so many ns.
    SlowNetlink { host: usize, by: u64 },
    /// The kernel reads a message of netlink so many ns after it was sent.
    StuckNetlink { host: usize, by: u64 },
    /// The adapter's thread gets no time for up to so many ns, between reading the clock and sending
    /// each message.
    StallAdapter { host: usize, by: u64 },
    /// What a host announces to its neighbours is sent up to so many ns after its deadline was looked
    /// at.
    StallAnnouncer { host: usize, by: u64 },
    /// Of what a host announces to its neighbours, so many in a thousand are lost.
    LoseAnnouncements { host: usize, permille: u64 },
    /// A machine that knows nothing of turnip says that it has the first address of a VIP, when this
    /// begins and when it ends, and a host hears it.
    ClaimAddress { host: usize, vip: usize },
    /// An interface of a host gets another hardware address, and its own one back at the end.
    ChangeHardware { host: usize, interface: usize },
    /// NTP makes what the kernel's timers count faster than the host's clock by so many parts per
    /// million.
    Slew { host: usize, ppm: i64 },
    /// A host is suspended: its clock goes on, and the kernel's timers do not.
    Suspend { host: usize },
    /// Somebody changes his own rules of nftables.
    ChangeRules { host: usize },
    /// Somebody flushes all rules of nftables, turnip's too.
    FlushRules { host: usize },
    /// Netlink fails, in a thousand.
    FailingNetlink { host: usize, permille: u64 },
    /// Somebody takes an address away.
    StealAddress { host: usize, vip: usize },
    /// Somebody puts an address there.
    PlantAddress { host: usize, vip: usize },
    /// The host's own address on an interface goes and comes back, and so stands behind what turnip has
    /// there.
    OwnAddressReturns { host: usize, interface: usize },
    /// Somebody puts the first address of a VIP on another interface, where the fence silences it; there it
    /// is until the end. Nothing happens where there is no fence.
    Double { host: usize, vip: usize },
    /// The kernel refuses the first address of a VIP. Without an end it never takes it, not even
    /// after everything has healed.
    RefuseAddress { host: usize, vip: usize },
    /// The check of a VIP, or the check of that number in a scenario's configuration, fails on these hosts; or it fails and passes in turns of so many ns.
    FailCheck { hosts: Vec<usize>, vip: usize, every: Option<u64> },
    /// An interface goes down.
    LinkDown { host: usize, interface: usize },
    /// An interface is gone.
    LinkGone { host: usize, interface: usize },
    /// An operator drains a host.
    Drain { host: usize },
    /// An operator pins a VIP to a host.
    Pin { vip: usize, host: usize },
    /// The key of another program that a VIP follows names another host, or is gone; at the end it names the
    /// usual one.
    Name { vip: usize, host: Option<usize> },
    /// A host's configuration file changes, and back at the end. Its daemon goes on with what it read
    /// when it was started.
    Reconfigure { host: usize, change: Change },
    /// A host's daemon reads its file again while it runs (rule 14): VIPs and weight.
    Reload { host: usize },
    /// A host's daemon ends, and leaves all to the next one (rule 14.6), which is started at the end.
    Leave { host: usize },
    /// Of a host's transactions of one kind, the next `count` after `skip` have a mishap.
    Meddle { host: usize, kind: TxnKind, skip: u32, count: u32, mishap: Mishap },
}

/// A fault at its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When it begins, in ns.
    pub at: True,
    /// How long it lasts, in ns; until everything heals when absent.
    pub lasts: Option<u64>,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// Whether it is about what is between sites.
    pub fn is_of_links(&self) -> bool {
        matches!(
            self,
            Fault::Cut { .. }
                | Fault::Isolate { .. }
                | Fault::CutStore { .. }
                | Fault::CutEndpoint { .. }
                | Fault::CutAnswers { .. }
                | Fault::SplitMembers { .. }
                | Fault::Split { .. }
                | Fault::Slow { .. }
                | Fault::Lossy { .. }
                | Fault::CutPeers { .. }
                | Fault::LossyPeers { .. }
        )
    }

    /// Whether another fault does the same to the same thing, if perhaps to another amount.
    pub fn is_alike(&self, other: &Fault) -> bool {
        match (self, other) {
            (Fault::SlowDisk { member: one, .. }, Fault::SlowDisk { member: other, .. })
            | (Fault::Drift { host: one, .. }, Fault::Drift { host: other, .. })
            | (Fault::Slew { host: one, .. }, Fault::Slew { host: other, .. })
            | (Fault::WatchLag { host: one, .. }, Fault::WatchLag { host: other, .. })
            | (Fault::SlowNetlink { host: one, .. }, Fault::SlowNetlink { host: other, .. })
            | (Fault::Pin { vip: one, .. }, Fault::Pin { vip: other, .. }) => one == other,
            _ => self == other,
        }
    }

    /// The host whose kernel it makes refuse addresses, which are tried again after a while.
    pub fn refused_by(&self) -> Option<usize> {
        match *self {
            Fault::FailingNetlink { host, .. }
            | Fault::SlowNetlink { host, .. }
            | Fault::StallAdapter { host, .. }
            | Fault::RefuseAddress { host, .. } => Some(host),
            _ => None,
        }
    }
}

impl Step {
    /// Whether it goes on when everything else heals.
    pub fn is_for_ever(&self) -> bool {
        self.lasts.is_none() && matches!(self.fault, Fault::RefuseAddress { .. })
    }

    /// When it ends, in a plan that heals at `heal_at`.
    pub fn ends(&self, heal_at: True) -> True {
        match self.lasts {
            _ if self.is_for_ever() => True::MAX,
            Some(lasts) => (self.at + lasts).min(heal_at),
            None => heal_at,
        }
    }
}
