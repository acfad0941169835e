use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use turnip_core::{Arrival, Backstop, Departure, KernelError, Lease, Report, Revision, SessionId};

use super::super::look::tests::{seen, vip};
use super::*;
use crate::etcd::certificates::{CertificateEnd, Whose};
use crate::metrics::counters::{Cause, Request};
use crate::metrics::{EtcdHealth, Recorder};

fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist")
}

fn page() -> Page {
    let settings = Settings {
        address: "127.0.0.1:9464".parse().unwrap(),
        cluster: "main".parse().unwrap(),
        node: "h1".parse().unwrap(),
        lease: Lease::new(Duration::from_secs(3)).unwrap(),
        backstop: Backstop::Fence,
        without_etcd: Some(Duration::from_secs(86_400)),
    };
    let (counters, looks, outside) = Default::default();
    Page::new(settings, Metrics { counters, looks, outside })
}

/// A page with everything that there is.
fn full() -> String {
    let page = page();
    page.metrics.outside.set_etcd(Some(EtcdHealth {
        database_bytes: 20_480,
        quota_bytes: Some(2 << 30),
        alarms: vec!["NOSPACE".into()],
        compacted_ago: Some(Duration::from_secs(3_600)),
    }));
    page.metrics.outside.set_certificates(vec![CertificateEnd {
        whose: Whose::Client("/etc/turnip/a \"strange\"\nname.pem".into()),
        subject: "turnip".into(),
        ends_unix: 1_800_000_000,
    }]);
    let vips = vec![vip("api", Some("h1"), true, true), vip("db", None, true, false)];
    page.text(Look::Running(Arc::new(seen(vips))))
}

/// What promtool answers; it comes with Prometheus, which ci/install-deps installs.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool, of Debian's package prometheus");
    promtool.stdin.take().expect("it is piped").write_all(input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The value of a sample, by how its line begins.
#[track_caller]
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(sample)).unwrap_or_else(|| {
        panic!("no {sample} in\n{text}");
    });
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The names of turnip's metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("turnip_"));
    words.collect()
}

#[test]
fn promtool_has_nothing_to_say_against_the_page() {
    for text in [full(), page().text(Look::Waiting)] {
        let (succeeded, said) = promtool(&["check", "metrics"], &text);
        assert!(succeeded && said.trim().is_empty(), "{said}\n{text}");
    }
}

#[test]
fn every_metric_says_of_which_node_it_is() {
    let text = full();
    let of = "cluster=\"main\",node=\"h1\"";
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.for_each(|line| assert!(line.contains(of), "{line}"));
    assert_eq!(value(&text, &format!("turnip_vip_held{{{of},vip=\"api\"}}")), 1.0);
    assert_eq!(value(&text, &format!("turnip_vip_held{{{of},vip=\"db\"}}")), 0.0);
    assert_eq!(value(&text, &format!("turnip_vip_owner{{{of},vip=\"api\",owner=\"h1\"}}")), 1.0);
    assert!(!text.contains("vip=\"db\",owner"), "{text}");
    assert_eq!(value(&text, "turnip_ready{"), 0.0);
    assert_eq!(value(&text, "turnip_lease_left_seconds{"), 2.5);
    assert_eq!(value(&text, &format!("turnip_bound_seconds{{{of},bound=\"lease\"}}")), 3.0);
    assert_eq!(value(&text, &format!("turnip_fence{{{of},kind=\"nftables\"}}")), 1.0);
    assert_eq!(value(&text, "turnip_fence_repairs_total{"), 4.0);
    assert_eq!(value(&text, "turnip_conflict_packets_total{"), 9.0);
    assert_eq!(value(&text, &format!("turnip_datagrams_total{{{of},outcome=\"forged\"}}")), 2.0);
    assert_eq!(value(&text, &format!("turnip_etcd_alarm{{{of},alarm=\"NOSPACE\"}}")), 1.0);
    assert_eq!(value(&text, &format!("turnip_etcd_alarm{{{of},alarm=\"CORRUPT\"}}")), 0.0);
}

#[test]
fn before_etcd_answers_the_page_says_that_nothing_is_there_and_invents_no_vips() {
    let text = page().text(Look::Waiting);
    for sample in ["turnip_ready{", "turnip_session{", "turnip_lease_left_seconds{"] {
        assert_eq!(value(&text, sample), 0.0);
    }
    let invented = ["turnip_vip_held", "turnip_etcd_database", "turnip_certificate"];
    assert!(invented.iter().all(|name| !text.contains(name)), "{text}");
}

#[test]
fn what_has_happened_is_counted_by_reason_and_a_vip_of_two_addresses_once() {
    let page = page();
    let counters = &page.metrics.counters;
    let mut recorder = Recorder::new(counters.clone());
    let assignment = |address: &str| turnip_core::Assignment {
        vip: "api".parse().unwrap(),
        interface: "eth0".into(),
        address: address.parse().unwrap(),
    };
    let addresses = ["10.0.0.50/24", "fd00::50/64"].map(assignment);
    for _ in 0..2 {
        for assignment in addresses.clone() {
            let (arrival, gap) = (Arrival::Expired, Some(Duration::from_millis(3_040)));
            let vip = assignment.vip.clone();
            recorder.report(&Report::Assumed { vip, assignment, arrival, gap });
        }
    }
    for assignment in addresses.clone() {
        let (vip, why) = (assignment.vip.clone(), "it was not renewed".to_owned());
        let departure = Departure::NotRenewed;
        recorder.report(&Report::Forfeiting { vip, assignment, why, departure });
    }
    for assignment in addresses {
        recorder.report(&Report::Forfeited { vip: assignment.vip.clone(), assignment });
    }
    let (session, why) = (SessionId(Revision(7)), "it expired".to_owned());
    recorder.report(&Report::SessionLost { session, why });
    counters.renewed(Duration::from_millis(3));
    counters.etcd_failed(Request::Renewal, Cause::Timeout);
    counters.kernel_failed("assume", &KernelError::TooLate);
    counters.announced(2);
    let text = page.text(Look::Waiting);
    let of = "cluster=\"main\",node=\"h1\"";
    for (sample, expected) in [
        ("turnip_vip_arrivals_total{OF,reason=\"expired\"}", 1.0),
        ("turnip_vip_arrivals_total{OF,reason=\"free\"}", 0.0),
        ("turnip_vip_departures_total{OF,reason=\"not-renewed\"}", 1.0),
        ("turnip_vip_gap_seconds_bucket{OF,reason=\"expired\",le=\"2.5\"}", 0.0),
        ("turnip_vip_gap_seconds_bucket{OF,reason=\"expired\",le=\"3.5\"}", 1.0),
        ("turnip_vip_gap_seconds_sum{OF,reason=\"expired\"}", 3.04),
        ("turnip_renewal_duration_seconds_bucket{OF,le=\"0.0025\"}", 0.0),
        ("turnip_renewal_duration_seconds_bucket{OF,le=\"0.005\"}", 1.0),
        ("turnip_etcd_failures_total{OF,request=\"renewal\",cause=\"timeout\"}", 1.0),
        ("turnip_etcd_failures_total{OF,request=\"renewal\",cause=\"refused\"}", 0.0),
        ("turnip_kernel_failures_total{OF,operation=\"assume\",cause=\"too-late\"}", 1.0),
        ("turnip_troubles_total{OF,trouble=\"session-lost\"}", 1.0),
        ("turnip_announcements_total{OF}", 2.0),
    ] {
        assert_eq!(value(&text, &sample.replace("OF", of)), expected, "{sample}");
    }
}

#[test]
fn what_goes_wrong_with_the_node_as_a_whole_is_counted_and_of_many_keys_each() {
    let page = page();
    let mut recorder = Recorder::new(page.metrics.counters.clone());
    let why = || "why".to_owned();
    let unreadable = || Report::Unreadable { key: "x".into(), why: why() };
    for report in [
        Report::NoOwnMember { why: why() },
        Report::SessionReplaced { why: why() },
        Report::ConsentMissing { nodes: Vec::new(), left: Duration::ZERO },
        unreadable(),
        unreadable(),
        // So many by now; what was told one by one is among them.
        Report::UnreadableKeys { count: 64 },
        Report::UnreadableKeys { count: 128 },
    ] {
        recorder.report(&report);
    }
    let text = page.text(Look::Waiting);
    let troubles = [
        ("no-own-member", 1.0),
        ("session-replaced", 1.0),
        ("consent-missing", 1.0),
        ("unreadable", 128.0),
        ("name-taken", 0.0),
    ];
    for (trouble, expected) in troubles {
        let labels = format!("cluster=\"main\",node=\"h1\",trouble=\"{trouble}\"");
        let sample = format!("turnip_troubles_total{{{labels}}}");
        assert_eq!(value(&text, &sample), expected, "{trouble}");
    }
}

#[test]
fn the_alerts_are_rules_and_pass_their_own_tests() {
    let check = ["check", "rules", "turnip-alerts.yml"];
    for arguments in [check, ["test", "rules", "turnip-alerts-test.yml"]] {
        let mut promtool = Command::new("promtool");
        let output = promtool.args(arguments).current_dir(dist()).output();
        let output = output.expect("promtool, of Debian's package prometheus");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    }
    let read = |name: &str| std::fs::read_to_string(dist().join(name)).unwrap();
    let (rules, tests) = (read("turnip-alerts.yml"), read("turnip-alerts-test.yml"));
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let raised = tests.split("alertname: ").any(|part| {
            part.starts_with(&format!("{alert}\n")) && !part.contains("exp_alerts: []")
        });
        assert!(raised, "no test raises {alert}");
    }
}

#[test]
fn alerts_are_raised_from_as_much_on_as_the_log_warns_of() {
    let rules = std::fs::read_to_string(dist().join("turnip-alerts.yml")).unwrap();
    let of_etcd = rules.lines().filter(|line| line.contains("turnip_etcd_quota_bytes"));
    let percents: Vec<f64> = of_etcd
        .map(|line| line.rsplit(">= ").next().unwrap().parse::<f64>().unwrap() * 100.0)
        .collect();
    let warned: Vec<f64> =
        crate::etcd::growth::FULL_PERCENT.iter().map(|(at, _)| *at as f64).collect();
    let (first, last) = (warned.iter().copied().fold(100.0, f64::min), warned[0]);
    assert_eq!(percents, [first, last]);
}

#[test]
fn alerts_and_dashboard_ask_for_what_is_on_the_page_and_nothing_else() {
    let text = full();
    let known = names(&text);
    let read = |name: &str| std::fs::read_to_string(dist().join(name)).unwrap();
    for file in ["turnip-alerts.yml", "turnip-alerts-test.yml", "turnip-dashboard.json"] {
        let content = read(file);
        let asked: Vec<&str> = names(&content).difference(&known).copied().collect();
        assert!(asked.is_empty(), "{file} asks for {asked:?}");
    }
}

/// Labels whose values are not words of the code's.
const NAMES: [&str; 8] =
    ["vip", "owner", "check", "certificate", "place", "version", "le", "subject"];

/// What the documentation has of the metrics on a page.
fn reference(text: &str) -> String {
    let mut page = "# Metrics\n\n<!-- Written out of the code. Do not edit: BLESS=1 cargo test --workspace --lib metrics -->\n\n\
        Every metric has the labels `cluster` and `node` besides. [Monitoring](monitoring.md) says what to look at.\n\n\
        | metric | kind | labels | what it says |\n|---|---|---|---|\n"
        .to_owned();
    let mut all = BTreeMap::new();
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (family, says) = help.split_once(' ').unwrap();
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {family} ")));
        let kind = kind.unwrap();
        let samples = text.lines().filter(|line| {
            let name = line.split(['{', ' ']).next().unwrap();
            name == family || (kind == "histogram" && name.strip_suffix("_bucket") == Some(family))
        });
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for sample in samples {
            let inner = sample.split_once('{').unwrap().1.rsplit_once('}').unwrap().0;
            for (name, value) in inner.split("\",").filter_map(|label| label.split_once("=\"")) {
                labels.entry(name).or_default().insert(value.trim_end_matches('"'));
            }
        }
        labels.retain(|name, _| !["cluster", "node", "le"].contains(name));
        let shown = labels.iter().map(|(name, values)| match NAMES.contains(name) {
            true => format!("`{name}`"),
            false => format!("`{name}`: {}", Vec::from_iter(values.iter().copied()).join(", ")),
        });
        let shown: Vec<String> = shown.collect();
        let says = says.trim_end_matches('.');
        all.insert(family, format!("| `{family}` | {kind} | {} | {says} |\n", shown.join("; ")));
    }
    page.extend(all.into_values());
    page
}

#[test]
fn the_page_of_the_documentation_has_every_metric() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/metrics.md");
    let page = reference(&full());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&kept, &page).unwrap();
    }
    let said = std::fs::read_to_string(&kept).unwrap_or_default();
    assert_eq!(page, said, "{}: BLESS=1 writes it anew", kept.display());
    for metric in
        ["turnip_vip_gap_seconds", "turnip_check_up", "turnip_etcd_alarm", "turnip_vip_held"]
    {
        assert!(page.contains(metric), "{metric} is not on the page:\n{page}");
    }
}

#[test]
fn every_query_of_the_dashboard_is_one_that_prometheus_understands() {
    let dashboard = std::fs::read_to_string(dist().join("turnip-dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    let rules = queries.iter().enumerate().map(|(number, query)| {
        let query = query.replace("$__rate_interval", "1m");
        serde_json::json!({"record": format!("query:{number}"), "expr": query})
    });
    let rules: Vec<serde_json::Value> = rules.collect();
    assert!(rules.len() > panels.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    // JSON is YAML, too.
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let (succeeded, said) = promtool(&["check", "rules", file.path().to_str().unwrap()], "");
    assert!(succeeded, "{said}");
}
