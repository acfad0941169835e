//! `vrrp_script`, `track_file` and `vrrp_track_process`, and what names them in `track_…`.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Statement;
use super::{keywords, lexer};
use crate::config::values;
use crate::import::document::{Table, Value};
use crate::import::note::{Grade, Notes};
use crate::import::{name, unique};

/// All that can be tracked, by kind and name.
#[derive(Default)]
pub(super) struct Checks<'a> {
    known: BTreeMap<(&'static str, String), &'a Statement>,
    /// Those that VIPs name, as tables.
    pub(super) made: Vec<Table>,
    names: BTreeSet<String>,
    by_use: BTreeMap<(&'static str, String, i64), String>,
}

impl<'a> Checks<'a> {
    /// Takes note of a definition.
    pub(super) fn define(
        &mut self,
        kind: &'static str,
        statement: &'a Statement,
        notes: &mut Notes,
    ) {
        if let Some(old) = self.known.insert((kind, statement.word(1).to_owned()), statement) {
            keywords::tell_all(
                old,
                Grade::Lost,
                "there is another one of this name, which counts",
                notes,
            );
        }
    }

    /// The check that a line in a `track_…` block asks for.
    pub(super) fn tracked(
        &mut self,
        kind: &'static str,
        line: &Statement,
        own: &[String],
        notes: &mut Notes,
    ) -> Option<String> {
        let target = line.word(0).to_owned();
        let mut weight = None;
        let mut rest = line.words.iter().skip(1).map(String::as_str);
        while let Some(word) = rest.next() {
            match word {
                "weight" => weight = rest.next().and_then(|text| text.parse::<i64>().ok()),
                "noreverse" => {}
                _ => {
                    notes.lost(&line.origin, line.text(), format!("turnip knows no {word:?}; write a check of the opposite, and name it in `checks`"));
                    return None;
                }
            }
        }
        if kind == "interface" {
            return self.interface(&target, weight.unwrap_or(0), line, own, notes);
        }
        let Some(definition) = self.known.get(&(kind, target.clone())).copied() else {
            notes.lost(
                &line.origin,
                line.text(),
                format!("no {kind} is called {target:?}; define it, or leave it out"),
            );
            return None;
        };
        let default = setting(definition, "weight");
        if let Some(reversed) = default.filter(|one| weight.is_none() && one.word(2) == "reverse") {
            let what = "a reversed weight has no counterpart, so the check is not in the output; write a [[check]] of the opposite";
            keywords::tell_all(definition, Grade::Lost, what, notes);
            notes.lost(
                &line.origin,
                line.text(),
                format!("its weight is reversed in line {}, see there", reversed.origin.place.line),
            );
            return None;
        }
        let default = default.and_then(|one| one.word(1).parse().ok());
        let weight = weight.or(default).unwrap_or(if kind == "file" { 1 } else { 0 });
        if weight.abs() > 253 {
            notes.lost(&line.origin, line.text(), "a weight is from -253 to 253; without one the VIP is not held where the check fails");
            return None;
        }
        if let Some(name) = self.by_use.get(&(kind, target.clone(), weight)) {
            return Some(name.clone());
        }
        let mut table = Table::new("[[check]]", "");
        let header = [definition.origin.clone()];
        let chosen = unique(name(&target), &mut self.names);
        table.key.clone_from(&chosen);
        table.put("name", Value::Text(chosen.clone()), &header);
        let is_sound = match kind {
            "script" => script(definition, &mut table, notes),
            "file" => file(definition, weight, &mut table, notes),
            _ => process(definition, &mut table, notes),
        };
        if !is_sound {
            self.names.remove(&chosen);
            notes.lost(
                &line.origin,
                line.text(),
                "what it names could not be translated; see there",
            );
            return None;
        }
        let said = setting(definition, "weight");
        let is_own = said.is_some() && !line.words.iter().any(|word| word == "weight");
        match (weight, said, is_own) {
            (0, Some(said), _) | (_, Some(said), false) => {
                notes.needless(&said.origin, said.text(), "a check without a weight keeps the VIP off where it fails, and who tracks it gives its own");
            }
            (_, Some(said), true) => {
                table.put("weight", Value::Number(weight), std::slice::from_ref(&said.origin))
            }
            _ => {}
        }
        if weight != 0 && !is_own {
            table.put("weight", Value::Number(weight), std::slice::from_ref(&line.origin));
        }
        self.made.push(table);
        self.by_use.insert((kind, target, weight), chosen.clone());
        Some(chosen)
    }

    /// A check of an interface, that of a VIP which is looked at anyway excepted.
    pub(super) fn interface(
        &mut self,
        target: &str,
        weight: i64,
        line: &Statement,
        own: &[String],
        notes: &mut Notes,
    ) -> Option<String> {
        if values::interface(target).is_err() || weight.abs() > 253 {
            notes.lost(
                &line.origin,
                line.text(),
                "no interface, or a weight beyond 253; write a [[check]] with interface = [\"…\"]",
            );
            return None;
        }
        if weight == 0 && own.iter().any(|own| own == target) {
            notes.needless(
                &line.origin,
                line.text(),
                "the VIP's own interface is looked at anyway",
            );
            return None;
        }
        let key = ("interface", target.to_owned(), weight);
        if let Some(name) = self.by_use.get(&key) {
            return Some(name.clone());
        }
        let from = [line.origin.clone()];
        let chosen = unique(name(&format!("interface-{target}")), &mut self.names);
        let mut table = Table::new("[[check]]", chosen.clone());
        table.put("name", Value::Text(chosen.clone()), &from);
        table.put("interface", Value::Words(vec![target.to_owned()]), &from);
        table.put_because("rise", Value::Number(1), "as keepalived has it");
        table.put_because("fall", Value::Number(1), "as keepalived has it");
        if weight != 0 {
            table.put("weight", Value::Number(weight), &from);
        }
        self.made.push(table);
        self.by_use.insert(key, chosen.clone());
        Some(chosen)
    }
}

fn setting<'a>(definition: &'a Statement, keyword: &str) -> Option<&'a Statement> {
    definition.inner().iter().rev().find(|one| one.keyword() == keyword)
}

fn script(definition: &Statement, table: &mut Table, notes: &mut Notes) -> bool {
    let Some(command) = setting(definition, "script") else { return false };
    let text = command.words[1..].join(" ");
    let from = [command.origin.clone()];
    let argv = lexer::arguments(&text);
    let as_text: Vec<&str> = argv.iter().map(String::as_str).collect();
    match as_text[..] {
        [] => return false,
        [program, "-0", name] if program.ends_with("killall") && !name.contains('/') => {
            table.put("process", Value::Text(name.into()), &from);
        }
        [program, name] if program.ends_with("pidof") && !name.contains('/') => {
            table.put("process", Value::Text(name.into()), &from);
        }
        [program, "-x", name] if program.ends_with("pgrep") && !name.contains('/') => {
            table.put("process", Value::Text(name.into()), &from);
        }
        _ if lexer::is_shell(&text) => {
            table.put("exec", Value::Words(vec!["/bin/sh".into(), "-c".into(), text]), &from);
        }
        _ => table.put("exec", Value::Words(argv), &from),
    }
    let mut seen = BTreeSet::new();
    for one in definition.inner() {
        let from = [one.origin.clone()];
        let number = one.word(1).parse::<f64>().ok().filter(|number| *number > 0.0);
        match (one.keyword(), number) {
            ("script", _) => {}
            ("weight", _) if one.words.len() <= 2 || one.word(2) == "noreverse" => {}
            ("weight", _) => {
                notes.needless(&one.origin, one.text(), "who tracks it gives a weight of its own")
            }
            ("interval" | "timeout", Some(seconds)) => {
                let least = if one.keyword() == "interval" { 0.1 } else { 0.01 };
                table.put(one.keyword(), Value::Text(seconds_text(seconds.max(least))), &from);
            }
            ("rise" | "fall", Some(count)) => {
                table.put(one.keyword(), Value::Number(count.min(1000.0) as i64), &from);
            }
            ("init_fail", _) => table.put("initial", Value::Text("down".into()), &from),
            _ => keywords::tell(one, notes),
        }
        if !seen.insert(one.keyword().to_owned()) {
            table.entries.retain(|entry| entry.key == "name" || entry.origins != from);
            notes.lost(&one.origin, one.text(), "written twice; write it once");
        }
    }
    for key in ["rise", "fall"] {
        if table.entry(key).is_none() {
            table.put_because(key, Value::Number(1), "keepalived's default");
        }
    }
    true
}

fn file(definition: &Statement, weight: i64, table: &mut Table, notes: &mut Notes) -> bool {
    let path = setting(definition, "file").filter(|one| one.word(1).starts_with('/'));
    let Some(path) = path.filter(|_| weight <= 0) else {
        let what = "turnip fails while a file is there, and reads no number in it, so a weight above 0 has no counterpart; write a [[check]] with exec that reads it";
        keywords::tell_all(definition, Grade::Lost, what, notes);
        return false;
    };
    table.put("file", Value::Text(path.word(1).into()), std::slice::from_ref(&path.origin));
    notes.lost(&path.origin, path.text(), "keepalived reads a number in it, turnip fails while it is there: have it removed, and not set to 0");
    for one in definition.inner().iter().filter(|one| one.keyword() != "file") {
        match one.keyword() {
            "weight" => {
                notes.needless(&one.origin, one.text(), "stands with each check that goes by it")
            }
            _ => notes.lost(
                &one.origin,
                one.text(),
                "turnip makes no file; make it where it is to be there",
            ),
        }
    }
    true
}

fn process(definition: &Statement, table: &mut Table, notes: &mut Notes) -> bool {
    let Some(process) = setting(definition, "process") else { return false };
    let name = process.word(1).rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        return false;
    }
    table.put("process", Value::Text(name.into()), std::slice::from_ref(&process.origin));
    if process.words.len() > 2 || process.word(1).contains('/') {
        notes.lost(
            &process.origin,
            process.text(),
            "turnip looks at the name of a process alone, as `ps -o comm` shows it",
        );
    }
    table.put_because("rise", Value::Number(1), "as keepalived has it");
    table.put_because("fall", Value::Number(1), "as keepalived has it");
    for one in definition.inner() {
        match one.keyword() {
            "process" => {}
            "weight" => {
                notes.needless(&one.origin, one.text(), "stands with each check that goes by it")
            }
            "quorum" if one.word(1) == "1" => {
                notes.needless(&one.origin, one.text(), "one is what turnip looks for")
            }
            "delay" | "fork_delay" | "terminate_delay" => {
                notes.lost(&one.origin, one.text(), "raise rise or fall of the check instead")
            }
            _ => notes.lost(
                &one.origin,
                one.text(),
                "turnip looks whether one of that name runs; write a [[check]] with exec for more",
            ),
        }
    }
    true
}

/// Seconds, as turnip writes durations.
pub(super) fn seconds_text(seconds: f64) -> String {
    match seconds.fract() == 0.0 {
        true => format!("{}s", seconds.min(86_400.0) as u64),
        false => format!("{}ms", (seconds.min(86_400.0) * 1000.0).round() as u64),
    }
}

/// Definitions that no VIP has come to need.
pub(super) fn unused(definition: &Statement, noted: &BTreeSet<usize>, notes: &mut Notes) {
    if !noted.contains(&definition.origin.id) {
        let what = "no instance tracks it, so it is not in the output; name it in `checks`, or leave it out";
        keywords::tell_all(definition, Grade::Lost, what, notes);
    }
}
