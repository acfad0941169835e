//! What every part of the world works with: time, chance, the network, whoever waits, and what is
//! written down.
//!
//! A part owns its own state and sees no other part's. What follows from what it does, it puts on
//! the [agenda](Agenda), or returns.

use std::rc::Rc;

use crate::check::Checker;
use turnip_core::Txn;

use crate::plan::{AddressId, Params, Plan, TxnKind};
use crate::record::{Record, Tally};
use crate::rng::Rng;
use crate::time::True;

use super::agenda::Agenda;
use super::event::Event;
use super::ids::HostId;
use super::layout::Layout;
use super::neighbours::Neighbours;
use super::net::{Net, Plane, Site};
use super::slots::Slots;

/// What every part works with.
pub struct Env {
    /// The run's plan.
    pub plan: Rc<Plan>,
    /// Names and addresses.
    pub layout: Rc<Layout>,
    /// The host whose name each host's node has.
    pub names_of: Vec<usize>,
    /// Chance on the network.
    pub rng: Rng,
    /// Chance among etcd's members.
    pub election_rng: Rng,
    /// Chance in the kernels, and between them and the daemons.
    pub kernel_rng: Rng,
    /// Chance among the hosts' datagrams.
    pub direct_rng: Rng,
    /// Chance among the hosts' hooks.
    pub hook_rng: Rng,
    /// The network.
    pub net: Net,
    /// Waits of the daemons.
    pub slots: Slots,
    /// The time, and what will happen.
    pub agenda: Agenda,
    /// Who answers, and what follows from it.
    pub checker: Checker,
    /// Where clients look for it.
    pub neighbours: Neighbours,
    /// What is written down.
    pub record: Record,
}

impl Env {
    /// The environment at the beginning of a run.
    pub fn new(plan: &Rc<Plan>, tracing: bool) -> Self {
        let params = &plan.params;
        let layout = Layout::new(params);
        let mut net = Net::new(params.sites(), params.weather.clone());
        for path in params.played.iter().flat_map(|played| &played.paths) {
            net.slow(path.from, path.to, path.slow);
            net.lose(path.from, path.to, path.loss_ppm);
        }
        Env {
            plan: Rc::clone(plan),
            names_of: (0..params.hosts).collect(),
            rng: Rng::new(plan.seed, "network"),
            // A name from when there was one stream: a seed's first leader stays who it was.
            election_rng: Rng::new(plan.seed, "weather"),
            kernel_rng: Rng::new(plan.seed, "kernels"),
            direct_rng: Rng::new(plan.seed, "direct"),
            hook_rng: Rng::new(plan.seed, "hook runs"),
            net,
            slots: Slots::default(),
            agenda: Agenda::new(),
            checker: Checker::new(2 * params.vips.len(), params.hosts),
            neighbours: Neighbours::new(2 * params.vips.len(), plan.seed),
            record: Record::new(tracing),
            layout: Rc::new(layout),
        }
    }

    /// True time.
    pub fn now(&self) -> True {
        self.agenda.now()
    }

    /// Lets `event` happen at `at`, or now if that has passed.
    pub fn schedule(&mut self, at: True, event: Event) {
        self.agenda.schedule(at, event);
    }

    /// Lets `event` happen in `delay` ns.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.agenda.schedule(self.agenda.now() + delay, event);
    }

    /// How long a message takes that is sent now; nothing when the link is cut.
    pub fn delay(&mut self, plane: Plane, from: Site, to: Site) -> Option<u64> {
        match self.stalls(plane, from, to) {
            true => None,
            false => self.net.delay(plane, from, to, &mut self.rng),
        }
    }

    /// Whether a connection is stuck for want of acknowledgements. In scenarios only: elsewhere the network is out to
    /// get it, and what is sent arrives although nothing comes back.
    pub fn stalls(&mut self, plane: Plane, from: Site, to: Site) -> bool {
        let now = self.now();
        self.is_played() && self.net.stalls(plane, from, to, now)
    }

    /// Whether the plan is a scenario from a file. What its faults do lasts until the last of them ends; in other plans
    /// whoever ends first sets it right.
    pub fn is_played(&self) -> bool {
        self.plan.params.played.is_some()
    }

    /// Whether a host answers for an address now: the checker and the neighbours learn of it.
    pub fn observe(&mut self, address: AddressId, host: HostId, answers: bool) {
        let now = self.now();
        self.checker.observe(now, address, host, answers);
        let holders = self.checker.holders(address);
        for (at, event) in self.neighbours.holders_changed(now, address, holders) {
            self.schedule(at, Event::Neighbour(event));
        }
    }

    /// What a transaction of a host is for; nothing when it is none of turnip's.
    pub fn kind(&self, host: HostId, txn: &Txn) -> Option<TxnKind> {
        self.layout.names.kind(*self.names_of.get(host)?, txn)
    }

    /// Writes a line of the trace, if there is one; the parameters know the names.
    pub fn trace(&mut self, line: impl FnOnce(&Params) -> String) {
        self.record.trace(self.agenda.now(), || line(&self.plan.params));
    }

    /// Counts something that happened.
    pub fn count(&mut self, which: impl FnOnce(&mut Tally) -> &mut u64) {
        *which(&mut self.record.tally) += 1;
    }
}
