//! Statements, with the blocks that belong to them.

use super::lexer::Token;
use super::{oneline, reader::Line};
use crate::import::Failure;
use crate::import::origin::{Origin, Place};

const DEPTH_MAX: usize = 100;

/// A statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its words; none of a block without a name.
    pub words: Vec<String>,
    /// Where it stands.
    pub origin: Origin,
    /// What is in its braces.
    pub block: Option<Vec<Statement>>,
}

impl Statement {
    /// Its first word.
    pub fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word at that place, the keyword being 0.
    pub fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    /// As it is shown.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }

    /// What is in its braces.
    pub fn inner(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }

    /// It, and all that is in it.
    pub fn each(&self, tell: &mut impl FnMut(&Statement)) {
        tell(self);
        self.inner().iter().for_each(|inner| inner.each(tell));
    }
}

/// The statements of all lines.
pub fn statements(lines: Vec<Line>) -> Result<Vec<Statement>, Failure> {
    let mut stack: Vec<(Place, Vec<Statement>)> = vec![];
    let mut current: Vec<Statement> = Vec::new();
    let mut id = 0;
    for line in lines {
        let mut is_open = false;
        let mut tokens = line.tokens.into_iter().peekable();
        while let Some((column, token)) = tokens.next() {
            let place = Place { column, ..line.place.clone() };
            match token {
                Token::Word(word)
                    if is_open
                        && !oneline::begins(
                            stack.last().and_then(|(_, all)| all.last()),
                            &current,
                            &word,
                        ) =>
                {
                    if let Some(last) = current.last_mut() {
                        last.words.push(word);
                    }
                }
                Token::Word(word) => {
                    let origin = Origin { place, with: line.with.clone(), id };
                    id += 1;
                    current.push(Statement { words: vec![word], origin, block: None });
                    is_open = true;
                }
                Token::Open => {
                    is_open = false;
                    let is_placeholder = tokens.peek().is_some_and(|(at, next)| {
                        *at == column + 1
                            && (*next == Token::Open
                                || matches!(next, Token::Word(word) if word.starts_with('%')))
                    });
                    if is_placeholder {
                        return Err(Failure::at(
                            &place,
                            "a placeholder of a template; import the file that the template makes, as it stands in /etc/keepalived on a host",
                        ));
                    }
                    if current.last().is_none_or(|last| last.block.is_some()) {
                        return Err(Failure::at(
                            &place,
                            "a { with nothing before it; write what it is the block of",
                        ));
                    }
                    if stack.len() >= DEPTH_MAX {
                        return Err(Failure::at(&place, "more than 100 blocks in one another"));
                    }
                    stack.push((place, std::mem::take(&mut current)));
                }
                Token::Close => {
                    is_open = false;
                    let Some((_, outer)) = stack.pop() else {
                        return Err(Failure::at(
                            &place,
                            "a } that closes nothing; take it out, or look for a { that is missing above",
                        ));
                    };
                    let inner = std::mem::replace(&mut current, outer);
                    if let Some(last) = current.last_mut() {
                        last.block = Some(inner);
                    }
                }
            }
        }
    }
    match stack.pop() {
        Some((place, _)) => {
            Err(Failure::at(&place, "a { that is never closed; write a } where its block ends"))
        }
        None => Ok(current),
    }
}
