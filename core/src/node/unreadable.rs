//! Keys under the prefix that cannot be read: each is told once, and left alone.

use std::collections::BTreeMap;

use super::outbox::Outbox;
use crate::keys::{KeyKind, Keys};
use crate::name::Revision;
use crate::report::Report;
use crate::view::View;

/// What was told already, with the revision of the value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Unreadable(BTreeMap<String, Revision>);

impl Unreadable {
    /// Tells of `key`, written at `modified`, if it cannot be read and that was not told yet.
    pub(super) fn report(
        &mut self,
        keys: &Keys,
        view: &View,
        key: &str,
        modified: Revision,
        out: &mut Outbox,
    ) {
        let why = match keys.kind(key) {
            KeyKind::Foreign => "it is no key of this version of turnip".to_owned(),
            _ => match view.unreadable(keys, key) {
                Some(error) => error.to_string(),
                None => return,
            },
        };
        if self.0.insert(key.to_owned(), modified) != Some(modified) {
            out.report(Report::Unreadable { key: key.to_owned(), why });
        }
    }
}
