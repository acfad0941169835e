//! turnip.toml for each host of the lab, made of what a scenario file says.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};
use turnip_sim::script::{Host, Script};

use crate::daemon::CLUSTER;
use crate::etcd::CLIENT_PORT;
use crate::plan::LINK;

/// What is a scenario's, and not turnip's.
const OF_SCENARIO: [&str; 9] =
    ["about", "hosts", "site", "host", "link", "client", "lasts", "fault", "expect"];

/// What hosts of the lab take over. What else there may be is about a site's own programs, files and links.
const KEPT: [&str; 9] =
    ["lease", "renew", "guard", "drift", "fence", "weight", "announce_every", "vip", "check"];
const KEPT_OF_VIP: [&str; 13] = [
    "name",
    "address",
    "addresses",
    "each",
    "policy",
    "priority",
    "preempt",
    "follow",
    "checks",
    "last_resort",
    "defend",
    "keep_connections",
    "require_carrier",
];
const KEPT_OF_FOLLOW: [&str; 3] = ["key", "pointer", "absent"];
const KEPT_OF_CHECK: [&str; 8] =
    ["name", "interval", "timeout", "rise", "fall", "initial", "weight", "node"];

/// turnip's part of a scenario file, as the lab's hosts have it.
#[derive(Clone, Debug)]
pub struct TurnipFile {
    top: Table,
    /// What the lab leaves out, with the place of each.
    left_out: Vec<String>,
}

/// In what a host's file differs from the others'.
#[derive(Clone, Debug)]
pub struct Own<'a> {
    /// The host.
    pub host: &'a Host,
    /// Another weight, and another priority, than the host has.
    pub reloaded: (Option<u32>, Option<u32>),
    /// etcd's members, its own first.
    pub etcd: &'a [IpAddr],
    /// Whether a member runs on it.
    pub has_member: bool,
    /// Where the files are whose presence makes its checks fail.
    pub directory: &'a Path,
}

/// The file whose presence makes a check fail on a host that keeps its files in `directory`.
pub fn failing(directory: &Path, check: &str) -> std::path::PathBuf {
    directory.join(format!("check-{check}"))
}

impl TurnipFile {
    /// Reads the file, or the one that it names.
    ///
    /// # Errors
    /// When it cannot be read, which [`Script::load`] has done.
    pub fn load(path: &Path, script: &Script) -> Result<Self> {
        let mut top = read(path)?;
        if let Some(Value::String(config)) = top.get("config") {
            let folder = path.parent().unwrap_or(Path::new("."));
            top = read(&folder.join(config))?;
        }
        Self::of_tables(top, script)
    }

    fn of_tables(top: Table, script: &Script) -> Result<Self> {
        let is_off = top.get("peers").and_then(|peers| peers.get("listen")).and_then(Value::as_str)
            == Some("off");
        let mut file = TurnipFile { top: Table::new(), left_out: Vec::new() };
        for (key, value) in top {
            if KEPT.contains(&key.as_str()) {
                file.top.insert(key, value);
            } else if !OF_SCENARIO.contains(&key.as_str())
                && !["etcd", "peers", "node", "cluster", "config"].contains(&key.as_str())
            {
                file.left_out.push(key);
            }
        }
        if is_off {
            let peers = Table::from_iter([("listen".to_owned(), Value::from("off"))]);
            file.top.insert("peers".into(), peers.into());
        }
        if !file.top.contains_key("vip") {
            // What a scenario is about that says nothing of VIPs.
            let vip = script.config.vips.iter().map(|vip| {
                let addresses =
                    vip.config.addresses.iter().map(|one| Value::from(one.net.to_string()));
                let mut table = Table::new();
                table.insert("name".into(), vip.config.name.as_str().into());
                table.insert("addresses".into(), addresses.collect::<Vec<_>>().into());
                Value::from(table)
            });
            file.top.insert("vip".into(), vip.collect::<Vec<_>>().into());
        }
        file.put_on_the_lab()?;
        Ok(file)
    }

    /// What of it the lab leaves out: `hooks of vip "api"`.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// VIPs on the one link that the lab's hosts have, checks that a file makes fail.
    fn put_on_the_lab(&mut self) -> Result<()> {
        for (key, kept) in [("vip", &KEPT_OF_VIP[..]), ("check", &KEPT_OF_CHECK[..])] {
            let Some(tables) = self.top.get_mut(key).and_then(Value::as_array_mut) else {
                continue;
            };
            for table in tables {
                let Value::Table(table) = table else { bail!("{key} is not a table") };
                let name = table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                for strange in keep(table, kept) {
                    if key == "vip" && strange != "interface" {
                        self.left_out.push(format!("{strange} of {key} {name:?}"));
                    }
                }
                if let Some(Value::Table(follow)) = table.get_mut("follow") {
                    let strange = keep(follow, &KEPT_OF_FOLLOW).into_iter();
                    self.left_out
                        .extend(strange.map(|one| format!("follow.{one} of {key} {name:?}")));
                }
                if key == "vip" {
                    table.insert("interface".into(), LINK.into());
                    without_links(table);
                }
            }
        }
        Ok(())
    }

    /// The file of a host.
    ///
    /// # Errors
    /// When it cannot be written as TOML.
    pub fn of_host(&self, own: &Own<'_>) -> Result<String> {
        let mut top = self.top.clone();
        top.insert("cluster".into(), CLUSTER.into());
        top.insert("node".into(), own.host.name.as_str().into());
        if let Some(weight) = own.reloaded.0.or(own.host.weight) {
            top.insert("weight".into(), weight.into());
        }
        if let (Some(priority), Some(vips)) =
            (own.reloaded.1.or(own.host.priority), top.get_mut("vip").and_then(Value::as_array_mut))
        {
            let by_priority =
                |vip: &&mut Table| vip.get("policy").and_then(Value::as_str) == Some("priority");
            for vip in vips.iter_mut().filter_map(Value::as_table_mut).filter(by_priority) {
                vip.insert("priority".into(), priority.into());
            }
        }
        for check in top.get_mut("check").and_then(Value::as_array_mut).into_iter().flatten() {
            let Value::Table(check) = check else { continue };
            let name = check.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            check.insert("file".into(), failing(own.directory, &name).display().to_string().into());
        }
        let mut etcd = Table::new();
        let urls = crate::daemon::endpoints(own.etcd, None).into_iter().map(Value::from);
        etcd.insert("endpoints".into(), urls.collect::<Vec<_>>().into());
        if own.has_member {
            let local = format!("http://127.0.0.1:{}", CLIENT_PORT);
            etcd.insert("local".into(), local.into());
        }
        top.insert("etcd".into(), etcd.into());
        toml::to_string(&top).context("turnip.toml")
    }
}

fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

/// Keeps these keys of a table; tells the others.
fn keep(table: &mut Table, kept: &[&str]) -> Vec<String> {
    let strange = table.keys().filter(|key| !kept.contains(&key.as_str())).cloned();
    let strange: Vec<String> = strange.collect();
    strange.iter().for_each(|key| drop(table.remove(key)));
    strange
}

/// `10.0.0.1/24 dev eth1` without the link.
fn without_links(vip: &mut Table) {
    let plain = |value: &mut Value| {
        if let Value::String(text) = value
            && let Some((net, _)) = text.split_once(" dev ")
        {
            *text = net.trim().to_owned();
        }
    };
    for key in ["address", "addresses"] {
        match vip.get_mut(key) {
            Some(Value::Array(all)) => all.iter_mut().for_each(plain),
            Some(one) => plain(one),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = r#"
lease = "5s"
metrics = "127.0.0.1:9100"
lasts = "20s"
[peers]
listen = "off"
[[host]]
name = "h2"
priority = 200
weight = 7
[[check]]
name = "api"
exec = ["/usr/bin/api-check"]
timeout = "2s"
[[vip]]
name = "web"
addresses = ["10.0.7.1/24 dev bond0", "fd00:7::1/64"]
interface = "br100"
policy = "priority"
checks = ["api"]
after_assume = ["/usr/local/bin/tell"]
[[vip]]
name = "db"
address = "10.0.7.2/32"
interface = "lo"
policy = "follow"
follow = { key = "/service/db/leader", value = "node-1", unchanged = "30s" }
"#;

    fn script(text: &str) -> Script {
        Script::parse(Path::new("site.toml"), text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn file_of(script: &Script, host: usize, reloaded: (Option<u32>, Option<u32>)) -> Table {
        let file = TurnipFile::of_tables(SITE.parse().unwrap(), script).unwrap();
        let etcd = ["10.77.0.12".parse().unwrap(), "10.77.0.11".parse().unwrap()];
        let directory = Path::new("/lab/h");
        let own =
            Own { host: &script.hosts[host], reloaded, etcd: &etcd, has_member: true, directory };
        file.of_host(&own).unwrap().parse().unwrap()
    }

    #[test]
    fn a_sites_file_becomes_one_of_the_labs_hosts() {
        let file = file_of(&script(SITE), 0, (None, None));
        let expected: Table = r#"
cluster = "main"
node = "h1"
lease = "5s"
[etcd]
endpoints = ["http://10.77.0.12:2379", "http://10.77.0.11:2379"]
local = "http://127.0.0.1:2379"
[peers]
listen = "off"
[[check]]
name = "api"
timeout = "2s"
file = "/lab/h/check-api"
[[vip]]
name = "web"
addresses = ["10.0.7.1/24", "fd00:7::1/64"]
interface = "eth0"
policy = "priority"
checks = ["api"]
[[vip]]
name = "db"
address = "10.0.7.2/32"
interface = "eth0"
policy = "follow"
follow = { key = "/service/db/leader" }
"#
        .parse()
        .unwrap();
        assert_eq!(file, expected);
    }

    #[test]
    fn what_the_lab_leaves_out_is_told() {
        let file = TurnipFile::of_tables(SITE.parse().unwrap(), &script(SITE)).unwrap();
        assert_eq!(
            file.left_out(),
            [
                "metrics",
                "after_assume of vip \"web\"",
                "follow.unchanged of vip \"db\"",
                "follow.value of vip \"db\"",
            ]
        );
    }

    #[test]
    fn a_host_has_its_own_priority_and_weight_until_it_reads_others() {
        let priorities = |file: &Table| -> Vec<Option<i64>> {
            let vips = file["vip"].as_array().unwrap().iter();
            vips.map(|vip| vip.get("priority").and_then(Value::as_integer)).collect()
        };
        let script = script(SITE);
        let own = file_of(&script, 1, (None, None));
        assert_eq!(
            (own["weight"].as_integer(), priorities(&own)),
            (Some(7), vec![Some(200), None])
        );
        let reloaded = file_of(&script, 1, (Some(90), Some(10)));
        assert_eq!(reloaded["weight"].as_integer(), Some(90));
        assert_eq!(priorities(&reloaded), [Some(10), None]);
    }

    #[test]
    fn a_scenario_without_a_vip_has_the_one_that_it_is_about_then() {
        let script = script("lasts = \"20s\"\n");
        let file = TurnipFile::of_tables("lasts = \"20s\"\n".parse().unwrap(), &script).unwrap();
        let vip = &file.top["vip"][0];
        assert_eq!(vip["addresses"][0].as_str(), Some("10.77.0.101/32"));
        assert_eq!(vip["interface"].as_str(), Some(LINK));
    }
}
