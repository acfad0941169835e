//! Three hosts with etcd, Patroni and PostgreSQL, what befalls them, and what clients see of it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use turnip_netns_tests::background::Background;
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::etcd;
use turnip_netns_tests::measure::{self, Span};
use turnip_netns_tests::poll::Poll;

use crate::fault::Fault;
use crate::mode::Mode;
use crate::observers::{Answer, Role, Roles, SqlClient, followers};
use crate::patroni::{Patroni, SCOPE, reap_orphans};
use crate::seen::{
    UNSURE, common, longest_gap, longest_gap_begun, primary_times, two_primaries, uncovered,
};

/// Patroni waits for `ttl`, elects, promotes, and rewinds and restarts the others.
const SETTLES: Poll = Poll::every(Duration::from_millis(100)).within(Duration::from_secs(150));

/// How long something goes on that outlasts `ttl`.
const OUTAGE: Duration = Duration::from_secs(30);

/// How long the address's daemon stands still.
const KEEPER_FROZEN: Duration = Duration::from_secs(15);

/// How long etcd is away.
const ETCD_AWAY: Duration = Duration::from_secs(15);

/// How long is measured after all is well again.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// The same where nothing was to be healed.
const BRIEFLY_AFTERWARDS: Duration = Duration::from_secs(8);

/// What one fault came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// From the fault until another host was the primary, where one was.
    pub new_primary: Option<Duration>,
    /// From then until the client's first answer by it.
    pub followed: Option<Duration>,
    /// The longest time without a primary's answer for the client that began before the fault was healed.
    pub gap: Duration,
    /// The same of what began later, where there was something to heal.
    pub gap_healed: Option<Duration>,
    /// How long two hosts had the address.
    pub overlap: Duration,
    /// How long two hosts answered at it.
    pub answers_overlap: Duration,
    /// How long a host had the address that was no primary, in pieces of more than [`UNSURE`].
    pub beside_primary: Duration,
    /// How long two hosts were primaries.
    pub two_primaries: Duration,
}

/// Three hosts under trial.
#[derive(Debug)]
pub struct Trial {
    // In this order they end.
    client: SqlClient,
    watches: Vec<Background>,
    roles: Vec<Roles>,
    patronis: Vec<Patroni>,
    cluster: Cluster,
    _reaper: Background,
    mode: Mode,
}

impl Trial {
    /// Starts everything, and waits until the address is at the primary.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn start(mode: Mode) -> Result<Self> {
        let reaper = reap_orphans();
        let mut cluster = Cluster::lay_out(mode.plan())?;
        let hosts = 0..cluster.size();
        let roles: Vec<Roles> = hosts.clone().map(|_| Roles::default()).collect();
        let watch = |host: usize| roles[host].watch(cluster.host(host).shared_namespace());
        let watches = hosts.clone().map(watch).collect();
        let api = mode.etcd_api();
        let patronis = hosts.clone().map(|host| Patroni::start(&cluster, host, api));
        let patronis = patronis.collect::<Result<Vec<_>>>()?;
        let client = SqlClient::start(cluster.network().client(), cluster.address());
        hosts.into_iter().try_for_each(|host| cluster.start_daemon(host))?;
        let trial = Trial { client, watches, roles, patronis, cluster, _reaper: reaper, mode };
        trial.wait_until_settled(None)?;
        Ok(trial)
    }

    /// Has something happen, and measures until all is well again and some time after.
    ///
    /// # Errors
    /// When it does not become well, or the lab fails.
    pub fn perform(&mut self, fault: Fault) -> Result<Outcome> {
        self.begin_anew()?;
        self.prepare(fault)?;
        let leader = self.wait_until_settled(None)?;
        sleep(Duration::from_secs(2));
        let from = self.cluster.note(format!("{}, leader h{}", fault.name(), leader + 1));
        let healed = self.act(fault, leader)?;
        self.wait_until_settled(None)?;
        sleep(if healed.is_some() { AFTERWARDS } else { BRIEFLY_AFTERWARDS });
        // It must have stayed well.
        self.wait_until_settled(None)?;
        let outcome = self.measure(leader, Span { from, to: Instant::now() }, healed);
        self.undo(fault)?;
        outcome
    }

    /// Starts turnip's daemons again where they remember: a check that failed twice within ten minutes is
    /// held down, and one fault is not to be measured by the one before.
    fn begin_anew(&mut self) -> Result<()> {
        if self.mode != Mode::Rest {
            return Ok(());
        }
        for host in 0..self.cluster.size() {
            self.cluster.stop_daemon(host)?;
            self.cluster.start_daemon(host)?;
            self.wait_until_settled(None)?;
        }
        Ok(())
    }

    fn prepare(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::FourthSwitchover => {
                let one = self.wait_until_settled(None)?;
                let other = self.after(one);
                for (leader, next) in [(one, other), (other, one), (one, other)] {
                    self.switch_over(leader, next)?;
                    ensure!(self.wait_until_settled(None)? == next, "the candidate does not lead");
                }
                Ok(())
            }
            Fault::EtcdAwayFailsafe => self.set_failsafe(true),
            _ => Ok(()),
        }
    }

    fn undo(&mut self, fault: Fault) -> Result<()> {
        if fault == Fault::EtcdAwayFailsafe { self.set_failsafe(false) } else { Ok(()) }
    }

    fn set_failsafe(&self, on: bool) -> Result<()> {
        let setting = format!("failsafe_mode={on}");
        self.patronis[0].control(&["edit-config", SCOPE, "--force", "--set", &setting])?;
        // Every Patroni reads it with its next look at the leader key.
        sleep(Duration::from_secs(5));
        Ok(())
    }

    /// When it was healed, where it was to be.
    fn act(&mut self, fault: Fault, leader: usize) -> Result<Option<Instant>> {
        let healed = |trial: &Trial| Ok(Some(trial.cluster.note("healed")));
        match fault {
            Fault::Switchover => {
                self.switch_over(leader, self.after(leader))?;
                Ok(None)
            }
            // Back to the host that was there before.
            Fault::FourthSwitchover => {
                let hosts = self.cluster.size();
                self.switch_over(leader, (leader + hosts - 1) % hosts)?;
                Ok(None)
            }
            Fault::PostgresKilled => {
                self.patronis[leader].kill_postgres()?;
                sleep(Duration::from_secs(1));
                Ok(None)
            }
            Fault::PowerOff => {
                self.cluster.power_off(leader)?;
                self.wait_until_settled(Some(leader))?;
                let at = healed(self);
                self.power_on(leader)?;
                at
            }
            Fault::PatroniFrozen => {
                self.patronis[leader].process().signal(Signal::SIGSTOP)?;
                sleep(OUTAGE);
                self.patronis[leader].process().signal(Signal::SIGCONT)?;
                healed(self)
            }
            Fault::CutOff => {
                self.cluster.isolate(leader)?;
                sleep(OUTAGE);
                self.cluster.heal()?;
                healed(self)
            }
            Fault::CutFromEtcd => {
                self.cluster.cut_from_store(leader)?;
                sleep(OUTAGE);
                self.cluster.heal()?;
                healed(self)
            }
            Fault::KeeperFrozen => {
                self.cluster.freeze_daemon(leader)?;
                self.switch_over(leader, self.after(leader))?;
                sleep(KEEPER_FROZEN);
                self.cluster.thaw_daemon(leader)?;
                healed(self)
            }
            Fault::EtcdLeaderMoved => {
                let members = self.cluster.members.len();
                let leads = etcd::wait_for_leader(&self.cluster.members)?;
                self.cluster.lead_from((leads + 1) % members)?;
                Ok(None)
            }
            Fault::EtcdAway | Fault::EtcdAwayFailsafe => {
                self.cluster.freeze_etcd()?;
                sleep(ETCD_AWAY);
                self.cluster.thaw_etcd()?;
                healed(self)
            }
        }
    }

    fn power_on(&mut self, host: usize) -> Result<()> {
        self.cluster.power_on(host)?;
        let namespace = self.cluster.host(host).shared_namespace();
        self.watches[host] = self.roles[host].watch(namespace);
        self.patronis[host] = Patroni::start(&self.cluster, host, self.mode.etcd_api())?;
        Ok(())
    }

    fn after(&self, host: usize) -> usize {
        (host + 1) % self.cluster.size()
    }

    /// As an operator does.
    fn switch_over(&self, leader: usize, next: usize) -> Result<()> {
        let names = [leader, next].map(|host| self.cluster.host(host).name.as_str());
        let arguments = ["switchover", SCOPE, "--leader", names[0], "--candidate", names[1]];
        self.patronis[leader].control(&[&arguments[..], &["--force"]].concat()).map(drop)
    }

    /// Waits until one host is the primary, all others follow it, and the address is there and nowhere else;
    /// with one host left aside that has no power.
    fn wait_until_settled(&self, aside: Option<usize>) -> Result<usize> {
        let mut last = None;
        // What does not answer is asked again.
        if let Some(leader) = SETTLES.find(|| {
            let found = self.settled_on(aside);
            let (is, found) = (found.as_ref().ok().copied().flatten(), format!("{found:?}"));
            last = Some(found);
            anyhow::Ok(is)
        })? {
            return Ok(leader);
        }
        let logs: Vec<String> =
            (0..self.cluster.size()).map(|host| self.patroni_log(host)).collect();
        bail!(
            "not settled ({last:?}): {:?}, address at {:?}, last answer {:?}\n{}\n{}",
            self.roles.iter().map(Roles::now).collect::<Vec<_>>(),
            self.cluster.holders(),
            self.client.last(),
            self.cluster.logs(),
            logs.join("\n"),
        )
    }

    fn patroni_log(&self, host: usize) -> String {
        let place = self.cluster.host(host);
        let log = std::fs::read_to_string(place.directory.join("patroni.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let newest = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("--- Patroni of {}\n{newest}", place.name)
    }

    fn settled_on(&self, aside: Option<usize>) -> Result<Option<usize>> {
        let hosts: Vec<usize> =
            (0..self.cluster.size()).filter(|host| Some(*host) != aside).collect();
        let are = |role| hosts.iter().copied().filter(move |host| self.roles[*host].now() == role);
        let primaries: Vec<usize> = are(Role::Primary).collect();
        let [primary] = primaries[..] else { return Ok(None) };
        let name = &self.cluster.host(primary).name;
        let last = self.client.last();
        let is_served = last.is_some_and(|last| {
            last.is_primary && last.host == *name && last.at.elapsed() < Duration::from_secs(1)
        });
        let standbys = are(Role::Standby).count();
        if !is_served || standbys + 1 != hosts.len() || self.cluster.holders()? != [primary] {
            return Ok(None);
        }
        let follow = followers(self.cluster.host(primary).namespace())?;
        Ok((follow == standbys).then_some(primary))
    }

    fn measure(&self, leader: usize, span: Span, healed: Option<Instant>) -> Result<Outcome> {
        let seen = self.cluster.seen(span)?;
        let answers = self.client.answers();
        let primaries: Vec<Vec<Span>> =
            self.roles.iter().map(|roles| primary_times(&roles.changes(), span.to)).collect();
        let others = primaries.iter().enumerate().filter(|(host, _)| *host != leader);
        let began =
            others.flat_map(|(host, times)| times.iter().map(move |time| (time.from, host)));
        let new = began.filter(|(at, _)| *at >= span.from && *at < span.to).min();
        let followed = new.and_then(|(at, host)| {
            let name = &self.cluster.host(host).name;
            let by_it = |answer: &&Answer| {
                answer.is_primary && answer.host == *name && answer.at >= span.from
            };
            answers.iter().find(by_it).map(|answer| answer.at.saturating_duration_since(at))
        });
        let events = self.cluster.address_monitor().events(self.cluster.address())?;
        let mut beside_primary = Duration::ZERO;
        for (name, held) in measure::holding_times(&events, span.to) {
            let Some(held) = common(held, span) else { continue };
            let of_it =
                (0..self.cluster.size()).find(|host| *self.cluster.host(*host).name == *name);
            let host = of_it.context("a host of the lab")?;
            let pieces = uncovered(held, &primaries[host]).into_iter().map(Span::length);
            beside_primary += pieces.filter(|piece| *piece > UNSURE).sum::<Duration>();
        }
        let until_healed = Span { from: span.from, to: healed.unwrap_or(span.to) };
        let since_healed = healed.map(|at| Span { from: at, to: span.to });
        Ok(Outcome {
            new_primary: new.map(|(at, _)| at.duration_since(span.from)),
            followed,
            gap: longest_gap(&answers, until_healed, span.to),
            gap_healed: since_healed.map(|span| longest_gap_begun(&answers, span, span.to)),
            overlap: seen.overlap,
            answers_overlap: seen.answers_overlap,
            beside_primary,
            two_primaries: two_primaries(&primaries, span),
        })
    }
}
