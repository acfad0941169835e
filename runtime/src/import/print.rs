//! A document as text.

use turnip_core::text::escaped;

use super::document::{Document, Entry, Table, Value};
use super::origin;

/// In which column comments begin, where the line is not longer.
const COMMENT_AT: usize = 44;

/// The document, beneath what its heading says.
pub(super) fn print(heading: &[String], document: &Document) -> String {
    let mut text = String::new();
    for line in heading {
        remark(&mut text, line);
    }
    if !document.top.is_empty() {
        text.push('\n');
        document.top.iter().for_each(|entry| put(&mut text, entry));
    }
    document.tables.iter().for_each(|one| table(&mut text, one));
    text
}

fn remark(text: &mut String, line: &str) {
    *text += &format!("# {}\n", escaped(line));
}

fn table(text: &mut String, one: &Table) {
    text.push('\n');
    one.remarks.iter().for_each(|line| remark(text, line));
    *text += &format!("{}\n", one.header);
    one.entries.iter().for_each(|entry| put(text, entry));
    one.tables.iter().for_each(|inner| table(text, inner));
}

fn put(text: &mut String, entry: &Entry) {
    one_value(text, entry, false);
    entry.others.iter().for_each(|other| one_value(text, other, true));
}

/// A setting; or, as a comment, the one that is to be written on another host.
fn one_value(text: &mut String, entry: &Entry, is_elsewhere: bool) {
    let mut says: Vec<String> = Vec::new();
    if !entry.origins.is_empty() {
        says.push(origin::list(&entry.origins));
    }
    if !entry.hosts.is_empty() {
        let verb = if is_elsewhere { "write this on" } else { "on" };
        says.push(format!("{verb} the host of {}", entry.hosts.join(", ")));
    }
    says.extend(entry.why.clone());
    let says = says.join(": ");
    match &entry.value {
        Value::List(items) if !is_elsewhere => {
            line(text, &format!("{} = [", entry.key), &says);
            for (item, origins) in items {
                let item = toml::Value::String(item.clone()).to_string();
                line(text, &format!("    {item},"), &origin::list(origins));
            }
            text.push_str("]\n");
        }
        value => {
            let mark = if is_elsewhere { "#" } else { "" };
            let mut says = says;
            if let Value::List(items) = value {
                let origins: Vec<_> =
                    items.iter().flat_map(|(_, origins)| origins.clone()).collect();
                says += &format!(": {}", origin::list(&origins));
            }
            line(text, &format!("{mark}{} = {}", entry.key, value.to_toml()), &says);
        }
    }
}

fn line(text: &mut String, setting: &str, comment: &str) {
    match comment.is_empty() {
        true => *text += &format!("{setting}\n"),
        false => *text += &format!("{setting:COMMENT_AT$} # {}\n", escaped(comment)),
    }
}
