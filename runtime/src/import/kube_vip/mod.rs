//! kube-vip's manifests: what stands in the environment of its containers.

mod flags;
mod health;
mod without;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::values;
use crate::import::document::{Document, Entry, Table, Value};
use crate::import::note::{Grade, Notes};
use crate::import::origin::Origin;
use crate::import::yaml::{self, Node};
use crate::import::{Failure, Imported, etcd, heading, name, shown};

/// A variable of a container.
struct Variable {
    /// Which statement its name is.
    name_id: usize,
    name: String,
    value: String,
    /// It comes from elsewhere (`valueFrom`).
    is_elsewhere: bool,
    origin: Origin,
}

/// Translates the manifests of one host a file.
///
/// # Errors
/// When a file cannot be read, or is not YAML.
pub fn import(files: &[PathBuf]) -> Result<Imported, Failure> {
    let mut hosts = Vec::new();
    for path in files {
        let (document, notes) = host(path)?;
        hosts.push((shown(path).to_string(), document, notes));
    }
    Ok(Imported::of(&heading("kube-vip", files), hosts))
}

fn host(path: &Path) -> Result<(Document, Notes), Failure> {
    let (mut document, mut notes) = (Document::default(), Notes::default());
    let documents = yaml::documents(path, &mut 0)?;
    let mut told: BTreeSet<usize> = BTreeSet::new();
    let mut first = None;
    for one in &documents {
        let mut containers = Vec::new();
        find(one, &mut containers);
        first = first.or(containers.first().copied());
        for container in containers {
            let variables = variables(container);
            told.extend(variables.iter().map(|one| one.name_id));
            translate(&variables, &mut document, &mut notes);
        }
    }
    if document.tables.iter().all(|table| table.header != "[[vip]]")
        && let Some(one) = first.or(documents.first())
    {
        notes.lost(&one.origin, "", "no address of a control plane that turnip can hold (address, vip_address), so there is no [[vip]] in the output; write one");
    }
    told.extend(document.ids());
    told.extend(notes.ids());
    for one in &documents {
        let kind = one.get("kind").and_then(Node::text).unwrap_or("document").to_owned();
        one.each("", &mut |key, leaf| {
            if told.insert(leaf.origin.id) {
                let text = format!("{key}: {}", leaf.text().unwrap_or_default());
                let (grade, what) = match kind.as_str() {
                    "ConfigMap" => (Grade::Lost, "of a ConfigMap, which turnip does not read; if it is kube-vip's, write in turnip.toml what it says".to_owned()),
                    kind => (Grade::Needless, format!("of the {kind}, which Kubernetes runs and systemd does not; turnip's unit says how turnip runs")),
                };
                notes.add(&leaf.origin, text.trim_start_matches(": ").to_owned(), what, grade);
            }
        });
    }
    Ok((document, notes))
}

/// All containers that are kube-vip's, wherever they stand.
fn find<'a>(node: &'a Node, found: &mut Vec<&'a Node>) {
    let says = |key: &str| {
        node.get(key).and_then(Node::text).is_some_and(|text| text.contains("kube-vip"))
    };
    let has_settings = ["env", "args", "command"]
        .iter()
        .any(|key| node.get(key).is_some_and(|all| !all.items().is_empty()));
    if has_settings && (says("image") || says("name")) {
        found.push(node);
        return;
    }
    match &node.value {
        yaml::Value::Map(all) => all.iter().for_each(|(_, inner)| find(inner, found)),
        yaml::Value::List(all) => all.iter().for_each(|inner| find(inner, found)),
        yaml::Value::Scalar(_) => {}
    }
}

fn variables(container: &Node) -> Vec<Variable> {
    let env = container.get("env").map_or(&[][..], Node::items);
    let one = |node: &Node| {
        let called = node.get("name")?;
        let value = node.get("value");
        let mut origin = value.unwrap_or(called).origin.clone();
        if value.is_some() {
            origin.with.push(called.origin.place.clone());
        }
        Some(Variable {
            name_id: called.origin.id,
            name: called.text()?.to_owned(),
            value: value.and_then(Node::text).unwrap_or_default().to_owned(),
            is_elsewhere: value.is_none() && node.get("valueFrom").is_some(),
            origin,
        })
    };
    env.iter().filter_map(one).chain(flags::flags(container)).collect()
}

fn translate(variables: &[Variable], document: &mut Document, notes: &mut Notes) {
    let find =
        |key: &str| variables.iter().rev().find(|one| one.name == key && !one.value.is_empty());
    let mut etcd = Table::new("[etcd]", "");
    let (mut used, mut endpoints) = (BTreeSet::new(), Vec::new());
    if let Some(vip) = vip(&find, document, &mut used, notes) {
        document.tables.push(vip);
    }
    for one in variables.iter().filter(|one| !used.contains(&one.origin.id)) {
        let from = [one.origin.clone()];
        let said = format!("{} = {}", one.name, one.value);
        let seconds = one.value.parse::<u64>().ok();
        match (one.name.as_str(), seconds) {
            _ if one.is_elsewhere && one.name != "vip_nodename" => notes.lost(&one.origin, said, "its value comes from elsewhere (valueFrom); write what it is there into turnip.toml by hand"),
            ("vip_leaseduration", Some(seconds)) if seconds > 0 => put(document, "lease", format!("{}s", seconds.min(600)), &from),
            ("vip_arpRate", Some(millis)) => put(document, "announce_every", format!("{}ms", millis.max(1000)), &from),
            ("prometheus_server", _) if one.value.contains(':') => {
                let text = if one.value.starts_with(':') { format!("[::]{}", one.value) } else { one.value.clone() };
                put(document, "metrics", text, &from);
            }
            ("etcd_ca" | "etcd_ca_file", _) => etcd.put("ca", Value::Text(one.value.clone()), &from),
            ("etcd_cert" | "etcd_cert_file", _) => etcd.put("cert", Value::Text(one.value.clone()), &from),
            ("etcd_key" | "etcd_key_file", _) => etcd.put("key", Value::Text(one.value.clone()), &from),
            ("etcd_endpoints" | "etcd_address", _) => endpoints.push((one.value.as_str(), &one.origin)),
            _ => without::tell(one, notes),
        }
    }
    etcd::endpoints(&endpoints, &mut etcd, notes);
    etcd::settle_tls(&mut etcd, notes);
    if !etcd.entries.is_empty() {
        document.tables.insert(0, etcd);
    }
}

fn put(document: &mut Document, key: &str, value: String, from: &[Origin]) {
    if document.top.iter().all(|entry| entry.key != key) {
        document.top.push(Entry::new(key, Value::Text(value), from));
    }
}

/// The control plane's address.
fn vip<'a>(
    find: &impl Fn(&str) -> Option<&'a Variable>,
    document: &mut Document,
    used: &mut BTreeSet<usize>,
    notes: &mut Notes,
) -> Option<Table> {
    let address = find("address").or(find("vip_address"))?;
    let mask = find("vip_subnet").or(find("vip_cidr"));
    let mut items = Vec::new();
    for text in address.value.split(',').map(str::trim) {
        let bits = |v4: bool| {
            let all: Vec<&str> =
                mask.map_or("", |mask| mask.value.as_str()).split(',').map(str::trim).collect();
            let text = if v4 {
                all.first()
            } else {
                all.get(1).or(all.first().filter(|one| all.len() == 1 && one.contains("128")))
            };
            text.copied()
                .filter(|text| !text.is_empty())
                .unwrap_or(if v4 { "32" } else { "128" })
                .to_owned()
        };
        let net = match text.contains('/') {
            true => values::host_address(text),
            false => values::ip(text)
                .and_then(|ip| values::usable(ip, values::prefix_len(ip, &bits(ip.is_ipv4()))?)),
        };
        match net {
            Ok(net) => items.push((net.to_string(), vec![address.origin.clone()])),
            Err(what) => {
                notes.lost(
                    &address.origin,
                    format!("{} = {text}", address.name),
                    format!("{what}; turnip asks no DNS for a VIP"),
                );
                used.insert(address.origin.id);
            }
        }
    }
    if items.is_empty() {
        return None;
    }
    used.insert(address.origin.id);
    let mut table = Table::new("[[vip]]", name("kube-api"));
    table.put("name", Value::Text("kube-api".into()), std::slice::from_ref(&address.origin));
    let masks: Vec<Origin> = mask.iter().map(|mask| mask.origin.clone()).collect();
    used.extend(masks.iter().map(|mask| mask.id));
    table.put("addresses", Value::List(items), &masks);
    match find("vip_interface") {
        Some(link) => {
            used.insert(link.origin.id);
            table.put(
                "interface",
                Value::Text(link.value.clone()),
                std::slice::from_ref(&link.origin),
            );
        }
        None => {
            notes.lost(&address.origin, "vip_interface", "not given, for which kube-vip takes that of the default route: eth0 is in the output, write the right one");
            table.put_because("interface", Value::Text("eth0".into()), "to be looked at");
        }
    }
    table.put_because(
        "policy",
        Value::Text("priority".into()),
        "with the same priority everywhere",
    );
    table.put_because("preempt", Value::Bool(false), "who has it keeps it, as in kube-vip");
    let (mut names, mut origins) = (Vec::new(), Vec::new());
    if let Some(port) =
        find("port").filter(|port| port.value.parse::<u16>().is_ok_and(|port| port > 0))
    {
        used.insert(port.origin.id);
        let from = std::slice::from_ref(&port.origin);
        let mut check = Table::new("[[check]]", "api-server");
        check.put("name", Value::Text("api-server".into()), from);
        check.put("tcp", Value::Text(format!("127.0.0.1:{}", port.value)), from);
        document.tables.push(check);
        names.push("api-server".into());
        origins.push(port.origin.clone());
    }
    if let Some((check, from)) = health::check(find, used) {
        document.tables.push(check);
        names.push(health::NAME.into());
        origins.push(from);
    }
    if !names.is_empty() {
        table.put("checks", Value::Words(names), &origins);
    }
    Some(table)
}
