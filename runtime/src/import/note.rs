//! What was not translated: the statement, why, and what to do.

use std::collections::BTreeSet;
use std::fmt;

use turnip_core::text::shown;

use super::origin::Origin;

/// What is left to do about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Grade {
    /// Nothing: turnip needs no such thing.
    Needless,
    /// Something: it is not in the output as it was in the input.
    Lost,
}

/// A statement that was not translated, or not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Where it stands.
    pub origin: Origin,
    /// The statement.
    pub statement: String,
    /// Why it is not in the output, and what to do.
    pub what: String,
    /// Whether anything is to be done.
    pub grade: Grade,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin.place)?;
        if !self.statement.is_empty() {
            write!(f, "{}: ", shown(&self.statement))?;
        }
        if self.grade == Grade::Needless {
            f.write_str("not needed: ")?;
        }
        f.write_str(&turnip_core::text::escaped(&self.what))?;
        if !self.origin.with.is_empty() {
            let with: Vec<String> = self.origin.with.iter().map(ToString::to_string).collect();
            write!(f, " (with {})", with.join(", "))?;
        }
        Ok(())
    }
}

/// All notes of a host.
#[derive(Default, Debug)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// turnip does without it, for this reason.
    pub fn needless(
        &mut self,
        origin: &Origin,
        statement: impl Into<String>,
        what: impl Into<String>,
    ) {
        self.add(origin, statement.into(), what.into(), Grade::Needless);
    }

    /// It is not in the output as it was; this is what to do.
    pub fn lost(&mut self, origin: &Origin, statement: impl Into<String>, what: impl Into<String>) {
        self.add(origin, statement.into(), what.into(), Grade::Lost);
    }

    /// A note of that grade.
    pub fn add(&mut self, origin: &Origin, statement: String, what: String, grade: Grade) {
        self.0.push(Note { origin: origin.clone(), statement, what, grade });
    }

    /// The statements that are noted.
    pub fn ids(&self) -> BTreeSet<usize> {
        self.0.iter().map(|note| note.origin.id).collect()
    }

    pub(super) fn extend(&mut self, other: Notes) {
        self.0.extend(other.0);
    }

    /// In the order of the places, and nothing twice: hosts may have files in common.
    pub(super) fn finish(self) -> Vec<Note> {
        let mut seen = BTreeSet::new();
        let mut all: Vec<Note> =
            self.0.into_iter().filter(|note| seen.insert(note.to_string())).collect();
        // Files stay in the order in which they came.
        let mut files: Vec<_> = Vec::new();
        for note in &all {
            if !files.contains(&note.origin.place.file) {
                files.push(note.origin.place.file.clone());
            }
        }
        let rank = |note: &Note| files.iter().position(|file| *file == note.origin.place.file);
        all.sort_by_key(|note| (rank(note), note.origin.place.line, note.origin.place.column));
        all
    }
}
