//! `turnip import`: the configurations of keepalived, vip-manager and kube-vip as one of turnip's.
//!
//! Each of them has a folder with a parser and a translation; what they print is one [`document`], and what
//! has no counterpart is a [`note`]. Every statement of the input has an [`origin`], and ends in one or the
//! other: what the translation says nothing about is found by that, and noted as well.

pub mod document;
mod etcd;
pub mod keepalived;
pub mod kube_vip;
mod merge;
pub mod note;
pub mod origin;
mod print;
pub mod vip_manager;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use document::Document;
use note::{Grade, Note, Notes};
use origin::Place;

/// What became of the files.
#[derive(Debug)]
pub struct Imported {
    /// A configuration, in TOML.
    pub toml: String,
    /// What could not be translated, or need not be, in the order of the files.
    pub notes: Vec<Note>,
}

impl Imported {
    /// Whether there is nothing left to do by hand.
    pub fn is_whole(&self) -> bool {
        self.notes.iter().all(|note| note.grade == Grade::Needless)
    }

    /// Of one document for each host.
    fn of(heading: &[String], hosts: Vec<(String, Document, Notes)>) -> Self {
        let mut all = Notes::default();
        let mut documents = Vec::new();
        for (host, document, notes) in hosts {
            all.extend(notes);
            documents.push((host, document));
        }
        let document = merge::merge(documents, &mut all);
        Imported { toml: print::print(heading, &document), notes: all.finish() }
    }
}

/// Why nothing was translated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The file.
    pub file: String,
    /// Line and column, both from 1 on, where it is about one.
    pub at: Option<(usize, usize)>,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl Failure {
    fn at(place: &Place, what: impl Into<String>) -> Self {
        let at = Some((place.line, place.column));
        Failure { file: place.file.to_string(), at, what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = turnip_core::text::escaped(&self.what);
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {what}", self.file),
            None => write!(f, "{}: {what}", self.file),
        }
    }
}

impl std::error::Error for Failure {}

/// So large a file is no configuration.
const FILE_MAX: u64 = 16 << 20;

/// The text of a file; bytes that are no UTF-8, as an old comment may have them, are replaced.
fn read(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let failed = |what: String| Failure { file: shown(path).to_string(), at: None, what };
    let file = std::fs::File::open(path);
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    match bytes.len() as u64 > FILE_MAX {
        true => Err(failed("larger than 16 MiB, and so no configuration".into())),
        false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// A path as it is shown.
fn shown(path: &Path) -> Arc<str> {
    turnip_core::text::escaped(&path.display().to_string()).into()
}

/// What the heading of the output says.
fn heading(peer: &str, files: &[PathBuf]) -> Vec<String> {
    let files: Vec<String> = files.iter().map(|path| shown(path).to_string()).collect();
    vec![
        format!("Translated by `turnip import {peer}` from {}.", files.join(", ")),
        "Behind each line stands where it comes from. What is not here was said on standard error."
            .into(),
        "Have etcd's addresses in it before you use it; `turnip check` says what is wrong.".into(),
    ]
}

/// A name that turnip takes: of what is not allowed in it a hyphen is made.
fn name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    let name: String = text.chars().map(|c| if allowed(c) { c } else { '-' }).take(63).collect();
    if name.is_empty() { "unnamed".into() } else { name }
}

/// The name, or with a number behind it where it is taken.
fn unique(name: String, taken: &mut std::collections::BTreeSet<String>) -> String {
    let mut chosen = name.clone();
    let mut number = 2;
    while !taken.insert(chosen.clone()) {
        let behind = format!("-{number}");
        chosen = name.chars().take(63 - behind.len()).collect::<String>() + &behind;
        number += 1;
    }
    chosen
}
