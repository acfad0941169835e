//! What turnip does about etcd's growth: `compact` and `quota` of the table `[etcd]`.

use std::time::Duration;

use turnip_core::compaction::KEEP;

use super::problem::Collector;
use super::section::Section;
use super::values;

/// Less history is of no use to anybody who watches.
pub(super) const KEEP_MIN: Duration = Duration::from_secs(2);

/// What turnip does about etcd's growth.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Growth {
    /// Whether it compacts.
    pub compact: Compact,
    /// To how many bytes etcd's database may grow, for when etcd does not say.
    pub quota: Option<u64>,
}

/// Whether turnip compacts etcd's history.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Compact {
    /// Where etcd holds nothing but turnip's keys; an hour is kept.
    #[default]
    Auto,
    /// Never.
    Never,
    /// Whatever else etcd holds; so much is kept.
    Keep(Duration),
}

impl Compact {
    /// How much is kept; none where turnip does not compact.
    pub fn keep(self) -> Option<Duration> {
        match self {
            Compact::Auto => Some(KEEP),
            Compact::Never => None,
            Compact::Keep(keep) => Some(keep),
        }
    }
}

/// Reads what the table says of it.
pub(super) fn read(etcd: &mut Section, problems: &mut Collector) -> Growth {
    let compact = etcd.read("compact", problems, |given| compact(given.as_text()?));
    let quota = etcd.read("quota", problems, |given| bytes(given.as_text()?));
    Growth { compact: compact.unwrap_or_default(), quota }
}

fn compact(text: &str) -> Result<Compact, String> {
    match text.trim() {
        "auto" => Ok(Compact::Auto),
        "never" => Ok(Compact::Never),
        text => match history(text) {
            Ok(keep) if keep >= KEEP_MIN => Ok(Compact::Keep(keep)),
            Ok(_) => Err("too short; an hour of history is usual: \"1h\"".into()),
            Err(_) => {
                Err("not a way to compact; write \"auto\", \"never\", or how much history is kept, as in \"1h\"".into())
            }
        },
    }
}

/// A duration, which may be in hours: of history one keeps more than of a lease.
fn history(text: &str) -> Result<Duration, String> {
    let hours = text.strip_suffix('h').and_then(|hours| hours.trim().parse::<u32>().ok());
    match hours {
        Some(hours) => Ok(Duration::from_secs(3600) * hours),
        None => values::duration(text),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || {
        "not a size; write it as etcd has it in --quota-backend-bytes, or with a unit, as in \"8GiB\"".to_owned()
    };
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit.trim() {
        "" => 1,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_is_automatic_never_or_with_what_is_kept() {
        assert_eq!(compact("auto"), Ok(Compact::Auto));
        assert_eq!(compact("never"), Ok(Compact::Never));
        assert_eq!(compact("1h"), Ok(Compact::Keep(Duration::from_secs(3600))));
        for wrong in ["", "yes", "1", "1s", "0s", "-1h"] {
            assert!(compact(wrong).unwrap_err().contains("\"1h\""), "{wrong}");
        }
        assert_eq!(Compact::default().keep(), Some(KEEP));
    }

    #[test]
    fn a_quota_has_the_units_that_people_give_etcd() {
        assert_eq!(bytes("8GiB"), Ok(8 << 30));
        assert_eq!(bytes("512 MiB"), Ok(512 << 20));
        assert_eq!(bytes("8589934592"), Ok(8 << 30));
        for wrong in ["", "8GB", "eight", "0", "99999999999GiB"] {
            assert!(bytes(wrong).unwrap_err().contains("8GiB"), "{wrong}");
        }
    }
}
