//! What a daemon costs while nothing happens.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use turnip_netns_tests::cluster::Cluster;

use crate::trial::Subject;

const WATCHED: Duration = Duration::from_secs(20);

/// The cost of one daemon, that of the host with the address.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Rest {
    /// What was measured.
    pub subject: Subject,
    /// Resident memory, its children's included, in KiB.
    pub resident_kib: u64,
    /// Of one core.
    pub cpu_percent: f64,
    /// etcd's revisions per second, of the whole cluster.
    pub writes_per_second: f64,
}

/// Watches a cluster with one VIP at rest.
pub fn run(subject: Subject) -> Result<Rest> {
    let mut cluster = Cluster::start(subject.plan())?;
    let owner = cluster.wait_for_owner()?;
    sleep(Duration::from_secs(5));
    let revision = |cluster: &Cluster| cluster.members.first().map_or(Ok(0), |m| m.revision());
    let (began, first) = (Instant::now(), revision(&cluster)?);
    let cpu = cluster.daemon(owner)?.cpu_time()?;
    sleep(WATCHED);
    let cpu = cluster.daemon(owner)?.cpu_time()?.saturating_sub(cpu);
    let (elapsed, last) = (began.elapsed().as_secs_f64(), revision(&cluster)?);
    Ok(Rest {
        subject,
        resident_kib: cluster.daemon(owner)?.resident_kib()?,
        cpu_percent: cpu.as_secs_f64() / elapsed * 100.0,
        writes_per_second: (last - first) as f64 / elapsed,
    })
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at rest: {} KiB resident, {:.2} % of a core, {:.1} writes a second into etcd",
            self.subject, self.resident_kib, self.cpu_percent, self.writes_per_second
        )
    }
}
