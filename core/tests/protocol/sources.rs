//! The workspace's sources and pages.

use std::fs;
use std::path::{Path, PathBuf};

use super::citation::{Citation, cited};

/// Where sources are, from the workspace's root.
const PLACES: [&str; 7] =
    ["core", "runtime", "sim", "netns-tests", "README.md", "ARCHITECTURE.md", "docs"];
/// What is about citations, and so full of wrong ones.
const THIS: &str = "core/tests/protocol/";

/// A file.
pub struct Source {
    /// From the workspace's root.
    pub path: String,
    text: String,
}

/// The workspace's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("core is a member of a workspace")
}

/// Every source and every page.
pub fn workspace() -> Vec<Source> {
    let mut paths = Vec::new();
    for place in PLACES {
        collect(&root().join(place), &mut paths);
    }
    let sources = paths.into_iter().map(|path| Source {
        text: fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")),
        path: path.strip_prefix(root()).expect("below the root").display().to_string(),
    });
    let sources: Vec<Source> = sources.filter(|source| !source.path.starts_with(THIS)).collect();
    assert!(sources.len() > 100, "only {} sources found", sources.len());
    sources
}

fn collect(path: &Path, paths: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let mut entries: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        entries.sort();
        let target = path.join("target");
        entries.iter().filter(|entry| **entry != target).for_each(|entry| collect(entry, paths));
    } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
        paths.push(path.to_owned());
    }
}

impl Source {
    /// What it cites, with the line.
    pub fn citations(&self) -> Vec<(Citation, usize)> {
        let (text, lines) = prose(&self.text);
        let line_of = |at: usize| lines.partition_point(|start| *start <= at);
        cited(&text).into_iter().map(|(citation, at)| (citation, line_of(at))).collect()
    }

    /// What its tests cite: all of a test's file, else what stands after `#[cfg(test)]`.
    pub fn citations_by_tests(&self) -> Vec<Citation> {
        let is_test = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        let first = if is_test {
            1
        } else {
            match self.text.lines().position(|line| line.trim() == "#[cfg(test)]") {
                Some(line) => line + 1,
                None => return Vec::new(),
            }
        };
        let of_tests = self.citations().into_iter().filter(|(_, line)| *line >= first);
        of_tests.map(|(citation, _)| citation).collect()
    }

    /// What a scenario's story cites, as whoever runs it is told.
    pub fn citations_by_stories(&self) -> Vec<Citation> {
        let told = self.citations().into_iter().filter(|(_, line)| !self.is_comment(*line));
        told.map(|(citation, _)| citation).collect()
    }

    /// Whether it is a scenario of the simulator.
    pub fn is_scenario(&self) -> bool {
        self.path.starts_with("sim/src/scenario")
    }

    /// Where it cites the design from which the protocol began, and which is not in the repository.
    pub fn old_citations(&self) -> Vec<String> {
        if self.path == "core/PROTOCOL.md" {
            return Vec::new();
        }
        let (text, lines) = prose(&self.text);
        let line_of = |at: usize| lines.partition_point(|start| *start <= at);
        let mut found = Vec::new();
        for form in ["the design", "design's", "section ", " in 2.", "(2."] {
            for (at, _) in text.match_indices(form) {
                let after = text[at + form.len()..].chars().next().unwrap_or(' ');
                let before = &text.as_bytes()[..at];
                let is_old = match form {
                    "section " => after.is_ascii_digit() && !is_of_an_rfc(before),
                    "(2." | " in 2." => {
                        let number = &text[at + form.len()..];
                        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
                        end > 0 && number[end..].starts_with(')') && self.is_comment(line_of(at))
                    }
                    _ => !after.is_alphabetic(),
                };
                if is_old {
                    found.push(format!("{}:{} says {form:?}", self.path, line_of(at)));
                }
            }
        }
        for (number, line) in self.text.lines().enumerate() {
            let comment = line.trim_start();
            let bare = |n: u8| comment.contains(&format!("({n})"));
            if comment.starts_with("//") && (1..=9).any(bare) {
                found.push(format!("{}:{} has a number without a name", self.path, number + 1));
            }
        }
        found
    }

    fn is_comment(&self, line: usize) -> bool {
        let line = self.text.lines().nth(line - 1).unwrap_or_default();
        self.path.ends_with(".md") || line.contains("//")
    }

    /// Files that a page names and the workspace has not, and headings that it links to and
    /// has not itself.
    pub fn dead_pointers(&self, sources: &[Source]) -> Vec<String> {
        let mut dead = Vec::new();
        let headings: Vec<String> = self.text.lines().filter_map(anchor).collect();
        for (at, _) in self.text.match_indices("](#") {
            let link = self.text[at + 3..].split(')').next().unwrap_or_default();
            if !headings.iter().any(|heading| heading == link) {
                dead.push(format!("{} links to #{link}", self.path));
            }
        }
        for name in self.text.split('`').skip(1).step_by(2) {
            let is_source = name.ends_with(".rs") && !name.contains([' ', '*', '{']);
            let ends =
                |source: &Source| source.path == name || source.path.ends_with(&format!("/{name}"));
            if is_source && !name.starts_with(THIS) && !sources.iter().any(ends) {
                dead.push(format!("{} names {name}", self.path));
            }
        }
        dead
    }
}

/// Whether what was read so far ends by naming an RFC.
fn is_of_an_rfc(before: &[u8]) -> bool {
    before[before.len().saturating_sub(16)..].windows(4).any(|window| window == b"RFC ")
}

/// The name by which a heading is linked to.
fn anchor(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

/// The text as one line, without comment signs: what is cited may stand on two lines. With where
/// each line begins.
fn prose(text: &str) -> (String, Vec<usize>) {
    let (mut prose, mut lines) = (String::new(), Vec::new());
    for line in text.lines() {
        lines.push(prose.len());
        let line = line.trim();
        let comment = ["///", "//!", "//"].iter().find_map(|sign| line.strip_prefix(sign));
        prose += comment.unwrap_or(line).trim_start();
        prose.push(' ');
    }
    (prose, lines)
}
