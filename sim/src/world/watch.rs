//! Watches: a snapshot, then every change after it, over a connection that can stall and break.

use std::collections::VecDeque;
use std::task::Waker;

use turnip_core::{Events, Revision, StoreError, Update};

use crate::time::{MS, True};

use super::Inner;
use super::event::Event;
use super::host::HostId;
use super::net::Plane;
use super::raft::MemberId;

/// Names a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchId(pub u32);

/// A client's stream of changes.
pub struct Watch {
    /// Who watches.
    pub host: HostId,
    /// The member that tells.
    pub member: MemberId,
    /// Which life of it.
    pub epoch: u32,
    /// What is watched.
    pub prefix: String,
    /// What has been sent; nothing before the snapshot.
    sent: Option<i64>,
    /// What is on its way, with when it arrives.
    pub inbox: VecDeque<(True, Result<Update, StoreError>)>,
    last_arrival: True,
    stalled_since: Option<True>,
    /// No more comes.
    pub over: bool,
    /// Who waits for it.
    pub waker: Option<Waker>,
}

impl Watch {
    /// A watch that has only been asked for.
    pub fn new(host: HostId, member: MemberId, epoch: u32, prefix: String) -> Self {
        Watch {
            host,
            member,
            epoch,
            prefix,
            sent: None,
            inbox: VecDeque::new(),
            last_arrival: 0,
            stalled_since: None,
            over: false,
            waker: None,
        }
    }

    /// Whether its snapshot has been sent.
    pub fn has_begun(&self) -> bool {
        self.sent.is_some()
    }
}

impl Inner {
    /// A watch's first read is answered at `revision`.
    pub(super) fn watch_begin(&mut self, id: WatchId, revision: i64) {
        let watch = &mut self.watches[id.0 as usize];
        if watch.over || watch.has_begun() {
            return;
        }
        watch.sent = Some(revision);
        let snapshot = self.store.snapshot(&watch.prefix, revision);
        self.watch_send(id, Update::Snapshot(snapshot));
    }

    /// Sends a watcher what it has not been sent yet.
    pub(super) fn watch_feed(&mut self, id: WatchId) {
        let watch = &self.watches[id.0 as usize];
        let Some(sent) = watch.sent else { return };
        let member = watch.member;
        if watch.stalled_since.is_some() {
            return;
        }
        if !self.net.reaches(Plane::Client, self.members[member].site, watch.host) {
            self.watch_stall(id);
            return;
        }
        let newest = self.member_revision(member);
        let together = self.rng.chance(300);
        let mut events = Vec::new();
        for revision in sent + 1..=newest {
            let Some(happened) = self.store.events(revision) else {
                self.watch_break(id, "the revision has been compacted", 0);
                return;
            };
            let prefix = &self.watches[id.0 as usize].prefix;
            events.extend(
                happened
                    .iter()
                    .filter(|event| event_key(event).starts_with(prefix.as_str()))
                    .cloned(),
            );
            if !events.is_empty() && (!together || revision == newest) {
                let events = std::mem::take(&mut events);
                let header = self.store.header(revision);
                self.watch_send(id, Update::Events(Events { header, events }));
            }
        }
        if let Some(event) = events.last() {
            let header = self.store.header(event_revision(event).0);
            self.watch_send(id, Update::Events(Events { header, events }));
        }
        self.watches[id.0 as usize].sent = Some(newest);
    }

    fn watch_send(&mut self, id: WatchId, update: Update) {
        let watch = &self.watches[id.0 as usize];
        let (site, host) = (self.members[watch.member].site, watch.host);
        let lag = self.hosts[host].watch_lag;
        // A cut that begins while it is on its way delays it, as TCP sends it again.
        let delay = self.net.delay(Plane::Client, site, host, &mut self.rng).unwrap_or(200 * MS);
        let watch = &mut self.watches[id.0 as usize];
        let at = (self.now + delay + lag).max(watch.last_arrival);
        watch.last_arrival = at;
        watch.inbox.push_back((at, Ok(update)));
        self.schedule(at, Event::WatchArrives { watch: id });
    }

    /// Ends a watch with an error that its client learns after `delay` ns.
    pub(super) fn watch_break(&mut self, id: WatchId, why: &str, delay: u64) {
        let now = self.now;
        let watch = &mut self.watches[id.0 as usize];
        if watch.over {
            return;
        }
        watch.over = true;
        let at = (now + delay).max(watch.last_arrival);
        watch.inbox.push_back((at, Err(StoreError::Unavailable(why.into()))));
        self.schedule(at, Event::WatchArrives { watch: id });
    }

    fn watch_stall(&mut self, id: WatchId) {
        let now = self.now;
        let watch = &mut self.watches[id.0 as usize];
        if watch.stalled_since.is_none() && !watch.over {
            watch.stalled_since = Some(now);
            self.schedule(now + 200 * MS, Event::WatchProbe { watch: id });
        }
    }

    /// Whether a watch's connection carries traffic both ways.
    fn watch_is_connected(&self, id: WatchId) -> bool {
        let watch = &self.watches[id.0 as usize];
        let member = &self.members[watch.member];
        member.up
            && !member.paused
            && member.epoch == watch.epoch
            && self.net.reaches(Plane::Client, member.site, watch.host)
            && self.net.reaches(Plane::Client, watch.host, member.site)
    }

    /// Tries a stalled watch again, or lets the client's keepalive give it up.
    pub fn watch_probe(&mut self, id: WatchId) {
        let keepalive = self.keepalive;
        let watch = &self.watches[id.0 as usize];
        let Some(since) = watch.stalled_since else { return };
        if watch.over {
            return;
        }
        if self.watch_is_connected(id) {
            self.watches[id.0 as usize].stalled_since = None;
            self.watch_feed(id);
        } else if self.now >= since + keepalive {
            self.watch_break(id, "keepalive: no answer", 0);
        } else {
            let pause = (self.now - since).clamp(200 * MS, 1_000 * MS);
            self.schedule(self.now + pause, Event::WatchProbe { watch: id });
        }
    }

    /// Something was cut, paused or stopped: connections that do not work any more are noticed
    /// in time.
    pub fn watches_look(&mut self) {
        for index in 0..self.watches.len() {
            let id = WatchId(index as u32);
            if !self.watches[index].over && !self.watch_is_connected(id) {
                self.watch_stall(id);
            }
        }
    }

    /// A member's process ended: the connections that still work are closed.
    pub fn watches_close(&mut self, member: MemberId) {
        for index in 0..self.watches.len() {
            let watch = &self.watches[index];
            let (host, site) = (watch.host, self.members[member].site);
            if watch.member == member && !watch.over && self.site_is_up(site) {
                let delay = self.net.delay(Plane::Client, site, host, &mut self.rng);
                if let Some(delay) = delay {
                    self.watch_break(WatchId(index as u32), "connection closed", delay);
                }
            }
        }
    }

    /// A member that has long known no leader ends its watches: they asked for a leader.
    pub fn watches_leaderless(&mut self, member: MemberId, since: True) {
        let raft = &self.members[member].raft;
        if raft.leader.is_some() || raft.leaderless_since != since {
            return;
        }
        for index in 0..self.watches.len() {
            let watch = &self.watches[index];
            let (host, site) = (watch.host, self.members[member].site);
            if watch.member == member && !watch.over {
                let delay = self.net.delay(Plane::Client, site, host, &mut self.rng);
                if let Some(delay) = delay {
                    self.watch_break(WatchId(index as u32), "no leader", delay);
                }
            }
        }
    }
}

fn event_key(event: &turnip_core::Event) -> &str {
    match event {
        turnip_core::Event::Put(kv) => &kv.key,
        turnip_core::Event::Delete { key, .. } => key,
    }
}

fn event_revision(event: &turnip_core::Event) -> Revision {
    match event {
        turnip_core::Event::Put(kv) => kv.mod_revision,
        turnip_core::Event::Delete { revision, .. } => *revision,
    }
}
