//! What can happen next.

use turnip_core::adapter::{Call, Reply as KernelReply};
use turnip_core::{HookEnd, HookId, StoreError, Txn, TxnResponse};

use crate::plan::AddressId;
use crate::time::True;

use super::etcd::message::Message;
use super::hosts::Sealed;
use super::ids::{HostId, MemberId, RequestId, WatchId};
use super::slots::SlotId;

/// Something that happens at a time, by the part of the world to which it happens.
#[derive(Debug)]
pub enum Event {
    /// To a member of etcd, in one of its lives.
    Member { member: MemberId, epoch: u32, event: MemberEvent },
    /// A client's request arrives at its member.
    Request { request: RequestId },
    /// A member answers a request that it has carried out, unless it has crashed since.
    Reply { request: RequestId, epoch: u32, response: Box<TxnResponse> },
    /// To a watch.
    Watch { watch: WatchId, event: WatchEvent },
    /// To a client of etcd.
    Client(ClientEvent),
    /// To a host.
    Host { host: HostId, event: HostEvent },
    /// A datagram arrives at a host.
    Datagram { to: HostId, sealed: Box<Sealed> },
    /// To a neighbour of the hosts.
    Neighbour(NeighbourEvent),
    /// A sleep ends.
    Wake { slot: SlotId },
    /// An operator's wish is repeated.
    Intend { wish: Box<Wish> },
    /// To the run.
    Run(RunEvent),
}

impl Event {
    /// Whether nobody outside of the world's state notices it, no daemon above all: what comes of it
    /// are other events.
    pub fn is_quiet(&self) -> bool {
        match self {
            Event::Member { .. }
            | Event::Request { .. }
            | Event::Reply { .. }
            | Event::Neighbour(_) => true,
            Event::Watch { event, .. } => matches!(event, WatchEvent::Opens | WatchEvent::Probe),
            Event::Host { event, .. } => matches!(
                event,
                HostEvent::AdapterSends { .. }
                    | HostEvent::KernelReads { .. }
                    | HostEvent::AnnouncerSends { .. }
                    | HostEvent::GateCloses
            ),
            Event::Client(_)
            | Event::Datagram { .. }
            | Event::Wake { .. }
            | Event::Intend { .. }
            | Event::Run(_) => false,
        }
    }
}

/// What happens to a member of etcd.
#[derive(Debug)]
pub enum MemberEvent {
    /// A message of another one arrives.
    Message { from: MemberId, message: Box<Message> },
    /// Its election timer.
    Election,
    /// Its heartbeat, as a leader.
    Heartbeat { term: u64 },
    /// Its own write is on its disk.
    Disk { len: usize },
    /// It has known no leader for long.
    Leaderless { since: True },
}

/// What happens to a watch.
#[derive(Clone, Copy, Debug)]
pub enum WatchEvent {
    /// Something for the watcher arrives.
    Arrives,
    /// Its first read takes too long.
    Opens,
    /// Its connection is tried again.
    Probe,
}

/// What happens to a client of etcd.
#[derive(Debug)]
pub enum ClientEvent {
    /// It learns that a member's process does not run; or that it does, and knows no leader.
    Refused { request: RequestId, runs: bool },
    /// The answer to a transaction arrives.
    Answered { request: RequestId, answer: Box<Result<TxnResponse, StoreError>> },
    /// It stops waiting for an answer.
    GiveUp { slot: SlotId, request: Option<RequestId> },
    /// Its question for a member's status arrives.
    Status { slot: SlotId, member: MemberId },
}

/// What happens to a host.
#[derive(Debug)]
pub enum HostEvent {
    /// The adapter looks for something to do.
    AdapterLooks { incarnation: u32 },
    /// The adapter sends a message to the kernel.
    AdapterSends { incarnation: u32, call: Box<Call> },
    /// The kernel reads it, whatever has become of the daemon's process.
    KernelReads { boot: u32, incarnation: u32, call: Box<Call> },
    /// The adapter has the kernel's answer.
    AdapterHears { incarnation: u32, reply: Box<KernelReply> },
    /// The announcer sends what it has to announce.
    AnnouncerSends { incarnation: u32, addresses: Vec<AddressId> },
    /// The gate of its fence may have closed.
    GateCloses,
    /// A hook that a process of its daemon runs ends in this way.
    HookEnds { incarnation: u32, id: HookId, end: HookEnd },
    /// Lifetimes of its addresses may have ended.
    LifetimesEnd,
    /// Its daemon is started, as the service manager does.
    Start,
    /// Its daemon tries checks of what stands behind its VIPs.
    TriesChecks { incarnation: u32, which: Tried },
}

/// Which checks a daemon tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried {
    /// One for each VIP.
    EachVips,
    /// The one of that number in a scenario's configuration.
    Number(usize),
}

/// What happens to a neighbour of the hosts.
#[derive(Debug)]
pub enum NeighbourEvent {
    /// It hears where addresses are.
    Hears { client: usize, host: HostId, addresses: Vec<AddressId> },
    /// What it knows of an address has led nowhere since then: it asks.
    Asks { client: usize, address: AddressId, since: True },
}

/// What happens to the run.
#[derive(Clone, Copy, Debug)]
pub enum RunEvent {
    /// A step of its plan begins.
    Step { index: usize },
    /// Leadership moves once more.
    Flap { index: usize },
    /// The end of a step's effect.
    StepEnds { index: usize },
    /// It is looked whether all VIPs are held, so that a scenario can begin.
    Begins,
    /// What a scenario says happens.
    Happens { index: usize },
    /// Everything heals.
    Heal,
    /// An operator gives up the sessions of hosts that have another name by now.
    Forget,
    /// All daemons are asked to stop.
    StopAll,
    /// The run is over.
    End,
}

/// What an operator writes or removes.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which key it is about.
    pub key: String,
    /// Its number among those about the same key.
    pub number: u64,
    /// The transaction.
    pub txn: Txn,
}
