//! The figures as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::ValueEnum as _;

use crate::hosts::{Absence, Hearing, ManyHosts, Use};
use crate::rest::{Costs, Rest};
use crate::scale::Scale;
use crate::statistics::{range, whole};
use crate::trial::{BLIND_MAX, BLIND_MAX_WHERE_IT_STAYS, Fault, Figure, Subject, Trial};
use crate::use_case::{UseCase, UseCaseTrial};
use crate::{Figures, Part, targets};

/// Tables for the documentation, docs/src/measured.md.
pub fn markdown(figures: &Figures) -> String {
    let mut text = format!("{}. {}", figures.setting, commits(figures));
    text += &disturbed(figures);
    text += "\n\n";
    let measured: BTreeSet<Subject> = figures.trials.iter().map(|trial| trial.subject).collect();
    let (special, subjects): (Vec<_>, Vec<_>) =
        measured.into_iter().partition(|subject| subject.is_special());
    let (about_elections, short): (Vec<_>, Vec<_>) =
        special.into_iter().partition(|subject| subject.is_about_elections());
    if !subjects.is_empty() {
        text += &table("a client's gap", figures, &subjects, &gap);
        text += "\n";
        text += &table("two hosts at once", figures, &subjects, &overlap);
    }
    if !about_elections.is_empty() {
        text += "\n";
        let title = "a client's gap, where etcd elects faster";
        text += &table(title, figures, &about_elections, &gap);
    }
    if !short.is_empty() {
        text += "\n";
        text += &table("a client's gap, with a short lease", figures, &short, &gap);
        text += "\n";
        text += &table("two hosts at once, with a short lease", figures, &short, &overlap);
    }
    if !figures.scale.is_empty() {
        scales(&mut text, figures);
    }
    if !figures.rest.is_empty() {
        rests(&mut text, figures);
    }
    if !figures.hosts.is_empty() {
        many_hosts(&mut text, figures);
    }
    if !figures.use_cases.is_empty() {
        use_cases(&mut text, figures);
    }
    text += &targets::table(figures);
    text
}

fn commits(figures: &Figures) -> String {
    let part = |(part, commits): (&Part, &BTreeSet<String>)| {
        let commits: Vec<&str> = commits.iter().map(String::as_str).collect();
        let part = part.to_possible_value().map_or(String::new(), |name| name.get_name().into());
        format!("{part} {}", commits.join(" and "))
    };
    let parts: Vec<String> = figures.commits.iter().map(part).collect();
    format!("turnip's commits: {}.", parts.join(", "))
}

/// What is in no table, and the worst of it.
fn disturbed(figures: &Figures) -> String {
    let trials: Vec<&Trial> = figures.trials.iter().filter(|trial| trial.is_disturbed()).collect();
    let cases = figures.use_cases.iter().filter(|trial| trial.is_disturbed());
    let cases: Vec<&UseCaseTrial> = cases.collect();
    let count = trials.len() + cases.len();
    if count == 0 {
        return String::new();
    }
    let turnips = trials.iter().filter(|trial| trial.subject.is_turnip());
    let overlaps = turnips.filter(|trial| trial.answers_overlap_ms.ms > 0.0).count()
        + cases.iter().filter(|trial| trial.answers_overlap_ms > 0.0).count();
    format!(
        " {count} further trials are in the JSON only, and were made anew: the machine kept the probes waiting for more than {} ms, or {} ms where turnip's address should have stayed. In {overlaps} of them two hosts of turnip's answered at once.",
        BLIND_MAX.as_millis(),
        BLIND_MAX_WHERE_IT_STAYS.as_millis()
    )
}

/// A row for each subject and number of VIPs. A run that did not settle is no figure, and is said.
fn scales(text: &mut String, figures: &Figures) {
    *text += "\n| all VIPs of a host that is powered off | VIPs | runs | first elsewhere | last elsewhere | overlap of addresses |\n|---|---|---|---|---|---|\n";
    let rows: BTreeSet<_> = figures.scale.iter().map(|scale| (scale.vips, scale.subject)).collect();
    for (vips, subject) in rows {
        let of = |scale: &&Scale| scale.vips == vips && scale.subject == subject;
        let all: Vec<&Scale> = figures.scale.iter().filter(of).collect();
        let began: Vec<&Scale> = all.iter().copied().filter(|scale| scale.began).collect();
        let of = |figure: fn(&Scale) -> Option<f64>| -> Vec<f64> {
            began.iter().filter_map(|scale| figure(scale)).collect()
        };
        let patience_s = all[0].patience_s;
        let mut last = range(of(|scale| scale.last_ms));
        let missing = began.len() - of(|scale| scale.last_ms).len();
        if missing > 0 {
            let _ = write!(last, "; {missing} of {} not within {patience_s} s", began.len());
        }
        let mut runs = all.len().to_string();
        if began.len() < all.len() {
            let restless = all.len() - began.len();
            let _ = write!(runs, ", {restless} of them never at rest within {patience_s} s");
        }
        let _ = writeln!(
            text,
            "| {subject} | {vips} | {runs} | {} | {last} | {} |",
            range(of(|scale| scale.first_ms)),
            range(of(|scale| scale.overlap_ms))
        );
    }
}

fn rests(text: &mut String, figures: &Figures) {
    *text += "\n| at rest, one look of 20 s | VIPs | the daemon | etcd's member beside it | etcd's writes, three hosts |\n|---|---|---|---|---|\n";
    let mut rests: Vec<&Rest> = figures.rest.iter().collect();
    rests.sort_by_key(|rest| (rest.vips, rest.subject));
    for Rest { subject, vips, figures } in rests {
        let Some(Costs { daemon, etcd, writes_per_second }) = figures else {
            let _ = writeln!(text, "| {subject} | {vips} | never at rest | - | - |");
            continue;
        };
        let (etcd, writes) = match etcd {
            Some(etcd) => (etcd.to_string(), format!("{writes_per_second:.1} a second")),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(text, "| {subject} | {vips} | {daemon} | {etcd} | {writes} |");
    }
}

fn many_hosts(text: &mut String, figures: &Figures) {
    *text += "\n| many hosts at rest, lease 3 s, one look of 20 s | VIPs | a daemon, in the median | etcd's leader, which all ask | etcd's writes | a host sends |\n|---|---|---|---|---|---|\n";
    for ManyHosts { hosts, hearing, vips, rest, .. } in &figures.hosts {
        let Use { daemon_percent, resident_kib, datagrams_per_second, .. } = rest;
        let of_etcd = |figure: Option<f64>, digits, unit| {
            figure.map_or("-".into(), |figure| format!("{figure:.digits$} {unit}"))
        };
        let _ = writeln!(
            text,
            "| {} | {vips} | {:.1} MiB, {daemon_percent:.2} % of a core | {} | {} | {datagrams_per_second:.0} datagrams a second |",
            words(*hosts, *hearing),
            resident_kib / 1024.0,
            of_etcd(rest.leader_percent, 1, "% of a core"),
            of_etcd(rest.writes_per_second, 1, "a second"),
        );
    }
    *text += "\n| etcd away for 20 s | how | a daemon meanwhile, in the mean; in the worst second | in the 10 s after | a host sends | a VIP without a host | two hosts at once |\n|---|---|---|---|---|---|---|\n";
    for many in &figures.hosts {
        for (how, absence) in [("stopped (SIGSTOP)", &many.still), ("killed", &many.killed)] {
            let Absence { away, back, absence_ms, overlap_ms } = absence;
            let used = |used: &Use| {
                let (mean, worst) = (used.daemon_percent_mean, used.daemon_percent_worst_second);
                format!("{mean:.2} %; {worst:.2} %")
            };
            let _ = writeln!(
                text,
                "| {} | {how} | {} | {} | {:.0} datagrams a second | {} | {} |",
                words(many.hosts, many.hearing),
                used(away),
                used(back),
                away.datagrams_per_second,
                one(*absence_ms),
                one(*overlap_ms),
            );
        }
    }
}

fn words(hosts: usize, hearing: Hearing) -> String {
    match hearing {
        Hearing::On => format!("{hosts} hosts"),
        Hearing::Off => format!("{hosts} hosts, `listen = \"off\"`"),
    }
}

/// A single time, or none.
fn one(ms: f64) -> String {
    if ms == 0.0 { "0".into() } else { format!("{} ms", whole(ms)) }
}

fn use_cases(text: &mut String, figures: &Figures) {
    *text += "\n| use-case, turnip, lease 3 s | gap | overlap of addresses | of answers |\n|---|---|---|---|\n";
    for case in UseCase::ALL {
        let of = |of: fn(&UseCaseTrial) -> f64| {
            let trials = figures.use_cases.iter();
            let trials = trials.filter(|trial| trial.case == case && !trial.is_disturbed());
            range(trials.map(of).collect())
        };
        let _ = writeln!(
            text,
            "| {case} | {} | {} | {} |",
            of(|trial| trial.gap_ms),
            of(|trial| trial.overlap_ms),
            of(|trial| trial.answers_overlap_ms),
        );
    }
}

/// A row for every fault, a column for every subject.
fn table(
    title: &str,
    figures: &Figures,
    subjects: &[Subject],
    cell: &dyn Fn(&[&Trial]) -> String,
) -> String {
    let names: Vec<String> = subjects.iter().map(ToString::to_string).collect();
    let columns = "---|".repeat(names.len());
    let mut text = format!("| {title} | {} |\n|---|{columns}\n", names.join(" | "));
    for fault in Fault::ALL {
        let of = |subject: &Subject| -> Vec<&Trial> {
            let trials = figures.trials.iter().filter(|trial| !trial.is_disturbed());
            trials.filter(|trial| trial.subject == *subject && trial.fault == fault).collect()
        };
        let trials: Vec<Vec<&Trial>> = subjects.iter().map(of).collect();
        if trials.iter().all(Vec::is_empty) {
            continue;
        }
        let runs = |of: &[&Trial]| match of.len() {
            runs if runs == figures.setting.runs => String::new(),
            runs => format!("; {runs} runs"),
        };
        let cells = trials.iter().map(|of| match &of[..] {
            [] => "-".into(),
            of => cell(of) + &runs(of),
        });
        let _ = writeln!(text, "| {fault} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn gap(trials: &[&Trial]) -> String {
    let gap = cell(
        trials,
        |trial| trial.worse_gap(),
        |longest| format!("had no end within {} ms", whole(longest)),
    );
    let unwanted = |trial: &&&Trial| trial.moved && trial.fault.moves_nothing();
    match trials.iter().filter(unwanted).count() {
        0 => gap,
        moved => format!("{gap}; moved in {moved} of {}", trials.len()),
    }
}

fn overlap(trials: &[&Trial]) -> String {
    let end = trials.first().map_or("", |trial| trial.fault.ends());
    let addresses = cell(trials, |trial| trial.overlap_ms, |_| end.to_owned());
    let answers = cell(trials, |trial| trial.answers_overlap_ms, |_| end.to_owned());
    if addresses == answers {
        return addresses;
    }
    format!("addresses {addresses}; answers {answers}")
}

/// Minimum, median and maximum, of those that had an end; `no_end` says of the others, by the longest of
/// them, what they had instead.
fn cell(
    trials: &[&Trial],
    of: impl Fn(&Trial) -> Figure,
    no_end: impl Fn(f64) -> String,
) -> String {
    let (unending, ended): (Vec<Figure>, Vec<Figure>) =
        trials.iter().map(|trial| of(trial)).partition(|figure| figure.unending);
    let ended: Vec<f64> = ended.into_iter().map(|figure| figure.ms).collect();
    let longest = unending.iter().map(|figure| figure.ms).fold(0.0, f64::max);
    match (ended.is_empty(), unending.len()) {
        (_, 0) => range(ended),
        (true, _) => no_end(longest),
        (false, count) => {
            format!("{}; {count} of {} {}", range(ended), trials.len(), no_end(longest))
        }
    }
}
