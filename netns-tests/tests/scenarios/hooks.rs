//! Hooks: real processes beside what becomes of a VIP, on real etcd and the real kernel.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Policy, TurnipSettings};
use turnip_netns_tests::measure::Span;
use turnip_netns_tests::plan::Plan;

use crate::{VERY_LONG_LEASE, a_lease_passes, health, with_settings};

const ALL: [&str; 4] = ["before_assume", "after_assume", "before_release", "after_release"];

/// A script that is every hook of every host: it writes down that it begins and that it ends, and does
/// between what a file says that a test writes for a host and a hook.
struct Script {
    directory: PathBuf,
}

impl Script {
    fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("turnip-hooks-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory)?;
        let at = directory.display();
        let text = format!(
            r#"#!/bin/bash
host={at}/$TURNIP_HOOK_NODE
say() {{ echo "$1 $TURNIP_HOOK $TURNIP_HOOK_REASON $TURNIP_HOOK_PEER" >>"$host.said"; }}
env | grep ^TURNIP_HOOK >"$host.$TURNIP_HOOK.told"
say begins
if [ -e "$host.$TURNIP_HOOK" ]; then . "$host.$TURNIP_HOOK"; fi
say ends
"#
        );
        let script = Script { directory };
        fs::write(script.path(), text)?;
        fs::set_permissions(script.path(), fs::Permissions::from_mode(0o755))?;
        Ok(script)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("hook")
    }

    /// Has a hook of a host do something.
    fn does(&self, host: usize, hook: &str, what: &str) -> Result<()> {
        Ok(fs::write(self.directory.join(format!("h{}.{hook}", host + 1)), what)?)
    }

    /// What the hooks of a host said, one a line.
    fn said(&self, host: usize) -> Vec<String> {
        let path = self.directory.join(format!("h{}.said", host + 1));
        let said = fs::read_to_string(path).unwrap_or_default();
        said.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Forgets what all said so far.
    fn forget(&self) {
        (1..=3).for_each(|host| {
            let _ = fs::remove_file(self.directory.join(format!("h{host}.said")));
        });
    }

    /// What a hook of a host was told last.
    fn told(&self, host: usize, hook: &str) -> Result<String> {
        Ok(fs::read_to_string(self.directory.join(format!("h{}.{hook}.told", host + 1)))?)
    }

    /// All hooks, for a host's file.
    fn lines(&self, timeout: &str) -> Vec<String> {
        let path = self.path();
        let line = |hook| {
            format!(
                "{hook} = {{ run = [\"{}\", \"{{vip}}\"], timeout = \"{timeout}\" }}",
                path.display()
            )
        };
        ALL.into_iter().map(line).collect()
    }

    /// A cluster with them, and its owner, when the hooks of the first take-over have ended.
    fn cluster(&self, lease: Option<&str>, timeout: &str) -> Result<(Cluster, usize)> {
        let settings = TurnipSettings {
            policy: Policy::Priority { preempt: false },
            vip_lines: self.lines(timeout),
            lease: lease.map(str::to_owned),
            ..TurnipSettings::default()
        };
        let cluster = Cluster::start(with_settings(settings))?;
        let owner = cluster.wait_until_settled()?;
        cluster.wait("its after_assume has ended", || {
            Ok(self.said(owner).iter().any(|line| line.starts_with("ends after_assume")))
        })?;
        self.forget();
        Ok((cluster, owner))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How many processes have that in their command lines, those included that have ended and were not waited
/// for.
fn processes(word: &str) -> usize {
    let entries = fs::read_dir("/proc").expect("there is /proc").filter_map(Result::ok);
    let commands = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    commands.filter(|command| String::from_utf8_lossy(command).contains(word)).count()
}

/// The children of a daemon that have ended and were not waited for.
fn zombies(daemon: u64) -> usize {
    let entries = fs::read_dir("/proc").expect("there is /proc").filter_map(Result::ok);
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_one = |stat: &String| {
        let after = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = after.split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(daemon.to_string().as_str())
    };
    stats.filter(is_one).count()
}

#[test]
fn a_move_runs_the_hooks_of_both_hosts_in_order_and_tells_them_all() -> Result<()> {
    let script = Script::new()?;
    let (mut cluster, owner) = script.cluster(None, "5s")?;
    let other = (owner + 1) % 3;
    let from = cluster.note("the address moves");
    cluster.pin("api", other)?;
    cluster.wait_for_owner_among(|host| host == other)?;
    let names = [owner, other].map(|host| format!("h{}", host + 1));
    let released = [
        format!("begins before_release preferred {}", names[1]),
        format!("ends before_release preferred {}", names[1]),
        format!("begins after_release preferred {}", names[1]),
        format!("ends after_release preferred {}", names[1]),
    ];
    let assumed = [
        format!("begins before_assume handed-over {}", names[0]),
        format!("ends before_assume handed-over {}", names[0]),
        format!("begins after_assume handed-over {}", names[0]),
        format!("ends after_assume handed-over {}", names[0]),
    ];
    cluster.wait("all hooks have ended", || {
        Ok(script.said(owner) == released && script.said(other) == assumed)
    })?;
    let told = script.told(other, "after_assume")?;
    for line in [
        "TURNIP_HOOK=after_assume",
        "TURNIP_HOOK_VIP=api",
        "TURNIP_HOOK_ADDRESSES=10.77.0.100/24",
        "TURNIP_HOOK_INTERFACE=eth0",
        &format!("TURNIP_HOOK_NODE={}", names[1]),
        "TURNIP_HOOK_DEADLINE_MS=5000",
    ] {
        ensure!(told.lines().any(|one| one == line), "{line} is not among {told}");
    }
    let status = cluster.status()?;
    let token = status["vips"]["api"]["token"].to_string();
    ensure!(told.contains(&format!("TURNIP_HOOK_TOKEN={token}\n")), "{told} {status}");
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_check_that_fails_moves_the_address_by_the_hooks_of_an_orderly_move() -> Result<()> {
    let script = Script::new()?;
    let lines = [script.lines("5s"), health::checked("keep", 1)].concat();
    let (mut cluster, services) = health::start(health::with_checks(lines))?;
    cluster.wait_for_owner_among(|host| host == 0)?;
    cluster.wait("its after_assume has ended", || {
        Ok(script.said(0).last().is_some_and(|line| line.starts_with("ends after_assume")))
    })?;
    script.forget();
    let from = cluster.note("the service of h1 fails");
    services[0].set(false);
    let next = cluster.wait_for_owner_among(|host| host != 0)?;
    let released = ["before_release", "after_release"].map(|hook| {
        ["begins", "ends"].map(|what| format!("{what} {hook} check-failed h{}", next + 1))
    });
    let assumed = ["before_assume", "after_assume"]
        .map(|hook| ["begins", "ends"].map(|what| format!("{what} {hook} handed-over h1")));
    cluster.wait("all hooks have ended", || {
        Ok(script.said(0) == released.concat() && script.said(next) == assumed.concat())
    })?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_host_whose_before_assume_fails_passes_the_address_on_and_says_why() -> Result<()> {
    let script = Script::new()?;
    let (mut cluster, owner) = script.cluster(Some(VERY_LONG_LEASE), "5s")?;
    let other = (owner + 1) % 3;
    script.does(other, "before_assume", "echo 'it cannot be promoted'; exit 7")?;
    let from = cluster.note("the address is to move to a host whose before_assume fails");
    cluster.pin("api", other)?;
    cluster.wait("it has tried, and has given up what it began", || {
        Ok(script.said(other).last().is_some_and(|line| line.starts_with("ends after_release")))
    })?;
    cluster.wait_for_owner_among(|host| host != other)?;
    let why =
        "cannot hold api here: its before_assume failed: exit status 7: it cannot be promoted";
    ensure!(cluster.logs().contains(why), "{}", cluster.logs());
    ensure!(cluster.logs().contains("before_assume of api: it cannot be promoted"));
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_hook_that_hangs_and_forks_is_killed_with_all_that_it_started_and_the_move_goes_on()
-> Result<()> {
    let script = Script::new()?;
    let (mut cluster, owner) = script.cluster(None, "2s")?;
    let other = (owner + 1) % 3;
    script.does(
        owner,
        "before_release",
        "sleep 76543 & setsid sleep 76543 & yes flood & sleep 76543",
    )?;
    let from = cluster.note("the address is to move, and the hook before that hangs");
    cluster.pin("api", other)?;
    cluster.wait_for_owner_among(|host| host == other)?;
    ensure!(from.elapsed() >= Duration::from_secs(2), "it waits for the hook");
    ensure!(cluster.logs().contains("before_release of api failed: it had not ended in time"));
    ensure!(processes("76543") == 0);
    let daemon = u64::from(cluster.daemon(owner)?.id());
    ensure!(zombies(daemon) == 0);
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_host_that_is_cut_off_waits_for_no_hook_and_ends_the_one_that_runs() -> Result<()> {
    let script = Script::new()?;
    let (mut cluster, owner) = script.cluster(None, "60s")?;
    script.does(owner, "before_release", "sleep 65432")?;
    let from = cluster.note("the owner is drained, and cut off while its before_release hangs");
    cluster.turnip(&["drain", &format!("h{}", owner + 1)])?;
    cluster.wait("the hook runs", || Ok(processes("65432") > 0))?;
    cluster.isolate(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    ensure!(processes("65432") == 0, "{}", cluster.logs());
    cluster.heal()?;
    cluster.turnip(&["undrain", &format!("h{}", owner + 1)])?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn what_a_killed_daemon_owed_is_run_at_its_next_start_and_what_it_left_running_is_killed()
-> Result<()> {
    let script = Script::new()?;
    let (mut cluster, owner) = script.cluster(None, "60s")?;
    script.does(owner, "before_release", "sleep 54321")?;
    cluster.turnip(&["drain", &format!("h{}", owner + 1)])?;
    cluster.wait("the hook runs", || Ok(processes("54321") > 0))?;
    let from = cluster.note("the daemon is killed while its before_release runs");
    cluster.kill_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    ensure!(processes("54321") > 0, "nobody has ended it");
    script.forget();
    cluster.note("it is started again");
    cluster.start_daemon(owner)?;
    let expected = ["begins after_release restart", "ends after_release restart"];
    cluster.wait("what is owed has been run", || Ok(script.said(owner) == expected))?;
    ensure!(processes("54321") == 0, "{}", cluster.logs());
    ensure!(cluster.logs().contains("of hooks that an earlier turnip ran"), "{}", cluster.logs());
    cluster.turnip(&["undrain", &format!("h{}", owner + 1)])?;
    cluster.note("it is killed once more, with nothing owed");
    cluster.kill_daemon(owner)?;
    script.forget();
    cluster.start_daemon(owner)?;
    a_lease_passes();
    ensure!(script.said(owner).is_empty(), "{:?}", script.said(owner));
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

#[test]
fn a_daemon_that_is_killed_and_started_within_its_lease_runs_no_hook() -> Result<()> {
    let script = Script::new()?;
    let (mut cluster, owner) = script.cluster(Some(VERY_LONG_LEASE), "5s")?;
    let from = cluster.note("the daemon is killed and started");
    cluster.kill_daemon(owner)?;
    cluster.start_daemon(owner)?;
    cluster.wait("it goes on", || {
        Ok(cluster.logs().contains("of an earlier process") && cluster.holders()? == [owner])
    })?;
    a_lease_passes();
    ensure!(script.said(owner).is_empty(), "{:?}", script.said(owner));
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_stop_waits_for_after_release_and_nobody_else_does() -> Result<()> {
    let script = Script::new()?;
    let (mut cluster, owner) = script.cluster(None, "20s")?;
    script.does(owner, "after_release", "sleep 4")?;
    let from = cluster.note("the owner is stopped, and its after_release takes long");
    let began = Instant::now();
    cluster.stop_daemon(owner)?;
    ensure!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    ensure!(script.said(owner).last().is_some_and(|line| line.starts_with("ends after_release")));
    cluster.start_daemon(owner)?;
    cluster.conclude(from, Outcome::moved())
}

/// The examples that ship.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/dist/hooks").join(name)
}

/// A program of the host that writes down how it was called.
fn stand_in(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let log = directory.join(format!("{name}.called"));
    fs::write(&path, format!("#!/bin/sh\necho \"$@\" >>{}\n", log.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn called(program: &Path) -> Vec<String> {
    let called = fs::read_to_string(program.with_extension("called")).unwrap_or_default();
    called.lines().map(str::to_owned).collect()
}

/// As `turnip-hooks.socket` and `turnip-hooks@.service` do: each connection is the standard input and output of
/// a process of root's.
struct RootSide(Child);

impl RootSide {
    fn start(socket: &Path, scripts: &Path, environment: &[(&str, String)]) -> Result<Self> {
        let mut command = Command::new("systemd-socket-activate");
        command.args(["--accept", "--inetd", "--listen"]).arg(socket);
        for (name, value) in environment {
            command.arg(format!("--setenv={name}={value}"));
        }
        command.arg(example("hook-as-root")).arg(scripts);
        Ok(RootSide(command.spawn()?))
    }
}

impl Drop for RootSide {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The daemon's hooks ask over the socket; root's side runs the three examples, on stand-ins of what they call.
#[test]
fn hooks_that_take_root_are_run_over_a_socket_by_the_examples_that_ship() -> Result<()> {
    let script = Script::new()?;
    let (socket, scripts) = (script.directory.join("hooks.sock"), script.directory.join("as-root"));
    fs::create_dir(&scripts)?;
    for name in ["conntrackd", "postgresql", "bind-to-the-vip"] {
        fs::copy(example(name), scripts.join(name))?;
    }
    let data = script.directory.join("data");
    fs::create_dir(&data)?;
    fs::write(data.join("standby.signal"), "")?;
    let [conntrackd, pg_ctl, systemctl] =
        ["conntrackd", "pg_ctl", "systemctl"].map(|name| stand_in(&script.directory, name));
    let (conntrackd, pg_ctl, systemctl) = (conntrackd?, pg_ctl?, systemctl?);
    let own = |path: &Path| path.display().to_string();
    // Whoever the test runs as is the database's user here.
    let setpriv = script.directory.join("setpriv");
    fs::write(&setpriv, "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec \"$@\"\n")?;
    fs::set_permissions(&setpriv, fs::Permissions::from_mode(0o755))?;
    let environment = [
        ("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", own(&script.directory))),
        ("GATEWAY_VIP", "api".into()),
        ("DATABASE_VIP", "api".into()),
        ("SERVICE_VIP", "api".into()),
        ("CONNTRACKD", own(&conntrackd)),
        ("PG_CTL", own(&pg_ctl)),
        ("PGDATA", own(&data)),
        ("SYSTEMCTL", own(&systemctl)),
    ];
    let _root = RootSide::start(&socket, &scripts, &environment)?;
    let turnip = turnip_netns_tests::binary::turnip()?;
    let line =
        |hook| format!("{hook} = [\"{}\", \"hook\", \"{}\"]", turnip.display(), socket.display());
    let settings = TurnipSettings {
        policy: Policy::Priority { preempt: false },
        vip_lines: ALL.into_iter().map(line).collect(),
        ..TurnipSettings::default()
    };
    let mut cluster = Cluster::start(with_settings(settings))?;
    let owner = cluster.wait_until_settled()?;
    let promoted = |call: &String| call.starts_with("promote ") && call.contains("-w");
    cluster.wait("all were called", || {
        Ok(called(&conntrackd) == ["-c", "-f", "-R", "-B"]
            && called(&pg_ctl).iter().any(promoted)
            && called(&systemctl) == ["restart haproxy.service"])
    })?;
    ensure!(data.join("turnip-token").exists());
    // All hosts share the stand-ins: from here on, another one has it.
    for program in [&conntrackd, &pg_ctl, &systemctl] {
        fs::remove_file(program.with_extension("called"))?;
    }
    let from = cluster.note("the address moves");
    cluster.pin("api", (owner + 1) % 3)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.wait("the old host has let go, and the new one has begun", || {
        let called = called(&systemctl);
        Ok(called.contains(&"stop haproxy.service".into())
            && called.contains(&"restart haproxy.service".into()))
    })?;
    let stopped = called(&pg_ctl).iter().position(|call| call.contains("-m fast"));
    let promoted = called(&pg_ctl).iter().position(promoted);
    ensure!(stopped.is_some() && promoted > stopped, "{:?}", called(&pg_ctl));
    ensure!(called(&conntrackd).contains(&"-t".into()), "{:?}", called(&conntrackd));
    cluster.note("what root's side runs fails");
    fs::write(scripts.join("a-check"), "#!/bin/sh\necho not today\nexit 9\n")?;
    fs::set_permissions(scripts.join("a-check"), fs::Permissions::from_mode(0o755))?;
    cluster.pin("api", (owner + 2) % 3)?;
    cluster.wait("that is known to the host", || {
        Ok(cluster.logs().contains("its before_assume failed: exit status 9"))
    })?;
    fs::remove_file(scripts.join("a-check"))?;
    cluster.conclude(from, Outcome::failed_over())
}

/// The gaps of so many moves, the shortest first.
fn gaps_of_moves(cluster: &mut Cluster, moves: usize) -> Result<Vec<Duration>> {
    let mut owner = cluster.wait_until_settled()?;
    let mut gaps = Vec::new();
    for _ in 0..moves {
        let (from, to) = (Instant::now(), (owner + 1) % 3);
        cluster.pin("api", to)?;
        cluster.wait_for_owner_among(|host| host == to)?;
        std::thread::sleep(Duration::from_millis(300));
        let seen = cluster.seen(Span { from, to: Instant::now() })?;
        gaps.push(seen.absence);
        owner = to;
    }
    gaps.sort();
    Ok(gaps)
}

/// The address's absence by the kernel's events, in two clusters, in turns.
#[test]
#[ignore = "measures, and so wants a machine that does nothing else"]
fn an_orderly_move_with_hooks_that_do_nothing_costs_five_milliseconds_more_at_most() -> Result<()> {
    let with: Vec<String> =
        ALL.into_iter().map(|hook| format!("{hook} = [\"/bin/true\"]")).collect();
    let cluster = |vip_lines| {
        let policy = Policy::Priority { preempt: false };
        let settings = TurnipSettings { policy, vip_lines, ..TurnipSettings::default() };
        Cluster::start(Plan { ..with_settings(settings) })
    };
    let (mut without, mut with) = (cluster(Vec::new())?, cluster(with)?);
    let (mut gaps_without, mut gaps_with) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        gaps_without.extend(gaps_of_moves(&mut without, 6)?);
        gaps_with.extend(gaps_of_moves(&mut with, 6)?);
    }
    let mut said = String::new();
    let mut median = |what: &str, gaps: &mut Vec<Duration>| {
        gaps.sort();
        let median = gaps[gaps.len() / 2];
        let _ = writeln!(said, "{what}: {:?} to {:?}, median {median:?}", gaps[0], gaps.last());
        median
    };
    let without = median("without hooks", &mut gaps_without);
    let with = median("with four", &mut gaps_with);
    println!("{said}");
    ensure!(with <= without + Duration::from_millis(5), "{said}");
    Ok(())
}
