//! The world in which hosts run: one queue of events in true time, and everything they change.
//!
//! The daemons' futures run under madsim, which chooses in what order; all else - network, etcd,
//! kernels, clocks - is plain state here, changed by one event after another. Whatever a daemon
//! waits for is a [slot](slots) that an event ends.
//!
//! The world is made of parts that own their state and do not see each other's: [`Etcd`], the
//! hosts' [`Clients`] of it, the [`Hosts`], the [`Operator`]. What all of them work with is the
//! [`Env`]: the time and the agenda, chance, the network, the waits, the checker and the record.
//! What concerns two parts at once is done here: events are handed to the part to which they
//! happen, [`verbs`] does to members and hosts what takes both, [`faults`] says when.

mod agenda;
pub mod checks;
mod clients;
#[cfg(test)]
mod contract;
pub mod control;
pub mod env;
pub mod etcd;
pub mod event;
mod faults;
pub mod hosts;
pub mod ids;
pub mod kernel;
pub mod layout;
mod links;
mod mishaps;
pub mod names;
pub mod neighbours;
pub mod net;
mod operator;
mod played;
mod pump;
pub mod seams;
pub mod slots;
#[cfg(test)]
mod tests;
mod verbs;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use madsim::time::TimeHandle;
use turnip_core::{Instant, KernelOp, Txn};

use crate::plan::Plan;
use crate::time::True;

use clients::Clients;
use control::Control;
use env::Env;
use etcd::Etcd;
use event::{Event, HostEvent, RunEvent};
use faults::Faults;
use hosts::Hosts;
use ids::{HostId, WatchId};
use mishaps::Mishaps;
use operator::Operator;
use slots::SlotId;

pub use pump::Pump;

/// The world, shared by all that happens in it.
pub struct World {
    inner: RefCell<Inner>,
    time: TimeHandle,
}

/// The world's state.
pub struct Inner {
    /// What every part works with.
    pub env: Env,
    /// The hosts.
    pub hosts: Hosts,
    /// etcd.
    pub etcd: Etcd,
    clients: Clients,
    operator: Operator,
    faults: Faults,
    mishaps: Mishaps,
    controls: Vec<Control>,
    /// The daemons are asked to stop for good.
    stopping: bool,
    /// The run is over.
    over: bool,
}

impl World {
    /// A world at its beginning: etcd's members run, no daemon does.
    pub fn new(plan: Rc<Plan>, tracing: bool, time: TimeHandle) -> Rc<Self> {
        let params = &plan.params;
        let mut env = Env::new(&plan, tracing);
        let hosts = Hosts::new(&env);
        let mut etcd = Etcd::new(params);
        for member in 0..params.members() {
            etcd.start(member, &mut env);
        }
        for (index, step) in plan.steps.iter().enumerate() {
            env.schedule(step.at, Event::Run(RunEvent::Step { index }));
        }
        for host in 0..params.hosts {
            let at = env.rng.within(0..=params.start_spread);
            env.schedule(at, Event::Host { host, event: HostEvent::Start });
        }
        if params.played.is_some() {
            env.schedule(0, Event::Run(RunEvent::Begins));
        } else {
            env.schedule(plan.heal_at, Event::Run(RunEvent::Heal));
            env.schedule(plan.stop_at, Event::Run(RunEvent::StopAll));
            env.schedule(plan.end_at, Event::Run(RunEvent::End));
        }
        let mut inner = Inner {
            env,
            hosts,
            etcd,
            clients: Clients::new(params),
            operator: Operator::default(),
            faults: Faults::new(plan.steps.clone()),
            mishaps: Mishaps::default(),
            controls: Vec::new(),
            stopping: false,
            over: false,
        };
        inner.name_all();
        Rc::new(World { inner: RefCell::new(inner), time })
    }

    /// The state, at the present.
    pub fn inner(&self) -> RefMut<'_, Inner> {
        let mut inner = self.inner.borrow_mut();
        inner.env.agenda.set_now(self.time.elapsed().as_nanos() as u64);
        inner
    }
}

impl Inner {
    /// An event happens. What is returned is to be done next.
    fn dispatch(&mut self, event: Event) -> Vec<Control> {
        let env = &mut self.env;
        match event {
            Event::Member { member, epoch, event } => {
                self.etcd.member_event(member, epoch, event, env);
            }
            Event::Request { request } => {
                let site = self.etcd.site(self.etcd.member_asked(request));
                self.etcd.arrives(request, self.hosts.site_is_up(site), env);
            }
            Event::Reply { request, epoch, response } => {
                self.etcd.replies(request, epoch, *response, env);
            }
            Event::Watch { watch, event } => self.etcd.watch_event(watch, event, env),
            Event::Client(event) => self.clients.event(event, &mut self.etcd, env),
            Event::Host { host, event: HostEvent::Start } => self.start_daemon(host),
            Event::Host { host, event: HostEvent::TriesChecks { incarnation, which } } => {
                self.try_checks(host, incarnation, which);
            }
            Event::Host { host, event } => self.hosts.event(host, event, env),
            Event::Datagram { to, sealed } => self.hosts.datagram_arrives(to, *sealed, env),
            Event::Neighbour(event) => {
                for (at, event) in env.neighbours.event(env.agenda.now(), event) {
                    env.schedule(at, Event::Neighbour(event));
                }
            }
            Event::Wake { slot } => {
                env.slots.complete(slot, slots::Reply::Now);
            }
            Event::Intend { wish } => self.operator.submit(*wish, &mut self.etcd, env),
            Event::Run(event) => self.run_event(event),
        }
        std::mem::take(&mut self.controls)
    }

    fn run_event(&mut self, event: RunEvent) {
        match event {
            RunEvent::Begins => self.look_whether_held(),
            RunEvent::Happens { index } => self.happens(index),
            RunEvent::Step { index } => self.step_begins(index),
            RunEvent::Flap { index } => self.flap(index),
            RunEvent::StepEnds { index } => self.step_ends(index),
            RunEvent::Heal => self.heal(),
            RunEvent::Forget => self.forget_former_names(),
            RunEvent::StopAll => {
                self.env.checker.stop_watching_gaps(self.env.now());
                self.controls.push(Control::Judge);
                self.stopping = true;
                for host in 0..self.hosts.len() {
                    self.stop_daemon(host);
                }
            }
            RunEvent::End => self.over = true,
        }
    }
}

/// What daemons ask of the world.
impl Inner {
    fn commit(&mut self, host: HostId, txn: Txn, timeout: Duration) -> SlotId {
        let give_up_at = self.in_time_of(host, timeout);
        let mishap = self.mishaps.meets(host, &txn, &mut self.env);
        self.clients.commit(host, txn, give_up_at, mishap, &mut self.etcd, &mut self.env)
    }

    fn ask_status(&mut self, host: HostId, timeout: Duration) -> SlotId {
        let give_up_at = self.in_time_of(host, timeout);
        self.clients.ask_status(host, give_up_at, &self.etcd, &mut self.env)
    }

    fn follow(&mut self, host: HostId, prefix: String, elsewhere: bool) -> WatchId {
        self.clients.follow(host, prefix, elsewhere, &mut self.etcd, &mut self.env)
    }

    fn follow_key(&mut self, host: HostId, key: String) -> WatchId {
        self.clients.follow_key(host, key, &mut self.etcd, &mut self.env)
    }

    fn perform(&mut self, host: HostId, op: KernelOp) -> SlotId {
        self.hosts.adapter_takes(host, op, &mut self.env)
    }

    /// When `timeout` is over by a host's clock; never while that stands still.
    fn in_time_of(&self, host: HostId, timeout: Duration) -> Option<True> {
        let local = Instant::from_nanos(self.hosts.local(host, self.env.now())) + timeout;
        self.hosts.clock(host).when(local)
    }

    /// A daemon has ended by itself; the service manager starts it again after so many ns, unless
    /// the plan keeps it down.
    pub fn daemon_ended(&mut self, host: HostId, restart_after: u64) {
        self.hosts.cut_hooks_off(host, &mut self.env);
        self.daemon_left(host, restart_after);
    }

    /// The same of one that leaves all to the next.
    pub fn daemon_left(&mut self, host: HostId, restart_after: u64) {
        self.hosts.end_daemon(host);
        if !self.is_kept_down(host) {
            self.env.after(restart_after, Event::Host { host, event: HostEvent::Start });
        }
    }
}
