//! The tables `[[fault]]`: what befalls whom when.

use std::time::Duration;

use turnip_core::Policy;

use turnip::config::{
    Collector, Config, Given, Place, Problem, Section, duration, nearest, percent_ppm,
};

use super::cluster::{Cluster, tables_of, unknown};
use super::span::{self, Span};
use super::verb::{Object, Usual, Verb};

/// More repeats than this make no scenario that anybody reads.
const TIMES_MAX: u32 = 1_000;

/// Whom something befalls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// These machines, VIPs or checks, by number.
    These(Vec<usize>),
    /// The member of etcd that leads when it begins.
    Leader,
    /// The host that holds this VIP when it begins.
    Holder(usize),
}

/// Whom it befalls, before that is chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// This one.
    One(Target),
    /// Any of these, at random.
    AnyOf(Vec<Target>),
    /// One after the other, with each repeat.
    Each(Vec<Target>),
}

/// What is said beside a verb.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Details {
    /// By how much longer.
    pub by: Duration,
    /// How much is lost, or how far a clock is wrong, in parts per million.
    pub ppm: i64,
    /// How long a link that flaps is down, and up.
    pub down_up: (Duration, Duration),
    /// Another weight.
    pub weight: Option<u32>,
    /// Another priority.
    pub priority: Option<u32>,
}

/// Something that befalls the cluster, perhaps again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What.
    pub verb: Verb,
    /// Whom.
    pub whom: Choice,
    /// From, to or on whom.
    pub other: Option<Choice>,
    /// What else is said of it.
    pub details: Details,
    /// When it begins.
    pub at: Span,
    /// How long it lasts; to the end when absent.
    pub lasts: Option<Span>,
    /// From one beginning to the next.
    pub every: Span,
    /// How often; at least 1.
    pub times: u32,
    /// Where it is written.
    pub place: Place,
}

impl Fault {
    /// When it ends at most; when it begins for the last time, if it lasts to the end.
    pub fn ends_at_most(&self) -> Duration {
        let lasts = self.lasts.map_or(Duration::ZERO, |lasts| lasts.most);
        self.at.most + self.every.most * (self.times - 1) + lasts
    }
}

/// What there is to be named.
pub(super) struct Names {
    machines: Vec<String>,
    hosts: usize,
    sites: Vec<(String, Vec<usize>)>,
    members: Vec<usize>,
    pub(super) vips: Vec<String>,
    /// Those that are where another program's key says.
    following: Vec<usize>,
    checks: Vec<String>,
}

impl Names {
    pub(super) fn new(cluster: &Cluster, config: &Config) -> Self {
        let hosts = cluster.hosts.iter().map(|host| host.name.clone());
        Names {
            machines: hosts.chain(cluster.beside.iter().cloned()).collect(),
            hosts: cluster.hosts.len(),
            sites: cluster.sites.clone(),
            members: cluster.etcd.as_ref().map(|etcd| etcd.members.clone()).unwrap_or_default(),
            vips: config.vips.iter().map(|vip| vip.config.name.as_str().to_owned()).collect(),
            following: config
                .vips
                .iter()
                .enumerate()
                .filter(|(_, vip)| matches!(vip.config.policy, Policy::Follow(_)))
                .map(|(number, _)| number)
                .collect(),
            checks: config
                .checks
                .iter()
                .map(|check| check.config.name.as_str().to_owned())
                .collect(),
        }
    }

    /// The number of a host.
    pub(super) fn host(&self, text: &str) -> Result<usize, String> {
        let hosts = &self.machines[..self.hosts];
        let number = hosts.iter().position(|host| host == text);
        number.ok_or_else(|| unknown(text, hosts.iter().map(String::as_str)))
    }

    fn of(&self, object: Object) -> Vec<usize> {
        match object {
            Object::Following => self.following.clone(),
            Object::Machine => (0..self.machines.len()).collect(),
            Object::Host => (0..self.hosts).collect(),
            Object::Member => self.members.clone(),
            Object::Vip => (0..self.vips.len()).collect(),
            Object::Check => (0..self.checks.len()).collect(),
            Object::Nothing => Vec::new(),
        }
    }

    fn among(&self, object: Object) -> &[String] {
        match object {
            Object::Vip | Object::Following => &self.vips,
            Object::Check => &self.checks,
            _ => &self.machines,
        }
    }

    /// A word for several of them must not be the name of one: turnip lets a VIP be called `any`.
    fn not_ambiguous(&self, object: Object, text: &str) -> Result<(), String> {
        let is_word = ["all", "any", "each"].contains(&text);
        match is_word && self.among(object).iter().any(|name| name == text) {
            true => {
                Err("one of them has this name, which says whom of all it befalls; give it another"
                    .into())
            }
            false => Ok(()),
        }
    }

    fn target(&self, object: Object, text: &str) -> Result<Target, String> {
        self.not_ambiguous(object, text)?;
        let among = self.among(object);
        let all = self.of(object);
        let is_machine = matches!(object, Object::Machine | Object::Host | Object::Member);
        if text == "all" {
            return Ok(Target::These(all));
        }
        if text == "leader" && is_machine {
            return Ok(Target::Leader);
        }
        if let Some(vip) = text.strip_prefix("holder of ").filter(|_| is_machine) {
            let number = self.vips.iter().position(|name| name == vip.trim());
            let number =
                number.ok_or_else(|| unknown(vip.trim(), self.vips.iter().map(String::as_str)))?;
            return Ok(Target::Holder(number));
        }
        if text == "holder" && is_machine && self.vips.len() == 1 {
            return Ok(Target::Holder(0));
        }
        if let Some(number) = among.iter().position(|name| name == text) {
            return match all.contains(&number) {
                true => Ok(Target::These(vec![number])),
                false if object == Object::Member => Err("it has no member of etcd".into()),
                false if object == Object::Following => {
                    Err("it follows no key; give it policy = \"follow\", or name one that does"
                        .into())
                }
                false => Err("it runs etcd only, and no turnip".into()),
            };
        }
        if let Some((_, site)) = self.sites.iter().find(|(name, _)| name == text)
            && is_machine
        {
            let of: Vec<usize> = site.iter().copied().filter(|one| all.contains(one)).collect();
            return match of.is_empty() {
                true => Err("no such machine is in that site".into()),
                false => Ok(Target::These(of)),
            };
        }
        let numbers = all.iter().map(|&number| among[number].as_str());
        let known: Vec<&str> = match is_machine {
            true => numbers.chain(self.sites.iter().map(|(name, _)| name.as_str())).collect(),
            false => numbers.collect(),
        };
        match known.is_empty() {
            true => Err("there is none in the configuration".into()),
            false => Err(unknown(text, known.into_iter())),
        }
    }

    fn choice(&self, object: Object, given: &Given) -> Result<Choice, String> {
        if object == Object::Nothing {
            let is_true = given.as_bool() == Ok(true) || given.as_text() == Ok("true");
            return match is_true {
                true => Ok(Choice::One(Target::These(Vec::new()))),
                false => Err("it befalls nobody in particular; write true".into()),
            };
        }
        match given.as_text() {
            Ok(text @ ("any" | "each")) => {
                self.not_ambiguous(object, text)?;
                let all = self.of(object).into_iter().map(|one| Target::These(vec![one]));
                match text {
                    "any" => Ok(Choice::AnyOf(all.collect())),
                    _ => Ok(Choice::Each(all.collect())),
                }
            }
            Ok(text) if !text.contains(',') => Ok(Choice::One(self.target(object, text)?)),
            _ => {
                let items =
                    given.as_list().map_err(|_| "neither a name nor a list of names".to_owned())?;
                let all: Result<Vec<Target>, String> =
                    items.iter().map(|item| self.target(object, item.as_text()?)).collect();
                match all?.as_slice() {
                    [] => Err("a list of nobody".into()),
                    all => Ok(Choice::AnyOf(all.to_vec())),
                }
            }
        }
    }
}

/// Reads the tables, and those that phrases make.
pub(super) fn read(
    given: Option<Given>,
    phrases: &[Section],
    names: &Names,
    problems: &mut Collector,
) -> Vec<Fault> {
    let top = Section::empty("");
    let mut sections = tables_of(given, "fault", "fault.", &top, problems);
    sections.extend(phrases.iter().cloned());
    let faults = sections.into_iter().filter_map(|section| fault(section, names, problems));
    faults.collect()
}

const ALWAYS: [&str; 4] = ["at", "for", "every", "times"];

fn fault(mut section: Section, names: &Names, problems: &mut Collector) -> Option<Fault> {
    let verb = verb(&section, problems)?;
    let lacks_time = !section.has("at");
    let lacking: Vec<&str> = verb.needs().iter().copied().filter(|key| !section.has(key)).collect();
    let place = section.place_of(verb.word()).unwrap_or_else(|| section.place.clone());
    let whom = section.read(verb.word(), problems, |given| names.choice(verb.object(), given));
    let at = section.read("at", problems, span::read);
    if lacks_time {
        section.lacks("at", "say when it begins, as in \"10s\"", problems);
    }
    let lasts = match (section.take("for"), verb.usually()) {
        (Some(given), Usual::Moment) => {
            let what = format!("{} happens in a moment; leave it out", verb.said());
            section.refuse("for", &given, what, problems);
            Some(Span::exactly(Duration::ZERO))
        }
        (Some(given), _) => match span::read(&given) {
            Ok(Span { most: Duration::ZERO, .. }) => {
                let what = "nothing happens in no time; say how long it lasts, as in \"10s\"";
                section.refuse("for", &given, what, problems);
                None
            }
            Ok(span) => Some(span),
            Err(what) => {
                section.refuse("for", &given, what, problems);
                None
            }
        },
        (None, usual) => usual.length().map(Span::exactly),
    };
    let (every, times) = repeats(&mut section, whom.as_ref(), problems);
    let mut other = None;
    for key in ["from", "to", "on"] {
        if is_for(verb, key) {
            let object = match verb {
                Verb::Cut | Verb::CutOneWay | Verb::Slow | Verb::Lossy => Object::Machine,
                Verb::MoveLeader => Object::Member,
                _ => Object::Host,
            };
            let read = |given: &Given| {
                let other = names.choice(object, given)?;
                match object == verb.object() && is_itself(whom.as_ref(), &other) {
                    true => {
                        Err("nothing is between a machine and itself; name another one".to_owned())
                    }
                    false => Ok(other),
                }
            };
            other = section.read(key, problems, read).or(other);
        }
    }
    let details = details(verb, &mut section, problems);
    for key in lacking {
        section.lacks(key, &format!("{} takes it; write it beside", verb.said()), problems);
    }
    section.finish(problems);
    Some(Fault { verb, whom: whom?, other, details, at: at?, lasts, every, times, place })
}

/// Whether these are one and the same, whatever a seed chooses.
fn is_itself(whom: Option<&Choice>, other: &Choice) -> bool {
    let one = |choice: &Choice| match choice {
        Choice::One(Target::These(all)) if all.len() == 1 => Some(all[0]),
        _ => None,
    };
    whom.and_then(one).is_some_and(|whom| one(other) == Some(whom))
}

fn is_for(verb: Verb, key: &str) -> bool {
    verb.needs().contains(&key) || verb.may().contains(&key)
}

/// Which verb the table has.
fn verb(section: &Section, problems: &mut Collector) -> Option<Verb> {
    let verbs: Vec<Verb> = section.keys().filter_map(Verb::of).collect();
    if let [verb] = verbs.as_slice() {
        return Some(*verb);
    }
    if let [first, second, ..] = verbs.as_slice() {
        let place = section.place_of(second.word()).unwrap_or_else(|| section.place.clone());
        let what = format!("beside {}; write two [[fault]] tables", first.word());
        problems.add(Problem::new(place, format!("fault.{}", second.word()), None, what));
        return None;
    }
    let beside: Vec<&str> =
        Verb::ALL.iter().flat_map(|verb| verb.needs().iter().chain(verb.may())).copied().collect();
    let strange = section.keys().find(|key| !ALWAYS.contains(key) && !beside.contains(key));
    let words = Verb::ALL.iter().map(|verb| verb.word());
    match strange {
        Some(word) => {
            let place = section.place_of(word).unwrap_or_else(|| section.place.clone());
            let what = match nearest(word, words.clone()) {
                Some(near) => format!("unknown verb; did you mean {near:?}?"),
                None => format!("unknown verb; known are {}", words.collect::<Vec<_>>().join(", ")),
            };
            problems.add(Problem::new(place, format!("fault.{word}"), None, what));
        }
        None => {
            let what = "no verb; say what happens, as in isolate = \"h1\"";
            problems.add(Problem::new(section.place.clone(), "fault", None, what));
        }
    }
    None
}

fn repeats(section: &mut Section, whom: Option<&Choice>, problems: &mut Collector) -> (Span, u32) {
    let each = match whom {
        Some(Choice::Each(all)) => all.len() as u32,
        _ => 1,
    };
    let every_given = section.has("every");
    let every = section.read("every", problems, |given| match span::read(given)? {
        Span { least: Duration::ZERO, .. } => {
            Err("all at once; write how long it is from one to the next, as in \"20s\"".to_owned())
        }
        every => Ok(every),
    });
    let times_given = section.take("times");
    let times = match times_given.as_ref().map(|given| (given, given.as_number())) {
        None => each,
        Some((_, Ok(times @ 1..=TIMES_MAX))) => times,
        Some((given, _)) => {
            section.refuse(
                "times",
                given,
                format!("not a whole number from 1 to {TIMES_MAX}"),
                problems,
            );
            1
        }
    };
    if times > 1 && !every_given {
        section.lacks("every", "say how long it is from one to the next, as in \"20s\"", problems);
    }
    if every_given && times_given.is_none() && each == 1 {
        section.lacks("times", "say how often, as in 3", problems);
    }
    (every.unwrap_or(Span::exactly(Duration::ZERO)), times)
}

fn details(verb: Verb, section: &mut Section, problems: &mut Collector) -> Details {
    let mut details = Details::default();
    let clock = matches!(verb, Verb::Drift | Verb::Slew);
    if is_for(verb, "by") && clock {
        details.ppm = section.read("by", problems, signed_ppm).unwrap_or_default();
    } else if is_for(verb, "by") {
        let time = |given: &Given| given.as_text().and_then(duration);
        details.by = section.read("by", problems, time).unwrap_or_default();
    }
    if is_for(verb, "loss") {
        let loss = section.read("loss", problems, |given| given.as_text().and_then(percent_ppm));
        details.ppm = loss.unwrap_or_default().into();
    }
    if is_for(verb, "down") {
        let mut time = |key| {
            let positive = |given: &Given| match given.as_text().and_then(duration)? {
                time if time < Duration::from_millis(10) => Err("shorter than 10 ms".to_owned()),
                time => Ok(time),
            };
            section.read(key, problems, positive).unwrap_or(Duration::from_secs(1))
        };
        details.down_up = (time("down"), time("up"));
    }
    if is_for(verb, "weight") {
        if !section.has("weight") && !section.has("priority") {
            section.lacks("weight", "say what changes: weight = 50, or priority = 50", problems);
        }
        details.weight = section.read("weight", problems, Given::as_number);
        details.priority = section.read("priority", problems, Given::as_number);
    }
    details
}

fn signed_ppm(given: &Given) -> Result<i64, String> {
    let text = given.as_text()?.trim();
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, text.trim_start_matches('+')),
    };
    let ppm = i64::from(percent_ppm(number)?);
    match ppm {
        0..=100_000 => Ok(sign * ppm),
        _ => Err("more than a clock can be wrong; at most 10%".into()),
    }
}

/// The timeline goes forward, and does not go on after the end.
pub(super) fn check_times(faults: &[Fault], lasts: Duration, problems: &mut Collector) {
    let mut before = Duration::ZERO;
    for fault in faults {
        let key = format!("fault.{}", fault.verb.word());
        let mut refuse = |what: String| {
            let value = Some(format!("at {}", fault.at));
            problems.add(Problem::new(fault.place.clone(), key.clone(), value, what));
        };
        if fault.at.least < before {
            refuse(format!(
                "the fault above begins at {}, and time does not run backwards; write faults in the order in which they begin",
                span::human(before)
            ));
        }
        let begins = fault.at.most + fault.every.most * (fault.times - 1);
        if begins >= lasts {
            refuse(format!(
                "begins at {}, when the scenario has ended; it lasts {}",
                span::human(begins),
                span::human(lasts)
            ));
        }
        before = before.max(fault.at.least);
    }
    for (index, fault) in faults.iter().enumerate().filter(|(_, one)| one.verb == Verb::Undrain) {
        let drained =
            |one: &Fault| one.verb == Verb::Drain && one.whom == fault.whom && one.lasts.is_none();
        if !faults[..index].iter().any(drained) {
            let what = "nothing to take back: no drain of it above that lasts to the end";
            problems.add(Problem::new(fault.place.clone(), "fault.undrain", None, what));
        }
    }
}
