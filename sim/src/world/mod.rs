//! The world in which hosts run: one queue of events in true time, and everything they change.
//!
//! The daemons' futures run under madsim, which chooses in what order; all else - network, etcd,
//! kernels, clocks - is plain state here, changed by one event after another. Whatever a daemon
//! waits for is a [slot](slots) that an event ends.

#[cfg(test)]
mod contract;
pub mod etcd;
pub mod event;
pub mod host;
pub mod kernel;
pub mod names;
pub mod net;
mod pump;
pub mod raft;
pub mod seams;
pub mod slots;
mod step;
pub mod watch;

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use ipnet::IpNet;
use madsim::time::TimeHandle;
use turnip_core::model::Mvcc;
use turnip_core::{Txn, TxnResponse};

use crate::check::Checker;
use crate::plan::{Daemon, Plan, TxnKind};
use crate::record::{Mark, Record, Tally};
use crate::rng::Rng;
use crate::run::Failure;
use crate::time::{HostClock, True};

use etcd::{Member, Request, RequestId};
use event::{Event, Queue};
use host::Host;
use kernel::HostKernel;
use names::Names;
use net::Net;
use raft::{MemberId, RaftTiming};
use slots::Slots;
use step::Meddling;
use watch::Watch;

pub use pump::Pump;
pub use step::Control;

/// The world, shared by all that happens in it.
pub struct World {
    inner: RefCell<Inner>,
    time: TimeHandle,
}

/// The world's state.
pub struct Inner {
    /// True time: of the event that is happening, or else the present.
    pub now: True,
    /// The run's plan.
    pub plan: Rc<Plan>,
    /// The names in it.
    pub names: Rc<Names>,
    /// Chance.
    pub rng: Rng,
    /// The network.
    pub net: Net,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// etcd's members.
    pub members: Vec<Member>,
    /// What etcd holds.
    pub store: Mvcc,
    /// What is committed: the request, and the revision after it.
    committed: Vec<(Option<RequestId>, i64)>,
    requests: Vec<Request>,
    watches: Vec<Watch>,
    reads: Vec<(MemberId, RequestId, usize)>,
    peer_order: Vec<True>,
    timing: RaftTiming,
    keepalive: u64,
    /// Waits of the daemons.
    pub slots: Slots,
    queue: Queue,
    /// The interface that carries the VIPs on every host.
    pub interface: Arc<str>,
    /// Every VIP's addresses.
    pub vip_addresses: Vec<Vec<IpNet>>,
    /// Who answers, and what follows from it.
    pub checker: Checker,
    /// What is written down.
    pub record: Record,
    active: Vec<bool>,
    meddlings: Vec<Meddling>,
    /// The operator's newest wish about each key, by number.
    wishes: BTreeMap<String, u64>,
    crashed_leaders: Vec<MemberId>,
    /// What was not in order just before the daemons were stopped.
    pub settled: Vec<Failure>,
    /// The daemons are asked to stop for good.
    pub stopping: bool,
    /// The run is over.
    pub over: bool,
    controls: Vec<Control>,
    pump: Option<Waker>,
    armed: True,
}

impl World {
    /// A world at its beginning: etcd's members run, no daemon does.
    pub fn new(plan: Rc<Plan>, tracing: bool, time: TimeHandle) -> Rc<Self> {
        let params = &plan.params;
        let interface: Arc<str> = "eth0".into();
        let vip_addresses = vip_addresses(&plan);
        let mut inner = Inner {
            now: 0,
            names: Rc::new(Names::new(params.hosts, params.vips.len())),
            rng: Rng::new(plan.seed, "weather"),
            net: Net::new(params.sites(), params.weather.clone()),
            hosts: Vec::new(),
            members: (0..params.members).map(|m| Member::new(params.site_of(m))).collect(),
            store: Mvcc::new(0xC1),
            committed: Vec::new(),
            requests: Vec::new(),
            watches: Vec::new(),
            reads: Vec::new(),
            peer_order: vec![0; params.members * params.members],
            timing: params.raft,
            keepalive: params.keepalive,
            slots: Slots::default(),
            queue: Queue::default(),
            interface,
            checker: Checker::new(vip_addresses.len(), params.hosts),
            vip_addresses,
            record: Record::new(tracing),
            active: vec![false; plan.steps.len()],
            meddlings: Vec::new(),
            wishes: BTreeMap::new(),
            crashed_leaders: Vec::new(),
            settled: Vec::new(),
            stopping: false,
            over: false,
            controls: Vec::new(),
            pump: None,
            armed: True::MAX,
            plan: Rc::clone(&plan),
        };
        for host in 0..params.hosts {
            inner.add_host(host);
        }
        for member in 0..params.members {
            inner.raft_start(member);
        }
        for (index, step) in plan.steps.iter().enumerate() {
            inner.schedule(step.at, Event::Step { index });
        }
        for host in 0..params.hosts {
            let at = inner.rng.within(0..=params.start_spread);
            inner.schedule(at, Event::Start { host });
        }
        inner.schedule(plan.heal_at, Event::Heal);
        inner.schedule(plan.stop_at, Event::StopAll);
        inner.schedule(plan.end_at, Event::End);
        Rc::new(World { inner: RefCell::new(inner), time })
    }

    /// The state, at the present.
    pub fn inner(&self) -> RefMut<'_, Inner> {
        let mut inner = self.inner.borrow_mut();
        inner.now = self.time.elapsed().as_nanos() as u64;
        inner
    }
}

/// One or two addresses a VIP, no two alike.
fn vip_addresses(plan: &Plan) -> Vec<Vec<IpNet>> {
    let address = |vip: usize, number: usize| -> IpNet {
        let text = match number {
            0 => format!("10.0.{}.{}/32", vip / 200, vip % 200 + 1),
            _ => format!("fd00::{number}:{:x}/128", vip + 1),
        };
        text.parse().expect("a valid address")
    };
    let vips = plan.params.vips.iter().enumerate();
    vips.map(|(vip, params)| (0..params.addresses).map(|n| address(vip, n)).collect()).collect()
}

impl Inner {
    fn add_host(&mut self, host: usize) {
        let params = &self.plan.params;
        let clock = HostClock::new(params.offsets[host], params.rates_ppm[host]);
        let local = (params.together && host < params.members).then_some(host);
        // A host's own member first, then the others in turn.
        let endpoints = (0..params.members).map(|n| (host + n) % params.members).collect();
        let vips = (0..params.vips.len()).collect();
        let mut state = Host::new(clock, self.fresh_kernel(), endpoints);
        state.member = local;
        state.vips = vips;
        self.hosts.push(state);
    }

    /// A kernel just booted.
    pub fn fresh_kernel(&self) -> HostKernel {
        let params = &self.plan.params;
        let interfaces = [Arc::clone(&self.interface)];
        let mut kernel = HostKernel::new(params.backstop, &interfaces, params.gate_early_max);
        kernel.heeds_deadlines = params.daemon != Daemon::HeedlessAdapter;
        kernel
    }

    /// Lets `event` happen at `at`, or now if that has passed.
    pub fn schedule(&mut self, at: True, event: Event) {
        let at = at.max(self.now);
        self.queue.push(at, event);
        if at < self.armed
            && let Some(pump) = &self.pump
        {
            // It is woken to arm its timer for the earlier time.
            pump.wake_by_ref();
            self.armed = at;
        }
    }

    /// Keeps a client's request.
    pub fn add_request(&mut self, request: Request) -> RequestId {
        self.requests.push(request);
        RequestId(self.requests.len() as u32 - 1)
    }

    /// Writes a line of the trace, if there is one.
    pub fn trace(&mut self, line: impl FnOnce() -> String) {
        self.record.trace(self.now, line);
    }

    /// Counts something that happened.
    pub fn count(&mut self, which: impl FnOnce(&mut Tally) -> &mut u64) {
        *which(&mut self.record.tally) += 1;
    }

    fn record_leader(&mut self, member: MemberId, term: u64) {
        self.count(|tally| &mut tally.elections);
        self.record.mark(self.now, Mark::Leads { member, term });
        self.trace(|| format!("member {member} leads term {term}"));
    }

    fn record_deposed(&mut self, member: MemberId) {
        self.record.mark(self.now, Mark::Deposed { member });
        self.trace(|| format!("member {member} leads no more"));
    }

    fn record_commit(&mut self, host: usize, txn: &Txn, response: &TxnResponse) {
        let Some(kind) = self.names.kind(host, txn) else { return };
        if response.succeeded {
            let counter: fn(&mut Tally) -> &mut u64 = match kind {
                TxnKind::Renew => |tally| &mut tally.renewals,
                TxnKind::Open => |tally| &mut tally.sessions_opened,
                TxnKind::Close => |tally| &mut tally.sessions_closed,
                TxnKind::Expire => |tally| &mut tally.sessions_expired,
                TxnKind::Claim => |tally| &mut tally.claims,
                TxnKind::HandOver => |tally| &mut tally.handovers,
                TxnKind::Publish => |tally| &mut tally.publications,
            };
            self.count(counter);
        } else {
            self.count(|tally| &mut tally.compares_failed);
        }
        let (revision, succeeded) = (response.header.revision, response.succeeded);
        self.trace(|| {
            let ops: Vec<String> = txn.success.iter().map(brief).collect();
            format!(
                "etcd: {kind:?} of host {host}, revision {revision}, succeeded {succeeded}: {}",
                ops.join(", ")
            )
        });
    }

    fn dispatch(&mut self, event: Event) {
        if let Some((member, epoch)) = of_member(&event) {
            let target = &mut self.members[member];
            if target.epoch != epoch || !target.up {
                return;
            }
            if target.paused {
                target.deferred.push(event);
                return;
            }
        }
        match event {
            Event::Raft { from, to, message, .. } => self.raft_receive(from, to, *message),
            Event::Election { member, .. } => self.raft_election_timer(member),
            Event::Heartbeat { member, term, .. } => self.raft_heartbeat(member, term),
            Event::Disk { member, len, .. } => self.raft_durable(member, len),
            Event::Leaderless { member, since, .. } => self.watches_leaderless(member, since),
            Event::Request { request } => self.request_arrives(request),
            Event::Refused { request } => self.client_refused(request),
            Event::Answer { slot, reply } => {
                self.slots.complete(slot, *reply);
            }
            Event::GiveUp { slot, host, endpoint } => self.client_gives_up(slot, host, endpoint),
            Event::Status { slot, member } => self.status_asked(slot, member),
            Event::WatchArrives { watch } => {
                if let Some(waker) = self.watches[watch.0 as usize].waker.take() {
                    waker.wake();
                }
            }
            Event::WatchOpens { watch } => self.watch_opens_late(watch),
            Event::WatchProbe { watch } => self.watch_probe(watch),
            Event::Wake { slot } => {
                self.slots.complete(slot, slots::Reply::Now);
            }
            Event::AdapterSends { host, incarnation } => self.adapter_sends(host, incarnation),
            Event::KernelActs { host, boot, call } => self.kernel_acts(host, boot, call),
            Event::AdapterHears { host, incarnation, call } => {
                self.adapter_hears(host, incarnation, call);
            }
            Event::GateCloses { host } => self.kernel_timer(host, true),
            Event::LifetimesEnd { host } => self.kernel_timer(host, false),
            Event::Start { host } => self.start_daemon(host),
            Event::Intend { wish } => self.submit_intent(*wish),
            Event::Step { index } => self.step_begins(index),
            Event::Flap { index } => self.flap(index),
            Event::StepEnds { index } => self.step_ends(index),
            Event::Heal => self.heal(),
            Event::StopAll => {
                self.checker.stop_watching_gaps(self.now);
                self.settled = crate::judge::settled(self);
                self.stopping = true;
                for host in 0..self.hosts.len() {
                    self.stop_daemon(host);
                }
            }
            Event::End => self.over = true,
        }
    }

    fn request_arrives(&mut self, request: RequestId) {
        let member = self.requests[request.0 as usize].member;
        let site = self.members[member].site;
        if self.members[member].up && self.members[member].paused {
            self.members[member].deferred.push(Event::Request { request });
        } else if self.members[member].up || self.site_is_up(site) {
            self.etcd_request(request);
        }
    }
}

/// The member to which something happens, with its life.
fn of_member(event: &Event) -> Option<(MemberId, u32)> {
    match *event {
        Event::Raft { to, epoch, .. } => Some((to, epoch)),
        Event::Election { member, epoch }
        | Event::Heartbeat { member, epoch, .. }
        | Event::Disk { member, epoch, .. }
        | Event::Leaderless { member, epoch, .. } => Some((member, epoch)),
        _ => None,
    }
}

fn brief(op: &turnip_core::Op) -> String {
    match op {
        turnip_core::Op::Put { key, value } => {
            format!("{key} = {}", String::from_utf8_lossy(value))
        }
        turnip_core::Op::Delete { key } => format!("{key} deleted"),
        turnip_core::Op::Get { key } => format!("{key}?"),
    }
}
