//! The binary on bad input: an error that says what would be right, and an exit status.

use std::process::{Command, Output};

const VARIABLES: [&str; 5] =
    ["TURNIP_IP", "TURNIP_NETMASK", "TURNIP_DEV", "TURNIP_ID", "TURNIP_CONFIG"];

fn turnip(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnip"));
    for name in VARIABLES {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn refused(output: &Output, status: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "{said}\nlacks {word:?}");
    }
}

#[test]
fn the_help_names_every_command_and_variable() {
    let help = turnip(&["--help"], &[]);
    assert!(help.status.success());
    let help = text(&help.stdout);
    for word in [
        "run",
        "status",
        "check",
        "release",
        "drain",
        "undrain",
        "pin",
        "unpin",
        "forget",
        "rotate-key",
    ] {
        assert!(help.contains(&format!("\n  {word} ")), "{word}");
    }
    for word in ["TURNIP_IP", "TURNIP_NETMASK", "TURNIP_DEV", "TURNIP_ID", "Exit status"] {
        assert!(help.contains(word), "{word}");
    }
    let run = text(&turnip(&["run", "--help"], &[]).stdout);
    for word in ["--config", "--lease", "--endpoints", "--log", "--fence", "TURNIP_LEASE"] {
        assert!(run.contains(word), "{word}");
    }
    let status = text(&turnip(&["status", "--help"], &[]).stdout);
    assert!(status.contains("--json") && status.contains("2 no answer"));
}

#[test]
fn every_error_in_the_file_is_shown_with_its_line_and_nothing_is_started() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnip.toml");
    let vip = "[[vip]]\nname = \"a\"\naddress = \"10.0.0.50\"\ninterface = \"lo\"\n";
    std::fs::write(&path, format!("lease = \"3\"\n{vip}colour = \"red\"\n")).unwrap();
    let path = path.to_str().unwrap();
    for command in ["run", "check"] {
        let output = turnip(&[command, "--config", path, "--endpoints", "http://127.0.0.1:1"], &[]);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for words in [
            format!("{path}:1:9: lease = \"3\""),
            format!("{path}:4:11: vip.address = \"10.0.0.50\": not in CIDR form"),
            format!("{path}:6:1: vip.colour: unknown key"),
        ] {
            assert!(said.contains(&words), "{said}\nlacks {words:?}");
        }
    }
}

#[test]
fn a_wrong_variable_is_named() {
    refused(
        &turnip(&["run"], &[("TURNIP_LEASE", "soon"), ("TURNIP_IP", "10.0.0.50")]),
        2,
        &["TURNIP_LEASE = \"soon\"", "TURNIP_NETMASK: not set", "TURNIP_DEV: not set"],
    );
}

#[test]
fn an_unknown_flag_and_an_unknown_command_are_refused() {
    refused(&turnip(&["run", "--leese", "3s"], &[]), 2, &["--leese", "--lease"]);
    refused(&turnip(&["start"], &[]), 2, &["start"]);
}

#[test]
fn a_password_never_shows_in_an_error() {
    let url = "http://root:hunter2@etcd:2379";
    let output = turnip(&["status", "--endpoints", url], &[("TURNIP_ETCD_PASSWORD", "hunter2")]);
    refused(&output, 2, &["a user in the URL", "TURNIP_ETCD_USER"]);
    assert!(!text(&output.stderr).contains("hunter2"));
    let help = turnip(&["run", "--help"], &[("TURNIP_ETCD_PASSWORD", "hunter2")]);
    assert!(!text(&help.stdout).contains("hunter2"));
}

#[test]
fn status_without_an_answer_exits_with_2_and_says_why() {
    let output = turnip(&["status", "--endpoints", "http://127.0.0.1:1"], &[]);
    refused(&output, 2, &["http://127.0.0.1:1", "refused"]);
}
