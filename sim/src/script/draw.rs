//! What happens in one run: the random choices of a script, made by a seed. Both worlds make the same.

use std::fmt;
use std::time::Duration;

use crate::rng::Rng;

use super::Script;
pub use super::fault::Target;
use super::fault::{Choice, Details};
use super::span::{Span, human};
use super::verb::{Object, Verb};

/// Something that befalls somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deed {
    /// What.
    pub verb: Verb,
    /// Whom.
    pub whom: Target,
    /// From, to or on whom; nobody in particular when absent.
    pub other: Option<Target>,
    /// What else is said of it.
    pub details: Details,
}

/// A deed at its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happening {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts; to the end when absent.
    pub lasts: Option<Duration>,
    /// What.
    pub deed: Deed,
}

impl Deed {
    /// The machines that it is said of, as far as they are known.
    pub fn machines(&self) -> Vec<usize> {
        let is_of_machines =
            matches!(self.verb.object(), Object::Machine | Object::Host | Object::Member);
        let whom = is_of_machines.then_some(&self.whom);
        let mut all: Vec<usize> = Vec::new();
        for target in whom.into_iter().chain(&self.other) {
            if let Target::These(these) = target {
                all.extend(these);
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Script {
    /// What happens in the run of a seed, in the order in which it begins.
    pub fn draw(&self, seed: u64) -> Vec<Happening> {
        let mut all: Vec<Happening> = Vec::new();
        for (number, fault) in self.faults.iter().enumerate() {
            // A stream for each: another fault more leaves the choices of the others as they were.
            let rng = &mut Rng::new(seed, &format!("fault {number}"));
            let mut at = within(fault.at, rng);
            for turn in 0..fault.times as usize {
                if turn > 0 {
                    at += within(fault.every, rng);
                }
                let whom = choose(&fault.whom, turn, rng);
                let other = fault.other.as_ref().map(|other| choose(other, turn, rng));
                let lasts = fault.lasts.map(|lasts| within(lasts, rng));
                let deed = Deed { verb: fault.verb, whom, other, details: fault.details };
                all.push(Happening { at, lasts, deed });
            }
        }
        all.sort_by_key(|one| one.at);
        undrain(&mut all);
        all.retain(|one| one.at < self.lasts);
        all
    }

    /// A happening as people say it.
    pub fn tell(&self, one: &Happening) -> String {
        let Happening { at, lasts, deed } = one;
        let lasts = match lasts {
            Some(Duration::ZERO) => String::new(),
            Some(lasts) => format!(" for {}", human(*lasts)),
            None => " to the end".into(),
        };
        format!("at {}{lasts}: {}", human(*at), self.tell_deed(deed))
    }

    /// A deed as people say it: `isolate h1`.
    pub fn tell_deed(&self, deed: &Deed) -> String {
        Told(self, deed).to_string()
    }
}

struct Told<'a>(&'a Script, &'a Deed);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told(script, Deed { verb, whom, other, details }) = self;
        f.write_str(&verb.said())?;
        let name = |object: Object, number: usize| match object {
            Object::Vip | Object::Following => {
                script.config.vips[number].config.name.as_str().to_owned()
            }
            Object::Check => script.config.checks[number].config.name.as_str().to_owned(),
            _ => script.machine(number).to_owned(),
        };
        let named = |object: Object, target: &Target| match target {
            Target::These(all) => {
                all.iter().map(|&one| name(object, one)).collect::<Vec<_>>().join(", ")
            }
            Target::Leader => "etcd's leader".into(),
            Target::Holder(vip) => format!("the holder of {}", name(Object::Vip, *vip)),
        };
        if verb.object() != Object::Nothing {
            write!(f, " {}", named(verb.object(), whom))?;
        }
        if let Some(other) = other {
            let word = verb
                .needs()
                .iter()
                .chain(verb.may())
                .find(|key| ["from", "to", "on"].contains(key));
            write!(f, " {} {}", word.unwrap_or(&"to"), named(Object::Machine, other))?;
        }
        if !details.by.is_zero() {
            write!(f, " by {}", human(details.by))?;
        }
        if details.ppm != 0 {
            write!(f, " by {} %", details.ppm as f64 / 10_000.0)?;
        }
        if !details.down_up.0.is_zero() {
            write!(f, " {} down, {} up", human(details.down_up.0), human(details.down_up.1))?;
        }
        for (key, value) in [("weight", details.weight), ("priority", details.priority)] {
            if let Some(value) = value {
                write!(f, " {key} {value}")?;
            }
        }
        Ok(())
    }
}

/// A drain lasts until it is taken back.
fn undrain(all: &mut Vec<Happening>) {
    let backs: Vec<(Duration, Target)> = all
        .iter()
        .filter(|one| one.deed.verb == Verb::Undrain)
        .map(|one| (one.at, one.deed.whom.clone()))
        .collect();
    for (at, whom) in backs {
        let open = all.iter_mut().rev().find(|one| {
            one.deed.verb == Verb::Drain
                && one.deed.whom == whom
                && one.lasts.is_none()
                && one.at <= at
        });
        if let Some(drain) = open {
            drain.lasts = Some(at - drain.at);
        }
    }
    all.retain(|one| one.deed.verb != Verb::Undrain);
}

/// In steps of a ms: so both worlds can keep to it, and people can read it.
fn within(span: Span, rng: &mut Rng) -> Duration {
    let (least, most) = (span.least.as_millis() as u64, span.most.as_millis() as u64);
    match span.least == span.most {
        true => span.least,
        false => Duration::from_millis(rng.within(least..=most)),
    }
}

fn choose(choice: &Choice, turn: usize, rng: &mut Rng) -> Target {
    match choice {
        Choice::One(target) => target.clone(),
        Choice::AnyOf(all) => rng.pick(all).clone(),
        Choice::Each(all) => all[turn % all.len()].clone(),
    }
}
