//! What many hosts cost that share some VIPs, at rest and while etcd is away.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use turnip_netns_tests::address_event::AddressEvent;
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::etcd::{self, EtcdSettings, Member};
use turnip_netns_tests::measure::{self, Span};
use turnip_netns_tests::plan::{EtcdPlan, Plan, Probed};
use turnip_netns_tests::poll::Poll;

use crate::scale::{self, floating};
use crate::statistics::median;
use crate::trial::in_ms;

/// Whatever the number of hosts: etcd's members are on machines of their own.
const MEMBERS: usize = 3;
const VIPS: usize = 90;

const WATCHED: Duration = Duration::from_secs(20);
const AWAY: Duration = Duration::from_secs(20);
/// What is watched when etcd is back.
const BACK: Duration = Duration::from_secs(10);
/// Daemons that start one after the other move VIPs for a while.
const SETTLED: Poll = Poll::every(Duration::from_millis(500)).within(Duration::from_secs(120));
/// All on one machine, they would keep each other from it if they all started at once.
const BETWEEN_STARTS: Duration = Duration::from_millis(200);
/// Nothing moves any more: several leases.
const REST: Duration = Duration::from_secs(10);

/// Whether hosts hear each other past etcd.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Hearing {
    /// As it comes.
    On,
    /// `listen = "off"`.
    Off,
}

impl Hearing {
    /// Both.
    pub const ALL: [Hearing; 2] = [Hearing::On, Hearing::Off];
}

/// The cost of a cluster.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct ManyHosts {
    /// How many hosts there were.
    pub hosts: usize,
    /// Whether they heard each other.
    pub hearing: Hearing,
    /// How many VIPs they shared.
    pub vips: usize,
    /// What was watched for 20 s while nothing happened.
    pub rest: Use,
    /// All of etcd's members were stopped with SIGSTOP.
    pub still: Absence,
    /// All of etcd's members were killed: who connects is refused at once.
    pub killed: Absence,
}

/// What was used while the cluster was watched.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub struct Use {
    /// Of one core by a daemon, in the median of all of them.
    pub daemon_percent: f64,
    /// In the mean.
    pub daemon_percent_mean: f64,
    /// By the one that used most.
    pub daemon_percent_max: f64,
    /// In the mean of all of them in the second in which they used most together.
    pub daemon_percent_worst_second: f64,
    /// Resident memory of a daemon in the median, in KiB.
    pub resident_kib: f64,
    /// By etcd's leader, which all ask; none while etcd was away.
    pub leader_percent: Option<f64>,
    /// etcd's revisions a second.
    pub writes_per_second: Option<f64>,
    /// Datagrams that a host sent in a second, in the mean of all of them.
    pub datagrams_per_second: f64,
}

/// etcd was away for 20 s.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub struct Absence {
    /// What was used meanwhile.
    pub away: Use,
    /// In the 10 s after.
    pub back: Use,
    /// The longest time in which any VIP had no host, in both, in ms.
    pub absence_ms: f64,
    /// How long any two hosts had the same one, in ms.
    pub overlap_ms: f64,
}

/// Watches so many hosts, at rest and without etcd.
pub fn run(hosts: usize, hearing: Hearing) -> Result<ManyHosts> {
    let etcd = EtcdPlan::Apart(MEMBERS, EtcdSettings::default());
    let vips = (0..VIPS).map(scale::numbered).collect();
    let plan = Plan { hosts, etcd, vips, probed: Probed::Nothing, ..Plan::default() };
    let plan = if hearing == Hearing::On { plan } else { plan.without_heartbeats() };
    let mut cluster = Cluster::lay_out(plan)?;
    cluster.introduce()?;
    // Everybody asks the first member first: the leader serves all.
    cluster.lead_from(0)?;
    for host in 0..hosts {
        cluster.start_daemon(host)?;
        sleep(BETWEEN_STARTS);
    }
    settle(&cluster, hearing)?;
    let rest = watch(&mut cluster, WATCHED, true)?;
    let still = away(&mut cluster, |cluster| cluster.freeze_etcd(), |cluster| cluster.thaw_etcd())?;
    cluster.lead_from(0)?;
    settle(&cluster, hearing)?;
    let kill = |cluster: &mut Cluster| {
        cluster.members.iter_mut().for_each(Member::kill);
        Ok(())
    };
    let killed = away(&mut cluster, kill, |cluster| {
        cluster.members.iter_mut().try_for_each(Member::start)?;
        etcd::wait_for_leader(&cluster.members).map(drop)
    })?;
    cluster.assert_daemons_are_well()?;
    Ok(ManyHosts { hosts, hearing, vips: VIPS, rest, still, killed })
}

/// Waits until every VIP is on one host and nothing moves any more.
fn settle(cluster: &Cluster, hearing: Hearing) -> Result<()> {
    let (mut since, mut held) = (Instant::now(), 0);
    let settled = SETTLED.is_so::<anyhow::Error>(|| {
        let moved = floating(cluster)?.iter().any(|(_, events)| {
            let has_left = |event: &AddressEvent| !event.present && event.at > since;
            events.iter().any(has_left)
        });
        held = scale::held(cluster, |_| true)?;
        if moved || held < VIPS {
            since = Instant::now();
        }
        let is_at_rest = since.elapsed() > REST;
        Ok(is_at_rest && (hearing == Hearing::Off || cluster.sessions_list_all_others()?))
    })?;
    if !settled {
        let (hosts, rest) = (cluster.size(), since.elapsed());
        bail!("{hosts} hosts not at rest: {held} of {VIPS} VIPs held, nothing moved for {rest:?}");
    }
    Ok(())
}

/// Takes etcd away, and brings it back.
fn away(
    cluster: &mut Cluster,
    take: impl FnOnce(&mut Cluster) -> Result<()>,
    bring: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<Absence> {
    let from = Instant::now();
    take(cluster)?;
    let away = watch(cluster, AWAY, false)?;
    bring(cluster)?;
    let back = watch(cluster, BACK, false)?;
    let span = Span { from, to: Instant::now() };
    let (mut absence, mut overlap) = (Duration::ZERO, Duration::ZERO);
    for (_, events) in floating(cluster)? {
        absence = absence.max(measure::longest_absence(&events, span));
        overlap = overlap.max(measure::overlap(&events, span));
    }
    Ok(Absence { away, back, absence_ms: in_ms(absence), overlap_ms: in_ms(overlap) })
}

/// Watches all daemons for so long, and etcd too where it is `with_etcd`.
fn watch(cluster: &mut Cluster, duration: Duration, with_etcd: bool) -> Result<Use> {
    const SECOND: Duration = Duration::from_secs(1);
    let begun = Instant::now();
    let before = Look::at(cluster, with_etcd)?;
    let (mut worst_second, mut last) = (0.0_f64, (begun, before.daemons_total()));
    while begun.elapsed() < duration {
        sleep(SECOND.min(duration.saturating_sub(begun.elapsed())));
        let now = (Instant::now(), daemons(cluster)?.iter().sum::<Duration>());
        let elapsed = now.0.duration_since(last.0);
        // What is left of a second says nothing.
        if elapsed > SECOND / 2 {
            worst_second = worst_second.max(percent(now.1.saturating_sub(last.1), elapsed));
        }
        last = now;
    }
    let after = Look::at(cluster, with_etcd)?;
    let elapsed = begun.elapsed();
    let each = before.daemons.iter().zip(&after.daemons);
    let each = each.map(|(before, after)| percent(after.saturating_sub(*before), elapsed));
    let each = sorted(each);
    let resident = (0..cluster.size()).map(|host| cluster.daemon(host)?.resident_kib());
    let resident = resident.collect::<Result<Vec<_>>>()?.into_iter().map(|kib| kib as f64);
    let per_second = |count: f64| count / elapsed.as_secs_f64();
    let hosts = cluster.size() as f64;
    let etcd = before.etcd.zip(after.etcd);
    Ok(Use {
        daemon_percent: median(&each),
        daemon_percent_mean: each.iter().sum::<f64>() / hosts,
        daemon_percent_max: each.last().copied().unwrap_or_default(),
        daemon_percent_worst_second: worst_second / hosts,
        resident_kib: median(&sorted(resident)),
        leader_percent: etcd
            .map(|((_, before), (_, after))| percent(after.saturating_sub(before), elapsed)),
        writes_per_second: etcd
            .map(|((before, _), (after, _))| per_second((after - before) as f64)),
        datagrams_per_second: per_second((after.datagrams - before.datagrams) as f64) / hosts,
    })
}

/// All that has been used so far.
struct Look {
    daemons: Vec<Duration>,
    datagrams: u64,
    /// The revision, and the leader's processor time.
    etcd: Option<(i64, Duration)>,
}

impl Look {
    fn at(cluster: &mut Cluster, with_etcd: bool) -> Result<Self> {
        let sent = (0..cluster.size()).map(|host| cluster.datagrams_sent(host));
        let datagrams = sent.sum::<Result<u64>>()?;
        let mut etcd = None;
        if with_etcd {
            let leader = etcd::wait_for_leader(&cluster.members)?;
            let member = &cluster.members[leader];
            etcd = Some((member.revision()?, member.process()?.cpu_time()?));
        }
        Ok(Look { daemons: daemons(cluster)?, datagrams, etcd })
    }

    fn daemons_total(&self) -> Duration {
        self.daemons.iter().sum()
    }
}

/// The processor time of each.
fn daemons(cluster: &mut Cluster) -> Result<Vec<Duration>> {
    (0..cluster.size()).map(|host| cluster.daemon(host)?.cpu_time()).collect()
}

fn percent(used: Duration, elapsed: Duration) -> f64 {
    used.as_secs_f64() / elapsed.as_secs_f64() * 100.0
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

impl fmt::Display for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hearing::On => "hear each other",
            Hearing::Off => "do not",
        })
    }
}

impl fmt::Display for ManyHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ManyHosts { hosts, hearing, vips, rest, .. } = self;
        write!(f, "{hosts} hosts that {hearing}, {vips} VIPs: {rest}")?;
        for (how, absence) in [("still", &self.still), ("killed", &self.killed)] {
            let Absence { away, back, absence_ms, overlap_ms } = absence;
            write!(f, "\n  etcd {how}: {away}\n  and back: {back}; ")?;
            write!(f, "a VIP away for {absence_ms:.0} ms, overlap {overlap_ms:.3} ms")?;
        }
        Ok(())
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a daemon {:.2} % of a core (at most {:.2}, in the worst second {:.2}), {:.1} MiB, {:.1} datagrams a second",
            self.daemon_percent,
            self.daemon_percent_max,
            self.daemon_percent_worst_second,
            self.resident_kib / 1024.0,
            self.datagrams_per_second,
        )?;
        if let (Some(leader), Some(writes)) = (self.leader_percent, self.writes_per_second) {
            write!(f, "; etcd's leader {leader:.2} %, {writes:.1} writes a second")?;
        }
        Ok(())
    }
}
