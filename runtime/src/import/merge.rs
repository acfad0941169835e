//! Several hosts' documents as one: what is the same stands once, what differs stands beneath the first
//! host's value as a comment, and is told.

use super::document::{Document, Entry, Table, Value};
use super::note::Notes;
use super::origin::Origin;

/// What may differ from host to host; everything else of a VIP is the same on all.
const OF_A_HOST: [&str; 6] = ["priority", "node", "address", "weight", "metrics", "interface"];

/// One document of all; the first host's values count.
pub(super) fn merge(mut hosts: Vec<(String, Document)>, notes: &mut Notes) -> Document {
    if hosts.is_empty() {
        return Document::default();
    }
    let (first, mut all) = hosts.remove(0);
    let mut so_far = vec![first];
    for (host, document) in hosts {
        entries(&mut all.top, document.top, &so_far, &host, "", notes);
        tables(&mut all.tables, document.tables, &so_far, &host, notes);
        so_far.push(host);
    }
    all
}

fn tables(
    all: &mut Vec<Table>,
    others: Vec<Table>,
    so_far: &[String],
    host: &str,
    notes: &mut Notes,
) {
    let mut missing: Vec<usize> = (0..all.len()).collect();
    for other in others {
        let found = all.iter().position(|one| {
            one.header == other.header && (one.key == other.key || have_same_addresses(one, &other))
        });
        match found {
            Some(at) => {
                missing.retain(|one| *one != at);
                let Some(one) = all.get_mut(at) else { continue };
                let title = format!("{} {}", one.header.trim_matches(['[', ']']), one.key);
                entries(&mut one.entries, other.entries, so_far, host, &title, notes);
                tables(&mut one.tables, other.tables, so_far, host, notes);
            }
            None => {
                tell(&other, &format!("only {host} has it"), notes);
                let mut other = other;
                other.remarks.push(format!("Only {host} has this."));
                // Tables of a kind stay together.
                let at = all.iter().rposition(|one| one.header == other.header);
                all.insert(at.map_or(all.len(), |at| at + 1), other);
                let at = at.map_or(all.len(), |at| at + 1);
                missing.iter_mut().filter(|one| **one >= at).for_each(|one| *one += 1);
            }
        }
    }
    for at in missing {
        let Some(one) = all.get_mut(at).filter(|one| one.header != "[peers]") else { continue };
        tell(one, &format!("{host} has none like it"), notes);
        one.remarks.push(format!("Not on {host}."));
    }
}

fn have_same_addresses(one: &Table, other: &Table) -> bool {
    match (one.entry("addresses"), other.entry("addresses")) {
        (Some(one), Some(other)) => one.value.is_same(&other.value),
        _ => false,
    }
}

fn tell(table: &Table, what: &str, notes: &mut Notes) {
    let title = format!("{} {}", table.header.trim_matches(['[', ']']), table.key);
    let of_list = table.entries.iter().filter_map(|entry| match &entry.value {
        Value::List(items) => items.first().and_then(|(_, origins)| origins.first()),
        _ => None,
    });
    let first =
        table.entries.iter().filter_map(|entry| entry.origins.first()).chain(of_list).next();
    let Some(origin) = first else { return };
    notes.lost(
        origin,
        title,
        format!("{what}: turnip's hosts have the same tables; have it on all of them, or leave it out on all"),
    );
}

fn entries(
    all: &mut Vec<Entry>,
    others: Vec<Entry>,
    so_far: &[String],
    host: &str,
    title: &str,
    notes: &mut Notes,
) {
    let mut seen: Vec<String> = Vec::new();
    for other in others {
        seen.push(other.key.clone());
        let Some(one) = all.iter_mut().find(|one| one.key == other.key) else {
            told(&other, &format!("only {host} has it"), title, notes);
            all.push(Entry { hosts: vec![host.into()], ..other });
            continue;
        };
        if one.value.is_same(&other.value) {
            join(one, other, host);
            continue;
        }
        if let Some(alike) = one.others.iter_mut().find(|one| one.value.is_same(&other.value)) {
            told(&other, &differs(alike, so_far), title, notes);
            join(alike, other, host);
            if !alike.hosts.iter().any(|one| one == host) {
                alike.hosts.push(host.into());
            }
            continue;
        }
        if one.hosts.is_empty() {
            one.hosts = so_far.to_vec();
        }
        told(&other, &differs(one, so_far), title, notes);
        one.others.push(Entry { hosts: vec![host.into()], ..other });
    }
    for one in all.iter_mut().filter(|one| !seen.contains(&one.key)) {
        if one.hosts.is_empty() {
            one.hosts = so_far.to_vec();
        }
        if one.hosts.first() != so_far.first() {
            continue;
        }
        told(one, &format!("{host} does not have it"), title, notes);
    }
}

/// The same value: it comes from both.
fn join(one: &mut Entry, other: Entry, host: &str) {
    if let (Value::List(items), Value::List(more)) = (&mut one.value, other.value) {
        for (text, origins) in more {
            if let Some((_, all)) = items.iter_mut().find(|(item, _)| *item == text) {
                all.extend(origins);
            }
        }
    }
    one.origins.extend(other.origins);
    if !one.hosts.is_empty() {
        one.hosts.push(host.into());
    }
}

fn differs(one: &Entry, so_far: &[String]) -> String {
    let host = one.hosts.first().or(so_far.first()).cloned().unwrap_or_default();
    format!("{host} has {}", one.value.to_toml())
}

fn told(entry: &Entry, how: &str, title: &str, notes: &mut Notes) {
    let statement = format!("{title}: {} = {}", entry.key, entry.value.to_toml());
    let statement = statement.trim_start_matches(": ").to_owned();
    let first: Vec<Origin> = match &entry.value {
        Value::List(items) => items.iter().flat_map(|(_, origins)| origins.clone()).collect(),
        _ => Vec::new(),
    };
    let Some(origin) = entry.origins.first().or(first.first()) else { return };
    if OF_A_HOST.contains(&entry.key.as_str()) {
        let what = format!(
            "{how}, and each host is given its own: it stands in the output as a comment, for that host's file"
        );
        notes.needless(origin, statement, what);
    } else {
        let what = format!(
            "{how}, and turnip's hosts have it in common: choose one, and write it on all of them"
        );
        notes.lost(origin, statement, what);
    }
}
