//! The tables `[[vip]]`, and the VIP of the original's four variables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use turnip_core::{ClusterName, LastResort, NodeName, Policy, VipAddress, VipConfig, VipName};

use super::addresses::{self, Addresses, SeenAddresses};
use super::args::Variables;
use super::checks::{self, Known};
use super::companions::{self, SeenCompanions};
use super::follow;
use super::hooks::{self, HookCommands};
use super::problem::{Collector, Place, Problem};
use super::section::{Given, Section, Value};
use super::values;
use crate::kernel::{Companion, VirtualLink};

/// The priority of a node that gives none.
pub(super) const PRIORITY_DEFAULT: u32 = 100;

/// A VIP as it is configured.
#[derive(Clone, Debug)]
pub struct Vip {
    /// What the core knows of it.
    pub config: VipConfig,
    /// On which interfaces it is announced; absent where that follows from its addresses.
    pub announce_on: Option<Vec<Arc<str>>>,
    /// Whether it has a hardware address of its own, on interfaces of turnip's own.
    pub virtual_mac: bool,
    /// The routes and rules that come and go with it, with the place of each.
    pub companions: Vec<(Companion, Place)>,
    /// Whether an interface that does not exist yet is waited for; otherwise it is an error.
    pub wait_for_interface: bool,
    /// What its hooks run.
    pub commands: HookCommands,
    /// Where each of its interfaces is named.
    pub(super) interface_places: BTreeMap<Arc<str>, Place>,
    /// Where those are named on which it is announced.
    pub(super) announce_on_place: Place,
    /// Where the policy is named.
    pub(super) policy_place: Place,
}

impl Vip {
    /// Whether it has the same routes and rules as the other.
    pub fn has_companions_of(&self, other: &Vip) -> bool {
        self.companions
            .iter()
            .map(|(what, _)| what)
            .eq(other.companions.iter().map(|(what, _)| what))
    }

    /// Puts its addresses, and the routes by their interfaces, on interfaces of turnip's own, where it
    /// has a hardware address of its own.
    pub(super) fn put_on_own_links(&mut self, cluster: &ClusterName) {
        if !self.virtual_mac {
            return;
        }
        let name = |parent: &Arc<str>| VirtualLink::new(cluster, &self.config.name, parent).name;
        let mut own = BTreeMap::new();
        let addresses = self.config.addresses.iter().map(|one| {
            own.insert(Arc::clone(&one.interface), name(&one.interface));
            let parent = Some(Arc::clone(&one.interface));
            VipAddress { net: one.net, interface: name(&one.interface), parent }
        });
        self.config.addresses = addresses.collect();
        for (what, _) in &mut self.companions {
            what.lead_by(&own);
        }
    }

    /// Where an interface of it is named.
    pub(super) fn place_of(&self, interface: &Arc<str>) -> &Place {
        self.interface_places.get(interface).unwrap_or(&Place::Default)
    }
}

/// What the original's variables define.
#[derive(Clone, Debug)]
pub(super) struct Original {
    pub(super) vip: Vip,
    pub(super) node: NodeName,
    pub(super) id: IpAddr,
}

/// Reads the tables; where a name or an address comes twice, the later one is the error.
pub(super) fn read(
    given: Option<Given>,
    node: Option<&NodeName>,
    checks: &mut Known,
    problems: &mut Collector,
) -> Vec<Vip> {
    let Some(given) = given else { return Vec::new() };
    let tables = match given.value {
        Value::List(tables) => tables,
        Value::Table(_) => {
            let what = "a single table; write [[vip]] in double brackets, once for each VIP";
            problems.add(Problem::new(given.place, "vip", None, what));
            return Vec::new();
        }
        _ => {
            let what = "not a table; write [[vip]] on a line of its own, then the VIP's keys";
            problems.add(Problem::new(given.place.clone(), "vip", Some(given.shown()), what));
            return Vec::new();
        }
    };
    let mut seen = Seen::default();
    let mut vips = Vec::new();
    for table in tables {
        match table.value {
            Value::Table(section) => {
                vips.extend(vip(section.with_prefix("vip."), node, &mut seen, checks, problems))
            }
            _ => {
                let shown = Some(table.shown());
                problems.add(Problem::new(table.place, "vip", shown, "not a table"));
            }
        }
    }
    vips
}

/// Names and addresses so far, with the line of each.
#[derive(Default)]
struct Seen {
    names: BTreeMap<VipName, Place>,
    addresses: SeenAddresses,
    companions: SeenCompanions,
}

fn vip(
    mut section: Section,
    node: Option<&NodeName>,
    seen: &mut Seen,
    known: &mut Known,
    problems: &mut Collector,
) -> Vec<Vip> {
    let name_given = section.place_of("name");
    let name = name(&mut section, seen, problems);
    let title = name.as_ref().map_or("another VIP".to_owned(), |name| format!("the VIP {name:?}"));
    let addresses = addresses::read(&mut section, &title, &mut seen.addresses, problems);
    let ips = addresses.iter().flat_map(|found| &found.all).map(VipAddress::ip).collect();
    let companions = companions::read(&mut section, &ips, &mut seen.companions, problems);
    if let Some((_, place)) = companions.first()
        && addresses.as_ref().is_some_and(|found| found.each)
    {
        let what = "of no use with each = true, which makes a VIP of each address: write a [[vip]] with the routes and rules for itself";
        problems.add(Problem::new(place.clone(), "vip.route", None, what));
    }
    let (policy, policy_place) = policy(&mut section, node, problems);
    let (announce_on, announce_on_place) = announce_on(&mut section, problems);
    let (checks, last_resort) = checks::of_vip(&mut section, policy.as_ref(), known, problems);
    let mut flag = |key: &'static str, default: bool| {
        section.read(key, problems, Given::as_bool).unwrap_or(default)
    };
    let wait_for_interface = flag("wait_for_interface", false);
    let defend = flag("defend", false);
    let require_carrier = flag("require_carrier", true);
    let keep_connections = flag("keep_connections", false);
    let virtual_mac = flag("virtual_mac", false);
    if virtual_mac && addresses.as_ref().is_some_and(|found| found.each) {
        let what = "of no use with each = true: each of the VIPs would have an interface; leave one of the two out";
        let place = section.place.clone();
        problems.add(Problem::new(place, "vip.virtual_mac", Some("true".into()), what));
    }
    if virtual_mac && announce_on.is_some() {
        let what = "of no use with virtual_mac = true: it is announced from the VIP's own hardware address, on its own interface; leave one of the two out";
        problems.add(Problem::new(announce_on_place.clone(), "vip.announce_on", None, what));
    }
    let (hooks, commands) = hooks::read(&mut section, problems);
    section.finish(problems);
    let (Some(name), Some(addresses), Some(policy)) = (name, addresses, policy) else {
        return Vec::new();
    };
    let Addresses { all, each, interfaces } = addresses;
    let vip = Vip {
        config: VipConfig {
            name,
            addresses: all,
            policy,
            defend,
            require_carrier,
            keep_connections,
            checks,
            last_resort,
            hooks,
        },
        announce_on,
        virtual_mac,
        companions,
        wait_for_interface,
        commands,
        interface_places: interfaces,
        announce_on_place,
        policy_place,
    };
    match each {
        true => of_each(vip, &name_given.unwrap_or(Place::Default), seen, problems),
        false => vec![vip],
    }
}

/// A VIP for each of the addresses, with its address in its name.
fn of_each(all: Vip, place: &Place, seen: &mut Seen, problems: &mut Collector) -> Vec<Vip> {
    let mut vips = Vec::with_capacity(all.config.addresses.len());
    for address in &all.config.addresses {
        let text = format!("{}-{}", all.config.name, address.ip());
        let name = match text.parse::<VipName>() {
            Ok(name) if !seen.names.contains_key(&name) => name,
            taken => {
                let why = match taken {
                    Ok(_) => "and there is another VIP of that name".to_owned(),
                    Err(error) => error.to_string(),
                };
                let what = format!(
                    "with each = true the VIP of {} is called {text:?}, {why}",
                    address.ip()
                );
                problems.add(Problem::new(
                    place.clone(),
                    "vip.name",
                    Some(format!("{:?}", all.config.name.as_str())),
                    what,
                ));
                break;
            }
        };
        seen.names.insert(name.clone(), place.clone());
        let config = VipConfig { name, addresses: [address.clone()].into(), ..all.config.clone() };
        vips.push(Vip { config, ..all.clone() });
    }
    vips
}

/// The interfaces that are named, at least one, each once.
fn announce_on(section: &mut Section, problems: &mut Collector) -> (Option<Vec<Arc<str>>>, Place) {
    const KEY: &str = "announce_on";
    let Some(given) = section.take(KEY) else { return (None, Place::Default) };
    let items = match given.as_list() {
        Ok(items) if items.is_empty() => {
            let what = "empty; name the interfaces on which its neighbours are, as in [\"eth0\"], or leave it out";
            section.refuse(KEY, &given, what, problems);
            return (None, given.place);
        }
        Ok(items) => items,
        Err(what) => {
            section.refuse(KEY, &given, what, problems);
            return (None, given.place);
        }
    };
    let mut interfaces: Vec<Arc<str>> = Vec::new();
    for item in &items {
        match item.as_text().and_then(values::interface) {
            Ok(name) if interfaces.iter().any(|one| **one == *name) => {
                section.refuse(KEY, item, "named twice; leave one of the two out", problems);
            }
            Ok(name) => interfaces.push(name.into()),
            Err(what) => section.refuse(KEY, item, what, problems),
        }
    }
    (Some(interfaces), given.place)
}

fn name(section: &mut Section, seen: &mut Seen, problems: &mut Collector) -> Option<VipName> {
    let Some(given) = section.take("name") else {
        section.lacks("name", "give the VIP one, the same on all hosts, as in \"api\"", problems);
        return None;
    };
    let name = given.as_text().and_then(|text| text.parse::<VipName>().map_err(|e| e.to_string()));
    match name {
        Ok(name) => {
            if let Some(first) = seen.names.get(&name) {
                let what =
                    format!("the name of two VIPs, the first {}; give each its own", at(first));
                section.refuse("name", &given, what, problems);
            } else {
                seen.names.insert(name.clone(), given.place);
            }
            Some(name)
        }
        Err(what) => {
            section.refuse("name", &given, what, problems);
            None
        }
    }
}

pub(super) fn at(place: &Place) -> String {
    match place {
        Place::File { line, .. } => format!("in line {line}"),
        _ => "elsewhere".into(),
    }
}

fn policy(
    section: &mut Section,
    node: Option<&NodeName>,
    problems: &mut Collector,
) -> (Option<Policy>, Place) {
    let given = section.take("policy");
    let place = given.as_ref().map_or(Place::Default, |given| given.place.clone());
    (policy_of(section, given, node, problems), place)
}

fn policy_of(
    section: &mut Section,
    given: Option<Given>,
    node: Option<&NodeName>,
    problems: &mut Collector,
) -> Option<Policy> {
    let text = match given.as_ref().map(Given::as_text) {
        None => Ok("spread"),
        Some(text) => text,
    };
    let priority_given = section.take("priority");
    let preempt_given = section.take("preempt");
    if text != Ok("follow")
        && let Some(given) = section.take("follow")
    {
        let what = "of no use with another policy; write policy = \"follow\", or leave it out";
        section.refuse("follow", &given, what, problems);
    }
    match text {
        Ok("priority") => {
            let mut sound = true;
            let mut keep = |result: Result<(), (&str, &Given, String)>| {
                if let Err((key, given, what)) = result {
                    sound = false;
                    section.refuse(key, given, what, problems);
                }
            };
            let mut priority = PRIORITY_DEFAULT;
            let mut preempt = true;
            if let Some(given) = &priority_given {
                let read = given.as_number().map(|number| priority = number);
                keep(read.map_err(|what| ("priority", given, what)));
            }
            if let Some(given) = &preempt_given {
                let read = given.as_bool().map(|boolean| preempt = boolean);
                keep(read.map_err(|what| ("preempt", given, what)));
            }
            sound.then_some(Policy::Priority { priority, preempt })
        }
        Ok(other @ ("spread" | "leader" | "follow")) => {
            for (key, given) in [("priority", priority_given), ("preempt", preempt_given)] {
                if let Some(given) = given {
                    let what = format!(
                        "of no use with the policy {other:?}; write policy = \"priority\", or leave it out"
                    );
                    section.refuse(key, &given, what, problems);
                }
            }
            match other {
                "leader" => Some(Policy::Leader),
                "follow" => follow::read(section, node, problems).map(Policy::Follow),
                _ => Some(Policy::Spread),
            }
        }
        Ok(_) | Err(_) => {
            let what = "not a policy; write \"leader\", \"spread\", \"priority\" or \"follow\"";
            let given = given.expect("the default is a policy");
            section.refuse("policy", &given, what, problems);
            None
        }
    }
}

/// Reads the original's four variables; absent when none is set, or something is wrong.
pub(super) fn original(variables: &Variables, problems: &mut Collector) -> Option<Original> {
    let all = [
        ("TURNIP_IP", &variables.ip, "the floating address, as in 10.0.0.50"),
        ("TURNIP_NETMASK", &variables.netmask, "its netmask, as in /32"),
        ("TURNIP_DEV", &variables.dev, "the interface that carries it, as in eth0"),
        ("TURNIP_ID", &variables.id, "this host's own etcd peering address, as in 10.0.0.1"),
    ];
    if all.iter().all(|(_, value, _)| value.is_none()) {
        return None;
    }
    let is_in_another = |variable: &str| {
        all.iter().any(|(_, value, _)| value.as_ref().is_some_and(|value| value.contains(variable)))
    };
    for (variable, value, meaning) in &all {
        if value.is_none() && !is_in_another(variable) {
            let what = format!(
                "not set, while others of TURNIP_IP, TURNIP_NETMASK, TURNIP_DEV and TURNIP_ID are; set it to {meaning}, or unset all four"
            );
            problems.add(Problem::new(Place::Variable((*variable).into()), *variable, None, what));
        }
    }
    let mut check = |variable: &str, value: &Option<String>, error: String| {
        let error = match value.as_ref().is_some_and(|value| value.contains("TURNIP_")) {
            true => "several variables in one; a file of variables has one a line".to_owned(),
            false => error,
        };
        let place = Place::Variable(variable.into());
        let shown = value.as_ref().map(|value| format!("{value:?}"));
        problems.add(Problem::new(place, variable, shown, error));
    };
    let mut ip = |variable, value: &Option<String>| {
        let parsed = values::ip(value.as_deref()?);
        parsed.map_err(|what| check(variable, value, what)).ok()
    };
    let address = ip("TURNIP_IP", &variables.ip);
    let id = ip("TURNIP_ID", &variables.id);
    // Without a sound address any netmask might be right.
    let prefix = address.and_then(|address| {
        let parsed = values::prefix_len(address, variables.netmask.as_deref()?);
        parsed.map_err(|what| check("TURNIP_NETMASK", &variables.netmask, what)).ok()
    });
    let interface = variables.dev.as_deref().and_then(|dev| {
        values::interface(dev.trim()).map_err(|what| check("TURNIP_DEV", &variables.dev, what)).ok()
    });
    let address = address?;
    let net = values::usable(address, prefix?)
        .map_err(|what| check("TURNIP_IP", &variables.ip, what))
        .ok();
    let (id, interface) = (id?, interface?);
    let place = Place::Variable("TURNIP_DEV".into());
    Some(Original {
        vip: Vip {
            config: VipConfig {
                name: address.to_string().parse().expect("an IP address is a name"),
                addresses: VipAddress::all_on(&interface, [net?]),
                policy: Policy::Leader,
                defend: false,
                require_carrier: true,
                keep_connections: false,
                checks: BTreeSet::new(),
                last_resort: LastResort::default(),
                hooks: turnip_core::Hooks::new(),
            },
            announce_on: None,
            virtual_mac: false,
            companions: Vec::new(),
            wait_for_interface: false,
            commands: HookCommands::new(),
            interface_places: [(Arc::from(interface), place)].into(),
            announce_on_place: Place::Default,
            policy_place: Place::Variable("TURNIP_IP".into()),
        },
        node: id.to_string().parse().expect("an IP address is a name"),
        id,
    })
}
