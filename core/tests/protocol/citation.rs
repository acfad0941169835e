//! Citations of the protocol's page, as they stand in comments, texts and names of mutants.

use std::fmt;

/// What is cited.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Citation {
    Rule(u32),
    Clause(u32, u32),
    Interleaving(u32),
    Assumption(u32),
}

impl Citation {
    /// The rule that a clause belongs to; all else is whole.
    pub fn whole(self) -> Self {
        match self {
            Citation::Clause(rule, _) => Citation::Rule(rule),
            whole => whole,
        }
    }
}

impl fmt::Display for Citation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Citation::Rule(rule) => write!(f, "rule {rule}"),
            Citation::Clause(rule, clause) => write!(f, "rule {rule}.{clause}"),
            Citation::Interleaving(number) => write!(f, "interleaving {number}"),
            Citation::Assumption(number) => write!(f, "A{number}"),
        }
    }
}

/// All that `text` cites, each with its place in the text: "rule 5", "rules 1, 2.3 and 7",
/// "rules 1 to 9", "interleaving 6", "A2".
pub fn cited(text: &str) -> Vec<(Citation, usize)> {
    let mut found = Vec::new();
    for (at, word) in words(text) {
        let after = text[at + word.len()..].strip_prefix(' ');
        match word.to_ascii_lowercase().as_str() {
            "rule" | "rules" => {
                let numbers = after.map(numbers).unwrap_or_default();
                found.extend(numbers.into_iter().map(|(rule, clause)| {
                    (clause.map_or(Citation::Rule(rule), |c| Citation::Clause(rule, c)), at)
                }));
            }
            "interleaving" | "interleavings" => {
                let numbers = after.map(numbers).unwrap_or_default();
                found.extend(numbers.into_iter().map(|(n, _)| (Citation::Interleaving(n), at)));
            }
            _ => {
                if let Some(Ok(number)) = word.strip_prefix('A').map(str::parse) {
                    found.push((Citation::Assumption(number), at));
                }
            }
        }
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    let start = text.as_ptr() as usize;
    text.split(is_end)
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - start, word))
}

type Number = (u32, Option<u32>);

/// The numbers of a list at the beginning of `text`.
fn numbers(text: &str) -> Vec<Number> {
    let mut numbers = Vec::new();
    let mut rest = text;
    let mut is_range = false;
    while let Some((number, after)) = number(rest) {
        if let (true, Some((from, None)), (to, None)) = (is_range, numbers.last(), number) {
            numbers.extend((from + 1..to).map(|between| (between, None)));
        }
        numbers.push(number);
        let separators = [(", and ", false), (", ", false), (" and ", false), (" to ", true)];
        let separator = separators.iter().find(|(separator, _)| after.starts_with(separator));
        let Some((separator, to)) = separator else { break };
        (rest, is_range) = (&after[separator.len()..], *to);
    }
    numbers
}

/// A number with perhaps a clause, and what follows it. "3 s" and "2,000" are none.
fn number(text: &str) -> Option<(Number, &str)> {
    let (whole, rest) = digits(text)?;
    match rest.strip_prefix('.').and_then(digits) {
        Some((clause, rest)) => Some(((whole, Some(clause)), rest)),
        None => Some(((whole, None), rest)),
    }
}

fn digits(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[test]
fn lists_ranges_and_clauses_are_read() {
    let read = |text: &str| -> Vec<String> {
        cited(text).into_iter().map(|(citation, _)| citation.to_string()).collect()
    };
    assert_eq!(read("(rules 2, 7.1 and 8)"), ["rule 2", "rule 7.1", "rule 8"]);
    assert_eq!(read("Rule 5."), ["rule 5"]);
    assert_eq!(read("rules 3 to 5, and more"), ["rule 3", "rule 4", "rule 5"]);
    assert_eq!(read("interleavings 1 and 12"), ["interleaving 1", "interleaving 12"]);
    assert_eq!(read("under A1 to A3"), ["A1", "A3"]);
    assert!(read("rules that nobody numbers, AB1, unruly 7").is_empty());
}
