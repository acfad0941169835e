//! Plays a scenario in the simulator.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use turnip::config::Config;
use turnip_core::{Backstop, Follow, Policy};

use crate::plan::{Daemon, NamedCheck, Params, Path, Plan, Played, PolicyParams, VipParams};
use crate::rng::Rng;
use crate::run::{self, Failure, Outcome};
use crate::script::{Script, Version};
use crate::time::{MS, S, US};
use crate::timing::{RaftTiming, Weather};

use super::{Happened, Held, Observed, Run, VipRun, reach};

/// What is between two machines where a file says nothing: a switch. One way, in ns.
const DELAY_MIN: u64 = 40 * US;
const DELAY_MAX: u64 = 160 * US;
/// Quartz is this wrong at most, in parts per million.
const DRIFT_PPM: i64 = 100;
/// The model of a VIP has so many addresses at most; more behave no differently.
const ADDRESSES_MAX: usize = 2;

/// Whose algorithm plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// turnip's.
    Turnip,
    /// The original turnip's, which has none of turnip's configuration: every VIP follows etcd's leader.
    Original,
}

impl Algorithm {
    /// How it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Turnip => "turnip",
            Algorithm::Original => "the original",
        }
    }

    fn daemon(self) -> Daemon {
        match self {
            Algorithm::Turnip => Daemon::Turnip(None),
            Algorithm::Original => Daemon::Naive,
        }
    }
}

/// The run of a seed.
pub fn simulate(script: &Script, seed: u64, algorithm: Algorithm) -> Run {
    simulate_with(script, seed, algorithm.daemon(), false).0
}

/// Every event in the run of a seed, with the true time since the daemons were started.
pub fn trace(script: &Script, seed: u64, algorithm: Algorithm) -> Vec<String> {
    simulate_with(script, seed, algorithm.daemon(), true).1
}

/// The run of a seed, with a rule broken perhaps, and every event in it where that is wanted.
pub(crate) fn simulate_with(
    script: &Script,
    seed: u64,
    daemon: Daemon,
    tracing: bool,
) -> (Run, Vec<String>) {
    let plan = plan(script, seed, daemon);
    let mut outcome = run::run(&plan, tracing);
    let trace = std::mem::take(&mut outcome.trace);
    (told(script, &plan, outcome), trace)
}

/// What the simulator leaves aside of a scenario's configuration, each in a sentence.
pub fn left_aside(script: &Script) -> Vec<String> {
    let mut all = Vec::new();
    for vip in &script.config.vips {
        let name = vip.config.name.as_str();
        if !vip.config.hooks.is_empty() {
            all.push(format!("the hooks of {name} are not run: what they do nobody knows here"));
        }
        if let Policy::Follow(Follow { key, unchanged: Some(_), .. }) = &vip.config.policy {
            all.push(format!(
                "`unchanged` of {name}: {key} stays as it is for as long as it says the same"
            ));
        }
    }
    all
}

/// The run of a seed as a plan.
pub(crate) fn plan(script: &Script, seed: u64, daemon: Daemon) -> Plan {
    let rng = &mut Rng::new(seed, "played");
    let hosts = script.hosts.len();
    let config = &script.config;
    let (vips, interfaces) = vips(script);
    let usual = Params::plain(hosts, script.etcd.members.len(), 0);
    let lease = config.lease;
    let millis = |time: Duration| time.as_millis() as u64;
    let backstop = if script.is_fenced() { Backstop::Fence } else { Backstop::Lifetime };
    let params = Params {
        members_on: script.etcd.members.clone(),
        interfaces,
        vips,
        lease_ms: millis(lease.duration()),
        renew_ms: Some(millis(lease.renew())),
        guard_ms: Some(millis(lease.guard())),
        drift_ppm: lease.drift_ppm(),
        backstop: (daemon != Daemon::Naive).then_some(backstop),
        rates_ppm: (0..hosts).map(|_| rng.within_signed(-DRIFT_PPM..=DRIFT_PPM)).collect(),
        offsets: (0..hosts).map(|_| rng.below(1_000_000 * S)).collect(),
        weights: script.hosts.iter().map(|host| host.weight.unwrap_or(config.weight)).collect(),
        weather: Weather {
            delay_min: DELAY_MIN,
            delay_max: DELAY_MAX,
            tail_permille: 1,
            tail: 5 * MS,
        },
        raft: RaftTiming {
            heartbeat: script.etcd.heartbeat.as_nanos() as u64,
            election: script.etcd.election.as_nanos() as u64,
            pre_vote: script.etcd.version == Version::V3_5,
            disk_max: rng.within(500..=4_000) * US,
        },
        start_spread: rng.below(S),
        heartbeats: vec![config.peers.listen != turnip::config::Listen::Off; hosts],
        announce_every_ms: config.announce_every.map(millis),
        daemon,
        played: Some(Arc::new(played(script, seed, rng))),
        ..usual
    };
    Plan { seed, params, ..Plan::quiet() }
}

/// The VIPs, and how many interfaces they are on.
fn vips(script: &Script) -> (Vec<VipParams>, usize) {
    let vips = || script.config.vips.iter();
    let all: BTreeSet<&Arc<str>> =
        vips().flat_map(|vip| vip.config.addresses.iter().map(|one| &one.interface)).collect();
    let number = |name: &Arc<str>| all.iter().position(|one| *one == name).unwrap_or_default();
    let params = vips().map(|vip| {
        let on: Vec<usize> =
            vip.config.addresses.iter().map(|one| number(&one.interface)).collect();
        let policy = match &vip.config.policy {
            Policy::Leader => PolicyParams::Leader,
            Policy::Spread => PolicyParams::Spread,
            Policy::Priority { priority, preempt } => PolicyParams::Priority {
                priorities: script
                    .hosts
                    .iter()
                    .map(|host| host.priority.unwrap_or(*priority))
                    .collect(),
                preempt: *preempt,
            },
            Policy::Follow(follow) => PolicyParams::Follow { absent: follow.absent },
        };
        let [first, second] = [0, 1].map(|place| on.get(place).copied().unwrap_or_default());
        VipParams { addresses: on.len().min(ADDRESSES_MAX), interfaces: [first, second], policy }
    });
    (params.collect(), all.len())
}

fn played(script: &Script, seed: u64, rng: &mut Rng) -> Played {
    let Config { vips, checks, .. } = &script.config;
    let usual = (DELAY_MIN + DELAY_MAX) / 2;
    let paths = script.links.iter().flat_map(|link| {
        let slow = (link.rtt.as_nanos() as u64 / 2).saturating_sub(usual);
        let path = move |from, to| Path { from, to, slow, loss_ppm: link.loss_ppm.into() };
        [path(link.one, link.other), path(link.other, link.one)]
    });
    let name = |host: &crate::script::Host| host.name.parse().expect("checked when it was read");
    Played {
        hosts: script.hosts.iter().map(name).collect(),
        beside: script.beside.clone(),
        vips: vips.iter().map(|vip| vip.config.clone()).collect(),
        checks: checks
            .iter()
            .map(|check| NamedCheck { config: check.config.clone(), interval: check.interval })
            .collect(),
        paths: paths.collect(),
        happens: script.draw(seed),
        // No phase of the renewals is likelier than another when it begins.
        settles: 2 * script.config.lease.duration().as_nanos() as u64 + rng.below(S),
        lasts: script.lasts.as_nanos() as u64,
    }
}

/// What came of it.
fn told(script: &Script, plan: &Plan, outcome: Outcome) -> Run {
    let (began, was_held) = outcome.began.unwrap_or_default();
    let lasts = script.lasts;
    let since = |at: u64| Duration::from_nanos(at.saturating_sub(began));
    let unreached = reach::unreached(script, &outcome.happened);
    let observed = |address: usize| {
        let held = outcome.held.iter().filter(|one| one.address == address && one.to > began);
        let held = held.map(|one| {
            let host = script.machine(one.host).to_owned();
            (one.host, Held { host, from: since(one.from), to: since(one.to) })
        });
        let held: Vec<(usize, Held)> = held.collect();
        let reached = held.iter().flat_map(|(host, one)| reach::without(one, &unreached[*host]));
        Observed {
            reached: reached.collect(),
            held: held.iter().map(|(_, one)| one.clone()).collect(),
        }
    };
    let vips = script.vips().enumerate().map(|(vip, name)| {
        let addresses: Vec<Observed> = plan.params.addresses_of(vip).map(observed).collect();
        VipRun::of(name, &addresses, lasts)
    });
    let failures = outcome.failures.iter().map(|failure| match failure {
        Failure::Refused { host, why } => {
            format!("{}'s daemon refused: {why}", script.machine(*host))
        }
        other => other.to_string(),
    });
    let mut wrong: Vec<String> = failures.collect();
    if !was_held {
        wrong.push("at the beginning not every VIP was held".into());
    }
    Run {
        seed: plan.seed,
        lasts,
        vips: vips.collect(),
        happened: outcome.happened.iter().map(|one| Happened::new(script, one)).collect(),
        wrong,
    }
}
