//! Many VIPs on one host that loses its power.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::daemon::{Daemon, Policy, Vip};
use turnip_netns_tests::measure;
use turnip_netns_tests::plan::{Plan, vip};

use crate::trial::Subject;

/// How long it took until all were elsewhere.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Scale {
    /// What was measured.
    pub subject: Subject,
    /// How many VIPs.
    pub vips: usize,
    /// From the loss of power to the first and the last of them elsewhere, in ms.
    pub first_ms: f64,
    /// The last of them.
    pub last_ms: f64,
    /// How long any two hosts had the same one, in ms.
    pub overlap_ms: f64,
}

/// Puts `count` VIPs on the first host and takes its power.
pub fn run(subject: Subject, count: usize) -> Result<Scale> {
    let mut plan = Plan { vips: (0..count).map(numbered).collect(), ..subject.plan() };
    if let Daemon::Turnip(settings) = &mut plan.daemon {
        settings.policy = Policy::Priority { preempt: true };
    }
    let mut cluster = Cluster::start(plan)?;
    cluster.wait("all are on the first host", || Ok(held(&cluster, &["h1"])? == count))?;
    sleep(Duration::from_secs(3));
    let from = Instant::now();
    cluster.power_off(0)?;
    cluster.wait("all are elsewhere", || Ok(held(&cluster, &["h2", "h3"])? == count))?;
    sleep(Duration::from_millis(500));
    let mut arrivals = Vec::new();
    for (_, events) in floating(&cluster)? {
        let arrival = events.iter().find(|event| event.at > from && event.present);
        arrivals.extend(arrival.map(|event| event.at.duration_since(from)));
    }
    let in_ms =
        |duration: Option<&Duration>| duration.map_or(f64::NAN, |d| d.as_secs_f64() * 1000.0);
    Ok(Scale {
        subject,
        vips: count,
        first_ms: in_ms(arrivals.iter().min()),
        last_ms: in_ms(arrivals.iter().max()),
        overlap_ms: cluster.since(from)?.overlap.as_secs_f64() * 1000.0,
    })
}

fn numbered(number: usize) -> Vip {
    vip(&format!("v{number}"), &[&format!("10.78.{}.{}/32", number / 250, number % 250 + 1)])
}

type Events = (std::net::IpAddr, Vec<turnip_netns_tests::eye::AddressEvent>);

fn floating(cluster: &Cluster) -> Result<Vec<Events>> {
    let mut by_address = cluster.eye().events_by_address()?;
    let addresses = cluster.plan().vips.iter().flat_map(|vip| &vip.addresses);
    Ok(addresses
        .map(|net| (net.addr(), by_address.remove(&net.addr()).unwrap_or_default()))
        .collect())
}

/// How many of the addresses are on one host, which is one of these.
fn held(cluster: &Cluster, hosts: &[&str]) -> Result<usize> {
    // Not too often: it looks through all events.
    sleep(Duration::from_millis(100));
    let on_one_of_these = |events: &[_]| {
        let holders = measure::holders(events);
        holders.len() == 1 && holders.iter().all(|holder| hosts.contains(holder))
    };
    Ok(floating(cluster)?.iter().filter(|(_, events)| on_one_of_these(events)).count())
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} VIPs from a dead host: the first after {:.0} ms, the last after {:.0} ms, overlap {:.3} ms",
            self.subject, self.vips, self.first_ms, self.last_ms, self.overlap_ms
        )
    }
}
