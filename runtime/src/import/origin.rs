//! Where a statement stands.

use std::fmt;
use std::sync::Arc;

/// A place in a file; line and column count from 1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Where a statement stands, with what else went into it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// Where it stands.
    pub place: Place,
    /// The definitions that it uses, and where those were used that it is part of.
    pub with: Vec<Place>,
    /// Which of its host's statements it is.
    pub id: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if !self.with.is_empty() {
            let with: Vec<String> = self.with.iter().map(ToString::to_string).collect();
            write!(f, " (with {})", with.join(", "))?;
        }
        Ok(())
    }
}

/// All of them in one text, each once.
pub fn list(origins: &[Origin]) -> String {
    let mut shown: Vec<String> = Vec::new();
    for origin in origins {
        let text = origin.to_string();
        if !shown.contains(&text) {
            shown.push(text);
        }
    }
    shown.join(", ")
}
