//! What is printed, before it is text: tables with settings, each with where it comes from.

use std::collections::BTreeSet;

use super::origin::Origin;

/// A configuration of turnip's.
#[derive(Clone, Default, Debug)]
pub struct Document {
    /// What stands before all tables.
    pub top: Vec<Entry>,
    /// The tables, in order.
    pub tables: Vec<Table>,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// As in `[[vip]]`.
    pub header: &'static str,
    /// By which it is the same as another host's.
    pub key: String,
    /// What stands above it.
    pub remarks: Vec<String>,
    /// Its settings.
    pub entries: Vec<Entry>,
    /// The tables within it.
    pub tables: Vec<Table>,
}

impl Table {
    /// One without anything in it.
    pub fn new(header: &'static str, key: impl Into<String>) -> Self {
        Table {
            header,
            key: key.into(),
            remarks: Vec::new(),
            entries: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// The setting of that key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Adds a setting that a statement asks for.
    pub fn put(&mut self, key: &str, value: Value, origins: &[Origin]) {
        self.entries.push(Entry::new(key, value, origins));
    }

    /// Adds a setting that nobody has written, for a reason.
    pub fn put_because(&mut self, key: &str, value: Value, why: &str) {
        self.entries.push(Entry { why: Some(why.into()), ..Entry::new(key, value, &[]) });
    }
}

/// A setting.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// The statements that ask for it.
    pub origins: Vec<Origin>,
    /// What else is to be said of it.
    pub why: Option<String>,
    /// Of which hosts this value is, where not of all.
    pub hosts: Vec<String>,
    /// The values of other hosts.
    pub others: Vec<Entry>,
}

impl Entry {
    /// A setting that statements ask for.
    pub fn new(key: &str, value: Value, origins: &[Origin]) -> Self {
        let (hosts, others) = (Vec::new(), Vec::new());
        let (key, origins) = (key.to_owned(), origins.to_vec());
        Entry { key, value, origins, why: None, hosts, others }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Bool(bool),
    /// A list of texts on one line.
    Words(Vec<String>),
    /// A list of texts, a line each, with where each comes from.
    List(Vec<(String, Vec<Origin>)>),
    /// A table within a line.
    Inline(Vec<(&'static str, Value)>),
}

impl Value {
    /// Whether it says the same, wherever it comes from. The order of a list says nothing.
    pub fn is_same(&self, other: &Value) -> bool {
        let items = |all: &[(String, Vec<Origin>)]| -> BTreeSet<String> {
            all.iter().map(|(text, _)| text.clone()).collect()
        };
        match (self, other) {
            (Value::List(one), Value::List(two)) => items(one) == items(two),
            _ => self.to_toml() == other.to_toml(),
        }
    }

    /// As TOML, on one line.
    pub fn to_toml(&self) -> String {
        let text = |text: &String| toml::Value::String(text.clone()).to_string();
        match self {
            Value::Text(one) => text(one),
            Value::Number(number) => number.to_string(),
            Value::Bool(boolean) => boolean.to_string(),
            Value::Words(all) => {
                format!("[{}]", all.iter().map(text).collect::<Vec<_>>().join(", "))
            }
            Value::List(all) => {
                let all: Vec<String> = all.iter().map(|(one, _)| text(one)).collect();
                format!("[{}]", all.join(", "))
            }
            Value::Inline(all) => {
                let all: Vec<String> =
                    all.iter().map(|(key, value)| format!("{key} = {}", value.to_toml())).collect();
                format!("{{ {} }}", all.join(", "))
            }
        }
    }

    fn origins(&self) -> impl Iterator<Item = &Origin> {
        let items = match self {
            Value::List(all) => all.as_slice(),
            _ => &[],
        };
        items.iter().flat_map(|(_, origins)| origins)
    }
}

impl Document {
    /// The statements that went into it.
    pub fn ids(&self) -> BTreeSet<usize> {
        fn of(entries: &[Entry], tables: &[Table], ids: &mut BTreeSet<usize>) {
            for entry in entries {
                let all = entry.origins.iter().chain(entry.value.origins());
                ids.extend(all.map(|origin| origin.id));
            }
            tables.iter().for_each(|table| of(&table.entries, &table.tables, ids));
        }
        let mut ids = BTreeSet::new();
        of(&self.top, &self.tables, &mut ids);
        ids
    }
}
