//! `bounds` and `speed`.

use std::time::Instant;

use crate::bounds::{self, Bound, Naive};
use crate::plan::{Daemon, Fault, Plan};
use crate::run;
use crate::swarm::runner;
use crate::time::{MS, S};

use super::say::say;
use super::{BoundsArgs, Format};

pub(super) fn bounds(args: &BoundsArgs) -> bool {
    let table = bounds::measure(args.runs, args.from);
    let naive = bounds::naive(args.runs, args.from);
    match args.format {
        Format::Json => {
            let json = serde_json::json!({ "bounds": table, "original": naive });
            say!("{json:#}");
        }
        Format::Markdown => markdown(&table, &naive),
        Format::Text => text(&table, &naive),
    }
    table.iter().all(|bound| bound.holds)
}

fn limit(bound: &Bound) -> String {
    bound.bound_ms.map_or("-".into(), |limit| format!("{limit:.1} ms"))
}

fn text(table: &[Bound], naive: &Naive) {
    for bound in table {
        say!("{}", bound.broken);
        say!(
            "    stated: {} = {}; measured: {:.3} ms in {} runs{}",
            bound.stated,
            limit(bound),
            bound.measured_ms,
            bound.runs,
            if bound.holds { "" } else { "  FAILED: beyond the bound" }
        );
    }
    let [least, median, most_of, most] = naive.overlap_ms;
    say!("the original turnip, leaders moved and hosts cut off, {} runs", naive.runs);
    say!(
        "    overlap in {} runs: least {least:.0} ms, median {median:.0} ms, 90 % {most_of:.0} ms, longest {most:.0} ms",
        naive.runs_with_overlap
    );
    let [least, median, most_of, most] = naive.gap_ms;
    say!(
        "    gap: least {least:.0} ms, median {median:.0} ms, 90 % {most_of:.0} ms, longest {most:.0} ms"
    );
}

fn markdown(table: &[Bound], naive: &Naive) {
    say!("| broken | stated bound | here | worst measured | runs |");
    say!("|---|---|---|---|---|");
    for bound in table {
        say!(
            "| {} | {} | {} | {:.3} ms | {} |",
            bound.broken,
            bound.stated,
            limit(bound),
            bound.measured_ms,
            bound.runs
        );
    }
    let ([_, median, _, most], [_, gap_median, _, gap_most]) = (naive.overlap_ms, naive.gap_ms);
    say!(
        "| *the original turnip: leader moved, host cut off* | *\"about 10 seconds\"* | | *overlap median {median:.0} ms, worst {most:.0} ms; gap median {gap_median:.0} ms, worst {gap_most:.0} ms* | {} |",
        naive.runs
    );
}

pub(super) fn speed() -> bool {
    let mut quiet = Plan::quiet();
    quiet.params.vips = vec![quiet.params.vips[0].clone(); 10];
    quiet.lasting(5_000 * S);
    let mut faulty = quiet.clone();
    for number in 0..400 {
        let host = number as usize % 3;
        let fault = match number % 8 {
            0 => Fault::Isolate { site: host },
            1 => Fault::MoveLeader,
            2 => Fault::Freeze { host },
            3 => Fault::CutStore { host },
            4 => Fault::Kill { host },
            5 => Fault::CrashMember { member: host },
            6 => Fault::WatchLag { host, by: 300 * MS },
            _ => Fault::PowerOff { host },
        };
        faulty.fault(10_000 + number * 12_000, 3_000, fault);
    }
    for (name, plan) in [("quiet", &quiet), ("with a fault every 12 s", &faulty)] {
        let begin = Instant::now();
        let outcome = run::run(plan, false);
        let secs = plan.end_at as f64 / S as f64;
        let rate = secs / begin.elapsed().as_secs_f64();
        say!("{name}: {rate:.0} simulated s a second, {} renewals", outcome.tally.renewals);
    }
    let begin = Instant::now();
    let mut secs = 0.0;
    for seed in 0..100 {
        let plan = runner::plan(seed, Daemon::Turnip(None));
        run::run(&plan, false);
        secs += plan.end_at as f64 / S as f64;
    }
    say!("swarm: {:.0} simulated s a second", secs / begin.elapsed().as_secs_f64());
    true
}
