//! One subject, one fault, once.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::daemon::{Daemon, TurnipSettings};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::measure::Span;
use turnip_netns_tests::plan::{EtcdPlan, Plan};
use turnip_netns_tests::timeline::ms;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// turnip as it comes: a lease of 3 s.
    Turnip,
    /// The same, and etcd with a heartbeat of 50 ms and an election timeout of 500 ms.
    TurnipQuickElection,
    /// turnip with a lease of 600 ms, and etcd with a heartbeat of 20 ms and an election timeout of
    /// 200 ms.
    TurnipFast,
    /// turnip with a lease of 300 ms, and etcd as it comes: hosts that hear each other can.
    TurnipShort,
    /// keepalived as it comes: an advertisement every second.
    Keepalived,
    /// keepalived with an advertisement every 100 ms.
    KeepalivedFast,
}

/// What is done to the host that has the address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, Debug)]
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
    /// etcd's members are restarted one by one, the leader last.
    EtcdRolled,
    /// Another host, which has neither the address nor etcd's leader, is cut off for two leases, or
    /// twice the time that keepalived waits, and comes back: without pre-votes its member of etcd
    /// then deposes the leader.
    BystanderBack,
    /// All of etcd's members are stopped with SIGSTOP, and go on after 8 s.
    EtcdStill,
    /// The same for a minute.
    EtcdStillLong,
    /// All of etcd's members are ended, and started as the next version.
    EtcdUpgraded,
}

/// What fills this much at the end of a trial goes on.
pub const END: Duration = Duration::from_millis(500);

/// The figures of one trial, in ms.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Trial {
    /// What was measured.
    pub subject: Subject,
    /// What was done.
    pub fault: Fault,
    /// Its number among those of the same, from 0.
    pub run: usize,
    /// The longest time without an answer, by UDP.
    pub gap_ms: Figure,
    /// And by TCP.
    pub gap_tcp_ms: Figure,
    /// How long two hosts had the address.
    pub overlap_ms: Figure,
    /// How long two hosts answered, each asked itself.
    pub answers_overlap_ms: Figure,
    /// The longest time in which no host had the address; none in figures older than this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence_ms: Option<f64>,
    /// Whether the address was not where it had been, in the end.
    pub moved: bool,
    /// The longest time in which a probe was due and none was sent, in ms.
    pub blind_ms: f64,
}

/// A time that was measured.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub struct Figure {
    /// In ms; so far, when it had no end.
    pub ms: f64,
    /// Whether it went on when the trial ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unending: bool,
}

impl Figure {
    /// Of what was measured in all, and in the last [`END`] alone.
    pub fn new(all: Duration, at_end: Duration) -> Self {
        Figure { ms: in_ms(all), unending: at_end > END * 9 / 10 }
    }

    /// The worse of both.
    pub fn or_worse(self, other: Figure) -> Figure {
        let worse = (other.unending, other.ms) > (self.unending, self.ms);
        if worse { other } else { self }
    }
}

impl Trial {
    /// Whether it measured the machine instead: what happened while no probe was sent is not known,
    /// and a prober that sends late had no processor. It is kept in the figures, in no table.
    pub fn is_disturbed(&self) -> bool {
        let stays = self.fault.moves_nothing() && self.subject.is_turnip();
        self.blind_ms > in_ms(if stays { BLIND_MAX_WHERE_IT_STAYS } else { BLIND_MAX })
    }

    /// How long a client got no answer, whichever way it asked.
    pub fn worse_gap(&self) -> Figure {
        self.gap_ms.or_worse(self.gap_tcp_ms)
    }
}

impl Subject {
    /// All of them.
    pub const ALL: [Subject; 6] = [
        Subject::Turnip,
        Subject::TurnipQuickElection,
        Subject::TurnipFast,
        Subject::TurnipShort,
        Subject::Keepalived,
        Subject::KeepalivedFast,
    ];

    /// Whether it is turnip, and not keepalived.
    pub fn is_turnip(self) -> bool {
        !matches!(self, Subject::Keepalived | Subject::KeepalivedFast)
    }

    /// Whether it differs from turnip as it comes only while etcd has no leader.
    pub fn is_about_elections(self) -> bool {
        self == Subject::TurnipQuickElection
    }

    /// Whether only those faults are measured with it that its setting is about, in a table of their
    /// own.
    pub fn is_special(self) -> bool {
        self.is_about_elections() || self == Subject::TurnipShort
    }

    /// How long it takes to notice that a host is gone, at most.
    pub fn patience(self) -> Duration {
        Duration::from_millis(match self {
            Subject::Turnip | Subject::TurnipQuickElection => 3_000,
            Subject::TurnipFast => 600,
            Subject::TurnipShort => 300,
            Subject::Keepalived => 3_600,
            Subject::KeepalivedFast => 400,
        })
    }

    /// When to make the fault of `run`: the moment between two signs of life matters, so the runs
    /// are spread evenly over that time, for everybody alike.
    pub fn moment(self, run: usize, runs: usize) -> Duration {
        let period = Duration::from_millis(match self {
            Subject::Turnip | Subject::TurnipQuickElection => 500,
            Subject::TurnipFast | Subject::KeepalivedFast => 100,
            Subject::TurnipShort => 50,
            Subject::Keepalived => 1_000,
        });
        period.mul_f64((run as f64 + 0.5) / runs as f64)
    }

    /// Its cluster of three hosts with one VIP.
    pub fn plan(self) -> Plan {
        let turnip = |lease: Option<&str>| {
            Daemon::Turnip(TurnipSettings {
                lease: lease.map(str::to_owned),
                ..TurnipSettings::default()
            })
        };
        let electing = |heartbeat_ms, election_ms| {
            EtcdPlan::OnHosts(EtcdSettings { heartbeat_ms, election_ms, ..EtcdSettings::default() })
        };
        let (daemon, etcd) = match self {
            Subject::Turnip => (turnip(None), EtcdPlan::OnHosts(EtcdSettings::default())),
            Subject::TurnipQuickElection => (turnip(None), electing(50, 500)),
            Subject::TurnipFast => (turnip(Some("600ms")), electing(20, 200)),
            Subject::TurnipShort => {
                (turnip(Some("300ms")), EtcdPlan::OnHosts(EtcdSettings::default()))
            }
            Subject::Keepalived => (Daemon::Keepalived { advert_ms: 1_000 }, EtcdPlan::None),
            Subject::KeepalivedFast => (Daemon::Keepalived { advert_ms: 100 }, EtcdPlan::None),
        };
        Plan { etcd, daemon, ..Plan::default() }
    }
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 16] = [
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
        Fault::EtcdRolled,
        Fault::BystanderBack,
        Fault::EtcdStill,
        Fault::EtcdStillLong,
        Fault::EtcdUpgraded,
    ];

    /// Whether the subject can suffer it.
    pub fn concerns(self, subject: Subject) -> bool {
        let calls_an_election = matches!(self, Fault::PowerOffLeader | Fault::LeaderKilled);
        match subject {
            Subject::TurnipQuickElection => calls_an_election,
            Subject::TurnipShort => {
                matches!(self, Fault::PowerOff | Fault::LeaderKilled | Fault::EtcdRolled)
            }
            Subject::Turnip => true,
            Subject::TurnipFast => !self.is_about_the_store(),
            Subject::Keepalived | Subject::KeepalivedFast => {
                let is_turnips = matches!(self, Fault::Move | Fault::LeaderMoved);
                let is_etcds = self.is_about_the_store() && self != Fault::BystanderBack;
                !calls_an_election && !is_turnips && !is_etcds
            }
        }
    }

    /// How often it is measured, where most are `runs` times.
    pub fn runs(self, subject: Subject, runs: usize) -> usize {
        match (self, subject) {
            (Fault::BystanderBack, Subject::Turnip) | (Fault::PowerOff, Subject::TurnipShort) => {
                2 * runs
            }
            _ => runs,
        }
    }

    /// Whether it is a trouble of etcd's that goes on for a while.
    fn is_about_the_store(self) -> bool {
        matches!(
            self,
            Fault::EtcdRolled
                | Fault::BystanderBack
                | Fault::EtcdStill
                | Fault::EtcdStillLong
                | Fault::EtcdUpgraded
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
            Fault::EtcdRolled => "rolling restart of etcd",
            Fault::BystanderBack => "another host cut off, and back; etcd 3.4",
            Fault::EtcdStill => "all of etcd still for 8 s",
            Fault::EtcdStillLong => "all of etcd still for 60 s",
            Fault::EtcdUpgraded => "all of etcd restarted at once, 3.4 as 3.5",
        }
    }

    /// Whether clients must notice it: in a trial in which they do not, the fault had no effect.
    pub fn silences_the_holder(self) -> bool {
        matches!(self, Fault::PowerOff | Fault::PowerOffLeader | Fault::Cut | Fault::OneWayCut)
    }

    /// Whether the address should stay where it is.
    pub fn moves_nothing(self) -> bool {
        self.is_about_the_store()
            || matches!(self, Fault::Restart | Fault::LeaderKilled | Fault::LeaderMoved)
    }

    /// How an overlap ends that does not end by itself.
    pub fn ends(self) -> &'static str {
        match self {
            Fault::Cut | Fault::OneWayCut => "until healed",
            Fault::Freeze => "until it runs again",
            _ => "until somebody acts",
        }
    }

    fn hits_etcds_leader(self) -> bool {
        self == Fault::PowerOffLeader
    }
}

/// A trial whose probes were late by more than this has measured the machine.
pub const BLIND_MAX: Duration = Duration::from_millis(20);
/// The same where turnip's address should have stayed: a gap of 15 ms would be one there.
pub const BLIND_MAX_WHERE_IT_STAYS: Duration = Duration::from_millis(10);
/// How long it is watched beyond the time in which the loss of a host must have been noticed.
const AFTERMATH: Duration = Duration::from_millis(1_200);

/// A holder that is gone leaves a gap that is longer than this, whatever keeps the address.
const GAP_MIN: Duration = Duration::from_millis(100);

/// Builds a cluster, lets it settle, makes the fault, and watches; `run` of `runs`.
pub fn run(subject: Subject, fault: Fault, run: usize, runs: usize) -> Result<Trial> {
    let mut cluster = Cluster::start(subject.plan())?;
    let owner = cluster.wait_for_owner()?;
    if subject.is_turnip() {
        let elsewhere = (owner + 1) % cluster.size();
        cluster.lead_from(if fault.hits_etcds_leader() { owner } else { elsewhere })?;
        cluster.wait_until_sessions_list_all_others()?;
        // Until a heartbeat of each has been acknowledged by all.
        sleep(subject.patience());
    }
    sleep(subject.moment(run, runs));
    if cluster.holders()? != [owner] {
        bail!("it moved before anything happened\n{}", cluster.logs());
    }
    let from = Instant::now();
    inflict(&mut cluster, subject, fault, owner)?;
    let is_over = fault.is_about_the_store()
        || (subject == Subject::TurnipShort && fault == Fault::LeaderKilled);
    if is_over && subject.is_turnip() {
        etcd::wait_for_leader(&cluster.members)?;
    }
    let begun = if is_over { Instant::now() } else { from };
    let watched = subject.patience() * 11 / 10 + AFTERMATH;
    sleep(watched.saturating_sub(begun.elapsed()));
    let to = Instant::now();
    let seen = cluster.seen(Span { from, to })?;
    let end = to.checked_sub(END).unwrap_or(from);
    let last = cluster.seen(Span { from: end, to })?;
    cluster.assert_daemons_are_well()?;
    let trial = Trial {
        subject,
        fault,
        run,
        gap_ms: Figure::new(seen.gap, last.gap),
        gap_tcp_ms: Figure::new(seen.gap_tcp, last.gap_tcp),
        overlap_ms: Figure::new(seen.overlap, last.overlap),
        answers_overlap_ms: Figure::new(seen.answers_overlap, last.answers_overlap),
        absence_ms: Some(in_ms(seen.absence)),
        moved: cluster.holders()?.into_iter().all(|host| host != owner),
        blind_ms: in_ms(seen.blind),
    };
    check(&cluster, &trial)?;
    Ok(trial)
}

/// As figures are kept.
pub fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Fails unless the fault did what it is called: what it does to turnip is a figure, whatever it is.
fn check(cluster: &Cluster, trial: &Trial) -> Result<()> {
    let Trial { fault, .. } = *trial;
    if fault.silences_the_holder() && trial.gap_ms.ms < in_ms(GAP_MIN) {
        bail!("the fault had no effect: clients got all their answers\n{}", cluster.logs());
    }
    if !fault.moves_nothing()
        && !trial.moved
        && cluster.holders()?.len() < 2
        && !trial.gap_ms.unending
    {
        bail!("it did not move, and clients do not miss it\n{}", cluster.logs());
    }
    Ok(())
}

fn inflict(cluster: &mut Cluster, subject: Subject, fault: Fault, owner: usize) -> Result<()> {
    let (leader, bystander) = ((owner + 1) % 3, (owner + 2) % 3);
    match fault {
        Fault::PowerOff | Fault::PowerOffLeader => cluster.power_off(owner),
        Fault::Stop => cluster.stop_daemon(owner),
        Fault::Cut => cluster.isolate(owner),
        Fault::OneWayCut => cluster.cut_outgoing(owner),
        Fault::Kill => cluster.kill_daemon(owner),
        Fault::Freeze => cluster.freeze_daemon(owner),
        Fault::LeaderKilled => {
            cluster.members[leader].kill();
            Ok(())
        }
        Fault::LeaderMoved => cluster.lead_from(bystander),
        Fault::Restart => {
            cluster.kill_daemon(owner)?;
            sleep(Duration::from_millis(100));
            cluster.start_daemon(owner)
        }
        Fault::Move => cluster.pin("api", leader),
        Fault::EtcdRolled => cluster.roll_etcd(leader),
        Fault::BystanderBack => {
            let term = term(cluster)?;
            cluster.isolate(bystander)?;
            sleep(2 * subject.patience());
            cluster.heal()?;
            wait_for_later_term(cluster, term)
        }
        Fault::EtcdStill => still(cluster, Duration::from_secs(8)),
        Fault::EtcdStillLong => still(cluster, Duration::from_secs(60)),
        Fault::EtcdUpgraded => cluster.upgrade_etcd(&etcd::newer()?),
    }
}

fn still(cluster: &Cluster, duration: Duration) -> Result<()> {
    cluster.freeze_etcd()?;
    sleep(duration);
    cluster.thaw_etcd()
}

/// etcd's; none where there is no etcd.
fn term(cluster: &Cluster) -> Result<Option<u64>> {
    if cluster.members.is_empty() {
        return Ok(None);
    }
    let leader = etcd::wait_for_leader(&cluster.members)?;
    Ok(Some(cluster.members[leader].status()?.term))
}

/// A member that comes back without having asked for votes deposes nobody.
fn wait_for_later_term(cluster: &Cluster, earlier: Option<u64>) -> Result<()> {
    if earlier.is_none() {
        return Ok(());
    }
    cluster.wait("etcd's leader is deposed", || Ok(term(cluster)? > earlier))
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Turnip => "turnip, lease 3 s",
            Subject::TurnipQuickElection => "turnip, lease 3 s, election 500 ms",
            Subject::TurnipFast => "turnip, lease 600 ms",
            Subject::TurnipShort => "turnip, lease 300 ms, etcd as it comes",
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

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ms(Duration::from_secs_f64(self.ms / 1000.0)))?;
        if self.unending { f.write_str(" without end") } else { Ok(()) }
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {}, run {}: gap {} (TCP {}), overlap of addresses {}, of answers {}",
            self.subject,
            self.fault,
            self.run,
            self.gap_ms,
            self.gap_tcp_ms,
            self.overlap_ms,
            self.answers_overlap_ms,
        )?;
        if let Some(absence_ms) = self.absence_ms.filter(|_| self.fault.moves_nothing()) {
            write!(f, ", address away for {absence_ms:.0} ms")?;
        }
        if self.is_disturbed() { write!(f, "; the probes stalled: once more") } else { Ok(()) }
    }
}
