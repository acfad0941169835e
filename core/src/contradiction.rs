//! Whether two things that are said of one key can both be true of one history of the store (A2).
//!
//! A key is known *as of* a revision: from its last write on, up to there, it was not touched. What is
//! said of it later, or was true before, has to fit that.

use std::fmt;
use std::hash::Hasher;

use crate::name::Revision;
use crate::store::KeyValue;

/// A write of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Write {
    /// When the key came to be; 0 where that is not known.
    pub(crate) created: Revision,
    /// When it was written.
    pub(crate) modified: Revision,
}

/// A key's last write, or absence, as of a revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fact {
    pub(crate) as_of: Revision,
    pub(crate) write: Option<Write>,
}

/// How something came to be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// By an answer or a snapshot: what was between is not told.
    Once,
    /// By the watch, which leaves nothing out.
    InOrder,
}

/// Why two things cannot both be true.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contradiction {
    /// The key is at an older write than it was.
    WentBack { is: Revision, was: Revision },
    /// The key was written when it was known not to be.
    Between { is: Revision, known_until: Revision },
    /// The key came to be at another revision than before, and was there all the while.
    Recreated { is: Revision, was: Revision },
    /// The key is absent, or was, when it was known to be there, or the other way round.
    Presence { is: bool, as_of: Revision },
    /// The same write has another value.
    OtherContent { at: Revision },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contradiction::WentBack { is, was } => {
                write!(f, "was last written at revision {is}, and at {was} before")
            }
            Contradiction::Between { is, known_until } => write!(
                f,
                "was written at revision {is}, and up to {known_until} there was no such write"
            ),
            Contradiction::Recreated { is, was } => write!(
                f,
                "came to be at revision {is}, and at {was} before, and nobody has deleted it"
            ),
            Contradiction::Presence { is: true, as_of } => {
                write!(f, "is there, and as of revision {as_of} it was not")
            }
            Contradiction::Presence { is: false, as_of } => {
                write!(f, "is absent as of revision {as_of}, and was there then")
            }
            Contradiction::OtherContent { at } => {
                write!(f, "has another value than the one that was written at revision {at}")
            }
        }
    }
}

/// Why what is `told` of a key cannot be of the same history as what is `known` of it.
pub(crate) fn contradiction(known: Fact, told: Fact, how: Told) -> Option<Contradiction> {
    match (known.write, told.write) {
        (Some(before), Some(now)) => of_writes((known, before), (told, now), how),
        (None, Some(now)) => {
            let since = if now.created > Revision(0) { now.created } else { now.modified };
            let was_there = since <= known.as_of && known.as_of <= told.as_of;
            was_there.then_some(Contradiction::Presence { is: true, as_of: known.as_of })
        }
        (Some(before), None) => {
            let since = if before.created > Revision(0) { before.created } else { before.modified };
            let is_there = since <= told.as_of && told.as_of <= known.as_of;
            is_there.then_some(Contradiction::Presence { is: false, as_of: told.as_of })
        }
        (None, None) => None,
    }
}

fn of_writes(
    (known, before): (Fact, Write),
    (told, now): (Fact, Write),
    how: Told,
) -> Option<Contradiction> {
    if now.modified < before.modified && told.as_of >= before.modified {
        return Some(Contradiction::WentBack { is: now.modified, was: before.modified });
    }
    if now.modified > before.modified && now.modified <= known.as_of {
        let known_until = known.as_of;
        return Some(Contradiction::Between { is: now.modified, known_until });
    }
    if before.created == now.created || before.created.0 == 0 || now.created.0 == 0 {
        return None;
    }
    // It may have been deleted and have come back after the earlier of the two was true.
    let (earlier, came_back) = match now.modified > before.modified {
        true => (known.as_of, now.created),
        false => (told.as_of, before.created),
    };
    let is_seen = how == Told::InOrder && now.modified > before.modified;
    let is_same_write = now.modified == before.modified;
    (is_seen || is_same_write || came_back <= earlier)
        .then_some(Contradiction::Recreated { is: now.created, was: before.created })
}

/// What stands in for a value, to see whether it is another one.
pub(crate) fn digest(kv: &KeyValue) -> u64 {
    let mut hash = Fnv::default();
    hash.write(&kv.value);
    hash.finish()
}

/// FNV-1a: quick, nobody's secret, and the same on every machine and from version to version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xCBF2_9CE4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        let add =
            |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        self.0 = bytes.iter().fold(self.0, add);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(created: i64, modified: i64, as_of: i64) -> Fact {
        let write = Write { created: Revision(created), modified: Revision(modified) };
        Fact { as_of: Revision(as_of), write: Some(write) }
    }

    const fn absent(as_of: i64) -> Fact {
        Fact { as_of: Revision(as_of), write: None }
    }

    fn once(known: Fact, told: Fact) -> Option<Contradiction> {
        contradiction(known, told, Told::Once)
    }

    /// Rule 9.8.
    #[test]
    fn old_news_and_new_ones_fit_and_a_write_that_is_gone_does_not() {
        let known = there(3, 5, 9);
        for fits in [there(3, 5, 7), there(3, 5, 12), there(3, 4, 4), there(3, 10, 10)] {
            assert_eq!(once(known, fits), None, "{fits:?}");
        }
        let (is, was) = (Revision(4), Revision(5));
        assert_eq!(
            once(known, there(3, 4, 1_000)),
            Some(Contradiction::WentBack { is, was }),
            "at a lower mod_revision, however high the store's revision is"
        );
        let (is, known_until) = (Revision(8), Revision(9));
        let between = Some(Contradiction::Between { is, known_until });
        assert_eq!(once(known, there(3, 8, 8)), between);
        assert_eq!(once(known, there(3, 8, 1_000)), between);
    }

    /// Rule 9.8.
    #[test]
    fn a_key_that_came_to_be_anew_was_gone_meanwhile() {
        let known = there(3, 5, 9);
        assert_eq!(once(known, there(11, 12, 12)), None, "it may have been deleted at 10");
        let recreated = |is| Some(Contradiction::Recreated { is: Revision(is), was: Revision(3) });
        assert_eq!(once(known, there(9, 12, 12)), recreated(9), "it was there at 9");
        assert_eq!(once(known, there(4, 5, 12)), recreated(4), "the same write");
        let (told, how) = (there(11, 12, 12), Told::InOrder);
        assert_eq!(contradiction(known, told, how), recreated(11), "no deletion was told");
        assert_eq!(once(known, there(0, 12, 12)), None, "not known");
    }

    /// Rule 9.8.
    #[test]
    fn what_was_there_is_not_absent_then() {
        let known = there(3, 5, 9);
        assert_eq!(once(known, absent(12)), None, "deleted since");
        assert_eq!(once(known, absent(2)), None, "not there yet");
        assert!(once(known, absent(7)).is_some());
        assert_eq!(once(absent(9), there(10, 12, 12)), None);
        assert_eq!(once(absent(9), there(3, 5, 7)), None, "deleted in between");
        assert!(once(absent(9), there(3, 5, 12)).is_some());
    }
}
