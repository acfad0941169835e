//! `turnip history`: how VIPs came to where they are, as their hosts tell it in etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use turnip::config::{Reach, Sources};
use turnip_core::records::decode;
use turnip_core::text;
use turnip_core::{
    HISTORY_SLOTS, HistoryRecord, KeyKind, KeyValue, Keys, NodeName, Revision, Transition, VipName,
    Why,
};

use super::intents::{finish, known, overview};
use super::status::shown;
use super::table::{Table, how_long};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
The oldest first. Every host keeps its own last 32 transactions, written into etcd by the same \
transaction that moved the VIPs: so what stands here has happened. Times are those of the hosts' \
own clocks, shown in UTC.";

/// Of the form of the JSON; what goes, or means something else, raises it.
const SCHEMA: u32 = 1;
/// The end of the year 9999: somebody may have written anything.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;
/// More names than that are counted.
const NAMES_SHOWN: usize = 3;

/// Of what, and how to show it.
#[derive(Args)]
pub struct HistoryArgs {
    /// Only this VIP's [default: all]
    #[arg(value_name = "VIP")]
    vip: Option<VipName>,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Shows what has happened.
pub fn history(sources: &Sources, args: &HistoryArgs) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    finish(&reach, async |cluster, state| {
        let all = History::new(&cluster.keys, state.kvs());
        let all = match &args.vip {
            Some(vip) => {
                let overview = overview(cluster, state);
                let names: BTreeSet<&VipName> = overview.vips.keys().chain(all.vips()).collect();
                known("VIP", vip.as_str(), names.into_iter().map(VipName::as_str))?;
                all.of(vip)
            }
            None => all,
        };
        if args.json {
            let answer = Answer { schema: SCHEMA, cluster: reach.cluster.as_str(), history: &all };
            let json = serde_json::to_string_pretty(&answer).expect("its keys are strings");
            return Ok(json + "\n");
        }
        Ok(all.text())
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    cluster: &'a str,
    #[serde(flatten)]
    history: &'a History,
}

/// What is told, the oldest first.
#[derive(Serialize)]
struct History {
    transitions: Vec<Entry>,
    /// Values that this version cannot read, and why.
    unreadable: BTreeMap<String, String>,
}

/// What happened to some VIPs at one revision.
#[derive(Serialize)]
struct Entry {
    /// By the clock of the host that tells it, in ms since 1970.
    at_unix_ms: u64,
    /// The store's, at which it happened.
    revision: Revision,
    /// Which host tells it.
    by: NodeName,
    #[serde(flatten)]
    what: Transition,
    /// How long `from` had had them, in ms, where its beginning is told too.
    held_ms: Option<u64>,
}

impl History {
    fn new<'a>(keys: &Keys, kvs: impl Iterator<Item = &'a KeyValue>) -> Self {
        let (mut records, mut unreadable) = (Vec::new(), BTreeMap::new());
        for kv in kvs {
            let KeyKind::History(by, _) = keys.kind(&kv.key) else { continue };
            match decode::<HistoryRecord>(&kv.value) {
                Ok(record) => records.push((kv.mod_revision, by, record)),
                Err(error) => {
                    unreadable.insert(kv.key.clone(), error.to_string());
                }
            }
        }
        records.sort_by_key(|(revision, ..)| *revision);
        let mut transitions = Vec::new();
        let mut since: BTreeMap<VipName, (Option<NodeName>, u64)> = BTreeMap::new();
        for (revision, by, record) in records {
            for what in record.transitions {
                let held_ms = held(&what, record.at_unix_ms, &since);
                for vip in &what.vips {
                    since.insert(vip.clone(), (what.to.clone(), record.at_unix_ms));
                }
                let (at_unix_ms, by) = (record.at_unix_ms, by.clone());
                transitions.push(Entry { at_unix_ms, revision, by, what, held_ms });
            }
        }
        History { transitions, unreadable }
    }

    /// The VIPs that are told of.
    fn vips(&self) -> impl Iterator<Item = &VipName> {
        self.transitions.iter().flat_map(|entry| &entry.what.vips)
    }

    /// What is told of one VIP: what befell its owners, too.
    fn of(mut self, vip: &VipName) -> Self {
        let mut owner: Option<NodeName> = None;
        self.transitions.retain_mut(|entry| {
            if entry.what.vips.is_empty() {
                // Somebody's session was ended, and what it had became free.
                return entry.what.from.is_some() && entry.what.from == owner;
            }
            let is_told = entry.what.vips.contains(vip);
            if is_told {
                owner.clone_from(&entry.what.to);
                entry.what.vips = vec![vip.clone()];
            }
            is_told
        });
        self
    }

    fn text(&self) -> String {
        let mut text = match self.transitions.is_empty() {
            true => "nothing is told yet: that begins with the next transition\n".to_owned(),
            false => {
                let mut table = Table::new(&["WHEN (UTC)", "VIP", "FROM", "TO", "HELD FOR", "WHY"]);
                self.transitions.iter().for_each(|entry| table.row(entry.row()));
                table.render()
            }
        };
        for (key, why) in &self.unreadable {
            text += &format!("{key} is left alone: {why}\n");
        }
        text
    }
}

/// How long the former owner of all of its VIPs had had them, where that is about the same for all.
fn held(
    what: &Transition,
    at_unix_ms: u64,
    since: &BTreeMap<VipName, (Option<NodeName>, u64)>,
) -> Option<u64> {
    let from = what.from.as_ref()?;
    let of = |vip: &VipName| match since.get(vip) {
        Some((Some(owner), at)) if owner == from => Some(at_unix_ms.saturating_sub(*at)),
        _ => None,
    };
    let all: Vec<u64> = what.vips.iter().map(of).collect::<Option<_>>()?;
    let (least, most) = (all.iter().min()?, all.iter().max()?);
    (most - least < 1_000).then_some(*least)
}

impl Entry {
    fn row(&self) -> Vec<String> {
        let at = Duration::from_millis(self.at_unix_ms.min(UNIX_MS_MAX));
        let when = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + at).to_string();
        vec![
            when.replace('T', " ").replace('Z', ""),
            names(&self.what.vips),
            shown(self.what.from.as_ref()),
            shown(self.what.to.as_ref()),
            shown(self.held_ms.map(how_long)),
            words(&self.what),
        ]
    }
}

fn names(vips: &[VipName]) -> String {
    let shown: Vec<&str> = vips.iter().take(NAMES_SHOWN).map(VipName::as_str).collect();
    match vips.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

/// Why, for people.
fn words(what: &Transition) -> String {
    let name = |node: &Option<NodeName>| shown(node.as_ref());
    let (from, to) = (name(&what.from), name(&what.to));
    // It is what another host's kernel said, or anybody.
    let detail = text::shown(what.detail.as_deref().unwrap_or("it does not say why"));
    let why = match what.why {
        Why::Silent if what.vips.is_empty() => {
            return format!(
                "{from} was silent for {}; others claim what it had",
                how_long(what.after_ms)
            );
        }
        Why::Silent => return format!("{from} was silent for {}", how_long(what.after_ms)),
        Why::Free => {
            let free = match what.after_ms {
                0 => "it was free".to_owned(),
                ms => format!("it was free for {}", briefly(ms)),
            };
            return match what.from {
                Some(_) => format!("{free}: the session of {from} was over"),
                None => free,
            };
        }
        Why::Preferred => format!("{to} is preferred"),
        Why::Pinned => format!("an operator pinned it to {to}"),
        Why::Drained => format!("an operator drains {from}"),
        Why::Stopped => format!("turnip on {from} stopped"),
        Why::Blocked => format!("{from} cannot hold it: {detail}"),
        Why::Conflict => detail,
        Why::NotConfigured => format!("{from} is not configured with it any more"),
    };
    match what.after_ms {
        0 => why,
        ms => format!("{why}; let go within {}", briefly(ms)),
    }
}

fn briefly(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { how_long(ms) }
}

/// How many transactions of each host are kept, as the help says it.
const _: () = assert!(HISTORY_SLOTS == 32);

#[cfg(test)]
mod tests {
    use turnip_core::records::encode;

    use super::*;

    fn keys() -> Keys {
        Keys::new(&"main".parse().unwrap())
    }

    fn name(name: &str) -> Option<NodeName> {
        Some(name.parse().unwrap())
    }

    fn moved(vips: &[&str], from: Option<&str>, to: Option<&str>, why: Why) -> Transition {
        Transition {
            vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
            from: from.and_then(name),
            to: to.and_then(name),
            why,
            detail: None,
            after_ms: 0,
        }
    }

    fn kv(by: &str, slot: u8, revision: i64, at_unix_ms: u64, what: Transition) -> KeyValue {
        KeyValue {
            key: keys().history(&by.parse().unwrap(), slot),
            value: encode(&HistoryRecord { at_unix_ms, transitions: vec![what] }),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
        }
    }

    fn example() -> Vec<KeyValue> {
        let silent =
            Transition { after_ms: 3_031, ..moved(&["v"], Some("b"), Some("a"), Why::Silent) };
        let drained =
            Transition { after_ms: 7, ..moved(&["v"], Some("a"), Some("b"), Why::Drained) };
        vec![
            kv("a", 1, 30, 70_000, silent),
            kv("a", 0, 10, 1_000, moved(&["v", "w"], None, Some("a"), Why::Free)),
            kv("c", 0, 15, 2_000, moved(&[], Some("d"), None, Why::Silent)),
            kv("a", 2, 20, 4_000, drained),
        ]
    }

    #[test]
    fn what_hosts_tell_is_put_in_order_with_reasons_and_durations() {
        let history = History::new(&keys(), example().iter());
        assert_eq!(
            history.text(),
            "\
WHEN (UTC)           VIP  FROM  TO  HELD FOR   WHY
1970-01-01 00:00:01  v w  -     a   -          it was free
1970-01-01 00:00:02  -    d     -   -          d was silent for 0.0 s; others claim what it had
1970-01-01 00:00:04  v    a     b   3.0 s      an operator drains a; let go within 7 ms
1970-01-01 00:01:10  v    b     a   1 min 6 s  b was silent for 3.0 s
"
        );
    }

    #[test]
    fn of_one_vip_only_that_is_shown_which_befell_it_or_its_owner() {
        let mut kvs = example();
        kvs.push(kv("c", 1, 40, 90_000, moved(&[], Some("a"), None, Why::Silent)));
        let of_v = History::new(&keys(), kvs.iter()).of(&"v".parse().unwrap());
        let revisions: Vec<i64> = of_v.transitions.iter().map(|entry| entry.revision.0).collect();
        assert_eq!(revisions, [10, 20, 30, 40]);
        assert!(of_v.transitions.iter().take(3).all(|e| e.what.vips == ["v".parse().unwrap()]));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_what_others_wrote_does_not_reach_the_terminal() {
        let detail = Some("\u{1b}[2J\nit is down".to_owned());
        let what = Transition { detail, ..moved(&["v"], Some("a"), None, Why::Blocked) };
        let mut kvs = vec![kv("a", 0, 5, u64::MAX, what)];
        kvs.push(KeyValue {
            key: keys().history(&"b".parse().unwrap(), 3),
            value: b"?".into(),
            ..kvs[0].clone()
        });
        let text = History::new(&keys(), kvs.iter()).text();
        assert!(!text.contains('\u{1b}') && text.contains("it is down"), "{text:?}");
        assert!(text.starts_with("WHEN") && text.contains("9999-12-31"), "{text}");
        assert!(text.contains("history/b/03 is left alone"), "{text}");
    }

    #[test]
    fn many_vips_are_counted() {
        let many: Vec<VipName> = (0..9).map(|i| format!("v{i}").parse().unwrap()).collect();
        assert_eq!(names(&many), "v0 v1 v2 and 6 more");
    }
}
