//! The original's four variables, alone and beside a file.

use clap::Args;
use turnip::config::{Config, NodeArgs, Problems, ReachArgs, Sources};
use turnip_core::{Policy, VipAddress};

type Variables<'a> = &'a [(&'a str, &'a str)];

const COMPLETE: [(&str, &str); 4] = [
    ("TURNIP_IP", "10.0.0.50"),
    ("TURNIP_NETMASK", "/32"),
    ("TURNIP_DEV", "lo"),
    ("TURNIP_ID", "10.0.0.1"),
];

fn load(flags: &[&str], variables: Variables) -> Result<Config, Problems> {
    let command = NodeArgs::augment_args(ReachArgs::augment_args(clap::Command::new("turnip")));
    let all = ["turnip"].iter().chain(flags);
    let environment = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Config::load(&Sources::new(&command.get_matches_from(all), environment))
}

fn with(variable: &str, value: &str) -> Vec<(&'static str, String)> {
    let replace = |(name, old): &(&'static str, &str)| {
        (*name, if *name == variable { value.to_owned() } else { (*old).to_owned() })
    };
    COMPLETE.iter().map(replace).collect()
}

fn load_with(variable: &str, value: &str) -> Result<Config, Problems> {
    let variables = with(variable, value);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    load(&[], &variables)
}

#[test]
fn the_four_variables_alone_are_a_complete_configuration() {
    let config = load(&[], &COMPLETE).unwrap();
    let vip = &config.vips[0].config;
    assert_eq!(config.node.as_str(), "10.0.0.1");
    assert_eq!(config.member_ip, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(vip.name.as_str(), "10.0.0.50");
    assert_eq!(vip.addresses, VipAddress::all_on("lo", ["10.0.0.50/32".parse().unwrap()]));
    assert_eq!(vip.policy, Policy::Leader);
    assert_eq!(config.reach.etcd.endpoints, ["http://127.0.0.1:2379"]);
    assert_eq!(config.reach.etcd.local.as_deref(), Some("http://127.0.0.1:2379"));
}

#[test]
fn the_netmask_has_three_spellings_in_both_families() {
    for netmask in ["/24", "24", "255.255.255.0"] {
        let config = load_with("TURNIP_NETMASK", netmask).unwrap();
        assert_eq!(
            config.vips[0].config.addresses,
            VipAddress::all_on("lo", ["10.0.0.50/24".parse().unwrap()])
        );
    }
    for netmask in ["/64", "64", "ffff:ffff:ffff:ffff::"] {
        let variables = [
            ("TURNIP_IP", "fd00::50"),
            ("TURNIP_NETMASK", netmask),
            ("TURNIP_DEV", "lo"),
            ("TURNIP_ID", "fd00::1"),
        ];
        let config = load(&[], &variables).unwrap();
        assert_eq!(
            config.vips[0].config.addresses,
            VipAddress::all_on("lo", ["fd00::50/64".parse().unwrap()])
        );
        assert_eq!(config.node.as_str(), "fd00::1");
    }
}

#[test]
fn a_missing_or_empty_variable_is_named() {
    for (name, _) in COMPLETE {
        let others: Vec<_> = COMPLETE.iter().copied().filter(|(other, _)| *other != name).collect();
        let absent = load(&[], &others).unwrap_err();
        let empty = load_with(name, "").unwrap_err();
        for problems in [absent, empty] {
            let text = problems.to_string();
            assert_eq!(problems.iter().count(), 1, "{text}");
            assert!(text.contains(&format!("{name}: not set")), "{text}");
        }
    }
}

#[test]
fn a_wrong_variable_is_named_with_its_value_and_what_would_be_right() {
    for (variable, value, words) in [
        ("TURNIP_IP", "10.0.0.500", "not an IP address"),
        ("TURNIP_IP", "127.0.0.1", "loopback"),
        ("TURNIP_NETMASK", "255.0.255.0", "255.255.255.0"),
        ("TURNIP_NETMASK", "/33", "at most /32"),
        ("TURNIP_DEV", "eth0 eth1", "no interface can have this name"),
        ("TURNIP_ID", "host-a", "not an IP address"),
    ] {
        let problems = load_with(variable, value).unwrap_err().to_string();
        assert!(problems.contains(&format!("{variable} = {value:?}: ")), "{problems}");
        assert!(problems.contains(words), "{problems}");
    }
}

#[test]
fn several_wrong_variables_are_all_named() {
    let variables =
        [("TURNIP_IP", "x"), ("TURNIP_NETMASK", "/32"), ("TURNIP_DEV", "a/b"), ("TURNIP_ID", "y")];
    let problems = load(&[], &variables).unwrap_err();
    assert_eq!(problems.iter().count(), 3, "{problems}");
}

#[test]
fn beside_a_file_they_take_the_place_of_its_vips_and_the_rest_of_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnip.toml");
    let vip = "[[vip]]\nname = \"a\"\naddress = \"10.9.9.9/32\"\ninterface = \"lo\"\n";
    std::fs::write(&path, format!("lease = \"4s\"\nnode = \"host-a\"\n{vip}")).unwrap();
    let config = load(&["--config", path.to_str().unwrap()], &COMPLETE).unwrap();
    assert_eq!(config.lease.duration().as_secs(), 4);
    assert_eq!(config.node.as_str(), "10.0.0.1");
    assert_eq!(config.vips.len(), 1);
    assert_eq!(config.vips[0].config.name.as_str(), "10.0.0.50");
    let notice = &config.reach.notices[0];
    assert!(notice.contains("turnip.toml") && notice.contains("left aside"), "{notice}");
    assert!(notice.contains("table is left aside (a)"), "{notice}");
    assert!(notice.contains("node = \"host-a\" is left aside (this node is 10.0.0.1)"), "{notice}");
}

#[test]
fn a_variable_that_is_misspelt_is_not_ignored_in_silence() {
    let variables =
        [("TURNIP_LAESE", "5s"), ("TURNIP_PORT", "tcp://10.0.0.9:80"), ("PATH", "/bin")];
    let all = [COMPLETE.as_slice(), &variables].concat();
    let all = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let config = Config::load(&Sources::given(&[], &all).unwrap()).unwrap();
    assert_eq!(
        config.reach.notices,
        [
            "TURNIP_LAESE (did you mean TURNIP_LEASE?), TURNIP_PORT are no variables of turnip, and ignored"
        ]
    );
}

#[test]
fn a_password_from_two_places_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, "secret").unwrap();
    let path = path.to_str().unwrap();
    let user = [("TURNIP_ETCD_USER", "turnip"), ("TURNIP_ETCD_PASSWORD_FILE", path)];
    let load = |more: &[(&str, &str)]| {
        let all = COMPLETE.iter().chain(&user).chain(more);
        let all = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::load(&Sources::given(&[], &all).unwrap()).unwrap().reach.notices
    };
    assert!(load(&[]).is_empty());
    let notices = load(&[("TURNIP_ETCD_PASSWORD", "other")]);
    assert!(notices[0].contains("two passwords for etcd, TURNIP_ETCD_PASSWORD and"), "{notices:?}");
}

#[test]
fn a_file_of_variables_with_all_of_them_in_one_line_is_told_what_would_be_right() {
    let all = "10.0.0.50 TURNIP_NETMASK=/32 TURNIP_DEV=lo TURNIP_ID=10.0.0.1";
    let problems = load(&[], &[("TURNIP_IP", all)]).unwrap_err().to_string();
    assert!(
        problems.contains("several variables in one; a file of variables has one a line"),
        "{problems}"
    );
}

#[test]
fn a_flag_that_names_the_node_otherwise_is_refused() {
    let problems = load(&["--node", "host-a"], &COMPLETE).unwrap_err().to_string();
    assert!(problems.contains("--node") && problems.contains("TURNIP_ID"), "{problems}");
}

#[test]
fn other_endpoints_need_the_member_on_this_host_to_be_named() {
    let remote = ["--endpoints", "http://10.0.0.2:2379"];
    let problems = load(&remote, &COMPLETE).unwrap_err().to_string();
    assert!(problems.contains("etcd.local"), "{problems}");
    let named = ["--endpoints", "http://10.0.0.2:2379", "--local", "http://10.0.0.1:2379"];
    assert!(load(&named, &COMPLETE).is_ok());
}

#[test]
fn without_file_and_variables_there_is_no_configuration() {
    assert!(
        !std::path::Path::new(turnip::config::FILE_DEFAULT).exists(),
        "this test needs a machine without {}",
        turnip::config::FILE_DEFAULT
    );
    let problems = load(&[], &[]).unwrap_err().to_string();
    assert!(problems.contains("TURNIP_IP") && problems.contains("/etc/turnip/turnip.toml"));
}
