//! The cluster: hosts, sites, what is between them, etcd, and who asks for the addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use turnip::config::{
    Collector, Config, Given, Problem, Section, Value, duration, nearest, percent_ppm,
};
use turnip_core::{NodeName, Policy};

use super::span;

/// More hosts than this no scenario has: all hear each other.
const HOSTS_MAX: usize = 20;
/// etcd's own default, and what it allows.
const HEARTBEAT_DEFAULT: Duration = Duration::from_millis(100);
const ELECTION_DEFAULT: Duration = Duration::from_secs(1);
const ELECTION_MAX: Duration = Duration::from_secs(50);

/// A host that runs turnip.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its priority for all VIPs with the policy `priority`, where it is not what the configuration says.
    pub priority: Option<u32>,
    /// Its weight, where it is not what the configuration says.
    pub weight: Option<u32>,
}

/// A path between two machines that is not usual, both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// The one.
    pub one: usize,
    /// The other.
    pub other: usize,
    /// How long a packet takes there and back.
    pub rtt: Duration,
    /// How much is lost each way, in parts per million.
    pub loss_ppm: u32,
}

/// A version of etcd, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 3.4: a member that comes back may depose the leader.
    V3_4,
    /// 3.5: it asks first whether it could win (pre-vote).
    V3_5,
}

/// etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Etcd {
    /// The machines with a member, by number; at least one.
    pub members: Vec<usize>,
    /// Its version.
    pub version: Version,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election: Duration,
}

/// Where the client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// Between the sites: it reaches a machine unless that is isolated, or its link is down.
    Between,
    /// Beside this machine: it reaches what that machine's site reaches.
    Beside(usize),
}

/// All of it.
pub(super) struct Cluster {
    pub(super) hosts: Vec<Host>,
    pub(super) beside: Vec<String>,
    pub(super) sites: Vec<(String, Vec<usize>)>,
    pub(super) links: Vec<Link>,
    pub(super) etcd: Option<Etcd>,
    pub(super) client: Client,
    /// What is said of priorities, for [`check_priorities`].
    pub(super) priorities: Vec<Given>,
}

/// Reads it.
pub(super) fn read(top: &mut Section, problems: &mut Collector) -> Cluster {
    let mut etcd = match top.take("etcd").map(|given| (given.value.clone(), given)) {
        Some((Value::Table(section), _)) => section.with_prefix("etcd."),
        Some((_, given)) => {
            top.refuse("etcd", &given, "not a table; write [etcd] on a line of its own", problems);
            Section::empty("etcd.")
        }
        None => Section::empty("etcd."),
    };
    let mut beside_given = None;
    let beside = etcd.read("beside", problems, |given| {
        beside_given = Some(given.clone());
        names(given, "e")
    });
    let beside = beside.unwrap_or_default();
    let (hosts, sites) = hosts_and_sites(top, &beside, problems);
    if let (Some(given), Some(twice)) =
        (&beside_given, beside.iter().find(|name| hosts.contains(name)))
    {
        let what = format!(
            "{twice:?} is a host, which has its member by `on`; give a machine beside the hosts another name"
        );
        etcd.refuse("beside", given, what, problems);
    }
    let mut hosts: Vec<Host> =
        hosts.into_iter().map(|name| Host { name, priority: None, weight: None }).collect();
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let machines = hosts.iter().map(|host| &host.name).chain(&beside).enumerate();
    machines.for_each(|(number, name)| drop(places.insert(name.clone(), vec![number])));
    let sites: Vec<(String, Vec<usize>)> = sites
        .into_iter()
        .map(|(name, of)| (name, of.iter().filter_map(|one| Some(places.get(one)?[0])).collect()))
        .collect();
    places.extend(sites.iter().cloned());
    let priorities = details(top, &mut hosts, problems);
    let links = links(top, &places, problems);
    let client = top.read("client", problems, |given| place(given, &places));
    let client = client.map_or(Client::Between, |machines| Client::Beside(machines[0]));
    let etcd = read_etcd(etcd, hosts.len(), beside.len(), &places, problems);
    Cluster { hosts, beside, sites, links, etcd, client, priorities }
}

/// The machines of a name.
fn place(given: &Given, places: &BTreeMap<String, Vec<usize>>) -> Result<Vec<usize>, String> {
    let text = given.as_text()?;
    places.get(text).cloned().ok_or_else(|| unknown(text, places.keys().map(String::as_str)))
}

/// What is said of a name that is none.
pub(super) fn unknown<'a>(text: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(text, known.clone()) {
        Some(near) => format!("there is none of this name; did you mean {near:?}?"),
        None => format!(
            "there is none of this name; there are {}",
            known.collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Names in a list, or so many of one letter.
fn names(given: &Given, letter: &str) -> Result<Vec<String>, String> {
    if let Ok(number) = given.as_number() {
        let number = number as usize;
        return match number {
            1..=HOSTS_MAX => Ok((1..=number).map(|one| format!("{letter}{one}")).collect()),
            _ => Err(format!("not from 1 to {HOSTS_MAX}")),
        };
    }
    let items = given.as_list().map_err(|_| {
        "neither a number nor a list of names; write it as in 3, or [\"h1\", \"h2\"]".to_owned()
    })?;
    let mut all: Vec<String> = Vec::new();
    for item in &items {
        let name: NodeName =
            item.as_text()?.parse().map_err(|error| format!("{}: {error}", item.shown()))?;
        if all.iter().any(|one| *one == name.as_str()) {
            return Err(format!("{:?} twice; give each its own name", name.as_str()));
        }
        not_a_word(name.as_str())?;
        all.push(name.as_str().to_owned());
    }
    match all.len() {
        1..=HOSTS_MAX => Ok(all),
        _ => Err(format!("not from 1 to {HOSTS_MAX} names")),
    }
}

/// No machine or site is called as several of them are.
fn not_a_word(name: &str) -> Result<(), String> {
    match ["all", "any", "each", "leader", "holder"].contains(&name) {
        true => Err(format!(
            "{name:?} is a word of faults, which says whom they befall; give it another name"
        )),
        false => Ok(()),
    }
}

type Named = (String, Vec<String>);

fn hosts_and_sites(
    top: &mut Section,
    beside: &[String],
    problems: &mut Collector,
) -> (Vec<String>, Vec<Named>) {
    let given = top.take("hosts");
    let hosts = given.as_ref().map(|given| match names(given, "h") {
        Ok(names) => names,
        Err(what) => {
            top.refuse("hosts", given, what, problems);
            Vec::new()
        }
    });
    let mut sites: Vec<Named> = Vec::new();
    let mut site_names: Vec<Given> = Vec::new();
    let mut all: Vec<String> = Vec::new();
    for mut site in tables(top, "site", "site.", problems) {
        let lacks_name = !site.has("name");
        let name = site.read("name", problems, |given| {
            let name = given.as_text()?;
            not_a_word(name)?;
            site_names.push(given.clone());
            match sites.iter().any(|(other, _)| other == name) {
                true => {
                    Err("two sites have this name; list all machines of a site in one".to_owned())
                }
                false => Ok(name.to_owned()),
            }
        });
        if lacks_name {
            site.lacks("name", "give the site one, as in \"rack1\"", problems);
        }
        let given = site.take("hosts");
        let Some(given) = given else {
            site.lacks("hosts", "list its machines, as in [\"h1\", \"h2\"]", problems);
            continue;
        };
        match names(&given, "h") {
            Ok(names) => {
                if let Some(twice) = names.iter().find(|one| all.contains(one)) {
                    site.refuse("hosts", &given, format!("{twice:?} is in two sites"), problems);
                }
                let strange = |one: &&String| {
                    hosts.as_ref().is_some_and(|hosts| !hosts.contains(one))
                        && !beside.contains(one)
                };
                if let (Some(strange), Some(hosts)) = (names.iter().find(strange), &hosts) {
                    let what = unknown(strange, hosts.iter().map(String::as_str));
                    site.refuse("hosts", &given, what, problems);
                }
                all.extend(names.iter().cloned());
                sites.push((name.unwrap_or_default(), names));
            }
            Err(what) => site.refuse("hosts", &given, what, problems),
        }
        site.finish(problems);
    }
    let is_machine = |given: &&Given| {
        given.as_text().is_ok_and(|name| all.iter().chain(beside).any(|other| other == name))
    };
    if let Some(given) = site_names.iter().find(is_machine) {
        let what = "a machine has this name as well; give the site another one";
        problems.add(Problem::new(given.place.clone(), "site.name", Some(given.shown()), what));
    }
    let in_sites = || all.iter().filter(|one| !beside.contains(one)).cloned().collect::<Vec<_>>();
    let hosts = match hosts {
        Some(hosts) => hosts,
        None if sites.is_empty() => (1..=3).map(|one| format!("h{one}")).collect(),
        None => in_sites(),
    };
    (hosts, sites)
}

/// The tables of a key.
pub(super) fn tables(
    top: &mut Section,
    key: &'static str,
    prefix: &'static str,
    problems: &mut Collector,
) -> Vec<Section> {
    let given = top.take(key);
    tables_of(given, key, prefix, top, problems)
}

/// The tables that were given for a key.
pub(super) fn tables_of(
    given: Option<Given>,
    key: &'static str,
    prefix: &'static str,
    top: &Section,
    problems: &mut Collector,
) -> Vec<Section> {
    let Some(given) = given else { return Vec::new() };
    let Value::List(items) = &given.value else {
        let what =
            format!("not a list of tables; write [[{key}]] in double brackets, once for each");
        top.refuse(key, &given, what, problems);
        return Vec::new();
    };
    let mut all = Vec::new();
    for item in items {
        match &item.value {
            Value::Table(section) => all.push(section.clone().with_prefix(prefix)),
            _ => top.refuse(key, item, "not a table", problems),
        }
    }
    all
}

/// In what hosts differ; the priorities as they are written.
fn details(top: &mut Section, hosts: &mut [Host], problems: &mut Collector) -> Vec<Given> {
    let mut priorities = Vec::new();
    let mut told = BTreeSet::new();
    for mut section in tables(top, "host", "host.", problems) {
        let names: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
        if !section.has("name") {
            section.lacks("name", "say which host, as in \"h1\"", problems);
        }
        let which = section.read("name", problems, |given| {
            let text = given.as_text()?;
            let number = names.iter().position(|name| name == text);
            let number = number.ok_or_else(|| unknown(text, names.iter().map(String::as_str)))?;
            match told.insert(number) {
                true => Ok(number),
                false => {
                    Err("there is a [[host]] of this name above; write one for each".to_owned())
                }
            }
        });
        let priority = section.read("priority", problems, |given| {
            priorities.push(given.clone());
            given.as_number()
        });
        let weight = section.read("weight", problems, Given::as_number);
        if let Some(number) = which {
            hosts[number].priority = priority.or(hosts[number].priority);
            hosts[number].weight = weight.or(hosts[number].weight);
        }
        section.finish(problems);
    }
    priorities
}

/// A priority is for VIPs that go by it.
pub(super) fn check_priorities(priorities: &[Given], config: &Config, problems: &mut Collector) {
    let goes_by_it =
        |vip: &turnip::config::Vip| matches!(vip.config.policy, Policy::Priority { .. });
    if let Some(given) = priorities.first()
        && !config.vips.iter().any(goes_by_it)
    {
        let what = "no VIP has the policy \"priority\"; write policy = \"priority\" in its [[vip]], or leave this out";
        let value = Some(given.shown());
        problems.add(Problem::new(given.place.clone(), "host.priority", value, what));
    }
}

fn links(
    top: &mut Section,
    places: &BTreeMap<String, Vec<usize>>,
    problems: &mut Collector,
) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for mut section in tables(top, "link", "link.", problems) {
        if !section.has("between") {
            section.lacks(
                "between",
                "name two sites or machines, as in [\"rack1\", \"rack2\"]",
                problems,
            );
        }
        let between = section.read("between", problems, |given| {
            let items = given.as_list()?;
            match items.as_slice() {
                [one, other] => pairs(&place(one, places)?, &place(other, places)?, &links),
                _ => Err("not two; write it as in [\"rack1\", \"rack2\"]".to_owned()),
            }
        });
        if !section.has("rtt") && !section.has("loss") {
            let what = "say how long a packet takes there and back, as in \"10ms\", or how much is lost, as in loss = \"1%\"";
            section.lacks("rtt", what, problems);
        }
        let rtt = section.read("rtt", problems, |given| given.as_text().and_then(duration));
        let loss_ppm =
            section.read("loss", problems, |given| given.as_text().and_then(percent_ppm));
        for (one, other) in between.unwrap_or_default() {
            let (rtt, loss_ppm) = (rtt.unwrap_or_default(), loss_ppm.unwrap_or_default());
            links.push(Link { one, other, rtt, loss_ppm });
        }
        section.finish(problems);
    }
    links
}

/// The paths between these machines and those, of which nothing was said before.
fn pairs(ones: &[usize], others: &[usize], links: &[Link]) -> Result<Vec<(usize, usize)>, String> {
    let all = ones.iter().flat_map(|&one| others.iter().map(move |&other| (one, other)));
    let all: Vec<(usize, usize)> = all.filter(|(one, other)| one != other).collect();
    if all.is_empty() {
        return Err("there is no path from a machine to itself; name two".to_owned());
    }
    let ends = |one: usize, other: usize| (one.min(other), one.max(other));
    let is_told = |(one, other): &(usize, usize)| {
        links.iter().any(|link| ends(link.one, link.other) == ends(*one, *other))
    };
    match all.iter().any(is_told) {
        true => Err("a [[link]] above is about the same path; leave one of them out".to_owned()),
        false => Ok(all),
    }
}

fn read_etcd(
    mut section: Section,
    hosts: usize,
    beside: usize,
    places: &BTreeMap<String, Vec<usize>>,
    problems: &mut Collector,
) -> Option<Etcd> {
    let on = section.read("on", problems, |given| {
        let items = given.as_list()?;
        let mut all: Vec<usize> = Vec::new();
        for item in &items {
            let of = place(item, places)?;
            if of.iter().any(|one| all.contains(one)) {
                return Err(format!("{} twice; a machine has one member", item.shown()));
            }
            all.extend(of);
        }
        match all.is_empty() && beside == 0 {
            true => {
                Err("nobody has a member; leave it out for one on each of the first three hosts"
                    .to_owned())
            }
            false => Ok(all),
        }
    });
    // A member on each of the first three hosts is what most have.
    let default = if beside > 0 {
        0
    } else if hosts < 3 {
        1
    } else {
        3
    };
    let mut members = on.unwrap_or_else(|| (0..default).collect());
    members.extend(hosts..hosts + beside);
    members.sort_unstable();
    members.dedup();
    let version = section.read("version", problems, |given| match given.as_text()? {
        "3.4" => Ok(Version::V3_4),
        "3.5" => Ok(Version::V3_5),
        _ => Err("not a version that is known here; write \"3.4\" or \"3.5\"".into()),
    });
    let mut timer = |key| {
        let given = section.take(key)?;
        match given.as_text().and_then(duration) {
            Ok(time) if !time.is_zero() => Some((given, time)),
            Ok(_) => {
                section.refuse(key, &given, "not a time above 0", problems);
                None
            }
            Err(what) => {
                section.refuse(key, &given, what, problems);
                None
            }
        }
    };
    let (heartbeat, election) = (timer("heartbeat"), timer("election"));
    let beat = heartbeat.as_ref().map_or(HEARTBEAT_DEFAULT, |(_, time)| *time);
    let wait = election.as_ref().map_or(ELECTION_DEFAULT, |(_, time)| *time);
    if (wait < 5 * beat || wait > ELECTION_MAX)
        && let Some((given, _)) = election.as_ref().or(heartbeat.as_ref())
    {
        let what = format!(
            "etcd does not start so: --election-timeout is at least five times --heartbeat-interval, here {}, and at most 50 s",
            span::human(5 * beat)
        );
        let key = if election.is_some() { "election" } else { "heartbeat" };
        section.refuse(key, given, what, problems);
    }
    section.finish(problems);
    let version = version.unwrap_or(Version::V3_5);
    Some(Etcd { members, version, heartbeat: beat, election: wait })
}
