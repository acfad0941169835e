//! A state of the small world, as a handful of small numbers.

/// The whole world at one instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) tick: u8,
    pub(super) store: u32,
    /// Which host the operator pinned v to, plus one; 0: none.
    pub(super) pinned: u8,
    /// A bit for each host that the operator drains.
    pub(super) drained: u8,
    pub(super) used: Used,
    /// At how many ticks an address has been nobody's although a host that renews could have it;
    /// counted only where there is a bound on it.
    pub(super) gap: u8,
    /// Requests that nobody waits for any more and that may still land.
    pub(super) late: Vec<u32>,
    /// Heartbeats on their way.
    pub(super) flying: Vec<Flying>,
    pub(super) hosts: Vec<Host>,
}

/// What can go wrong, or be done to the world, a bounded number of times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// A request is told to have failed and may land later.
    Late,
    /// An answer is delayed after the commit.
    Slow,
    /// A daemon stalls for a tick.
    Stall,
    /// A daemon is killed.
    Crash,
    /// A host is booted again.
    Reboot,
    /// The operator moves a VIP.
    Move,
    /// The operator drains a host, or undoes that.
    Drain,
    /// The operator stops a daemon.
    Stop,
    /// A daemon starts with another configuration file.
    Change,
    /// A host's renewals begin to be lost, for as many ticks as may be.
    Loss,
    /// A watch stands still.
    StalledWatch,
    /// A datagram arrives twice.
    Double,
}

/// How many kinds of trouble there are.
const TROUBLES: usize = 12;

/// How many troubles of each kind there have been.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Used([u8; TROUBLES]);

impl Used {
    pub(super) fn count(&mut self, trouble: Trouble) {
        self.0[trouble as usize] += 1;
    }

    pub(super) fn of(&self, trouble: Trouble) -> u8 {
        self.0[trouble as usize]
    }
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
    /// Which configuration file its daemon started with.
    pub(super) file: u8,
    /// Its watch stands still.
    pub(super) watch_stalled: bool,
    /// Its renewals are being lost; known only where it is counted how often that begins.
    pub(super) losing: bool,
    pub(super) kernel: u32,
    /// What the watch has yet to tell.
    pub(super) watch: Vec<u32>,
    /// Transactions that have not reached the store.
    pub(super) requests: Vec<Request>,
    /// Answers that have not reached the node.
    pub(super) answers: Vec<Answer>,
}

/// A heartbeat on its way to a host, with its acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Flying {
    /// At which tick it was sent.
    pub(super) sent: u8,
    /// The number of its addressee's name.
    pub(super) to: u8,
    pub(super) datagram: u32,
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

impl State {
    /// Equal states have equal bytes and the other way round.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend([self.tick, self.pinned, self.drained, self.gap]);
        bytes.extend(self.used.0);
        let mut to = Writer(bytes);
        to.number(self.store);
        to.all(&self.late, |to, txn| to.number(*txn));
        to.all(&self.flying, |to, flying| {
            to.0.extend([flying.sent, flying.to]);
            to.number(flying.datagram);
        });
        self.hosts.iter().for_each(|host| host.encode(&mut to));
    }

    pub(super) fn decode(bytes: &[u8]) -> State {
        let mut from = Reader(bytes);
        let [tick, pinned, drained, gap] = from.bytes();
        let used = Used(from.bytes());
        let store = from.number();
        let late = from.all(Reader::number);
        let flying = from.all(|from| {
            let [sent, to] = from.bytes();
            Flying { sent, to, datagram: from.number() }
        });
        let mut hosts = Vec::with_capacity(3);
        while !from.0.is_empty() {
            hosts.push(Host::decode(&mut from));
        }
        State { tick, store, pinned, drained, used, gap, late, flying, hosts }
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
            file: 0,
            watch_stalled: false,
            losing: false,
            kernel: 0,
            watch: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.life == Life::Running
    }

    fn encode(&self, to: &mut Writer<'_>) {
        let life = match self.life {
            Life::Running => 0,
            Life::Killed => 1,
            Life::Stopped => 2,
            Life::Refused => 3,
        };
        let flags =
            self.file << 4 | life << 2 | u8::from(self.losing) << 1 | u8::from(self.watch_stalled);
        to.0.extend([flags, self.incarnation, self.boots]);
        to.number(self.node);
        to.number(self.kernel);
        to.all(&self.watch, |to, update| to.number(*update));
        to.all(&self.requests, |to, request| {
            to.number(request.id);
            to.number(request.txn);
        });
        to.all(&self.answers, |to, answer| {
            to.number(answer.id << 1 | u32::from(answer.old));
            to.number(answer.response);
        });
    }

    fn decode(from: &mut Reader<'_>) -> Host {
        let [flags, incarnation, boots] = from.bytes();
        Host {
            life: match flags >> 2 & 3 {
                0 => Life::Running,
                1 => Life::Killed,
                2 => Life::Stopped,
                _ => Life::Refused,
            },
            watch_stalled: flags & 1 != 0,
            losing: flags & 2 != 0,
            file: flags >> 4,
            incarnation,
            boots,
            node: from.number(),
            kernel: from.number(),
            watch: from.all(Reader::number),
            requests: from.all(|from| Request { id: from.number(), txn: from.number() }),
            answers: from.all(|from| {
                let id = from.number();
                Answer { id: id >> 1, old: id & 1 != 0, response: from.number() }
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
