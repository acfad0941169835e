//! How large etcd grows, and what of that an operator must know: an etcd that is full takes no renewal, and
//! then no host has an address.

use std::time::Duration;

use etcd_client::{Client, GetOptions};
use turnip_core::{Level, Revision, StoreError};

use super::Etcd;

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

/// How old etcd's history is, as far as this process has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age {
    /// How many revisions are kept.
    pub revisions: i64,
    /// Whether anybody has ever compacted.
    pub ever_compacted: bool,
    /// For how long nobody has compacted, at least.
    pub uncompacted_for: Duration,
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
        };
        assert_eq!(age(1000, false, 0).concern(), None, "a young one");
        assert_eq!(age(600_000, true, 1).concern(), None, "somebody compacts");
        assert!(age(600_000, false, 0).concern().unwrap().what.contains("nobody has ever"));
        assert!(age(600_000, true, 30).concern().unwrap().what.contains("30 h"));
    }
}
