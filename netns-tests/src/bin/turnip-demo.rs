//! The demonstration: three hosts in network namespaces, etcd and turnip on each, and what a
//! client sees while they are cut off, healed, moved, frozen and powered off.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use turnip_netns_tests::cluster::{Cluster, Seen};
use turnip_netns_tests::measure::Span;
use turnip_netns_tests::picture::{self, Panel};
use turnip_netns_tests::plan::Plan;
use turnip_netns_tests::timeline::{self, ms};

/// turnip's default.
const LEASE: Duration = Duration::from_secs(3);

/// The median of a client's gaps in orderly moves must not be longer.
const MOVE_GAP_MAX: Duration = Duration::from_millis(20);

const MOVES: usize = 10;

/// Three hosts in network namespaces, with etcd and turnip on each: what a client sees while they are
/// cut off, healed, moved, frozen and powered off.
#[derive(Parser, Debug)]
struct Arguments {
    /// Draws the run, too, into this file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "target/demo.svg")]
    svg: Option<PathBuf>,
}

/// A step of the demonstration, and what must hold of it.
struct Step {
    name: String,
    seen: Seen,
    promise: String,
    verdict: Verdict,
    panel: Panel,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// Nobody shared the address, but the gap was longer: etcd's election was split, or the machine
    /// is busy.
    Late,
    Broken,
}

impl Verdict {
    fn of(safe: bool, in_time: bool) -> Self {
        match (safe, in_time) {
            (true, true) => Verdict::Kept,
            (true, false) => Verdict::Late,
            (false, _) => Verdict::Broken,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match demonstrate().and_then(|steps| draw(arguments, &steps).map(|()| steps)) {
        Ok(steps) => {
            print_table(&steps);
            let is = |verdict| steps.iter().any(|step| step.verdict == verdict);
            if is(Verdict::Broken) {
                println!("\nA PROMISE WAS BROKEN.");
                return ExitCode::FAILURE;
            }
            println!("\nThe address was never on two hosts that answer.");
            if is(Verdict::Late) {
                println!(
                    "Something took longer than promised: one of etcd's elections was split, which \
                          happens now and then, or this machine is busy. Try again."
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the demonstration failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn draw(Arguments { svg }: Arguments, steps: &[Step]) -> Result<()> {
    let Some(file) = svg else { return Ok(()) };
    let panels: Vec<Panel> = steps.iter().map(|step| step.panel.clone()).collect();
    let title = "Three hosts, one address, a lease of 3 s: what a client saw, who asks every 5 ms";
    std::fs::write(&file, picture::svg(title, &panels))
        .with_context(|| file.display().to_string())?;
    say(&format!("The run is drawn in {}.\n", file.display()));
    Ok(())
}

fn demonstrate() -> Result<Vec<Step>> {
    say("Three hosts, h1 to h3, each in a network namespace, with an etcd member and turnip.");
    say("A client asks 10.77.0.100 every 5 ms who it is. Lease 3 s, everything at its default.\n");
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let start = cluster.lab().journal().start();
    let now = Span { from: start, to: Instant::now() };
    timeline::print(&timeline::lines(&cluster, now)?, start);
    println!("\nturnip status, from the client's machine:\n{}", cluster.turnip(&["status"])?);
    let mut steps = Vec::new();

    say("1. The holder is cut off from everything. Its link stays up; nothing notifies it.");
    let from = cluster.note(format!("h{} is cut off", owner + 1));
    cluster.isolate(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    steps.push(crash_step(&cluster, "holder cut off", "1. The holder is cut off", from)?);

    say("2. The cut is healed. The address stays where it is, or goes back in an orderly way.");
    let from = cluster.note(format!("h{} is healed", owner + 1));
    cluster.heal()?;
    sleep(Duration::from_secs(6));
    steps.push(healed_step(&cluster, from)?);

    steps.push(move_about(&cluster)?);

    say("4. The holder's daemon is stopped with SIGSTOP: it cannot withdraw anything any more.");
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the turnip of h{} is frozen", owner + 1));
    cluster.freeze_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    steps.push(frozen_step(&cluster, from)?);
    cluster.note(format!("the turnip of h{} is thawed", owner + 1));
    cluster.thaw_daemon(owner)?;
    sleep(Duration::from_secs(5));

    say("5. The holder is powered off.");
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("h{} is powered off", owner + 1));
    cluster.power_off(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    steps.push(crash_step(&cluster, "holder powered off", "5. The holder is powered off", from)?);
    Ok(steps)
}

/// Moves the address around by pins.
fn move_about(cluster: &Cluster) -> Result<Step> {
    say(&format!("3. The address is moved {MOVES} times by an operator: turnip pin api HOST."));
    let mut moves: Vec<Seen> = Vec::new();
    let began = Instant::now();
    for _ in 0..MOVES {
        let owner = cluster.wait_for_owner()?;
        let to = (owner + 1) % cluster.size();
        let from = cluster.note(format!("turnip pin api h{}", to + 1));
        cluster.pin("api", to)?;
        cluster.wait_for_owner_among(|host| host == to)?;
        sleep(Duration::from_millis(200));
        moves.push(cluster.since(from)?);
    }
    cluster.turnip(&["unpin", "api"])?;
    print_lines(cluster, began)?;
    moves.sort_by_key(|seen| seen.gap);
    let median = moves[moves.len() / 2];
    let worst = |of: fn(&Seen) -> Duration| moves.iter().map(of).max().unwrap_or_default();
    let seen = Seen {
        overlap: worst(|seen| seen.overlap),
        answers_overlap: worst(|seen| seen.answers_overlap),
        ..median
    };
    Ok(Step {
        name: format!("{MOVES} moves (median)"),
        verdict: Verdict::of(nobody_shared(&seen), seen.gap <= MOVE_GAP_MAX),
        promise: format!("no overlap, gap at most {}", ms(MOVE_GAP_MAX)),
        panel: Panel::of(cluster, "3. Ten moves by an operator", began, seen.answers_overlap)?,
        seen,
    })
}

/// The holder is gone: nobody has the address twice, and somebody has it within 1.1 leases.
fn crash_step(cluster: &Cluster, name: &str, title: &str, from: Instant) -> Result<Step> {
    sleep(Duration::from_millis(500));
    let seen = cluster.since(from)?;
    print_lines(cluster, from)?;
    let gap_max = LEASE * 11 / 10;
    Ok(Step {
        name: name.into(),
        verdict: Verdict::of(nobody_shared(&seen), seen.gap <= gap_max),
        promise: format!("no overlap, gap at most {}", ms(gap_max)),
        panel: Panel::of(cluster, title, from, seen.answers_overlap)?,
        seen,
    })
}

/// The address goes back, or stays: nothing may overlap.
fn healed_step(cluster: &Cluster, from: Instant) -> Result<Step> {
    let seen = cluster.since(from)?;
    print_lines(cluster, from)?;
    Ok(Step {
        name: "healed".into(),
        verdict: Verdict::of(nobody_shared(&seen), true),
        promise: "no overlap".into(),
        panel: Panel::of(cluster, "2. The cut is healed", from, seen.answers_overlap)?,
        seen,
    })
}

/// The address may linger for a moment where it was, but it answers nobody there.
fn frozen_step(cluster: &Cluster, from: Instant) -> Result<Step> {
    sleep(Duration::from_secs(3));
    let seen = cluster.since(from)?;
    print_lines(cluster, from)?;
    let lingering_max = Duration::from_secs(2);
    let gap_max = LEASE * 11 / 10;
    Ok(Step {
        name: "daemon frozen".into(),
        verdict: Verdict::of(
            seen.answers_overlap.is_zero() && seen.overlap <= lingering_max,
            seen.gap <= gap_max,
        ),
        promise: format!("one host answers, gap at most {}", ms(gap_max)),
        panel: Panel::of(cluster, "4. The holder's daemon is frozen", from, seen.answers_overlap)?,
        seen,
    })
}

fn nobody_shared(seen: &Seen) -> bool {
    seen.overlap.is_zero() && seen.answers_overlap.is_zero()
}

fn print_lines(cluster: &Cluster, from: Instant) -> Result<()> {
    let span = Span { from, to: Instant::now() };
    timeline::print(&timeline::lines(cluster, span)?, cluster.lab().journal().start());
    println!();
    Ok(())
}

fn print_table(steps: &[Step]) {
    println!(
        "{:20} {:>11} {:>11} {:>11} {:>11}   promise",
        "", "gap, UDP", "gap, TCP", "addresses", "answers"
    );
    println!("{:20} {:>11} {:>11} {:>11} {:>11}", "", "", "", "overlap", "overlap");
    for step in steps {
        println!(
            "{:20} {:>11} {:>11} {:>11} {:>11}   {}: {}",
            step.name,
            ms(step.seen.gap),
            ms(step.seen.gap_tcp),
            ms(step.seen.overlap),
            ms(step.seen.answers_overlap),
            step.promise,
            match step.verdict {
                Verdict::Kept => "kept",
                Verdict::Late => "late",
                Verdict::Broken => "BROKEN",
            },
        );
    }
}

fn say(what: &str) {
    println!("{what}");
    let _ = std::io::stdout().flush();
}
