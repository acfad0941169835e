//! A line of keepalived's: words, quotes, braces, comments, and what may stand before them.

use winnow::Result;
use winnow::ascii::{alphanumeric1, multispace0};
use winnow::combinator::{alt, delimited, opt, preceded, repeat, separated};
use winnow::prelude::*;
use winnow::token::{any, none_of, one_of, rest, take_till, take_while};

/// What a line is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Token {
    /// A word, without its quotes.
    Word(String),
    /// `{`
    Open,
    /// `}`
    Close,
}

/// The line without its comment, which `#` or `!` begins anywhere but in quotes.
pub fn without_comment(line: &str) -> &str {
    let escaped = ('\\', any).void();
    let quoted = |quote: char| {
        let inner = repeat::<_, _, (), _, _>(0.., alt((('\\', any).void(), none_of(quote).void())));
        (quote, inner, opt(quote)).void()
    };
    let piece = alt((escaped, quoted('"'), quoted('\''), none_of(['#', '!']).void()));
    let mut code = repeat::<_, _, (), winnow::error::ContextError, _>(0.., piece).take();
    let mut input = line;
    code.parse_next(&mut input).unwrap_or(line)
}

/// The tokens of a line, each with its column from 1 on.
pub fn tokens(line: &str) -> Vec<(usize, Token)> {
    let mut input = line;
    let mut all = Vec::new();
    loop {
        let _ = space(&mut input);
        let column = line[..line.len() - input.len()].chars().count() + 1;
        match token(&mut input) {
            Ok(token) => all.push((column, token)),
            Err(_) => return all,
        }
    }
}

fn space(input: &mut &str) -> Result<()> {
    multispace0.void().parse_next(input)
}

fn token(input: &mut &str) -> Result<Token> {
    alt(('{'.value(Token::Open), '}'.value(Token::Close), word.map(Token::Word))).parse_next(input)
}

/// A word; quotes within it belong to it, and so do the braces of a variable that nobody has defined.
fn word(input: &mut &str) -> Result<String> {
    let variable = ("${", take_till(0.., '}'), "}").take().map(str::to_owned);
    let plain = none_of(|c: char| c.is_whitespace() || "{}".contains(c)).map(String::from);
    let piece = alt((quoted('"'), quoted('\''), variable, preceded('\\', escape), plain));
    repeat(1.., piece)
        .fold(String::new, |mut word, piece: String| {
            word.push_str(&piece);
            word
        })
        .parse_next(input)
}

fn quoted<'a>(quote: char) -> impl Parser<&'a str, String, winnow::error::ContextError> {
    let piece = alt((preceded('\\', escape), none_of(quote).map(String::from)));
    let inner = repeat(0.., piece).fold(String::new, |mut text, piece: String| {
        text.push_str(&piece);
        text
    });
    delimited(quote, inner, opt(quote))
}

/// What follows a backslash.
fn escape(input: &mut &str) -> Result<String> {
    let number = |digits: &str, radix: u32| {
        u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).map(String::from)
    };
    let hex = preceded('x', take_while(1..=2, |c: char| c.is_ascii_hexdigit()));
    let octal = take_while(1..=3, '0'..='7');
    let control = preceded('c', any).map(|c: char| char::from((c as u32 & 0x1f) as u8).to_string());
    let letter = one_of(['a', 'b', 'E', 'f', 'n', 'r', 't', 'v']).map(|c: char| {
        let is = match c {
            'a' => '\x07',
            'b' => '\x08',
            'E' => '\x1b',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            _ => '\x0b',
        };
        is.to_string()
    });
    alt((
        hex.verify_map(move |digits| number(digits, 16)),
        octal.verify_map(move |digits| number(digits, 8)),
        control,
        letter,
        any.map(String::from),
    ))
    .parse_next(input)
}

/// `@host` or `@^host`: whether it is for that host, which host, and the rest of the line.
pub fn condition(line: &str) -> Option<(bool, &str, &str)> {
    let id = take_till(1.., char::is_whitespace);
    let mut parser =
        (preceded((multispace0::<_, winnow::error::ContextError>, '@'), opt('^')), id, rest);
    let (not, id, rest) = parser.parse(line).ok()?;
    Some((not.is_none(), id, rest))
}

/// `$NAME=value`.
pub fn definition(line: &str) -> Option<(&str, &str)> {
    let mut parser =
        (preceded((multispace0::<_, winnow::error::ContextError>, '$'), name), preceded('=', rest));
    parser.parse(line).ok()
}

fn name<'a>(input: &mut &'a str) -> std::result::Result<&'a str, winnow::error::ContextError> {
    take_while(1.., |c: char| c.is_ascii_alphanumeric() || c == '_').parse_next(input)
}

/// `$NAME` or `${NAME}` at the beginning: the name, and how long it is.
pub fn variable(text: &str) -> Option<(&str, usize)> {
    let mut input = text;
    let braced = delimited("${", take_till(1.., '}'), '}');
    let found: Result<&str> = alt((braced, preceded('$', name))).parse_next(&mut input);
    Some((found.ok()?, text.len() - input.len()))
}

/// What each round defines: names, and their values.
pub type Rounds = Vec<Vec<(String, String)>>;

/// `~SEQ(NAME, start, step, end)`, `~SEQx(…)` or `~LST(…)`: what each round defines, and the rest of the line.
pub fn rounds(line: &str) -> Option<(Rounds, &str)> {
    let trimmed = line.trim_start();
    if let Some(inner) = trimmed.strip_prefix("~SEQ") {
        return sequence(inner);
    }
    trimmed.strip_prefix("~LST").and_then(listed)
}

/// So many rounds are none that anybody means.
const ROUNDS_MAX: i64 = 100_000;

fn sequence(text: &str) -> Option<(Rounds, &str)> {
    let head = |input: &mut &str| -> Result<(bool, String)> {
        let inner = delimited('(', take_till(1.., ')'), ')').map(str::to_owned);
        (opt('x').map(|hex: Option<char>| hex.is_some()), inner).parse_next(input)
    };
    let mut head = head;
    let mut behind = text;
    let (hex, inner) = head.parse_next(&mut behind).ok()?;
    let mut parts = inner.split(',').map(str::trim);
    let name = parts.next()?.to_owned();
    let number = |text: &str| {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let parsed = match digits.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        parsed.ok().filter(|number| *number < 1 << 40).map(|number| sign * number)
    };
    let numbers: Vec<i64> = parts.map(number).collect::<Option<_>>()?;
    let (start, step, end) = match numbers[..] {
        [end] => (end.signum(), end.signum(), end),
        [start, end] => (start, if end < start { -1 } else { 1 }, end),
        [start, step, end] => (start, step, end),
        _ => return None,
    };
    if step == 0 || (end - start) / step > ROUNDS_MAX {
        return None;
    }
    let mut all = Vec::new();
    let mut at = start;
    while (step > 0 && at <= end) || (step < 0 && at >= end) {
        let value = if hex { format!("{at:x}") } else { at.to_string() };
        all.push(vec![(name.clone(), value)]);
        at += step;
    }
    Some((all, behind))
}

fn listed(text: &str) -> Option<(Rounds, &str)> {
    let group = |input: &mut &str| -> Result<Vec<String>> {
        let plain =
            |stop: &'static [char]| take_till(1.., stop).map(|text: &str| text.trim().to_owned());
        let several = delimited(
            (multispace0, '{'),
            separated(1.., plain(&[',', '}']), ','),
            ('}', multispace0),
        );
        alt((several, plain(&[',', ')', '{', '}']).map(|one| vec![one]))).parse_next(input)
    };
    let all = |input: &mut &str| -> Result<Vec<Vec<String>>> {
        delimited('(', separated(2.., group, ','), ')').parse_next(input)
    };
    let mut all = all;
    let mut behind = text;
    let mut groups = all.parse_next(&mut behind).ok()?;
    let names = groups.remove(0);
    let fits = groups.iter().all(|group| group.len() == names.len());
    let pairs = |group: Vec<String>| names.iter().cloned().zip(group).collect();
    fits.then(|| (groups.into_iter().map(pairs).collect(), behind))
}

/// The arguments of a script: blanks separate them, quotes and backslashes keep them together.
pub fn arguments(text: &str) -> Vec<String> {
    let only_words = |(_, token)| match token {
        Token::Word(word) => word,
        Token::Open => "{".into(),
        Token::Close => "}".into(),
    };
    tokens(text).into_iter().map(only_words).collect()
}

/// Whether a word could only be meant for a shell.
pub fn is_shell(text: &str) -> bool {
    let plain = |input: &mut &str| -> Result<()> {
        repeat::<_, _, (), _, _>(
            1..,
            alt((
                alphanumeric1.void(),
                none_of([
                    '|', '&', ';', '<', '>', '`', '$', '(', ')', '*', '?', '[', ']', '{', '}',
                ])
                .void(),
            )),
        )
        .parse_next(input)
    };
    let mut plain = plain;
    plain.parse(text).is_err()
}
