//! The historian: whether what turnip tells of its past (`history/`) is what happened, no more and no
//! less.

use std::collections::{BTreeMap, BTreeSet};

use turnip_core::records::{SessionRecord, VipRecord, decode};
use turnip_core::{HistoryRecord, KeyKind, KeyValue, Keys, NodeName, Op, Txn, VipName, Why};

use crate::time::{MS, True};

/// Who had a VIP before, and who has it after.
type Told = (VipName, Option<NodeName>, Option<NodeName>);

/// What a transaction changes, if it is carried out.
#[derive(Debug, Default)]
pub struct Changes {
    owners: BTreeSet<Told>,
    /// The sessions that it ends, with their leases in ms.
    ended: BTreeMap<NodeName, u64>,
    /// The sessions that it writes.
    written: Vec<NodeName>,
    told: Vec<HistoryRecord>,
}

impl Changes {
    /// What `txn` would change in a store whose newest values these are.
    pub fn of<'a>(keys: &Keys, txn: &Txn, newest: impl Fn(&str) -> Option<&'a KeyValue>) -> Self {
        let mut changes = Changes::default();
        for op in &txn.success {
            let (key, value) = match op {
                Op::Put { key, value } => (key, Some(value)),
                Op::Delete { key } => (key, None),
                Op::Get { .. } => continue,
            };
            let before = newest(key).map(|kv| &kv.value);
            match keys.kind(key) {
                KeyKind::Vip(vip) => {
                    let record = |value: &Vec<u8>| decode::<VipRecord>(value).ok();
                    let (from, to) = (before.and_then(record), value.and_then(record));
                    let session = |record: &Option<VipRecord>| record.as_ref().map(|r| r.session);
                    if session(&from) != session(&to) {
                        changes.owners.insert((vip, from.map(|r| r.node), to.map(|r| r.node)));
                    }
                }
                KeyKind::Session(node) if value.is_some() => changes.written.push(node),
                KeyKind::Session(node) => {
                    let record = before.and_then(|value| decode::<SessionRecord>(value).ok());
                    changes.ended.insert(node, record.map_or(0, |record| record.lease_ms));
                }
                KeyKind::History(..) => {
                    changes.told.extend(value.and_then(|value| decode(value).ok()));
                }
                _ => {}
            }
        }
        changes
    }
}

/// Holds what is told against what happens.
#[derive(Debug, Default)]
pub struct Historian {
    /// When each session was written last, in true time.
    written: BTreeMap<NodeName, True>,
    /// What was told and is not true, or is true and was not told.
    pub untrue: Vec<String>,
    /// How many transitions were told.
    pub told: u64,
}

impl Historian {
    /// A transaction of a daemon was carried out, which changed this.
    pub fn committed(&mut self, now: True, changes: &Changes) {
        self.written.extend(changes.written.iter().map(|node| (node.clone(), now)));
        let transitions = || changes.told.iter().flat_map(|record| &record.transitions);
        let told: BTreeSet<Told> = transitions()
            .flat_map(|one| {
                one.vips.iter().map(|vip| (vip.clone(), one.from.clone(), one.to.clone()))
            })
            .collect();
        if told != changes.owners {
            let owners = &changes.owners;
            self.untrue.push(format!("it is told {told:?}, and what happened is {owners:?}"));
        }
        for silent in transitions().filter(|one| one.why == Why::Silent) {
            let ended = silent.from.as_ref().and_then(|from| changes.ended.get_key_value(from));
            let Some((node, lease_ms)) = ended else {
                self.untrue.push(format!("{silent:?}: its session was not ended"));
                continue;
            };
            let since = self.written.get(node).map(|at| now.saturating_sub(*at) / MS);
            // The clock of who tells may be fast.
            let is_too_long = since.is_some_and(|since| silent.after_ms > since * 6 / 5 + 10);
            if silent.after_ms < *lease_ms || is_too_long {
                self.untrue.push(format!(
                    "{silent:?}: its lease is {lease_ms} ms, and it was written {since:?} ms ago"
                ));
            }
        }
        self.told += transitions().count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use turnip_core::records::encode;
    use turnip_core::{Revision, SessionId, Transition};

    use super::*;

    fn keys() -> Keys {
        Keys::new(&"sim".parse().unwrap())
    }

    fn owned(node: &str, session: i64) -> Vec<u8> {
        let (node, session) = (node.parse().unwrap(), SessionId(Revision(session)));
        encode(&VipRecord { node, session, since_unix_ms: 0 })
    }

    fn claim(by: &str, told: &[HistoryRecord]) -> Txn {
        let key = keys().vip(&"v".parse().unwrap());
        let mut success = vec![Op::Put { key, value: owned(by, 9) }];
        success.extend(told.iter().map(|record| Op::Put {
            key: keys().history(&by.parse().unwrap(), 0),
            value: encode(record),
        }));
        Txn { success, ..Txn::default() }
    }

    fn told(from: Option<&str>, to: &str, why: Why, after_ms: u64) -> HistoryRecord {
        let transition = Transition {
            vips: vec!["v".parse().unwrap()],
            from: from.map(|name| name.parse().unwrap()),
            to: Some(to.parse().unwrap()),
            why,
            detail: None,
            after_ms,
        };
        HistoryRecord { at_unix_ms: 0, transitions: vec![transition] }
    }

    fn untrue(before: Option<(&str, i64)>, txn: &Txn) -> usize {
        let before = before.map(|(node, session)| KeyValue {
            key: String::new(),
            value: owned(node, session),
            create_revision: Revision(1),
            mod_revision: Revision(1),
        });
        let changes = Changes::of(&keys(), txn, |_| before.as_ref());
        let mut historian = Historian::default();
        historian.committed(0, &changes);
        historian.untrue.len()
    }

    #[test]
    fn what_is_told_must_be_what_happened() {
        let free = |from| [told(from, "a", Why::Free, 0)];
        assert_eq!(untrue(None, &claim("a", &free(None))), 0);
        assert_eq!(untrue(None, &claim("a", &[])), 1, "not told");
        assert_eq!(untrue(Some(("b", 3)), &claim("a", &free(None))), 1, "of another");
        assert_eq!(untrue(Some(("b", 3)), &claim("a", &free(Some("b")))), 0);
        assert_eq!(untrue(Some(("a", 9)), &claim("a", &[])), 0, "put anew");
        assert_eq!(untrue(Some(("a", 9)), &claim("a", &free(Some("a")))), 1, "no transition");
    }

    #[test]
    fn nobody_is_silent_whose_session_is_not_ended() {
        let silent = told(Some("b"), "a", Why::Silent, 3_000);
        assert_eq!(untrue(Some(("b", 3)), &claim("a", &[silent])), 1);
    }
}
