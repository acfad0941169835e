//! The configuration: read once, checked whole, and turned into something that cannot be wrong.
//!
//! Three sources have a say, the first that speaks wins: a flag, a variable of the environment,
//! the file. The original's four variables (`TURNIP_IP`, `TURNIP_NETMASK`, `TURNIP_DEV` and
//! `TURNIP_ID`) are variables as any other: together they define one VIP with the policy `leader`
//! and this node's name. Without a file they are a complete configuration; beside one they take
//! the place of its `[[vip]]` tables and of its `node`, which the log says, and everything else
//! in the file holds.
//!
//! An error names the key, its place, its value and what would be right, and all errors come at
//! once ([`Problems`]).

mod addresses;
mod args;
mod argv;
mod behind;
mod checks;
mod companions;
mod difference;
mod etcd;
mod follow;
mod growth;
mod hooks;
mod lease;
mod metrics;
mod peers;
mod problem;
mod reference;
mod section;
mod size;
mod tables;
pub(crate) mod values;
mod vips;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use turnip_core::lease::ANNOUNCE_EVERY;
use turnip_core::{
    Backstop, ClusterName, HeartbeatConfig, HostId, Lease, NodeConfig, NodeName, Policy,
};

pub use args::{FILE_DEFAULT, NodeArgs, ReachArgs, Sources, is_variable, variable_of};
pub use difference::Difference;
pub use etcd::{ENDPOINT_DEFAULT, is_loopback};
pub use growth::{Compact, Growth};
pub use hooks::HookCommands;
pub use peers::{Listen, Peers};
pub use problem::{Collector, Place, Problem, Problems};
pub use reference::page as settings_page;
pub use section::{Given, Section, Value};
pub use values::{
    duration, interface as interface_name, nearest, percent_ppm, usable as usable_address,
};
pub use vips::Vip;

use crate::checks::Check;
use crate::etcd::EtcdSettings;
use crate::hooks::Commands;
use crate::kernel::{AnnounceOn, CompanionsOf, VirtualLink, Wanted};

const WEIGHT_DEFAULT: u32 = 100;
const CLUSTER_DEFAULT: &str = "main";

/// All settings of `turnip run`.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the cluster.
    pub reach: Reach,
    /// This node.
    pub node: NodeName,
    /// The durations of its session.
    pub lease: Lease,
    /// What silences addresses when the daemon cannot.
    pub fence: Fence,
    /// How it hears the others past etcd.
    pub peers: Peers,
    /// What it does about etcd's growth.
    pub growth: Growth,
    /// Its share under `spread`.
    pub weight: u32,
    /// How often what it holds is announced again; never when absent.
    pub announce_every: Option<Duration>,
    /// Where Prometheus finds its metrics; nowhere when absent.
    pub metrics: Option<SocketAddr>,
    /// At least one; no name and no address twice.
    pub vips: Vec<Vip>,
    /// The checks of what stands behind them.
    pub checks: Vec<Check>,
    /// `TURNIP_ID`: the local etcd member must have this peer address.
    pub member_ip: Option<IpAddr>,
}

/// What every command needs: how to reach the cluster, and how to log.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The cluster, and so the prefix of all keys.
    pub cluster: ClusterName,
    /// How to reach etcd.
    pub etcd: EtcdSettings,
    /// How to log.
    pub log: LogSettings,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// What the operator should know of how the sources came together.
    pub notices: Vec<String>,
    /// The files that the settings of etcd name.
    pub named_files: Vec<NamedFile>,
}

/// A file that a setting names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedFile {
    /// The setting.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Whether nobody else may read it.
    pub is_secret: bool,
}

/// What silences addresses when the daemon cannot (rules 8.3 and 8.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// The fence where nftables works, else the lifetimes.
    Auto,
    /// The nftables fence; without it turnip does not run.
    Nftables,
    /// The kernel's expiry of the addresses.
    Lifetime,
}

/// How to log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// What is logged.
    pub level: tracing::Level,
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text that suits where it goes.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let mut problems = Collector::default();
        let config = Loader::open(sources, &mut problems).node(sources, &mut problems);
        problems.finish(config)
    }

    /// Reads what a file of another kind says of turnip: all that `tables` still has, but how etcd is
    /// reached, which is the default.
    pub fn of_tables(mut tables: Section, problems: &mut Collector) -> Option<Self> {
        let peers = table(&mut tables, "peers", "peers.", problems);
        let etcd = Section::empty("etcd.");
        let growth = Growth::default();
        let loader = Loader { file: None, whole: true, top: tables, etcd, growth, peers };
        loader.node(&Sources::default(), problems)
    }

    /// What the core is given. `process` is drawn at random, for this process alone.
    /// `heartbeats` is what was found out of how it hears the others (rule 10).
    pub fn node_config(
        &self,
        host: HostId,
        process: u64,
        backstop: Backstop,
        heartbeats: Option<HeartbeatConfig>,
    ) -> NodeConfig {
        NodeConfig {
            cluster: self.reach.cluster.clone(),
            name: self.node.clone(),
            host,
            process,
            lease: self.lease,
            backstop,
            weight: self.weight,
            vips: self.vips.iter().map(|vip| vip.config.clone()).collect(),
            checks: self.checks.iter().map(|check| check.config.clone()).collect(),
            announce_every: self.announce_every,
            heartbeats,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// How large this node's record in etcd is, in bytes, when nothing is wrong with its VIPs.
    pub fn record_bytes(&self) -> usize {
        size::record_bytes(&self.vips)
    }

    /// What the hooks of its VIPs run.
    pub fn hook_commands(&self) -> Commands {
        let of_vip = |vip: &Vip| {
            let name = vip.config.name.clone();
            let commands = vip.commands.clone().into_iter();
            commands.map(move |(hook, command)| ((name.clone(), hook), command))
        };
        self.vips.iter().flat_map(of_vip).collect()
    }

    /// On which interfaces VIPs are announced, of those that name them.
    pub fn announce_on(&self) -> AnnounceOn {
        let named = |vip: &Vip| Some((vip.config.name.clone(), vip.announce_on.clone()?));
        self.vips.iter().filter_map(named).collect()
    }

    /// What VIPs bring along, for a kernel that goes by another configuration already.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            addresses: self.vips.iter().flat_map(|vip| vip.config.assignments()).collect(),
            announce_on: self.announce_on(),
            virtual_links: self.virtual_links(),
            companions: self.companions(),
        }
    }

    /// The interfaces of the VIPs with a virtual hardware address.
    pub fn virtual_links(&self) -> Vec<VirtualLink> {
        let cluster = &self.reach.cluster;
        let of = |vip: &Vip| {
            let name = vip.config.name.clone();
            let parents: BTreeSet<_> =
                vip.config.addresses.iter().filter_map(|one| one.parent.clone()).collect();
            parents.into_iter().map(move |parent| VirtualLink::new(cluster, &name, &parent))
        };
        self.vips.iter().flat_map(of).collect()
    }

    /// The routes and rules of the VIPs that have some.
    pub fn companions(&self) -> CompanionsOf {
        let of = |vip: &Vip| {
            let all = vip.companions.iter().map(|(what, _)| what.clone()).collect();
            (vip.config.name.clone(), all)
        };
        self.vips.iter().filter(|vip| !vip.companions.is_empty()).map(of).collect()
    }

    /// Whether all interfaces of a VIP are among `existing`, or are to be waited for.
    pub fn serves_something(&self, existing: &[String]) -> bool {
        let exists = |link: &Arc<str>| existing.iter().any(|name| **name == **link);
        let all_are_there = |vip: &Vip| vip.config.links().into_iter().all(exists);
        self.vips.iter().any(|vip| vip.wait_for_interface || all_are_there(vip))
    }

    /// The interfaces of VIPs that are none of `existing`, as errors; and those announced on none of them.
    ///
    /// # Errors
    /// When there is one that is not to be waited for.
    pub fn check_interfaces(&self, existing: &[String]) -> Result<(), Problems> {
        let mut problems = Collector::default();
        for vip in self.vips.iter().filter(|vip| !vip.wait_for_interface) {
            let own = vip.config.links().into_iter();
            let own = own.map(|name| ("interface", name, vip.place_of(name)));
            let announced_on = vip.announce_on.iter().flatten();
            let announced_on =
                announced_on.map(|name| ("announce_on", name, &vip.announce_on_place));
            let led_by = vip.companions.iter();
            let led_by = led_by.filter_map(|(what, place)| Some(("route.dev", what.dev()?, place)));
            // Turnip's own come with the VIP.
            let led_by = led_by.filter(|(_, dev, _)| !vip.config.makes(dev));
            for (key, name, place) in own.chain(announced_on).chain(led_by) {
                if existing.iter().any(|interface| **interface == **name) {
                    continue;
                }
                let near = nearest(name, existing.iter().map(String::as_str));
                let hint = match near {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("there are {}.", existing.join(", ")),
                };
                let what = format!(
                    "no such interface on this host; {hint} Where it comes later, write wait_for_interface = true in its [[vip]]"
                );
                let (place, key) = (place.clone(), format!("vip.{key}"));
                problems.add(Problem::new(place, key, Some(format!("{name:?}")), what));
            }
        }
        problems.finish(Some(()))
    }
}

impl Reach {
    /// Reads and checks what concerns the cluster, and nothing else: it works on a machine that
    /// is no node.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let mut problems = Collector::default();
        let reach = Loader::open(sources, &mut problems).reach(sources, &mut problems);
        problems.finish(reach)
    }

    /// The same, and the name of the node that this host is, or that the command line names.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn load_with_node(sources: &Sources) -> Result<(Self, NodeName), Problems> {
        let mut problems = Collector::default();
        let mut loader = Loader::open(sources, &mut problems);
        let given = loader.top.take("node");
        let named = given.as_ref().is_some_and(|given| !matches!(given.place, Place::File { .. }));
        let original = match named {
            true => None,
            false => vips::original(&sources.variables, &mut problems),
        };
        let node = node(given, original.as_ref(), &mut problems);
        let reach = loader.reach(sources, &mut problems);
        problems.finish(reach.zip(node))
    }
}

/// The tables, with what flags and variables say already in place.
struct Loader {
    file: Option<PathBuf>,
    /// Whether the file could be read whole: else what it seems to lack may well be there.
    whole: bool,
    top: Section,
    etcd: Section,
    growth: Growth,
    peers: Section,
}

impl Loader {
    fn open(sources: &Sources, problems: &mut Collector) -> Self {
        let path = sources.file.clone().unwrap_or_else(|| FILE_DEFAULT.into());
        let (file, mut top) = match fs::read_to_string(&path) {
            Ok(text) => {
                let section = Section::parse(&path, &text, problems);
                (Some(path), section)
            }
            Err(error) => {
                let absent = error.kind() == std::io::ErrorKind::NotFound;
                if sources.file.is_some() || !absent {
                    unreadable(&path, &error, problems);
                }
                (None, Section::empty(""))
            }
        };
        let whole = problems.is_empty();
        let mut etcd = table(&mut top, "etcd", "etcd.", problems);
        let mut peers = table(&mut top, "peers", "peers.", problems);
        sources.apply(&mut top, &mut etcd, &mut peers);
        let growth = growth::read(&mut etcd, problems);
        Loader { file, whole, top, etcd, growth, peers }
    }

    fn reach(self, sources: &Sources, problems: &mut Collector) -> Option<Reach> {
        let Loader { file, mut top, etcd, .. } = self;
        reach(file, &mut top, etcd, sources, problems)
    }

    fn node(self, sources: &Sources, problems: &mut Collector) -> Option<Config> {
        let Loader { file, whole, mut top, etcd, growth, peers } = self;
        let original = vips::original(&sources.variables, problems);
        let etcd_places = ["endpoints", "local"].map(|key| etcd.place_of(key));
        let nothing_said = file.is_none() && sources.file.is_none();
        let file_name = file.clone();
        let mut reach = reach(file, &mut top, etcd, sources, problems);
        let node_given = top.take("node");
        let renamed = original.as_ref().and_then(|original| renamed(node_given.as_ref(), original));
        let lease = lease::read(&mut top, problems);
        let fence = lease::fence(&mut top, problems);
        if let (Some((lease, place)), Some(Fence::Lifetime)) = (&lease, fence)
            && let Err(error) = lease.check_backstop(Backstop::Lifetime)
        {
            let value = Some(format!("{:?}", format!("{:?}", lease.duration())));
            problems.add(Problem::new(place.clone(), "lease", value, error.to_string()));
        }
        let weight = match top.take("weight") {
            None => Some(WEIGHT_DEFAULT),
            Some(given) => match given.as_number() {
                Ok(weight) => Some(weight),
                Err(what) => {
                    top.refuse("weight", &given, what, problems);
                    None
                }
            },
        };
        let announce_every = announce_every(&mut top, problems);
        let tables = top.take("vip");
        let had_tables = tables.is_some();
        let (checks, mut known) = checks::read(top.take("check"), problems);
        let node = node(node_given, original.as_ref(), problems);
        let mut vips = vips::read(tables, node.as_ref(), &mut known, problems);
        known.finish(problems);
        let member_ip = original.as_ref().map(|original| original.id);
        let variables_given = sources.variables.ip.is_some()
            || sources.variables.netmask.is_some()
            || sources.variables.dev.is_some()
            || sources.variables.id.is_some();
        if let Some(original) = original {
            if let (Some(reach), Some(file)) = (&mut reach, file_name) {
                reach.notices.push(beside_file(&file, &vips, renamed));
            }
            vips = vec![original.vip];
        } else if whole && !variables_given && !had_tables {
            let (key, what) = if nothing_said {
                let what = format!(
                    "no configuration: there is no {FILE_DEFAULT}, and TURNIP_IP, TURNIP_NETMASK, TURNIP_DEV and TURNIP_ID are not set"
                );
                ("", what)
            } else {
                ("vip", "none; add a [[vip]] table with name, address and interface".into())
            };
            problems.add(Problem::new(top.place.clone(), key, None, what));
        }
        if let Some(reach) = &mut reach {
            vips.iter_mut().for_each(|vip| vip.put_on_own_links(&reach.cluster));
            needs_local(&vips, reach, problems);
            behind::check(&vips, reach, etcd_places, problems);
        }
        size::check(&vips, &top.place, problems);
        let peers = peers::read(peers, &vips, problems);
        let metrics = metrics::read(&mut top, &vips, problems);
        top.finish(problems);
        Some(Config {
            reach: reach?,
            node: node?,
            lease: lease?.0,
            fence: fence?,
            peers: peers?,
            growth,
            weight: weight?,
            announce_every: announce_every?,
            metrics: metrics?,
            vips,
            checks,
            member_ip,
        })
    }
}

/// How often what is held is announced again; absent only when something is wrong.
fn announce_every(top: &mut Section, problems: &mut Collector) -> Option<Option<Duration>> {
    let Some(given) = top.take("announce_every") else { return Some(Some(ANNOUNCE_EVERY)) };
    let parsed = match &given.value {
        Value::Integer(number) => values::announce_every(&number.to_string()),
        _ => given.as_text().and_then(values::announce_every),
    };
    match parsed {
        Ok(every) => Some(every),
        Err(what) => {
            top.refuse("announce_every", &given, what, problems);
            None
        }
    }
}

/// A table of the file, without its keys' values being looked at.
fn table(
    top: &mut Section,
    name: &'static str,
    prefix: &'static str,
    problems: &mut Collector,
) -> Section {
    match top.take(name) {
        Some(Given { value: Value::Table(section), .. }) => section.with_prefix(prefix),
        Some(given) => {
            let what = format!("not a table; write [{name}] on a line of its own");
            top.refuse(name, &given, what, problems);
            Section::empty(prefix)
        }
        None => Section::empty(prefix),
    }
}

fn unreadable(path: &Path, error: &std::io::Error, problems: &mut Collector) {
    let place = match path == Path::new(FILE_DEFAULT) {
        true => Place::Default,
        false => Place::Flag("--config".into()),
    };
    let what = format!("the file cannot be read: {error}");
    problems.add(Problem::new(place, "config", Some(path.display().to_string()), what));
}

/// What the four variables take the place of in a file that is there as well.
fn beside_file(file: &Path, vips: &[Vip], renamed: Option<String>) -> String {
    let names: Vec<&str> = vips.iter().map(|vip| vip.config.name.as_str()).collect();
    let names = names.join(", ");
    let vips = match vips.len() {
        0 => String::new(),
        1 => format!(" its [[vip]] table is left aside ({names}),"),
        more => format!(" its {more} [[vip]] tables are left aside ({names}),"),
    };
    let node = renamed.unwrap_or_default();
    format!(
        "TURNIP_IP, TURNIP_NETMASK, TURNIP_DEV and TURNIP_ID define the VIP and this node's name; of {},{vips}{node} everything else in it holds",
        file.display()
    )
}

/// The name that the file gives this node, where the four variables give it another one.
fn renamed(given: Option<&Given>, original: &vips::Original) -> Option<String> {
    let given = given.filter(|given| matches!(given.place, Place::File { .. }))?;
    let name = given.as_text().ok().filter(|name| *name != original.node.as_str())?;
    Some(format!(" its node = {name:?} is left aside (this node is {}),", original.node))
}

fn reach(
    file: Option<PathBuf>,
    top: &mut Section,
    etcd: Section,
    sources: &Sources,
    problems: &mut Collector,
) -> Option<Reach> {
    let cluster = match top.take("cluster") {
        None => CLUSTER_DEFAULT.parse().ok(),
        Some(given) => named(top, "cluster", &given, problems),
    };
    let choice = ["auto", "text", "json"];
    let format = top.read("log", problems, |given| one_of(given, &choice));
    let format = match format {
        Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    let levels = ["error", "warn", "info", "debug", "trace"];
    let level = top.read("log_level", problems, |given| one_of(given, &levels));
    let level = level.and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
    let two_passwords = sources.variables.password.is_some() && etcd.has("password_file");
    let named_files = named_files(&etcd);
    let etcd = etcd::read(etcd, &sources.variables, problems);
    let mut notices: Vec<String> = sources.ignored().into_iter().collect();
    if two_passwords {
        notices.push("there are two passwords for etcd, TURNIP_ETCD_PASSWORD and password_file; a flag beats the variable, and the variable beats the file: leave one of the two out".into());
    }
    Some(Reach {
        cluster: cluster?,
        etcd: etcd?,
        log: LogSettings { format, level },
        file,
        notices,
        named_files,
    })
}

fn named_files(etcd: &Section) -> Vec<NamedFile> {
    let keys = [("ca", false), ("cert", false), ("key", true), ("password_file", true)];
    let named = keys.into_iter().filter_map(|(key, is_secret)| {
        Some(NamedFile { key, path: etcd.text(key)?.into(), is_secret })
    });
    named.collect()
}

fn one_of<'a>(given: &Given, choice: &[&'a str]) -> Result<&'a str, String> {
    let quoted: Vec<_> = choice.iter().map(|word| format!("{word:?}")).collect();
    let text = given.as_text().ok();
    choice
        .iter()
        .copied()
        .find(|word| Some(*word) == text)
        .ok_or_else(|| format!("write one of {}", quoted.join(", ")))
}

fn named<T: std::str::FromStr<Err: ToString>>(
    section: &Section,
    key: &str,
    given: &Given,
    problems: &mut Collector,
) -> Option<T> {
    let name =
        given.as_text().and_then(|text| text.parse().map_err(|error: T::Err| error.to_string()));
    name.map_err(|what| section.refuse(key, given, what, problems)).ok()
}

fn node(
    given: Option<Given>,
    original: Option<&vips::Original>,
    problems: &mut Collector,
) -> Option<NodeName> {
    if let Some(original) = original {
        if let Some(given) = given
            && !matches!(given.place, Place::File { .. })
            && given.as_text() != Ok(original.node.as_str())
        {
            let what =
                format!("TURNIP_ID names this node {}; leave one of the two out", original.node);
            problems.add(Problem::new(given.place.clone(), "node", Some(given.shown()), what));
        }
        return Some(original.node.clone());
    }
    let given = match given {
        Some(given) => given,
        None => match nix::unistd::gethostname() {
            Ok(name) => Given::text(Place::Default, name.to_string_lossy().into_owned()),
            Err(error) => {
                let what = format!("the host's name cannot be read: {error}; give `node`");
                problems.add(Problem::new(Place::Default, "node", None, what));
                return None;
            }
        },
    };
    named(&Section::empty(""), "node", &given, problems)
}

/// Who follows the raft leader asks the member on this host.
fn needs_local(vips: &[Vip], reach: &Reach, problems: &mut Collector) {
    if reach.etcd.local.is_some() {
        return;
    }
    for vip in vips.iter().filter(|vip| vip.config.policy == Policy::Leader) {
        let what = format!(
            "the VIP {} is to follow the raft leader, for which the etcd member on this host is asked, and no endpoint is on loopback; write the member's client URL as etcd.local, as in {ENDPOINT_DEFAULT:?}, or choose another policy",
            vip.config.name
        );
        let value = Some("\"leader\"".into());
        problems.add(Problem::new(vip.policy_place.clone(), "vip.policy", value, what));
    }
}
