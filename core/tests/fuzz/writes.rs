//! What others write, and what the watch tells of it.

use turnip_core::records::{Nonce, SessionRecord, VipRecord, encode};
use turnip_core::*;

use super::{Fuzz, Whom, Write};

impl Fuzz {
    pub(super) fn put(&mut self, key: &str, value: Vec<u8>) {
        let key = format!("/turnip/main/{key}");
        self.etcd.apply(&Txn { success: vec![Op::Put { key, value }], ..Txn::default() });
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.etcd.delete(&format!("/turnip/main/{key}"));
    }

    pub(super) fn session(&self, node: &str) -> Option<SessionId> {
        let kv = self.etcd.kvs.get(&format!("/turnip/main/sessions/{node}"))?;
        Some(SessionId(kv.create_revision))
    }

    pub(super) fn session_record(&mut self, host: &str) -> Vec<u8> {
        self.writes += 1;
        encode(&SessionRecord {
            lease_ms: u64::try_from(self.config.lease.duration().as_millis()).unwrap(),
            host: HostId(host.into()),
            nonce: Nonce { process: 77, count: self.writes },
            witnesses: Default::default(),
        })
    }

    pub(super) fn write(&mut self, write: &Write) {
        let vip_name = |vip: usize| self.config.vips[vip % self.config.vips.len()].name.clone();
        match write {
            Write::Other => {
                let record = self.session_record("host-b");
                self.put("sessions/b", record);
                self.put("nodes/b", self.other_offer.clone());
            }
            Write::OtherGone => self.delete("sessions/b"),
            Write::Give { vip, to } => {
                let key = format!("vips/{}", vip_name(*vip));
                let to = match to {
                    Whom::Node => self.session("a").map(|s| ("a", s)),
                    Whom::Other => self.session("b").map(|s| ("b", s)),
                    Whom::Ghost => Some(("ghost", SessionId(Revision(1)))),
                    Whom::Nobody => None,
                };
                match to {
                    Some((node, session)) => {
                        let node = node.parse().unwrap();
                        self.put(&key, encode(&VipRecord { node, session, since_unix_ms: 0 }));
                    }
                    None => self.delete(&key),
                }
            }
            Write::Drain { own, on } => {
                let key = format!("intents/drain/{}", if *own { "a" } else { "b" });
                match on {
                    true => self.put(&key, br#"{"v":1}"#.to_vec()),
                    false => self.delete(&key),
                }
            }
            Write::Pin { vip, to } => {
                let key = format!("intents/pin/{}", vip_name(*vip));
                match to {
                    Some(true) => self.put(&key, br#"{"v":1,"node":"a"}"#.to_vec()),
                    Some(false) => self.put(&key, br#"{"v":1,"node":"b"}"#.to_vec()),
                    None => self.delete(&key),
                }
            }
            Write::Stranger { host } => {
                let record = self.session_record(if *host { "host-a" } else { "host-x" });
                self.put("sessions/a", record);
            }
            Write::OwnGone => self.delete("sessions/a"),
            Write::Garbage(which) => {
                let keys = ["sessions/b", "nodes/b", "vips/v0", "intents/pin/v1", "what", "vips/w"];
                self.put(keys[*which], b"garbage".to_vec());
            }
        }
    }

    pub(super) fn deliver_events(&mut self) {
        let Some(told) = self.told.filter(|told| *told < self.etcd.history.len()) else { return };
        let revision = self.etcd.history[told].0;
        let same = |(r, _): &&(i64, Event)| *r == revision;
        let events: Vec<Event> =
            self.etcd.history[told..].iter().take_while(same).map(|(_, e)| e.clone()).collect();
        self.told = Some(told + events.len());
        let header =
            Header { cluster_id: 7, member_id: 1, raft_term: 2, revision: Revision(revision) };
        self.node.handle_update(Update::Events(Events { header, events }), self.now);
    }

    pub(super) fn snapshot(&mut self, fresh: bool) {
        let revision = Revision(if fresh { self.etcd.revision } else { self.etcd.revision / 2 });
        let kvs = self.etcd.kvs.values().filter(|kv| kv.mod_revision <= revision);
        let header = Header { cluster_id: 7, member_id: 1, raft_term: 2, revision };
        let snapshot = Snapshot { header, kvs: kvs.cloned().collect() };
        self.told = fresh.then_some(self.etcd.history.len());
        self.node.handle_update(Update::Snapshot(snapshot), self.now);
    }
}
