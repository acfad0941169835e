//! What `check`, `status` and the log say where something is not as it should be: on a host of its own, a
//! network namespace with a real etcd in it. Needs root, etcd and iproute2, and fails without.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use turnip_netns_tests::etcd::{self, Access, EtcdSettings, Member, Place};
use turnip_netns_tests::lab::Lab;
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::poll::Poll;

const PEER: &str = "10.99.0.1";
const POLL: Poll = Poll::every(Duration::from_millis(50)).within(Duration::from_secs(20));
const VIP: &str = "[[vip]]\nname = \"web\"\naddress = \"10.0.0.50/32\"\ninterface = \"lo\"\n";

struct Host {
    // Ends before the namespace that it is in.
    _etcd: Member,
    namespace: Arc<Namespace>,
    directory: PathBuf,
    _lab: Arc<Lab>,
}

impl Host {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more flags for etcd.
    fn start_with(flags: &[&str]) -> Self {
        let lab = Lab::new().unwrap();
        let namespace = lab.namespace("host").expect("this test needs root");
        let directory = lab.directory_of("host").unwrap();
        namespace.add_address("lo", format!("{PEER}/32").parse().unwrap()).unwrap();
        let place = Place {
            name: "default".to_owned(),
            namespace: Some(Arc::clone(&namespace)),
            directory: directory.clone(),
            clients: "127.0.0.1:2379".parse().unwrap(),
            peers: format!("{PEER}:2380").parse().unwrap(),
            listens_everywhere: false,
        };
        let arguments = flags.iter().map(|&flag| flag.to_owned()).collect();
        let settings = EtcdSettings { arguments, ..EtcdSettings::default() };
        let mut member = etcd::members(&[place], &settings, &Access::Open).pop().unwrap();
        member.start().expect("this test needs etcd");
        let host = Host { _etcd: member, namespace, directory, _lab: lab };
        within("etcd answers", || host.etcdctl(&["endpoint", "health"]).status.success());
        host
    }

    fn etcdctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.namespace.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(arguments).output().unwrap()
    }

    /// A configuration file with these VIPs.
    fn file(&self, top: &str, rest: &str) -> PathBuf {
        let path = self.directory.join("turnip.toml");
        let name = if top.contains("node =") { "" } else { "node = \"a\"\n" };
        std::fs::write(&path, format!("{name}{top}{rest}")).unwrap();
        path
    }

    /// turnip with none of its variables but these.
    fn turnip(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_turnip"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TURNIP_")) {
            command.env_remove(name);
        }
        command.env("RUNTIME_DIRECTORY", self.directory.join("run"));
        command.env("SYSTEMD_UNIT_PATH", self.directory.join("units"));
        command.args(arguments).envs(variables.iter().copied());
        command
    }

    fn says(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
        let output = self.turnip(arguments, variables).output().unwrap();
        let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        (output.status.code().unwrap(), text.concat())
    }

    fn check(&self, file: &Path) -> (i32, String) {
        self.says(&["check", "--config", file.to_str().unwrap()], &[])
    }

    fn daemon(&self, file: &Path) -> Daemon {
        let log = self.directory.join("turnip.log");
        let mut command = self.turnip(&["run", "--config", file.to_str().unwrap()], &[]);
        command.stderr(std::fs::File::create(&log).unwrap()).stdout(Stdio::null());
        // As a service manager does; nobody reads there.
        let manager = self.directory.join("notify");
        let _ = std::fs::remove_file(&manager);
        let socket = std::os::unix::net::UnixDatagram::bind(&manager).unwrap();
        command.env("NOTIFY_SOCKET", &manager);
        Daemon { child: command.spawn().unwrap(), log, _socket: socket }
    }

    fn holds(&self, address: &str) -> bool {
        self.namespace.output("ip", &["addr", "show"]).unwrap().contains(address)
    }

    /// Puts a unit where turnip looks for it.
    fn unit(&self, text: &str) {
        let units = self.directory.join("units");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::write(units.join("turnip.service"), text).unwrap();
    }
}

struct Daemon {
    child: Child,
    log: PathBuf,
    _socket: std::os::unix::net::UnixDatagram,
}

impl Daemon {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let in_time = POLL.is_so(|| Ok::<_, std::convert::Infallible>(holds()));
    assert!(in_time == Ok(true), "not within {:?}: {what}", POLL.patience());
}

#[track_caller]
fn has(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{said}\nlacks {word:?}");
    }
}

// ---- status

#[test]
fn a_session_that_is_silent_beyond_its_lease_owns_nothing() {
    let host = Host::start();
    let file = host.file("lease = \"1s\"\n", VIP);
    let mut daemon = host.daemon(&file);
    within("the address", || host.holds("10.0.0.50"));
    assert_eq!(host.says(&["status"], &[]).0, 0, "{}", daemon.log());
    daemon.kill();
    let (code, said) = host.says(&["status"], &[]);
    has(
        &said,
        &[
            "nobody holds it, as far as etcd shows: a, for which it is named, has been silent",
            "silent for > 1.",
        ],
    );
    assert_eq!(code, 1, "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&host.says(&["status", "--json"], &[]).1).unwrap();
    assert_eq!(
        (&json["vips"]["web"]["owner"], &json["vips"]["web"]["named"]),
        (&serde_json::Value::Null, &"a".into())
    );
    assert_eq!(json["nodes"]["a"]["silent_beyond_lease"], true);
}

#[test]
fn a_lease_of_forty_seconds_is_no_reason_to_say_that_etcd_does_not_answer() {
    let host = Host::start();
    let file = host.file("lease = \"40s\"\n", VIP);
    let daemon = host.daemon(&file);
    within("the address", || host.holds("10.0.0.50"));
    let (code, said) = host.says(&["status"], &[]);
    assert_eq!(code, 0, "{said}\n{}", daemon.log());
    assert!(!said.contains("does not answer"), "{said}");
}

#[test]
fn a_session_that_cannot_be_read_is_called_that_and_not_gone() {
    let host = Host::start();
    let file = host.file("lease = \"1s\"\n", VIP);
    let mut daemon = host.daemon(&file);
    within("the address", || host.holds("10.0.0.50"));
    daemon.kill();
    host.etcdctl(&["put", "/turnip/main/sessions/a", "hello"]);
    let (code, said) = host.says(&["status"], &[]);
    has(&said, &["named for a, whose session cannot be read", "unreadable"]);
    assert!(!said.contains("gone"), "{said}");
    assert_eq!(code, 1);
}

#[test]
fn endpoints_are_named_once_when_none_answers() {
    let host = Host::start();
    let (code, said) = host.says(&["status", "--endpoints", "http://127.0.0.1:1"], &[]);
    assert_eq!((code, said.matches("http://127.0.0.1:1").count()), (2, 1), "{said}");
}

// ---- check

#[test]
fn the_daemon_of_this_host_is_not_called_another_one() {
    let host = Host::start();
    let file = host.file("", VIP);
    let daemon = host.daemon(&file);
    within("the address", || host.holds("10.0.0.50"));
    let (code, said) = host.check(&file);
    has(&said, &["turnip runs here as the node a, as process", "a is this host's"]);
    assert!(!said.contains("another turnip"), "{said}");
    assert_eq!(code, 0, "{said}\n{}", daemon.log());
    let renamed = host.file("node = \"b\"\n", VIP);
    has(&host.check(&renamed).1, &["warning  daemon", "this configuration is that of b"]);
}

/// In a container the unit's own /proc shows the boot of the machine, and root's that of the container.
#[test]
fn ones_own_daemon_is_no_clone_although_it_sees_another_boot() {
    let host = Host::start();
    let file = host.file("", VIP);
    let _daemon = host.daemon(&file);
    within("the address", || host.holds("10.0.0.50"));
    let boot = host.directory.join("boot_id");
    std::fs::write(&boot, "00000000-1111-2222-3333-444444444444\n").unwrap();
    let script =
        r#"mount --bind "$1" /proc/sys/kernel/random/boot_id && exec "$2" check --config "$3""#;
    let mut command = host.namespace.command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&boot);
    command.arg(env!("CARGO_BIN_EXE_turnip")).arg(&file);
    command.env("RUNTIME_DIRECTORY", host.directory.join("run"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    has(&said, &["a is this host's, as etcd knows it"]);
    assert!(output.status.success() && !said.contains("machine id"), "{said}");
}

#[test]
fn what_the_unit_gives_the_daemon_is_checked_and_what_differs_is_named() {
    let host = Host::start();
    let defaults = host.directory.join("default");
    let password = host.directory.join("password");
    std::fs::write(&defaults, format!("TURNIP_IP=10.0.0.77\nTURNIP_NETMASK=/32\nTURNIP_DEV=lo\nTURNIP_ID={PEER}\nTURNIP_LAESE=5s\n")).unwrap();
    std::fs::write(&password, "hunter2").unwrap();
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let file = host.file("", VIP);
    host.unit(&format!(
        "[Service]\nExecStart=/usr/local/bin/turnip run --config {}\nEnvironmentFile=-{}\nDynamicUser=yes\nAmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW\nLoadCredential=pw:{}\nEnvironment=TURNIP_ETCD_PASSWORD_FILE=%d/pw TURNIP_ETCD_USER=turnip\n",
        file.display(), defaults.display(), password.display()
    ));
    // A temporary directory is open to its owner alone, as is much of /etc.
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for arguments in [["check", "--unit"].as_slice(), &["check", "--unit=turnip"], &["check"]] {
        let (code, said) = host.says(arguments, &[]);
        has(
            &said,
            &[
                "checked as turnip.service runs it, as turnip, a DynamicUser",
                "the daemon gets TURNIP_IP = \"10.0.0.77\"",
                &format!("this is the node {PEER}"),
                "its [[vip]] table is left aside (web), its node = \"a\" is left aside",
                "TURNIP_LAESE (did you mean TURNIP_LEASE?) is no variable of turnip",
                "error    files",
                "is not there for the daemon, which runs as turnip, a DynamicUser",
                "chmod 644",
            ],
        );
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(code, 1, "{said}");
    }
    // What is asked for by a variable is checked, and what the daemon gets otherwise is said.
    let (_, said) =
        host.says(&["check", "--config", file.to_str().unwrap()], &[("TURNIP_NODE", "z")]);
    has(
        &said,
        &[
            "this is the node z",
            "warning  unit",
            "turnip.service gives the daemon something else than this check: run `turnip check --unit`",
            "TURNIP_NODE = \"z\" is set here, and the daemon does not get it",
        ],
    );
    let (code, said) = host.says(&["check", "--unit=nothing"], &[]);
    assert_eq!(code, 2, "{said}");
    has(&said, &["there is no unit nothing"]);
}

#[test]
fn a_name_that_another_host_has_and_leases_that_differ_are_found() {
    let host = Host::start();
    let session = |host_id: &str| {
        format!(r#"{{"v":1,"lease_ms":5000,"host":"{host_id}","nonce":"0000000000000001-1"}}"#)
    };
    host.etcdctl(&["put", "/turnip/main/sessions/b", &session("m/b/1")]);
    host.etcdctl(&["put", "/turnip/main/sessions/a", &session("other-machine/boot/1")]);
    let file = host.file("lease = \"1s\"\n", VIP);
    let (code, said) = host.check(&file);
    has(
        &said,
        &["warning  name", "a was that of another host (other-machine/boot/1;", "is silent"],
    );
    has(&said, &["warning  lease", "1 s here, and 5 s on b"]);
    assert_eq!(code, 0, "{said}");
    // While it is renewed, it is taken.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let renewing = std::thread::scope(|scope| {
        let (host, session) = (&host, &session);
        scope.spawn(move || {
            while stopped.try_recv().is_err() {
                host.etcdctl(&["put", "/turnip/main/sessions/a", &session("other-machine/boot/1")]);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let said = host.check(&file);
        stop.send(()).unwrap();
        said
    });
    has(&renewing.1, &["error    name", "a is taken: another host (other-machine/boot/1;"]);
    assert_eq!(renewing.0, 1);
}

#[test]
fn a_placeholder_for_a_name_and_a_clone_of_this_machine_are_found() {
    let host = Host::start();
    let file = host.file("node = \"localhost\"\n", VIP);
    let (code, said) = host.check(&file);
    has(&said, &["error    name", "localhost is what a host is called"]);
    assert_eq!(code, 1);
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    assert!(!machine.trim().is_empty(), "this test needs /etc/machine-id");
    let session = format!(
        r#"{{"v":1,"lease_ms":3000,"host":"{}/another-boot/1","nonce":"0000000000000001-1"}}"#,
        machine.trim()
    );
    host.etcdctl(&["put", "/turnip/main/sessions/b", &session]);
    let (code, said) = host.check(&host.file("", VIP));
    has(&said, &["error    machine id", "the machine id of this host is that of b too"]);
    assert_eq!(code, 1);
}

#[test]
fn ipv6_that_is_disabled_under_a_dual_stack_vip_is_found() {
    let host = Host::start();
    let off =
        host.namespace.command("sysctl").args(["-qw", "net.ipv6.conf.lo.disable_ipv6=1"]).status();
    assert!(off.unwrap().success(), "this test needs sysctl");
    let vip = "[[vip]]\nname = \"web\"\naddresses = [\"10.0.0.50/32\", \"fd00::50/128\"]\ninterface = \"lo\"\n";
    let (code, said) = host.check(&host.file("", vip));
    has(
        &said,
        &["error    IPv6", "IPv6 is disabled on lo", "web", "net.ipv6.conf.lo.disable_ipv6"],
    );
    assert_eq!(code, 1);
}

#[test]
fn an_etcd_that_takes_no_value_as_large_as_this_nodes_is_found() {
    let host = Host::start_with(&["--max-request-bytes=20000"]);
    assert!(host.check(&host.file("", VIP)).1.contains("ok       etcd record"));
    let many: String = (0..250).map(|n| {
        format!("[[vip]]\nname = \"vip-number-{n}\"\naddress = \"10.7.0.{n}/32\"\ninterface = \"lo\"\n")
    }).collect();
    let (code, said) = host.check(&host.file("", &many));
    has(&said, &["error    etcd record", "--max-request-bytes="]);
    assert_eq!(code, 1, "{said}");
}

#[test]
fn rights_that_are_too_few_or_too_many_and_a_password_that_others_can_read_are_found() {
    let host = Host::start();
    for step in [
        ["user", "add", "root:secret", "--interactive=false"].as_slice(),
        &["user", "grant-role", "root", "root"],
        &["role", "add", "few"],
        &["role", "grant-permission", "few", "readwrite", "/turnip/main/sessions/", "--prefix"],
        &["role", "grant-permission", "few", "read", "/turnip/main/", "--prefix"],
        &["user", "add", "few:secret", "--interactive=false"],
        &["user", "grant-role", "few", "few"],
        &["role", "add", "right"],
        &["role", "grant-permission", "right", "readwrite", "/turnip/main/", "--prefix"],
        &["role", "grant-permission", "right", "readwrite", "/turnip-check/main/", "--prefix"],
        &["user", "add", "right:secret", "--interactive=false"],
        &["user", "grant-role", "right", "right"],
        &["auth", "enable"],
    ] {
        let done = host.etcdctl(step);
        assert!(done.status.success(), "{step:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let password = host.directory.join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let mode = |mode: u32| {
        std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    };
    mode(0o600);
    let check = |user: &str| {
        let file = host.file("", VIP);
        let arguments =
            ["check", "--config", file.to_str().unwrap(), "--user", user, "--password-file"];
        let arguments = [arguments.as_slice(), &[password.to_str().unwrap()]].concat();
        host.says(&arguments, &[])
    };
    let (code, said) = check("few");
    has(
        &said,
        &["error    etcd rights", "the user few may not write /turnip/main/nodes/a", "--prefix)"],
    );
    assert_eq!(code, 1, "{said}");
    let (code, said) = check("right");
    has(&said, &["ok       etcd rights", "/turnip/main/ and no more"]);
    assert!(code == 0 && !said.contains("can be read by others"), "{said}");
    mode(0o644);
    let (_, said) = check("root");
    has(&said, &["warning  etcd rights", "the user root may write what is not turnip's"]);
    has(&said, &["warning  files", "can be read by others than its owner (mode 644)"]);
}

// ---- the log

#[test]
fn a_vip_with_a_misspelt_interface_is_named_and_the_others_are_served() {
    let host = Host::start();
    let misspelt = "[[vip]]\nname = \"db\"\naddress = \"10.0.0.60/32\"\ninterface = \"lol\"\n";
    let mut daemon = host.daemon(&host.file("", &format!("{VIP}{misspelt}")));
    within("the other's address", || host.holds("10.0.0.50"));
    has(
        &daemon.log(),
        &["vip.interface = \"lol\": no such interface on this host; did you mean \"lo\"?"],
    );
    assert!(daemon.child.try_wait().unwrap().is_none(), "{}", daemon.log());
    let (code, said) = host.says(&["status"], &[]);
    has(&said, &["a cannot hold db: interface lol does not exist"]);
    assert_eq!(code, 1);
    drop(daemon);
    // A service manager that would start it again and again gets a daemon that waits.
    let mut alone = host.daemon(&host.file("", misspelt));
    within("it says so", || alone.log().contains("no such interface on this host"));
    within("its session", || alone.log().contains("session"));
    assert!(alone.child.try_wait().unwrap().is_none(), "{}", alone.log());
}

#[test]
fn hundreds_of_vips_of_an_interface_that_goes_down_are_some_lines() {
    let host = Host::start();
    host.namespace
        .output("ip", &["link", "add", "v0", "type", "veth", "peer", "name", "v1"])
        .unwrap();
    for name in ["v0", "v1"] {
        host.namespace.output("ip", &["link", "set", name, "up"]).unwrap();
    }
    let many: String = (0..240)
        .map(|n| {
            format!("[[vip]]\nname = \"v{n}\"\naddress = \"10.7.0.{n}/32\"\ninterface = \"v0\"\n")
        })
        .collect();
    let daemon = host.daemon(&host.file("", &many));
    within("all addresses", || {
        let shown = host.namespace.output("ip", &["-o", "addr", "show", "dev", "v0"]).unwrap();
        shown.matches("10.7.0.").count() >= 240
    });
    host.namespace.output("ip", &["link", "set", "v0", "down"]).unwrap();
    within("the sum", || daemon.log().contains("others; interface v0 is down"));
    within("it is calm", || daemon.log().contains("forfeited"));
    let log = daemon.log();
    assert!(log.lines().count() < 200, "{} lines:\n{log}", log.lines().count());
    has(&log, &["cannot hold here 230 more VIPs: ", "WARN forfeiting"]);
}
