//! What a daemon costs while nothing happens.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::process::Process;

use crate::scale;
use crate::trial::Subject;

const WATCHED: Duration = Duration::from_secs(20);

/// The cost on the host that has the address.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Rest {
    /// What was measured.
    pub subject: Subject,
    /// How many VIPs the host had.
    pub vips: usize,
    /// None when it did not come to rest.
    pub figures: Option<Costs>,
}

/// What was watched for 20 s.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub struct Costs {
    /// Of the daemon.
    pub daemon: Cost,
    /// Of etcd's member beside it, which serves all three daemons and nobody else.
    pub etcd: Option<Cost>,
    /// etcd's revisions per second, of the whole cluster.
    pub writes_per_second: f64,
}

/// What a process costs, its children included.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub struct Cost {
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// Of one core.
    pub cpu_percent: f64,
}

/// Watches a cluster at rest, all VIPs on its first host.
pub fn run(subject: Subject, vips: usize) -> Result<Rest> {
    let owner = 0;
    let mut cluster = Cluster::lay_out(scale::plan(subject, vips))?;
    for host in 0..cluster.size() {
        cluster.start_daemon(host)?;
    }
    if !scale::until_at_rest(&cluster)? {
        return Ok(Rest { subject, vips, figures: None });
    }
    sleep(Duration::from_secs(2));
    let began = Instant::now();
    let (before, daemon_before, etcd_before) = look(&mut cluster, owner)?;
    sleep(WATCHED);
    let (after, daemon_after, etcd_after) = look(&mut cluster, owner)?;
    let elapsed = began.elapsed();
    let costs = Costs {
        daemon: daemon_after.since(daemon_before, elapsed),
        etcd: etcd_after.zip(etcd_before).map(|(after, before)| after.since(before, elapsed)),
        writes_per_second: (after - before) as f64 / elapsed.as_secs_f64(),
    };
    Ok(Rest { subject, vips, figures: Some(costs) })
}

/// What a process has used so far.
#[derive(Clone, Copy)]
struct Used {
    resident_kib: u64,
    cpu_time: Duration,
}

impl Used {
    fn by(process: &Process) -> Result<Self> {
        Ok(Used { resident_kib: process.resident_kib()?, cpu_time: process.cpu_time()? })
    }

    fn since(self, before: Used, elapsed: Duration) -> Cost {
        let cpu = self.cpu_time.saturating_sub(before.cpu_time);
        Cost {
            resident_kib: self.resident_kib,
            cpu_percent: cpu.as_secs_f64() / elapsed.as_secs_f64() * 100.0,
        }
    }
}

/// etcd's revision, the daemon of this host, and the member beside it.
fn look(cluster: &mut Cluster, host: usize) -> Result<(i64, Used, Option<Used>)> {
    let daemon = Used::by(cluster.daemon(host)?)?;
    let Some(member) = cluster.members.get_mut(host) else { return Ok((0, daemon, None)) };
    Ok((member.revision()?, daemon, Some(Used::by(member.process()?)?)))
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} VIPs at rest: ", self.subject, self.vips)?;
        let Some(Costs { daemon, etcd, writes_per_second }) = self.figures else {
            return write!(f, "did not come to rest");
        };
        write!(f, "{daemon}")?;
        etcd.map_or(Ok(()), |etcd| {
            write!(f, "; etcd {etcd}, {writes_per_second:.1} writes a second")
        })
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.resident_kib as f64 / 1024.0;
        write!(f, "{mib:.1} MiB, {:.2} % of a core", self.cpu_percent)
    }
}
