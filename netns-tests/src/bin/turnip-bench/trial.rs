//! One subject, one fault, once.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::daemon::{Daemon, TurnipSettings};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::measure::Span;
use turnip_netns_tests::plan::{EtcdPlan, Plan};
use turnip_netns_tests::timeline::ms;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// turnip as it comes: a lease of 3 s.
    Turnip,
    /// turnip with a lease of 600 ms, and etcd with a heartbeat of 20 ms and an election timeout of
    /// 200 ms.
    TurnipFast,
    /// keepalived as it comes: an advertisement every second.
    Keepalived,
    /// keepalived with an advertisement every 100 ms.
    KeepalivedFast,
}

/// What is done to the host that has the address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It loses its power; etcd's leader is elsewhere.
    PowerOff,
    /// It loses its power, and etcd's leader was on it.
    PowerOffLeader,
    /// Its daemon is stopped in an orderly way.
    Stop,
    /// It is cut off from everything.
    Cut,
    /// What it sends is lost.
    OneWayCut,
    /// Its daemon is killed.
    Kill,
    /// Its daemon is stopped with SIGSTOP.
    Freeze,
    /// etcd's leader on another host is killed.
    LeaderKilled,
    /// etcd's leadership is moved.
    LeaderMoved,
    /// Its daemon is killed and started again.
    Restart,
    /// The address is moved by an operator.
    Move,
}

/// The figures of one trial, in ms.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Trial {
    /// What was measured.
    pub subject: Subject,
    /// What was done.
    pub fault: Fault,
    /// The how manieth.
    pub run: usize,
    /// The longest time without an answer, by UDP.
    pub gap_ms: f64,
    /// And by TCP.
    pub gap_tcp_ms: f64,
    /// How long two hosts had the address.
    pub overlap_ms: f64,
    /// How long two hosts answered, each asked itself.
    pub answers_overlap_ms: f64,
    /// Whether two hosts were at it still when the trial ended.
    pub unending: bool,
}

impl Subject {
    /// All of them.
    pub const ALL: [Subject; 4] =
        [Subject::Turnip, Subject::TurnipFast, Subject::Keepalived, Subject::KeepalivedFast];

    /// Whether it is turnip, and not keepalived.
    pub fn is_turnip(self) -> bool {
        matches!(self, Subject::Turnip | Subject::TurnipFast)
    }

    /// How long it takes to notice that a host is gone, at most.
    pub fn patience(self) -> Duration {
        Duration::from_millis(match self {
            Subject::Turnip => 3_000,
            Subject::TurnipFast => 600,
            Subject::Keepalived => 3_600,
            Subject::KeepalivedFast => 400,
        })
    }

    /// Its cluster of three hosts with one VIP.
    pub fn plan(self) -> Plan {
        let turnip = |lease: Option<&str>| {
            Daemon::Turnip(TurnipSettings {
                lease: lease.map(str::to_owned),
                ..TurnipSettings::default()
            })
        };
        let (daemon, etcd) = match self {
            Subject::Turnip => (turnip(None), EtcdPlan::OnHosts(EtcdSettings::default())),
            Subject::TurnipFast => {
                let etcd =
                    EtcdSettings { heartbeat_ms: 20, election_ms: 200, ..EtcdSettings::default() };
                (turnip(Some("600ms")), EtcdPlan::OnHosts(etcd))
            }
            Subject::Keepalived => (Daemon::Keepalived { advert_ms: 1_000 }, EtcdPlan::None),
            Subject::KeepalivedFast => (Daemon::Keepalived { advert_ms: 100 }, EtcdPlan::None),
        };
        Plan { etcd, daemon, ..Plan::default() }
    }
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::PowerOff,
        Fault::PowerOffLeader,
        Fault::Stop,
        Fault::Move,
        Fault::Cut,
        Fault::OneWayCut,
        Fault::Kill,
        Fault::Freeze,
        Fault::Restart,
        Fault::LeaderKilled,
        Fault::LeaderMoved,
    ];

    /// Whether the subject can suffer it.
    pub fn concerns(self, subject: Subject) -> bool {
        subject.is_turnip()
            || !matches!(
                self,
                Fault::PowerOffLeader | Fault::Move | Fault::LeaderKilled | Fault::LeaderMoved
            )
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Fault::PowerOff => "host powered off",
            Fault::PowerOffLeader => "host powered off with etcd's leader",
            Fault::Stop => "orderly stop",
            Fault::Cut => "host cut off",
            Fault::OneWayCut => "host cut off one way",
            Fault::Kill => "daemon killed",
            Fault::Freeze => "daemon stopped (SIGSTOP)",
            Fault::LeaderKilled => "etcd's leader killed elsewhere",
            Fault::LeaderMoved => "etcd's leader moved",
            Fault::Restart => "daemon killed and started",
            Fault::Move => "orderly move",
        }
    }

    /// Whether clients must notice it: a trial in which they do not has missed its target.
    fn silences_the_holder(self) -> bool {
        matches!(self, Fault::PowerOff | Fault::PowerOffLeader | Fault::Cut | Fault::OneWayCut)
    }

    fn needs_leader_on_owner(self) -> Option<bool> {
        match self {
            Fault::PowerOff | Fault::Cut | Fault::LeaderKilled | Fault::LeaderMoved => Some(false),
            Fault::PowerOffLeader => Some(true),
            _ => None,
        }
    }
}

/// Builds a cluster, lets it settle, makes the fault, and watches.
pub fn run(subject: Subject, fault: Fault, run: usize) -> Result<Trial> {
    let mut cluster = Cluster::start(subject.plan())?;
    let owner = cluster.wait_for_owner()?;
    if let Some(on_owner) = fault.needs_leader_on_owner().filter(|_| subject.is_turnip()) {
        place_leader(&cluster, if on_owner { owner } else { (owner + 1) % 3 })?;
    }
    // A different moment in the renewals' rhythm each time.
    sleep(Duration::from_millis(37 * run as u64));
    if cluster.holders()? != [owner] {
        bail!("it moved before anything happened\n{}", cluster.said());
    }
    let from = Instant::now();
    inflict(&mut cluster, fault, owner)?;
    let watched = subject.patience() * 3 / 2 + Duration::from_millis(1_500);
    sleep(watched.saturating_sub(from.elapsed()));
    let to = Instant::now();
    let seen = cluster.seen(Span { from, to })?;
    if fault.silences_the_holder() && seen.gap.is_zero() && subject.is_turnip() {
        bail!("the fault did not bite: nobody was missed\n{}", cluster.said());
    }
    let last = cluster
        .seen(Span { from: to.checked_sub(Duration::from_millis(500)).unwrap_or(from), to })?;
    let in_ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    Ok(Trial {
        subject,
        fault,
        run,
        gap_ms: in_ms(seen.gap),
        gap_tcp_ms: in_ms(seen.gap_tcp),
        overlap_ms: in_ms(seen.overlap),
        answers_overlap_ms: in_ms(seen.answers_overlap),
        unending: !last.overlap.is_zero() || !last.answers_overlap.is_zero(),
    })
}

/// Has the member on this host lead etcd.
fn place_leader(cluster: &Cluster, host: usize) -> Result<()> {
    let leader = etcd::wait_for_leader(&cluster.members)?;
    if leader != host {
        let id = cluster.members[host].status()?.id;
        cluster.members[leader].move_leader_to(id)?;
        cluster.wait("the leadership has moved", || {
            Ok(etcd::leader(&cluster.members) == Some(host))
        })?;
    }
    Ok(())
}

fn inflict(cluster: &mut Cluster, fault: Fault, owner: usize) -> Result<()> {
    let leader = (owner + 1) % 3;
    match fault {
        Fault::PowerOff | Fault::PowerOffLeader => cluster.power_off(owner),
        Fault::Stop => cluster.stop_daemon(owner),
        Fault::Cut => cluster.isolate(owner),
        Fault::OneWayCut => cluster.mute(owner),
        Fault::Kill => cluster.kill_daemon(owner),
        Fault::Freeze => cluster.freeze_daemon(owner),
        Fault::LeaderKilled => {
            cluster.members[leader].kill();
            Ok(())
        }
        Fault::LeaderMoved => place_leader(cluster, (owner + 2) % 3),
        Fault::Restart => {
            cluster.kill_daemon(owner)?;
            sleep(Duration::from_millis(100));
            cluster.start_daemon(owner)
        }
        Fault::Move => cluster.turnip(&["pin", "api", &format!("h{}", leader + 1)]).map(drop),
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Turnip => "turnip, lease 3 s",
            Subject::TurnipFast => "turnip, lease 600 ms",
            Subject::Keepalived => "keepalived, advert 1 s",
            Subject::KeepalivedFast => "keepalived, advert 100 ms",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |figure: f64| ms(Duration::from_secs_f64(figure / 1000.0));
        write!(
            f,
            "{}, {}, run {}: gap {} (TCP {}), overlap of addresses {}, of answers {}{}",
            self.subject,
            self.fault,
            self.run,
            ms(self.gap_ms),
            ms(self.gap_tcp_ms),
            ms(self.overlap_ms),
            ms(self.answers_overlap_ms),
            if self.unending { ", without end" } else { "" },
        )
    }
}
