//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::redact;

/// Where a value was given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// In the configuration file; lines and columns count from 1, columns in characters.
    File {
        /// The file.
        path: Arc<PathBuf>,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// On the command line, by this flag (`--lease`).
    Flag(String),
    /// By this variable of the environment.
    Variable(String),
    /// Nowhere: what the host or this program chose.
    Default,
}

/// One error in a configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    place: Place,
    key: String,
    value: Option<String>,
    what: String,
}

impl Problem {
    /// An error about `key`, which was given as `value` (absent when nothing was given) at `place`. What in
    /// it may be a secret is not shown. `what` says what is wrong, and what would be right.
    pub fn new(
        place: Place,
        key: impl Into<String>,
        value: Option<String>,
        what: impl Into<String>,
    ) -> Self {
        let (key, what) = (key.into(), what.into());
        let value = value.map(|value| match key.as_str() {
            "etcd.password_file" | "etcd.key" => redact::secret_path(&value),
            "etcd.user" => redact::user(&value),
            _ => redact::value(&value),
        });
        Problem { place, key, value, what: redact::urls(&what).into_owned() }
    }

    /// The line in the file, counted from 1, when the value was given there.
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Place::File { line, .. } => Some(line),
            _ => None,
        }
    }

    /// The key, as in `etcd.endpoints`; empty for an error of TOML's own syntax.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line, column } => {
                write!(f, "{}:{line}:{column}: ", path.display())?;
            }
            Place::Flag(flag) => {
                let value = self.value.as_deref().unwrap_or_default();
                return write!(f, "{flag} {value}: {}", self.what);
            }
            Place::Variable(variable) => {
                f.write_str(variable)?;
                if let Some(value) = &self.value {
                    write!(f, " = {value}")?;
                }
                return write!(f, ": {}", self.what);
            }
            Place::Default => {}
        }
        match (&self.key, &self.value) {
            (key, _) if key.is_empty() => {}
            (key, Some(value)) => write!(f, "{key} = {value}: ")?,
            (key, None) => write!(f, "{key}: ")?,
        }
        f.write_str(&self.what)
    }
}

/// Every error of a configuration; at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The errors, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "error in the configuration: {only}"),
            all => {
                write!(f, "{} errors in the configuration:", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

/// Collects errors while a configuration is read, so that all of them come at once.
#[derive(Default, Debug)]
pub struct Collector(Vec<Problem>);

impl Collector {
    /// One more.
    pub fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// All of another file.
    pub fn add_all(&mut self, problems: Problems) {
        self.0.extend(problems.0);
    }

    /// Whether nothing was wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` if nothing was wrong. It is absent only when something was.
    ///
    /// # Errors
    /// All that was wrong.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.0.sort();
                self.0.dedup();
                debug_assert!(!self.0.is_empty(), "a value is missing and nobody said why");
                Err(Problems(self.0))
            }
        }
    }
}
