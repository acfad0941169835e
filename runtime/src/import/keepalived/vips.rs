//! Instances and groups of them as VIPs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::addresses::{self, Address};
use super::checks::Checks;
use super::routes::{self, Taken};
use super::tree::Statement;
use super::{hooks, keywords};
use crate::import::document::{Document, Table, Value};
use crate::import::note::Notes;
use crate::import::origin::Origin;
use crate::import::{name, unique};

/// What is collected over all VIPs of a host.
#[derive(Default)]
pub(super) struct Vips<'a> {
    pub(super) checks: Checks<'a>,
    pub(super) document: Document,
    pub(super) notes: Notes,
    /// The least interval of advertisements.
    pub(super) advert: Vec<(f64, Origin, String)>,
    pub(super) refresh: Vec<(u64, Origin, String)>,
    pub(super) source: Vec<(String, Origin, String)>,
    taken: Taken,
    names: BTreeSet<String>,
    ips: BTreeSet<String>,
}

/// What lets the weights within a group count.
const TRACKS_WEIGHTS: [&str; 2] = ["sync_group_tracking_weight", "global_tracking"];

/// A VIP that is being made.
struct Draft<'a> {
    /// The interfaces of its addresses.
    own: Vec<String>,
    ips: Vec<IpAddr>,
    /// The interface of VRRP.
    dev: Option<String>,
    /// Whether weights count: in a group they do not by themselves.
    has_weights: bool,
    table: Table,
    checks: Vec<(String, Vec<Origin>)>,
    /// Hooks, each with whose it is.
    notify: Vec<(&'a Statement, &'a Statement)>,
}

impl<'a> Vips<'a> {
    /// One VIP of an instance, or of all those in a group.
    pub(super) fn add(&mut self, group: Option<&'a Statement>, members: &[&'a Statement]) {
        let Some(first) = members.first() else { return };
        let title = group.unwrap_or(first).word(1).to_owned();
        let chosen = unique(name(&title), &mut self.names);
        let mut table = Table::new("[[vip]]", chosen.clone());
        let mut headers: Vec<Origin> = group.iter().map(|one| one.origin.clone()).collect();
        headers.extend(members.iter().map(|one| one.origin.clone()));
        table.put("name", Value::Text(chosen), &headers);
        let (interface, all) = self.addresses(members);
        if all.is_empty() {
            let what = "it has no address that turnip can hold, so there is no VIP of it; give it one, or leave it out";
            for one in group.iter().chain(members) {
                keywords::tell_all(one, crate::import::note::Grade::Lost, what, &mut self.notes);
            }
            return;
        }
        let own: BTreeSet<String> = all.iter().filter_map(|one| one.dev.clone()).collect();
        put_addresses(&mut table, members, &all);
        let ips: Vec<IpAddr> =
            all.iter().filter_map(|one| one.net.split('/').next()?.parse().ok()).collect();
        table.put_because("policy", Value::Text("priority".into()), "as VRRP has it");
        let priority = self.priority(members, &mut table);
        let own: Vec<String> = own.into_iter().collect();
        let has_weights = group.is_none_or(|group| {
            group.inner().iter().any(|one| TRACKS_WEIGHTS.contains(&one.keyword()))
        });
        let mut draft = Draft {
            own,
            ips,
            dev: interface,
            has_weights,
            table,
            checks: Vec::new(),
            notify: Vec::new(),
        };
        for one in group.into_iter().chain(members.iter().copied()) {
            for inner in one.inner() {
                self.setting(inner, one, &mut draft);
            }
        }
        let Draft { own, mut table, mut checks, notify, .. } = draft;
        self.lost_link(members, &own, &mut checks);
        if !checks.is_empty() {
            table.put("checks", Value::List(checks), &[]);
        }
        for one in group.into_iter().chain(members.iter().copied()) {
            let of: Vec<&Statement> = notify
                .iter()
                .filter(|(owner, _)| owner.origin.id == one.origin.id)
                .map(|(_, one)| *one)
                .collect();
            if of.is_empty() {
                continue;
            }
            if table
                .entry("after_assume")
                .or(table.entry("after_release"))
                .or(table.entry("on_conflict"))
                .is_some()
            {
                for line in of {
                    self.notes.lost(&line.origin, line.text(), "the VIP has hooks already, those of its group or of another member; write a program that does both");
                }
                continue;
            }
            let kind = if one.keyword() == "vrrp_sync_group" { "GROUP" } else { "INSTANCE" };
            hooks::put(kind, one.word(1), priority, &of, &mut table, &mut self.notes);
        }
        self.document.tables.push(table);
    }

    /// The interface of VRRP, and the addresses of all members, each with where it is.
    fn addresses(&mut self, members: &[&Statement]) -> (Option<String>, Vec<Address>) {
        let mut all = Vec::new();
        let mut first = None;
        for member in members {
            let interface = member.inner().iter().rev().find(|one| one.keyword() == "interface");
            let interface = interface
                .map(|one| one.word(1).to_owned())
                .filter(|one| crate::config::values::interface(one).is_ok());
            first = first.or(interface.clone());
            for block in
                member.inner().iter().filter(|one| one.keyword().starts_with("virtual_ipaddress"))
            {
                for mut address in addresses::read(block, &mut self.notes) {
                    if address.dev.is_none() && interface.is_none() {
                        self.notes.lost(&address.origin, address.net.clone(), "without an interface, for which keepalived takes eth0: look whether that is right");
                    }
                    address.dev = address.dev.or(interface.clone()).or(Some("eth0".into()));
                    let ip = address.net.split('/').next().unwrap_or_default();
                    let is_local =
                        ip.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local());
                    let key = if is_local {
                        format!("{ip}%{}", address.dev.as_deref().unwrap_or_default())
                    } else {
                        ip.to_owned()
                    };
                    if self.ips.insert(key) {
                        all.push(address);
                    } else {
                        self.notes.lost(
                            &address.origin,
                            address.net.clone(),
                            "written twice; an address belongs to one VIP, once",
                        );
                    }
                }
            }
        }
        (first, all)
    }

    fn priority(&mut self, members: &[&Statement], table: &mut Table) -> i64 {
        let all: Vec<(&Statement, i64)> = members
            .iter()
            .flat_map(|member| member.inner().iter().filter(|one| one.keyword() == "priority"))
            .filter_map(|one| Some((one, i64::from(one.word(1).parse::<u32>().ok()?))))
            .collect();
        let least = all.iter().map(|(_, priority)| *priority).min();
        let Some(least) = least else {
            table.put_because("priority", Value::Number(100), "keepalived's default");
            return 100;
        };
        let (same, other): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, priority)| *priority == least);
        let from: Vec<Origin> = same.iter().map(|(one, _)| one.origin.clone()).collect();
        table.put("priority", Value::Number(least), &from);
        for (one, _) in other {
            self.notes.lost(&one.origin, one.text(), format!("members of a group are one VIP, with one priority: the least, {least}, is in the output; look whether that is right"));
        }
        least
    }

    fn setting(&mut self, one: &'a Statement, owner: &'a Statement, draft: &mut Draft<'a>) {
        let table = &mut draft.table;
        let from = [one.origin.clone()];
        let float = one.word(1).parse::<f64>().ok().filter(|number| *number > 0.0);
        match one.keyword() {
            "interface" | "group" | "virtual_ipaddress" | "virtual_ipaddress_excluded" => {}
            "priority" if one.word(1).parse::<u32>().is_ok() => {}
            "nopreempt"
                if owner
                    .inner()
                    .iter()
                    .any(|one| one.keyword() == "state" && one.word(1) == "MASTER") =>
            {
                self.notes.lost(&one.origin, one.text(), "keepalived clears it where the state is MASTER, and so it is not in the output; write preempt = false where it is meant");
            }
            "nopreempt" => add(table, "preempt", Value::Bool(false), &from),
            "preempt" => self.notes.needless(&one.origin, one.text(), "it is the default"),
            "use_vmac" => {
                add(table, "virtual_mac", Value::Bool(true), &from);
                if one.words.len() > 1 {
                    self.notes.lost(&one.origin, one.text(), "turnip names the interface itself, see `turnip check`; have what names the old one name that");
                }
            }
            "dont_track_primary" => add(table, "require_carrier", Value::Bool(false), &from),
            "advert_int" if float.is_some() => {
                self.advert.push((float.unwrap_or(1.0), one.origin.clone(), one.text()))
            }
            "garp_master_refresh" if one.word(1).parse::<u64>().is_ok() => {
                self.refresh.push((
                    one.word(1).parse().unwrap_or(0),
                    one.origin.clone(),
                    one.text(),
                ));
            }
            "unicast_src_ip" => {
                self.source.push((one.word(1).to_owned(), one.origin.clone(), one.text()))
            }
            "track_script" | "track_interface" | "track_file" | "track_process" => {
                let kind = match one.keyword() {
                    "track_script" => "script",
                    "track_interface" => "interface",
                    "track_file" => "file",
                    _ => "process",
                };
                one.inner().iter().for_each(|line| self.track(kind, one, line, draft));
                if !draft.checks.iter().any(|(_, all)| all.contains(&one.origin)) {
                    self.notes.needless(&one.origin, one.text(), "what is in it is told by itself");
                }
            }
            "virtual_routes" | "virtual_rules" => {
                self.notes.needless(&one.origin, one.text(), "what is in it is told by itself");
                self.companions(one, draft);
            }
            "notify"
            | "notify_master"
            | "notify_backup"
            | "notify_fault"
            | "notify_stop"
            | "notify_master_rx_lower_pri"
                if one.words.len() > 1 =>
            {
                draft.notify.push((owner, one))
            }
            "priority" | "advert_int" | "garp_master_refresh" => {
                let what = format!(
                    "\"{}\" is no number that keepalived takes; write the right one, as in \"{} 100\"",
                    one.word(1),
                    one.keyword()
                );
                self.notes.lost(&one.origin, one.text(), what);
            }
            _ => keywords::tell(one, &mut self.notes),
        }
    }

    /// A line of a `track_…` block.
    fn track(
        &mut self,
        kind: &'static str,
        block: &Statement,
        line: &Statement,
        draft: &mut Draft<'a>,
    ) {
        let Some(check) = self.checks.tracked(kind, line, &draft.own, &mut self.notes) else {
            return;
        };
        let mut made = self.checks.made.iter();
        let has_weight = made.any(|one| one.key == check && one.entry("weight").is_some());
        if has_weight && !draft.has_weights {
            self.notes.lost(&line.origin, line.text(), "keepalived leaves out what has a weight in a sync group without sync_group_tracking_weight, and here it counts: look whether it is to");
        }
        let both = vec![block.origin.clone(), line.origin.clone()];
        match draft.checks.iter_mut().find(|(name, _)| *name == check) {
            Some((_, all)) => all.extend(both),
            None => draft.checks.push((check, both)),
        }
    }

    fn companions(&mut self, block: &Statement, draft: &mut Draft<'_>) {
        let (ips, dev, table) = (&draft.ips, draft.dev.as_deref(), &mut draft.table);
        for line in block.inner() {
            let made = match block.keyword() {
                "virtual_routes" => routes::route(line, ips, dev, &mut self.taken, &mut self.notes),
                _ => routes::rule(line, &mut self.taken, &mut self.notes),
            };
            table.tables.extend(made);
        }
    }

    /// keepalived looks at the interface of VRRP also where no address is on it; of several it takes the last.
    fn lost_link(
        &mut self,
        members: &[&'a Statement],
        own: &[String],
        checks: &mut Vec<(String, Vec<Origin>)>,
    ) {
        for member in members {
            let is_ignored = member.inner().iter().any(|one| one.keyword() == "dont_track_primary");
            let lines: Vec<&Statement> =
                member.inner().iter().filter(|one| one.keyword() == "interface").collect();
            let Some((line, before)) = lines.split_last() else { continue };
            for earlier in before {
                let what =
                    format!("written again below, and keepalived takes the last: {}", line.word(1));
                self.notes.lost(&earlier.origin, earlier.text(), what);
            }
            if own.iter().any(|own| own == line.word(1)) {
                continue;
            }
            if is_ignored {
                self.notes.needless(
                    &line.origin,
                    line.text(),
                    "no address is on it, and turnip sends no VRRP packets",
                );
            } else if let Some(check) =
                self.checks.interface(line.word(1), 0, line, own, &mut self.notes)
            {
                checks.push((check, vec![line.origin.clone()]));
            }
        }
    }
}

fn add(table: &mut Table, key: &str, value: Value, from: &[Origin]) {
    match table.entries.iter_mut().find(|entry| entry.key == key) {
        Some(entry) => entry.origins.extend_from_slice(from),
        None => table.put(key, value, from),
    }
}

fn put_addresses(table: &mut Table, members: &[&Statement], all: &[Address]) {
    let links: BTreeSet<&String> = all.iter().filter_map(|one| one.dev.as_ref()).collect();
    let headers: Vec<Origin> = members
        .iter()
        .flat_map(|member| {
            member.inner().iter().filter(|one| one.keyword().starts_with("virtual_ipaddress"))
        })
        .map(|one| one.origin.clone())
        .collect();
    let is_one = links.len() == 1;
    let item = |one: &Address| {
        let text = match &one.dev {
            Some(dev) if !is_one => format!("{} dev {dev}", one.net),
            _ => one.net.clone(),
        };
        (text, vec![one.origin.clone()])
    };
    table.put("addresses", Value::List(all.iter().map(item).collect()), &headers);
    let of = |link: &String| -> Vec<Origin> {
        let lines = members.iter().flat_map(|member| member.inner().iter());
        let lines = lines.filter(|one| one.keyword() == "interface" && one.word(1) == link);
        lines.map(|one| one.origin.clone()).collect()
    };
    match (is_one, links.iter().next()) {
        (true, Some(link)) => table.put("interface", Value::Text((*link).clone()), &of(link)),
        _ => {
            // Each address names its own: the statement goes with those.
            let more: Vec<Origin> = links.iter().flat_map(|link| of(link)).collect();
            if let Some(entry) = table.entries.last_mut() {
                entry.origins.extend(more);
            }
        }
    }
}
