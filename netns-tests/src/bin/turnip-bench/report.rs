//! The figures as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::Figures;
use crate::rest::Rest;
use crate::trial::{Fault, Figure, Subject, Trial};
use crate::use_case::{UseCase, UseCaseTrial};

/// Tables for the README.
pub fn markdown(figures: &Figures) -> String {
    let mut text = String::new();
    let subjects: BTreeSet<Subject> = figures.trials.iter().map(|trial| trial.subject).collect();
    if !figures.trials.is_empty() {
        text += &table("a client's gap", figures, &subjects, &|trials| {
            cell(trials, |trial| trial.worse_gap(), "without end")
        });
        text += "\n";
        text += &table("two hosts at once", figures, &subjects, &overlap);
    }
    if !figures.scale.is_empty() {
        text += "\n| all VIPs of a host that is powered off | VIPs | first elsewhere | last elsewhere | overlap |\n|---|---|---|---|---|\n";
        for scale in &figures.scale {
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} ms | {:.0} ms | {} |",
                scale.subject,
                scale.vips,
                scale.first_ms,
                scale.last_ms,
                figure(scale.overlap_ms)
            );
        }
    }
    if !figures.rest.is_empty() {
        rests(&mut text, figures);
    }
    if !figures.use_cases.is_empty() {
        use_cases(&mut text, figures);
    }
    text
}

fn rests(text: &mut String, figures: &Figures) {
    *text += "\n| at rest, one VIP | the daemon | etcd's member beside it | etcd's writes, three hosts |\n|---|---|---|---|\n";
    for Rest { subject, daemon, etcd, writes_per_second } in &figures.rest {
        let (etcd, writes) = match etcd {
            Some(etcd) => (etcd.to_string(), format!("{writes_per_second:.1} a second")),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(text, "| {subject} | {daemon} | {etcd} | {writes} |");
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
    subjects: &BTreeSet<Subject>,
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

fn figure(ms: f64) -> String {
    if ms == 0.0 { "0".into() } else { format!("{} ms", whole(ms)) }
}
