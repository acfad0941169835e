//! A kernel for the adapter's tests: addresses with lifetimes, and the fence's sets with timeouts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::lifetimes::{Place, place};
use super::super::{
    Adapter, Call, Change, FenceContents, Fenced, GateFound, Reply, Structure, TimerRate,
    Transaction, TransactionError,
};
use crate::action::OpId;
use crate::kernel::{
    Assignment, KernelError, KernelOp, KernelOutcome, Link, Listing, PresentAddress,
};
use crate::lease::Backstop;
use crate::mutant::Mutant;
use crate::time::Instant;

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn at(millis: u64) -> Instant {
    Instant::ZERO + ms(millis)
}

/// The address number `host`, of the VIP `v`, on lo.
pub(super) fn address(host: u32) -> Assignment {
    let ip = std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)) + host);
    Assignment {
        vip: "v".parse().unwrap(),
        interface: "lo".into(),
        address: format!("{ip}/32").parse().unwrap(),
    }
}

pub(super) fn addresses(hosts: impl IntoIterator<Item = u32>) -> Vec<Assignment> {
    hosts.into_iter().map(address).collect()
}

pub(super) fn done() -> KernelOutcome {
    KernelOutcome::Done { failed: Vec::new(), until: None }
}

pub(super) fn too_late(hosts: impl IntoIterator<Item = u32>) -> KernelOutcome {
    let failed = addresses(hosts).into_iter().map(|one| (one, KernelError::TooLate)).collect();
    KernelOutcome::Done { failed, until: None }
}

/// The fence's tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tables {
    pub(super) as_made: bool,
    pub(super) vips: BTreeSet<Fenced>,
    pub(super) held: BTreeSet<Fenced>,
    pub(super) gate: Option<Instant>,
    pub(super) ticket: Option<Instant>,
}

/// What is in one host's kernel.
#[derive(Clone, Default)]
pub(super) struct Kernel {
    pub(super) present: BTreeMap<Place, (bool, Option<Instant>)>,
    pub(super) tables: Option<Tables>,
    /// Somebody else's transaction took place.
    pub(super) changed: bool,
    /// What it refuses to put there or to take away.
    pub(super) refuses: BTreeSet<Place>,
    /// It refuses to make tables.
    pub(super) refuses_layouts: bool,
    /// How much more time than its timers count passes, in parts per million.
    pub(super) slow_ppm: u32,
}

impl Kernel {
    pub(super) fn act(&mut self, call: &Call, now: Instant) -> Reply {
        self.present.retain(|_, (_, ends)| ends.is_none_or(|ends| ends > now));
        match call {
            Call::List => {
                let listed = |(place, (marked, _)): (&Place, &(bool, _))| PresentAddress {
                    interface: place.0.clone(),
                    address: place.1,
                    marked: *marked,
                    misplaced: false,
                };
                let listing = Listing {
                    addresses: self.present.iter().map(listed).collect(),
                    links: vec![Link { name: "lo".into(), up: true, carrier: true }],
                };
                Reply::Listed { listing, fence_changed: self.changed }
            }
            Call::Put { addresses, lifetime_secs } => {
                let ends = now + self.real(Duration::from_secs((*lifetime_secs).into()));
                let put = |one: &Assignment| {
                    self.answer(one)?;
                    self.present.insert(place(one), (true, Some(ends)));
                    Ok(())
                };
                Reply::Each(addresses.iter().map(put).collect())
            }
            Call::Delete { addresses } => {
                let delete = |one: &Assignment| {
                    self.answer(one)?;
                    self.present.remove(&place(one));
                    Ok(())
                };
                Reply::Each(addresses.iter().map(delete).collect())
            }
            Call::Change(transaction) => Reply::Changed(self.transact(transaction, now)),
            Call::ReadFence => {
                self.changed = false;
                Reply::Fence(match &self.tables {
                    None => FenceContents::default(),
                    Some(tables) => FenceContents {
                        structure: if tables.as_made {
                            Structure::AsMade
                        } else {
                            Structure::Other
                        },
                        vips: tables.vips.clone(),
                        held: tables.held.clone(),
                        gate: match tables.gate {
                            Some(until) if until > now => GateFound::Open,
                            _ => GateFound::Closed,
                        },
                    },
                })
            }
            Call::RemoveFence => {
                self.tables = None;
                Reply::Removed
            }
        }
    }

    fn answer(&self, one: &Assignment) -> Result<(), KernelError> {
        if self.refuses.contains(&place(one)) {
            return Err(KernelError::Refused("no".into()));
        }
        Ok(())
    }

    /// How much time passes while a timer counts that much.
    fn real(&self, counted: Duration) -> Duration {
        counted * (1_000_000 + self.slow_ppm) / 1_000_000
    }

    fn transact(
        &mut self,
        transaction: &Transaction,
        now: Instant,
    ) -> Result<(), TransactionError> {
        if transaction.guarded && self.changed {
            return Err(TransactionError::Changed);
        }
        let lays_out =
            |change: &Change| matches!(change, Change::Layout { .. } | Change::LayoutAnew { .. });
        if self.refuses_layouts && transaction.changes.iter().any(lays_out) {
            return Err(TransactionError::Other("no".into()));
        }
        let is_live = |timeout: Option<Instant>| timeout.is_some_and(|until| until > now);
        let mut new = self.tables.clone();
        let mut absent = BTreeSet::new();
        for (number, change) in transaction.changes.iter().enumerate() {
            if let Change::Layout { vips } | Change::LayoutAnew { vips } = change {
                if matches!(change, Change::LayoutAnew { .. }) {
                    new = None;
                }
                let tables = new.get_or_insert_default();
                (tables.as_made, tables.vips) = (true, vips.iter().cloned().collect());
                continue;
            }
            let Some(tables) = &mut new else {
                absent.insert(number);
                continue;
            };
            let mut delete = |set: &mut BTreeSet<Fenced>, gone: &[Fenced]| {
                if gone.iter().any(|one| !set.remove(one)) {
                    absent.insert(number);
                }
            };
            match change {
                Change::DeleteVips(gone) => delete(&mut tables.vips, gone),
                Change::DeleteHeld(gone) => delete(&mut tables.held, gone),
                Change::AddHeld(more) => tables.held.extend(more.iter().cloned()),
                Change::FlushHeld => tables.held.clear(),
                Change::FlushGate => (tables.gate, tables.ticket) = (None, tables.ticket),
                Change::AddGate(timeout) if !is_live(tables.gate) => {
                    tables.gate = Some(now + self.real(*timeout));
                }
                Change::AddTicket(timeout) if !is_live(tables.ticket) => {
                    tables.ticket = Some(now + self.real(*timeout));
                }
                Change::DeleteGate | Change::DeleteTicket => {
                    let gate = matches!(change, Change::DeleteGate);
                    let set = if gate { &mut tables.gate } else { &mut tables.ticket };
                    if !is_live(set.take()) {
                        absent.insert(number);
                    }
                }
                _ => {}
            }
        }
        if !absent.is_empty() {
            return Err(TransactionError::Absent(absent));
        }
        self.tables = new;
        Ok(())
    }
}

/// An adapter and its kernel.
pub(super) struct World {
    pub(super) adapter: Adapter,
    pub(super) kernel: Kernel,
    pub(super) now: Instant,
    pub(super) rate: TimerRate,
    /// How long a call takes until the kernel reads it, and from then until its answer is in hand.
    pub(super) takes: (Duration, Duration),
    /// The same for calls to come, which take longer.
    pub(super) stalls: Vec<(Duration, Duration)>,
    pub(super) calls: Vec<Call>,
    outcomes: BTreeMap<OpId, KernelOutcome>,
    next: u64,
}

impl World {
    pub(super) fn new(backstop: Backstop, count: u32, mutant: Option<Mutant>) -> Self {
        Self::on(Kernel::default(), at(1_000), backstop, count, mutant)
    }

    /// A new process on a kernel that is as it is.
    pub(super) fn on(
        kernel: Kernel,
        now: Instant,
        backstop: Backstop,
        count: u32,
        mutant: Option<Mutant>,
    ) -> Self {
        let mut adapter = Adapter::new(addresses(1..=count), backstop);
        adapter.shared.mutant = mutant;
        let mut world = World {
            adapter,
            kernel,
            now,
            rate: TimerRate::TRUE,
            takes: (Duration::from_micros(20), Duration::from_micros(20)),
            stalls: Vec::new(),
            calls: Vec::new(),
            outcomes: BTreeMap::new(),
            next: 0,
        };
        world.run();
        assert_eq!(world.adapter.started(), Some(&Ok(())));
        world.calls.clear();
        world
    }

    pub(super) fn ask(&mut self, op: KernelOp) -> OpId {
        let id = OpId(self.next);
        self.next += 1;
        self.adapter.handle_op(id, op, self.now);
        id
    }

    /// One call and its answer; whether there was one.
    pub(super) fn step(&mut self) -> bool {
        let Some(call) = self.adapter.poll_call(self.now, self.rate) else {
            self.collect();
            return false;
        };
        assert!(self.adapter.poll_call(self.now, self.rate).is_none(), "one call at a time");
        let (before, after) =
            if self.stalls.is_empty() { self.takes } else { self.stalls.remove(0) };
        self.now += before;
        let reply = self.kernel.act(&call, self.now);
        self.now += after;
        self.calls.push(call);
        self.adapter.handle_reply(reply, self.now);
        self.collect();
        true
    }

    fn collect(&mut self) {
        while let Some((id, outcome)) = self.adapter.poll_outcome() {
            assert!(self.outcomes.insert(id, outcome).is_none(), "one answer to each operation");
        }
    }

    pub(super) fn run(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 10_000, "it calls the kernel for ever");
        }
    }

    pub(super) fn outcome(&mut self, id: OpId) -> Option<KernelOutcome> {
        self.outcomes.remove(&id)
    }

    /// Asks, and runs until the answer.
    pub(super) fn perform(&mut self, op: KernelOp) -> KernelOutcome {
        let id = self.ask(op);
        self.run();
        self.outcome(id).expect("an answer")
    }

    pub(super) fn assume(
        &mut self,
        hosts: impl IntoIterator<Item = u32>,
        deadline: Instant,
    ) -> KernelOutcome {
        self.perform(KernelOp::Assume { addresses: addresses(hosts), deadline })
    }

    pub(super) fn refresh(&mut self, deadline: Instant) -> KernelOutcome {
        self.perform(KernelOp::Refresh { deadline })
    }

    pub(super) fn withdraw(&mut self, hosts: impl IntoIterator<Item = u32>) -> KernelOutcome {
        self.perform(KernelOp::Withdraw { addresses: addresses(hosts) })
    }

    pub(super) fn is_present(&self, host: u32) -> bool {
        let ends = self.kernel.present.get(&place(&address(host)));
        ends.is_some_and(|(_, ends)| ends.is_none_or(|ends| ends > self.now))
    }

    /// Whether packets to the address are answered.
    pub(super) fn answers(&self, host: u32) -> bool {
        let ip = Fenced::from(&address(host));
        self.is_present(host)
            && self.kernel.tables.as_ref().is_none_or(|tables| {
                let open = tables.gate.is_some_and(|until| until > self.now);
                !tables.vips.contains(&ip) || open && tables.held.contains(&ip)
            })
    }

    /// Until when the kernel's gate is open.
    pub(super) fn gate(&self) -> Option<Instant> {
        self.kernel.tables.as_ref()?.gate.filter(|until| *until > self.now)
    }

    pub(super) fn tables(&mut self) -> &mut Tables {
        self.kernel.tables.as_mut().expect("a fence")
    }
}
