//! Keys under the prefix that cannot be read: each is told once, and left alone (rule 9.6).
//!
//! Anybody who may write to etcd can make as many as he likes, of any length: of each a number is kept, of
//! so many, and of the rest only how many there were.

use std::collections::BTreeSet;
use std::hash::Hasher;

use super::outbox::Outbox;
use crate::contradiction::Fnv;
use crate::keys::{KeyKind, Keys};
use crate::report::Report;
use crate::text;
use crate::view::View;

/// So many are remembered.
const KNOWN_MAX: usize = 1024;
/// So many are told one by one, of those that are no key of turnip's.
const FOREIGN_TOLD_MAX: u64 = 8;

/// What was told already.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Unreadable {
    /// The keys, each as a number.
    known: BTreeSet<u64>,
    /// How many there have been.
    count: u64,
    /// How many of them are no key of turnip's.
    foreign: u64,
}

impl Unreadable {
    /// Tells of `key` if it cannot be read and that was not told yet.
    pub(super) fn report(&mut self, keys: &Keys, view: &View, key: &str, out: &mut Outbox) {
        let kind = keys.kind(key);
        let is_foreign = kind == KeyKind::Foreign;
        let why = match view.unreadable(keys, key) {
            _ if is_foreign => "it is no key of this version of turnip".to_owned(),
            Some(error) => error.to_string(),
            None => {
                // When it breaks again that is told again.
                if !self.known.is_empty() {
                    self.known.remove(&number(key));
                }
                return;
            }
        };
        if self.known.contains(&number(key)) {
            return;
        }
        if self.known.len() < KNOWN_MAX {
            self.known.insert(number(key));
        }
        self.count += 1;
        self.foreign += u64::from(is_foreign);
        let is_many =
            is_foreign && self.foreign > FOREIGN_TOLD_MAX || self.count > KNOWN_MAX as u64;
        match is_many {
            false => out.report(Report::Unreadable { key: text::shown(key), why }),
            // Ever more seldom.
            true if self.count.is_power_of_two() => {
                out.report(Report::UnreadableKeys { count: self.count });
            }
            true => {}
        }
    }
}

fn number(key: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.write(key.as_bytes());
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::name::Revision;
    use crate::store::KeyValue;

    fn reports(out: &mut Outbox) -> Vec<Report> {
        let report = |action| match action {
            Action::Report(report) => Some(report),
            _ => None,
        };
        std::iter::from_fn(|| out.pop()).filter_map(report).collect()
    }

    fn keys() -> Keys {
        Keys::new(&"main".parse().unwrap())
    }

    /// Rule 9.6.
    #[test]
    fn foreign_keys_are_told_once_shortly_and_then_only_counted() {
        let (keys, view) = (keys(), View::default());
        let (mut unreadable, mut out) = (Unreadable::default(), Outbox::default());
        let name = |number: usize| format!("/turnip/main/{number}\n{}", "x".repeat(1 << 16));
        for number in 0..40 {
            for _ in 0..3 {
                unreadable.report(&keys, &view, &name(number), &mut out);
            }
        }
        let told = reports(&mut out);
        let one_by_one = told.iter().filter(|one| matches!(one, Report::Unreadable { .. }));
        assert_eq!(one_by_one.count() as u64, FOREIGN_TOLD_MAX, "{told:?}");
        assert_eq!(told.last(), Some(&Report::UnreadableKeys { count: 32 }));
        for line in told.iter().map(ToString::to_string) {
            assert!(line.len() < 400 && !line.contains('\n'), "{line}");
        }
        (0..100_000).for_each(|number: usize| {
            let key = format!("/turnip/main/{number}");
            unreadable.report(&keys, &view, &key, &mut out);
        });
        assert_eq!(unreadable.known.len(), KNOWN_MAX);
        assert!(reports(&mut out).len() < 20);
    }

    /// Rule 9.6.
    #[test]
    fn a_record_that_was_mended_is_told_again_when_it_breaks_again() {
        let (keys, mut view) = (keys(), View::default());
        let (mut unreadable, mut out) = (Unreadable::default(), Outbox::default());
        let key = keys.pin(&"v".parse().unwrap());
        let mut told = |value: &str, at| {
            let kv = KeyValue {
                key: key.clone(),
                value: value.into(),
                create_revision: Revision(1),
                mod_revision: Revision(at),
            };
            view.learn(&keys, &key, Some(&kv), Revision(at));
            unreadable.report(&keys, &view, &key, &mut out);
            reports(&mut out).len()
        };
        assert_eq!([told("?", 2), told("??", 3)], [1, 0]);
        assert_eq!([told(r#"{"v":1,"node":"a"}"#, 4), told("?", 5)], [0, 1]);
    }
}
