//! What turnip is to reach, and in how many runs it did.

use std::fmt::Write as _;

use crate::Figures;
use crate::hosts::{Hearing, ManyHosts, Use};
use crate::rest::{Costs, Rest};
use crate::statistics::{median, whole};
use crate::trial::{Fault, Subject, Trial};
use crate::use_case::UseCase;

/// With each lease by itself; those that were measured.
const SUBJECTS: [Subject; 3] = [Subject::Turnip, Subject::TurnipFast, Subject::TurnipShort];

/// After these the daemon is there to take the address away.
const WITHDRAWN: [Fault; 8] = [
    Fault::PowerOff,
    Fault::PowerOffLeader,
    Fault::Stop,
    Fault::Move,
    Fault::Cut,
    Fault::OneWayCut,
    Fault::LeaderKilled,
    Fault::LeaderMoved,
];

/// After these the kernel alone keeps it silent.
const SILENCED: [Fault; 2] = [Fault::Kill, Fault::Freeze];

const ORDERLY: [Fault; 2] = [Fault::Stop, Fault::Move];

/// Without these, hosts that hear each other lose nothing.
const AWAY: [Fault; 3] = [Fault::EtcdStill, Fault::EtcdStillLong, Fault::EtcdUpgraded];

/// What a client must not notice: the lab's floor, in ms.
const UNNOTICED_MS: f64 = 15.0;

/// What a target's row says of a subject.
type Cell<'a> = &'a dyn Fn(Subject) -> String;

/// A row for each target; those of which nothing was measured are left out where others were.
pub fn table(figures: &Figures) -> String {
    let measured = |subject: &Subject| {
        !subject.is_special() || figures.trials.iter().any(|trial| trial.subject == *subject)
    };
    let subjects: Vec<Subject> = SUBJECTS.into_iter().filter(measured).collect();
    let names: Vec<String> = subjects.iter().map(ToString::to_string).collect();
    let columns = "---|".repeat(names.len());
    let mut text = format!("\n| target | {} |\n|---|{columns}\n", names.join(" | "));
    let mut row = |target: &str, cell: Cell<'_>| {
        let cells: Vec<String> = subjects.iter().map(|subject| cell(*subject)).collect();
        if cells.iter().any(|cell| cell != "-") {
            let _ = writeln!(text, "| {target} | {} |", cells.join(" | "));
        }
    };
    row(
        "no address on two hosts: host lost or cut off, stop, move, etcd's leader killed or moved",
        &|subject| {
            kept(&trials(figures, subject, |fault| WITHDRAWN.contains(&fault)), |trial| {
                trial.overlap_ms.ms == 0.0
            })
        },
    );
    row("no answers from two hosts: daemon killed or stopped (SIGSTOP)", &|subject| {
        kept(&trials(figures, subject, |fault| SILENCED.contains(&fault)), |trial| {
            trial.answers_overlap_ms.ms == 0.0
        })
    });
    row("gap of an orderly stop or move at most 20 ms in the median", &|subject| {
        let mut gaps: Vec<f64> = trials(figures, subject, |fault| ORDERLY.contains(&fault))
            .iter()
            .map(|trial| trial.worse_gap().ms)
            .collect();
        gaps.sort_by(f64::total_cmp);
        if gaps.is_empty() { "-".into() } else { format!("{:.0} ms", median(&gaps)) }
    });
    row("gap at most 1.1 x lease: host lost or cut off", &|subject| {
        let max = lease_ms(subject) * 1.1;
        kept(&trials(figures, subject, Fault::silences_the_holder), |trial| {
            trial.worse_gap().ms <= max
        })
    });
    row("etcd's leader killed elsewhere: the address stays", &|subject| {
        kept(&trials(figures, subject, |fault| fault == Fault::LeaderKilled), |trial| !trial.moved)
    });
    row("1,000 VIPs of a dead host within 300 ms beyond the lease", &|subject| {
        let max = lease_ms(subject) + 300.0;
        let scales = figures.scale.iter();
        let scales: Vec<_> =
            scales.filter(|scale| (scale.subject, scale.vips) == (subject, 1_000)).collect();
        kept(&scales, |scale| scale.last_ms.is_some_and(|last| last <= max))
    });
    row("at rest with one VIP at most 10 MiB and 0.5 % of a core", &|subject| {
        let one = figures.rest.iter().find(|rest| (rest.subject, rest.vips) == (subject, 1));
        match one {
            Some(Rest { figures: Some(Costs { daemon, .. }), .. }) => daemon.to_string(),
            _ => "-".into(),
        }
    });
    row(
        "API server by BGP with BFD, host lost or cut off: at most 1 s beyond the lease",
        &|subject| {
            if subject != Subject::Turnip {
                return "-".into();
            }
            let crashes = [UseCase::ApiPowerOff, UseCase::ApiCut];
            let trials = figures.use_cases.iter();
            let trials: Vec<_> = trials
                .filter(|trial| crashes.contains(&trial.case) && !trial.is_disturbed())
                .collect();
            kept(&trials, |trial| trial.gap_ms <= lease_ms(subject) + 1_000.0)
        },
    );
    past_etcd(figures, &mut row);
    text
}

/// What hosts that hear each other are to reach.
fn past_etcd(figures: &Figures, row: &mut dyn FnMut(&str, Cell<'_>)) {
    let of = |subject, faults: &[Fault]| trials(figures, subject, |fault| faults.contains(&fault));
    let unnoticed = |trials: Vec<&Trial>| {
        kept(&trials, |trial| trial.worse_gap().ms <= UNNOTICED_MS && trial.overlap_ms.ms == 0.0)
    };
    row("etcd away, still or restarted at once: gap at most 15 ms, no overlap", &|subject| {
        unnoticed(of(subject, &AWAY))
    });
    row("the same, by the kernel's events: the address never left its host", &|subject| {
        let trials = of(subject, &AWAY);
        kept(&trials, |trial| trial.absence_ms == Some(0.0) && !trial.moved)
    });
    row("another host is back, and etcd 3.4 elects: gap at most 15 ms, no overlap", &|subject| {
        unnoticed(of(subject, &[Fault::BystanderBack]))
    });
    row("etcd's leader killed elsewhere, rolling restart: gap at most 15 ms", &|subject| {
        // With a longer lease these have rows of their own.
        let faults = [Fault::LeaderKilled, Fault::EtcdRolled];
        let trials =
            if subject == Subject::TurnipShort { of(subject, &faults) } else { Vec::new() };
        unnoticed(trials)
    });
    row("host powered off: gap at most 330 ms in the median, 400 ms at most", &|subject| {
        let mut gaps: Vec<f64> = match subject {
            Subject::TurnipShort => of(subject, &[Fault::PowerOff]),
            _ => Vec::new(),
        }
        .iter()
        .map(|trial| trial.worse_gap().ms)
        .collect();
        gaps.sort_by(f64::total_cmp);
        let Some(last) = gaps.last() else { return "-".into() };
        format!("{} and {} ms", whole(median(&gaps)), whole(*last))
    });
    let rest = |subject, hosts, cell: &dyn Fn(&Use) -> String| {
        let is_meant = |many: &&ManyHosts| {
            subject == Subject::Turnip && (many.hosts, many.hearing) == (hosts, Hearing::On)
        };
        figures.hosts.iter().find(is_meant).map_or("-".into(), |many| cell(&many.rest))
    };
    row("three hosts at rest: at most 1.1 writes in etcd a second", &|subject| {
        rest(subject, 3, &|rest| format!("{:.1}", rest.writes_per_second.unwrap_or_default()))
    });
    row("90 hosts at rest: a daemon at most 1.5 %, etcd's leader 15 % of a core", &|subject| {
        rest(subject, 90, &|rest| {
            let leader = rest.leader_percent.unwrap_or_default();
            format!("{:.2} % and {leader:.1} %", rest.daemon_percent)
        })
    });
}

fn lease_ms(subject: Subject) -> f64 {
    crate::trial::in_ms(subject.patience())
}

fn trials(figures: &Figures, subject: Subject, of: impl Fn(Fault) -> bool) -> Vec<&Trial> {
    let trials = figures.trials.iter().filter(|trial| !trial.is_disturbed());
    trials.filter(|trial| trial.subject == subject && of(trial.fault)).collect()
}

/// In how many runs it was so.
fn kept<T>(trials: &[&T], is_so: impl Fn(&T) -> bool) -> String {
    match trials.len() {
        0 => "-".into(),
        all => format!("{} of {all}", trials.iter().filter(|trial| is_so(trial)).count()),
    }
}
