//! The lab itself: what it leaves behind, what it refuses, and that its observers see what is wrong.

use std::convert::Infallible;
use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnip_netns_tests::binary;
use turnip_netns_tests::cleanup::{self, PREFIX};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::Daemon;
use turnip_netns_tests::lab::{KEEP_VARIABLE, KEPT_PREFIX, Lab};
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::plan::{EtcdPlan, Plan};
use turnip_netns_tests::poll::Poll;
use turnip_netns_tests::process::{Process, ended_by, processes_in};
use turnip_netns_tests::responder::service;
use turnip_netns_tests::switch::Fault;

const DEMO: &str = env!("CARGO_BIN_EXE_turnip-demo");

fn keepalived() -> Plan {
    let daemon = Daemon::Keepalived { advert_ms: 100 };
    Plan { daemon, etcd: EtcdPlan::None, ..Plan::default() }
}

/// Namespaces and directories of labs of this process.
fn leftovers_of(process: u32) -> Vec<String> {
    let places = ["/run/netns".into(), cleanup::directory()];
    let entries = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten();
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("{PREFIX}{process}-"))).collect()
}

/// Processes whose arguments or environment name a file of a lab, whoever their parent is now.
fn processes_with(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |path: PathBuf| {
        path.file_name()?.to_str()?.parse::<u32>().ok()?;
        let read = |file| std::fs::read(path.join(file)).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', " ");
        let (arguments, environment) = (text(&read("cmdline")), text(&read("environ")));
        let found = arguments.contains(directory) || environment.contains(directory);
        found.then(|| format!("{}: {arguments}", path.display()))
    };
    entries.filter_map(|entry| of(entry.path())).collect()
}

/// Processes of the first lab of this process, whose files may be ones to keep.
fn processes_of(process: u32) -> Vec<String> {
    processes_with(&format!("-{process}-0/"))
}

/// etcd and turnip on three hosts.
const PROCESSES: usize = 6;

fn wait_until(what: &str, mut is: impl FnMut() -> bool) -> Result<()> {
    let in_time = Poll::every(Duration::from_millis(20)).is_so::<anyhow::Error>(|| Ok(is()))?;
    anyhow::ensure!(in_time, "not in time: {what}");
    Ok(())
}

/// What is killed is gone soon, but not at once.
fn assert_soon_none(processes: impl Fn() -> Vec<String>) {
    let soon = Poll::every(Duration::from_millis(10)).within(Duration::from_secs(3));
    let _: Result<bool, Infallible> = soon.is_so(|| Ok(processes().is_empty()));
    assert_eq!(processes(), Vec::<String>::new());
}

/// The demonstration, once everything runs.
fn demo_in_the_middle() -> Result<Child> {
    start_demo(Command::new(DEMO).env_remove(KEEP_VARIABLE))
}

fn start_demo(command: &mut Command) -> Result<Child> {
    let mut demo = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let begun = wait_until("the demonstration has begun", || {
        leftovers_of(demo.id()).len() >= 8 && processes_of(demo.id()).len() >= PROCESSES
    });
    if begun.is_err() {
        demo.kill()?;
        demo.wait()?;
    }
    begun.map(|()| demo)
}

fn send(signal: Signal, to: &Child) -> Result<()> {
    Ok(kill(Pid::from_raw(to.id().cast_signed()), signal)?)
}

#[test]
fn a_lab_that_is_interrupted_leaves_nothing_behind() -> Result<()> {
    let mut demo = demo_in_the_middle()?;
    send(Signal::SIGINT, &demo)?;
    let status = demo.wait()?;
    assert_eq!(status.code(), Some(130));
    assert_eq!(leftovers_of(demo.id()), Vec::<String>::new());
    assert_soon_none(|| processes_of(demo.id()));
    Ok(())
}

#[test]
fn a_lab_that_is_interrupted_while_it_is_built_leaves_nothing_behind() -> Result<()> {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    for (built, signal) in (1..=9).zip(signals.into_iter().cycle()) {
        let mut command = Command::new(DEMO);
        command.env_remove(KEEP_VARIABLE).stdout(Stdio::null()).stderr(Stdio::null());
        let mut demo = command.spawn()?;
        // Without a pause, to hit it while it makes the next thing.
        let has_built = || Ok(leftovers_of(demo.id()).len() >= built);
        let in_time = Poll::every(Duration::ZERO).is_so::<anyhow::Error>(has_built)?;
        anyhow::ensure!(in_time, "fewer than {built} things were made");
        send(signal, &demo)?;
        assert_eq!(demo.wait()?.code(), Some(128 + signal as i32), "{signal}");
        assert_eq!(leftovers_of(demo.id()), Vec::<String>::new(), "after {built} things");
        assert_soon_none(|| processes_of(demo.id()));
    }
    Ok(())
}

#[test]
fn a_lab_whose_test_panics_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::start(Plan::default())?;
    let directory = cluster.lab().directory().to_owned();
    let files = format!("{}/", directory.display());
    let prefix = format!("{}-", cluster.lab().name());
    let namespaces = || {
        let names = leftovers_of(std::process::id()).into_iter();
        names.filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>()
    };
    assert_eq!(processes_with(&files).len(), PROCESSES, "{:?}", processes_with(&files));
    assert!(namespaces().len() >= 8, "{:?}", namespaces());
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        panic!("on purpose, in a lab of {} hosts", cluster.size());
    }));
    assert!(panicked.is_err());
    // At once: nobody waits after a panic.
    assert_eq!(processes_with(&files), Vec::<String>::new());
    assert_eq!(namespaces(), Vec::<String>::new());
    assert_eq!(directory.exists(), std::env::var_os(KEEP_VARIABLE).is_some());
    Ok(())
}

/// What was kept of labs of this process.
fn kept_of(process: u32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cleanup::directory()).into_iter().flatten().flatten();
    let ours = |name: &str| name.starts_with(KEPT_PREFIX) && name.contains(&format!("-{process}-"));
    let found = entries.filter(|entry| entry.file_name().to_str().is_some_and(ours));
    found.map(|entry| entry.path()).collect()
}

#[test]
fn files_that_are_to_be_kept_survive_the_lab_and_the_next_one() -> Result<()> {
    let mut demo = start_demo(Command::new(DEMO).env(KEEP_VARIABLE, "1"))?;
    send(Signal::SIGINT, &demo)?;
    demo.wait()?;
    let _next = Lab::new()?;
    let kept = kept_of(demo.id());
    let directory = kept.first().context("nothing was kept")?;
    let log = std::fs::read_to_string(directory.join("h1").join("daemon.log"));
    std::fs::remove_dir_all(directory)?;
    log?;
    Ok(())
}

#[test]
fn what_a_killed_lab_leaves_behind_is_removed_by_the_next_one() -> Result<()> {
    let mut demo = demo_in_the_middle()?;
    // The lab's processes die with it; what they have started need not.
    let names = leftovers_of(demo.id());
    let host = names.iter().find(|name| name.ends_with("-h1")).context("a host")?;
    let namespace = std::fs::metadata(Path::new("/run/netns").join(host))?.ino();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", host, "sleep", "60"]);
    let mut stray = Process::start(command, "a stray process", "/dev/null".into())?;
    let stray_id = stray.id().cast_signed();
    wait_until("it is there", || processes_in(namespace).is_ok_and(|all| all.contains(&stray_id)))?;
    send(Signal::SIGKILL, &demo)?;
    demo.wait()?;
    assert_soon_none(|| processes_of(demo.id()));
    let _next = Lab::new()?;
    assert_eq!(leftovers_of(demo.id()), Vec::<String>::new());
    assert!(ended_by(stray.wait(Duration::from_secs(3))?, Signal::SIGKILL));
    Ok(())
}

#[test]
fn without_root_the_lab_fails_and_says_so() -> Result<()> {
    // Where everybody may go: the build's own directory need not be.
    let name = format!("turnip-nobody-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory)?;
    std::fs::set_permissions(&directory, Permissions::from_mode(0o777))?;
    let demo = directory.join("turnip-demo");
    binary::copy(Path::new(DEMO), &demo)?;
    let mut command = Command::new(&demo);
    let output = command.uid(65_534).env("TURNIP_LAB_DIR", &directory).current_dir("/").output()?;
    std::fs::remove_dir_all(&directory)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("need root"), "{said}");
    Ok(())
}

#[test]
fn the_observers_see_two_hosts_of_keepalived_with_one_address() -> Result<()> {
    let mut cluster = Cluster::start(keepalived()).context("is keepalived installed?")?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the master is cut off");
    cluster.isolate(owner)?;
    sleep(Duration::from_secs(2));
    let seen = cluster.since(from)?;
    assert!(seen.overlap > Duration::from_millis(500), "{seen:?}");
    assert!(seen.answers_overlap > Duration::from_millis(500), "{seen:?}");
    assert!(cluster.check(from, Outcome::failed_over()).is_err());
    assert!(cluster.check(from, Outcome::failed_over().beside_a_silent_holder(owner)).is_err());
    Ok(())
}

#[test]
fn a_keepalived_that_was_killed_runs_when_it_is_started_again() -> Result<()> {
    let mut cluster = Cluster::start(keepalived()).context("is keepalived installed?")?;
    let owner = cluster.wait_for_owner()?;
    cluster.kill_daemon(owner)?;
    cluster.start_daemon(owner)?;
    sleep(Duration::from_secs(1));
    // Of the highest priority: it takes the address from whoever took over meanwhile.
    cluster.wait_for_owner_among(|host| host == owner)?;
    cluster.assert_daemons_are_well()
}

#[test]
fn the_observers_see_the_gap_of_a_failover() -> Result<()> {
    // Not of keepalived, of which both backups may be master for a moment.
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the holder loses its power");
    cluster.power_off(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    sleep(Duration::from_millis(300));
    let seen = cluster.since(from)?;
    assert!(seen.gap > Duration::from_millis(100), "{seen:?}");
    assert!(seen.gap_tcp > Duration::from_millis(100), "{seen:?}");
    assert!(seen.absence > Duration::from_millis(100), "{seen:?}");
    cluster.check(from, Outcome::failed_over())?;
    assert!(cluster.check(from, Outcome::gap_at_most(Duration::from_millis(100))).is_err());
    assert!(cluster.check(from, Outcome::stayed_on(owner)).is_err());
    Ok(())
}

#[test]
fn two_labs_side_by_side_do_not_see_each_other() -> Result<()> {
    // With the same names, addresses and etcd cluster, one of them in another process.
    let mut first = Cluster::start(Plan::default())?;
    let demo = demo_in_the_middle()?;
    let mut second = Cluster::start(Plan::default())?;
    let owner = first.wait_for_owner()?;
    let from = first.note("another lab loses all its hosts, another process is interrupted");
    for host in 0..second.size() {
        second.power_off(host)?;
    }
    send(Signal::SIGINT, &demo)?;
    assert_eq!({ demo }.wait()?.code(), Some(130));
    sleep(Duration::from_secs(1));
    drop(second);
    first.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn what_a_killed_daemon_leaves_behind_is_noticed() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    for host in (0..cluster.size()).filter(|host| *host != owner) {
        cluster.stop_daemon(host)?;
    }
    cluster.kill_daemon(owner)?;
    let left = cluster.assert_nothing_is_left().expect_err("the fence is there still");
    assert!(left.to_string().starts_with("left behind on h"), "{left}");
    cluster.release(owner)?;
    assert_eq!(cluster.left_behind(owner)?, Vec::<String>::new());
    // Nobody is there to expire the dead daemon's session.
    let left = cluster.assert_nothing_is_left().expect_err("its keys are there still");
    assert!(left.to_string().starts_with("left behind in etcd"), "{left}");
    Ok(())
}

/// Whether somebody in `from` can connect to a service. A connection needs both directions.
fn reaches(from: &Namespace, to: SocketAddr) -> Result<bool> {
    let patience = Duration::from_millis(500);
    from.run(|| Ok(TcpStream::connect_timeout(&to, patience).is_ok()))
}

/// That somebody can, however busy the machine is.
fn wait_until_reached(from: &Namespace, to: SocketAddr) -> Result<()> {
    wait_until("the service is reached", || reaches(from, to).is_ok_and(|reached| reached))
}

/// Two hosts without etcd and daemons, the first of them slow, are hit by `fault`: afterwards the
/// client does not reach the first any more, and does once that is healed.
fn hits_a_slow_host(fault: impl Fn(&Cluster) -> Result<()>) -> Result<()> {
    let cluster = Cluster::lay_out(Plan { hosts: 2, ..keepalived() })?;
    let [slow, other] = [0, 1].map(|host| service(cluster.network().address(host)));
    cluster.slow(0, Duration::from_millis(30))?;
    wait_until_reached(cluster.client(), slow)?;
    fault(&cluster)?;
    assert!(!reaches(cluster.client(), slow)?, "the fault does nothing to a slow host");
    wait_until_reached(cluster.client(), other)?;
    cluster.heal()?;
    wait_until_reached(cluster.client(), slow)
}

#[test]
fn a_slow_host_can_be_isolated() -> Result<()> {
    hits_a_slow_host(|cluster| cluster.isolate(0))
}

#[test]
fn a_slow_host_can_lose_what_it_sends() -> Result<()> {
    hits_a_slow_host(|cluster| cluster.cut_outgoing(0))
}

#[test]
fn a_slow_host_can_lose_what_is_sent_to_it() -> Result<()> {
    hits_a_slow_host(|cluster| cluster.cut_incoming(0))
}

#[test]
fn a_slow_host_can_lose_its_frames() -> Result<()> {
    // A connection needs two frames: one pair in ten thousand gets through.
    hits_a_slow_host(|cluster| cluster.lose(0, 99))
}

#[test]
fn a_slow_host_can_be_cut_off_from_another_and_from_etcd_alone() -> Result<()> {
    let cluster = Cluster::lay_out(Plan { hosts: 2, ..keepalived() })?;
    let own = cluster.network().address(0);
    let store = SocketAddr::new(own, 2379);
    let _store = cluster.host(0).namespace().run(|| Ok(TcpListener::bind(store)?))?;
    let other = cluster.host(1).namespace();
    cluster.slow(0, Duration::from_millis(30))?;
    wait_until_reached(other, store)?;
    cluster.cut_from_store(0)?;
    assert!(!reaches(other, store)?);
    wait_until_reached(other, service(own))?;
    cluster.cut(0, 1)?;
    assert!(!reaches(other, service(own))?);
    wait_until_reached(cluster.client(), service(own))
}

#[test]
fn a_slow_host_that_loses_its_power_comes_back_as_it_was() -> Result<()> {
    let mut cluster = Cluster::lay_out(keepalived())?;
    let slow = service(cluster.network().address(0));
    cluster.slow(0, Duration::from_millis(30))?;
    cluster.power_off(0)?;
    cluster.heal()?;
    cluster.power_on(0)?;
    wait_until_reached(cluster.client(), slow)
}

/// How long it takes to connect, which is there and back once.
fn time_to_connect(from: &Namespace, to: SocketAddr) -> Result<Duration> {
    wait_until_reached(from, to)?;
    let asked = Instant::now();
    from.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?))?;
    Ok(asked.elapsed())
}

#[test]
fn a_path_between_two_ports_can_be_slow_while_all_others_are_as_they_were() -> Result<()> {
    const EACH_WAY: Duration = Duration::from_millis(60);
    let mut cluster = Cluster::lay_out(Plan { hosts: 2, ..keepalived() })?;
    let [first, second] = [0, 1].map(|host| service(cluster.network().address(host)));
    let switch = cluster.network().switch(0);
    switch.delay_between("h1", "h2", EACH_WAY)?;
    switch.delay_between("h2", "h1", EACH_WAY)?;
    let between = time_to_connect(cluster.host(0).namespace(), second)?;
    assert!(between >= 2 * EACH_WAY, "{between:?}");
    let others = [first, second].map(|to| time_to_connect(cluster.client(), to));
    for other in others {
        let other = other?;
        assert!(other < 2 * EACH_WAY, "{other:?}");
    }
    // One way only, and again after the host was off.
    switch.delay_between("h2", "h1", Duration::ZERO)?;
    let one_way = time_to_connect(cluster.host(0).namespace(), second)?;
    assert!((EACH_WAY..2 * EACH_WAY).contains(&one_way), "{one_way:?}");
    cluster.power_off(1)?;
    cluster.power_on(1)?;
    cluster.network().switch(0).relay("h2")?;
    let again = time_to_connect(cluster.host(0).namespace(), second)?;
    assert!(again >= EACH_WAY, "{again:?}");
    Ok(())
}

#[test]
fn faults_end_one_by_one_and_of_two_that_are_alike_the_other_goes_on() -> Result<()> {
    let cluster = Cluster::lay_out(Plan { hosts: 2, ..keepalived() })?;
    let to = service(cluster.network().address(1));
    let (from, switch) = (cluster.host(0).namespace(), cluster.network().switch(0));
    let cut = [Fault::Between("h1".into(), "h2".into())];
    let other = [Fault::LossBetween("h2".into(), "h1".into(), 1_000_000)];
    switch.begin(&cut)?;
    switch.begin(&cut)?;
    switch.begin(&other)?;
    switch.end(&cut)?;
    switch.end(&other)?;
    assert!(!reaches(from, to)?, "one of the two goes on");
    wait_until_reached(cluster.client(), to)?;
    switch.end(&cut)?;
    wait_until_reached(from, to)?;
    switch.begin(&other)?;
    assert!(!reaches(from, to)?, "what is sent back is lost");
    Ok(())
}

#[test]
fn a_client_of_etcd_and_a_member_can_each_be_cut_off_without_the_other() -> Result<()> {
    let cluster = Cluster::lay_out(Plan { hosts: 2, ..keepalived() })?;
    let own = cluster.network().address(1);
    let at = |port| SocketAddr::new(own, port);
    let listen = |port| cluster.host(1).namespace().run(|| Ok(TcpListener::bind(at(port))?));
    let _listeners = [listen(2379)?, listen(2380)?];
    let (from, switch) = (cluster.host(0).namespace(), cluster.network().switch(0));
    for (fault, lost, reached) in [
        (Fault::ClientOfStore("h1".into()), 2379, 2380),
        (Fault::MemberOfStore("h1".into()), 2380, 2379),
    ] {
        switch.begin(std::slice::from_ref(&fault))?;
        assert!(!reaches(from, at(lost))?, "{fault:?}");
        wait_until_reached(from, at(reached))?;
        wait_until_reached(cluster.client(), at(lost))?;
        switch.end(&[fault])?;
        wait_until_reached(from, at(lost))?;
    }
    Ok(())
}
