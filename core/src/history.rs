//! What became of VIPs, for people: `history/<node>/<slot>`.
//!
//! A transaction that changes an owner also writes what it does, and why. So it says so exactly when it
//! happened, and costs no write of its own. Each node has [`HISTORY_SLOTS`] keys, which it writes in
//! turn: that bounds it. Nothing is decided by it, and no daemon reads it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{NodeName, VipName};
use crate::records::Record;

/// So many transactions of a node are told; the next one takes the place of the oldest.
pub const HISTORY_SLOTS: u8 = 32;

/// What the kernel says may be long, and each host has it in memory once.
const DETAIL_BYTES_MAX: usize = 200;

/// `history/<node>/<slot>`: what one transaction of that node changed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// When it was sent, by the node's wall clock, in ms since 1970.
    pub at_unix_ms: u64,
    /// What it changed.
    pub transitions: Vec<Transition>,
}

impl Record for HistoryRecord {}

/// VIPs that went from one node to another for one reason.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Transition {
    /// Which; none where a session was ended and others claim what it had.
    pub vips: Vec<VipName>,
    /// Whom `vips/` named before, whether or not it had a session still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NodeName>,
    /// Whom it names now; nobody where they are given free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<NodeName>,
    /// Why.
    pub why: Why,
    /// The same in words, where `why` alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// By the clock of the node that writes, until it wrote: how long `from` had been silent as its
    /// lease counts (`silent`), how long it had been free (`free`), and how long ago it was given up (all others).
    pub after_ms: u64,
}

/// Why a VIP has another owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Its owner was not heard for its lease, and its session was ended.
    Silent,
    /// It was free: nobody was named, or one whose session is over.
    Free,
    /// Placement preferred the other node.
    Preferred,
    /// An operator pinned it to the other node.
    Pinned,
    /// An operator drains its owner.
    Drained,
    /// Its owner stopped.
    Stopped,
    /// Its owner's kernel could not hold it.
    Blocked,
    /// One of its addresses is another VIP's.
    Conflict,
    /// Its owner is not configured with it any more.
    NotConfigured,
}

impl HistoryRecord {
    pub(crate) fn new(at_unix_ms: u64) -> Self {
        HistoryRecord { at_unix_ms, transitions: Vec::new() }
    }

    /// Adds what happens to one VIP; those to which the same happens are told together.
    pub(crate) fn add(&mut self, vip: VipName, what: Transition) {
        let is_alike = |one: &&mut Transition| {
            (&one.from, &one.to, one.why, &one.detail, one.after_ms)
                == (&what.from, &what.to, what.why, &what.detail, what.after_ms)
        };
        match self.transitions.iter_mut().find(is_alike) {
            Some(one) => one.vips.push(vip),
            None => self.transitions.push(Transition { vips: vec![vip], ..what }),
        }
    }
}

/// A duration as records have it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `text` within the bound of a detail.
pub(crate) fn detail(text: String) -> String {
    match text.len() > DETAIL_BYTES_MAX {
        true => text[..text.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned() + "…",
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{decode, encode};

    fn moved(why: Why, after_ms: u64) -> Transition {
        let name = |name: &str| Some(name.parse().unwrap());
        Transition { vips: vec![], from: name("a"), to: name("b"), why, detail: None, after_ms }
    }

    #[test]
    fn vips_to_which_the_same_happens_are_told_together() {
        let mut record = HistoryRecord::new(1_000);
        record.add("v".parse().unwrap(), moved(Why::Drained, 4));
        record.add("w".parse().unwrap(), moved(Why::Drained, 4));
        record.add("x".parse().unwrap(), moved(Why::Blocked, 4));
        let json = encode(&record);
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"v":1,"at_unix_ms":1000,"transitions":[{"vips":["v","w"],"from":"a","to":"b","why":"drained","after_ms":4},{"vips":["x"],"from":"a","to":"b","why":"blocked","after_ms":4}]}"#
        );
        assert_eq!(decode(&json), Ok(record));
    }

    /// As turnip wrote it first. What is written here is read by other versions, and these are not asked.
    const FIRST_FORM: &str = r#"{"v":1,"at_unix_ms":1764230000000,"transitions":[{"vips":["api","db"],"from":"a","to":"b","why":"silent","after_ms":3031},{"vips":[],"from":"c","why":"silent","after_ms":3040},{"vips":["web"],"from":"a","to":"b","why":"blocked","detail":"interface eth0 is down","after_ms":7},{"vips":["web"],"to":"a","why":"free","after_ms":0}]}"#;

    #[test]
    fn a_record_of_the_first_form_is_read_and_written_as_it_was() {
        let record: HistoryRecord = decode(FIRST_FORM.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&encode(&record)).unwrap(), FIRST_FORM);
        let steps: Vec<_> = record.transitions.iter().map(|step| step.why).collect();
        assert_eq!(steps, [Why::Silent, Why::Silent, Why::Blocked, Why::Free]);
        let words = [
            "silent",
            "free",
            "preferred",
            "pinned",
            "drained",
            "stopped",
            "blocked",
            "conflict",
            "not-configured",
        ];
        for why in words {
            let form = FIRST_FORM.replace("\"blocked\"", &format!("{why:?}"));
            assert!(decode::<HistoryRecord>(form.as_bytes()).is_ok(), "{why}");
        }
    }

    #[test]
    fn fields_that_a_newer_turnip_adds_are_passed_over() {
        let newer = FIRST_FORM
            .replace("{\"v\":1,", "{\"v\":1,\"by\":{\"uid\":0},")
            .replace("\"after_ms\":7", "\"after_ms\":7,\"cost\":[1,2]");
        assert_ne!(newer, FIRST_FORM);
        assert_eq!(decode::<HistoryRecord>(newer.as_bytes()), decode(FIRST_FORM.as_bytes()));
    }

    #[test]
    fn a_reason_or_a_form_of_a_newer_turnip_is_an_error_and_no_other_reason() {
        for newer in
            [FIRST_FORM.replace("blocked", "weighed"), FIRST_FORM.replace("\"v\":1", "\"v\":2")]
        {
            assert!(decode::<HistoryRecord>(newer.as_bytes()).is_err(), "{newer}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        assert_eq!(detail("short".into()), "short");
        let cut = detail("ä".repeat(150));
        assert_eq!(cut, "ä".repeat(100) + "…");
    }
}
