//! `virtual_routes` and `virtual_rules`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::tree::Statement;
use crate::config::values;
use crate::import::document::{Table, Value};
use crate::import::note::Notes;

const NO_TRACK: &str =
    "turnip puts back what somebody takes away, and keeps the VIP; no_track is left out";

/// What is taken already, of all VIPs: the kernel has each once.
#[derive(Default)]
pub(super) struct Taken {
    routes: BTreeSet<(String, String, i64)>,
    rules: BTreeSet<String>,
    priority: i64,
}

/// A route as its words say it.
#[derive(Default)]
struct Written {
    to: Option<String>,
    via: Option<String>,
    dev: Option<String>,
    table: Option<String>,
    src: Option<String>,
    metric: i64,
    is_blackhole: bool,
    is_v6: bool,
}

impl Written {
    /// Reads the words, or says which of them has no counterpart.
    fn read(line: &Statement, notes: &mut Notes) -> Result<Self, String> {
        let mut route = Written::default();
        let mut words = line.words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or("");
            match word {
                "blackhole" => route.is_blackhole = true,
                "unicast" | "add" | "append" | "to" | "inet" => {}
                "inet6" => route.is_v6 = true,
                "via" | "gw" => {
                    let mut next = value();
                    if next == "inet" || next == "inet6" {
                        next = value();
                    }
                    route.via = Some(next.to_owned());
                }
                "dev" | "oif" => route.dev = Some(value().to_owned()),
                "table" => route.table = Some(value().to_owned()),
                "metric" | "priority" | "preference" => {
                    route.metric = value().parse().map_err(|_| format!("{word} is no number"))?;
                }
                "src" => route.src = Some(value().to_owned()),
                "scope" | "proto" | "protocol" => {
                    let what = format!(
                        "turnip's routes have the protocol 116 and the scope that fits, so {word} {} is left out",
                        value()
                    );
                    notes.needless(&line.origin, line.text(), what);
                }
                "no_track" => notes.needless(&line.origin, line.text(), NO_TRACK),
                "default" | "default6" => {
                    route.is_v6 |= word == "default6";
                    route.to = Some("default".to_owned());
                }
                _ => match prefix(word) {
                    Some(net) if route.to.is_none() => route.to = Some(net.to_string()),
                    _ => return Err(format!("turnip's routes know no {word:?}")),
                },
            }
        }
        Ok(route)
    }
}

/// A route as turnip has it.
pub(super) fn route(
    line: &Statement,
    ips: &[IpAddr],
    dev: Option<&str>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Option<Table> {
    let made =
        Written::read(line, notes).and_then(|route| resolved(route, line, ips, dev, taken, notes));
    made.map_err(|what| {
        notes.lost(&line.origin, line.text(), format!("{what}; write the route into a table of its own once, and a [[vip.rule]] that leads to it"));
    })
    .ok()
}

/// The table of a route, or why there is none.
fn resolved(
    route: Written,
    line: &Statement,
    ips: &[IpAddr],
    dev: Option<&str>,
    taken: &mut Taken,
    notes: &mut Notes,
) -> Result<Table, String> {
    let mut to = route.to.ok_or("it says not where it leads")?;
    let ip = |text: Option<String>| {
        let parsed = text.map(|text| text.split('/').next().unwrap_or("").parse::<IpAddr>());
        parsed.transpose().map_err(|_| "via or src is no address")
    };
    let (via, mut src) = (ip(route.via)?, ip(route.src)?);
    if src.is_some_and(|src| !ips.contains(&src)) {
        notes.lost(
            &line.origin,
            line.text(),
            "src is no address of the VIP, and left out; a route of a VIP has one of its addresses",
        );
        src = None;
    }
    if to == "default" {
        let is_v6 = route.is_v6
            || via.or(src).is_some_and(|ip| ip.is_ipv6())
            || (!ips.is_empty() && ips.iter().all(IpAddr::is_ipv6));
        to = if is_v6 { "::/0".into() } else { "0.0.0.0/0".into() };
    }
    let is_v6 = to.contains(':');
    if via.into_iter().chain(src).any(|ip| ip.is_ipv6() != is_v6) {
        return Err("its gateway or source is of another family".into());
    }
    let device = match (route.dev, route.is_blackhole, via) {
        (_, true, _) => None,
        (Some(device), ..) => Some(device),
        (None, _, None) => dev.map(str::to_owned),
        (None, _, Some(IpAddr::V6(ip))) if ip.is_unicast_link_local() => dev.map(str::to_owned),
        _ => None,
    };
    let is_sound = device.as_ref().is_none_or(|device| values::interface(device).is_ok());
    let leads_nowhere = !route.is_blackhole && via.is_none() && device.is_none();
    if !is_sound || leads_nowhere || u32::try_from(route.metric).is_err() {
        return Err("by no way that turnip knows".into());
    }
    if !taken.routes.insert((to.clone(), route.table.clone().unwrap_or_default(), route.metric)) {
        return Err("another VIP has a route to the same destination, in the same table and with the same metric".into());
    }
    let mut table = Table::new("[[vip.route]]", line.text());
    let from = [line.origin.clone()];
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            table.put(key, value, &from);
        }
    };
    put("to", Some(Value::Text(to)));
    put("via", via.filter(|_| !route.is_blackhole).map(|ip| Value::Text(ip.to_string())));
    put("dev", device.map(Value::Text));
    put("blackhole", route.is_blackhole.then_some(Value::Bool(true)));
    put("table", route.table.map(number_or_name));
    put("metric", (route.metric != 0).then_some(Value::Number(route.metric)));
    put("src", src.filter(|_| !route.is_blackhole).map(|ip| Value::Text(ip.to_string())));
    Ok(table)
}

/// A rule as turnip has it.
pub(super) fn rule(line: &Statement, taken: &mut Taken, notes: &mut Notes) -> Option<Table> {
    let from = [line.origin.clone()];
    let mut table = Table::new("[[vip.rule]]", line.text());
    let lose = |what: String, notes: &mut Notes| {
        notes.lost(
            &line.origin,
            line.text(),
            format!("{what}; write it where the host's network is configured, or in a hook"),
        );
    };
    let (mut lookup, mut priority) = (None, None);
    let (mut selects, mut v6) = (false, false);
    let mut words = line.words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or("");
        match word {
            "from" | "to" => {
                let text = value();
                let net = match text {
                    "all" | "any" | "default" => prefix(if v6 { "::/0" } else { "0.0.0.0/0" }),
                    text => prefix(text),
                };
                let Some(net) = net else {
                    lose(format!("{text:?} is no prefix"), notes);
                    return None;
                };
                selects = true;
                table.put(word, Value::Text(net.to_string()), &from);
            }
            "inet6" => v6 = true,
            "inet" | "add" => {}
            "fwmark" => {
                selects = true;
                table.put("fwmark", Value::Text(value().to_owned()), &from);
            }
            "table" | "lookup" => lookup = Some(value().to_owned()),
            "no_track" => notes.needless(&line.origin, line.text(), NO_TRACK),
            "priority" | "preference" | "pref" | "order" => priority = value().parse::<i64>().ok(),
            _ => {
                lose(format!("turnip's rules know no {word:?}"), notes);
                return None;
            }
        }
    }
    let Some(lookup) = lookup.filter(|_| selects) else {
        lose("it leads to no table, or is for no packets".into(), notes);
        return None;
    };
    if priority.is_some_and(|priority| !(1..=32_765).contains(&priority)) {
        lose("its priority is not from 1 to 32765".into(), notes);
        return None;
    }
    table.put("table", number_or_name(lookup), &from);
    match priority {
        Some(priority) => table.put("priority", Value::Number(priority), &from),
        None => {
            taken.priority += 1;
            let chosen = 1000 + taken.priority;
            notes.lost(&line.origin, line.text(), format!("without a priority, for which keepalived chooses one: here it is {chosen}; look where among your rules it is to be"));
            table.put_because("priority", Value::Number(chosen), "chosen by the import");
        }
    }
    let text: Vec<String> = table
        .entries
        .iter()
        .map(|entry| format!("{}={}", entry.key, entry.value.to_toml()))
        .collect();
    if !taken.rules.insert(text.join(" ")) {
        lose("another one is the same".into(), notes);
        return None;
    }
    Some(table)
}

fn number_or_name(text: String) -> Value {
    text.parse().map_or(Value::Text(text), Value::Number)
}

fn prefix(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(net) => Some(net.trunc()),
        Err(_) => values::ip(text).ok().map(IpNet::from),
    }
}
