//! VIPs in the configuration file: on several interfaces, by pattern, with routes, rules and hardware
//! addresses of their own.

use clap::Args;
use turnip::config::{Config, NodeArgs, Problems, ReachArgs, Sources};
use turnip::kernel::Companion;
use turnip_core::virtual_link_name;

fn load(text: &str) -> Result<Config, Problems> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnip.toml");
    std::fs::write(&path, text).unwrap();
    let command = NodeArgs::augment_args(ReachArgs::augment_args(clap::Command::new("turnip")));
    let given = ["turnip", "--config", path.to_str().unwrap()];
    Config::load(&Sources::new(&command.get_matches_from(given), |_| None))
}

fn vip(lines: &str) -> String {
    format!("[[vip]]\nname = \"router\"\n{lines}\n")
}

/// The addresses of the first VIP, as they read.
fn places(text: &str) -> Vec<String> {
    let config = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    config.vips[0].config.assignments().map(|one| one.to_string()).collect()
}

/// Asserts that a VIP with these lines has one error at that key, with these words.
#[track_caller]
fn refused(lines: &str, key: &str, words: &str) {
    let problems = load(&vip(lines)).expect_err("it should be refused");
    let found: Vec<_> = problems.iter().collect();
    assert_eq!(found.len(), 1, "{problems}");
    assert_eq!(found[0].key(), key, "{problems}");
    assert!(found[0].to_string().contains(words), "{problems}\nlacks {words:?}");
}

#[test]
fn an_address_is_on_the_vips_interface_or_names_its_own() {
    let expected = ["10.0.100.1/24 on br100", "203.0.113.2/29 on wan0", "fe80::1/64 on br100"];
    let text = r#"addresses = [
        "203.0.113.2/29 dev wan0",
        { address = "10.0.100.1/24", interface = "br100" },
        { address = "fe80::1/64", interface = "br100" },
    ]"#;
    assert_eq!(places(&vip(text)), expected);
    let text =
        "addresses = [\"203.0.113.2/29  dev  wan0\", \"10.0.100.1/24\"]\ninterface = \"br100\"";
    assert_eq!(places(&vip(text)), expected[..2]);
    let text = "address = \"203.0.113.2/29 dev wan0\"";
    assert_eq!(places(&vip(text)), expected[1..2]);
    let text = "addresses = [\"fe80::1/64 dev wan0\", \"fe80::1/64 dev br100\"]";
    assert_eq!(places(&vip(text)), ["fe80::1/64 on br100", "fe80::1/64 on wan0"]);
}

#[test]
fn an_address_without_an_interface_or_with_one_too_many_is_refused() {
    let one = "\"10.0.0.1/24 dev eth0\"";
    refused(&format!("addresses = [{one}, \"10.0.1.1/24\"]"), "vip.interface", "missing");
    refused(&format!("address = {one}\ninterface = \"eth1\""), "vip.interface", "leave it out");
    refused(&format!("addresses = [{one}, {one}]"), "vip.addresses", "belongs to one VIP, once");
    refused("address = \"10.0.0.1/24 dev a/b\"", "vip.address", "no interface can have this name");
    refused("addresses = [{ interface = \"eth0\" }]", "vip.addresses", "no address");
    let unknown = "addresses = [{ address = \"10.0.0.1/24\", interface = \"eth0\", link = 1 }]";
    refused(unknown, "vip.addresses.link", "unknown key");
}

#[test]
fn every_interface_has_to_be_there_and_is_named_with_its_line() {
    let text = "addresses = [\n\"203.0.113.2/29 dev wan0\",\n\"10.0.100.1/24 dev br100\",\n]\n";
    let config = load(&vip(text)).unwrap();
    assert!(config.check_interfaces(&["wan0".into(), "br100".into()]).is_ok());
    assert!(!config.serves_something(&["wan0".into()]));
    let problems = config.check_interfaces(&["wan0".into()]).unwrap_err();
    let found: Vec<_> = problems.iter().collect();
    assert_eq!((found.len(), found[0].line()), (1, Some(5)), "{problems}");
}

#[test]
fn a_pattern_is_a_vip_for_each_of_its_addresses() {
    let config = load(&vip("address = \"10.1.0.0/24\"\ninterface = \"lo\"\neach = true")).unwrap();
    assert_eq!(config.vips.len(), 256);
    let first = &config.vips[0].config;
    assert_eq!(first.name.as_str(), "router-10.1.0.0");
    assert_eq!(
        first.assignments().map(|one| one.to_string()).collect::<Vec<_>>(),
        ["10.1.0.0/32 on lo"]
    );
    let both =
        "addresses = [\"10.1.0.0/30\", \"fd00::/126 dev eth0\"]\ninterface = \"lo\"\neach = true";
    let config = load(&vip(both)).unwrap();
    assert_eq!(config.vips.len(), 8);
    assert_eq!(config.vips[7].config.name.as_str(), "router-fd00::3");
}

#[test]
fn a_pattern_that_is_none_or_too_large_is_refused() {
    let each = |net: &str| format!("address = \"{net}\"\ninterface = \"lo\"\neach = true");
    refused(&each("10.1.0.0/19"), "vip.address", "8192 addresses, and each = true makes 4096");
    refused(&each("fd00::/32"), "vip.address", "each = true makes 4096");
    refused(&each("10.1.0.5/24"), "vip.address", "write \"10.1.0.0/24\"");
    refused(&each("10.1.0.0"), "vip.address", "not a prefix");
    refused(&each("127.0.0.0/24"), "vip.address", "loopback");
    let many = "addresses = [\"10.1.0.0/20\", \"10.2.0.0/32\"]\ninterface = \"lo\"\neach = true";
    refused(many, "vip.addresses", "4097 addresses");
    refused(&(each("10.1.0.0/30") + "\nvirtual_mac = true"), "vip.virtual_mac", "of no use");
    let routed = each("10.1.0.0/30") + "\n[[vip.route]]\nto = \"10.9.0.0/16\"\ndev = \"eth0\"";
    refused(&routed, "vip.route", "of no use");
}

#[test]
fn two_vips_of_a_pattern_and_of_a_table_cannot_have_one_address() {
    let text = vip("address = \"10.1.0.0/30\"\ninterface = \"lo\"\neach = true")
        + "[[vip]]\nname = \"other\"\naddress = \"10.1.0.2/32\"\ninterface = \"lo\"\n";
    let problems = load(&text).unwrap_err();
    assert!(problems.to_string().contains("the address of the VIP"), "{problems}");
}

const ADDRESS: &str = "addresses = [\"203.0.113.2/29\", \"fd00::2/64\"]\ninterface = \"wan0\"\n";

/// The routes and rules of a VIP with these lines, as they read.
fn companions(lines: &str) -> Vec<String> {
    let config = load(&vip(&format!("{ADDRESS}{lines}")));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    config.vips[0].companions.iter().map(|(what, _)| what.to_string()).collect()
}

#[test]
fn routes_and_rules_read_as_ip_writes_them() {
    let text = r#"
[[vip.route]]
to = "default"
via = "203.0.113.1"
table = "main"
metric = 50
src = "203.0.113.2"
[[vip.route]]
to = "::/0"
via = "fe80::1"
dev = "wan0"
table = 100
[[vip.route]]
to = "10.9.0.0/16"
blackhole = true
[[vip.rule]]
from = "10.0.100.0/24"
table = 100
priority = 1000
[[vip.rule]]
fwmark = "0x7/0xff"
table = 100
priority = 1001
"#;
    let expected = [
        "the route default via 203.0.113.1 metric 50 src 203.0.113.2",
        "the route default (IPv6) via fe80::1 dev wan0 table 100",
        "the route blackhole 10.9.0.0/16",
        r#"the rule "1000: from 10.0.100.0/24 lookup 100""#,
        r#"the rule "1001: from all fwmark 0x7/0xff lookup 100""#,
        r#"the rule "1001: from all (IPv6) fwmark 0x7/0xff lookup 100""#,
    ];
    assert_eq!(companions(text), expected);
}

#[test]
fn a_route_that_leads_nowhere_or_is_somebody_elses_is_refused() {
    let route = |lines: &str| format!("{ADDRESS}[[vip.route]]\n{lines}");
    let to = "vip.route.to";
    refused(&route("via = \"203.0.113.1\""), to, "missing");
    refused(&route("to = \"10.9.0.0/16\""), to, "by no way");
    refused(&route("to = \"10.9.0.1/16\"\ndev = \"wan0\""), to, "write \"10.9.0.0/16\"");
    refused(&route("to = \"default\"\ndev = \"wan0\""), to, "of either family");
    refused(&route("to = \"10.9.0.0/16\"\nvia = \"fd00::1\""), to, "of another family");
    refused(&route("to = \"fd09::/48\"\nvia = \"fe80::1\""), to, "write dev");
    refused(
        &route("to = \"10.9.0.0/16\"\ndev = \"wan0\"\nblackhole = true"),
        to,
        "one or the other",
    );
    let via = "to = \"10.9.0.0/16\"\nvia = \"gw\"";
    refused(&route(via), "vip.route.via", "not an IP address");
    let src = "to = \"10.9.0.0/16\"\ndev = \"wan0\"\nsrc = \"203.0.113.9\"";
    refused(&route(src), "vip.route.src", "not an address of this VIP");
    let table = "to = \"10.9.0.0/16\"\ndev = \"wan0\"\ntable = \"no-such\"";
    refused(&route(table), "vip.route.table", "no table of that name");
    let twice = "to = \"10.9.0.0/16\"\ndev = \"wan0\"\n";
    refused(&route(&format!("{twice}[[vip.route]]\n{twice}")), to, "another metric");
    refused(&format!("{ADDRESS}route = 1"), "vip.route", "double brackets");
}

#[test]
fn a_rule_without_its_place_or_for_no_packet_is_refused() {
    let rule = |lines: &str| format!("{ADDRESS}[[vip.rule]]\n{lines}");
    let from = "from = \"10.0.100.0/24\"\n";
    refused(&rule(&format!("{from}priority = 1000")), "vip.rule.table", "missing");
    refused(&rule(&format!("{from}table = 100")), "vip.rule.priority", "missing");
    refused(&rule("table = 100\npriority = 1000"), "vip.rule.from", "which packets");
    let late = format!("{from}table = 100\npriority = 40000");
    refused(&rule(&late), "vip.rule.priority", "from 1 to 32765");
    let mixed = format!("{from}to = \"fd00::/64\"\ntable = 100\npriority = 1000");
    refused(&rule(&mixed), "vip.rule.from", "one family");
}

#[test]
fn a_vip_with_a_virtual_mac_is_on_an_interface_of_its_own_and_needs_the_one_that_is_named() {
    let text = format!(
        "{ADDRESS}virtual_mac = true\n[[vip.route]]\nto = \"10.9.0.0/16\"\ndev = \"wan0\"\n"
    );
    let config = load(&vip(&text)).unwrap();
    let own = virtual_link_name(&config.reach.cluster, &"router".parse().unwrap(), "wan0");
    let vip = &config.vips[0];
    assert!(vip.config.assignments().all(|one| one.interface == own));
    assert_eq!(vip.config.links(), [&"wan0".into()].into());
    let links = config.virtual_links();
    assert_eq!((links.len(), &links[0].name), (1, &own));
    assert_eq!(links[0].mac.0[0], 2);
    let Companion::Route(route) = &vip.companions[0].0 else { panic!("a route") };
    assert_eq!(route.dev.as_ref(), Some(&own), "it leads by what has the VIP's subnet");
    assert!(config.check_interfaces(&["wan0".into()]).is_ok());
}
