//! The binary on a host of its own: a network namespace with a real etcd in it. Needs root, etcd
//! and iproute2, and fails without.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use support::host::{Host, PEER, POLL, refused, text, within};
use turnip_netns_tests::binary;
use turnip_netns_tests::etcd::Access;
use turnip_netns_tests::links::Via;

#[test]
fn it_is_ready_with_its_session_holds_the_address_and_leaves_nothing_behind() {
    let host = Host::with_etcd();
    let mut daemon = host.start();
    within("READY", || daemon.notified("READY=1"));
    within("the session in the log", || daemon.log().contains("session"));
    within("the address", || host.has_vip());
    within("the watchdog", || daemon.notified("WATCHDOG=1"));
    within("the status", || daemon.notified("STATUS=holding 1 of 1 VIPs"));

    within("a status with a renewal in it", || {
        let status = host.turnip(&["status", "--json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status.status.code(), Some(0), "{json}");
        assert_eq!(json["vips"]["10.0.0.50"]["owner"], PEER);
        assert_eq!(json["vips"]["10.0.0.50"]["preferred"], PEER);
        assert_eq!(json["nodes"][PEER]["raft_leader"], true);
        // Between two renewals, a late one, it may have listened in vain.
        json["nodes"][PEER]["renewed_ago_ms"].is_u64()
    });

    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert!(daemon.notified("STOPPING=1"));
    host.is_untouched();
    let status = host.turnip(&["status"]).output().unwrap();
    assert_ne!(status.status.code(), Some(0), "{}", text(&status.stdout));
}

#[test]
fn a_second_daemon_and_a_release_are_refused_and_the_first_is_named() {
    let host = Host::with_etcd();
    let mut daemon = host.start();
    within("the address", || host.has_vip());
    let process = format!("process {}", daemon.child.id());
    // Busy, the first has only been seen, and not said its name, when the second gives up.
    within("the first to say its name", || {
        let output = host.turnip(&["run"]).output().unwrap();
        text(&output.stderr).contains(PEER)
    });
    refused(&mut host.turnip(&["run"]), &["another turnip runs", &process]);
    refused(&mut host.turnip(&["release"]), &["another turnip runs", &process, "--force"]);
    assert!(host.has_vip() && host.has_fence());
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

#[test]
fn what_a_killed_daemon_left_is_released_by_hand() {
    let host = Host::with_etcd();
    let mut daemon = host.start();
    within("the address", || host.has_vip());
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    let released = host.turnip(&["release"]).output().unwrap();
    let said = text(&released.stdout);
    assert_eq!(released.status.code(), Some(0), "{said}{}", text(&released.stderr));
    assert!(said.contains("removed 10.0.0.50/32 from lo"), "{said}");
    assert!(said.contains("removed the fence"), "{said}");
    host.is_untouched();
    let again = host.turnip(&["release"]).output().unwrap();
    assert!(text(&again.stdout).contains("nothing to remove"));
}

#[test]
fn a_drained_node_lets_go_until_it_is_undrained() {
    let host = Host::with_etcd();
    let mut daemon = host.start();
    within("the address", || host.has_vip());
    let drained = text(&host.turnip(&["drain"]).output().unwrap().stdout);
    assert!(drained.contains("10.0.0.50 will have no owner"), "{drained}");
    within("the address goes", || !host.has_vip());
    assert_eq!(host.turnip(&["status"]).output().unwrap().status.code(), Some(1));
    refused(&mut host.turnip(&["drain", "host-z"]), &["no node \"host-z\"", PEER]);
    refused(&mut host.turnip(&["pin", "web", PEER]), &["no VIP \"web\"", "10.0.0.50"]);
    assert!(host.turnip(&["undrain", PEER]).output().unwrap().status.success());
    within("the address comes back", || host.has_vip());
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

#[test]
fn without_etcd_it_waits_and_holds_nothing_and_stops_when_asked() {
    let host = Host::bare();
    let mut daemon = host.start();
    within("it says so", || daemon.log().contains("waiting for etcd, holding nothing"));
    within("the watchdog", || daemon.notified("WATCHDOG=1"));
    within("READY, for nobody's boot waits as long", || daemon.notified("READY=1"));
    within("the reason", || daemon.notified("STATUS=waiting for etcd, holding nothing: "));
    // It asks every 3 s, and repeats itself only when there is another reason.
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(daemon.log().matches("waiting for etcd").count(), 1, "{}", daemon.log());
    host.is_untouched();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
    host.is_untouched();
}

#[test]
fn a_member_that_is_not_turnip_id_is_named_and_nothing_is_touched() {
    let host = Host::with_etcd();
    let words = ["TURNIP_ID = \"10.99.0.2\"", "member default", "http://10.99.0.1:2380"];
    refused(host.turnip(&["run"]).env("TURNIP_ID", "10.99.0.2"), &words);
    host.is_untouched();
    let check = host.turnip(&["check"]).env("TURNIP_ID", "10.99.0.2").output().unwrap();
    assert_eq!(check.status.code(), Some(1));
    assert!(text(&check.stdout).contains("error    TURNIP_ID"), "{}", text(&check.stdout));
}

#[test]
fn wrong_credentials_are_refused_and_nothing_is_touched() {
    let host = Host::with_etcd();
    for step in [
        ["user", "add", "root:secret", "--interactive=false"].as_slice(),
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        host.etcdctl(step);
    }
    let right = ["--user", "root"];
    let mut wrong = host.turnip(&["run", right[0], right[1]]);
    refused(wrong.env("TURNIP_ETCD_PASSWORD", "guess"), &["user name or the password is wrong"]);
    refused(&mut host.turnip(&["run"]), &["etcd wants a user and a password"]);
    host.is_untouched();
    let mut check = host.turnip(&["check", right[0], right[1]]);
    let check = check.env("TURNIP_ETCD_PASSWORD", "secret").output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
}

#[test]
fn an_etcd_whose_certificate_is_not_trusted_is_refused_and_nothing_is_touched() {
    let host = Host::with_etcd_and(&Access::Tls(vec!["--auto-tls".to_owned()]));
    // Until etcd listens it is waited for; then its certificate is looked at.
    let run = ["run", "--endpoints", "https://127.0.0.1:2379"];
    refused(&mut host.turnip(&run), &["etcd cannot be trusted", "https://127.0.0.1:2379"]);
    host.is_untouched();
}

#[test]
fn the_two_capabilities_are_enough() {
    let host = Host::with_etcd();
    let log = host.directory.join("turnip.log");
    let mut command = host.command("setpriv");
    let capabilities = "+net_admin,+net_raw";
    let bounding = format!("--bounding-set=-all,{capabilities}");
    let inheritable = format!("--inh-caps=-all,{capabilities}");
    let ambient = format!("--ambient-caps=-all,{capabilities}");
    // Where the binary is may be closed to others: a copy is not.
    let copied = std::env::temp_dir().join(format!("turnip-{}", std::process::id()));
    binary::copy(Path::new(env!("CARGO_BIN_EXE_turnip")), &copied).unwrap();
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"])
        .args([&bounding, &inheritable, &ambient])
        .arg(&copied)
        .arg("run")
        .env("TURNIP_IP", "10.0.0.50")
        .env("TURNIP_NETMASK", "24")
        .env("TURNIP_DEV", "lo")
        .env("TURNIP_ID", PEER)
        .stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let held = POLL.find(|| match host.has_address("10.0.0.50/24") {
        true => Ok(Some(true)),
        false => child.try_wait().map(|ended| ended.map(|_| false)),
    });
    let held = held.unwrap() == Some(true);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let status = child.wait().unwrap();
    std::fs::remove_file(&copied).unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(held && status.success(), "{status}\n{said}");
    host.is_untouched();
}

#[test]
fn an_interface_that_does_not_exist_is_refused_with_what_there_is() {
    let host = Host::with_etcd();
    refused(host.turnip(&["run"]).env("TURNIP_DEV", "lol"), &["TURNIP_DEV", "\"lo\""]);
    host.is_untouched();
}

#[test]
fn missing_capabilities_are_named() {
    let host = Host::bare();
    let binary = env!("CARGO_BIN_EXE_turnip");
    assert!(Path::new(binary).exists());
    let mut command = host.command("setpriv");
    command
        .args(["--bounding-set=-net_raw,-net_admin", binary, "run"])
        .env("TURNIP_IP", "10.0.0.50")
        .env("TURNIP_NETMASK", "32")
        .env("TURNIP_DEV", "lo")
        .env("TURNIP_ID", PEER);
    refused(&mut command, &["CAP_NET_ADMIN and CAP_NET_RAW are missing"]);
    host.is_untouched();
}

#[test]
fn endpoints_that_were_powered_off_delay_neither_a_start_nor_a_command() {
    let host = Host::with_etcd();
    // Nobody answers there, not even that nobody does.
    let lo = Via::Link { name: "lo", metric: 0 };
    host.namespace.add_route("192.0.2.0/24".parse().unwrap(), lo).unwrap();
    let endpoints = "http://192.0.2.1:2379,http://192.0.2.2:2379,http://127.0.0.1:2379";
    let began = Instant::now();
    let mut daemon = host.start_with(&[("TURNIP_ENDPOINTS", endpoints)]);
    within("the address", || host.has_vip());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}\n{}", began.elapsed(), daemon.log());
    let drained = host.turnip(&["drain"]).env("TURNIP_ENDPOINTS", endpoints).output().unwrap();
    assert!(drained.status.success(), "{}", text(&drained.stderr));
    within("the address goes", || !host.has_vip());
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}

/// Stops the thread of this name, and no other, until the process ends.
fn hang(process: u32, name: &str) -> std::thread::JoinHandle<()> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let thread = tasks
        .map(|task| task.unwrap().path())
        .find(|task| std::fs::read_to_string(task.join("comm")).unwrap().trim() == name)
        .unwrap_or_else(|| panic!("no thread {name}"));
    let thread = Pid::from_raw(thread.file_name().unwrap().to_str().unwrap().parse().unwrap());
    let (stopped, seen) = std::sync::mpsc::channel();
    let tracer = std::thread::spawn(move || {
        ptrace::attach(thread).unwrap();
        while let Ok(WaitStatus::Stopped(..)) = waitpid(thread, Some(WaitPidFlag::__WALL)) {
            let _ = stopped.send(());
        }
    });
    seen.recv().expect("the thread to stop");
    tracer
}

#[test]
fn a_daemon_that_the_kernel_does_not_answer_ends_so_that_others_take_over() {
    let host = Host::with_etcd();
    let mut daemon = host.start();
    within("the address", || host.has_vip());
    let tracer = hang(daemon.child.id(), "kernel");
    let hung = Instant::now();
    assert_eq!(daemon.wait(), Some(1), "{}", daemon.log());
    tracer.join().unwrap();
    let lasted = hung.elapsed();
    assert!(lasted > Duration::from_secs(3) && lasted < Duration::from_secs(6), "{lasted:?}");
    let said = daemon.log();
    assert!(said.contains("giving up: the kernel has not answered for 3s"), "{said}");
    // The kernel takes the address away by itself, and the fence stays.
    within("the address goes", || !host.has_vip());
    assert!(host.has_fence());
}

#[test]
fn a_foreign_value_is_named_and_the_rest_goes_on() {
    let host = Host::with_etcd();
    host.etcdctl(&["put", "/turnip/main/vips/web", "hello"]);
    let mut daemon = host.start();
    within("the address", || host.has_vip());
    within("it is named", || daemon.log().contains("/turnip/main/vips/web"));
    let status = text(&host.turnip(&["status"]).output().unwrap().stdout);
    assert!(status.contains("/turnip/main/vips/web is left alone"), "{status}");
    let kept = host.etcdctl(&["get", "--print-value-only", "/turnip/main/vips/web"]);
    assert_eq!(text(&kept.stdout).trim(), "hello");
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
}
