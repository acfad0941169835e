//! The seams: what the driver needs of the world, and nothing of an executor.
//!
//! The daemon implements them with etcd, netlink and the kernel's clocks, the simulator with
//! models of these. Implementations hold no decisions: those are [`turnip_core::Node`]'s.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures::{Stream, StreamExt};
use turnip_core::{
    Addressee, Assignment, Attempt, Datagram, ForeignKey, HeartbeatKeys, HookEnd, HookId, HookRun,
    Instant, KernelEvent, KernelOp, KernelOutcome, MemberStatus, NodeConfig, NodeName, Owed,
    StoreError, Txn, TxnResponse, Update, VipName,
};

/// The key-value store that all hosts share.
pub trait Store {
    /// Follows all keys under `prefix`: a linearizable snapshot first, then every change after
    /// it, in order and without a hole. The stream ends with an error when it cannot go on (the
    /// connection broke, the member lost its leader, the revision was compacted); a new one then
    /// takes its place. With `elsewhere` it begins at another endpoint than the last one used.
    fn follow(
        &self,
        prefix: String,
        elsewhere: bool,
    ) -> impl Stream<Item = Result<Update, StoreError>>;

    /// Follows keys of other programs: each is told once, then whenever it changes, in the order of its
    /// revisions, and why where it cannot be read. It may be told again as it was. Does not end; while etcd does not
    /// answer nothing comes.
    fn follow_keys(&self, keys: BTreeSet<String>) -> impl Stream<Item = ForeignKey>;

    /// Carries out a transaction, and answers within `timeout`, if only by an error. After an
    /// error the transaction may have been carried out, and may still be, at any later time.
    fn commit(
        &self,
        txn: Txn,
        timeout: Duration,
    ) -> impl Future<Output = Result<TxnResponse, StoreError>>;

    /// Asks the member on this host what it knows of itself, without a quorum.
    fn member_status(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<MemberStatus, StoreError>>;
}

/// The addresses and links of the host.
pub trait Kernel {
    /// Queues `op` at once, in the order of the calls; the future waits for the answer only, and
    /// dropping it takes nothing back. See [`KernelOp`] for what may overtake what.
    fn perform(&self, op: KernelOp) -> impl Future<Output = KernelOutcome>;

    /// Sends gratuitous ARP and unsolicited neighbour advertisements for the addresses on devices
    /// that resolve addresses, unless `deadline` has passed when each is sent.
    fn announce(&self, addresses: Vec<Assignment>, deadline: Instant) -> impl Future<Output = ()>;

    /// Ends the connections through addresses that have left this host, but for what is on an
    /// interface by then. Returns at once.
    fn end_connections(&self, addresses: Vec<IpAddr>);

    /// What the kernel reports by itself. Called once.
    fn events(&self) -> impl Stream<Item = KernelEvent>;
}

/// The way to the other hosts past the store (rule 10): datagrams, which may be lost, doubled, late and
/// out of order, but not forged.
pub trait Peers {
    /// Datagrams are authenticated with these keys from now on. Before the first call nothing is sent
    /// and nothing is taken.
    fn use_keys(&self, keys: HeartbeatKeys);

    /// Sends a datagram to each addressee. Returns at once; what cannot be sent is lost.
    fn send(&self, to: Vec<Addressee>);

    /// The authentic datagrams that come in, each with the node that sent it. Called once.
    fn datagrams(&self) -> impl Stream<Item = (NodeName, Datagram)>;
}

/// Without a way nothing is sent, and nothing comes.
impl<P: Peers> Peers for Option<P> {
    fn use_keys(&self, keys: HeartbeatKeys) {
        if let Some(peers) = self {
            peers.use_keys(keys);
        }
    }

    fn send(&self, to: Vec<Addressee>) {
        if let Some(peers) = self {
            peers.send(to);
        }
    }

    fn datagrams(&self) -> impl Stream<Item = (NodeName, Datagram)> {
        match self {
            Some(peers) => peers.datagrams().left_stream(),
            None => futures::stream::pending().right_stream(),
        }
    }
}

/// The commands that are run beside what becomes of VIPs (rule 12).
pub trait Hooks {
    /// Writes down what is owed for a VIP from now on, in the place of what was. When this returns it outlives
    /// the process.
    fn owe(&self, owed: Owed);

    /// Nothing is owed for a VIP any more.
    fn paid(&self, vip: &VipName);

    /// Begins a hook at once; the future ends when it has ended, and all that it started: it is killed at its
    /// deadline.
    fn run(&self, run: HookRun) -> impl Future<Output = HookEnd>;

    /// Kills a hook before its deadline; one that has ended is left alone.
    fn kill(&self, id: HookId);
}

/// The host's clock: it counts the time that the host was suspended, and nothing bends its rate.
pub trait Clock {
    /// The reading now. Never goes back.
    fn now(&self) -> Instant;

    /// Ends when the reading is `deadline` or later, also when the host was suspended meanwhile.
    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()>;

    /// The wall clock in ms since 1970, for people to read. Nothing is decided by it.
    fn unix_ms(&self) -> u64;
}

/// What an operator, the service manager or a program that watches asks of the daemon, and what checks say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Go by another configuration (rule 14).
    Configure(Box<NodeConfig>),
    /// End, and leave everything to the next process on this host (rule 14.6).
    Leave,
    /// Hand everything over, leave nothing behind, then end.
    Stop,
    /// Take the addresses away and end; do not wait for etcd.
    StopNow,
    /// Show the node to who watches the driver.
    Look,
    /// An attempt of a check is over.
    Attempt(Attempt),
}
