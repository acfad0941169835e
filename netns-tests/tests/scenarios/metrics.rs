//! What Prometheus, and who asks whether a daemon is ready, are told.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::TurnipSettings;
use turnip_netns_tests::plan::{Plan, Probed};

use crate::{a_lease_passes, with_settings};

pub const ADDRESS: &str = "127.0.0.1:9464";

fn with_metrics() -> Plan {
    with_settings(TurnipSettings { metrics: Some(ADDRESS.into()), ..TurnipSettings::default() })
}

fn name(host: usize) -> String {
    format!("h{}", host + 1)
}

/// The status and the text that a host answers with.
pub fn get(cluster: &Cluster, host: usize, path: &str) -> Result<(u16, String)> {
    let answer = cluster.host(host).namespace().run(|| {
        let mut stream = TcpStream::connect(ADDRESS)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let (head, text) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok((status.parse()?, text.to_owned()))
}

/// The value of a host's metric with these labels, besides those that all have.
fn metric(cluster: &Cluster, host: usize, metric: &str, labels: &str) -> Result<f64> {
    let (status, text) = get(cluster, host, "/metrics")?;
    ensure!(status == 200, "{status}: {text}");
    let labels = if labels.is_empty() { String::new() } else { format!(",{labels}") };
    let sample = format!("{metric}{{cluster=\"main\",node=\"{}\"{labels}}} ", name(host));
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    Ok(value.with_context(|| format!("no {sample}in {text}"))?.parse()?)
}

/// Waits until a host's metric has this value.
fn wait_for(cluster: &Cluster, host: usize, of: (&str, &str), value: f64) -> Result<()> {
    let what = format!("{}{{{}}} of {} is {value}", of.0, of.1, name(host));
    cluster.wait(&what, || Ok(metric(cluster, host, of.0, of.1)? == value))
}

/// Waits until a host answers so at a path.
fn wait_for_answer(cluster: &Cluster, host: usize, path: &str, answer: (u16, &str)) -> Result<()> {
    let what = format!("{} answers {answer:?} at {path}", name(host));
    let is_so = |(status, text): (u16, String)| status == answer.0 && text.contains(answer.1);
    // Nobody may listen yet.
    cluster.wait(&what, || Ok(get(cluster, host, path).is_ok_and(is_so)))
}

/// Has promtool look at the page of a host.
fn check(cluster: &Cluster, host: usize) -> Result<()> {
    let (_, text) = get(cluster, host, "/metrics")?;
    let mut promtool = cluster.host(host).namespace().command("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.stdout(Stdio::piped()).spawn().context("promtool")?;
    promtool.stdin.take().context("it is piped")?.write_all(text.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    if !output.status.success() || !said.is_empty() {
        bail!("{}\n{text}", String::from_utf8_lossy(&said));
    }
    Ok(())
}

#[test]
fn prometheus_is_told_who_holds_a_vip_why_it_moved_and_how_long_nobody_had_it() -> Result<()> {
    let mut cluster = Cluster::start(with_metrics())?;
    let owner = cluster.wait_until_settled()?;
    let held = ("turnip_vip_held", "vip=\"api\"");
    for host in 0..3 {
        wait_for(&cluster, host, held, f64::from(u8::from(host == owner)))?;
        let owned = format!("vip=\"api\",owner=\"{}\"", name(owner));
        wait_for(&cluster, host, ("turnip_vip_owner", &owned), 1.0)?;
        wait_for_answer(&cluster, host, "/readyz", (200, "ready"))?;
        wait_for_answer(&cluster, host, "/healthz", (200, "alive"))?;
        wait_for(&cluster, host, ("turnip_nodes", ""), 3.0)?;
        check(&cluster, host)?;
        assert!(metric(&cluster, host, "turnip_renewal_duration_seconds_count", "")? > 0.0);
        assert!(metric(&cluster, host, "turnip_lease_left_seconds", "")? <= 3.0);
    }
    assert!(metric(&cluster, owner, "turnip_announcements_total", "")? >= 1.0);
    let from = cluster.note("drain");
    cluster.turnip(&["drain", &name(owner)])?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    wait_for(&cluster, next, held, 1.0)?;
    wait_for(&cluster, owner, held, 0.0)?;
    wait_for(&cluster, owner, ("turnip_vip_departures_total", "reason=\"drained\""), 1.0)?;
    wait_for(&cluster, next, ("turnip_vip_arrivals_total", "reason=\"handed-over\""), 1.0)?;
    let handed_over = "reason=\"handed-over\"";
    assert_eq!(metric(&cluster, next, "turnip_vip_gap_seconds_count", handed_over)?, 1.0);
    assert!(metric(&cluster, next, "turnip_vip_gap_seconds_sum", handed_over)? < 1.0);
    // It holds nothing, and should not.
    wait_for_answer(&cluster, owner, "/readyz", (200, "ready"))?;
    cluster.check(from, Outcome::moved())?;
    let from = cluster.note("the new holder loses its power, and the third takes over");
    cluster.power_off(next)?;
    let third = cluster.wait_for_owner_among(|host| host != next)?;
    let expired = "reason=\"expired\"";
    wait_for(&cluster, third, ("turnip_vip_arrivals_total", expired), 1.0)?;
    let gap = metric(&cluster, third, "turnip_vip_gap_seconds_sum", expired)?;
    assert!(gap >= 2.9, "{gap}");
    cluster.power_on(next)?;
    wait_for_answer(&cluster, next, "/readyz", (200, "ready"))?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_host_without_etcd_lives_and_is_not_ready_and_says_what_is_missing() -> Result<()> {
    let mut cluster =
        Cluster::lay_out(Plan { hosts: 1, probed: Probed::Nothing, ..with_metrics() })?;
    let of_another = cluster.host(0).namespace().run(|| Ok(TcpListener::bind(ADDRESS)?))?;
    cluster.stop_etcd()?;
    cluster.start_daemon(0)?;
    cluster.wait("it says why there are no metrics", || {
        Ok(cluster.logs().contains("no metrics, until metrics = \"127.0.0.1:9464\" can be had"))
    })?;
    drop(of_another);
    wait_for_answer(&cluster, 0, "/healthz", (200, "alive"))?;
    wait_for_answer(&cluster, 0, "/readyz", (503, "waiting for etcd"))?;
    check(&cluster, 0)?;
    assert_eq!(metric(&cluster, 0, "turnip_session", "")?, 0.0);
    cluster.start_etcd()?;
    wait_for_answer(&cluster, 0, "/readyz", (200, "ready"))?;
    wait_for(&cluster, 0, ("turnip_etcd_answers", ""), 1.0)?;
    assert_eq!(metric(&cluster, 0, "turnip_vip_held", "vip=\"api\"")?, 1.0);
    cluster.note("etcd is stopped");
    cluster.stop_etcd()?;
    wait_for(&cluster, 0, ("turnip_etcd_answers", ""), 0.0)?;
    wait_for_answer(&cluster, 0, "/readyz", (503, "api is not held here"))?;
    wait_for_answer(&cluster, 0, "/healthz", (200, "alive"))?;
    let failures = ["timeout", "unavailable"].map(|cause| {
        let labels = format!("request=\"renewal\",cause=\"{cause}\"");
        metric(&cluster, 0, "turnip_etcd_failures_total", &labels)
    });
    let [in_vain, at_once] = failures;
    assert!(in_vain? + at_once? > 0.0);
    let not_renewed = ("turnip_vip_departures_total", "reason=\"not-renewed\"");
    wait_for(&cluster, 0, not_renewed, 1.0)?;
    cluster.start_etcd()?;
    wait_for_answer(&cluster, 0, "/readyz", (200, "ready"))?;
    wait_for(&cluster, 0, ("turnip_vip_arrivals_total", "reason=\"returned\""), 1.0)?;
    cluster.assert_daemons_are_well()
}
