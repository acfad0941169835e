//! The page of the protocol, as far as it has numbers.

use std::collections::BTreeMap;
use std::fs;

use super::citation::{Citation, cited};
use super::sources::root;

/// What stands on the page.
pub struct Page {
    /// The clauses of each rule, in the order in which they stand there.
    pub clauses: BTreeMap<u32, Vec<u32>>,
    pub interleavings: BTreeMap<u32, Interleaving>,
    assumptions: Vec<u32>,
    text: String,
}

/// One order of events that breaks a wrong rule.
#[derive(Default)]
pub struct Interleaving {
    pub prevented_by: Vec<Citation>,
    /// Names of mutants.
    pub broken_by: Vec<String>,
}

impl Page {
    pub fn read() -> Self {
        let text = fs::read_to_string(root().join("core/PROTOCOL.md")).expect("core/PROTOCOL.md");
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let mut page = Page {
            clauses: BTreeMap::new(),
            interleavings: BTreeMap::new(),
            assumptions: Vec::new(),
            text: text.to_owned(),
        };
        let mut interleaving = None;
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("### ") {
                interleaving = None;
                match cited(title).first() {
                    Some((Citation::Rule(rule), 0)) => {
                        page.clauses.entry(*rule).or_default();
                    }
                    Some((Citation::Interleaving(number), 0)) => {
                        interleaving = Some(*number);
                        page.interleavings.entry(*number).or_default();
                    }
                    Some((Citation::Assumption(number), 0)) => page.assumptions.push(*number),
                    _ => {}
                }
            } else if let Some(clause) = line.strip_prefix("- **") {
                let number = clause.split("**").next().unwrap_or_default();
                if let Some((Citation::Clause(rule, clause), _)) =
                    cited(&format!("rule {number}")).first()
                {
                    page.clauses.entry(*rule).or_default().push(*clause);
                }
            } else if let Some(number) = interleaving
                && let Some((by, broken)) = line.split_once("Broken by: ")
            {
                let rules = by.strip_prefix("Prevented by: ").unwrap_or_default();
                let found = page.interleavings.entry(number).or_default();
                found.prevented_by.extend(cited(rules).into_iter().map(|(rule, _)| rule));
                found.broken_by.extend(broken.split('`').skip(1).step_by(2).map(str::to_owned));
            }
        }
        page
    }

    /// What stands between the marks with this name.
    pub fn between(&self, name: &str) -> &str {
        let (begin, end) = (format!("<!-- begin: {name} -->"), format!("<!-- end: {name} -->"));
        let after = self.text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}")).1;
        after.split_once(&end).unwrap_or_else(|| panic!("no {end}")).0
    }

    /// What the table of durations says of this one for the default lease.
    pub fn duration(&self, name: &str) -> Option<&str> {
        let row = self.text.lines().find(|line| line.starts_with(&format!("| {name} |")))?;
        row.split('|').nth(3).map(str::trim)
    }

    pub fn has(&self, citation: Citation) -> bool {
        match citation {
            Citation::Rule(rule) => self.clauses.contains_key(&rule),
            Citation::Clause(rule, clause) => {
                self.clauses.get(&rule).is_some_and(|clauses| clauses.contains(&clause))
            }
            Citation::Interleaving(number) => self.interleavings.contains_key(&number),
            Citation::Assumption(number) => self.assumptions.contains(&number),
        }
    }

    pub fn rules(&self) -> impl Iterator<Item = Citation> {
        self.clauses.keys().map(|rule| Citation::Rule(*rule))
    }

    pub fn rules_and_interleavings(&self) -> impl Iterator<Item = Citation> {
        self.rules().chain(self.interleavings.keys().map(|number| Citation::Interleaving(*number)))
    }
}
