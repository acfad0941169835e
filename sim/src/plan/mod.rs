//! A run's plan: the cluster, the weather, and what goes wrong when. The whole of it is data, so
//! that a failing run can be told again with less of it.

pub mod config;
mod daemon;
mod deeds;
mod fault;
mod hooks;
mod played;
pub mod words;

use std::sync::Arc;

use turnip_core::{Absent, Backstop, Initial, LastResort, lease};

use crate::time::{MS, S, True};
use crate::timing::{RaftTiming, Weather};

pub use config::{AddressId, Change, LeaseParams, NameId};
pub use daemon::Daemon;
pub use deeds::{Deeds, steps};
pub use fault::{Fault, Mishap, Step, TxnKind};
pub use hooks::HookParams;
pub use played::{NamedCheck, Path, Played};

/// A cluster and its settings.
#[derive(Clone, Debug)]
pub struct Params {
    /// How many turnip hosts.
    pub hosts: usize,
    /// Where each etcd member runs: on the host of that number, or, behind the last, on a machine of its own.
    pub members_on: Vec<usize>,
    /// How many interfaces each host has for VIPs.
    pub interfaces: usize,
    /// The VIPs, as everybody's configuration has them.
    pub vips: Vec<VipParams>,
    /// `L` in ms.
    pub lease_ms: u64,
    /// `r` in ms; the usual proportion when absent.
    pub renew_ms: Option<u64>,
    /// `g` in ms; the usual proportion when absent.
    pub guard_ms: Option<u64>,
    /// `rho` in parts per million.
    pub drift_ppm: u32,
    /// What silences an address when the daemon cannot; nothing for the original turnip.
    pub backstop: Option<Backstop>,
    /// How each host's clock gains on true time, in parts per million.
    pub rates_ppm: Vec<i64>,
    /// What each host's clock reads at the beginning, in ns.
    pub offsets: Vec<u64>,
    /// Each host's share under `spread`.
    pub weights: Vec<u32>,
    /// The network.
    pub weather: Weather,
    /// etcd.
    pub raft: RaftTiming,
    /// When a client gives up a connection that carries nothing, in ns.
    pub keepalive: u64,
    /// A tick of the kernels' timers, in ns.
    pub tick: u64,
    /// By how many parts per million NTP makes each kernel's timers faster than its host's clock.
    pub slews_ppm: Vec<i64>,
    /// How long after the first the last daemon is started, in ns.
    pub start_spread: u64,
    /// Which hosts speak rule 10.
    pub heartbeats: Vec<bool>,
    /// For how long a session may go on without a write in etcd (rule 10.7), in ms.
    pub without_store_ms: u64,
    /// How often what is held is announced again (rule 8.16), in ms; never when absent.
    pub announce_every_ms: Option<u64>,
    /// Whether VIPs are announced against whoever else claims them (rule 8.18).
    pub defend: bool,
    /// The checks of what stands behind VIPs, one for each; none where nothing is checked.
    pub checks: Option<CheckParams>,
    /// Where hosts have a member, a load balancer stands before it: when it is asked for itself, one after the
    /// other of all answers for a while.
    pub balanced: bool,
    /// How hooks behave; none where VIPs have none.
    pub hooks: Option<HookParams>,
    /// Whose algorithm runs.
    pub daemon: Daemon,
    /// What a scenario file says of it; none of a plan that was drawn, or written by hand.
    pub played: Option<Arc<Played>>,
}

/// How VIPs are checked.
#[derive(Clone, Copy, Debug)]
pub struct CheckParams {
    /// From one attempt to the next, in ms.
    pub interval_ms: u64,
    /// So many that pass make it up.
    pub rise: u32,
    /// So many that fail make it down.
    pub fall: u32,
    /// What it is before the first.
    pub initial: Initial,
    /// What it takes from priorities and shares; else the VIP is not held where it is down.
    pub weight: Option<i32>,
    /// What becomes of a VIP where all are down.
    pub last_resort: LastResort,
}

impl CheckParams {
    /// How long it takes until a check is known to fail, and until it is known to pass again, in ns.
    pub fn known_after(&self) -> (u64, u64) {
        let attempts = |count: u32| (u64::from(count) + 1) * self.interval_ms * MS;
        (attempts(self.fall), attempts(self.rise))
    }
}

/// A VIP.
#[derive(Clone, Debug)]
pub struct VipParams {
    /// How many addresses move as one.
    pub addresses: usize,
    /// Which of a host's interfaces carries the first, and the second.
    pub interfaces: [usize; 2],
    /// Who should own it.
    pub policy: PolicyParams,
}

/// A policy with every host's part in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyParams {
    /// Follows the raft leader.
    Leader,
    /// Weighted rendezvous hashing.
    Spread,
    /// One priority a host.
    Priority {
        /// Of each host.
        priorities: Vec<u32>,
        /// Whether a higher one takes the VIP away.
        preempt: bool,
    },
    /// The host that a key of another program names.
    Follow {
        /// What becomes of the VIP while the key names nobody.
        absent: Absent,
    },
}

/// How often a check falls at most that toggles for a minute: each time it is held down for longer, and at
/// last for longer than what is left.
pub const FALLS_TOGGLING: u32 = 5;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of the weather, and of everything else when the plan was drawn.
    pub seed: u64,
    /// The cluster.
    pub params: Params,
    /// What happens.
    pub steps: Vec<Step>,
    /// How long everything is watched after it should be in order again, in ns.
    pub quiet: u64,
    /// When everything heals, in ns.
    pub heal_at: True,
    /// When all daemons are stopped in an orderly way, in ns.
    pub stop_at: True,
    /// The end, in ns.
    pub end_at: True,
}

impl Plan {
    /// A quiet run of a plain cluster: three hosts with a member on each, two VIPs, the default
    /// lease. Scenarios begin with it.
    pub fn quiet() -> Self {
        let mut plan = Plan {
            seed: 1,
            params: Params::plain(3, 3, 2),
            steps: Vec::new(),
            quiet: 5 * S,
            heal_at: 0,
            stop_at: 0,
            end_at: 0,
        };
        plan.lasting(30 * S);
        plan
    }

    /// Sets the length of the phase in which things go wrong; healing and stopping follow.
    pub fn lasting(&mut self, duration: u64) {
        self.heal_at = duration;
        self.stop_at = duration + self.convergence() + self.quiet;
        self.end_at = self.stop_at + 4 * self.lease_ms_max() * MS + 10 * S + self.hook_time();
    }

    /// The longest that everything may take to be in order again after the last fault: an
    /// election, what is left of connections, a new session, an expiry, a settling delay; daemons
    /// that are started with another configuration, one after the other; and what the kernel
    /// refused, which is tried again within a minute.
    pub fn convergence(&self) -> u64 {
        let Params { raft, keepalive, .. } = &self.params;
        let has = |kind: fn(&Fault) -> bool| self.steps.iter().any(|step| kind(&step.fault));
        let restarts = has(|fault| matches!(fault, Fault::Reconfigure { .. }));
        let fails = self.params.hooks.as_ref().is_some_and(HookParams::may_fail);
        let refusals = fails || has(|fault| fault.refused_by().is_some());
        2 * raft.election * 3
            + keepalive
            + 4 * self.lease_ms_max() * MS
            + 10 * S
            + u64::from(restarts) * (5 * S + 2 * self.lease_ms_max() * MS)
            + u64::from(refusals) * 61 * S
            + self.hold_down()
            + self.params.checks.map_or(0, |checks| checks.known_after().1)
            + self.hook_time()
            + u64::from(self.speaks_somewhere() && self.mistakes_names())
                * (self.forgets_after() + 3 * self.lease_ms_max() * MS)
    }

    /// For how long at most what comes and goes is not trusted when it is back, in ns (rules 7.7 and
    /// 11.3): checks, and interfaces.
    pub fn hold_down(&self) -> u64 {
        let hosts = 0..self.params.hosts;
        let of_host = |host: usize| {
            let vips = (0..self.params.vips.len()).map(|vip| self.falls_of_check(host, vip));
            let links = (0..self.params.interfaces).map(|link| self.falls_of_link(host, link));
            vips.chain(links).max().unwrap_or_default()
        };
        let falls = hosts.map(of_host).max().unwrap_or_default();
        lease::hold_down(falls).as_nanos() as u64 * 11 / 10
    }

    fn falls_of_check(&self, host: usize, vip: usize) -> u32 {
        let falls = |step: &Step| match &step.fault {
            Fault::FailCheck { hosts, vip: of, every } if *of == vip && hosts.contains(&host) => {
                if every.is_some() {
                    FALLS_TOGGLING
                } else {
                    1
                }
            }
            _ => 0,
        };
        self.steps.iter().map(falls).sum()
    }

    fn falls_of_link(&self, host: usize, link: usize) -> u32 {
        let falls = |step: &&Step| match step.fault {
            Fault::LinkDown { host: of, interface } | Fault::LinkGone { host: of, interface } => {
                of == host && interface == link
            }
            _ => false,
        };
        self.steps.iter().filter(falls).count() as u32
    }

    /// How much longer it may take until a VIP is where it belongs, because of hooks: on each host that has it on
    /// its way, those of a release and of an assumption, each behind another one that runs.
    pub fn hook_time(&self) -> u64 {
        let longest = self.params.hooks.as_ref().map_or(0, HookParams::longest);
        4 * longest * self.params.hosts as u64
    }

    /// How long after the healing an operator gives up sessions under a name that was a mistake: then all
    /// daemons have the right one.
    pub fn forgets_after(&self) -> u64 {
        3 * self.lease_ms_max() * MS + 5 * S
    }

    /// Whether a host goes by another one's name at some time.
    fn mistakes_names(&self) -> bool {
        let is_mistake = |step: &Step| {
            matches!(step.fault, Fault::Reconfigure { change: Change::NameOf { .. }, .. })
        };
        self.steps.iter().any(is_mistake)
    }

    /// The longest lease of any host, in ms.
    pub fn lease_ms_max(&self) -> u64 {
        self.leases().map(|lease| lease.lease_ms).max().unwrap_or_default()
    }

    /// Every lease that a host may have.
    pub fn leases(&self) -> impl Iterator<Item = LeaseParams> + '_ {
        let changed = self.steps.iter().filter_map(|step| match &step.fault {
            Fault::Reconfigure { change: Change::Lease(lease), .. } => Some(*lease),
            _ => None,
        });
        changed.chain([self.params.lease()])
    }

    /// Whether a host speaks rule 10 at some time.
    pub fn speaks_somewhere(&self) -> bool {
        let begins = |step: &Step| match step.fault {
            Fault::Reconfigure { change: Change::Heartbeats { speaks }, .. } => speaks,
            _ => false,
        };
        self.params.heartbeats.contains(&true) || self.steps.iter().any(begins)
    }

    /// Whether all hosts speak rule 10 all the time, in one cluster, each by its own name and with the same
    /// lease: then all hear each other unless something hinders them.
    pub fn all_hear(&self) -> bool {
        let differs = |step: &Step| match &step.fault {
            Fault::Reconfigure { change, .. } => matches!(
                change,
                Change::Heartbeats { .. }
                    | Change::Lease(_)
                    | Change::NameOf { .. }
                    | Change::Cluster { .. }
            ),
            _ => false,
        };
        !self.params.heartbeats.contains(&false) && !self.steps.iter().any(differs)
    }

    /// The plan with only some of its steps.
    pub fn with_steps(&self, kept: &[usize]) -> Plan {
        let steps = kept.iter().filter_map(|&index| self.steps.get(index).cloned());
        Plan { steps: steps.collect(), ..self.clone() }
    }

    /// Adds a fault that begins at `at_ms` and lasts `for_ms`.
    pub fn fault(&mut self, at_ms: u64, for_ms: u64, fault: Fault) -> &mut Self {
        self.steps.push(Step { at: at_ms * MS, lasts: Some(for_ms * MS), fault });
        self
    }

    /// Adds a change of a host's configuration that stays until everything heals.
    pub fn reconfigure(&mut self, at_ms: u64, host: usize, change: Change) -> &mut Self {
        let fault = Fault::Reconfigure { host, change };
        self.steps.push(Step { at: at_ms * MS, lasts: None, fault });
        self
    }
}

impl Params {
    /// Hosts with a member on each as far as they go, VIPs spread, clocks that agree.
    pub fn plain(hosts: usize, members: usize, vips: usize) -> Self {
        Params {
            hosts,
            members_on: (0..members).collect(),
            interfaces: 1,
            vips: vec![
                VipParams { addresses: 1, interfaces: [0; 2], policy: PolicyParams::Spread };
                vips
            ],
            lease_ms: 3_000,
            renew_ms: None,
            guard_ms: None,
            drift_ppm: 10_000,
            backstop: Some(Backstop::Fence),
            rates_ppm: vec![0; hosts],
            offsets: (0..hosts as u64).map(|host| (host + 1) * 1_000 * S).collect(),
            weights: vec![100; hosts],
            weather: Weather { delay_min: 100_000, delay_max: 400_000, tail_permille: 0, tail: 0 },
            raft: RaftTiming { heartbeat: 100 * MS, election: S, pre_vote: true, disk_max: MS },
            keepalive: 2 * S,
            tick: 4 * MS,
            slews_ppm: vec![0; hosts],
            start_spread: 0,
            heartbeats: vec![false; hosts],
            without_store_ms: lease::WITHOUT_STORE.as_millis() as u64,
            announce_every_ms: None,
            defend: false,
            checks: None,
            balanced: false,
            hooks: None,
            daemon: Daemon::Turnip(None),
            played: None,
        }
    }

    /// The host that the key names which a VIP follows, unless a fault has it name another; in a scenario from a file
    /// the first.
    pub fn usually_named(&self, vip: usize) -> usize {
        if self.played.is_some() { 0 } else { vip % self.hosts }
    }

    /// Whether a VIP follows a key of another program.
    pub fn follows(&self, vip: usize) -> bool {
        matches!(self.vips[vip].policy, PolicyParams::Follow { .. })
    }

    /// Whether any does.
    pub fn any_follows(&self) -> bool {
        (0..self.vips.len()).any(|vip| self.follows(vip))
    }

    /// How many etcd members there are.
    pub fn members(&self) -> usize {
        self.members_on.len()
    }

    /// Puts each member on a machine of its own.
    pub fn members_apart(&mut self) {
        let hosts = self.hosts;
        self.members_on.iter_mut().enumerate().for_each(|(member, on)| *on = hosts + member);
    }

    /// How many sites the network has.
    pub fn sites(&self) -> usize {
        self.members_on.iter().map(|on| on + 1).max().unwrap_or_default().max(self.hosts)
    }

    /// The member that runs on a host, or on another machine.
    pub fn member_on(&self, site: usize) -> Option<usize> {
        self.members_on.iter().position(|on| *on == site)
    }

    /// Where a member runs.
    pub fn site_of(&self, member: usize) -> usize {
        self.members_on[member]
    }
}
