use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Config, Difference, Sources};
use super::*;

/// A file in which every table is, each with the line of its own that stands here for `@`.
const EVERY_TABLE: &str = r#"
node = "a"
@top
[etcd]
@etcd
[peers]
@peers
[[vip]]
name = "one"
addresses = [{ address = "10.0.0.50/24", interface = "eth0", @addresses }]
policy = "follow"
follow = { key = "/service/batman/leader", value = "pg1", @follow }
before_assume = { run = ["/bin/true"], @hook }
@vip
[[vip.route]]
to = "10.8.0.0/16"
dev = "eth0"
@route
[[vip.rule]]
from = "10.8.0.0/16"
table = 100
priority = 1000
@rule
[[check]]
name = "api"
http = "http://127.0.0.1/"
node = true
@check
"#;

/// Of each table the mark in the file above.
const MARKS: [(&str, &str); 9] = [
    ("", "@top"),
    ("etcd.", "@etcd"),
    ("peers.", "@peers"),
    ("vip.addresses.", "@addresses"),
    ("vip.follow.", "@follow"),
    ("vip.before_assume.", "@hook"),
    ("vip.route.", "@route"),
    ("vip.rule.", "@rule"),
    ("check.", "@check"),
];

/// A directory with the files that examples name.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Files(tempfile::tempdir().unwrap());
        let certificate = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n";
        for (name, text) in [
            ("ca.pem", certificate),
            ("client.pem", certificate),
            ("client-key.pem", key),
            ("etcd-password", "x"),
        ] {
            fs::write(files.0.path().join(name), text).unwrap();
        }
        files
    }

    /// What the parser makes of the text, whose examples are found here.
    fn load(&self, text: &str) -> Result<Config, String> {
        let file = self.0.path().join("turnip.toml");
        let here = format!("{}/", self.0.path().display());
        fs::write(&file, text.replace("/etc/turnip/", &here)).unwrap();
        Config::load(&Sources::of_file(file)).map_err(|problems| problems.to_string())
    }
}

/// What stands around a setting of a table, with `@` for the setting: no more than it takes.
fn around(prefix: &str, key: &str, value: Option<&str>) -> String {
    const VIP: &str = "[[vip]]\nname = \"one\"\naddress = \"10.0.0.50/32\"\ninterface = \"eth0\"\n";
    const CHECK: &str = "[[check]]\nname = \"port\"\ntcp = \"127.0.0.1:5432\"\nnode = true\n";
    // A key takes the place of the same one, or of what it cannot stand beside.
    let with = |text: &str, instead_of: &[&str]| -> String {
        let stays =
            |line: &&str| !instead_of.iter().any(|key| line.starts_with(&format!("{key} = ")));
        text.lines().filter(stays).map(|line| format!("{line}\n")).collect()
    };
    let table = |table: &str| format!("node = \"a\"\n{table}@\n");
    let vip = |more: &str, instead_of: &[&str]| table(&(with(VIP, instead_of) + more));
    match (prefix, key) {
        ("", "node") => format!("@\n{VIP}"),
        ("", _) => format!("node = \"a\"\n@\n{VIP}"),
        ("etcd.", "ca" | "cert" | "key" | "server_name") => {
            format!("node = \"a\"\n{VIP}[etcd]\nendpoints = [\"https://127.0.0.1:2379\"]\n@\n")
        }
        ("etcd.", _) => format!("node = \"a\"\n{VIP}[etcd]\n@\n"),
        ("peers.", _) => format!("node = \"a\"\n{VIP}[peers]\n@\n"),
        ("vip.", "priority" | "preempt") => vip("policy = \"priority\"\n", &[]),
        ("vip.", "checks") => format!("node = \"a\"\n{CHECK}{VIP}@\n"),
        ("vip.", "follow") => vip("policy = \"follow\"\n", &[]),
        ("vip.", "addresses") => vip("", &["address"]),
        ("vip.", _) => vip("", &[key]),
        ("vip.addresses.", "address") => {
            vip("[[vip.addresses]]\ninterface = \"eth0\"\n", &["address", "interface"])
        }
        ("vip.addresses.", _) => {
            vip("[[vip.addresses]]\naddress = \"10.0.0.50/32\"\n", &["address", key])
        }
        ("vip.follow.", _) => {
            let follow = "key = \"/service/batman/leader\"\nvalue = \"pg1\"\n";
            vip(&format!("policy = \"follow\"\n[vip.follow]\n{}", with(follow, &[key])), &[])
        }
        ("vip.before_assume.", _) => {
            vip(&format!("[vip.before_assume]\n{}", with("run = [\"/bin/true\"]\n", &[key])), &[])
        }
        ("vip.route.", "blackhole") if value == Some("true") => {
            vip("[[vip.route]]\nto = \"10.8.0.0/16\"\n", &[])
        }
        ("vip.route.", _) => {
            let route = "to = \"10.8.0.0/16\"\ndev = \"eth0\"\n";
            vip(&format!("[[vip.route]]\n{}", with(route, &[key])), &[])
        }
        ("vip.rule.", _) => {
            let rule = "from = \"10.8.0.0/16\"\ntable = 100\npriority = 1000\n";
            vip(&format!("[[vip.rule]]\n{}", with(rule, &[key])), &[])
        }
        ("check.", "status" | "body" | "host" | "unix" | "ca" | "cert" | "key") => {
            let check = "name = \"port\"\nhttp = \"https://127.0.0.1:6443/\"\nnode = true\n";
            format!("node = \"a\"\n{VIP}[[check]]\n{check}@\n")
        }
        ("check.", "exec" | "http" | "interface" | "file" | "process") => {
            format!("node = \"a\"\n{VIP}{}@\n", with(CHECK, &["tcp"]))
        }
        ("check.", "node") => {
            format!("node = \"a\"\n{}{VIP}checks = [\"port\"]\n", with(CHECK, &["node"]) + "@\n")
        }
        ("check.", _) => format!("node = \"a\"\n{VIP}{}@\n", with(CHECK, &[key])),
        _ => panic!("no place for {prefix}{key}"),
    }
}

/// What has to be given besides, when the key is.
fn beside(prefix: &str, key: &str) -> &'static str {
    match (prefix, key) {
        ("etcd." | "check.", "cert") => "key = \"/etc/turnip/client-key.pem\"",
        ("etcd." | "check.", "key") => "cert = \"/etc/turnip/client.pem\"",
        ("etcd.", "user") => "password_file = \"/etc/turnip/etcd-password\"",
        ("etcd.", "password_file") => "user = \"turnip\"",
        _ => "",
    }
}

/// What is loaded with the setting at this value, or without it.
fn loaded(
    files: &Files,
    table: &Table,
    setting: &Setting,
    value: Option<&str>,
) -> Result<Config, String> {
    let (prefix, key) = (table.prefix, setting.key);
    let line = value.map(|value| format!("{key} = {value}\n{}", beside(prefix, key)));
    files.load(&around(prefix, key, value).replace('@', line.as_deref().unwrap_or_default()))
}

/// Every setting that has a value of its own, with its table.
fn each(mut look: impl FnMut(&Table, &Setting)) {
    for table in tables() {
        table.settings.iter().for_each(|setting| look(&table, setting));
    }
}

#[test]
fn the_parser_asks_for_the_keys_that_are_described_and_for_no_others() {
    let mut text = EVERY_TABLE.replace("@vip", "zzzzzzzz = 1");
    for (_, mark) in MARKS {
        text = text.replace(mark, "zzzzzzzz = 1");
    }
    let said = Files::new().load(&text).unwrap_err();
    let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in said.lines() {
        let Some((place, known)) = line.split_once("zzzzzzzz: unknown key; known here are ") else {
            continue;
        };
        let prefix = place.rsplit(' ').next().unwrap();
        asked.insert(prefix, known.split(", ").collect());
    }
    let described: BTreeMap<&str, BTreeSet<&str>> = tables()
        .iter()
        .map(|table| (table.prefix, table.settings.iter().map(|setting| setting.key).collect()))
        .collect();
    // A password is asked for so that it can be refused; tables have titles of their own.
    asked.get_mut("etcd.").unwrap().remove("password");
    let top = asked.get_mut("").unwrap();
    for table in ["etcd", "peers", "vip", "check"] {
        assert!(top.remove(table), "{table}");
    }
    assert_eq!(asked, described, "{said}");
}

#[test]
fn a_default_that_is_shown_is_what_the_parser_goes_by() {
    let files = Files::new();
    let mut shown = 0;
    each(|table, setting| {
        let (Default::Is(value) | Default::Follows(value, _)) = &setting.default else { return };
        let given = loaded(&files, table, setting, Some(value));
        let given = given.unwrap_or_else(|why| panic!("{}{}: {why}", table.prefix, setting.key));
        let not_given = loaded(&files, table, setting, None).unwrap();
        let difference = Difference::between(&not_given, &given);
        // What is received on all addresses because somebody said so has to be, which is another thing.
        if setting.key != "listen" {
            assert!(difference.is_empty(), "{}{}: {difference}", table.prefix, setting.key);
        }
        shown += 1;
    });
    assert!(shown > 30, "{shown}");
}

#[test]
fn an_example_is_taken_and_changes_what_it_takes_to_be_changed() {
    let files = Files::new();
    let mut tried = 0;
    each(|table, setting| {
        let name = format!("{}{}", table.prefix, setting.key);
        if setting.example.is_empty() {
            assert!(["route", "rule"].contains(&setting.key), "{name} has no example");
            return;
        }
        let example = loaded(&files, table, setting, Some(setting.example));
        let example = example.unwrap_or_else(|why| panic!("{name}: {why}"));
        tried += 1;
        let is_alone = matches!(setting.default, Default::Needed);
        let Ok(without) = loaded(&files, table, setting, None) else {
            let has_to_be = is_alone || NEEDED_SOMETIMES.contains(&&*name);
            assert!(has_to_be, "{name} may not be left out");
            return;
        };
        assert!(!is_alone, "{name} may be left out");
        let difference = Difference::between(&without, &example);
        let takes = match (difference.session.is_empty(), difference.restart.is_empty()) {
            (false, _) => Change::Session,
            (true, false) => Change::Restart,
            (true, true) => Change::Reload,
        };
        assert_eq!(takes, setting.change, "{name}: {difference}");
        let is_seen = !difference.is_empty() || name == "vip.wait_for_interface";
        assert!(is_seen, "{name}: the example is the default");
    });
    assert!(tried > 70, "{tried}");
}

/// What has to be given unless something else is.
const NEEDED_SOMETIMES: [&str; 14] = [
    "vip.address",
    "vip.addresses",
    "vip.interface",
    "vip.follow",
    "vip.addresses.interface",
    "vip.route.dev",
    "vip.route.blackhole",
    "vip.rule.from",
    "check.exec",
    "check.http",
    "check.interface",
    "check.file",
    "check.process",
    "check.tcp",
];

#[test]
fn the_page_of_the_documentation_is_what_the_code_says() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/settings.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&kept, page()).unwrap();
    }
    let said = fs::read_to_string(PathBuf::from(&kept)).unwrap_or_default();
    assert_eq!(page(), said, "{}: BLESS=1 writes it anew", kept.display());
}
