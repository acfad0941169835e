//! What a watch knows of the cluster: what etcd tells of changes, and whether it is still there to tell of
//! them. No terminal and no network here.

use std::time::{Duration, Instant};

use turnip_core::{Keys, StoreError, Update};

use super::board::Board;
use crate::commands::cluster::{ASK_EVERY, Asked, ClusterState};
use crate::commands::overview::WhatIf;

/// Two answers that are further apart leave a time between them of which nothing is known.
const APART_MAX: Duration = Duration::from_secs(3 * ASK_EVERY.as_secs());

/// What is known of the cluster.
#[derive(Default)]
pub struct Followed {
    state: Option<ClusterState>,
    /// Why no changes are told.
    not_followed: Option<String>,
    /// Why it was not answered when it was asked last.
    not_answered: Option<String>,
}

impl Followed {
    /// etcd tells of changes, or why it does not.
    pub fn told(&mut self, keys: &Keys, update: Result<Update, StoreError>, now: Instant) {
        match (update, &mut self.state) {
            (Ok(Update::Snapshot(snapshot)), Some(state)) => {
                state.take_snapshot(keys, snapshot, now);
            }
            (Ok(Update::Snapshot(snapshot)), state @ None) => {
                *state = Some(ClusterState::new(snapshot, now));
            }
            (Ok(Update::Events(batch)), state) => {
                if let Some(state) = state {
                    state.take(keys, batch, now);
                }
            }
            (Err(error), _) => return self.not_followed = Some(error.to_string()),
        }
        self.not_followed = None;
    }

    /// etcd was asked whether it is there.
    pub fn asked(&mut self, keys: &Keys, asked: Asked) {
        let sessions = match asked.sessions {
            Ok(sessions) => sessions,
            Err(error) => return self.not_answered = Some(error.to_string()),
        };
        let was_away = self.not_answered.take().is_some();
        let Some(state) = &mut self.state else { return };
        if was_away || asked.at.saturating_duration_since(state.known_until()) > APART_MAX {
            state.listen_anew(asked.at);
        }
        state.vouch_for_only(asked.holding_on);
        state.take_sessions(keys, sessions, asked.at);
    }

    /// The board shows what is known; while nothing new can be, it keeps what it has.
    pub fn show(&self, keys: &Keys, board: &mut Board, now: Instant) {
        if let Some(why) = self.not_answered.as_ref().or(self.not_followed.as_ref()) {
            return board.is_not_answered(why.clone());
        }
        let Some(state) = &self.state else { return };
        if now.saturating_duration_since(state.known_until()) > APART_MAX {
            return board.is_not_answered("etcd does not answer".to_owned());
        }
        board.is_answered(state.known_until());
        board.show(&state.overview(keys, &WhatIf::default()), state.lease_longest(keys), now);
    }
}

#[cfg(test)]
mod tests {
    use turnip_core::records::{Nonce, Record, SessionRecord, VipRecord, encode};
    use turnip_core::{
        Event, Events, Header, HostId, KeyValue, NodeName, Revision, SessionId, Snapshot,
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Two nodes with a lease of 3 s; a owns a VIP.
    struct Watched {
        keys: Keys,
        kvs: Vec<KeyValue>,
        revision: i64,
        now: Instant,
        followed: Followed,
        board: Board,
    }

    impl Watched {
        fn start() -> Self {
            let mut watched = Watched {
                keys: Keys::new(&"main".parse().unwrap()),
                kvs: Vec::new(),
                revision: 1,
                now: Instant::now(),
                followed: Followed::default(),
                board: Board::new("main", &["http://127.0.0.1:2379".to_owned()]),
            };
            for node in ["a", "b"] {
                watched.write(node);
            }
            let (node, session) = ("a".parse().unwrap(), SessionId(Revision(2)));
            let owner = VipRecord { node, session, since_unix_ms: 1 };
            let key = watched.keys.vip(&"v".parse().unwrap());
            watched.put(key, &owner);
            watched.follow();
            watched.ask(true);
            watched
        }

        fn put<T: Record>(&mut self, key: String, record: &T) -> KeyValue {
            self.revision += 1;
            let at = Revision(self.revision);
            let known = self.kvs.iter().position(|kv| kv.key == key);
            let create_revision = known.map_or(at, |at| self.kvs.remove(at).create_revision);
            let kv = KeyValue { key, value: encode(record), create_revision, mod_revision: at };
            self.kvs.push(kv.clone());
            kv
        }

        /// A node renews.
        fn write(&mut self, node: &str) -> KeyValue {
            let name: NodeName = node.parse().unwrap();
            let session = SessionRecord {
                lease_ms: 3_000,
                host: HostId(node.into()),
                nonce: Nonce { process: 1, count: 1 },
                witnesses: Default::default(),
            };
            self.put(self.keys.session(&name), &session)
        }

        fn header(&self) -> Header {
            Header { cluster_id: 1, member_id: 1, raft_term: 1, revision: Revision(self.revision) }
        }

        fn follow(&mut self) {
            let snapshot = Snapshot { header: self.header(), kvs: self.kvs.clone() };
            self.followed.told(&self.keys, Ok(Update::Snapshot(snapshot)), self.now);
        }

        fn renewed(&mut self, node: &str) {
            let event = Event::Put(self.write(node));
            let events = Events { header: self.header(), events: vec![event] };
            self.followed.told(&self.keys, Ok(Update::Events(events)), self.now);
        }

        fn ask(&mut self, answers: bool) {
            let is_session = |kv: &&KeyValue| kv.key.starts_with(&self.keys.sessions());
            let kvs = self.kvs.iter().filter(is_session).cloned().collect();
            let sessions = match answers {
                true => Ok(Snapshot { header: self.header(), kvs }),
                false => Err(StoreError::Unavailable("cut".into())),
            };
            let asked = Asked { at: self.now, sessions, holding_on: Vec::new() };
            self.followed.asked(&self.keys, asked);
        }

        /// Time passes in which etcd answers, or does not, and these renew.
        fn pass(&mut self, seconds: u64, answers: bool, renew: &[&str]) {
            for _ in 0..seconds {
                self.now += SECOND;
                renew.iter().for_each(|node| self.renewed(node));
                self.ask(answers);
            }
        }

        /// The heading, what is wrong, and the health of both nodes.
        fn shows(&mut self) -> (String, Option<String>, [String; 2]) {
            self.followed.show(&self.keys, &mut self.board, self.now);
            let nodes = self.board.panes[1].rows(self.now);
            let health = |node: usize| nodes[node].0[1].clone();
            let health = [health(0), health(1)];
            (self.board.heading(self.now), self.board.trouble(self.now), health)
        }
    }

    #[test]
    fn while_etcd_answers_a_silent_owner_is_told() {
        let mut watched = Watched::start();
        watched.pass(5, true, &["b"]);
        let (heading, trouble, health) = watched.shows();
        assert!(heading.contains("1 of 1 VIPs WITHOUT OWNER"), "{heading}");
        assert_eq!((trouble, health[0].as_str()), (None, "silent"));
        assert_ne!(health[1], "silent");
    }

    #[test]
    fn while_etcd_does_not_answer_nobody_is_called_silent_and_the_last_table_stays() {
        for answers_badly in [true, false] {
            let mut watched = Watched::start();
            watched.pass(2, true, &["a", "b"]);
            let (_, _, before) = watched.shows();
            match answers_badly {
                true => watched.pass(30, false, &[]),
                // Nor does it fail to: it hangs.
                false => watched.now += 30 * SECOND,
            }
            let (heading, trouble, health) = watched.shows();
            assert_eq!(health, before);
            assert!(heading.contains("30.0 s ago: every VIP had an owner"), "{heading}");
            let trouble = trouble.unwrap();
            assert!(trouble.contains("this is of 30.0 s ago"), "{trouble}");
            assert!(trouble.contains("what is now is not known"), "{trouble}");
        }
    }

    #[test]
    fn after_an_outage_silence_counts_anew_and_who_was_silent_before_is_so_still() {
        let mut watched = Watched::start();
        watched.pass(5, true, &["a"]);
        assert_eq!(watched.shows().2[1], "silent");
        watched.pass(30, false, &[]);
        watched.pass(2, true, &[]);
        let (heading, trouble, health) = watched.shows();
        assert_eq!(trouble, None);
        assert!(heading.ends_with("every VIP has an owner"), "{heading}");
        assert_eq!((health[0] == "silent", health[1].as_str()), (false, "silent"));
        watched.pass(4, true, &[]);
        assert_eq!(watched.shows().2[0], "silent", "by then it must have written");
        watched.pass(1, true, &["a", "b"]);
        assert!(watched.shows().2.iter().all(|health| health != "silent"));
    }

    #[test]
    fn a_watch_that_breaks_while_etcd_answers_loses_no_sign_of_life() {
        let mut watched = Watched::start();
        watched.pass(2, true, &["a", "b"]);
        assert_eq!(watched.shows().1, None);
        let broken = Err(StoreError::Unavailable("the member ended the watch".into()));
        watched.followed.told(&watched.keys, broken, watched.now);
        assert!(watched.shows().1.unwrap().contains("the member ended the watch"));
        for _ in 0..5 {
            watched.write("a");
            watched.pass(1, true, &[]);
        }
        watched.follow();
        watched.ask(true);
        let (_, trouble, health) = watched.shows();
        assert_eq!((trouble, health[1].as_str()), (None, "silent"));
        assert_ne!(health[0], "silent");
    }
}
