//! Checks of what stands behind an address.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use turnip_netns_tests::background::Background;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Policy, TurnipSettings};
use turnip_netns_tests::plan::Plan;

use crate::{VERY_LONG_LEASE, a_lease_passes, with_settings};

const SERVICE: &str = "127.0.0.1:8080";
const METRICS: &str = "127.0.0.1:9464";

/// What the address stands for on a host: it answers with 200, or with 503.
pub(crate) struct Service {
    works: Arc<AtomicBool>,
    _server: Background,
}

impl Service {
    fn start(cluster: &Cluster, host: usize) -> Result<Self> {
        let listener = cluster.host(host).namespace().run(|| Ok(TcpListener::bind(SERVICE)?))?;
        listener.set_nonblocking(true)?;
        let works = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&works);
        let server = Background::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => answer(stream, seen.load(Ordering::Relaxed)),
                    Err(_) => sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Service { works, _server: server })
    }

    pub(crate) fn set(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
    }
}

/// Whoever has asked may have given up.
fn answer(mut stream: TcpStream, works: bool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let _ = stream.read(&mut [0; 1024]);
    let status = if works { "200 OK" } else { "503 Service Unavailable" };
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
}

/// The lines of a VIP that depends on the service, and of the check.
pub(crate) fn checked(last_resort: &str, fall: u32) -> Vec<String> {
    let lines = format!(
        "checks = [\"api\"]\nlast_resort = \"{last_resort}\"\n\n[[check]]\nname = \"api\"\nhttp = \"http://{SERVICE}/health\"\ninterval = \"200ms\"\nrise = 1\nfall = {fall}"
    );
    vec![lines]
}

pub(crate) fn with_checks(lines: Vec<String>) -> Plan {
    let policy = Policy::Priority { preempt: true };
    with_settings(TurnipSettings { policy, vip_lines: lines, ..TurnipSettings::default() })
}

pub(crate) fn start(plan: Plan) -> Result<(Cluster, Vec<Service>)> {
    let mut cluster = Cluster::lay_out(plan)?;
    let hosts = 0..cluster.size();
    let services = hosts.map(|host| Service::start(&cluster, host)).collect::<Result<_>>()?;
    for host in cluster.plan().in_order_of_start() {
        cluster.start_daemon(host)?;
    }
    Ok((cluster, services))
}

#[test]
fn a_host_whose_service_fails_passes_the_address_on_and_says_why_everywhere() -> Result<()> {
    let (mut cluster, services) = start(with_checks(checked("keep", 1)))?;
    cluster.wait_for_owner_among(|host| host == 0)?;
    let from = cluster.note("the service of h1 fails");
    services[0].set(false);
    let next = cluster.wait_for_owner_among(|host| host != 0)?;
    let why = "/health answers 503 Service Unavailable";
    let status = cluster.status()?;
    let check = &status["nodes"]["h1"]["checks"]["api"];
    ensure!(check["state"] == "down" && check["reason"] == why, "{status}");
    ensure!(status["nodes"]["h2"]["checks"]["api"]["state"] == "up", "{status}");
    let (_, text) = cluster.turnip_says(&["status"])?;
    ensure!(text.contains("check api of h1 fails since") && text.contains(why), "{text}");
    let (_, text) = cluster.turnip_says(&["why", "api"])?;
    ensure!(
        text.contains(&format!(
            "h1: priority 100, only where nobody is better, for check api fails: {why}"
        )),
        "{text}"
    );
    let (code, text) = cluster.turnip_on(0, &["check"])?;
    ensure!(code == Some(1) && text.contains(&format!("http fails: {why}")), "{text}");
    let (_, text) = cluster.turnip_on(next, &["check"])?;
    ensure!(text.contains("http passes"), "{text}");
    cluster.note("it works again");
    services[0].set(true);
    cluster.wait_for_owner_among(|host| host == 0)?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn nothing_is_taken_before_the_first_answer_and_a_restarted_daemon_keeps_what_it_has() -> Result<()>
{
    let plan = Plan { hosts: 1, ..with_checks(checked("release", 3)) };
    let plan = plan.with_lease(VERY_LONG_LEASE);
    let mut cluster = Cluster::lay_out(plan)?;
    cluster.start_daemon(0)?;
    // Nobody listens there yet.
    cluster.wait("it has been tried", || {
        Ok(cluster.status()?["nodes"]["h1"]["checks"]["api"]["state"] == "down")
    })?;
    ensure!(cluster.nobody_has_it()?, "{}", cluster.logs());
    let service = Service::start(&cluster, 0)?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the daemon is killed, and started again");
    cluster.kill_daemon(0)?;
    cluster.start_daemon(0)?;
    cluster.wait("it checks again", || {
        Ok(cluster.status()?["nodes"]["h1"]["checks"]["api"]["state"] == "up")
    })?;
    a_lease_passes();
    service.set(true);
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// The page of metrics of the only host.
fn metrics(cluster: &Cluster) -> Result<String> {
    cluster.host(0).namespace().run(|| {
        let mut stream = TcpStream::connect(METRICS)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// The sum of all samples of a metric, and how many there are.
fn sum(page: &str, metric: &str) -> Result<(f64, usize)> {
    let values = page.lines().filter(|line| line.starts_with(metric) && !line.starts_with('#'));
    let value = |line: &str| Ok(line.rsplit(' ').next().context("a value")?.parse::<f64>()?);
    let values: Vec<f64> = values.map(value).collect::<Result<_>>()?;
    Ok((values.iter().sum(), values.len()))
}

/// Two hundred checks a second: most are programs that are well, and some hang, fork, and flood.
fn many() -> Vec<String> {
    let kinds = |number: u32| match number % 40 {
        0 => "exec = [\"/bin/sh\", \"-c\", \"sleep 1000 & sleep 1000\"]",
        1 => "exec = [\"/bin/sh\", \"-c\", \"(sleep 1000 &) ; (sleep 1000 &) ; exit 0\"]",
        2 => "exec = [\"/usr/bin/head\", \"-c\", \"4000000\", \"/dev/zero\"]",
        3..=20 => "exec = [\"/bin/true\"]",
        21..=30 => "tcp = \"127.0.0.1:2379\"",
        31..=35 => "file = \"/nowhere/maintenance\"",
        _ => "interface = \"lo\"",
    };
    let table = |number: u32| {
        let kind = kinds(number);
        format!(
            "[[check]]\nname = \"c{number}\"\n{kind}\nnode = true\nweight = -1\ntimeout = \"500ms\"\n"
        )
    };
    (0..200).map(table).collect()
}

#[test]
fn two_hundred_checks_a_second_that_hang_fork_and_flood_keep_no_renewal_waiting() -> Result<()> {
    let settings = TurnipSettings {
        policy: Policy::Priority { preempt: true },
        vip_lines: many(),
        metrics: Some(METRICS.into()),
        ..TurnipSettings::default()
    };
    let mut cluster = Cluster::start(Plan { hosts: 1, ..with_settings(settings) })?;
    let owner = cluster.wait_for_owner()?;
    cluster.wait("it answers", || Ok(metrics(&cluster).is_ok()))?;
    let from = cluster.note("checks go on");
    let attempts = |page: &str| sum(page, "turnip_check_attempts_total");
    let before = attempts(&metrics(&cluster)?)?;
    let begun = Instant::now();
    let mut least = f64::MAX;
    while begun.elapsed() < Duration::from_secs(5) {
        least = least.min(sum(&metrics(&cluster)?, "turnip_lease_left_seconds")?.0);
        sleep(Duration::from_millis(50));
    }
    let page = metrics(&cluster)?;
    let per_second = (attempts(&page)?.0 - before.0) / begun.elapsed().as_secs_f64();
    // Of a lease of 3 s, renewed every half a second.
    ensure!(least > 1.5, "{least} s were left once: {}", cluster.logs());
    ensure!(per_second > 100.0, "{per_second} attempts a second");
    ensure!(attempts(&page)?.1 == 400, "{page}");
    let (up, count) = sum(&page, "turnip_check_up{")?;
    ensure!(count == 200 && up == 190.0, "{up} of {count} are up: {page}");
    let zombies = zombies(&cluster)?;
    ensure!(zombies.len() < 40, "{zombies:?}");
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// Processes of the host that are dead, and that nobody has reaped.
fn zombies(cluster: &Cluster) -> Result<Vec<i32>> {
    let is_zombie = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    };
    Ok(cluster.host(0).namespace().processes()?.into_iter().filter(is_zombie).collect())
}
