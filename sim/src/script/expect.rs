//! The table `[expect]`: what must come out of every run.

use std::time::Duration;

use turnip::config::{Collector, Given, Place, Section, Value, duration};

use super::fault::Names;
use super::span::human;

/// What is measured of a VIP in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measure {
    /// The longest time in which two hosts answered at once, in ns.
    Overlap,
    /// The longest time in which nobody answered the client, in ns.
    Gap,
    /// How often it came to another host.
    Moves,
}

impl Measure {
    /// Its key.
    pub fn word(self) -> &'static str {
        match self {
            Measure::Overlap => "overlap",
            Measure::Gap => "gap",
            Measure::Moves => "moves",
        }
    }

    /// A value of it, as people write it.
    pub fn tell(self, value: u64) -> String {
        match self {
            Measure::Moves => value.to_string(),
            _ => human(Duration::from_nanos(value)),
        }
    }
}

/// From what to what it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
}

impl Bounds {
    /// Whether a value is within.
    pub fn holds(self, value: u64) -> bool {
        (self.least..=self.most).contains(&value)
    }
}

/// What is expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// Something that is measured is within bounds.
    Within {
        /// Of which VIP; of each when absent.
        vip: Option<usize>,
        /// What.
        measure: Measure,
        /// The bounds.
        bounds: Bounds,
        /// As it was written.
        text: String,
        /// Where.
        place: Place,
    },
    /// At the end one of these hosts holds a VIP, and nobody else.
    Owner {
        /// Which VIP; each when absent.
        vip: Option<usize>,
        /// The hosts.
        hosts: Vec<usize>,
        /// As it was written.
        text: String,
        /// Where.
        place: Place,
    },
}

/// Reads it. Where nothing is said of overlaps, none is expected.
pub(super) fn read(
    given: Option<Given>,
    names: &Names,
    lasts: Duration,
    problems: &mut Collector,
) -> Vec<Expectation> {
    let mut all = Vec::new();
    match given.map(|given| (given.value.clone(), given)) {
        None => {}
        Some((Value::Table(section), _)) => {
            let mut section = section.with_prefix("expect.");
            for (number, vip) in names.vips.iter().enumerate() {
                if let Some(own) = section.take_table(vip) {
                    table(
                        own.with_prefix("expect.vip."),
                        Some(number),
                        names,
                        lasts,
                        &mut all,
                        problems,
                    );
                }
            }
            table(section, None, names, lasts, &mut all, problems);
        }
        Some((_, given)) => {
            let what = "not a table; write [expect] on a line of its own";
            Section::empty("").refuse("expect", &given, what, problems);
        }
    }
    let overlap =
        |one: &Expectation| matches!(one, Expectation::Within { measure: Measure::Overlap, .. });
    if !all.iter().any(overlap) {
        let bounds = Bounds { least: 0, most: 0 };
        let text = "overlap = \"0\"".into();
        all.push(Expectation::Within {
            vip: None,
            measure: Measure::Overlap,
            bounds,
            text,
            place: Place::Default,
        });
    }
    all
}

fn table(
    mut section: Section,
    vip: Option<usize>,
    names: &Names,
    lasts: Duration,
    all: &mut Vec<Expectation>,
    problems: &mut Collector,
) {
    for (key, measure) in
        [("overlap", Measure::Overlap), ("gap", Measure::Gap), ("moves", Measure::Moves)]
    {
        let Some(given) = section.take(key) else { continue };
        match bounds(measure, &given, lasts) {
            Ok(bounds) => {
                let text = format!("{key} = {}", given.shown());
                all.push(Expectation::Within { vip, measure, bounds, text, place: given.place });
            }
            Err(what) => section.refuse(key, &given, what, problems),
        }
    }
    if let Some(given) = section.take("owner") {
        let items = match &given.value {
            Value::Text(text) if !text.contains(',') => Ok(vec![given.clone()]),
            _ => given.as_list(),
        };
        let hosts: Result<Vec<usize>, String> =
            items.and_then(|items| items.iter().map(|item| names.host(item.as_text()?)).collect());
        match hosts {
            Ok(hosts) if !hosts.is_empty() => {
                let text = format!("owner = {}", given.shown());
                all.push(Expectation::Owner { vip, hosts, text, place: given.place });
            }
            Ok(_) => section.refuse("owner", &given, "a list of nobody", problems),
            Err(what) => section.refuse("owner", &given, what, problems),
        }
    }
    section.finish(problems);
}

fn bounds(measure: Measure, given: &Given, lasts: Duration) -> Result<Bounds, String> {
    let example = match measure {
        Measure::Moves => "\"<= 2\"",
        Measure::Gap => "\"<= 3.3s\"",
        Measure::Overlap => "\"0\"",
    };
    let text = match &given.value {
        Value::Integer(number) => number.to_string(),
        _ => given.as_text().map_err(|_| format!("write it as in {example}"))?.trim().to_owned(),
    };
    let value = |text: &str| -> Result<u64, String> {
        let text = text.trim();
        match measure {
            Measure::Moves => {
                text.parse().map_err(|_| format!("moves are counted; write it as in {example}"))
            }
            _ if text == "0" => Ok(0),
            _ => Ok(duration(text)?.as_nanos() as u64),
        }
    };
    let bounds = if let Some(most) = text.strip_prefix("<=") {
        Bounds { least: 0, most: value(most)? }
    } else if let Some(least) = text.strip_prefix(">=") {
        Bounds { least: value(least)?, most: u64::MAX }
    } else if text.starts_with(['<', '>']) {
        return Err(format!("write {example}, or \">= …\" for at least"));
    } else if let Some((least, most)) = text.split_once("..") {
        Bounds { least: value(least)?, most: value(most)? }
    } else {
        let exact = value(text.trim_start_matches('='))?;
        if measure != Measure::Moves && exact > 0 {
            return Err(format!(
                "no measured time is exactly that; write it as in \"<= {}\"",
                text.trim_start_matches('=').trim()
            ));
        }
        Bounds { least: exact, most: exact }
    };
    if bounds.least > bounds.most {
        return Err("runs backwards: no value is within".into());
    }
    let longest = lasts.as_nanos() as u64;
    let is_time = measure != Measure::Moves;
    if is_time && bounds.most != u64::MAX && bounds.most >= longest {
        return Err(format!(
            "cannot be judged: the scenario lasts {}, and nothing in it is longer",
            human(lasts)
        ));
    }
    if is_time && bounds.least > longest {
        return Err(format!("cannot be judged: the scenario lasts only {}", human(lasts)));
    }
    Ok(bounds)
}
