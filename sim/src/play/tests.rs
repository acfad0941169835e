//! What is expected, what the table says of it, and what the picture shows.

use std::path::Path;
use std::time::Duration;

use super::{Algorithm, Held, Observed, Run, Set, VipRun, html, json, judge, svg, table, trace};
use crate::script::Script;

const TEXT: &str = r#"
lasts = "60s"
[expect]
gap = "<= 3.3s"
moves = "<= 1"
owner = "h2"
"#;

fn script() -> Script {
    Script::parse(Path::new("isolate-holder.toml"), TEXT).unwrap()
}

/// h1 answers from the beginning, h2 after a gap, and goes on.
fn run(seed: u64, gap_ms: u64) -> Run {
    let lasts = Duration::from_secs(60);
    let at = Duration::from_secs(10);
    let held = vec![
        Held { host: "h1".into(), from: Duration::ZERO, to: at },
        Held { host: "h2".into(), from: at + Duration::from_millis(gap_ms), to: lasts },
    ];
    let observed = Observed { held: held.clone(), reached: held };
    let vips = vec![VipRun::of("v1", &[observed], lasts)];
    Run { seed, lasts, vips, happened: Vec::new(), wrong: Vec::new() }
}

#[test]
fn a_run_that_is_as_expected_breaks_nothing() {
    assert_eq!(judge(&script(), &run(1, 3_000)), []);
}

#[test]
fn what_is_not_as_expected_is_told_with_its_place_and_its_seed() {
    let mut wrong = run(17, 4_000);
    wrong.vips[0].moves = 2;
    wrong.vips[0].owners = vec!["h1".into(), "h2".into()];
    wrong.wrong = vec!["h3 panicked".into()];
    let told: Vec<String> = judge(&script(), &wrong).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "isolate-holder.toml:4:7: gap = \"<= 3.3s\": nobody answered for v1 for 4 s from 10 s; seed 17",
            "isolate-holder.toml:5:9: moves = \"<= 1\": v1 came to another host 2 times; seed 17",
            "isolate-holder.toml:6:9: owner = \"h2\": at the end h1 and h2 have v1; seed 17",
            "nothing else goes wrong: h3 panicked; seed 17",
        ]
    );
}

#[test]
fn two_hosts_that_answer_at_once_are_never_expected_unless_a_file_says_so() {
    let mut wrong = run(1, 0);
    let lasts = wrong.lasts;
    let held = |host: &str, to| Held { host: host.into(), from: Duration::ZERO, to };
    let held = vec![held("h1", Duration::from_nanos(700)), held("h2", lasts)];
    wrong.vips = vec![VipRun::of("v1", &[Observed { held: held.clone(), reached: held }], lasts)];
    let told: Vec<String> = judge(&script(), &wrong).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["overlap = \"0\": two hosts answered for v1 for 700 ns from 0 s; seed 1"]);
}

#[test]
fn the_table_has_the_distribution_of_each_measure_and_who_has_it_at_the_end() {
    let runs: Vec<Run> = (0..100).map(|seed| run(seed, 2_000 + 10 * seed)).collect();
    let text = table(&script(), &[Set { of: "", runs: &runs }]);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(lines[0]), "v1 least median 99 % most expected");
    assert_eq!(words(lines[1]), "longest gap 2 s 2.49 s 2.98 s 2.99 s <= 3.3s");
    assert_eq!(words(lines[3]), "longest overlap 0 s 0 s 0 s 0 s 0");
    assert_eq!(words(lines[4]), "moves 1 1 1 1 <= 1");
    assert_eq!(words(lines[5]), "at the end on h2 h2");
    let value = json(&script(), &[Set { of: "turnip", runs: &runs }]);
    assert_eq!(value["vips"]["v1"]["turnip"]["gap_ns"]["p99"], 2_980_000_000_u64);
    assert_eq!(value["vips"]["v1"]["turnip"]["owners"]["h2"], 100);
}

#[test]
fn the_picture_shows_the_gap_and_the_page_what_was_not_as_expected() {
    let wrong = run(17, 4_000);
    let picture = svg(&script(), &wrong);
    assert!(picture.contains("v1: no answer for 4 s from 10 s"), "{picture}");
    let page = html(&script(), &[("worst".into(), &wrong)]);
    assert!(page.contains("Not as expected:"), "{page}");
}

#[test]
fn a_trace_has_the_names_of_the_file() {
    let text = r#"
lasts = "20s"
hosts = ["anna", "berta"]
[etcd]
beside = ["witness"]
on = ["anna", "berta"]
[[vip]]
name = "web"
address = "10.77.0.101/32"
interface = "eth0"
checks = ["http"]
[[check]]
name = "http"
tcp = "127.0.0.1:80"
[[fault]]
at = "1s"
isolate = "witness"
for = "1s"
[[fault]]
at = "3s"
fail_check = "http"
on = "all"
for = "1s"
[[fault]]
at = "5s"
pin = "web"
to = "berta"
for = "5s"
"#;
    let script = Script::parse(Path::new("names.toml"), text).unwrap();
    let trace = trace(&script, 0, Algorithm::Turnip).join("\n");
    for said in [
        "fault begins: isolate witness",
        "fault begins: fail check of http on anna and berta",
        "fault begins: pin web to berta",
        "anna follows at member",
        "renewal of berta",
    ] {
        assert!(trace.contains(said), "{said:?} is not in the trace");
    }
    let words = trace.split(|c: char| !c.is_alphanumeric());
    let strange: Vec<&str> =
        words.filter(|word| ["h1", "h2", "v1", "w1", "e1"].contains(word)).collect();
    assert_eq!(strange, [""; 0]);
}
