//! A page of the documentation that a test follows as its reader does: the files that it shows, and the
//! commands with what they print.
//!
//! A file is a block under a line such as "`/etc/turnip/turnip.toml` on every host:", or "on h1 and h2:". Commands
//! are blocks of the kind `console`: each stands behind a prompt that says where it is entered, `h1# ` or
//! `h1 h2# `, and the lines below it are what it prints there. In those `…` stands for anything within a line,
//! and in a line of its own for any lines; blanks count as one. Blocks of the kind `text` are for the reader alone.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// Anything, within a line or of lines.
const ANYTHING: &str = "…";

/// A page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// What it asks for, in order.
    pub steps: Vec<Step>,
}

/// A file to write, or a command to enter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The heading that it stands under.
    pub section: String,
    /// Where: names as in prompts.
    pub places: Vec<String>,
    /// The number of its line in the page.
    pub line: usize,
    /// What.
    pub what: What,
}

/// What a step is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// What is in it.
        text: String,
    },
    /// A command.
    Command {
        /// As it is entered.
        command: String,
        /// What it prints; nothing is said of it where this is empty.
        prints: Vec<String>,
    },
}

impl Page {
    /// Reads a page below `docs/src`, for so many hosts.
    ///
    /// # Errors
    /// When it is not there, or has a block of which nobody knows what it is.
    pub fn read(name: &str, hosts: usize) -> Result<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/src").join(name);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text, hosts).with_context(|| name.to_owned())
    }

    fn parse(text: &str, hosts: usize) -> Result<Self> {
        let mut steps = Vec::new();
        let mut section = String::new();
        let mut caption = "";
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let Some(kind) = line.strip_prefix("```") else {
                if let Some(heading) = line.strip_prefix('#') {
                    heading.trim_start_matches('#').trim().clone_into(&mut section);
                }
                if !line.trim().is_empty() {
                    caption = line;
                }
                continue;
            };
            let block: Vec<(usize, &str)> =
                lines.by_ref().take_while(|(_, line)| *line != "```").collect();
            let step = |line, places, what| Step { section: section.clone(), places, line, what };
            match (kind, file(caption, hosts)) {
                ("text", _) => {}
                ("console", _) => {
                    for (line, places, what) in session(&block)? {
                        steps.push(step(line + 1, places, what));
                    }
                }
                (_, Some((path, places))) => {
                    let text = block.iter().map(|(_, line)| format!("{line}\n")).collect();
                    steps.push(step(index + 1, places, What::File { path, text }));
                }
                _ => bail!("line {}: which file this is, and on which hosts?", index + 1),
            }
            caption = "";
        }
        ensure!(!steps.is_empty(), "there is nothing to do in it");
        Ok(Page { steps })
    }
}

/// "`/etc/turnip/turnip.toml` on every host, which …:", or "… on h1 and h2:"
fn file(caption: &str, hosts: usize) -> Option<(PathBuf, Vec<String>)> {
    let (path, rest) = caption.strip_prefix('`')?.split_once('`')?;
    let places = rest.strip_prefix(" on ")?.strip_suffix(':')?;
    let places = places.split_once(", which").map_or(places, |(places, _)| places);
    let places = match places {
        "every host" => (1..=hosts).map(|number| format!("h{number}")).collect(),
        named => named.replace(" and ", ", ").split(", ").map(str::to_owned).collect(),
    };
    path.starts_with('/').then(|| (path.into(), places))
}

type Entered = (usize, Vec<String>, What);

fn session(block: &[(usize, &str)]) -> Result<Vec<Entered>> {
    let mut entered: Vec<Entered> = Vec::new();
    for &(index, line) in block {
        match (prompt(line), entered.last_mut()) {
            (Some((places, command)), _) => {
                let what = What::Command { command: command.to_owned(), prints: Vec::new() };
                entered.push((index, places, what));
            }
            (None, Some((_, _, What::Command { prints, .. }))) => prints.push(line.to_owned()),
            (None, _) => bail!("line {}: {line:?} is behind no prompt", index + 1),
        }
    }
    Ok(entered)
}

/// Where a command is entered, and which.
fn prompt(line: &str) -> Option<(Vec<String>, &str)> {
    let (places, command) = line.split_once("# ")?;
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let places: Vec<String> = places.split(' ').map(str::to_owned).collect();
    places.iter().all(|place| is_name(place)).then_some((places, command))
}

/// Whether a command has printed what the page says.
pub fn is_printed(expected: &[String], printed: &str) -> bool {
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = |all: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        all.map(plain).filter(|line| !line.is_empty()).collect()
    };
    let expected = lines(&mut expected.iter().map(String::as_str));
    are_lines(&expected, &lines(&mut printed.lines()))
}

fn are_lines(expected: &[String], printed: &[String]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((first, rest)), None) => first == ANYTHING && are_lines(rest, printed),
        (Some((first, rest)), Some((_, others))) if first == ANYTHING => {
            are_lines(rest, printed) || are_lines(expected, others)
        }
        (Some((first, rest)), Some((line, others))) => {
            is_line(first, line) && are_lines(rest, others)
        }
    }
}

fn is_line(expected: &str, line: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            let Some((_, behind)) = rest.split_once(before) else { return false };
            rest = behind;
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Try\n\n`/etc/a` on h1 and h2:\n\n```toml\nx = 1\n```\n\n## Then\n\n\
        ```console\nh1 h2# a b\nprinted …\nh2# c\n```\n\n```text\nnobody runs this\n```\n";

    #[test]
    fn files_and_commands_stand_in_order_with_their_places() {
        let steps = Page::parse(PAGE, 2).unwrap().steps;
        let said: Vec<String> = (steps.iter())
            .map(|step| format!("{} {} {:?}", step.section, step.places.join("+"), step.what))
            .collect();
        assert_eq!(
            said,
            [
                r#"Try h1+h2 File { path: "/etc/a", text: "x = 1\n" }"#,
                r#"Then h1+h2 Command { command: "a b", prints: ["printed …"] }"#,
                r#"Then h2 Command { command: "c", prints: [] }"#,
            ]
        );
    }

    #[test]
    fn a_block_that_nobody_can_run_is_refused_with_its_line() {
        let error = Page::parse("# Try\n\nSo:\n\n```toml\nx = 1\n```\n", 1).unwrap_err();
        assert!(error.to_string().contains("line 5"), "{error}");
    }

    #[test]
    fn what_is_printed_is_held_to_the_page_but_for_what_that_leaves_open() {
        let is = |expected: &str, printed: &str| {
            let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
            is_printed(&expected, printed)
        };
        assert!(is("api  h1  …  3 s", "api h1   held since 12 s for 3 s\n"));
        assert!(!is("api h1 …", "api h2 since 1 s"));
        assert!(is("a\n…\nd", "a\nb\nc\nd\n") && !is("a\n…\nd", "a\nb\n"));
        assert!(!is("a", "a\nb") && !is("a\nb", "a"));
        assert!(is("…x…", "axb") && !is("…x…y", "axb"));
    }
}
