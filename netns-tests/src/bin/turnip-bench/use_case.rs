//! The two use-cases: what a client of the API server, or a guest behind the gateway, sees.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use turnip_netns_tests::cluster::Cluster;
use turnip_netns_tests::measure::{self, Span};
use turnip_netns_tests::network::probe_outside;
use turnip_netns_tests::plan::Plan;
use turnip_netns_tests::probe::Probe;
use turnip_netns_tests::timeline::ms;

use crate::trial::{BLIND_MAX, Subject, in_ms};

/// Which one, and what is done to it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum UseCase {
    /// API server, BGP with BFD, its host is powered off.
    ApiPowerOff,
    /// API server, BGP with BFD, its host is cut off.
    ApiCut,
    /// API server, BGP with BFD, moved.
    ApiMove,
    /// API server, BGP without BFD, its host is powered off.
    ApiPowerOffWithoutBfd,
    /// Gateway, its hypervisor is powered off; seen by a guest that wants to go outside.
    GatewayPowerOff,
    /// Gateway, moved; seen by the same.
    GatewayMove,
}

/// The figures of one trial, in ms.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct UseCaseTrial {
    /// What was done.
    pub case: UseCase,
    /// Its number among those of the same, from 0.
    pub run: usize,
    /// The longest time without an answer, of both families where there are both.
    pub gap_ms: f64,
    /// How long two hosts had the address.
    pub overlap_ms: f64,
    /// How long two hosts answered, each asked itself.
    pub answers_overlap_ms: f64,
    /// The longest time in which a probe was due and none was sent, in ms.
    pub blind_ms: f64,
}

impl UseCaseTrial {
    /// As [`Trial::is_disturbed`](crate::trial::Trial::is_disturbed).
    pub fn is_disturbed(&self) -> bool {
        self.blind_ms > in_ms(BLIND_MAX)
    }
}

impl UseCase {
    /// All of them.
    pub const ALL: [UseCase; 6] = [
        UseCase::ApiPowerOff,
        UseCase::ApiCut,
        UseCase::ApiMove,
        UseCase::ApiPowerOffWithoutBfd,
        UseCase::GatewayPowerOff,
        UseCase::GatewayMove,
    ];

    fn plan(self) -> Plan {
        match self {
            UseCase::ApiPowerOff | UseCase::ApiCut | UseCase::ApiMove => Plan::api_server(true),
            UseCase::ApiPowerOffWithoutBfd => Plan::api_server(false),
            UseCase::GatewayPowerOff | UseCase::GatewayMove => Plan::gateway(),
        }
    }
}

/// Builds it, makes the fault, and watches; `run` of `runs`.
pub fn run(case: UseCase, run: usize, runs: usize) -> Result<UseCaseTrial> {
    let mut cluster = Cluster::start(case.plan())?;
    // The worst case without BFD: between equal routes the router prefers that of the lowest router
    // id, so the dead host's when that was the first.
    let pinned = cluster.plan().vips[0].name.clone();
    cluster.pin(&pinned, 0)?;
    let owner = cluster.wait_for_owner_among(|host| host == 0)?;
    let outside = match case {
        UseCase::GatewayPowerOff | UseCase::GatewayMove => {
            Some(probe_outside(cluster.network().client())?)
        }
        _ => None,
    };
    // BGP takes a moment.
    sleep(Duration::from_secs(1) + Subject::Turnip.moment(run, runs));
    let from = Instant::now();
    match case {
        UseCase::ApiPowerOff | UseCase::ApiPowerOffWithoutBfd | UseCase::GatewayPowerOff => {
            cluster.power_off(owner)?;
        }
        UseCase::ApiCut => cluster.isolate(owner)?,
        UseCase::ApiMove | UseCase::GatewayMove => {
            cluster.pin(&pinned, 1)?;
        }
    }
    cluster.wait_for_owner_among(|host| host != owner)?;
    sleep(Duration::from_secs(2));
    let span = Span { from, to: Instant::now() };
    let seen = cluster.seen(span)?;
    let outside = outside.map_or(Vec::new(), |prober| prober.records());
    let beyond = |of: &dyn Fn(&[Probe]) -> Duration, seen| {
        outside.iter().map(|(_, probes)| of(probes)).max().map_or(seen, |beyond| beyond.max(seen))
    };
    let blind = beyond(&|probes| measure::blind(probes, span, true), seen.blind);
    let gap = beyond(&|probes| measure::gap(probes, span).length(), seen.gap.max(seen.gap_tcp));
    cluster.assert_daemons_are_well()?;
    Ok(UseCaseTrial {
        case,
        run,
        gap_ms: in_ms(gap),
        overlap_ms: in_ms(seen.overlap),
        answers_overlap_ms: in_ms(seen.answers_overlap),
        blind_ms: in_ms(blind),
    })
}

impl fmt::Display for UseCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UseCase::ApiPowerOff => "API server by BGP with BFD: host powered off",
            UseCase::ApiCut => "API server by BGP with BFD: host cut off",
            UseCase::ApiMove => "API server by BGP with BFD: orderly move",
            UseCase::ApiPowerOffWithoutBfd => {
                "API server by BGP, hold time 9 s, no BFD: host powered off"
            }
            UseCase::GatewayPowerOff => "gateway on an overlay: hypervisor powered off",
            UseCase::GatewayMove => "gateway on an overlay: orderly move",
        })
    }
}

impl fmt::Display for UseCaseTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |figure: f64| ms(Duration::from_secs_f64(figure / 1000.0));
        let (gap, overlap) = (ms(self.gap_ms), ms(self.overlap_ms));
        write!(f, "{}, run {}: gap {gap}, overlap {overlap}", self.case, self.run)?;
        if self.is_disturbed() { write!(f, "; the probes stalled: once more") } else { Ok(()) }
    }
}
