//! The distribution of the gaps, as a picture: a row for every fault and subject, a dot for every run.

use std::fmt::Write as _;

use crate::Figures;
use crate::statistics::median;
use crate::trial::{Fault, Subject, Trial};

const LEFT: f64 = 390.0;
const WIDTH: f64 = 560.0;
const ROW: f64 = 18.0;
const TOP: f64 = 44.0;
/// The axis is logarithmic, from 1 ms to 10 s; what is less, 0 included, is at its left end.
const DECADES: f64 = 4.0;

/// The picture.
pub fn svg(figures: &Figures) -> String {
    let mut rows = String::new();
    let mut y = TOP;
    for fault in Fault::ALL {
        let mut first = true;
        for subject in Subject::ALL {
            let of = |trial: &&Trial| {
                trial.fault == fault && trial.subject == subject && !trial.is_disturbed()
            };
            let trials: Vec<&Trial> = figures.trials.iter().filter(of).collect();
            if trials.is_empty() {
                continue;
            }
            let mut gaps: Vec<f64> = trials.iter().map(|trial| trial.worse_gap().ms).collect();
            gaps.sort_by(f64::total_cmp);
            y += ROW;
            if first {
                y += ROW / 2.0;
                let _ = write!(rows, "<text x='8' y='{:.1}' class='f'>{fault}</text>", y + 4.0);
                first = false;
            }
            let colour = colour(subject);
            let _ = write!(
                rows,
                "<text x='{:.1}' y='{:.1}' class='s' fill='{colour}'>{subject}</text>",
                LEFT - 12.0,
                y + 4.0
            );
            for trial in trials {
                rows += &dot(trial, y, colour);
            }
            let middle = x(median(&gaps));
            let _ = write!(
                rows,
                "<path d='M{middle:.1} {:.1}V{:.1}' stroke='{colour}' stroke-width='2'/>",
                y - 7.0,
                y + 7.0
            );
        }
    }
    let height = y + 30.0;
    let mut axis = String::new();
    for (ms, label) in
        [(1.0, "1 ms or none"), (10.0, "10 ms"), (100.0, "100 ms"), (1e3, "1 s"), (1e4, "10 s")]
    {
        let at = x(ms);
        let _ = write!(
            axis,
            "<path d='M{at:.1} {:.1}V{:.1}' stroke='#ccc'/><text x='{at:.1}' y='{:.1}' class='a'>{label}</text>",
            TOP,
            height - 16.0,
            TOP - 6.0
        );
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {w} {height:.0}' font-family='sans-serif' \
         font-size='12'><style>.a{{text-anchor:middle;fill:#555}}.s{{text-anchor:end}}.f{{font-weight:bold}}\
         </style><rect width='100%' height='100%' fill='white'/><text x='8' y='18' font-size='14'>How long a \
         client got no answer: every run a dot, the median a line; a cross where two hosts answered at \
         once; hollow or thin where the silence had not ended when the run did</text>{axis}{rows}</svg>\n",
        w = LEFT + WIDTH + 50.0
    )
}

/// A run: a dot; hollow when the silence had no end; a cross when two hosts answered at once, thin then.
fn dot(trial: &Trial, y: f64, colour: &str) -> String {
    let gap = trial.worse_gap();
    let x = x(gap.ms);
    if trial.answers_overlap_ms.ms > 0.0 {
        return format!(
            "<path d='M{:.1} {:.1}l7 7m0 -7l-7 7' stroke='{colour}' stroke-width='{}'/>",
            x - 3.5,
            y - 3.5,
            if gap.unending { 0.5 } else { 1.5 }
        );
    }
    let fill = if gap.unending { "none" } else { colour };
    format!(
        "<circle cx='{x:.1}' cy='{y:.1}' r='4' fill='{fill}' fill-opacity='0.45' stroke='{colour}' \
         stroke-opacity='0.45'/>"
    )
}

fn x(ms: f64) -> f64 {
    LEFT + ms.max(1.0).log10().min(DECADES) / DECADES * WIDTH
}

fn colour(subject: Subject) -> &'static str {
    match subject {
        Subject::Turnip => "#7b2d8b",
        Subject::TurnipQuickElection => "#9a6bd1",
        Subject::TurnipFast => "#c0397b",
        Subject::TurnipShort => "#d97a2b",
        Subject::Keepalived => "#2f5d8a",
        Subject::KeepalivedFast => "#3a9188",
    }
}
