//! What turnip is to reach, and in how many runs it did.

use std::fmt::Write as _;

use crate::Figures;
use crate::rest::{Costs, Rest};
use crate::statistics::median;
use crate::trial::{Fault, Subject, Trial};
use crate::use_case::UseCase;

/// With each lease by itself.
const SUBJECTS: [Subject; 2] = [Subject::Turnip, Subject::TurnipFast];

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

/// A row for each target.
pub fn table(figures: &Figures) -> String {
    let names = SUBJECTS.map(|subject| subject.to_string()).join(" | ");
    let mut text = format!("\n| target | {names} |\n|---|---|---|\n");
    let mut row = |target: &str, cell: &dyn Fn(Subject) -> String| {
        let cells = SUBJECTS.map(cell).join(" | ");
        let _ = writeln!(text, "| {target} | {cells} |");
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
    text
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
