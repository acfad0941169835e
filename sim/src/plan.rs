//! A run's plan: the cluster, the weather, and what goes wrong when. The whole of it is data, so
//! that a failing run can be told again with less of it.

use std::fmt;

use turnip_core::{Backstop, Mutant};

use crate::time::{MS, S, True};
use crate::timing::{RaftTiming, Weather};

/// A cluster and its settings.
#[derive(Clone, Debug)]
pub struct Params {
    /// How many turnip hosts.
    pub hosts: usize,
    /// How many etcd members.
    pub members: usize,
    /// The members run on the first hosts, not on machines of their own.
    pub together: bool,
    /// The VIPs.
    pub vips: Vec<VipParams>,
    /// `L` in ms.
    pub lease_ms: u64,
    /// `r` in ms; the design's proportion when absent.
    pub renew_ms: Option<u64>,
    /// `g` in ms; the design's proportion when absent.
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
    /// How much the kernel rounds the fence's timeout down at most, in ns.
    pub gate_early_max: u64,
    /// How long after the first the last daemon is started, in ns.
    pub start_spread: u64,
    /// Whose algorithm runs.
    pub daemon: Daemon,
}

/// Whose algorithm the hosts run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Daemon {
    /// turnip's, with perhaps one rule broken.
    Turnip(Option<Mutant>),
    /// turnip's, with an adapter that does not look at deadlines (interleaving 11).
    HeedlessAdapter,
    /// The original turnip's.
    Naive,
}

/// A VIP.
#[derive(Clone, Debug)]
pub struct VipParams {
    /// How many addresses move as one.
    pub addresses: usize,
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
}

/// What a client's transaction is for, as far as a network that is out to get it can tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TxnKind {
    /// Renews a session.
    Renew,
    /// Opens one.
    Open,
    /// Deletes one's own.
    Close,
    /// Deletes another's.
    Expire,
    /// Names its sender as owner.
    Claim,
    /// Names another as owner, or nobody.
    HandOver,
    /// Says what its sender can take.
    Publish,
}

/// What befalls a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// It never arrives.
    LoseRequest,
    /// It is carried out, and its sender never learns.
    LoseAnswer,
    /// It arrives this much later, in ns.
    DelayRequest(u64),
    /// Its answer does.
    DelayAnswer(u64),
}

/// Something that goes wrong, or that an operator does. Most end by themselves after a while.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing gets from one site to another.
    Cut { from: usize, to: usize },
    /// A site hears nobody and is heard by nobody.
    Isolate { site: usize },
    /// A host's clients reach no member; the members reach each other.
    CutStore { host: usize },
    /// A host's clients reach one member no more.
    CutEndpoint { host: usize, member: usize },
    /// A host is heard by the members, and does not hear them: answers and watches are cut.
    DeafTo { host: usize },
    /// Members on two sides do not hear each other; clients reach all.
    SplitMembers { side: Vec<usize> },
    /// Everything between two sides is cut.
    Split { side: Vec<usize> },
    /// Messages take longer by so many ns.
    Slow { from: usize, to: usize, by: u64 },
    /// Segments are lost, in a thousand.
    Lossy { from: usize, to: usize, permille: u64 },
    /// A member's process ends.
    CrashMember { member: usize },
    /// A member's process is stopped by a signal.
    PauseMember { member: usize },
    /// A member's disk takes longer by so many ns.
    SlowDisk { member: usize, by: u64 },
    /// Whoever leads gives leadership to the member after it.
    MoveLeader,
    /// Whoever leads crashes and comes back.
    CrashLeader,
    /// Leadership moves every `every` ns.
    FlapLeader { every: u64 },
    /// etcd forgets its history.
    Compact,
    /// A daemon is killed, and started again.
    Kill { host: usize },
    /// A daemon is stopped by a signal.
    Freeze { host: usize },
    /// A daemon is stopped in an orderly way, and started again.
    Restart { host: usize },
    /// A host is switched off, and on again.
    PowerOff { host: usize },
    /// A whole host is paused, its clock too, as a virtual machine is.
    PauseHost { host: usize },
    /// A host's clock changes its rate.
    Drift { host: usize, ppm: i64 },
    /// What a host hears on its watch is late by so many ns.
    WatchLag { host: usize, by: u64 },
    /// Netlink takes longer by up to so many ns.
    SlowNetlink { host: usize, by: u64 },
    /// The kernel reads a message of netlink so many ns after it was sent.
    StuckNetlink { host: usize, by: u64 },
    /// Netlink fails, in a thousand.
    FailingNetlink { host: usize, permille: u64 },
    /// Somebody takes an address away.
    StealAddress { host: usize, vip: usize },
    /// The interface goes down.
    LinkDown { host: usize },
    /// The interface is gone.
    LinkGone { host: usize },
    /// An operator drains a host.
    Drain { host: usize },
    /// An operator pins a VIP to a host.
    Pin { vip: usize, host: usize },
    /// Of a host's transactions of one kind, the next `count` after `skip` have a mishap.
    Meddle { host: usize, kind: TxnKind, skip: u32, count: u32, mishap: Mishap },
}

/// A fault at its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When it begins, in ns.
    pub at: True,
    /// How long it lasts, in ns; until everything heals when absent.
    pub lasts: Option<u64>,
    /// What.
    pub fault: Fault,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of the weather, and of everything else when the plan was drawn.
    pub seed: u64,
    /// The cluster.
    pub params: Params,
    /// What happens.
    pub steps: Vec<Step>,
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
        self.stop_at = duration + self.params.convergence() + 5 * S;
        self.end_at = self.stop_at + 4 * self.params.lease_ms * MS + 10 * S;
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
}

impl Daemon {
    /// All that break a rule of ours.
    pub fn mutants() -> Vec<Daemon> {
        let mut all: Vec<_> =
            Mutant::ALL.iter().map(|&mutant| Daemon::Turnip(Some(mutant))).collect();
        all.push(Daemon::HeedlessAdapter);
        all
    }

    /// Its name on the command line.
    pub fn name(&self) -> String {
        match self {
            Daemon::Turnip(None) => "turnip".into(),
            Daemon::Turnip(Some(mutant)) => format!("{mutant:?}"),
            Daemon::HeedlessAdapter => "HeedlessAdapter".into(),
            Daemon::Naive => "naive".into(),
        }
    }
}

impl std::str::FromStr for Daemon {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::mutants();
        all.extend([Daemon::Turnip(None), Daemon::Naive]);
        let names: Vec<String> = all.iter().map(Daemon::name).collect();
        all.into_iter()
            .find(|daemon| daemon.name() == text)
            .ok_or_else(|| format!("{text:?} is no algorithm: {} are", names.join(", ")))
    }
}

impl Params {
    /// Hosts with a member on each as far as they go, VIPs spread, clocks that agree.
    pub fn plain(hosts: usize, members: usize, vips: usize) -> Self {
        Params {
            hosts,
            members,
            together: true,
            vips: vec![VipParams { addresses: 1, policy: PolicyParams::Spread }; vips],
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
            gate_early_max: 4 * MS,
            start_spread: 0,
            daemon: Daemon::Turnip(None),
        }
    }

    /// The longest that everything may take to be in order again after the last fault: an
    /// election, what is left of connections, a new session, an expiry, a settling delay.
    pub fn convergence(&self) -> u64 {
        2 * self.raft.election * 3 + self.keepalive + 4 * self.lease_ms * MS + 10 * S
    }

    /// How many sites the network has.
    pub fn sites(&self) -> usize {
        if self.together { self.hosts.max(self.members) } else { self.hosts + self.members }
    }

    /// The member that runs on a host.
    pub fn member_on(&self, host: usize) -> Option<usize> {
        (self.together && host < self.members).then_some(host)
    }

    /// Where a member runs.
    pub fn site_of(&self, member: usize) -> usize {
        if self.together { member } else { self.hosts + member }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9.3} s", self.at as f64 / S as f64)?;
        match self.lasts {
            Some(lasts) => write!(f, " for {:7.3} s", lasts as f64 / S as f64)?,
            None => write!(f, " until healed")?,
        }
        write!(f, ": {:?}", self.fault)
    }
}
