//! The configuration file: what it may say, and what is said of each error in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tempfile::TempDir;
use turnip::checks::Kind;
use turnip::config::{Config, Fence, Listen, NodeArgs, Problems, Reach, ReachArgs, Sources};
use turnip_core::{
    Absent, Backstop, CheckConfig, Follow, Hook, HookConfig, HostId, Initial, LastResort, Policy,
};

struct File {
    directory: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("turnip.toml"), text).unwrap();
        File { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("turnip.toml")
    }

    fn beside(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn sources(file: &Path, flags: &[&str]) -> Sources {
    let command = NodeArgs::augment_args(ReachArgs::augment_args(clap::Command::new("turnip")));
    let file = file.display().to_string();
    let all = ["turnip", "--config", &file].into_iter().chain(flags.iter().copied());
    Sources::new(&command.get_matches_from(all), |_| None)
}

fn load(text: &str) -> Result<Config, Problems> {
    Config::load(&sources(&File::new(text).path(), &[]))
}

const VIP: &str = "[[vip]]\nname = \"api\"\naddress = \"10.0.0.50/32\"\ninterface = \"lo\"\n";

/// Asserts that `text` has exactly these errors: line, key, and words of the message.
#[track_caller]
fn refused(text: &str, expected: &[(usize, &str, &str)]) {
    let problems = load(text).expect_err("it should be refused");
    let found: Vec<_> = problems.iter().map(|p| (p.line(), p.key(), p.to_string())).collect();
    assert_eq!(found.len(), expected.len(), "{problems}");
    for ((line, key, message), (line_expected, key_expected, words)) in found.iter().zip(expected) {
        assert_eq!((*line, *key), (Some(*line_expected), *key_expected), "{message}");
        assert!(message.contains(words), "{message}\nlacks {words:?}");
        assert!(message.contains(&format!("turnip.toml:{line_expected}:")), "{message}");
    }
}

#[test]
fn a_vip_alone_is_a_configuration_and_the_rest_has_defaults() {
    let config = load(VIP).unwrap();
    assert_eq!(config.reach.cluster.as_str(), "main");
    assert_eq!(config.reach.etcd.endpoints, ["http://127.0.0.1:2379"]);
    assert_eq!(config.reach.etcd.local.as_deref(), Some("http://127.0.0.1:2379"));
    assert_eq!(config.lease.duration(), Duration::from_secs(3));
    assert_eq!((config.fence, config.weight), (Fence::Auto, 100));
    assert_eq!(config.vips[0].config.policy, Policy::Spread);
    assert_eq!((config.peers.listen, config.peers.address), (Listen::Default, None));
    assert!(!config.vips[0].wait_for_interface);
    let hostname = nix::unistd::gethostname().unwrap();
    assert_eq!(config.node.as_str(), hostname.to_str().unwrap());
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let file = File::new("");
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n");
    let ca = file.beside("ca.pem", &pem("CERTIFICATE"));
    let key = file.beside("key.pem", &pem("EC PRIVATE KEY"));
    let password = file.beside("password", "open sesame\n");
    let text = format!(
        r#"
        cluster = "edge"
        node = "host-a"
        lease = "600ms"
        renew = "90ms"
        guard = "50ms"
        drift = "0.5%"
        fence = "nftables"
        weight = 50
        log = "json"
        log_level = "debug"

        [etcd]
        endpoints = ["https://10.0.0.8:2379", "https://[fd00::8]:2379"]
        local = "https://localhost:2379"
        ca = "{ca}"
        cert = "{ca}"
        key = "{key}"
        server_name = "etcd.example"
        user = "turnip"
        password_file = "{password}"

        [peers]
        listen = "0.0.0.0:7000"
        address = "10.0.0.7"

        [[vip]]
        name = "gateway"
        addresses = ["10.0.0.1/24", "fd00::1/64"]
        interface = "br100"
        policy = "priority"
        priority = 7
        preempt = false
        wait_for_interface = true
        require_carrier = false
        keep_connections = true

        [[vip]]
        name = "api"
        address = "10.0.1.1/32"
        interface = "lo"
        policy = "leader"
        "#
    );
    std::fs::write(file.path(), text).unwrap();
    let config = Config::load(&sources(&file.path(), &[])).unwrap();
    assert_eq!(config.node.as_str(), "host-a");
    assert_eq!(config.lease.renew(), Duration::from_millis(90));
    assert_eq!(config.lease.guard(), Duration::from_millis(50));
    assert_eq!(config.lease.drift_ppm(), 5_000);
    assert_eq!((config.fence, config.weight), (Fence::Nftables, 50));
    assert_eq!(config.vips.len(), 2);
    assert_eq!(config.vips[0].config.addresses.len(), 2);
    assert_eq!(config.vips[0].config.policy, Policy::Priority { priority: 7, preempt: false });
    assert!(config.vips[0].wait_for_interface);
    let extras = |vip: usize| {
        let vip = &config.vips[vip].config;
        (vip.require_carrier, vip.keep_connections)
    };
    assert_eq!((extras(0), extras(1)), ((false, true), (true, false)));
    assert_eq!(config.vips[1].config.policy, Policy::Leader);
    let etcd = &config.reach.etcd;
    assert_eq!(etcd.local.as_deref(), Some("https://localhost:2379"));
    assert_eq!(etcd.tls.server_name.as_deref(), Some("etcd.example"));
    assert!(etcd.tls.client.is_some());
    let (user, secret) = etcd.user.as_ref().unwrap();
    assert_eq!((user.as_str(), secret.reveal()), ("turnip", "open sesame"));
    assert!(!format!("{config:?}").contains("sesame"));
    assert_eq!(config.peers.listen, Listen::At("0.0.0.0:7000".parse().unwrap()));
    assert_eq!(config.peers.address, Some("10.0.0.7:7000".parse().unwrap()));
    let node = config.node_config(HostId("h".into()), 7, Backstop::Fence, None);
    assert_eq!((node.vips.len(), node.cluster.as_str()), (2, "edge"));
}

#[test]
fn all_errors_come_at_once_each_with_its_line() {
    refused(
        r#"
cluster = "a/b"
lease = 3
weigth = 10

[etcd]
endpoints = ["10.0.0.1:2379"]

[[vip]]
name = "api"
address = "10.0.0.50"
interface = "eth0/1"
"#,
        &[
            (2, "cluster", "\"a/b\" is not a name"),
            (3, "lease", "\"3s\""),
            (4, "weigth", "did you mean \"weight\"?"),
            (7, "etcd.endpoints", "\"http://10.0.0.1:2379\""),
            (11, "vip.address", "\"10.0.0.50/32\""),
            (12, "vip.interface", "no interface can have this name"),
        ],
    );
}

#[test]
fn an_error_names_file_line_column_key_value_and_what_would_be_right() {
    let file = File::new("lease = \"3\"\n");
    let problems = Config::load(&sources(&file.path(), &[])).unwrap_err();
    let first = problems.iter().next().unwrap().to_string();
    let path = file.path().display().to_string();
    let expected =
        format!("{path}:1:9: lease = \"3\": not a duration; write it with its unit, as in \"3s\"");
    assert!(problems.iter().any(|problem| problem.to_string() == expected), "{first}");
}

#[test]
fn what_is_no_toml_is_named_with_its_lines_and_nothing_of_it_is_quoted() {
    let problems = load("user = \"hunter2\nx = = 1\n").unwrap_err();
    let lines: Vec<_> = problems.iter().filter(|p| p.key().is_empty()).map(|p| p.line()).collect();
    assert!(lines.contains(&Some(1)) && lines.contains(&Some(2)), "{problems}");
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
    assert!(!problems.to_string().contains("add a [[vip]] table"), "{problems}");
}

#[test]
fn the_same_address_in_two_vips_is_refused_and_both_are_named() {
    let second = "[[vip]]\nname = \"b\"\naddresses = [\"10.0.0.51/32\",\n \"10.0.0.50/24\"]\ninterface = \"lo\"\n";
    refused(&format!("{VIP}{second}"), &[(8, "vip.addresses", "the VIP api too, in line 3")]);
}

#[test]
fn a_link_local_address_is_refused_twice_on_one_interface_and_not_on_two() {
    let vip = |name: &str, interface: &str| {
        format!(
            "[[vip]]\nname = \"{name}\"\naddress = \"fe80::1/64\"\ninterface = \"{interface}\"\n"
        )
    };
    let on_two = format!("{}{}", vip("a", "br100"), vip("b", "br200"));
    assert_eq!(load(&on_two).unwrap().vips.len(), 2);
    let on_one = format!("{}{}", vip("a", "br100"), vip("b", "br100"));
    let told = "the VIP a too, in line 3; a link-local address belongs to one VIP on an interface";
    refused(&on_one, &[(7, "vip.address", told)]);
}

#[test]
fn the_same_name_for_two_vips_is_refused() {
    let second = VIP.replace("10.0.0.50", "10.0.0.51");
    refused(&format!("{VIP}{second}"), &[(6, "vip.name", "the first in line 2")]);
}

#[test]
fn what_is_missing_in_a_vip_is_named_at_its_table() {
    refused(
        "\n[[vip]]\n",
        &[
            (2, "vip.address", "10.0.0.50/32"),
            (2, "vip.interface", "\"eth0\""),
            (2, "vip.name", "\"api\""),
        ],
    );
}

#[test]
fn a_file_without_vips_is_refused() {
    refused("cluster = \"main\"\n", &[(1, "vip", "add a [[vip]] table")]);
}

#[test]
fn a_vip_in_single_brackets_is_told_so() {
    refused(&VIP.replace("[[vip]]", "[vip]"), &[(1, "vip", "double brackets")]);
}

#[test]
fn an_unknown_key_of_a_vip_is_answered_with_the_nearest() {
    refused(
        &format!("{VIP}adress = \"10.0.0.1/32\"\n"),
        &[(5, "vip.adress", "did you mean \"address\"?")],
    );
}

#[test]
fn priority_and_preempt_go_with_the_policy_priority_alone() {
    refused(
        &format!("{VIP}priority = 5\npreempt = false\n"),
        &[(5, "vip.priority", "policy = \"priority\""), (6, "vip.preempt", "\"spread\"")],
    );
}

#[test]
fn an_unknown_policy_is_told_the_four() {
    refused(
        &format!("{VIP}policy = \"random\"\n"),
        &[(5, "vip.policy", "\"leader\", \"spread\", \"priority\" or \"follow\"")],
    );
}

#[test]
fn what_a_vip_follows_is_a_key_with_a_name_for_this_host_and_the_rest_has_defaults() {
    let follow = |table: &str| {
        let text = format!("node = \"n1\"\n{VIP}policy = \"follow\"\nfollow = {table}\n");
        load(&text).unwrap().vips[0].config.policy.follow().cloned().unwrap()
    };
    let plain = follow("{ key = \"/service/batman/leader\" }");
    let expected = Follow {
        key: "/service/batman/leader".into(),
        value: "n1".into(),
        pointer: None,
        absent: Absent::Nobody,
        unchanged: None,
    };
    assert_eq!(plain, expected);
    let all = "{ key = \"/l\", value = \"pg1\", pointer = \"/a~1b\", absent = \"last\", unchanged = \"30s\" }";
    let expected = Follow {
        key: "/l".into(),
        value: "pg1".into(),
        pointer: Some("/a~1b".into()),
        absent: Absent::Last,
        unchanged: Some(Duration::from_secs(30)),
    };
    assert_eq!(follow(all), expected);
}

#[test]
fn what_cannot_be_followed_is_refused_where_it_stands() {
    let refuse = |table: &str, key: &str, what: &str| {
        refused(&format!("{VIP}policy = \"follow\"\n{table}\n"), &[(6, key, what)]);
    };
    refused(&format!("{VIP}policy = \"follow\"\n"), &[(1, "vip.follow", "name the key")]);
    refuse("follow = \"/leader\"", "vip.follow", "not a table");
    refuse("follow = { value = \"a\" }", "vip.follow.key", "missing");
    refuse("follow = { key = \"/turnip/main/x\" }", "vip.follow.key", "turnip's own");
    refuse(
        "follow = { key = \"/l\", pointer = \"name\" }",
        "vip.follow.pointer",
        "begins with a slash",
    );
    refuse("follow = { key = \"/l\", absent = \"keep\" }", "vip.follow.absent", "\"last\"");
    refuse("follow = { key = \"/l\", unchanged = \"3\" }", "vip.follow.unchanged", "unit");
    refuse("follow = { key = \"/l\", unchanged = \"10ms\" }", "vip.follow.unchanged", "too short");
    refuse("follow = { kye = \"/l\", key = \"/l\" }", "vip.follow.kye", "did you mean \"key\"");
    refused(
        &format!("{VIP}follow = {{ key = \"/l\" }}\n"),
        &[(5, "vip.follow", "policy = \"follow\"")],
    );
}

#[test]
fn the_policy_leader_needs_an_etcd_member_on_this_host() {
    refused(
        &format!("[etcd]\nendpoints = [\"http://10.0.0.1:2379\"]\n{VIP}policy = \"leader\"\n"),
        &[(7, "vip.policy", "etcd.local")],
    );
}

#[test]
fn lease_settings_that_cannot_be_safe_are_refused_with_the_reason() {
    for (text, line, key, words) in [
        ("lease = \"100ms\"\n", 1, "lease", "at least 200ms"),
        ("lease = \"1000s\"\n", 1, "lease", "at most 600s"),
        ("renew = \"1s\"\n", 1, "renew", "one lost renewal"),
        ("lease = \"3s\"\nguard = \"2s\"\n", 2, "guard", "half of the lease"),
        ("drift = \"0.01%\"\n", 1, "drift", "0.05 % to 10 %"),
        ("drift = 1\n", 1, "drift", "\"1%\""),
        ("lease = \"3s\"\nfence = \"lifetime\"\n", 1, "lease", "at least 4s"),
    ] {
        refused(&format!("{text}{VIP}"), &[(line, key, words)]);
    }
}

#[test]
fn where_heartbeats_are_received_is_an_address_that_others_reach_and_that_stays() {
    let off = load(&format!("[peers]\nlisten = \"off\"\n{VIP}")).unwrap();
    assert_eq!(off.peers.listen, Listen::Off);
    for (peers, line, key, words) in [
        ("listen = 7746", 2, "peers.listen", "peers.listen = 7746: not a text"),
        ("listen = \"10.0.0.1\"", 2, "peers.listen", "write \"10.0.0.1:7746\""),
        ("listen = \"10.0.0.50:7746\"", 2, "peers.listen", "an address of a VIP"),
        ("address = \"10.0.0.50\"", 2, "peers.address", "an address of the VIP api"),
        ("address = \"127.0.0.1\"", 2, "peers.address", "a loopback address"),
        ("listen = \"off\"\naddress = \"10.0.0.1\"", 3, "peers.address", "of no use"),
        ("adress = \"10.0.0.1\"", 2, "peers.adress", "did you mean \"address\"?"),
    ] {
        refused(&format!("[peers]\n{peers}\n{VIP}"), &[(line, key, words)]);
    }
    refused(&format!("peers = 1\n{VIP}"), &[(1, "peers", "write [peers] on a line of its own")]);
}

#[test]
fn several_wrong_lease_settings_are_all_named() {
    refused(
        &format!("renew = \"1s\"\nguard = \"2s\"\ndrift = \"50%\"\n{VIP}"),
        &[
            (1, "renew", "one lost renewal"),
            (2, "guard", "half of the lease"),
            (3, "drift", "out of range"),
        ],
    );
}

#[test]
fn the_fence_lifetime_with_the_default_lease_is_refused() {
    let problems = load(&format!("fence = \"lifetime\"\n{VIP}")).unwrap_err().to_string();
    assert!(problems.contains("lease") && problems.contains("at least 4s"), "{problems}");
}

#[test]
fn a_password_in_the_file_is_refused_and_never_shown() {
    let text = format!("[etcd]\nuser = \"u\"\npassword = \"hunter2\"\n{VIP}");
    let problems = load(&text).unwrap_err().to_string();
    assert!(problems.contains("password_file") && problems.contains("TURNIP_ETCD_PASSWORD"));
    let misspelt = load(&format!("[etcd]\npasword = \"hunter2\"\n{VIP}")).unwrap_err().to_string();
    assert!(misspelt.contains("did you mean \"password"), "{misspelt}");
    let in_url = format!("[etcd]\nendpoints = [\"http://u:hunter2@etcd:2379\"]\n{VIP}");
    let in_url = load(&in_url).unwrap_err().to_string();
    assert!(in_url.contains("a user in the URL"), "{in_url}");
    for shown in [problems, misspelt, in_url] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_user_needs_a_password_and_a_password_a_user() {
    refused(&format!("[etcd]\nuser = \"u\"\n{VIP}"), &[(2, "etcd.user", "without a password")]);
    let file = File::new("");
    let password = file.beside("password", "p\n");
    refused(
        &format!("[etcd]\npassword_file = \"{password}\"\n{VIP}"),
        &[(2, "etcd.user", "without a user")],
    );
}

#[test]
fn files_that_cannot_be_read_or_hold_something_else_are_refused() {
    let file = File::new("");
    let other = file.beside("other", "hello\n");
    let tls = "[etcd]\nendpoints = [\"https://etcd:2379\"]\n";
    refused(&format!("{tls}ca = \"/nowhere/ca.pem\"\n{VIP}"), &[(3, "etcd.ca", "No such file")]);
    refused(&format!("{tls}ca = \"{other}\"\n{VIP}"), &[(3, "etcd.ca", "PEM")]);
}

#[test]
fn certificates_without_tls_and_half_a_pair_are_refused() {
    let file = File::new("");
    let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let pem = file.beside("cert.pem", pem);
    refused(&format!("[etcd]\nca = \"{pem}\"\n{VIP}"), &[(2, "etcd.ca", "without TLS")]);
    let tls = "[etcd]\nendpoints = [\"https://etcd:2379\"]\n";
    refused(&format!("{tls}cert = \"{pem}\"\n{VIP}"), &[(3, "etcd.cert", "`key`")]);
}

#[test]
fn endpoints_are_all_secure_or_none() {
    refused(
        &format!("[etcd]\nendpoints = [\"http://a:1\", \"https://b:1\"]\n{VIP}"),
        &[(2, "etcd.endpoints", "all as https:// or all as http://")],
    );
}

#[test]
fn an_endpoint_that_is_a_vip_is_refused_when_it_is_the_only_one_and_said_beside_others() {
    let with = |etcd: &str| format!("[etcd]\n{etcd}\n{VIP}");
    let only = "endpoints = [\"http://10.0.0.50:2379\"]";
    refused(&with(only), &[(2, "etcd.endpoints", "the address of the VIP api")]);
    let local = "endpoints = [\"http://10.0.0.9:2379\"]\nlocal = \"http://10.0.0.50:2379\"";
    refused(&with(local), &[(3, "etcd.local", "the address of the VIP api")]);
    let beside = "endpoints = [\"http://10.0.0.50:2379\", \"http://10.0.0.9:2379\"]";
    let notices = load(&with(beside)).unwrap().reach.notices.concat();
    assert!(notices.contains("http://10.0.0.50:2379 is the address of the VIP api"), "{notices}");
    let others = "endpoints = [\"http://10.0.0.9:2379\", \"http://etcd.example:2379\"]";
    assert!(load(&with(others)).unwrap().reach.notices.is_empty());
}

#[test]
fn a_value_of_another_type_is_told_the_right_one() {
    refused(
        &format!("weight = \"10\"\nnode = 5\nlog = true\n{VIP}wait_for_interface = \"yes\"\n"),
        &[
            (1, "weight", "whole number"),
            (2, "node", "quotation marks"),
            (3, "log", "\"json\""),
            (8, "vip.wait_for_interface", "true nor false"),
        ],
    );
}

#[test]
fn a_flag_beats_the_file_and_is_named_in_its_error() {
    let file = File::new(&format!("lease = \"5s\"\n{VIP}"));
    let flags = ["--lease", "4s", "--endpoints", "http://127.0.0.1:1,http://127.0.0.1:2"];
    let config = Config::load(&sources(&file.path(), &flags)).unwrap();
    assert_eq!(config.lease.duration(), Duration::from_secs(4));
    assert_eq!(config.reach.etcd.endpoints, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
    let problems = Config::load(&sources(&file.path(), &["--lease", "4"])).unwrap_err().to_string();
    assert!(problems.contains("--lease \"4\": not a duration"), "{problems}");
}

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let problems = Config::load(&sources(Path::new("/nowhere/turnip.toml"), &[])).unwrap_err();
    let text = problems.to_string();
    assert!(text.contains("/nowhere/turnip.toml") && text.contains("No such file"), "{text}");
    assert!(!text.contains("add a [[vip]] table"), "{text}");
}

#[test]
fn commands_that_ask_only_about_the_cluster_do_not_mind_the_vips() {
    let file = File::new("cluster = \"edge\"\n[[vip]]\nname = 3\n");
    let reach = Reach::load(&sources(&file.path(), &[])).unwrap();
    assert_eq!(reach.cluster.as_str(), "edge");
}

#[test]
fn an_interface_that_does_not_exist_is_refused_unless_it_is_waited_for() {
    let existing = ["lo".to_owned(), "eth0".to_owned()];
    let config = load(&VIP.replace("\"lo\"", "\"eht0\"")).unwrap();
    let problems = config.check_interfaces(&existing).unwrap_err();
    assert_eq!(problems.iter().next().unwrap().line(), Some(4));
    assert!(problems.to_string().contains("did you mean \"eth0\"?"), "{problems}");
    let waiting = format!("{}wait_for_interface = true\n", VIP.replace("\"lo\"", "\"eth7\""));
    load(&waiting).unwrap().check_interfaces(&existing).unwrap();
    load(VIP).unwrap().check_interfaces(&existing).unwrap();
}

#[test]
fn the_example_says_how_it_is_and_its_defaults_are_the_defaults() {
    let example = include_str!("../dist/turnip.toml");
    // As it comes it puts no address anywhere: it says that one is missing, and nothing else.
    let missing = load(example).unwrap_err();
    let keys: Vec<&str> = missing.iter().map(|problem| problem.key()).collect();
    assert_eq!(keys, ["vip"], "{missing}");
    // Every commented key is one that is understood: uncommented, nothing is unknown or malformed.
    let all: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let problems = load(&all).unwrap_err().to_string();
    assert!(!problems.contains("unknown key"), "{problems}");
    let expected = ["etcd.ca", "etcd.cert", "etcd.key", "etcd.password_file", "etcd.server_name"];
    for problem in load(&all).unwrap_err().iter() {
        assert!(expected.contains(&problem.key()), "{problem}");
    }
}

#[test]
fn how_often_and_where_a_vip_is_announced_can_be_said_and_has_defaults() {
    let config = load(VIP).unwrap();
    assert_eq!(config.announce_every, Some(Duration::from_secs(60)));
    assert_eq!((&config.vips[0].announce_on, config.vips[0].config.defend), (&None, false));
    assert!(config.announce_on().is_empty());
    let text = format!("announce_every = \"90s\"\n{VIP}announce_on = [\"eth0\"]\ndefend = true\n");
    let config = load(&text).unwrap();
    assert_eq!(config.announce_every, Some(Duration::from_secs(90)));
    assert!(config.vips[0].config.defend);
    let (vip, on) = config.announce_on().pop_first().unwrap();
    assert_eq!((vip.as_str(), &*on[0], on.len()), ("api", "eth0", 1));
    let node = config.node_config(HostId("h".into()), 7, Backstop::Fence, None);
    assert_eq!(node.announce_every, Some(Duration::from_secs(90)));
    for never in ["\"0\"", "0"] {
        let config = load(&format!("announce_every = {never}\n{VIP}")).unwrap();
        assert_eq!(config.announce_every, None, "{never}");
    }
    let file = File::new(VIP);
    let flags = sources(&file.path(), &["--announce-every", "30s"]);
    assert_eq!(Config::load(&flags).unwrap().announce_every, Some(Duration::from_secs(30)));
}

fn with_check(lines: &str) -> String {
    format!("{VIP}checks = [\"api\"]\n[[check]]\nname = \"api\"\n{lines}")
}

#[test]
fn a_check_is_in_the_words_of_keepalived_and_has_defaults() {
    let config = load(&with_check("tcp = \"127.0.0.1:5432\"\n")).unwrap();
    let check = &config.checks[0];
    let (rise, fall, initial) = (2, 3, Initial::Wait);
    let name = "api".parse().unwrap();
    let defaults = CheckConfig { name, rise, fall, initial, weight: None, whole_node: false };
    assert_eq!(check.config, defaults);
    assert!(matches!(&check.kind, Kind::Tcp(host, 5432) if host == "127.0.0.1"));
    assert_eq!([check.interval, check.timeout], [Duration::from_secs(1); 2]);
    assert_eq!(config.vips[0].config.checks, [check.config.name.clone()].into());
    assert_eq!(config.vips[0].config.last_resort, LastResort::Keep);

    let given = "exec = [\"/bin/check\", \"-q\"]\ninterval = \"20s\"\nrise = 1\nfall = 5\ninitial = \"down\"\nweight = -20\nnode = true\n";
    let config = load(&with_check(given)).unwrap();
    let check = &config.checks[0];
    assert!(matches!(&check.kind, Kind::Exec(argv) if argv == &["/bin/check", "-q"]));
    assert_eq!(check.timeout, Duration::from_secs(5), "up to five seconds by default");
    let CheckConfig { rise, fall, initial, weight, whole_node, .. } = check.config;
    assert_eq!((rise, fall, initial, weight, whole_node), (1, 5, Initial::Down, Some(-20), true));
    let host = HostId("m/b/n".into());
    let node = config.node_config(host, 7, Backstop::Fence, None);
    assert_eq!(node.checks, std::slice::from_ref(&check.config));
    let text = with_check("file = \"/etc/off\"\n")
        .replace("checks =", "last_resort = \"release\"\nchecks =");
    assert_eq!(load(&text).unwrap().vips[0].config.last_resort, LastResort::Release);
}

#[test]
fn a_check_that_makes_no_sense_is_refused_with_what_would() {
    let line = |lines: &str, key: &str, words: &str| {
        refused(&with_check(lines), &[(8, key, words)]);
    };
    line("exec = \"/bin/check -q\"\n", "check.exec", "there is no shell");
    line("exec = []\n", "check.exec", "names no program");
    line("tcp = \"127.0.0.1\"\n", "check.tcp", "127.0.0.1:5432");
    line("http = \"localhost/health\"\n", "check.http", "http://127.0.0.1:8080/health");
    line("file = \"maintenance\"\n", "check.file", "from the root on");
    line("process = \"/usr/sbin/haproxy\"\n", "check.process", "\"haproxy\"");
    line("interface = \"a/b\"\n", "check.interface", "ip link");
    let second = |lines: &str, key: &str, words: &str| {
        refused(&with_check(&format!("file = \"/x\"\n{lines}\n")), &[(9, key, words)]);
    };
    line("file = \"/x\"\ntcp = \"127.0.0.1:1\"\n", "check.file", "given beside tcp");
    second("weight = 0", "check.weight", "-20");
    second("rise = 0", "check.rise", "from 1");
    second("initial = \"ok\"", "check.initial", "\"wait\"");
    second("interval = \"1ms\"", "check.interval", "too short");
    second("status = 200", "check.status", "unknown key");
    refused(&with_check(""), &[(6, "check.exec", "say what is tried")]);
    let unused = format!("{VIP}[[check]]\nname = \"x\"\nfile = \"/x\"\n");
    refused(&unused, &[(6, "check.name", "no VIP depends on it")]);
    let misspelt = with_check("file = \"/x\"\nnode = true\n").replace("[\"api\"]", "[\"apj\"]");
    refused(&misspelt, &[(5, "vip.checks", "did you mean \"api\"?")]);
    let leader =
        with_check("file = \"/x\"\nweight = -1\n").replace("checks", "policy = \"leader\"\nchecks");
    refused(&leader, &[(6, "vip.checks", "of no use with the policy")]);
}

#[test]
fn metrics_are_off_unless_an_address_that_stays_is_given() {
    assert_eq!(load(VIP).unwrap().metrics, None);
    let config = load(&format!("metrics = \"127.0.0.1:9464\"\n{VIP}")).unwrap();
    assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    let file = File::new(VIP);
    let flags = sources(&file.path(), &["--metrics", "[::1]:9999"]);
    assert_eq!(Config::load(&flags).unwrap().metrics, Some("[::1]:9999".parse().unwrap()));
    refused(&format!("metrics = true\n{VIP}"), &[(1, "metrics", "quotation marks")]);
    refused(&format!("metrics = \"9464\"\n{VIP}"), &[(1, "metrics", "\"127.0.0.1:9464\"")]);
    let of_the_vip = format!("metrics = \"10.0.0.50:9464\"\n{VIP}");
    refused(&of_the_vip, &[(1, "metrics", "which moves")]);
}

#[test]
fn announcements_that_make_no_sense_are_refused() {
    refused(&format!("announce_every = 60\n{VIP}"), &[(1, "announce_every", "\"60s\"")]);
    refused(&format!("announce_every = \"10ms\"\n{VIP}"), &[(1, "announce_every", "\"1s\"")]);
    for (value, words) in [
        ("[]", "or leave it out"),
        ("\"eth0\"", "not a list; write it as in [\"eth0\"]"),
        ("[\"eth0\", \"eth0\"]", "named twice"),
        ("[\"no interface\"]", "no interface can have this name"),
    ] {
        refused(&format!("{VIP}announce_on = {value}\n"), &[(5, "vip.announce_on", words)]);
    }
    refused(&format!("{VIP}defend = \"yes\"\n"), &[(5, "vip.defend", "neither true nor false")]);
}

#[test]
fn an_interface_to_announce_on_that_does_not_exist_is_refused_unless_it_is_waited_for() {
    let existing = ["lo".to_owned(), "eth0".to_owned()];
    let text = format!("{VIP}announce_on = [\"eth0\", \"eht0\"]\n");
    let problems = load(&text).unwrap().check_interfaces(&existing).unwrap_err();
    let problem = problems.iter().next().unwrap();
    assert_eq!((problem.line(), problem.key()), (Some(5), "vip.announce_on"));
    assert!(problems.to_string().contains("did you mean \"eth0\"?"), "{problems}");
    load(&format!("{text}wait_for_interface = true\n"))
        .unwrap()
        .check_interfaces(&existing)
        .unwrap();
}

fn many_vips(count: u32) -> String {
    let vip = |index: u32| {
        let address = std::net::Ipv4Addr::from(0x0a80_0000 + index);
        format!(
            "[[vip]]\nname = \"vip-{index:05}\"\naddress = \"{address}/32\"\ninterface = \"lo\"\n"
        )
    };
    (1..=count).map(vip).collect()
}

#[test]
fn ten_thousand_vips_can_be_published() {
    let config = load(&many_vips(10_000)).unwrap();
    assert_eq!(config.vips.len(), 10_000);
}

#[test]
fn more_vips_than_a_node_can_publish_are_refused_and_how_many_fit_is_said() {
    let message = load(&many_vips(20_000)).unwrap_err().to_string();
    assert!(message.contains("20000 VIPs are too many for one node"), "{message}");
    let fit = message.split("some ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let fit: u32 = fit.parse().unwrap();
    assert!(load(&many_vips(fit * 99 / 100)).is_ok(), "{message}");
    assert!(load(&many_vips(fit * 102 / 100)).is_err(), "{message}");
}

#[test]
fn a_hook_is_a_program_with_arguments_or_a_table_that_says_more() {
    let text = format!(
        "{VIP}after_assume = [\"/bin/x\", \"{{vip}}\"]\n[vip.before_assume]\nrun = [\"/bin/y\"]\ntimeout = \"30s\"\non_failure = \"ignore\"\n"
    );
    let config = load(&text).unwrap();
    let hooks = &config.vips[0].config.hooks;
    let of = |hook| {
        let hook: &HookConfig = &hooks[&hook];
        (hook.timeout, hook.ignores_failure)
    };
    assert_eq!(of(Hook::AfterAssume), (Duration::from_secs(10), false));
    assert_eq!(of(Hook::BeforeAssume), (Duration::from_secs(30), true));
    assert_eq!(hooks.len(), 2);
    let commands = config.hook_commands();
    let command = &commands[&("api".parse().unwrap(), Hook::AfterAssume)];
    assert_eq!(command.as_slice(), ["/bin/x", "{vip}"]);
}

#[test]
fn a_hook_that_could_not_be_run_is_refused() {
    refused(
        &format!(
            "{VIP}before_assume = \"/bin/x\"\nafter_assume = [\"notify\"]\nbefore_release = []\nafter_release = [\"/bin/x\", 7]\n"
        ),
        &[
            (
                5,
                "vip.before_assume",
                "not a list; there is no shell; write the program and its arguments",
            ),
            (6, "vip.after_assume", "\"notify\" is no whole path"),
            (7, "vip.before_release", "names no program"),
            (8, "vip.after_release", "not a text"),
        ],
    );
    refused(
        &format!(
            "{VIP}on_conflict = {{ run = [\"/bin/x\"], timeout = \"1h\", on_failure = \"ignore\", user = \"root\" }}\nafter_assume = {{ timeout = \"1s\" }}\n"
        ),
        &[
            (
                5,
                "vip.on_conflict.timeout",
                "out of range; a hook may take from \"100ms\" to \"10m\"",
            ),
            (5, "vip.on_conflict.on_failure", "only before_assume"),
            (5, "vip.on_conflict.user", "unknown key"),
            (6, "vip.after_assume.run", "missing"),
        ],
    );
}
