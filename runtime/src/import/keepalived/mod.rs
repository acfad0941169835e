//! keepalived.conf.

mod addresses;
mod checks;
mod hooks;
mod keywords;
mod lexer;
mod oneline;
mod reader;
mod routes;
mod tree;
mod vips;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::document::{Document, Entry, Table, Value};
use super::note::{Grade, Notes};
use super::{Failure, Imported, heading, shown};
use crate::config::values;
use reader::Reader;
use tree::Statement;
use vips::Vips;

/// Translates the files of one host, or of several: a file is a host's, and where lines are for a host alone
/// (`@host`) it is each of theirs.
///
/// # Errors
/// When a file cannot be read, or is not in keepalived's form.
pub fn import(files: &[PathBuf]) -> Result<Imported, Failure> {
    let mut hosts = Vec::new();
    for path in files {
        let mut all = Reader::new(None);
        all.file(path)?;
        let mut ids: Vec<String> = all.ids.into_iter().collect();
        if ids.len() == 1 {
            // Who else there is is not named.
            ids.push("others".into());
        }
        if ids.is_empty() {
            let (document, notes) = host(path, None)?;
            hosts.push((shown(path).to_string(), document, notes));
        }
        for id in ids {
            let (document, notes) = host(path, Some(&id))?;
            hosts.push((format!("{id} in {}", shown(path)), document, notes));
        }
    }
    Ok(Imported::of(&heading("keepalived", files), hosts))
}

/// The words of a line as a shell reads it, without its comment.
pub(super) fn words(line: &str) -> Vec<String> {
    lexer::arguments(lexer::without_comment(line))
}

fn host(path: &Path, id: Option<&str>) -> Result<(Document, Notes), Failure> {
    let mut reader = Reader::new(id);
    reader.file(path)?;
    reader.finish();
    let statements = tree::statements(std::mem::take(&mut reader.lines))?;
    let (document, mut notes) = translate(&statements);
    statements.iter().for_each(|one| oneline::superfluous(one, &mut notes));
    let mut said = document.ids();
    said.extend(notes.ids());
    for statement in &statements {
        statement.each(&mut |one| {
            if said.insert(one.origin.id) {
                let what = "nothing in the output goes by it; look at it by hand";
                notes.lost(&one.origin, one.text(), what);
            }
        });
    }
    notes.extend(reader.notes);
    Ok((document, notes))
}

fn translate(statements: &[Statement]) -> (Document, Notes) {
    let mut vips = Vips::default();
    let mut definitions = Vec::new();
    for one in statements {
        let kind = match one.keyword() {
            "vrrp_script" => "script",
            "track_file" | "vrrp_track_file" => "file",
            "track_process" | "vrrp_track_process" => "process",
            _ => continue,
        };
        vips.checks.define(kind, one, &mut vips.notes);
        definitions.push(one);
    }
    let instances = || statements.iter().filter(|one| one.keyword() == "vrrp_instance");
    let mut grouped = BTreeSet::new();
    for group in statements.iter().filter(|one| one.keyword() == "vrrp_sync_group") {
        let mut members = Vec::new();
        for block in group.inner().iter().filter(|one| one.keyword() == "group") {
            for line in block.inner() {
                for word in &line.words {
                    match instances().find(|one| one.word(1) == word) {
                        Some(one) if grouped.insert(one.origin.id) => members.push(one),
                        Some(_) => vips.notes.lost(
                            &line.origin,
                            word,
                            "in two groups, of which the first one counts; name it in one",
                        ),
                        None => vips.notes.lost(
                            &line.origin,
                            word,
                            "no vrrp_instance has this name; define it, or leave it out",
                        ),
                    }
                }
            }
        }
        if members.is_empty() {
            keywords::tell_all(
                group,
                Grade::Lost,
                "a group of nothing; name its instances",
                &mut vips.notes,
            );
        }
        vips.add(Some(group), &members);
        members_of(group, &mut vips);
    }
    for one in instances().filter(|one| !grouped.contains(&one.origin.id)) {
        vips.add(None, &[one]);
    }
    for one in statements {
        others(one, &mut vips);
    }
    let Vips { checks, mut document, mut notes, advert, refresh, source, .. } = vips;
    document.tables.splice(0..0, checks.made);
    let mut used = document.ids();
    used.extend(notes.ids());
    definitions.into_iter().for_each(|one| checks::unused(one, &used, &mut notes));
    settings(&mut document, advert, refresh, source, &mut notes);
    (document, notes)
}

/// The names in a group are in the output with its VIP.
fn members_of(group: &Statement, vips: &mut Vips<'_>) {
    let entry = vips.document.tables.last_mut().and_then(|table| table.entries.first_mut());
    let Some(entry) =
        entry.filter(|entry| entry.origins.iter().any(|one| one.id == group.origin.id))
    else {
        return;
    };
    for block in group.inner().iter().filter(|one| one.keyword() == "group") {
        entry.origins.push(block.origin.clone());
        entry.origins.extend(block.inner().iter().map(|line| line.origin.clone()));
    }
}

/// What is neither an instance nor a group, nor defines a check.
fn others(one: &Statement, vips: &mut Vips<'_>) {
    match one.keyword() {
        "vrrp_instance" | "vrrp_sync_group" | "vrrp_script" | "track_file" | "vrrp_track_file"
        | "track_process" | "vrrp_track_process" => {}
        "global_defs" => {
            vips.notes.needless(&one.origin, one.text(), "what is in it is told by itself");
            for inner in one.inner() {
                match (inner.keyword(), inner.word(1).parse()) {
                    ("vrrp_garp_master_refresh", Ok(seconds)) => {
                        vips.refresh.push((seconds, inner.origin.clone(), inner.text()));
                    }
                    _ => keywords::tell(inner, &mut vips.notes),
                }
            }
        }
        "virtual_server" | "virtual_server_group" | "real_server" | "sorry_server" | "SSL" => {
            let what = "load balancing by LVS is not turnip's; leave it to keepalived without vrrp_instance, or to another load balancer";
            keywords::tell_all(one, Grade::Lost, what, &mut vips.notes);
        }
        _ => keywords::tell(one, &mut vips.notes),
    }
}

/// What turnip has once for a host.
fn settings(
    document: &mut Document,
    advert: Vec<(f64, super::origin::Origin, String)>,
    refresh: Vec<(u64, super::origin::Origin, String)>,
    source: Vec<(String, super::origin::Origin, String)>,
    notes: &mut Notes,
) {
    let least = advert.iter().map(|(seconds, ..)| *seconds).min_by(f64::total_cmp);
    if let Some(least) = least {
        let lease = (least * 3.0).clamp(0.2, 600.0);
        let mut from = Vec::new();
        for (seconds, origin, text) in advert {
            match seconds.total_cmp(&least).is_eq() {
                true => from.push(origin),
                false => notes.lost(&origin, text, format!("a host has one lease for all its VIPs, here of the shortest interval, {least} s")),
            }
        }
        let why = "three intervals, after which VRRP takes over".to_owned();
        let value = Value::Text(checks::seconds_text(lease));
        document.top.push(Entry { why: Some(why), ..Entry::new("lease", value, &from) });
    }
    let chosen = refresh.iter().map(|(seconds, ..)| *seconds).filter(|seconds| *seconds > 0).min();
    if !refresh.is_empty() {
        let chosen = chosen.unwrap_or(0);
        let mut from = Vec::new();
        for (seconds, origin, text) in refresh {
            match seconds == chosen {
                true => from.push(origin),
                false => notes.lost(
                    &origin,
                    text,
                    format!("a host announces all its VIPs alike, here every {chosen} s"),
                ),
            }
        }
        let text = if chosen == 0 { "0".to_owned() } else { format!("{}s", chosen.min(86_400)) };
        document.top.push(Entry::new("announce_every", Value::Text(text), &from));
    }
    let mut peers: Option<Table> = None;
    for (text, origin, statement) in source {
        let ip = values::ip(text.split('/').next().unwrap_or_default());
        let usable =
            ip.ok().filter(|ip| values::usable(*ip, if ip.is_ipv4() { 32 } else { 128 }).is_ok());
        let is_local = |ip: &std::net::IpAddr| matches!(ip, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local());
        let Some(ip) = usable.filter(|ip| !is_local(ip)) else {
            notes.lost(
                &origin,
                statement,
                "no address by which other hosts can reach this one; see address under [peers]",
            );
            continue;
        };
        let value = Value::Text(ip.to_string());
        match peers.as_mut().and_then(|table| table.entries.first_mut()) {
            None => {
                let mut table = Table::new("[peers]", "");
                table.put("address", value, &[origin]);
                peers = Some(table);
            }
            Some(entry) if entry.value.is_same(&value) => entry.origins.push(origin),
            Some(_) => notes.lost(&origin, statement, "a host has one address by which the others send to it; the first one is in the output"),
        }
    }
    if let Some(table) = peers {
        document.tables.insert(0, table);
    }
}
