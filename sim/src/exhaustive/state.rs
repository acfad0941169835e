//! A state of the small world, as a handful of small numbers.

use turnip_core::{Instant, KernelOp};

use super::daemon::clock_micros;

/// The whole world at one instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) tick: u8,
    pub(super) store: u32,
    /// Which host the operator pinned the VIP to, plus one; 0: none.
    pub(super) pinned: u8,
    /// A bit for each host that the operator drains.
    pub(super) drained: u8,
    pub(super) spent: Spent,
    /// Requests that nobody waits for any more and that may still land.
    pub(super) late: Vec<u32>,
    pub(super) hosts: Vec<Host>,
}

/// How many of the bounded troubles there have been.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Spent {
    pub(super) late: u8,
    pub(super) slow: u8,
    pub(super) stalls: u8,
    pub(super) crashes: u8,
    pub(super) reboots: u8,
    pub(super) moves: u8,
    pub(super) drains: u8,
    pub(super) stops: u8,
}

/// One host: its daemon, its kernel, and what is on its way to or from them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    pub(super) node: u32,
    pub(super) life: Life,
    /// How often a daemon was started here.
    pub(super) incarnation: u8,
    /// How often the host was booted again.
    pub(super) boots: u8,
    /// The VIP is on its interface.
    pub(super) present: bool,
    /// Until when the fence lets it answer, on the host's clock, in µs.
    pub(super) until: u32,
    /// What the watch has yet to tell.
    pub(super) watch: Vec<u32>,
    /// Transactions that have not reached the store.
    pub(super) requests: Vec<Request>,
    /// Answers that have not reached the node.
    pub(super) answers: Vec<Answer>,
    /// Kernel operations that have not been performed.
    pub(super) ops: Vec<QueuedOp>,
}

/// Whether the daemon runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Running,
    Killed,
    Stopped,
    /// It ended itself because the name seemed taken: nothing in this world justifies that.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) id: u32,
    /// [`LOST`] for one that the network has swallowed, which the node does not know yet.
    pub(super) txn: u32,
}

/// No transaction.
pub(super) const LOST: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) id: u32,
    pub(super) response: u32,
    /// It has been on its way for a tick.
    pub(super) old: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct QueuedOp {
    pub(super) id: u32,
    pub(super) kind: OpKind,
    pub(super) until: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OpKind {
    Assume,
    Refresh,
    Withdraw,
}

impl OpKind {
    /// An operation of this kind, of which nothing but the kind counts.
    pub(super) fn op(self) -> KernelOp {
        let (addresses, deadline) = (Vec::new(), Instant::ZERO);
        match self {
            OpKind::Assume => KernelOp::Assume { addresses, deadline },
            OpKind::Refresh => KernelOp::Refresh { deadline },
            OpKind::Withdraw => KernelOp::Withdraw { addresses },
        }
    }
}

impl State {
    /// The hosts that answer for the VIP at this instant. Without a fence nothing but the daemon
    /// silences an address.
    pub(super) fn answering(&self, fence: bool) -> impl Iterator<Item = usize> + '_ {
        let answers = move |(index, host): &(usize, &Host)| {
            host.present && (!fence || clock_micros(*index, self.tick) < host.until)
        };
        self.hosts.iter().enumerate().filter(answers).map(|(index, _)| index)
    }

    /// Equal states have equal bytes and the other way round.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        let Spent { late, slow, stalls, crashes, reboots, moves, drains, stops } = self.spent;
        bytes.extend([self.tick, self.pinned, self.drained]);
        bytes.extend([late, slow, stalls, crashes, reboots, moves, drains, stops]);
        let mut to = Writer(bytes);
        to.number(self.store);
        to.all(&self.late, |to, txn| to.number(*txn));
        self.hosts.iter().for_each(|host| host.encode(&mut to));
    }

    pub(super) fn decode(bytes: &[u8]) -> State {
        let mut from = Reader(bytes);
        let [tick, pinned, drained] = from.bytes();
        let [late, slow, stalls, crashes, reboots, moves, drains, stops] = from.bytes();
        let spent = Spent { late, slow, stalls, crashes, reboots, moves, drains, stops };
        let store = from.number();
        let late = from.all(Reader::number);
        let mut hosts = Vec::with_capacity(3);
        while !from.0.is_empty() {
            hosts.push(Host::decode(&mut from));
        }
        State { tick, store, pinned, drained, spent, late, hosts }
    }
}

impl Host {
    /// A host that was just switched on, without a daemon yet.
    pub(super) fn off() -> Host {
        Host {
            node: 0,
            life: Life::Killed,
            incarnation: 0,
            boots: 0,
            present: false,
            until: 0,
            watch: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            ops: Vec::new(),
        }
    }

    fn encode(&self, to: &mut Writer<'_>) {
        let life = match self.life {
            Life::Running => 0,
            Life::Killed => 1,
            Life::Stopped => 2,
            Life::Refused => 3,
        };
        to.0.extend([life << 1 | u8::from(self.present), self.incarnation, self.boots]);
        to.number(self.node);
        to.number(self.until);
        to.all(&self.watch, |to, update| to.number(*update));
        to.all(&self.requests, |to, request| {
            to.number(request.id);
            to.number(request.txn);
        });
        to.all(&self.answers, |to, answer| {
            to.number(answer.id << 1 | u32::from(answer.old));
            to.number(answer.response);
        });
        to.all(&self.ops, |to, op| {
            let kind = match op.kind {
                OpKind::Assume => 0,
                OpKind::Refresh => 1,
                OpKind::Withdraw => 2,
            };
            to.number(op.id << 2 | kind);
            to.number(op.until);
        });
    }

    fn decode(from: &mut Reader<'_>) -> Host {
        let [flags, incarnation, boots] = from.bytes();
        Host {
            life: match flags >> 1 {
                0 => Life::Running,
                1 => Life::Killed,
                2 => Life::Stopped,
                _ => Life::Refused,
            },
            present: flags & 1 != 0,
            incarnation,
            boots,
            node: from.number(),
            until: from.number(),
            watch: from.all(Reader::number),
            requests: from.all(|from| Request { id: from.number(), txn: from.number() }),
            answers: from.all(|from| {
                let id = from.number();
                Answer { id: id >> 1, old: id & 1 != 0, response: from.number() }
            }),
            ops: from.all(|from| {
                let id = from.number();
                let kind = match id & 3 {
                    0 => OpKind::Assume,
                    1 => OpKind::Refresh,
                    _ => OpKind::Withdraw,
                };
                QueuedOp { id: id >> 2, kind, until: from.number() }
            }),
        }
    }
}

/// Writes numbers, small ones in few bytes.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number(&mut self, mut number: u32) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn all<T>(&mut self, items: &[T], one: impl Fn(&mut Self, &T)) {
        self.number(u32::try_from(items.len()).expect("few"));
        items.iter().for_each(|item| one(self, item));
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().expect("whole states");
        self.0 = rest;
        *first
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn number(&mut self) -> u32 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte();
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    fn all<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.number();
        (0..count).map(|_| one(self)).collect()
    }
}
