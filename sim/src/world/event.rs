//! What can happen next, in the order of true time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use turnip_core::{Assignment, KernelOp};

use crate::time::True;

use super::etcd::RequestId;
use super::host::HostId;
use super::raft::{MemberId, Message};
use super::slots::{Reply, SlotId};
use super::watch::WatchId;

/// Something that happens at a time.
#[derive(Debug)]
pub enum Event {
    /// A message between etcd's members arrives.
    Raft { from: MemberId, to: MemberId, epoch: u32, message: Box<Message> },
    /// A member's election timer.
    Election { member: MemberId, epoch: u32 },
    /// A leader's heartbeat.
    Heartbeat { member: MemberId, epoch: u32, term: u64 },
    /// A leader's own write is on its disk.
    Disk { member: MemberId, epoch: u32, len: usize },
    /// A member has known no leader for long.
    Leaderless { member: MemberId, epoch: u32, since: True },
    /// A client's request arrives at a member.
    Request { request: RequestId },
    /// A client learns that a member's process does not run, or that it knows no leader.
    Refused { request: RequestId },
    /// An answer arrives at a client.
    Answer { slot: SlotId, reply: Box<Reply> },
    /// A client stops waiting for an answer.
    GiveUp { slot: SlotId, host: HostId, endpoint: usize },
    /// A question for a member's status arrives.
    Status { slot: SlotId, member: MemberId },
    /// Something for a watcher arrives.
    WatchArrives { watch: WatchId },
    /// A watch's first read takes too long.
    WatchOpens { watch: WatchId },
    /// A watch's connection is tried again.
    WatchProbe { watch: WatchId },
    /// A sleep ends.
    Wake { slot: SlotId },
    /// The adapter sends its next operation to the kernel.
    AdapterSends { host: HostId, incarnation: u32 },
    /// The kernel carries an operation out.
    KernelActs { host: HostId, boot: u32, call: Box<KernelCall> },
    /// The adapter has the kernel's acknowledgement.
    AdapterHears { host: HostId, incarnation: u32, call: Box<KernelCall> },
    /// The gate of a host's fence may have closed.
    GateCloses { host: HostId },
    /// Lifetimes of addresses may have ended.
    LifetimesEnd { host: HostId },
    /// An operator's wish is repeated.
    Intend { wish: Box<Wish> },
    /// A daemon is started, as the service manager does.
    Start { host: HostId },
    /// A step of the run's plan.
    Step { index: usize },
    /// Leadership moves once more.
    Flap { index: usize },
    /// The end of a step's effect.
    StepEnds { index: usize },
    /// Everything heals.
    Heal,
    /// All daemons are asked to stop.
    StopAll,
    /// The run is over.
    End,
}

/// An operation on its way through the kernel and back.
#[derive(Debug)]
pub struct KernelCall {
    /// Who waits.
    pub slot: SlotId,
    /// What.
    pub op: KernelOp,
    /// What a later `Withdraw` took out of it while it waited.
    pub cancelled: Vec<Assignment>,
    /// The host's clock when it was sent, in ns.
    pub sent_at: u64,
    /// What went wrong.
    pub failed: Vec<(Assignment, turnip_core::KernelError)>,
    /// The kernel refused the whole.
    pub refused: Option<turnip_core::KernelError>,
    /// It is being undone, because its deadline had passed when the acknowledgement came.
    pub undo: bool,
}

struct Scheduled {
    at: True,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// All that will happen.
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Scheduled>,
    order: u64,
}

impl Queue {
    /// Lets `event` happen at `at`, after what was scheduled for the same time before.
    pub fn push(&mut self, at: True, event: Event) {
        self.order += 1;
        self.heap.push(Scheduled { at, order: self.order, event });
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<True> {
        self.heap.peek().map(|scheduled| scheduled.at)
    }

    /// The next event, if it happens at or before `now`.
    pub fn pop(&mut self, now: True) -> Option<(True, Event)> {
        if self.heap.peek()?.at > now {
            return None;
        }
        self.heap.pop().map(|scheduled| (scheduled.at, scheduled.event))
    }
}

/// What an operator writes or removes.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which key it is about.
    pub key: String,
    /// Its number among those about the same key.
    pub number: u64,
    /// The transaction.
    pub txn: turnip_core::Txn,
}
