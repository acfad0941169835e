//! Files with what they include, as one host reads them: conditions, definitions and sequences resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lexer::{self, Token};
use crate::import::note::Notes;
use crate::import::origin::{Origin, Place};
use crate::import::{Failure, read, shown};

/// Definitions within definitions, and files within files, at most.
const DEPTH_MAX: usize = 64;
/// So many lines are no configuration, but a definition that multiplies itself.
const LINES_MAX: usize = 200_000;

/// The tokens of a line.
#[derive(Debug)]
pub struct Line {
    /// Where it stands.
    pub place: Place,
    /// The definitions that went into it.
    pub with: Vec<Place>,
    /// What it is made of.
    pub tokens: Vec<(usize, Token)>,
}

struct Definition {
    place: Place,
    lines: Vec<(Place, String)>,
    is_used: bool,
}

/// Reads files as one host does.
pub struct Reader<'a> {
    /// The host; nobody when all that is conditional is read, to find out which hosts there are.
    host: Option<&'a str>,
    /// The hosts that conditions name.
    pub ids: BTreeSet<String>,
    /// What was read.
    pub lines: Vec<Line>,
    /// What is to be said of it.
    pub notes: Notes,
    definitions: BTreeMap<String, Definition>,
    open: Vec<PathBuf>,
    work: usize,
}

impl<'a> Reader<'a> {
    /// A reader that has read nothing.
    pub fn new(host: Option<&'a str>) -> Self {
        Reader {
            host,
            ids: BTreeSet::new(),
            lines: Vec::new(),
            notes: Notes::default(),
            definitions: BTreeMap::new(),
            open: Vec::new(),
            work: 0,
        }
    }

    /// Reads a file.
    pub fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let text = read(path)?;
        self.open.push(path.canonicalize().unwrap_or_else(|_| path.into()));
        let name = shown(path);
        let mut lines = text.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let place = Place { file: Arc::clone(&name), line: at + 1, column: 1 };
            let line = lexer::without_comment(line);
            let mut parts = vec![(place.clone(), line.to_owned())];
            while parts.last().is_some_and(|(_, line)| line.trim_end().ends_with('\\')) {
                if let Some((_, last)) = parts.last_mut() {
                    let end = last.trim_end().len() - 1;
                    last.truncate(end);
                }
                let Some((at, line)) = lines.next() else { break };
                let place = Place { file: Arc::clone(&name), line: at + 1, column: 1 };
                parts.push((place, lexer::without_comment(line).to_owned()));
            }
            // It stands where its first word does.
            while parts.len() > 1 && parts[0].1.trim().is_empty() {
                parts.remove(0);
            }
            self.statement(path, parts)?;
        }
        self.open.pop();
        Ok(())
    }

    /// One line, or several of which each but the last ended with a backslash.
    fn statement(&mut self, path: &Path, mut parts: Vec<(Place, String)>) -> Result<(), Failure> {
        let (place, first) = parts.remove(0);
        let (conditional, rest) = match lexer::condition(&first) {
            Some((is_it, id, rest)) => {
                self.ids.insert(id.to_owned());
                let counts = self.host.is_none_or(|host| (host == id) == is_it);
                (counts, rest.to_owned())
            }
            None => (true, first),
        };
        if !conditional {
            return Ok(());
        }
        if let Some((name, value)) = lexer::definition(&rest) {
            let mut lines = vec![(place.clone(), value.to_owned())];
            lines.extend(parts);
            if lines.len() > 1 && value.trim().is_empty() {
                lines.remove(0);
            }
            self.define(name, place, lines);
            return Ok(());
        }
        let mut text = rest;
        for (_, more) in parts {
            text.push(' ');
            text.push_str(&more);
        }
        self.line(path, &place, &[], &text, 0)
    }

    fn define(&mut self, name: &str, place: Place, lines: Vec<(Place, String)>) {
        let new = Definition { place, lines, is_used: false };
        if let Some(old) = self.definitions.insert(name.to_owned(), new) {
            self.unused(name, &old);
        }
    }

    fn unused(&mut self, name: &str, old: &Definition) {
        if !old.is_used {
            let origin = Origin { place: old.place.clone(), with: Vec::new(), id: usize::MAX };
            self.notes.needless(&origin, format!("${name}"), "a definition that is used nowhere");
            for (place, line) in old.lines.iter().filter(|(place, _)| *place != old.place) {
                let origin = Origin { place: place.clone(), with: Vec::new(), id: usize::MAX };
                self.notes.needless(
                    &origin,
                    line.trim(),
                    format!("of ${name}, which is used nowhere"),
                );
            }
        }
    }

    /// What is left to say when all was read.
    pub fn finish(&mut self) {
        for (name, definition) in std::mem::take(&mut self.definitions) {
            self.unused(&name, &definition);
        }
    }

    fn line(
        &mut self,
        path: &Path,
        place: &Place,
        with: &[Place],
        text: &str,
        depth: usize,
    ) -> Result<(), Failure> {
        self.work += 1;
        if depth > DEPTH_MAX {
            return Err(Failure::at(
                place,
                "a definition that leads to itself; take the circle out",
            ));
        }
        if self.work > LINES_MAX {
            return Err(Failure::at(
                place,
                "more lines than 200000 when all definitions are put in",
            ));
        }
        if let Some((is_it, id, rest)) = lexer::condition(text) {
            self.ids.insert(id.to_owned());
            return match self.host.is_none_or(|host| (host == id) == is_it) {
                true => self.line(path, place, with, rest, depth + 1),
                false => Ok(()),
            };
        }
        if let Some((name, value)) = lexer::definition(text) {
            self.define(name, place.clone(), vec![(place.clone(), value.to_owned())]);
            return Ok(());
        }
        if let Some((rounds, rest)) = lexer::rounds(text) {
            for round in rounds {
                for (name, value) in round {
                    let lines = vec![(place.clone(), value)];
                    let definition = Definition { place: place.clone(), lines, is_used: true };
                    self.definitions.insert(name, definition);
                }
                self.line(path, place, with, rest, depth + 1)?;
            }
            return Ok(());
        }
        if let Some(lines) = self.substituted(path, place, with, text) {
            for (place, with, text) in lines {
                self.line(path, &place, &with, &text, depth + 1)?;
            }
            return Ok(());
        }
        let tokens = lexer::tokens(text);
        if let Some((_, Token::Word(first))) = tokens.first()
            && ["include", "includer", "includem", "includew", "includeb", "includea"]
                .contains(&first.as_str())
        {
            let pattern = text.trim().split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
            return self.include(path, place, pattern.trim().trim_matches(['"', '\'']));
        }
        if !tokens.is_empty() {
            self.lines.push(Line { place: place.clone(), with: with.to_vec(), tokens });
        }
        Ok(())
    }

    /// The line with the first of its variables replaced, which may make several of it.
    fn substituted(
        &mut self,
        path: &Path,
        place: &Place,
        with: &[Place],
        text: &str,
    ) -> Option<Vec<(Place, Vec<Place>, String)>> {
        for (at, _) in text.match_indices('$') {
            let Some((name, length)) = lexer::variable(&text[at..]) else { continue };
            let (before, after) = (&text[..at], &text[at + length..]);
            let built_in = match name {
                "_PWD" => Some(path.parent().unwrap_or(Path::new(".")).display().to_string()),
                "_HASH" => Some("\\#".into()),
                "_BANG" => Some("\\!".into()),
                "_INSTANCE" => self.host.map(str::to_owned),
                _ => None,
            };
            if let Some(value) = built_in {
                return Some(vec![(
                    place.clone(),
                    with.to_vec(),
                    format!("{before}{value}{after}"),
                )]);
            }
            let Some(definition) = self.definitions.get_mut(name) else { continue };
            definition.is_used = true;
            let add = |also: &Place, place: &Place, with: &[Place]| {
                let mut all = with.to_vec();
                if !all.contains(also) && also != place {
                    all.push(also.clone());
                }
                all
            };
            let count = definition.lines.len();
            if count <= 1 {
                let value = definition.lines.first().map_or("", |(_, line)| line.trim());
                let with = add(&definition.place, place, with);
                return Some(vec![(place.clone(), with, format!("{before}{value}{after}"))]);
            }
            let lines = definition.lines.iter().enumerate().map(|(number, (own, line))| {
                let before = if number == 0 { before } else { "" };
                let after = if number + 1 == count { after } else { "" };
                let with = add(&definition.place, own, &add(place, own, with));
                (own.clone(), with, format!("{before}{line}{after}"))
            });
            return Some(lines.collect());
        }
        None
    }

    fn include(&mut self, path: &Path, place: &Place, pattern: &str) -> Result<(), Failure> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut found = Vec::new();
        for one in braces(pattern) {
            let whole = folder.join(one);
            let paths = glob::glob(&whole.to_string_lossy()).map_err(|error| {
                Failure::at(place, format!("include {pattern}: not a pattern: {error}"))
            })?;
            found.extend(paths.filter_map(Result::ok).filter(|path| path.is_file()));
        }
        let origin = Origin { place: place.clone(), with: Vec::new(), id: usize::MAX };
        let statement = format!("include {pattern}");
        if found.is_empty() {
            let what = "no file here is called so; run the import where the included files are";
            self.notes.lost(&origin, statement, what);
            return Ok(());
        }
        let names: Vec<String> = found.iter().map(|path| shown(path).to_string()).collect();
        let what = format!("all is in one file now; read from {}", names.join(", "));
        self.notes.needless(&origin, statement, what);
        for path in found {
            let same = path.canonicalize().unwrap_or_else(|_| path.clone());
            if self.open.contains(&same) || self.open.len() > DEPTH_MAX {
                let what = format!(
                    "include {pattern}: {} includes itself; take the circle out",
                    shown(&path)
                );
                return Err(Failure::at(place, what));
            }
            self.file(&path)?;
        }
        Ok(())
    }
}

/// `{a,b}` as csh has it: a pattern for each.
fn braces(pattern: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let (mut open, mut cuts) = (None, Vec::new());
    for (at, c) in pattern.char_indices() {
        match c {
            '{' => {
                depth += 1;
                open = open.or(Some(at));
            }
            ',' if depth == 1 => cuts.push(at),
            '}' if depth > 0 => {
                depth -= 1;
                let Some(start) = open.filter(|_| depth == 0) else { continue };
                cuts.push(at);
                let mut from = start + 1;
                let mut all = Vec::new();
                for cut in cuts {
                    let whole = format!(
                        "{}{}{}",
                        &pattern[..start],
                        &pattern[from..cut],
                        &pattern[at + 1..]
                    );
                    all.extend(braces(&whole));
                    from = cut + 1;
                }
                return all;
            }
            _ => {}
        }
    }
    vec![pattern.to_owned()]
}
