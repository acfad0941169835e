//! Nothing secret is shown by any command, nor by the daemon. The second test has a host of its own with a
//! real etcd: it needs root, etcd and iproute2, and fails without.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};

use support::host::{Host, PEER, text, within};

const PASSWORD: &str = "hunter2";
const COMMANDS: [&[&str]; 13] = [
    &["run"],
    &["check"],
    &["status"],
    &["status", "--json"],
    &["watch"],
    &["why", "v"],
    &["history"],
    &["wait", "--held", "v", "--timeout", "0s"],
    &["drain", "n"],
    &["pin", "v", "n"],
    &["forget", "n", "--it-is-off"],
    &["rotate-key"],
    &["release"],
];

/// Arguments, and variables.
type Misplaced = (&'static [&'static str], &'static [(&'static str, &'static str)]);

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[track_caller]
fn hides(secret: &str, what: &str, said: &str) {
    assert!(!said.contains(secret), "{what}: {said}");
}

/// Whoever writes a password where it does not belong reads it nowhere.
#[test]
fn a_password_in_a_place_that_is_not_its_own_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let units = directory.path().join("units");
    std::fs::create_dir(&units).unwrap();
    let unit = "[Service]\nExecStart=/usr/local/bin/turnip run --endpoints http://root:hunter2@127.0.0.1:1 --user root:hunter2\nEnvironment=TURNIP_ENDPOINTS=http://root:hunter2@127.0.0.1:1 TURNIP_ETCD_PASWORD=hunter2 TURNIP_ETCD_PASSWORD_FILE=hunter2\n";
    std::fs::write(units.join("turnip.service"), unit).unwrap();
    let misplaced: [Misplaced; 10] = [
        (&["--endpoints", "http://root:hunter2@127.0.0.1:1"], &[]),
        (&["--endpoints", "http://127.0.0.1:1,https://root:hunter2@127.0.0.1:1"], &[]),
        (&["--endpoints", "root:hunter2@127.0.0.1:1"], &[]),
        (&["--local", "http://hunter2@127.0.0.1:1"], &[]),
        (&["--user", "root:hunter2"], &[]),
        (&["--password-file", "hunter2"], &[]),
        (&["--password=hunter2"], &[]),
        (&[], &[("TURNIP_ENDPOINTS", "http://root:hunter2@127.0.0.1:1")]),
        (&[], &[("TURNIP_ETCD_PASWORD", "hunter2"), ("TURNIP_ETCD_PASSWORD_FILE", "hunter2")]),
        (&["--endpoints", "http://127.0.0.1:1"], &[("TURNIP_ETCD_PASSWORD", "hunter2")]),
    ];
    let commands = COMMANDS.into_iter().filter(|command| command[0] != "release");
    for command in commands.chain([["check", "--unit"].as_slice()]) {
        for (arguments, variables) in misplaced {
            let mut turnip = Command::new(env!("CARGO_BIN_EXE_turnip"));
            for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TURNIP_")) {
                turnip.env_remove(name);
            }
            turnip.env("SYSTEMD_UNIT_PATH", &units).env("RUNTIME_DIRECTORY", directory.path());
            let four = [("IP", "10.0.0.50"), ("NETMASK", "/32"), ("DEV", "lol"), ("ID", PEER)];
            for (name, value) in four {
                turnip.env(format!("TURNIP_{name}"), value);
            }
            // Nothing is to start.
            turnip.env("TURNIP_LEASE", "soon");
            turnip.args(command).args(arguments).envs(variables.iter().copied());
            let output = turnip.output().unwrap();
            hides(PASSWORD, &format!("{command:?} {arguments:?} {variables:?}"), &said(&output));
        }
    }
}

#[test]
fn neither_etcds_password_nor_the_key_of_heartbeats_is_shown_by_anything_that_goes_on() {
    let host = Host::with_etcd();
    for step in [
        ["user", "add", "root:hunter2", "--interactive=false"].as_slice(),
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        assert!(host.etcdctl(step).status.success(), "{step:?}");
    }
    let run = host.directory.join("run");
    let metrics = "127.0.0.1:9464";
    let variables = [
        ("TURNIP_ETCD_USER", "root"),
        ("TURNIP_ETCD_PASSWORD", PASSWORD),
        ("TURNIP_METRICS", metrics),
        ("TURNIP_LOG_LEVEL", "trace"),
        ("RUNTIME_DIRECTORY", run.to_str().unwrap()),
    ];
    let daemon = host.start_with(&variables);
    within("the address", || host.has_vip());
    let as_root =
        ["--user=root:hunter2", "get", "--print-value-only", "/turnip/main/heartbeats/key"];
    let keys = text(&host.etcdctl(&as_root).stdout);
    let keys: serde_json::Value = serde_json::from_str(&keys).unwrap();
    let key = keys["current"].as_str().unwrap();
    let mut everything = Vec::new();
    for command in COMMANDS.into_iter().filter(|command| !["run", "release"].contains(&command[0]))
    {
        let output = host.turnip(command).envs(variables).output().unwrap();
        everything.push((format!("{command:?}"), said(&output)));
    }
    // What somebody has spoilt is named, and nothing of it is shown.
    let spoilt = format!("{{\"v\":1,\"current\":{{\"{key}\":1}}}}");
    let put = ["--user=root:hunter2", "put", "/turnip/main/heartbeats/key", &spoilt];
    assert!(host.etcdctl(&put).status.success());
    within("it is named", || daemon.log().contains("leaving /turnip/main/heartbeats/key alone"));
    let page = host.namespace.run(|| {
        let mut stream = TcpStream::connect(metrics)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    });
    everything.push(("metrics".into(), page.unwrap()));
    let spoilt = host.turnip(&["status", "--json"]).envs(variables).output().unwrap();
    everything.push(("status --json".into(), said(&spoilt)));
    everything.push(("the log".into(), daemon.log()));
    for (what, said) in &everything {
        hides(PASSWORD, what, said);
        hides(key, what, said);
    }
    let shown = |what: &str| &everything.iter().find(|(name, _)| name == what).unwrap().1;
    assert!(shown("metrics").contains("turnip_vip_held"));
    assert!(shown("status --json").contains("/turnip/main/heartbeats/key"));
}
