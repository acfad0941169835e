//! A VIP's `follow`: which key of another program says where it is.

use std::time::Duration;

use turnip_core::{Absent, Follow, NodeName};

use super::problem::Collector;
use super::section::{Given, Section, Value};
use super::values;

/// The shortest time after which a key may count as not written any more.
pub(super) const UNCHANGED_MIN: Duration = Duration::from_secs(1);
const EXAMPLE: &str = "follow = { key = \"/service/batman/leader\", value = \"pg1\" }";

/// Reads it; none where something is wrong.
pub(super) fn read(
    section: &mut Section,
    node: Option<&NodeName>,
    problems: &mut Collector,
) -> Option<Follow> {
    let Some(given) = section.take("follow") else {
        let what = format!("name the key that says where the VIP is, as in {EXAMPLE}");
        section.lacks("follow", &what, problems);
        return None;
    };
    let Value::Table(table) = &given.value else {
        section.refuse("follow", &given, format!("not a table; write {EXAMPLE}"), problems);
        return None;
    };
    let mut table = table.clone().with_prefix("vip.follow.");
    let has_key = table.has("key");
    let key = table.read("key", problems, key);
    if !has_key {
        table.lacks("key", "the whole key, as in \"/service/batman/leader\"", problems);
    }
    let value_given = table.has("value");
    let value = table.read("value", problems, |given| match given.as_text()?.trim() {
        "" => Err("empty; write what the key says when it names this host, as in \"pg1\"".into()),
        value => Ok(value.to_owned()),
    });
    let pointer_given = table.has("pointer");
    let pointer = table.read("pointer", problems, pointer);
    let absent_given = table.has("absent");
    let absent = table.read("absent", problems, |given| match given.as_text()? {
        "nobody" => Ok(Absent::Nobody),
        "last" => Ok(Absent::Last),
        _ => Err("what becomes of the VIP while the key names nobody: \"nobody\" has it, or the \"last\" keeps it".into()),
    });
    let unchanged_given = table.has("unchanged");
    let unchanged = table.read("unchanged", problems, unchanged);
    table.finish(problems);
    let is_sound = (value.is_some() || !value_given)
        && (pointer.is_some() || !pointer_given)
        && (absent.is_some() || !absent_given)
        && (unchanged.is_some() || !unchanged_given);
    let value = value.or_else(|| Some(node?.to_string()));
    Some(Follow {
        key: key.filter(|_| is_sound)?,
        value: value?,
        pointer,
        absent: absent.unwrap_or_default(),
        unchanged,
    })
}

fn key(given: &Given) -> Result<String, String> {
    match given.as_text()? {
        "" => Err("empty; write the whole key, as in \"/service/batman/leader\"".into()),
        key if key.starts_with("/turnip/") => {
            Err("a key of turnip's own; name that of the program which the VIP is to follow".into())
        }
        key => Ok(key.to_owned()),
    }
}

fn pointer(given: &Given) -> Result<String, String> {
    let text = given.as_text()?;
    let well_escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !text.is_empty() && (!text.starts_with('/') || !well_escaped) {
        let what = "not a JSON pointer; it begins with a slash, as in \"/leader/name\", and a slash or tilde in a name is ~1 or ~0";
        return Err(what.into());
    }
    Ok(text.to_owned())
}

fn unchanged(given: &Given) -> Result<Duration, String> {
    match values::duration(given.as_text()?)? {
        after if after < UNCHANGED_MIN => Err(
            "too short; write for how long the key may stay unwritten, \"1s\" at least, or leave it out where the program writes it only when the leader changes".into(),
        ),
        after => Ok(after),
    }
}
