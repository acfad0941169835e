//! The figures as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::Figures;
use crate::trial::{Fault, Subject, Trial};
use crate::use_case::{UseCase, UseCaseTrial};

/// Tables for the README.
pub fn markdown(figures: &Figures) -> String {
    let mut text = String::new();
    let subjects: BTreeSet<Subject> = figures.trials.iter().map(|trial| trial.subject).collect();
    if !figures.trials.is_empty() {
        table(&mut text, figures, &subjects);
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
        text += "\n| at rest, one VIP | resident | of a core | etcd writes |\n|---|---|---|---|\n";
        for rest in &figures.rest {
            let _ = writeln!(
                text,
                "| {} | {:.1} MiB | {:.2} % | {:.1} /s |",
                rest.subject,
                rest.resident_kib as f64 / 1024.0,
                rest.cpu_percent,
                rest.writes_per_second
            );
        }
    }
    if !figures.use_cases.is_empty() {
        use_cases(&mut text, figures);
    }
    text
}

fn use_cases(text: &mut String, figures: &Figures) {
    *text += "\n| use-case, turnip, lease 3 s | gap | overlap of addresses |\n|---|---|---|\n";
    for case in UseCase::ALL {
        let of = |of: fn(&UseCaseTrial) -> f64| {
            let trials = figures.use_cases.iter().filter(|trial| trial.case == case);
            range(trials.map(of).collect())
        };
        let _ = writeln!(
            text,
            "| {case} | {} | {} |",
            of(|trial| trial.gap_ms),
            of(|trial| trial.overlap_ms)
        );
    }
}

fn table(text: &mut String, figures: &Figures, subjects: &BTreeSet<Subject>) {
    let names: Vec<String> = subjects.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    let faults = Fault::ALL.into_iter();
    for fault in faults.filter(|fault| figures.trials.iter().any(|trial| trial.fault == *fault)) {
        let row = |what: &str, cell: &dyn Fn(&[&Trial]) -> String| {
            let cells: Vec<String> = subjects
                .iter()
                .map(|&subject| {
                    let of = |trial: &&Trial| trial.subject == subject && trial.fault == fault;
                    let trials: Vec<&Trial> = figures.trials.iter().filter(of).collect();
                    if trials.is_empty() { "-".to_owned() } else { cell(&trials) }
                })
                .collect();
            format!("| {fault}: {what} | {} |\n", cells.join(" | "))
        };
        *text += &row("gap", &|trials| spread(trials, |trial| trial.gap_ms));
        *text += &row("overlap of addresses", &|trials| overlap(trials, |trial| trial.overlap_ms));
        *text +=
            &row("overlap of answers", &|trials| overlap(trials, |trial| trial.answers_overlap_ms));
    }
}

/// Minimum, median and maximum.
fn spread(trials: &[&Trial], of: impl Fn(&Trial) -> f64) -> String {
    range(trials.iter().map(|trial| of(trial)).collect())
}

fn range(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let (Some(&first), Some(&last)) = (figures.first(), figures.last()) else { return "-".into() };
    if last == 0.0 {
        return "0".into();
    }
    format!("{} / {} / {} ms", whole(first), whole(median(&figures)), whole(last))
}

fn overlap(trials: &[&Trial], of: impl Fn(&Trial) -> f64) -> String {
    if trials.iter().any(|trial| trial.unending && of(trial) > 0.0) {
        return "until somebody acts".into();
    }
    spread(trials, of)
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
