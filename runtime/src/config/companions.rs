//! `[[vip.route]]` and `[[vip.rule]]`: what comes and goes with a VIP besides its addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::problem::{Collector, Place, Problem};
use super::section::{Given, Section, Value};
use super::tables::{self, MAIN};
use super::values;
use super::vips::at;
use crate::kernel::{Companion, VipRoute, VipRule};

/// The metric of turnip's own routes to the subnets of IPv6 VIPs.
const METRIC_OF_SUBNETS: u32 = 257;
/// The kernel's own rules, and what comes before them.
pub(super) const PRIORITY_MAX: u32 = 32_765;

/// The metric of a route that says none.
pub(super) const METRIC_DEFAULT: u32 = 0;

/// The routes and rules of all VIPs so far, with the line of each.
#[derive(Default)]
pub(super) struct SeenCompanions {
    routes: BTreeMap<(IpNet, u32, u32), Place>,
    rules: BTreeMap<VipRule, Place>,
}

/// Reads the routes and rules of the VIP with these addresses, each with its place.
pub(super) fn read(
    section: &mut Section,
    ips: &BTreeSet<IpAddr>,
    seen: &mut SeenCompanions,
    problems: &mut Collector,
) -> Vec<(Companion, Place)> {
    let mut all = Vec::new();
    for (place, table) in tables(section, "route", "vip.route.", problems) {
        if let Some(route) = route(table, &place, ips, seen, problems) {
            all.push((Companion::Route(route), place));
        }
    }
    for (place, table) in tables(section, "rule", "vip.rule.", problems) {
        let rules = rules(table, &place, ips, seen, problems);
        all.extend(rules.into_iter().map(|rule| (Companion::Rule(rule), place.clone())));
    }
    all
}

/// The tables of that name.
fn tables(
    section: &mut Section,
    key: &'static str,
    prefix: &'static str,
    problems: &mut Collector,
) -> Vec<(Place, Section)> {
    let Some(given) = section.take(key) else { return Vec::new() };
    let Value::List(items) = given.value.clone() else {
        let what = format!(
            "not a list of tables; write [[vip.{key}]] in double brackets, below its [[vip]]"
        );
        section.refuse(key, &given, what, problems);
        return Vec::new();
    };
    let mut all = Vec::new();
    for item in items {
        match item.value {
            Value::Table(table) => all.push((item.place, table.with_prefix(prefix))),
            _ => section.refuse(key, &item, "not a table", problems),
        }
    }
    all
}

/// The values of a table, and whether all that were asked for are sound.
struct Reader<'a> {
    section: Section,
    problems: &'a mut Collector,
    sound: bool,
}

impl Reader<'_> {
    /// The value of `key`, if it is given and sound.
    fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Given) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.section.take(key)?;
        match parse(&given) {
            Ok(value) => Some(value),
            Err(what) => {
                self.refuse(key, &given, what);
                None
            }
        }
    }

    fn refuse(&mut self, key: &str, given: &Given, what: impl Into<String>) {
        self.sound = false;
        self.section.refuse(key, given, what, self.problems);
    }

    fn lacks(&mut self, key: &str, what: &str) {
        self.sound = false;
        self.section.lacks(key, what, self.problems);
    }

    /// The number or the name of a routing table.
    fn table(&mut self) -> Option<u32> {
        self.read("table", |given| match &given.value {
            Value::Text(name) => tables::number(name),
            _ => match given.as_number()? {
                0 => Err("the kernel's word for no table; write a number from 1 on".into()),
                number => Ok(number),
            },
        })
    }

    fn finish(self) -> bool {
        self.section.finish(self.problems);
        self.sound
    }
}

fn route(
    section: Section,
    place: &Place,
    ips: &BTreeSet<IpAddr>,
    seen: &mut SeenCompanions,
    problems: &mut Collector,
) -> Option<VipRoute> {
    let mut reader = Reader { section, problems, sound: true };
    let to_given = reader.section.take("to");
    let via = reader.read("via", |given| given.as_text().and_then(values::ip));
    let src = reader.read("src", |given| {
        let ip = given.as_text().and_then(values::ip)?;
        let is_its = ips.contains(&ip);
        is_its
            .then_some(ip)
            .ok_or_else(|| format!("not an address of this VIP; its addresses are {}", list(ips)))
    });
    let dev = reader.read("dev", |given| given.as_text().and_then(values::interface));
    let blackhole = reader.read("blackhole", Given::as_bool).unwrap_or(false);
    let table = reader.table().unwrap_or(MAIN);
    let metric = reader.read("metric", Given::as_number).unwrap_or(METRIC_DEFAULT);
    let to = match &to_given {
        None => {
            reader.lacks("to", "write where it leads, as in \"default\" or \"10.9.0.0/16\"");
            None
        }
        Some(given) => {
            let parsed = given.as_text().and_then(|text| destination(text, via.or(src), ips));
            parsed.map_err(|what| reader.refuse("to", given, what)).ok()
        }
    };
    let dev = dev.map(Arc::from);
    let route = to.map(|to| VipRoute { to, via, dev, table, metric, src, blackhole });
    // What is wrong by itself has been said.
    if let (Some(route), Some(given), true) = (&route, &to_given, reader.sound) {
        let mut wrong = objections(route);
        match seen.routes.get(&(route.to, table, metric)) {
            Some(first) => wrong.push(format!(
                "to the same destination, in the same table and with the same metric as the route {}; write another metric",
                at(first)
            )),
            None => {
                seen.routes.insert((route.to, table, metric), place.clone());
            }
        }
        wrong.into_iter().for_each(|what| reader.refuse("to", given, what));
    }
    let sound = reader.finish();
    route.filter(|_| sound)
}

/// What of a route does not fit the rest of it.
fn objections(route: &VipRoute) -> Vec<String> {
    let VipRoute { to, via, dev, metric, src, blackhole, .. } = route;
    let is_other = |ip: &&IpAddr| ip.is_ipv4() != to.addr().is_ipv4();
    let mut wrong = Vec::new();
    for (key, other) in [("via", via), ("src", src)] {
        if let Some(ip) = other.as_ref().filter(is_other) {
            wrong.push(format!("of another family than {key} = \"{ip}\"; write both of one"));
        }
    }
    let mut object = |holds: bool, what: &str| wrong.extend(holds.then(|| what.to_owned()));
    object(
        to.addr().is_ipv6() && *metric == METRIC_OF_SUBNETS && via.is_none() && !blackhole,
        "with the metric 257, which turnip has for the subnets of IPv6 VIPs; write another",
    );
    object(
        *blackhole && (via.is_some() || dev.is_some() || src.is_some()),
        "with blackhole = true and via, dev or src besides; write one or the other",
    );
    object(
        !blackhole && via.is_none() && dev.is_none(),
        "by no way; write via = the gateway, dev = the interface, or blackhole = true",
    );
    object(
        matches!(via, Some(IpAddr::V6(ip)) if ip.is_unicast_link_local()) && dev.is_none(),
        "by a link-local gateway, which every link may have; write dev = the interface, too",
    );
    wrong
}

/// `default`, or a prefix.
fn destination(text: &str, hint: Option<IpAddr>, ips: &BTreeSet<IpAddr>) -> Result<IpNet, String> {
    if text == "default" {
        let families: BTreeSet<bool> = match hint {
            Some(ip) => [ip.is_ipv4()].into(),
            None => ips.iter().map(IpAddr::is_ipv4).collect(),
        };
        let unspecified: IpAddr = match Vec::from_iter(families)[..] {
            [true] => Ipv4Addr::UNSPECIFIED.into(),
            [false] => Ipv6Addr::UNSPECIFIED.into(),
            _ => return Err("of either family; write \"0.0.0.0/0\" or \"::/0\"".into()),
        };
        return IpNet::new(unspecified, 0).map_err(|error| error.to_string());
    }
    prefix(text)
}

/// A prefix, or an address alone.
fn prefix(text: &str) -> Result<IpNet, String> {
    let example = "write it as in \"10.9.0.0/16\" or \"fd00:9::/48\"";
    let net: IpNet = match text.parse() {
        Ok(net) => net,
        Err(_) => IpNet::from(values::ip(text).map_err(|_| format!("not a prefix; {example}"))?),
    };
    match net == net.trunc() {
        true => Ok(net),
        false => Err(format!("an address within {0}; write \"{0}\"", net.trunc())),
    }
}

/// The rule of a table, once for each family that it is of.
fn rules(
    section: Section,
    place: &Place,
    ips: &BTreeSet<IpAddr>,
    seen: &mut SeenCompanions,
    problems: &mut Collector,
) -> Vec<VipRule> {
    let mut reader = Reader { section, problems, sound: true };
    let net = |given: &Given| given.as_text().and_then(prefix);
    let (from, to) = (reader.read("from", net), reader.read("to", net));
    let fwmark = reader.read("fwmark", fwmark);
    let priority_given = reader.section.take("priority");
    let priority = match &priority_given {
        Some(given) => given.as_number().and_then(|number| match number {
            1..=PRIORITY_MAX => Ok(number),
            _ => Err(format!("not a priority between the kernel's own rules; write one from 1 to {PRIORITY_MAX}")),
        }).map_err(|what| reader.refuse("priority", given, what)).ok(),
        None => {
            reader.lacks("priority", "write one, as in 1000: rules are looked at in that order");
            None
        }
    };
    if !reader.section.has("table") {
        reader.lacks("table", "write the table in which these packets' routes are, as in 100");
    }
    let table = reader.table();
    if from.is_none() && to.is_none() && fwmark.is_none() && reader.sound {
        reader.lacks("from", "write which packets it is for: from, to or fwmark");
    }
    let mut families: BTreeSet<bool> =
        [from, to].iter().flatten().map(|net| net.addr().is_ipv6()).collect();
    if families.len() > 1 {
        reader.lacks("from", "write from and to of one family");
    }
    if families.is_empty() {
        families = ips.iter().map(IpAddr::is_ipv6).collect();
    }
    if !reader.finish() {
        return Vec::new();
    }
    // From anywhere is what the kernel takes for nothing said.
    let (from, to) = [from, to].map(|net| net.filter(|net| net.prefix_len() > 0)).into();
    let (Some(table), Some(priority)) = (table, priority) else { return Vec::new() };
    let rule = |v6| VipRule { v6, from, to, fwmark, table, priority };
    let mut all = Vec::new();
    for rule in families.into_iter().map(rule) {
        if let Some(first) = seen.rules.get(&rule) {
            let what = format!("the same as the rule {}; leave one of the two out", at(first));
            problems.add(Problem::new(place.clone(), "vip.rule", None, what));
        } else {
            seen.rules.insert(rule.clone(), place.clone());
            all.push(rule);
        }
    }
    all
}

/// `7`, `"0x7"` or `"0x7/0xff"`.
fn fwmark(given: &Given) -> Result<(u32, u32), String> {
    let Value::Text(text) = &given.value else { return Ok((given.as_number()?, u32::MAX)) };
    let number = |text: &str| {
        let text = text.trim();
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| "not a mark; write it as in 7, \"0x7\" or \"0x7/0xff\"".to_owned())
    };
    match text.split_once('/') {
        Some((mark, mask)) => Ok((number(mark)?, number(mask)?)),
        None => Ok((number(text)?, u32::MAX)),
    }
}

fn list(ips: &BTreeSet<IpAddr>) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
