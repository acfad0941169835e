//! vip-manager: its YAML, or its variables, one a line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Document, Table, Value};
use super::note::Notes;
use super::origin::{Origin, Place};
use super::{Failure, Imported, etcd, heading, name, read, shown, yaml};
use crate::config::values;

/// A setting, by vip-manager's newest name for it.
struct Setting {
    key: String,
    value: String,
    origin: Origin,
}

/// Translates one host's settings a file.
///
/// # Errors
/// When a file cannot be read, or is neither YAML nor variables.
pub fn import(files: &[PathBuf]) -> Result<Imported, Failure> {
    let mut hosts = Vec::new();
    for path in files {
        let settings = settings(path)?;
        let (document, notes) = translate(&settings);
        hosts.push((shown(path).to_string(), document, notes));
    }
    Ok(Imported::of(&heading("vip-manager", files), hosts))
}

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Yaml,
    /// Variables or flags.
    Words,
    /// A unit of systemd.
    Unit,
}

impl Form {
    /// By the first line that is neither empty nor a comment.
    fn of(text: &str) -> Self {
        let mut lines = text.lines().map(str::trim_start);
        let first =
            lines.find(|line| !line.is_empty() && !line.starts_with(['#', ';'])).unwrap_or("");
        let is_command =
            first.split_whitespace().next().is_some_and(|word| word.ends_with("vip-manager"));
        match first.trim_start_matches("export ").trim_start() {
            line if line.starts_with('[') && line.trim_end().ends_with(']') => Form::Unit,
            line if line.starts_with("VIP_") && line.contains('=') => Form::Words,
            line if line.starts_with("--") && !line.starts_with("---") || is_command => Form::Words,
            _ => Form::Yaml,
        }
    }
}

fn settings(path: &Path) -> Result<Vec<Setting>, Failure> {
    let text = read(path)?;
    match Form::of(&text) {
        Form::Yaml => of_yaml(path),
        form => Ok(of_words(&shown(path), &text, form)),
    }
}

fn of_yaml(path: &Path) -> Result<Vec<Setting>, Failure> {
    let mut all = Vec::new();
    for document in yaml::documents(path, &mut 0)? {
        let yaml::Value::Map(pairs) = &document.value else {
            let what = "not a mapping; write settings as in `ip: 10.0.0.5`";
            return Err(Failure::at(&document.origin.place, what));
        };
        for (key, node) in pairs {
            node.each(key, &mut |inner, one| {
                let key = current(if inner.is_empty() { key } else { inner });
                let value = one.text().unwrap_or_default().to_owned();
                all.push(Setting { key, value, origin: one.origin.clone() });
            });
        }
    }
    Ok(all)
}

/// Variables and flags; a unit has them behind `Environment=` and `ExecStart=`.
fn of_words(file: &Arc<str>, text: &str, form: Form) -> Vec<Setting> {
    let mut all: Vec<Setting> = Vec::new();
    // The flag that waits for its value, which may stand on the next line.
    let mut waiting = false;
    let mut is_folded = false;
    let mut is_ours = true;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let place = Place { file: Arc::clone(file), line: at + 1, column: 1 };
        let mut rest = line.strip_suffix('\\').unwrap_or(line);
        if form == Form::Unit && !is_folded {
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            is_ours = ["Environment", "ExecStart"].contains(&key.trim());
            if is_ours {
                rest = value;
            }
        }
        is_folded = line.ends_with('\\');
        if !is_ours {
            let origin = Origin { place, with: Vec::new(), id: all.len() };
            all.push(Setting { key: UNIT.into(), value: rest.to_owned(), origin });
            continue;
        }
        for word in super::keepalived::words(rest) {
            if let Some(last) = all.last_mut().filter(|_| waiting && !word.starts_with('-')) {
                last.value = word;
                last.origin.with.extend((last.origin.place.line != at + 1).then(|| place.clone()));
                waiting = false;
                continue;
            }
            let origin = Origin { place: place.clone(), with: Vec::new(), id: all.len() };
            let is_setting = word.starts_with('-') || word.contains('=');
            waiting = word.starts_with('-') && !word.contains('=') && word != "--verbose";
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (current(key.trim_start_matches('-')), value.to_owned()),
                None if is_setting => (current(word.trim_start_matches('-')), String::new()),
                None if word == "export" => continue,
                None => (COMMAND.to_owned(), word),
            };
            all.push(Setting { key, value, origin });
        }
    }
    all
}

/// What a line of a unit goes by that says nothing of a VIP.
const UNIT: &str = "unit";
/// A word that is neither a flag nor a variable.
const COMMAND: &str = "command";

/// The newest name of a setting.
fn current(key: &str) -> String {
    let key = key.trim_start_matches("VIP_").to_lowercase().replace('_', "-");
    let newest = match key.as_str() {
        "mask" => "netmask",
        "iface" => "interface",
        "key" => "trigger-key",
        "nodename" | "host" => "trigger-value",
        "type" | "endpoint-type" => "dcs-type",
        "endpoint" | "endpoints" => "dcs-endpoints",
        "hostingtype" | "hosting-type" => "manager-type",
        "etcd-trusted-ca-file" => "etcd-ca-file",
        other => other,
    };
    newest.to_owned()
}

fn translate(settings: &[Setting]) -> (Document, Notes) {
    let (mut document, mut notes) = (Document::default(), Notes::default());
    let find = |key: &str| settings.iter().rev().find(|one| one.key == key);
    let kind = find("dcs-type").map_or("etcd", |one| one.value.as_str());
    let is_patroni = kind == "patroni";
    let mut etcd = Table::new("[etcd]", "");
    let mut check = Table::new("[[check]]", "leader");
    let mut vip = Table::new("[[vip]]", "");
    address(&find, &mut vip, &mut notes);
    endpoints(settings, kind, &mut etcd, &mut notes);
    if is_patroni {
        patroni(&find, &mut check, &mut vip);
    } else if kind.starts_with("etcd") {
        follow(&find, &mut vip, &mut notes);
    }
    for one in settings {
        let from = [one.origin.clone()];
        let mut file = |key: &str| etcd.put(key, Value::Text(one.value.clone()), &from);
        let secret = format!("{} (hidden)", one.key);
        let said = format!("{}: {}", one.key, one.value);
        match one.key.as_str() {
            "etcd-ca-file" if !one.value.is_empty() => file("ca"),
            "etcd-cert-file" if !one.value.is_empty() => file("cert"),
            "etcd-key-file" if !one.value.is_empty() => file("key"),
            "etcd-user" if !one.value.is_empty() => notes.lost(&one.origin, said, "write user = and password_file = under [etcd]; the password stands in a file of its own"),
            "etcd-ca-file" | "etcd-cert-file" | "etcd-key-file" | "etcd-user" => notes.needless(&one.origin, said, "it is empty"),
            "etcd-password" if one.value.is_empty() => notes.needless(&one.origin, said, "it is empty"),
            "etcd-password" => notes.lost(&one.origin, secret, "write it to a file of its own, and name that as password_file under [etcd], beside user"),
            "consul-token" if kind == "consul" => notes.lost(&one.origin, secret, "turnip does not go by consul; run an etcd, or follow Patroni by its REST API: dcs-type: patroni"),
            "consul-token" => notes.needless(&one.origin, secret, "it is for consul"),
            "dcs-type" if kind == "consul" => notes.lost(&one.origin, said, "turnip does not go by consul; run an etcd, or follow Patroni by its REST API: dcs-type: patroni"),
            "dcs-type" => notes.needless(&one.origin, said, "the VIP's policy or check says so"),
            "interval" if is_patroni => {}
            "interval" => notes.needless(&one.origin, said, "etcd tells of each change at once"),
            "retry-num" | "retry-after" => notes.needless(&one.origin, said, "turnip announces at once, after 1 s and 3 s, and then every announce_every"),
            "manager-type" if one.value == "basic" => notes.needless(&one.origin, said, "it is the only way that turnip has"),
            "manager-type" => notes.lost(&one.origin, said, "turnip calls no provider's interface; have an after_assume hook do it"),
            UNIT if one.value.starts_with("EnvironmentFile") => notes.lost(&one.origin, said, "import that file as well, or instead"),
            UNIT => notes.needless(&one.origin, said, "turnip has a unit of its own"),
            COMMAND if one.value.ends_with("vip-manager") => notes.needless(&one.origin, said, "turnip has a unit of its own"),
            "config" => notes.lost(&one.origin, said, "import that file as well, or instead"),
            "verbose" => notes.needless(&one.origin, said, "see log_level"),
            _ => {}
        }
    }
    etcd::settle_tls(&mut etcd, &mut notes);
    if check.entry("http").is_some() {
        document.tables.push(check);
    }
    if !etcd.entries.is_empty() {
        document.tables.push(etcd);
    }
    if vip.entry("address").is_some()
        && (vip.entry("policy").is_some() || vip.entry("checks").is_some())
    {
        document.tables.push(vip);
    }
    let mut told = document.ids();
    told.extend(notes.ids());
    let left_out = why_left_out(&find, kind);
    for one in settings.iter().filter(|one| !told.contains(&one.origin.id)) {
        let value = if one.key.contains("pass") || one.key.contains("token") {
            "(hidden)"
        } else {
            &one.value
        };
        notes.lost(&one.origin, format!("{}: {value}", one.key), left_out.clone());
    }
    (document, notes)
}

/// Why a setting that is known, or that nobody knows, is not in the output.
fn why_left_out<'a>(find: &impl Fn(&str) -> Option<&'a Setting>, kind: &str) -> String {
    let needed = ["ip", "interface", "trigger-key"];
    let missing: Vec<&str> = needed.into_iter().filter(|key| find(key).is_none()).collect();
    match kind {
        "consul" => "turnip does not go by consul, so there is no VIP in the output; run an etcd, or follow Patroni by its REST API: dcs-type: patroni".into(),
        "etcd" | "etcd3" | "patroni" if missing.is_empty() => "nothing in turnip is like it; see the documentation of vip-manager for what it does, and whether you need it".into(),
        "etcd" | "etcd3" | "patroni" => format!("there may be no VIP without {}; write it beside, and import again", missing.join(", ")),
        _ => "dcs-type is none of etcd, etcd3, patroni, consul; write the right one, and import again".into(),
    }
}

fn address<'a>(find: &impl Fn(&str) -> Option<&'a Setting>, vip: &mut Table, notes: &mut Notes) {
    let (Some(ip), Some(interface)) = (find("ip"), find("interface")) else { return };
    vip.key = name(&ip.value);
    vip.put("name", Value::Text(vip.key.clone()), std::slice::from_ref(&ip.origin));
    let mut from = vec![ip.origin.clone()];
    let mask = find("netmask").filter(|mask| !mask.value.is_empty() && mask.value != "-1");
    from.extend(find("netmask").map(|mask| mask.origin.clone()));
    let parsed = values::ip(&ip.value).and_then(|ip| {
        let all = if ip.is_ipv4() { "32" } else { "128" };
        values::usable(ip, values::prefix_len(ip, mask.map_or(all, |mask| mask.value.as_str()))?)
    });
    match parsed {
        Ok(net) => vip.put("address", Value::Text(net.to_string()), &from),
        Err(what) => notes.lost(&ip.origin, format!("ip: {}", ip.value), what),
    }
    vip.put(
        "interface",
        Value::Text(interface.value.clone()),
        std::slice::from_ref(&interface.origin),
    );
}

fn follow<'a>(find: &impl Fn(&str) -> Option<&'a Setting>, vip: &mut Table, notes: &mut Notes) {
    let Some(key) = find("trigger-key") else { return };
    let mut from = vec![key.origin.clone()];
    let mut pairs = vec![("key", Value::Text(key.value.clone()))];
    match find("trigger-value").filter(|one| !one.value.is_empty()) {
        Some(value) => {
            from.push(value.origin.clone());
            pairs.push(("value", Value::Text(value.value.clone())));
        }
        None => notes.lost(&key.origin, "trigger-value", "not given, for which vip-manager takes the hostname; write it as value = in `follow`, on each host its own"),
    }
    vip.put_because(
        "policy",
        Value::Text("follow".into()),
        "the host has the VIP whose value stands under the key",
    );
    vip.put("follow", Value::Inline(pairs), &from);
}

fn patroni<'a>(find: &impl Fn(&str) -> Option<&'a Setting>, check: &mut Table, vip: &mut Table) {
    let endpoint = find("dcs-endpoints");
    let base = endpoint
        .map_or("http://127.0.0.1:8008", |one| one.value.split(',').next().unwrap_or_default());
    let key = find("trigger-key");
    let path = key.map_or("/leader", |one| one.value.as_str());
    let from: Vec<Origin> = endpoint.iter().chain(&key).map(|one| one.origin.clone()).collect();
    check.put_because("name", Value::Text("leader".into()), "Patroni's own word");
    let url = format!("{}/{}", base.trim().trim_end_matches('/'), path.trim_start_matches('/'));
    check.put("http", Value::Text(url), &from);
    if let Some((status, value)) =
        find("trigger-value").and_then(|one| Some((one.value.parse::<i64>().ok()?, one)))
    {
        check.put("status", Value::Number(status), std::slice::from_ref(&value.origin));
    }
    if let Some((interval, one)) =
        find("interval").and_then(|one| Some((one.value.parse::<u64>().ok()?, one)))
    {
        check.put(
            "interval",
            Value::Text(format!("{}ms", interval.max(100))),
            std::slice::from_ref(&one.origin),
        );
    }
    check.put_because("rise", Value::Number(1), "as vip-manager has it");
    check.put_because("fall", Value::Number(1), "as vip-manager has it");
    vip.put_because(
        "checks",
        Value::Words(vec!["leader".into()]),
        "the host has the VIP that leads",
    );
    vip.put_because(
        "last_resort",
        Value::Text("release".into()),
        "while nobody leads nobody has the address",
    );
}

fn endpoints(settings: &[Setting], kind: &str, table: &mut Table, notes: &mut Notes) {
    if kind.starts_with("etcd") {
        let all = settings.iter().filter(|one| one.key == "dcs-endpoints");
        let all: Vec<_> = all.map(|one| (one.value.as_str(), &one.origin)).collect();
        etcd::endpoints(&all, table, notes);
    }
}
