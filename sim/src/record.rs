//! What is written down of a run.

use ipnet::IpNet;
use turnip_core::Hook;

use crate::check::history::Historian;
use crate::check::hooks::HookWatch;
use crate::plan::AddressId;
use crate::plan::config::HostConfig;
use crate::script::Happening;
use crate::time::{S, True};

/// A line in a run's timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mark {
    /// A member won an election.
    Leads {
        /// Which.
        member: usize,
        /// In which term.
        term: u64,
    },
    /// A member learnt that it leads no more.
    Deposed {
        /// Which.
        member: usize,
    },
}

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// How often things happened: a run in which nothing does proves nothing.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Tally {
            /// Adds another run's.
            pub fn add(&mut self, other: &Tally) {
                $(self.$name += other.$name;)+
            }

            /// Every count with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }
        }
    };
}

tally! {
    /// Raft elections won.
    elections,
    /// Renewals committed.
    renewals,
    /// Sessions opened.
    sessions_opened,
    /// Sessions closed by their nodes.
    sessions_closed,
    /// Sessions expired by other nodes.
    sessions_expired,
    /// Transactions that claimed VIPs.
    claims,
    /// Transactions that handed VIPs over, or gave them free.
    handovers,
    /// Transitions of VIPs that were told.
    transitions_told,
    /// Publications of what a node can take.
    publications,
    /// Transactions whose compares did not hold.
    compares_failed,
    /// Requests not answered in time.
    timeouts,
    /// Transactions carried out after their sender had given up.
    landed_late,
    /// Transactions that had a mishap on purpose.
    mishaps,
    /// Checks that fell.
    checks_fell,
    /// Watches opened.
    watches,
    /// Watches that broke.
    watches_broken,
    /// Times that a kernel ended lifetimes of addresses by itself.
    lifetimes_ended,
    /// Times that a fence's gate closed while addresses were there.
    gates_closed,
    /// Datagrams that hosts took from each other.
    datagrams,
    /// Datagrams that were lost.
    datagrams_lost,
    /// Datagrams that were not taken, for want of the right key.
    datagrams_unauthentic,
    /// Times that a host began to hold by the others' consent alone.
    held_by_consent,
    /// Times that a daemon took etcd for another store than before.
    stores_changed,
    /// Announcements.
    announcements,
    /// Hooks run.
    hooks,
    /// Daemons started.
    starts,
    /// Daemons that refused to run, or to go on.
    refusals,
}

/// A daemon refused to run, or to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// When.
    pub at: True,
    /// On which host.
    pub host: usize,
    /// The host whose name its node had.
    pub name: usize,
    /// Why.
    pub why: String,
}

/// An address of turnip's stood before the host's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misplaced {
    /// On which host.
    pub host: usize,
    /// Which.
    pub address: IpNet,
    /// From, in ns.
    pub from: True,
    /// To, in ns.
    pub to: True,
}

/// A hook has run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookRan {
    /// On which host.
    pub host: usize,
    /// Of the VIP with these addresses.
    pub addresses: Vec<AddressId>,
    /// Which.
    pub hook: Hook,
    /// From, in ns.
    pub from: True,
    /// To, in ns.
    pub to: True,
    /// Whether it ended well.
    pub well: bool,
}

/// A key that a VIP follows was written, or deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Naming {
    /// When.
    pub at: True,
    /// Which VIP.
    pub vip: usize,
    /// Whom it names.
    pub host: Option<usize>,
}

/// A daemon was started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configured {
    /// When.
    pub at: True,
    /// On which host.
    pub host: usize,
    /// With what configuration.
    pub config: HostConfig,
}

/// Everything written down of one run.
#[derive(Debug)]
pub struct Record {
    tracing: bool,
    /// The lines of the trace.
    pub lines: Vec<String>,
    /// For the timeline.
    pub marks: Vec<(True, Mark)>,
    /// Counts.
    pub tally: Tally,
    /// Daemons that refused to run, or to go on.
    pub refusals: Vec<Refusal>,
    /// Hosts whose daemons took etcd for another store, with why.
    pub stores_changed: Vec<(usize, String)>,
    /// With what daemons were started.
    pub configs: Vec<Configured>,
    /// What stood before the hosts' own addresses.
    pub misplaced: Vec<Misplaced>,
    /// What was told of the past, held against what happened.
    pub history: Historian,
    /// What hooks were run.
    pub hooks: HookWatch,
    /// When they ran.
    pub hooks_ran: Vec<HookRan>,
    /// Whom the keys named that VIPs follow.
    pub named: Vec<Naming>,
    /// Turns of the daemons' loops.
    pub turns: u64,
    /// When a scenario from a file began, and whether all VIPs were held then.
    pub began: Option<(True, bool)>,
    /// What of it happened, to whom.
    pub happened: Vec<Happening>,
}

impl Record {
    /// An empty record.
    pub fn new(tracing: bool) -> Self {
        Record {
            tracing,
            lines: Vec::new(),
            marks: Vec::new(),
            tally: Tally::default(),
            refusals: Vec::new(),
            stores_changed: Vec::new(),
            configs: Vec::new(),
            misplaced: Vec::new(),
            history: Historian::default(),
            hooks: HookWatch::default(),
            hooks_ran: Vec::new(),
            named: Vec::new(),
            turns: 0,
            began: None,
            happened: Vec::new(),
        }
    }

    /// Whether lines are kept.
    pub fn is_tracing(&self) -> bool {
        self.tracing
    }

    /// Keeps a line, if lines are kept.
    pub fn trace(&mut self, now: True, line: impl FnOnce() -> String) {
        if self.tracing {
            self.lines.push(format!("{:5}.{:09} {}", now / S, now % S, line()));
        }
    }

    /// Keeps a mark.
    pub fn mark(&mut self, now: True, mark: Mark) {
        self.marks.push((now, mark));
    }
}
