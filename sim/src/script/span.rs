//! Times, which may be ranges: `10s`, or `5s..20s` for any time from 5 to 20 s.

use std::fmt;
use std::time::Duration;

use turnip::config::{Given, duration};

/// From which time to which one is chosen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span {
    /// At least.
    pub least: Duration,
    /// At most; not below `least`.
    pub most: Duration,
}

impl Span {
    /// Exactly this.
    pub fn exactly(time: Duration) -> Self {
        Span { least: time, most: time }
    }
}

/// Reads a time or a range of times.
pub(super) fn read(given: &Given) -> Result<Span, String> {
    let unitless = |_| "not a time; write it with its unit, as in \"10s\"".to_owned();
    let text = given.as_text().map_err(unitless)?;
    let Some((least, most)) = text.split_once("..") else {
        return duration(text.trim()).map(Span::exactly);
    };
    let (least, most) = (least.trim(), most.trim().trim_start_matches('='));
    let (from, to) = (duration(least)?, duration(most.trim())?);
    if to < from {
        return Err(format!("runs backwards; write \"{}..{least}\"", most.trim()));
    }
    Ok(Span { least: from, most: to })
}

/// A time as people write it.
pub fn human(time: Duration) -> String {
    let nanos = time.as_nanos();
    let number = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => "0 s".into(),
        1..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{} µs", number(nanos as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", number(nanos as f64 / 1e6)),
        _ => format!("{} s", number(nanos as f64 / 1e9)),
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least == self.most {
            true => f.write_str(&human(self.least)),
            false => write!(f, "{} to {}", human(self.least), human(self.most)),
        }
    }
}
