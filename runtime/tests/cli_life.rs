//! How the daemon starts, stays alone, lives with etcd's growth, and stops: on a host of its own with a
//! real etcd. Needs root, etcd, iproute2 and perl, and fails without.

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::host::{Host, PEER, refused, text, within};

const VIP: &str = "10.0.0.50";

/// A process that ends with this value.
struct Helper(Child);

impl Helper {
    /// Started, and ready when it has said so.
    fn start(command: &mut Command) -> Self {
        use std::io::Read;
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the helper is installed");
        let mut ready = [0; 1];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).expect("the helper is ready");
        Helper(child)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whoever has this abstract socket, as some user without privileges.
fn squatter(host: &Host) -> Helper {
    let script = r#"use Socket; $| = 1;
        socket(S, AF_UNIX, SOCK_STREAM, 0) or die; bind(S, pack_sockaddr_un("\0turnip")) or die $!;
        listen(S, 5) or die; print "x"; sleep 60 while 1;"#;
    let mut command = host.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-e", script]);
    Helper::start(&mut command)
}

/// Rule 6.8.
#[test]
fn nobody_without_privileges_keeps_it_from_starting_and_it_is_still_alone() {
    let host = Host::with_etcd();
    let _squatter = squatter(&host);
    let mut daemon = host.start();
    within("the address", || host.has_vip());
    refused(&mut host.turnip(&["run"]), &["another turnip runs in this network namespace"]);
    refused(&mut host.turnip(&["release"]), &["another turnip runs in this network namespace"]);
    // A container with the host's network has files and process ids of its own.
    let mut contained = host.command("unshare");
    contained.args([
        "--mount-proc",
        "--pid",
        "--fork",
        "--ipc",
        env!("CARGO_BIN_EXE_turnip"),
        "run",
    ]);
    let as_first = host.turnip(&["run"]);
    contained.envs(as_first.get_envs().filter_map(|(name, value)| Some((name, value?))));
    refused(&mut contained, &["another turnip runs in this network namespace"]);
    assert!(host.has_vip() && host.has_fence());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    // And the place is free at once.
    let mut next = host.start();
    within("the address of the next", || host.has_vip());
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(), Some(0), "{}", next.log());
}

#[test]
fn whoever_waits_for_an_address_goes_on_when_it_is_held_and_is_told_why_when_not() {
    let host = Host::with_etcd();
    let wait = |timeout: &str| {
        let mut command = host.turnip(&["wait", "--held", VIP, "--timeout", timeout]);
        command.env("RUNTIME_DIRECTORY", host.directory.join("run"));
        command
    };
    refused(&mut wait("0s"), &["not within 0ns", "no node knows a VIP 10.0.0.50"]);
    let waiting = wait("20s").stdout(Stdio::piped()).spawn().unwrap();
    let run = host.directory.join("run");
    let mut daemon = host.start_with(&[("RUNTIME_DIRECTORY", run.to_str().unwrap())]);
    let waited = waiting.wait_with_output().unwrap();
    assert!(waited.status.success(), "{}", daemon.log());
    assert_eq!(text(&waited.stdout), format!("{VIP} is held by {PEER}\n"));
    assert!(host.has_vip());
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    refused(&mut wait("0s"), &["10.0.0.50"]);
}

/// Rule 5.5.
#[test]
fn a_stop_with_nothing_held_takes_one_request_of_an_etcd_that_is_gone_however_long_the_lease_is() {
    let host = Host::with_etcd();
    let mut daemon = host.start_with(&[("TURNIP_LEASE", "20s"), ("TURNIP_RENEW", "1s")]);
    within("the address", || host.has_vip());
    assert!(host.turnip(&["drain", PEER]).output().unwrap().status.success());
    within("the address goes", || !host.has_vip());
    within("and is nobody's", || {
        host.turnip(&["status"]).output().unwrap().status.code() == Some(1)
    });
    host.etcd.as_ref().unwrap().freeze().unwrap();
    let asked = Instant::now();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    host.is_untouched();
}

#[test]
fn a_stop_that_waits_for_etcd_has_the_service_manager_wait_as_long() {
    let host = Host::with_etcd();
    let mut daemon = host.start_with(&[("TURNIP_LEASE", "20s")]);
    within("the address", || host.has_vip());
    host.etcd.as_ref().unwrap().freeze().unwrap();
    daemon.signal(Signal::SIGTERM);
    within("it asks for more time", || daemon.notified("EXTEND_TIMEOUT_USEC=15000000"));
    within("the address is gone meanwhile", || !host.has_vip());
    assert!(daemon.child.try_wait().unwrap().is_none(), "{}", daemon.log());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    host.is_untouched();
}

/// A configuration beside the four variables.
fn file(host: &Host, text: &str) -> String {
    let path = host.directory.join("turnip.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_etcd_that_nobody_compacts_is_compacted_and_one_that_grows_full_is_told_of() {
    let host = Host::with_etcd_arguments(&["--quota-backend-bytes=16777216"]);
    let large = "x".repeat(100_000);
    for number in 0..125 {
        let key = format!("/turnip-check/filler/{number}");
        let put = host.etcdctl(&["put", &key, &large]);
        assert!(put.status.success(), "{}", text(&put.stderr));
    }
    let (file, run) = (file(&host, "[etcd]\ncompact = \"3s\"\n"), host.directory.join("run"));
    let run = run.to_str().unwrap();
    let mut daemon = host.start_with(&[("TURNIP_CONFIG", &file), ("RUNTIME_DIRECTORY", run)]);
    within("the address", || host.has_vip());
    within("its size in the log", || daemon.log().contains("% of its quota"));
    let said = host.turnip(&["status"]).env("RUNTIME_DIRECTORY", run).output().unwrap();
    assert!(text(&said.stdout).contains("% of its quota"), "{}", text(&said.stdout));
    within("the history is compacted", || {
        let old = host.etcdctl(&["get", "--rev=1", "/turnip/"]);
        text(&old.stderr).contains("compacted")
    });
    assert!(daemon.log().contains("nobody else compacts"), "{}", daemon.log());
    assert_eq!(daemon.log().matches("% of its quota").count(), 1, "{}", daemon.log());
    assert!(host.has_vip());
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

#[test]
fn turnip_does_not_compact_where_it_shall_not() {
    let host = Host::with_etcd();
    let (file, run) = (file(&host, "[etcd]\ncompact = \"never\"\n"), host.directory.join("run"));
    let check = host.turnip(&["check"]).env("TURNIP_CONFIG", &file).output().unwrap();
    assert!(text(&check.stdout).contains("nobody has compacted yet"), "{}", text(&check.stdout));
    let check = host.turnip(&["check"]).env("RUNTIME_DIRECTORY", run).output().unwrap();
    assert!(text(&check.stdout).contains("turnip compacts"), "{}", text(&check.stdout));
    assert!(text(&check.stdout).contains("of 2048 MiB"), "{}", text(&check.stdout));
    refused_as_wrong(&host, "[etcd]\ncompact = \"soon\"\n", &["etcd.compact", "\"never\""]);
    refused_as_wrong(&host, "[etcd]\nquota = \"8GB\"\n", &["etcd.quota", "8GiB"]);
}

#[track_caller]
fn refused_as_wrong(host: &Host, configuration: &str, words: &[&str]) {
    let file = file(host, configuration);
    let output = host.turnip(&["run"]).env("TURNIP_CONFIG", &file).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn a_host_whose_member_is_a_proxy_says_so_and_leads_nothing() {
    let host = Host::with_etcd();
    let mut command = host.command(&turnip_netns_tests::etcd::binary());
    command.args(["grpc-proxy", "start", "--endpoints=127.0.0.1:2379"]);
    command.args(["--listen-addr=127.0.0.1:23790", "--advertise-client-url=127.0.0.1:23790"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _proxy = Helper(command.spawn().unwrap());
    let proxy = "http://127.0.0.1:23790";
    within("the proxy answers", || {
        host.etcdctl(&["--endpoints", proxy, "endpoint", "health"]).status.success()
    });
    let file = file(&host, "[etcd]\nendpoints = [\"http://127.0.0.1:2379\"]\n");
    let variables = [("TURNIP_CONFIG", file.as_str()), ("TURNIP_LOCAL_ENDPOINT", proxy)];
    let mut daemon = host.start_with(&variables);
    within("the address, which somebody must have", || host.has_vip());
    within("what is amiss", || daemon.log().contains("etcd's grpc-proxy, and no member"));
    assert_eq!(daemon.log().matches("no member of its own").count(), 1, "{}", daemon.log());
    assert!(!daemon.log().contains("is the raft leader"), "{}", daemon.log());
    let mut check = host.turnip(&["check"]);
    variables.iter().for_each(|(name, value)| {
        check.env(name, value);
    });
    let said = text(&check.output().unwrap().stdout);
    let line = said.lines().find(|line| line.contains("etcd.local")).unwrap_or_default();
    assert!(line.starts_with("error") && line.contains(proxy), "{said}");
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

/// A full etcd takes no renewal, and so nobody is known to hold anything.
#[test]
fn status_does_not_say_that_all_is_held_when_etcd_is_full() {
    let host = Host::with_etcd_arguments(&["--quota-backend-bytes=16777216"]);
    let daemon = host.start_with(&[("TURNIP_LEASE", "1s")]);
    within("the address", || host.has_vip());
    let status = || host.turnip(&["status"]).output().unwrap();
    assert_eq!(status().status.code(), Some(0), "{}", daemon.log());
    let large = "x".repeat(120_000);
    within("etcd is full", || {
        !host.etcdctl(&["put", "/turnip-check/filler", &large]).status.success()
    });
    within("the address goes", || !host.has_vip());
    let said = status();
    assert_eq!(said.status.code(), Some(1), "{}", text(&said.stdout));
    assert!(text(&said.stdout).contains("nobody holds it"), "{}", text(&said.stdout));
}

/// That a node is silent says something only while etcd would have told of it.
#[test]
fn an_etcd_that_falls_silent_while_status_listens_has_not_answered() {
    let host = Host::with_etcd();
    let mut daemon = host.start_with(&[("TURNIP_LEASE", "3s")]);
    within("the address", || host.has_vip());
    daemon.signal(Signal::SIGKILL);
    daemon.child.wait().unwrap();
    let status = host.turnip(&["status"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    // It has read by then, or gets no answer at all: both are none.
    std::thread::sleep(Duration::from_secs(1));
    host.etcd.as_ref().unwrap().freeze().unwrap();
    let output = status.unwrap().wait_with_output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("silent"), "{said}");
}
