//! How large etcd grows, and what of that an operator must know: an etcd that is full takes no renewal, and
//! then no host has an address.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Client, GetOptions};
use turnip_core::{Level, Revision, StoreError};

use super::Etcd;
use crate::config::Compact;

/// All of turnip's keys, of whatever cluster, begin like this.
const OWN_PREFIXES: [&str; 2] = ["/turnip/", "/turnip-check/"];
/// To this etcd's database may grow unless it was told otherwise.
pub const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
/// How much of the quota is told of, in percent, and how much it matters.
pub(crate) const FULL_PERCENT: [(u64, Level); 3] =
    [(95, Level::Error), (85, Level::Warn), (70, Level::Warn)];
/// So many revisions are a day of three hosts with the default lease and a busy etcd.
const REVISIONS_MANY: i64 = 3 * 2 * 86_400;
/// When nobody has compacted for so long, nobody does.
const COMPACTED_WITHIN: Duration = Duration::from_secs(86_400);

/// How the database of a member stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Database {
    /// The endpoint of the member.
    pub url: String,
    /// Its size.
    pub bytes: u64,
    /// To which it may grow, and whether that is only assumed; none when there is no limit.
    pub quota: Option<(u64, Source)>,
    /// Alarms, in etcd's words.
    pub alarms: Vec<String>,
}

/// Who says what the quota is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The member.
    Member,
    /// turnip's configuration.
    Setting,
    /// Nobody: it is etcd's default.
    Assumed,
}

/// The databases of all members, as each told last.
#[derive(Clone, Default, Debug)]
pub struct Databases(BTreeMap<String, Database>);

impl Databases {
    /// Takes what the members say that answer. Of one that does not, what it said before stays; so does the
    /// quota of one that does not say it this time. Alarms are the whole cluster's: whoever answers knows.
    pub fn take(&mut self, told: Vec<Database>) {
        if !told.is_empty() {
            self.0.values_mut().for_each(|database| database.alarms.clear());
        }
        for mut database in told {
            let is_told = |quota: Option<(u64, Source)>| {
                quota.is_none_or(|(_, source)| source == Source::Member)
            };
            if let Some(before) = self.0.get(&database.url)
                && is_told(before.quota)
                && !is_told(database.quota)
            {
                database.quota = before.quota;
            }
            self.0.insert(database.url.clone(), database);
        }
    }

    /// What is wrong with them.
    pub fn concerns(&self) -> Vec<Concern> {
        self.0.values().flat_map(Database::concerns).collect()
    }

    /// What each told last.
    pub fn iter(&self) -> impl Iterator<Item = &Database> {
        self.0.values()
    }
}

/// How old etcd's history is, as far as this process has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age {
    /// How many revisions are kept.
    pub revisions: i64,
    /// Whether anybody has ever compacted.
    pub ever_compacted: bool,
    /// For how long nobody has compacted, at least.
    pub uncompacted_for: Duration,
    /// That was when somebody did, and not when this process began to look.
    pub was_seen: bool,
}

/// What an alarm's kind begins with.
pub const ALARM: &str = "alarm ";
/// The kind of what concerns the history.
pub const HISTORY: &str = "history";

/// Something that an operator must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Concern {
    /// What it is about, the same for as long as it lasts and as much as it matters.
    pub kind: String,
    /// How much it matters.
    pub level: Level,
    /// What it is, and what to do.
    pub what: String,
}

const NO_SPACE: &str = "NOSPACE";
const REMEDY: &str = "compact (`etcdctl compact REVISION`), `etcdctl defrag` each member, then `etcdctl alarm disarm`; or give etcd a larger --quota-backend-bytes";

impl Database {
    /// What is wrong with it.
    pub fn concerns(&self) -> Vec<Concern> {
        let mut concerns: Vec<Concern> =
            self.alarms.iter().map(|alarm| self.alarm(alarm)).collect();
        // What there is to do is said already.
        if self.alarms.iter().any(|alarm| alarm.contains(NO_SPACE)) {
            return concerns;
        }
        let Some((quota, source)) = self.quota.filter(|(quota, _)| *quota > 0) else {
            return concerns;
        };
        let percent = u64::try_from(u128::from(self.bytes) * 100 / u128::from(quota));
        let percent = percent.unwrap_or(u64::MAX);
        if let Some((step, level)) = FULL_PERCENT.into_iter().find(|(step, _)| percent >= *step) {
            let assumed = match source {
                Source::Assumed => {
                    " (assumed; it says nothing of its quota, so write it as etcd.quota)"
                }
                Source::Member | Source::Setting => "",
            };
            concerns.push(Concern {
                kind: format!("{} {step}", self.url),
                level,
                what: format!(
                    "etcd's database at {} has {} of {}, {percent} % of its quota{assumed}: full, etcd refuses all renewals, and no host has an address. {REMEDY}",
                    self.url,
                    mib(self.bytes),
                    mib(quota),
                ),
            });
        }
        concerns
    }

    fn alarm(&self, alarm: &str) -> Concern {
        // As etcd writes it: `memberID:7 alarm:NOSPACE `.
        let by = alarm.split_whitespace().find_map(|word| word.strip_prefix("memberID:"));
        let by = by.and_then(|id| id.parse::<u64>().ok());
        let by = by.map_or_else(String::new, |id| format!(" of member {id:x}"));
        let what = if alarm.contains(NO_SPACE) {
            format!("etcd is full and refuses every write (alarm NOSPACE{by}): {REMEDY}")
        } else if alarm.contains("CORRUPT") {
            format!("etcd says that a member's data are corrupt (alarm CORRUPT{by}): replace it")
        } else {
            format!("etcd says: {alarm}")
        };
        // Every member tells all alarms.
        Concern { kind: format!("{ALARM}{alarm}"), level: Level::Error, what }
    }
}

impl Age {
    /// How long ago somebody compacted last: as it was seen, or, where nobody does, at least.
    pub fn compacted_ago(&self) -> Option<Duration> {
        let is_long = self.uncompacted_for >= COMPACTED_WITHIN;
        (self.was_seen || is_long).then_some(self.uncompacted_for)
    }

    /// What is wrong with it, where turnip does not compact.
    pub fn concern(&self) -> Option<Concern> {
        let never = !self.ever_compacted && self.revisions > REVISIONS_MANY;
        let rarely = self.revisions > 7 * REVISIONS_MANY
            || self.revisions > REVISIONS_MANY && self.uncompacted_for >= COMPACTED_WITHIN;
        let how = match (never, rarely) {
            (true, _) => "nobody has ever compacted".to_owned(),
            (_, true) => format!(
                "nobody has compacted for {} h at least",
                self.uncompacted_for.as_secs() / 3600
            ),
            _ => return None,
        };
        let what = format!(
            "etcd keeps {} revisions, and {how}: it grows until it is full. Run it with --auto-compaction-retention=1h, or let turnip compact: compact = \"1h\" under [etcd]",
            self.revisions
        );
        Some(Concern { kind: HISTORY.into(), level: Level::Warn, what })
    }
}

/// A size for people.
pub fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

impl Etcd {
    /// How the databases of the members stand that are configured as endpoints; those that answer. `setting`:
    /// the configured quota, where a member does not say.
    pub async fn databases(&self, setting: Option<u64>, timeout: Duration) -> Vec<Database> {
        let mut databases = Vec::new();
        for endpoint in &self.endpoints {
            let url = endpoint.url();
            let Ok(status) = self.endpoint_status(url, timeout).await else { continue };
            let said = match status.quota_bytes {
                Some(quota) => Ok(Some(quota)),
                None => self.quota(url, tokio::time::Instant::now() + timeout).await,
            };
            let quota = match (said, setting) {
                (Ok(quota), _) => quota.map(|quota| (quota, Source::Member)),
                (Err(_), Some(quota)) => Some((quota, Source::Setting)),
                (Err(_), None) => Some((QUOTA_DEFAULT_BYTES, Source::Assumed)),
            };
            let (url, bytes, alarms) = (url.to_owned(), status.db_bytes, status.alarms);
            databases.push(Database { url, bytes, quota, alarms });
        }
        databases
    }

    /// How many keys etcd has that are none of turnip's, of whatever cluster.
    ///
    /// # Errors
    /// When no endpoint answers within `timeout`, or the user may not know.
    pub async fn foreign_keys(&self, timeout: Duration) -> Result<u64, StoreError> {
        let ask = async |client: &Client| {
            let mut kv = client.kv_client();
            let all = GetOptions::new().with_all_keys().with_count_only();
            let all = kv.get("", Some(all)).await?.count();
            let mut own = 0;
            for prefix in OWN_PREFIXES {
                let of_prefix = GetOptions::new().with_prefix().with_count_only();
                own += kv.get(prefix, Some(of_prefix)).await?.count();
            }
            Ok(all - own)
        };
        // What is written meanwhile may count on one side only.
        Ok(u64::try_from(self.ask(timeout, ask).await?).unwrap_or(0))
    }

    /// Whether turnip may compact; else why not.
    ///
    /// # Errors
    /// When that is not known, because no endpoint answers within `timeout`.
    pub async fn may_compact(
        &self,
        compact: Compact,
        timeout: Duration,
    ) -> Result<Result<(), String>, StoreError> {
        let foreign = match compact {
            Compact::Keep(_) => return Ok(Ok(())),
            Compact::Never => return Ok(Err("it is configured so".into())),
            Compact::Auto => self.foreign_keys(timeout).await,
        };
        match foreign {
            Ok(0) => Ok(Ok(())),
            Ok(_) => Ok(Err("others have keys in etcd, too".into())),
            Err(StoreError::Refused(_)) => {
                Ok(Err("its user may not see whether others have keys in etcd".into()))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives up the history before `revision`.
    ///
    /// # Errors
    /// When it is not answered within `timeout`, or refused: when somebody else was faster, for one.
    pub async fn compact(&self, revision: Revision, timeout: Duration) -> Result<(), StoreError> {
        let compact = async |client: &Client| client.kv_client().compact(revision.0, None).await;
        self.ask(timeout, compact).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn database(mib_used: u64, quota: Option<(u64, Source)>) -> Database {
        Database { url: "http://e:2379".into(), bytes: mib_used * MIB, quota, alarms: Vec::new() }
    }

    fn levels(database: &Database) -> Vec<Level> {
        database.concerns().into_iter().map(|concern| concern.level).collect()
    }

    #[test]
    fn a_database_is_told_of_before_it_is_full() {
        let of_quota = |used| database(used, Some((100 * MIB, Source::Member)));
        assert_eq!(levels(&of_quota(69)), []);
        assert_eq!(levels(&of_quota(70)), [Level::Warn]);
        assert_eq!(levels(&of_quota(99)), [Level::Error]);
        let what = &of_quota(99).concerns()[0].what;
        for words in ["http://e:2379", "99 MiB of 100 MiB", "99 %", "defrag", "disarm"] {
            assert!(what.contains(words), "{what}");
        }
        assert_ne!(
            of_quota(70).concerns()[0].kind,
            of_quota(90).concerns()[0].kind,
            "it is told again"
        );
    }

    #[test]
    fn without_a_limit_nothing_is_told_and_an_assumed_one_is_called_so() {
        assert_eq!(levels(&database(99_999, None)), []);
        let assumed = database(2_000, Some((QUOTA_DEFAULT_BYTES, Source::Assumed)));
        assert!(assumed.concerns()[0].what.contains("etcd.quota"));
    }

    #[test]
    fn an_alarm_is_told_with_what_to_do_whoever_tells_it() {
        let alarms = vec!["memberID:6260143092846048895 alarm:NOSPACE ".to_owned()];
        let quota = Some((100 * MIB, Source::Member));
        let full = Database { alarms, ..database(100, quota) };
        let [concern] = &full.concerns()[..] else { panic!("once") };
        assert!(concern.what.contains("(alarm NOSPACE of member 56e0"), "{}", concern.what);
        assert_eq!(concern.level, Level::Error);
        assert!(concern.what.contains("full") && concern.what.contains("disarm"));
        let other = Database { url: "http://f:2379".into(), ..full.clone() };
        assert_eq!(other.concerns()[0].kind, concern.kind, "it is one alarm");
    }

    #[test]
    fn a_history_that_nobody_compacts_is_told_of() {
        let age = |revisions, ever_compacted, hours: u64| Age {
            revisions,
            ever_compacted,
            uncompacted_for: Duration::from_secs(hours * 3600),
            was_seen: false,
        };
        assert_eq!(age(1000, false, 0).concern(), None, "a young one");
        assert_eq!(age(600_000, true, 1).concern(), None, "somebody compacts");
        assert!(age(600_000, false, 0).concern().unwrap().what.contains("nobody has ever"));
        assert!(age(600_000, true, 30).concern().unwrap().what.contains("30 h"));
    }

    #[test]
    fn when_etcd_was_compacted_last_is_not_known_to_a_process_that_has_only_begun_to_look() {
        let hour = Duration::from_secs(3600);
        let age = |hours, was_seen| {
            let uncompacted_for = hour * hours;
            Age { revisions: 9, ever_compacted: true, uncompacted_for, was_seen }.compacted_ago()
        };
        assert_eq!(age(0, false), None);
        assert_eq!(age(2, true), Some(2 * hour));
        assert_eq!(age(30, false), Some(30 * hour), "at least");
    }

    #[test]
    fn what_a_member_said_last_stays_while_it_does_not_answer() {
        let at = |url: &str, used, quota| Database { url: url.into(), ..database(used, quota) };
        let full = || at("http://e:2379", 99, Some((100 * MIB, Source::Member)));
        let mut databases = Databases::default();
        databases.take(vec![full(), at("http://f:2379", 1, None)]);
        let before = databases.concerns();
        assert_eq!(before.len(), 1);
        databases.take(vec![at("http://f:2379", 1, None)]);
        assert_eq!(databases.concerns(), before, "nobody has said that it has room");
        databases.take(Vec::new());
        assert_eq!(databases.concerns(), before);
        databases.take(vec![at("http://e:2379", 99, Some((2 << 30, Source::Assumed)))]);
        assert_eq!(databases.concerns(), before, "its quota is what it said");
        databases.take(vec![at("http://e:2379", 9, Some((100 * MIB, Source::Member)))]);
        assert_eq!(databases.concerns(), []);
    }

    #[test]
    fn an_alarm_is_over_when_a_member_that_answers_does_not_tell_it() {
        let alarms = vec!["memberID:7 alarm:NOSPACE ".to_owned()];
        let mut databases = Databases::default();
        databases.take(vec![Database { alarms, ..database(1, None) }]);
        databases.take(Vec::new());
        assert_eq!(databases.concerns().len(), 1, "nobody has said that it is over");
        databases.take(vec![Database { url: "http://f:2379".into(), ..database(1, None) }]);
        assert_eq!(databases.concerns(), []);
    }
}
