//! The figures as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::Figures;
use crate::rest::Rest;
use crate::scale::Scale;
use crate::trial::{BLIND_MAX, Fault, Figure, Subject, Trial};
use crate::use_case::{UseCase, UseCaseTrial};

/// Tables for the README.
pub fn markdown(figures: &Figures) -> String {
    let mut text = format!("{}.", figures.setting);
    let stalled = figures.trials.iter().map(|trial| trial.stalled).sum::<usize>()
        + figures.use_cases.iter().map(|trial| trial.stalled).sum::<usize>();
    if stalled > 0 {
        let ms = BLIND_MAX.as_millis();
        let _ = write!(
            text,
            " {stalled} trials were made anew, because the machine kept the probes waiting for more than {ms} ms."
        );
    }
    text += "\n\n";
    let measured: BTreeSet<Subject> = figures.trials.iter().map(|trial| trial.subject).collect();
    let (about_elections, subjects): (Vec<_>, Vec<_>) =
        measured.into_iter().partition(|subject| subject.is_about_elections());
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
    if !figures.scale.is_empty() {
        scales(&mut text, figures);
    }
    if !figures.rest.is_empty() {
        rests(&mut text, figures);
    }
    if !figures.use_cases.is_empty() {
        use_cases(&mut text, figures);
    }
    text
}

/// A row for each subject and number of VIPs. A run that did not settle is no figure, and is said.
fn scales(text: &mut String, figures: &Figures) {
    *text += "\n| all VIPs of a host that is powered off | VIPs | runs | first elsewhere | last elsewhere | overlap |\n|---|---|---|---|---|---|\n";
    let rows: BTreeSet<_> = figures.scale.iter().map(|scale| (scale.vips, scale.subject)).collect();
    for (vips, subject) in rows {
        let of = |scale: &&Scale| scale.vips == vips && scale.subject == subject;
        let scales: Vec<&Scale> = figures.scale.iter().filter(of).collect();
        let settled = |figure: fn(&Scale) -> Option<f64>| {
            let figures: Vec<f64> = scales.iter().filter_map(|scale| figure(scale)).collect();
            let missing = scales.len() - figures.len();
            let patience_s = scales[0].patience_s;
            match (figures.is_empty(), missing) {
                (false, 0) => range(figures),
                (true, _) => format!("not settled within {patience_s} s"),
                (false, _) => format!(
                    "{}; {missing} of {} not settled within {patience_s} s",
                    range(figures),
                    scales.len()
                ),
            }
        };
        let overlaps = scales.iter().map(|scale| scale.overlap_ms).collect();
        let _ = writeln!(
            text,
            "| {subject} | {vips} | {} | {} | {} | {} |",
            scales.len(),
            settled(|scale| scale.first_ms),
            settled(|scale| scale.last_ms),
            range(overlaps)
        );
    }
}

fn rests(text: &mut String, figures: &Figures) {
    *text += "\n| at rest | VIPs | the daemon | etcd's member beside it | etcd's writes, three hosts |\n|---|---|---|---|---|\n";
    let mut rests: Vec<&Rest> = figures.rest.iter().collect();
    rests.sort_by_key(|rest| (rest.vips, rest.subject));
    for Rest { subject, vips, daemon, etcd, writes_per_second } in rests {
        let (etcd, writes) = match etcd {
            Some(etcd) => (etcd.to_string(), format!("{writes_per_second:.1} a second")),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(text, "| {subject} | {vips} | {daemon} | {etcd} | {writes} |");
    }
}

fn use_cases(text: &mut String, figures: &Figures) {
    *text += "\n| use-case, turnip, lease 3 s | gap | overlap of addresses | of answers |\n|---|---|---|---|\n";
    for case in UseCase::ALL {
        let of = |of: fn(&UseCaseTrial) -> f64| {
            let trials = figures.use_cases.iter().filter(|trial| trial.case == case);
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
            let trials = figures.trials.iter();
            trials.filter(|trial| trial.subject == *subject && trial.fault == fault).collect()
        };
        let trials: Vec<Vec<&Trial>> = subjects.iter().map(of).collect();
        if trials.iter().all(Vec::is_empty) {
            continue;
        }
        let cells = trials.iter().map(|of| if of.is_empty() { "-".into() } else { cell(of) });
        let _ = writeln!(text, "| {fault} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn gap(trials: &[&Trial]) -> String {
    let gap = cell(trials, |trial| trial.worse_gap(), "without end");
    let unwanted = |trial: &&&Trial| trial.moved && trial.fault.moves_nothing();
    match trials.iter().filter(unwanted).count() {
        0 => gap,
        moved => format!("{gap}; moved in {moved} of {}", trials.len()),
    }
}

fn overlap(trials: &[&Trial]) -> String {
    let end = "until somebody acts";
    let addresses = cell(trials, |trial| trial.overlap_ms, end);
    let answers = cell(trials, |trial| trial.answers_overlap_ms, end);
    if addresses == answers {
        return addresses;
    }
    format!("addresses {addresses}; answers {answers}")
}

/// Minimum, median and maximum, of those that had an end.
fn cell(trials: &[&Trial], of: impl Fn(&Trial) -> Figure, no_end: &str) -> String {
    let all = || trials.iter().map(|trial| of(trial));
    let ended: Vec<f64> = all().filter(|figure| !figure.unending).map(|figure| figure.ms).collect();
    match (ended.len(), trials.len() - ended.len()) {
        (_, 0) => range(ended),
        (0, _) => no_end.to_owned(),
        (_, unending) => format!("{}; {unending} of {} {no_end}", range(ended), trials.len()),
    }
}

fn range(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let (Some(&first), Some(&last)) = (figures.first(), figures.last()) else { return "-".into() };
    if last == 0.0 {
        return "0".into();
    }
    format!("{} / {} / {} ms", whole(first), whole(median(&figures)), whole(last))
}

/// Of sorted figures; the mean of the middle two where there are two.
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn whole(figure: f64) -> String {
    if figure > 0.0 && figure < 1.0 { format!("{figure:.3}") } else { format!("{figure:.0}") }
}
