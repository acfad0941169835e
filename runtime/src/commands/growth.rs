//! The daemon looks at how etcd grows, at a slow pace: says in time what must be done about it, and compacts
//! where nobody else does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use turnip::clock::HostClock;
use turnip::config::Growth;
use turnip::etcd::Etcd;
use turnip::etcd::growth::{ALARM, Age, Concern, Database, Databases, HISTORY, Source};
use turnip::etcd::inspect::History;
use turnip::metrics::{EtcdHealth, Outside};
use turnip::seams::Clock;
use turnip_core::{Compaction, Keys, Level, Revision};

/// How long etcd may take for each question.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is looked where turnip does not compact.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The first look comes when the start is over, and not in its way.
const FIRST_AFTER: Duration = Duration::from_secs(2);

/// What is amiss now, for whoever asks the daemon.
#[derive(Clone, Default)]
pub struct Concerns(Rc<RefCell<BTreeMap<String, Concern>>>);

impl Concerns {
    /// In words.
    pub fn texts(&self) -> Vec<String> {
        self.0.borrow().values().map(|concern| concern.what.clone()).collect()
    }

    /// Tells what is new, and what is over; whatever lasts was told.
    fn become_these(&self, concerns: Vec<Concern>) {
        let mut known = self.0.borrow_mut();
        let now: BTreeMap<String, Concern> =
            concerns.into_iter().map(|concern| (concern.kind.clone(), concern)).collect();
        for (kind, concern) in &now {
            if known.contains_key(kind) {
                continue;
            }
            let what = &concern.what;
            match concern.level {
                Level::Error => tracing::error!("{what}"),
                Level::Warn => tracing::warn!("{what}"),
                Level::Info => tracing::info!("{what}"),
            }
        }
        over(&known, &now).iter().for_each(|what| tracing::info!("{what}"));
        *known = now;
    }
}

/// What a concern is about, however much it matters.
fn subject(kind: &str) -> &str {
    match kind.rsplit_once(' ') {
        Some((endpoint, percent)) if percent.parse::<u64>().is_ok() => endpoint,
        _ => kind,
    }
}

/// What of the known is over now, each for itself.
fn over(known: &BTreeMap<String, Concern>, now: &BTreeMap<String, Concern>) -> BTreeSet<String> {
    let subjects: BTreeSet<&str> = now.keys().map(|kind| subject(kind)).collect();
    let gone = known.keys().map(|kind| subject(kind)).filter(|one| !subjects.contains(one));
    let told = gone.map(|subject| match subject {
        HISTORY => "etcd's history is compacted again".to_owned(),
        alarm if alarm.starts_with(ALARM) => {
            format!("etcd has no alarm any more: {}", alarm.trim_start_matches(ALARM))
        }
        endpoint => format!("etcd's database at {endpoint} has room again"),
    });
    told.collect()
}

/// Looks for as long as the daemon runs; never ends.
pub async fn watch(
    etcd: &Etcd,
    keys: &Keys,
    growth: Growth,
    clock: &HostClock,
    told: (&Concerns, &Outside),
) {
    let mut watch = Watch {
        compaction: growth.compact.keep().map(Compaction::new),
        growth,
        databases: Databases::default(),
        old_history: None,
        oldest: None,
        told: None,
    };
    let pace = watch.compaction.as_ref().map_or(LOOK_EVERY, Compaction::look_every);
    tokio::time::sleep(FIRST_AFTER.min(pace)).await;
    loop {
        watch.look(etcd, keys, clock, told).await;
        tokio::time::sleep(pace).await;
    }
}

/// The oldest revision that is kept.
#[derive(Clone, Copy)]
struct Oldest {
    revision: Revision,
    /// Since when it is that one, as far as was seen.
    since: Instant,
    /// It was seen to become that one.
    was_seen: bool,
}

struct Watch {
    growth: Growth,
    compaction: Option<Compaction>,
    databases: Databases,
    /// What is wrong with the history, as it was told last.
    old_history: Option<Concern>,
    oldest: Option<Oldest>,
    /// Whether it compacts, and why not: told when it changes.
    told: Option<Result<(), String>>,
}

impl Watch {
    async fn look(
        &mut self,
        etcd: &Etcd,
        keys: &Keys,
        clock: &HostClock,
        (concerns, outside): (&Concerns, &Outside),
    ) {
        let told = etcd.databases(self.growth.quota, TIMEOUT).await;
        let is_answered = !told.is_empty();
        self.databases.take(told);
        let mut compacted_ago = None;
        if let Ok(history) = etcd.history(keys.prefix(), TIMEOUT).await {
            let age = self.age(history);
            compacted_ago = age.compacted_ago();
            self.old_history = age.concern();
            self.compact(etcd, history, clock).await;
        }
        // That etcd does not answer is told by others.
        let databases = self.databases.iter().filter(|_| is_answered);
        outside.set_etcd(fullest(databases).map(|database| {
            EtcdHealth {
                database_bytes: database.bytes,
                // What is only assumed is no reason for an alert.
                quota_bytes: database
                    .quota
                    .filter(|(_, source)| *source != Source::Assumed)
                    .map(|(quota, _)| quota),
                alarms: alarms(self.databases.iter()),
                compacted_ago,
            }
        }));
        let mut amiss = self.databases.concerns();
        amiss.extend(self.old_history.clone());
        concerns.become_these(amiss);
    }

    fn age(&mut self, history: History) -> Age {
        let seen = match self.oldest {
            Some(seen) if seen.revision == history.oldest => seen,
            before => Oldest {
                revision: history.oldest,
                since: Instant::now(),
                was_seen: before.is_some_and(|before| before.revision < history.oldest),
            },
        };
        self.oldest = Some(seen);
        Age {
            revisions: history.current.0 - history.oldest.0,
            ever_compacted: history.oldest.0 > 1,
            uncompacted_for: seen.since.elapsed(),
            was_seen: seen.was_seen,
        }
    }

    async fn compact(&mut self, etcd: &Etcd, history: History, clock: &HostClock) {
        let Some(compaction) = &mut self.compaction else { return };
        let Some(up_to) = compaction.due(history.current, history.oldest, clock.now()) else {
            return;
        };
        // Without an answer it is looked again.
        let Ok(may) = etcd.may_compact(self.growth.compact, TIMEOUT).await else { return };
        self.tell(&may);
        if may.is_ok() {
            match etcd.compact(up_to, TIMEOUT).await {
                Ok(()) => tracing::debug!("compacted etcd's history up to revision {}", up_to.0),
                // Another host may have been faster.
                Err(error) => tracing::debug!("etcd's history is not compacted: {error}"),
            }
        }
    }

    fn tell(&mut self, may: &Result<(), String>) {
        if self.told.as_ref() == Some(may) {
            return;
        }
        let kept = self.growth.compact.keep().unwrap_or_default();
        match may {
            Ok(()) => tracing::info!(
                "nobody else compacts etcd's history: turnip does, and keeps what is younger than {kept:?}"
            ),
            Err(why) => tracing::info!(
                "turnip does not compact etcd's history, because {why}: see that somebody does, or write compact = \"1h\" under [etcd]"
            ),
        }
        self.told = Some(may.clone());
    }
}

/// Their names, without the member that each is about.
fn alarms<'a>(databases: impl Iterator<Item = &'a Database>) -> Vec<String> {
    let name = |alarm: &String| {
        alarm.rsplit_once("alarm:").map_or(alarm.as_str(), |(_, name)| name).trim().to_owned()
    };
    let all: BTreeSet<String> = databases.flat_map(|one| &one.alarms).map(name).collect();
    all.into_iter().collect()
}

/// The member whose database has the least room.
fn fullest<'a>(databases: impl Iterator<Item = &'a Database>) -> Option<&'a Database> {
    let room = |database: &&Database| {
        database.quota.map_or(u64::MAX, |(quota, _)| quota.saturating_sub(database.bytes))
    };
    databases.min_by_key(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_go_by_their_names() {
        let database = |alarms: &[&str]| Database {
            url: "http://127.0.0.1:2379".into(),
            bytes: 0,
            quota: None,
            alarms: alarms.iter().map(|alarm| (*alarm).to_owned()).collect(),
        };
        let raised = ["memberID:10501334649042878790 alarm:NOSPACE ", "memberID:7 alarm:NOSPACE "];
        assert_eq!(alarms([database(&raised), database(&[])].iter()), ["NOSPACE"]);
    }

    #[test]
    fn what_is_amiss_is_known_until_it_is_over() {
        let concern = |kind: &str| Concern {
            kind: kind.into(),
            level: Level::Warn,
            what: format!("{kind} is amiss"),
        };
        let concerns = Concerns::default();
        concerns.become_these(vec![concern("a"), concern("a"), concern("b")]);
        assert_eq!(concerns.texts(), ["a is amiss", "b is amiss"]);
        concerns.become_these(vec![concern("b")]);
        assert_eq!(concerns.texts(), ["b is amiss"]);
        concerns.become_these(vec![]);
        assert!(concerns.texts().is_empty());
    }

    fn known(kinds: &[&str]) -> BTreeMap<String, Concern> {
        let concern = |kind: &&str| {
            let (kind, level) = ((*kind).to_owned(), Level::Warn);
            (kind.clone(), Concern { kind, level, what: String::new() })
        };
        kinds.iter().map(concern).collect()
    }

    #[test]
    fn each_concern_has_its_own_end() {
        let before = known(&["http://a:1 85", "http://b:1 70", "alarm alarm:NOSPACE", "history"]);
        let now = known(&["http://a:1 70", "history"]);
        let told: Vec<String> = over(&before, &now).into_iter().collect();
        let room = "etcd's database at http://b:1 has room again";
        assert_eq!(told, ["etcd has no alarm any more: alarm:NOSPACE", room]);
        assert!(over(&now, &now).is_empty());
        assert_eq!(over(&known(&["history"]), &known(&[])).len(), 1);
    }
}
