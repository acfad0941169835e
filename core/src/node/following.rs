//! The keys of other programs that VIPs follow: which say that a VIP is here, and which do not (rule 13).

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::time::Duration;

use super::own::{Own, VipIndex};
use super::reload::Step;
use crate::config::{Absent, Follow};
use crate::lease::{Lease, hearing_time};
use crate::mutant::Mutant;
use crate::name::Revision;
use crate::store::{ForeignKey, KeyValue};
use crate::text;
use crate::time::Instant;

/// What is known of the keys, by the VIPs that follow them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Following {
    vips: BTreeMap<VipIndex, Followed>,
    /// The store has gone on for others since then, but not for this node, whose newest write was made at the
    /// first of these.
    goes_on_since: Option<(Instant, Instant)>,
}

/// What a key says of a VIP.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Says {
    /// It is for this node; or it follows no key.
    Here,
    /// It is for another, or may be by now.
    Elsewhere(String),
    /// It is for nobody.
    Nothing(String),
    /// The key has not been read yet.
    Unread(String),
}

/// A VIP's key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Followed {
    /// What was last told of it; none before the first time.
    told: Option<Told>,
    /// As of which revision.
    as_of: Revision,
    /// At which it was last written.
    modified: Option<Revision>,
    /// When this node received that.
    written: Instant,
    age: Age,
    says: Says,
    /// That is another than before, and was not heeded yet.
    news: Option<News>,
    /// When that was heeded last.
    heeded: Instant,
}

/// What is another than before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum News {
    /// What becomes of the VIP.
    Matter,
    /// Only the words in which it is told why the VIP is not here.
    Words,
}

/// What a key's value says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Told {
    /// It names somebody: this node by its value, or another.
    Name(String),
    /// It names nobody, for this reason.
    Nothing(String),
}

/// How good what was told still is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Age {
    /// It counts.
    Fresh,
    /// The key has not been written for too long.
    Unchanged,
    /// The store has been away for so long that another may be named by now.
    Away,
}

impl Following {
    /// Nothing has been read yet.
    pub(super) fn new(own: &Own) -> Self {
        let follow =
            |index: &VipIndex| Some((*index, Followed::new(own.vip(*index).policy.follow()?)));
        let vips = (0..own.vip_count()).filter_map(|index| follow(&index)).collect();
        Following { vips, goes_on_since: None }
    }

    /// Other VIPs are configured: what is known of a key goes on where it is read in the same way.
    pub(super) fn reconfigured(&mut self, step: &Step) {
        let mut following =
            Following { goes_on_since: self.goes_on_since, ..Following::new(&step.after) };
        for (index, followed) in &mut following.vips {
            let vip = step.after.vip(*index);
            let old = step.before.index_of(&vip.name);
            if let Some(old) = old
                && step.before.vip(old).policy.follow().map(Follow::reads)
                    == vip.policy.follow().map(Follow::reads)
                && let Some(known) = self.vips.remove(&old)
            {
                *followed = known;
                // It may go by another name, or another age.
                followed.age = Age::Fresh;
                followed.say(&step.after, *index);
            }
        }
        *self = following;
    }

    /// Whether a VIP's key is still to be read.
    pub(super) fn has_unread(&self) -> bool {
        self.vips.values().any(|followed| followed.told.is_none())
    }

    /// The store is another one (A2): nothing is known of it.
    pub(super) fn forget_all(&mut self, own: &Own) {
        *self = Following::new(own);
    }

    /// A key was read, was written or is gone. What is known never goes back.
    pub(super) fn told(&mut self, own: &Own, told: ForeignKey, now: Instant) {
        let ForeignKey { key, state } = told;
        for (index, followed) in &mut self.vips {
            let Some(follow) = own.vip(*index).policy.follow().filter(|it| it.key == key) else {
                continue;
            };
            match &state {
                Err(why) => {
                    let why = format!("the key {key} cannot be read: {}", text::shown(why));
                    followed.told = Some(Told::Nothing(why));
                }
                Ok((_, as_of)) if *as_of < followed.as_of => continue,
                Ok((kv, as_of)) => {
                    let modified = kv.as_ref().map(|kv| kv.mod_revision);
                    if modified != followed.modified || followed.told.is_none() {
                        followed.written = now;
                    }
                    (followed.as_of, followed.modified) = (*as_of, modified);
                    followed.told = Some(read(follow, kv.as_ref()));
                }
            }
            followed.say(own, *index);
        }
    }

    /// Looks at how old what is known is by now. `committed` is when the newest write of the own session was
    /// made that has landed, and `others_heard` when others last said that they know more of the store than
    /// before. Says which VIPs that concerns, and when to look again.
    pub(super) fn review(
        &mut self,
        own: &Own,
        (committed, others_heard): (Option<Instant>, Option<Instant>),
        lease: Lease,
        now: Instant,
    ) -> (Vec<VipIndex>, Option<Instant>) {
        let hearing = hearing_time(lease.duration());
        let away_at = committed.map(|at| at + hearing);
        let cut_off_at = committed.and_then(|at| self.cut_off_at(at, others_heard?, hearing));
        let (mut changed, mut next) = (Vec::new(), None);
        for (index, followed) in &mut self.vips {
            let Some(follow) = own.vip(*index).policy.follow() else { continue };
            let unchanged_at = follow.unchanged.map(|after| followed.written + after);
            let ends = |at: Option<Instant>, age| at.map(|at| (at, age));
            let away_at = match follow.absent {
                Absent::Nobody => away_at,
                // What stays where it is when nobody is named stays there while nobody can be.
                Absent::Last => cut_off_at,
            };
            let away_at = away_at.filter(|_| !own.mutated(Mutant::FollowedWhileAway));
            let ends = [ends(away_at, Age::Away), ends(unchanged_at, Age::Unchanged)];
            let ends = ends.into_iter().flatten();
            let age = ends.clone().find(|(at, _)| *at <= now).map_or(Age::Fresh, |(_, age)| age);
            let next_end = ends.map(|(at, _)| at).filter(|at| *at > now);
            next = next.into_iter().chain(next_end).min();
            if age != followed.age {
                followed.age = age;
                followed.say(own, *index);
            }
            let heeded_at = match followed.news {
                None => continue,
                Some(News::Matter) => now,
                // A key that changes all the time must not be a write all the time.
                Some(News::Words) => followed.heeded + lease.duration(),
            };
            if heeded_at <= now {
                (followed.news, followed.heeded) = (None, now);
                changed.push(*index);
            } else {
                next = Some(next.map_or(heeded_at, |next: Instant| next.min(heeded_at)));
            }
        }
        (changed, next)
    }

    /// Since when the store is known to go on for others and not for this node, whose newest write was made at
    /// `committed`: they have said so twice, so far apart that this is no matter of who reaches it first after
    /// an outage.
    fn cut_off_at(
        &mut self,
        committed: Instant,
        others_heard: Instant,
        hearing: Duration,
    ) -> Option<Instant> {
        if others_heard < committed + hearing {
            self.goes_on_since = None;
            return None;
        }
        let since = self.goes_on_since.filter(|(of, _)| *of == committed);
        let (_, since) = *self.goes_on_since.insert(since.unwrap_or((committed, others_heard)));
        (others_heard >= since + hearing).then_some(others_heard)
    }

    /// What the key of a VIP says.
    pub(super) fn says(&self, index: VipIndex) -> &Says {
        self.vips.get(&index).map_or(&Says::Here, |followed| &followed.says)
    }

    /// Whether it says that the VIP is for this node.
    pub(super) fn names(&self, index: VipIndex) -> bool {
        *self.says(index) == Says::Here
    }
}

impl Followed {
    fn new(follow: &Follow) -> Self {
        Followed {
            told: None,
            as_of: Revision(0),
            modified: None,
            written: Instant::from_nanos(0),
            age: Age::Fresh,
            says: unread(follow),
            news: None,
            heeded: Instant::from_nanos(0),
        }
    }

    /// Draws the conclusion from what is known.
    fn say(&mut self, own: &Own, index: VipIndex) {
        let Some(follow) = own.vip(index).policy.follow() else { return };
        let key = &follow.key;
        let says = match (&self.told, self.age) {
            _ if own.mutated(Mutant::FollowedIgnored) => Says::Here,
            (_, Age::Away) => {
                let why = "etcd does not answer, and may name another in";
                Says::Elsewhere(format!("{why} {key} by now"))
            }
            (None, _) => unread(follow),
            (Some(Told::Nothing(why)), _) => Says::Nothing(why.clone()),
            (Some(Told::Name(_)), Age::Unchanged) => {
                let after = follow.unchanged.unwrap_or_default().as_secs_f64();
                Says::Nothing(format!("the key {key} has not been written for {after} s"))
            }
            (Some(Told::Name(name)), Age::Fresh) if *name == follow.value => Says::Here,
            (Some(Told::Name(name)), Age::Fresh) => {
                let (name, value) = (text::shown(name), text::shown(&follow.value));
                Says::Elsewhere(format!(
                    "the key {key} names {name}, and this host is {value} there"
                ))
            }
        };
        if says != self.says && self.news != Some(News::Matter) {
            let is_not_here = |says: &Says| matches!(says, Says::Nothing(_) | Says::Elsewhere(_));
            let only_words = match follow.absent {
                Absent::Nobody => is_not_here(&says) && is_not_here(&self.says),
                // Its owner keeps it where it is for nobody, and not where it is for another.
                Absent::Last => discriminant(&says) == discriminant(&self.says),
            };
            self.news = Some(if only_words { News::Words } else { News::Matter });
        }
        self.says = says;
    }
}

fn unread(follow: &Follow) -> Says {
    Says::Unread(format!("the key {} has not been read yet", follow.key))
}

/// Whom the key names.
fn read(follow: &Follow, kv: Option<&KeyValue>) -> Told {
    let key = &follow.key;
    let Some(kv) = kv else { return Told::Nothing(format!("the key {key} is absent")) };
    let shown = || text::shown(&String::from_utf8_lossy(&kv.value));
    let Some(pointer) = &follow.pointer else {
        return match std::str::from_utf8(&kv.value) {
            Ok(name) if name.trim().is_empty() => {
                Told::Nothing(format!("the key {key} names nobody: its value is empty"))
            }
            Ok(name) => Told::Name(name.trim().to_owned()),
            Err(_) => Told::Nothing(format!("the key {key} has no text: {}", shown())),
        };
    };
    let value: serde_json::Value = match serde_json::from_slice(&kv.value) {
        Ok(value) => value,
        Err(error) => {
            return Told::Nothing(format!("the key {key} has no JSON ({error}): {}", shown()));
        }
    };
    match value.pointer(pointer) {
        Some(serde_json::Value::String(name)) if !name.is_empty() => Told::Name(name.clone()),
        Some(serde_json::Value::Number(number)) => Told::Name(number.to_string()),
        _ => Told::Nothing(format!("the key {key} names nobody at {pointer}: {}", shown())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::config::Policy;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    /// Rules 13.3, 13.5 and 13.6.
    #[test]
    fn what_is_known_is_looked_at_again_when_it_ends_and_other_words_a_lease_after_the_last() {
        let mut config = testing::own_with_vips(1).config;
        config.vips[0].policy = Policy::Follow(Follow {
            key: "k".into(),
            value: "a".into(),
            pointer: None,
            absent: Absent::Nobody,
            unchanged: Some(20 * SECOND),
        });
        let (own, lease) = (Own::new(config), Lease::new(3 * SECOND).unwrap());
        let mut following = Following::new(&own);
        let put = |following: &mut Following, name: &str, revision: i64, now| {
            let kv = KeyValue {
                key: "k".into(),
                value: name.into(),
                create_revision: Revision(revision),
                mod_revision: Revision(revision),
            };
            let state = Ok((Some(kv), Revision(revision)));
            following.told(&own, ForeignKey { key: "k".into(), state }, now);
        };
        let review = |following: &mut Following, committed: Instant, now: Instant| {
            let (changed, next) = following.review(&own, (Some(committed), None), lease, now);
            (changed, next.map(|at| at.since(now).as_secs()))
        };
        put(&mut following, "a", 1, NOW);
        assert_eq!(review(&mut following, NOW, NOW), (vec![0], Some(6)), "two leases");
        let late = NOW + 5 * SECOND;
        assert_eq!(review(&mut following, NOW + 15 * SECOND, late), (vec![], Some(15)), "20 s");
        put(&mut following, "b", 2, late);
        assert_eq!(review(&mut following, late, late), (vec![0], Some(6)));
        put(&mut following, "c", 3, late + SECOND);
        let waits = review(&mut following, late, late + SECOND);
        assert_eq!(waits, (vec![], Some(2)), "a lease after the last words");
        assert_eq!(review(&mut following, late, late + 3 * SECOND).0, [0]);
    }
}
