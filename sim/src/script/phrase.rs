//! Faults and expectations on a command line: `isolate h1 at 10s for 30s`, `gap <= 3.3s`.

use turnip::config::{Collector, Given, Place, Problem, Section, Value, nearest};

use super::verb::{Object, Verb};

const KEYS: [&str; 14] = [
    "at", "for", "every", "times", "from", "to", "on", "by", "loss", "down", "up", "weight",
    "priority", "with",
];

/// The tables that phrases stand for.
pub(super) fn faults(phrases: &[String], problems: &mut Collector) -> Vec<Section> {
    phrases.iter().filter_map(|phrase| fault(phrase, problems)).collect()
}

fn fault(phrase: &str, problems: &mut Collector) -> Option<Section> {
    let place = Place::Flag("--fault".into());
    let mut refuse = |what: String| {
        problems.add(Problem::new(place.clone(), "fault", Some(format!("{phrase:?}")), what));
        None
    };
    let words: Vec<&str> = phrase.split_whitespace().collect();
    // The longest verb first: "cut from store h1" is no cut of "from".
    let verb = (1..=words.len().min(3)).rev().find_map(|count| {
        let word = words[..count].join("_").replace('-', "_");
        Some((Verb::of(&word)?, count))
    });
    let Some((verb, count)) = verb else {
        let known = Verb::ALL.iter().map(|verb| verb.word());
        let first = words.first().copied().unwrap_or_default();
        return refuse(match nearest(first, known) {
            Some(near) => format!("unknown verb {first:?}; did you mean {near:?}?"),
            None => format!("unknown verb {first:?}; as in \"isolate h1 at 10s for 30s\""),
        });
    };
    let mut section = Section::empty("fault.");
    section.place = place.clone();
    let mut rest = &words[count..];
    let until = rest.iter().position(|word| KEYS.contains(word)).unwrap_or(rest.len());
    let whom = rest[..until].join(" ");
    rest = &rest[until..];
    let whom = match (verb.object(), whom.as_str()) {
        (Object::Nothing, "") => "true".to_owned(),
        (_, "") => return refuse(format!("whom? as in \"{} h1 at 10s\"", verb.said())),
        _ => whom,
    };
    section.override_with(verb.word(), Given::text(place.clone(), whom));
    while let [key, after @ ..] = rest {
        let until = after.iter().position(|word| KEYS.contains(word)).unwrap_or(after.len());
        if until == 0 {
            return refuse(format!("nothing follows {key:?}"));
        }
        let value = after[..until].join(" ");
        section.override_with(key, Given::text(place.clone(), value));
        rest = &after[until..];
    }
    Some(section)
}

/// Puts expectations where the file has them.
pub(super) fn expectations(phrases: &[String], top: &mut Section, problems: &mut Collector) {
    let place = Place::Flag("--expect".into());
    let mut section = Section::empty("expect.");
    for phrase in phrases {
        let phrase = phrase.trim();
        let end = phrase.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(phrase.len());
        let (key, value) = phrase.split_at(end);
        let value = value.trim();
        let value = value.strip_prefix('=').unwrap_or(value).trim().trim_matches('"');
        if key.is_empty() || value.is_empty() {
            let what = "not an expectation; write it as in \"gap <= 3.3s\"";
            problems.add(Problem::new(place.clone(), "expect", Some(format!("{phrase:?}")), what));
            continue;
        }
        section.override_with(key, Given::text(place.clone(), value.to_owned()));
    }
    if !phrases.is_empty() {
        top.override_with("expect", Given { place, value: Value::Table(section) });
    }
}
