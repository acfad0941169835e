//! What must not be.

use std::fmt;

use crate::check::{Hosts, Span};
use crate::plan::{config, words};
use crate::record::Misplaced;
use crate::time::{S, True};

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Two hosts answered at once.
    Overlap(Span),
    /// Nobody answered although somebody could, or for longer than a fault explains.
    Gap { span: Span, limit: u64, why: String },
    /// An address moved for no reason, or more often than a fault explains.
    Moved { address: usize, at: True, count: u64, limit: u64, why: String },
    /// After everything healed, a VIP was not on exactly one host, whole.
    NotHeld { vip: usize, hosts: Vec<usize> },
    /// After everything healed, a VIP still moved when all should have been in order.
    NotSettled { vip: usize, after_ns: u64 },
    /// After everything healed, a VIP was not where its policy wants it.
    Misplaced { vip: usize, on: usize, wanted: usize },
    /// An address stood before a host's own for too long.
    MisplacedForLong { one: Misplaced, limit: u64 },
    /// A host had an address for too long after the key that it follows named another.
    HeldUnnamed { address: usize, host: usize, from: True, length: u64, limit: u64 },
    /// A daemon that was asked to stop did not.
    StillRuns { host: usize },
    /// A stopped daemon left something behind.
    LeftBehind { host: usize, what: String },
    /// A stopped daemon left its session in the store.
    SessionLeft { host: usize },
    /// A daemon refused to run, or to go on, without a reason.
    Refused { host: usize, why: String },
    /// A daemon took etcd for another store, and it is the same.
    TakenForAnother { host: usize, why: String },
    /// What is told of the past is not what happened.
    Untrue(String),
    /// Hooks were run as they must not be.
    Hooks(String),
    /// Something panicked.
    Panicked(String),
}

/// Hosts by number.
pub fn numbers(hosts: Hosts) -> Vec<usize> {
    (0..32).filter(|host| hosts >> host & 1 == 1).collect()
}

fn secs(ns: u64) -> f64 {
    ns as f64 / S as f64
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Overlap(span) => write!(
                f,
                "{} was answered on {} at once for {} from {:.9} s",
                config::net(span.address).addr(),
                words::hosts(&numbers(span.hosts)),
                words::time(span.length()),
                secs(span.from)
            ),
            Failure::HeldUnnamed { address, host, from, length, limit } => write!(
                f,
                "{} was on {h} from {:.3} s, for {:.3} s of that without being named; at most {:.3} s are fine",
                config::net(*address).addr(),
                secs(*from),
                secs(*length),
                secs(*limit),
                h = words::host(*host)
            ),
            Failure::Gap { span, limit, why } => write!(
                f,
                "{} was answered by nobody for {:.3} s from {:.3} s; at most {:.3} s are fine: {why}",
                config::net(span.address).addr(),
                secs(span.length()),
                secs(span.from),
                secs(*limit)
            ),
            Failure::Moved { address, at, count, limit, why } => write!(
                f,
                "{} moved {count} times, at {:.3} s for instance; at most {limit} are fine: {why}",
                config::net(*address).addr(),
                secs(*at)
            ),
            Failure::NotHeld { vip, hosts } => {
                write!(
                    f,
                    "after healing {} was on {} instead of exactly one",
                    words::vip(*vip),
                    words::hosts(hosts)
                )
            }
            Failure::NotSettled { vip, after_ns } => {
                write!(
                    f,
                    "{} still moved {:.3} s after everything had healed",
                    words::vip(*vip),
                    secs(*after_ns)
                )
            }
            Failure::Misplaced { vip, on, wanted } => write!(
                f,
                "after healing {} stayed on {}; its policy wants {}",
                words::vip(*vip),
                words::host(*on),
                words::host(*wanted)
            ),
            Failure::MisplacedForLong { one, limit } => write!(
                f,
                "{} stood before {}'s own address for {:.3} s from {:.3} s; at most {:.3} s are fine",
                one.address.addr(),
                words::host(one.host),
                secs(one.to - one.from),
                secs(one.from),
                secs(*limit)
            ),
            Failure::StillRuns { host } => {
                write!(f, "{h}'s daemon did not stop", h = words::host(*host))
            }
            Failure::LeftBehind { host, what } => {
                write!(f, "{h}'s daemon stopped and left behind {what}", h = words::host(*host))
            }
            Failure::SessionLeft { host } => {
                write!(f, "{h}'s daemon stopped and left its session", h = words::host(*host))
            }
            Failure::Refused { host, why } => {
                write!(f, "{h}'s daemon refused: {why}", h = words::host(*host))
            }
            Failure::TakenForAnother { host, why } => {
                write!(f, "{h}'s daemon took etcd for another store: {why}", h = words::host(*host))
            }
            Failure::Untrue(what) => write!(f, "history/ is not true: {what}"),
            Failure::Hooks(what) => f.write_str(what),
            Failure::Panicked(what) => write!(f, "panicked: {what}"),
        }
    }
}
