//! The `[[check]]` tables: what is checked behind the VIPs, in the words of keepalived.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use turnip_core::{CheckConfig, CheckName, Initial, LastResort, Policy};

use super::problem::{Collector, Place, Problem};
use super::section::{Given, Section, Value};
use super::{argv, values};
use crate::checks::{Check, Http, Kind, TlsFiles};

pub(super) const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// More often nobody needs to know, and each attempt costs.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The timeout where none is given is the interval, up to this.
pub(super) const TIMEOUT_DEFAULT_MAX: Duration = Duration::from_secs(5);
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(300);
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(10);
pub(super) const RISE_DEFAULT: u32 = 2;
pub(super) const FALL_DEFAULT: u32 = 3;
pub(super) const COUNT_MAX: u32 = 1_000;
/// As keepalived has it.
pub(super) const WEIGHT_MAX: i64 = 253;
/// What one of a check's tables says it tries.
const KINDS: [&str; 6] = ["exec", "http", "tcp", "interface", "file", "process"];

/// The names of checks, for VIPs that depend on them; with what each weighs, and whether one was asked for.
#[derive(Default)]
pub(super) struct Known {
    names: BTreeMap<CheckName, About>,
}

struct About {
    place: Place,
    weight: Option<i32>,
    is_used: bool,
}

/// Reads the tables.
pub(super) fn read(given: Option<Given>, problems: &mut Collector) -> (Vec<Check>, Known) {
    let mut known = Known::default();
    let Some(given) = given else { return (Vec::new(), known) };
    let Value::List(tables) = given.value else {
        let what = "not a list of tables; write [[check]] in double brackets, once for each check";
        problems.add(Problem::new(given.place, "check", None, what));
        return (Vec::new(), known);
    };
    let mut checks = Vec::new();
    for table in tables {
        match table.value {
            Value::Table(section) => {
                checks.extend(check(section.with_prefix("check."), &mut known, problems));
            }
            _ => {
                let shown = Some(table.shown());
                problems.add(Problem::new(table.place, "check", shown, "not a table"));
            }
        }
    }
    (checks, known)
}

fn check(mut section: Section, known: &mut Known, problems: &mut Collector) -> Option<Check> {
    let name = name(&mut section, known, problems);
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| section.has(kind)).collect();
    let kind = match given.as_slice() {
        [one] => kind(one, &mut section, problems),
        [] => {
            let what = "say what is tried: exec, http, tcp, interface, file or process";
            section.lacks("exec", what, problems);
            None
        }
        [_, second, ..] => {
            let what = format!("given beside {}; a check tries one thing", given[0]);
            if let Some(value) = section.take(KINDS.into_iter().find(|kind| kind == second)?) {
                section.refuse(second, &value, what, problems);
            }
            None
        }
    };
    // Known, whatever is given: a second one is an error of its own.
    KINDS.into_iter().for_each(|kind| drop(section.take(kind)));
    let interval = section.read("interval", problems, |given| duration(given, INTERVAL_MIN));
    let interval = interval.unwrap_or(INTERVAL_DEFAULT);
    let timeout = section.read("timeout", problems, |given| duration(given, TIMEOUT_MIN));
    let timeout = timeout.unwrap_or(interval.min(TIMEOUT_DEFAULT_MAX)).min(TIMEOUT_MAX);
    let rise = section.read("rise", problems, count).unwrap_or(RISE_DEFAULT);
    let fall = section.read("fall", problems, count).unwrap_or(FALL_DEFAULT);
    let initial = section.read("initial", problems, initial).unwrap_or_default();
    let weight = section.read("weight", problems, weight);
    let whole_node = section.read("node", problems, Given::as_bool).unwrap_or(false);
    if let Some(about) = name.as_ref().and_then(|name| known.names.get_mut(name)) {
        (about.weight, about.is_used) = (weight, whole_node);
    }
    section.finish(problems);
    let config = CheckConfig { name: name?, rise, fall, initial, weight, whole_node };
    Some(Check { config, kind: kind?, interval, timeout })
}

fn name(section: &mut Section, known: &mut Known, problems: &mut Collector) -> Option<CheckName> {
    let Some(given) = section.take("name") else {
        section.lacks("name", "give the check one, by which VIPs name it, as in \"api\"", problems);
        return None;
    };
    let name =
        given.as_text().and_then(|text| text.parse::<CheckName>().map_err(|e| e.to_string()));
    match name {
        Ok(name) if known.names.contains_key(&name) => {
            let what = "the name of two checks; give each its own";
            section.refuse("name", &given, what, problems);
            None
        }
        Ok(name) => {
            let about = About { place: given.place, weight: None, is_used: false };
            known.names.insert(name.clone(), about);
            Some(name)
        }
        Err(what) => {
            section.refuse("name", &given, what, problems);
            None
        }
    }
}

fn kind(kind: &str, section: &mut Section, problems: &mut Collector) -> Option<Kind> {
    match kind {
        "exec" => section.read("exec", problems, exec).map(Kind::Exec),
        "tcp" => {
            section.read("tcp", problems, host_and_port).map(|(host, port)| Kind::Tcp(host, port))
        }
        "interface" => section.read("interface", problems, interfaces).map(Kind::Interface),
        "file" => section.read("file", problems, path).map(Kind::File),
        "process" => section.read("process", problems, process).map(Kind::Process),
        _ => http(section, problems).map(|http| Kind::Http(Arc::new(http))),
    }
}

fn http(section: &mut Section, problems: &mut Collector) -> Option<Http> {
    let text = |given: &Given| given.as_text().map(str::to_owned);
    let status = section.read("status", problems, status);
    let body = section.read("body", problems, |given| match given.as_text()? {
        "" => Err("empty; write what the answer contains, or leave it out".into()),
        text => Ok(text.to_owned()),
    });
    let host = section.read("host", problems, text);
    let unix = section.read("unix", problems, path);
    let ca = section.read("ca", problems, path);
    let cert_given = section.take("cert");
    let key_given = section.take("key");
    let client = match (&cert_given, &key_given) {
        (Some(cert), Some(key)) => match (path(cert), path(key)) {
            (Ok(cert), Ok(key)) => Some((cert, key)),
            (Err(what), _) => {
                section.refuse("cert", cert, what, problems);
                None
            }
            (_, Err(what)) => {
                section.refuse("key", key, what, problems);
                None
            }
        },
        (Some(given), None) | (None, Some(given)) => {
            let key = if cert_given.is_some() { "cert" } else { "key" };
            section.refuse(key, given, "of no use alone; give both cert and key", problems);
            None
        }
        (None, None) => None,
    };
    section.read("http", problems, |given| {
        let http = Http::new(given.as_text()?, TlsFiles { ca, client })?;
        Ok(http.by_socket(unix).called(host).answered_by(status, body))
    })
}

fn duration(given: &Given, least: Duration) -> Result<Duration, String> {
    match given.as_text().and_then(values::duration)? {
        short if short < least => Err(format!("too short; write \"{least:?}\" at least")),
        long => Ok(long),
    }
}

fn count(given: &Given) -> Result<u32, String> {
    let wrong = || format!("not a number of attempts, from 1 to {COUNT_MAX}");
    given.as_number().ok().filter(|count| (1..=COUNT_MAX).contains(count)).ok_or_else(wrong)
}

fn initial(given: &Given) -> Result<Initial, String> {
    match given.as_text()? {
        "up" => Ok(Initial::Up),
        "down" => Ok(Initial::Down),
        "wait" => Ok(Initial::Wait),
        _ => Err("what it is before its first attempt: \"up\", \"down\" or \"wait\"".into()),
    }
}

fn weight(given: &Given) -> Result<i32, String> {
    let wrong = format!(
        "not a weight: a whole number from -{WEIGHT_MAX} to {WEIGHT_MAX}, as in -20, and not 0"
    );
    match given.value {
        Value::Integer(number) if number != 0 && number.abs() <= WEIGHT_MAX => {
            i32::try_from(number).map_err(|_| wrong)
        }
        _ => Err(wrong),
    }
}

fn exec(given: &Given) -> Result<Vec<String>, String> {
    argv::read(given, "[\"/usr/local/bin/check-api\", \"-q\"]")
}

fn host_and_port(given: &Given) -> Result<(String, u16), String> {
    let text = given.as_text()?;
    let wrong =
        || "no host with a port; write it as in \"127.0.0.1:5432\" or \"[::1]:5432\"".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('['));
    if is_host { Ok((host.to_owned(), port)) } else { Err(wrong()) }
}

fn interfaces(given: &Given) -> Result<Vec<Arc<str>>, String> {
    let one = |given: &Given| given.as_text().and_then(values::interface).map(Arc::from);
    match &given.value {
        Value::List(items) if !items.is_empty() => items.iter().map(one).collect(),
        _ => one(given).map(|name| vec![name]),
    }
}

fn path(given: &Given) -> Result<PathBuf, String> {
    match given.as_text()? {
        text if text.starts_with('/') => Ok(text.into()),
        _ => {
            Err("not a whole path; write it from the root on, as in \"/etc/turnip/maintenance\""
                .into())
        }
    }
}

fn process(given: &Given) -> Result<String, String> {
    match given.as_text()? {
        text if text.is_empty() || text.contains('/') => {
            Err("not the name of a process; write what `ps -o comm` shows, as in \"haproxy\""
                .into())
        }
        text => Ok(text.to_owned()),
    }
}

fn status(given: &Given) -> Result<u16, String> {
    let number = given.as_number().ok().and_then(|number| u16::try_from(number).ok());
    let wrong = || "not a status of HTTP; write it as in 200".to_owned();
    number.filter(|status| (100..=599).contains(status)).ok_or_else(wrong)
}

/// The checks on which a VIP depends, and what becomes of it where they fail.
pub(super) fn of_vip(
    section: &mut Section,
    policy: Option<&Policy>,
    known: &mut Known,
    problems: &mut Collector,
) -> (BTreeSet<CheckName>, LastResort) {
    let last_resort = section.read("last_resort", problems, |given| match given.as_text()? {
        "keep" => Ok(LastResort::Keep),
        "release" => Ok(LastResort::Release),
        _ => {
            Err("what becomes of it where its checks fail everywhere: \"keep\" or \"release\""
                .into())
        }
    });
    let mut checks = BTreeSet::new();
    if let Some(given) = section.take("checks") {
        let items = given.as_list().unwrap_or_else(|what| {
            section.refuse("checks", &given, what, problems);
            Vec::new()
        });
        for item in &items {
            match item.as_text().and_then(|text| known.used_by(text, policy)) {
                Ok(name) if checks.contains(&name) => {
                    section.refuse("checks", item, "named twice; leave one out", problems);
                }
                Ok(name) => {
                    checks.insert(name);
                }
                Err(what) => section.refuse("checks", item, what, problems),
            }
        }
    }
    (checks, last_resort.unwrap_or_default())
}

impl Known {
    fn used_by(&mut self, text: &str, policy: Option<&Policy>) -> Result<CheckName, String> {
        let names: Vec<String> = self.names.keys().map(ToString::to_string).collect();
        let Some((name, about)) = self.names.iter_mut().find(|(name, _)| name.as_str() == text)
        else {
            return Err(match values::nearest(text, names.iter().map(String::as_str)) {
                Some(near) => format!("no [[check]] has this name; did you mean {near:?}?"),
                None => "no [[check]] has this name".into(),
            });
        };
        about.is_used = true;
        if about.weight.is_some()
            && let Some(policy @ (Policy::Leader | Policy::Follow(_))) = policy
        {
            return Err(format!(
                "its weight is of no use with the policy {:?}, which knows of none; give the VIP the policy \"priority\", or the check no weight",
                policy.as_str()
            ));
        }
        Ok(name.clone())
    }

    /// A check that is tried for nobody is a mistake.
    pub(super) fn finish(self, problems: &mut Collector) {
        for (name, about) in self.names.into_iter().filter(|(_, about)| !about.is_used) {
            let what = "no VIP depends on it: name it in a VIP's checks, as in checks = [\"…\"], or write node = true where it is about the whole host";
            problems.add(Problem::new(
                about.place,
                "check.name",
                Some(format!("{:?}", name.as_str())),
                what,
            ));
        }
    }
}
