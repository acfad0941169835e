//! The tables of the file, every value with its place; flags and variables take values' places.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Collector, Place, Problem};
use super::values::nearest;

/// A value that somebody gave.
#[derive(Clone, Debug)]
pub struct Given {
    /// Where.
    pub place: Place,
    /// What.
    pub value: Value,
}

/// A value before it is known what it should be.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// A list.
    List(Vec<Given>),
    /// A table.
    Table(Section),
    /// Of a type that no key has; as it reads in an error.
    Other(&'static str),
}

impl Given {
    /// What a flag or a variable says: always text.
    pub fn text(place: Place, text: String) -> Self {
        Given { place, value: Value::Text(text) }
    }

    /// As it reads in an error.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(boolean) => boolean.to_string(),
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(Given::shown).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Table(_) => "{…}".into(),
            Value::Other(kind) => (*kind).into(),
        }
    }

    /// The text that it is.
    ///
    /// # Errors
    /// What would be right, when it is none; so for the following.
    pub fn as_text(&self) -> Result<&str, String> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err("not a text; write it in quotation marks".into()),
        }
    }

    /// The whole number that it is.
    ///
    /// # Errors
    /// When it is none that fits.
    pub fn as_number(&self) -> Result<u32, String> {
        let number = match &self.value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) if !self.in_file() => text.trim().parse().ok(),
            _ => None,
        };
        number
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| format!("not a whole number from 0 to {}", u32::MAX))
    }

    /// The boolean that it is.
    ///
    /// # Errors
    /// When it is none.
    pub fn as_bool(&self) -> Result<bool, String> {
        match &self.value {
            Value::Boolean(boolean) => Ok(*boolean),
            _ => Err("neither true nor false (without quotation marks)".into()),
        }
    }

    /// A list in the file; separated by commas elsewhere.
    ///
    /// # Errors
    /// When it is none.
    pub fn as_list(&self) -> Result<Vec<Given>, String> {
        match &self.value {
            Value::List(items) => Ok(items.clone()),
            Value::Text(text) if !self.in_file() => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Given::text(self.place.clone(), item.to_owned()))
                .collect()),
            _ => Err(format!("not a list; write it as in [{}]", self.shown())),
        }
    }

    fn in_file(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }
}

/// A table.
#[derive(Clone, Debug)]
pub struct Section {
    /// What its keys are called in errors: `etcd.` or nothing.
    prefix: &'static str,
    /// Where it begins.
    pub place: Place,
    given: BTreeMap<String, (Place, Given)>,
    asked: Vec<&'static str>,
}

impl Section {
    /// A table that nobody wrote.
    pub fn empty(prefix: &'static str) -> Self {
        Section { prefix, place: Place::Default, given: BTreeMap::new(), asked: Vec::new() }
    }

    /// The tables of the file's `text`. What TOML itself refuses is a problem.
    pub fn parse(path: &Path, text: &str, problems: &mut Collector) -> Self {
        let reader = Reader::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = reader.place(error.span().unwrap_or(0..0));
            // The message alone: the error's own Display quotes the line, which may hold a secret.
            problems.add(Problem::new(place, "", None, format!("not TOML: {}", error.message())));
        }
        reader.section(table.span(), table.get_ref())
    }

    /// As this, with keys that are called otherwise in errors.
    #[must_use]
    pub fn with_prefix(mut self, prefix: &'static str) -> Self {
        self.prefix = prefix;
        self
    }

    /// Takes the place of what the file says.
    pub fn override_with(&mut self, key: &str, given: Given) {
        self.given.insert(key.to_owned(), (given.place.clone(), given));
    }

    /// Where `key` was given, if it was.
    pub fn place_of(&self, key: &str) -> Option<Place> {
        self.given.get(key).map(|(_, given)| given.place.clone())
    }

    /// The keys that are given and were not taken yet.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.given.keys().map(String::as_str)
    }

    /// The value of `key`, if given.
    pub fn take(&mut self, key: &'static str) -> Option<Given> {
        self.asked.push(key);
        self.given.remove(key).map(|(_, given)| given)
    }

    /// The table of `key`, if one is given.
    pub fn take_table(&mut self, key: &str) -> Option<Section> {
        match self.given.get(key) {
            Some((_, Given { value: Value::Table(_), .. })) => {}
            _ => return None,
        }
        match self.given.remove(key)?.1.value {
            Value::Table(section) => Some(section),
            _ => None,
        }
    }

    /// Whether `key` is given.
    pub fn has(&self, key: &str) -> bool {
        self.given.contains_key(key)
    }

    /// The text of `key`, if it is given and one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.given.get(key)?.1.as_text().ok()
    }

    /// The value of `key`, if given and `parse` accepts it.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        problems: &mut Collector,
        parse: impl FnOnce(&Given) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.take(key)?;
        match parse(&given) {
            Ok(value) => Some(value),
            Err(what) => {
                self.refuse(key, &given, what, problems);
                None
            }
        }
    }

    /// Says that `given` is not right for `key`.
    pub fn refuse(
        &self,
        key: &str,
        given: &Given,
        what: impl Into<String>,
        problems: &mut Collector,
    ) {
        let key = format!("{}{key}", self.prefix);
        problems.add(Problem::new(given.place.clone(), key, Some(given.shown()), what));
    }

    /// Says that `key` is missing.
    pub fn lacks(&self, key: &str, what: &str, problems: &mut Collector) {
        let key = format!("{}{key}", self.prefix);
        problems.add(Problem::new(self.place.clone(), key, None, format!("missing; {what}")));
    }

    /// Whatever was given and never asked for is unknown. Its value is not shown: it may be a
    /// password under a misspelt key.
    pub fn finish(self, problems: &mut Collector) {
        for (key, (place, _)) in self.given {
            let what = match nearest(&key, self.asked.iter().copied()) {
                Some(known) => format!("unknown key; did you mean {known:?}?"),
                None => format!("unknown key; known here are {}", self.asked.join(", ")),
            };
            problems.add(Problem::new(place, format!("{}{key}", self.prefix), None, what));
        }
    }
}

/// Turns TOML's spans into lines and columns.
struct Reader<'a> {
    path: Arc<PathBuf>,
    text: &'a str,
    /// Where each line begins, so that a file of many lines is not counted through for each value.
    line_starts: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn new(path: &Path, text: &'a str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(after_newlines).collect();
        Reader { path: Arc::new(path.to_owned()), text, line_starts }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        let in_line = self.text.get(self.line_starts[line - 1]..span.start).unwrap_or_default();
        Place::File { path: Arc::clone(&self.path), line, column: in_line.chars().count() + 1 }
    }

    fn section(&self, span: Range<usize>, table: &DeTable<'_>) -> Section {
        let given = table.iter().map(|(key, value)| {
            let place = self.place(key.span());
            (key.get_ref().to_string(), (place, self.given(value)))
        });
        Section { place: self.place(span), given: given.collect(), ..Section::empty("") }
    }

    fn given(&self, value: &Spanned<DeValue<'_>>) -> Given {
        let place = self.place(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => Value::Other("a number"),
                }
            }
            DeValue::Boolean(boolean) => Value::Boolean(*boolean),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| self.given(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.section(value.span(), table)),
            DeValue::Float(_) => Value::Other("a number with a fraction"),
            DeValue::Datetime(_) => Value::Other("a date or time"),
        };
        Given { place, value }
    }
}
