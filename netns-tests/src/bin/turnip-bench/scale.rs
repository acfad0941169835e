//! Many VIPs on one host that loses its power.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use turnip_netns_tests::address_event::{self, AddressEvent};
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::daemon::{Daemon, Policy, Vip};
use turnip_netns_tests::measure;
use turnip_netns_tests::plan::{Plan, vip};
use turnip_netns_tests::poll::Poll;

use crate::trial::{Subject, in_ms};

/// What happened to the VIPs of one host, once.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Scale {
    /// What was measured.
    pub subject: Subject,
    /// How many VIPs.
    pub vips: usize,
    /// Its number among those of the same, from 0.
    pub run: usize,
    /// How long it was waited for them to settle, in s.
    pub patience_s: u64,
    /// Whether all came to the first host and stayed there, from which they were to move.
    pub began: bool,
    /// From the loss of power to the first of them elsewhere, in ms; none when none came.
    pub first_ms: Option<f64>,
    /// To the last of them elsewhere, from when on each was on one host; none when it did not
    /// come to that.
    pub last_ms: Option<f64>,
    /// How long any two hosts had the same one since then, in ms; none when there was no loss of
    /// power.
    pub overlap_ms: Option<f64>,
}

/// How long so many VIPs are waited for: that they do not settle by then is a result too.
fn patience(vips: usize) -> Duration {
    Duration::from_secs(30 + vips as u64 / 500)
}

/// A cluster of which the first host should have all of so many VIPs.
pub fn plan(subject: Subject, count: usize) -> Plan {
    let mut plan = Plan { vips: (0..count).map(numbered).collect(), ..subject.plan() };
    if let Daemon::Turnip(settings) = &mut plan.daemon {
        settings.policy = Policy::Priority { preempt: true };
    }
    plan
}

/// Puts `count` VIPs on the first host and takes its power; `run` of `runs`.
pub fn run(subject: Subject, count: usize, run: usize, runs: usize) -> Result<Scale> {
    // Not `start`: whether the first VIP stays where it is, is no concern here.
    let mut cluster = Cluster::lay_out(plan(subject, count))?;
    for host in 0..cluster.size() {
        cluster.start_daemon(host)?;
    }
    let mut scale = Scale {
        subject,
        vips: count,
        run,
        patience_s: patience(count).as_secs(),
        began: until_at_rest(&cluster)?,
        first_ms: None,
        last_ms: None,
        overlap_ms: None,
    };
    if !scale.began {
        return Ok(scale);
    }
    sleep(subject.moment(run, runs));
    let from = Instant::now();
    cluster.power_off(0)?;
    let settled = until_held(&cluster, &["h2", "h3"])?;
    sleep(Duration::from_millis(500));
    let after = |at: Instant| in_ms(at.duration_since(from));
    let (mut first, mut last) = (None, None);
    for (_, events) in floating(&cluster)? {
        // The dead host's own refreshes are on their way still.
        let elsewhere = |event: &&AddressEvent| event.present && *event.host != *"h1";
        let mut arrivals = events.iter().filter(|event| event.at > from).filter(elsewhere);
        let Some(arrival) = arrivals.next() else { continue };
        first = Some(first.map_or(arrival.at, |first: Instant| first.min(arrival.at)));
        // One that was taken away again is there from when it came to stay.
        let stays =
            measure::holding_times(&events, Instant::now()).pop().map(|(_, held)| held.from);
        last = last.max(stays);
    }
    scale.first_ms = first.map(after);
    scale.last_ms = last.filter(|_| settled).map(after);
    scale.overlap_ms = Some(in_ms(cluster.since(from)?.overlap));
    Ok(scale)
}

/// Waits until all VIPs are on the first host and have been for a while, and says whether it came to
/// that.
pub fn until_at_rest(cluster: &Cluster) -> Result<bool> {
    const REST: Duration = Duration::from_secs(3);
    let count = cluster.plan().vips.len();
    let began = Instant::now();
    while began.elapsed() < patience(count) {
        if !until_held(cluster, &["h1"])? {
            return Ok(false);
        }
        let since = Instant::now();
        sleep(REST);
        let events = floating(cluster)?;
        let has_left = |event: &AddressEvent| event.at > since && !event.present;
        if !events.iter().flat_map(|(_, events)| events).any(has_left) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits until each VIP is on one of `hosts`, and says whether it came to that.
fn until_held(cluster: &Cluster, hosts: &[&str]) -> Result<bool> {
    let count = cluster.plan().vips.len();
    // Not too often: it looks through all events, which takes processor time from the daemons.
    let poll = Poll::every(Duration::from_millis(100 + count as u64 / 20)).within(patience(count));
    poll.is_so(|| Ok(held(cluster, |host| hosts.contains(&host))? == count))
}

/// A VIP with a number of its own.
pub fn numbered(number: usize) -> Vip {
    vip(&format!("v{number}"), &[&format!("10.78.{}.{}/32", number / 250, number % 250 + 1)])
}

type Events = (std::net::IpAddr, Vec<AddressEvent>);

/// What happened to the address of each VIP so far.
pub fn floating(cluster: &Cluster) -> Result<Vec<Events>> {
    let mut by_address = cluster.address_monitor().events_by_address()?;
    let addresses = cluster.plan().vips.iter().flat_map(|vip| &vip.addresses);
    Ok(addresses
        .map(|net| (net.addr(), by_address.remove(&net.addr()).unwrap_or_default()))
        .collect())
}

/// How many of the addresses are on one host, which is one of `these`.
pub fn held(cluster: &Cluster, these: impl Fn(&str) -> bool) -> Result<usize> {
    let on_one_of_these = |events: &[_]| {
        let holders = address_event::holders(events);
        holders.len() == 1 && holders.iter().all(|holder| these(holder))
    };
    Ok(floating(cluster)?.iter().filter(|(_, events)| on_one_of_these(events)).count())
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { subject, vips, run, patience_s, .. } = self;
        write!(f, "{subject}, {vips} VIPs from a dead host, run {run}: ")?;
        let after = |ms: Option<f64>| match ms {
            Some(ms) => format!("after {ms:.0} ms"),
            None => format!("not within {patience_s} s"),
        };
        if self.began {
            write!(f, "the first {}, the last {}", after(self.first_ms), after(self.last_ms))?;
        } else {
            write!(f, "never at rest on the first host within {patience_s} s")?;
        }
        self.overlap_ms.map_or(Ok(()), |overlap_ms| write!(f, ", overlap {overlap_ms:.3} ms"))
    }
}
