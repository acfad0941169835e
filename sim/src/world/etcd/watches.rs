//! Watches: a snapshot, then every change after it, over a connection that can stall and break.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use turnip_core::{Event as Change, Events, Header, Revision, StoreError, Update};

use crate::time::{MS, True};
use crate::world::env::Env;
use crate::world::event::{Event, WatchEvent};
use crate::world::ids::{HostId, MemberId, WatchId};
use crate::world::net::{Plane, Site};
use turnip_core::model::Mvcc;

use super::member::Members;

/// A client's stream of changes.
pub struct Watch {
    /// Who watches.
    pub host: HostId,
    /// The member that tells.
    pub member: MemberId,
    /// Which life of it.
    epoch: u32,
    /// What is watched.
    prefix: String,
    /// What has been sent; nothing before the snapshot.
    sent: Option<i64>,
    /// What is on its way, with when it arrives.
    inbox: VecDeque<(True, Result<Update, StoreError>)>,
    last_arrival: True,
    stalled_since: Option<True>,
    /// No more comes.
    over: bool,
    /// Who waits for it.
    waker: Option<Waker>,
}

/// All watches that there ever were.
pub struct Watches {
    list: Vec<Watch>,
    /// Those that may not be over yet, in the order in which they began.
    live: Vec<WatchId>,
    /// By how many ns what each host hears is late.
    lags: Vec<u64>,
    keepalive: u64,
}

impl Watches {
    /// None yet.
    pub fn new(hosts: usize, keepalive: u64) -> Self {
        Watches { list: Vec::new(), live: Vec::new(), lags: vec![0; hosts], keepalive }
    }

    /// What a host hears is late by so many ns.
    pub fn set_lag(&mut self, host: HostId, by: u64) {
        self.lags[host] = by;
    }

    /// A watch that has only been asked for.
    pub fn add(&mut self, host: HostId, member: MemberId, epoch: u32, prefix: String) -> WatchId {
        self.list.push(Watch {
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
        });
        let id = WatchId(self.list.len() as u32 - 1);
        self.live.push(id);
        id
    }

    /// One of them.
    pub fn get(&self, id: WatchId) -> &Watch {
        &self.list[id.0 as usize]
    }

    fn get_mut(&mut self, id: WatchId) -> &mut Watch {
        &mut self.list[id.0 as usize]
    }

    /// Those that are not over.
    fn live(&mut self) -> Vec<WatchId> {
        let list = &self.list;
        self.live.retain(|id| !list[id.0 as usize].over);
        self.live.clone()
    }

    /// Those that a member has begun to feed.
    pub fn begun_at(&mut self, member: MemberId) -> Vec<WatchId> {
        let mut begun = self.live();
        begun.retain(|id| {
            let watch = self.get(*id);
            watch.member == member && watch.sent.is_some()
        });
        begun
    }

    /// A watch's first read is answered at `revision`, by a member that is so and is in that term.
    pub fn begin(
        &mut self,
        id: WatchId,
        (revision, (member_id, raft_term)): (i64, (u64, u64)),
        store: &Mvcc,
        members: &Members,
        env: &mut Env,
    ) {
        let watch = self.get(id);
        let reaches = env.net.reaches(Plane::Client, members.get(watch.member).site, watch.host);
        // What does not get back is lost: the watcher gives up, and asks again.
        if watch.over || watch.sent.is_some() || !reaches {
            return;
        }
        let watch = self.get_mut(id);
        watch.sent = Some(revision);
        let mut snapshot = store.snapshot(&watch.prefix, revision);
        snapshot.header = Header { member_id, raft_term, ..snapshot.header };
        self.send(id, Update::Snapshot(snapshot), members, env);
    }

    /// Sends a watcher what it has not been sent yet, up to the member's newest revision.
    pub fn feed(
        &mut self,
        id: WatchId,
        store: &Mvcc,
        newest: i64,
        members: &Members,
        env: &mut Env,
    ) {
        let watch = self.get(id);
        let Some(sent) = watch.sent else { return };
        if watch.stalled_since.is_some() {
            return;
        }
        let (site, host) = (members.get(watch.member).site, watch.host);
        if !env.net.reaches(Plane::Client, site, host) || env.stalls(Plane::Client, site, host) {
            self.stall(id, env);
            return;
        }
        let together = env.rng.chance(300);
        let mut events = Vec::new();
        for revision in sent + 1..=newest {
            let Some(happened) = store.events(revision) else {
                self.end(id, "the revision has been compacted", 0, env);
                return;
            };
            let prefix = &self.get(id).prefix;
            events.extend(
                happened.iter().filter(|event| event.key().starts_with(prefix.as_str())).cloned(),
            );
            if !events.is_empty() && (!together || revision == newest) {
                let events = std::mem::take(&mut events);
                let header = store.header(revision);
                self.send(id, Update::Events(Events { header, events }), members, env);
            }
        }
        if let Some(event) = events.last() {
            let header = store.header(event_revision(event).0);
            self.send(id, Update::Events(Events { header, events }), members, env);
        }
        self.get_mut(id).sent = Some(newest);
    }

    fn send(&mut self, id: WatchId, update: Update, members: &Members, env: &mut Env) {
        let watch = &mut self.list[id.0 as usize];
        let (site, lag) = (members.get(watch.member).site, self.lags[watch.host]);
        // A cut that begins while it is on its way delays it, as TCP sends it again.
        let delay = env.delay(Plane::Client, site, watch.host).unwrap_or(200 * MS);
        let at = (env.now() + delay + lag).max(watch.last_arrival);
        watch.last_arrival = at;
        watch.inbox.push_back((at, Ok(update)));
        env.schedule(at, Event::Watch { watch: id, event: WatchEvent::Arrives });
    }

    /// Ends a watch with an error that its client learns after `delay` ns.
    pub fn end(&mut self, id: WatchId, why: &str, delay: u64, env: &mut Env) {
        let watch = self.get_mut(id);
        if watch.over {
            return;
        }
        watch.over = true;
        let at = (env.now() + delay).max(watch.last_arrival);
        watch.inbox.push_back((at, Err(StoreError::Unavailable(why.into()))));
        env.schedule(at, Event::Watch { watch: id, event: WatchEvent::Arrives });
    }

    /// A member ends its watches; those whose connections work learn of it.
    pub fn end_all(&mut self, member: MemberId, site: Site, why: &str, env: &mut Env) {
        for id in self.live() {
            let watch = self.get(id);
            if watch.member == member
                && !watch.over
                && let Some(delay) = env.delay(Plane::Client, site, watch.host)
            {
                self.end(id, why, delay, env);
            }
        }
    }

    /// A watch that has not begun by now will not.
    pub fn opens_late(&mut self, id: WatchId, env: &mut Env) {
        if self.get(id).sent.is_none() {
            self.end(id, "no snapshot in time", 0, env);
        }
    }

    fn stall(&mut self, id: WatchId, env: &mut Env) {
        let watch = self.get_mut(id);
        if watch.stalled_since.is_none() && !watch.over {
            watch.stalled_since = Some(env.now());
            env.after(200 * MS, Event::Watch { watch: id, event: WatchEvent::Probe });
        }
    }

    /// Tries a stalled watch again, or lets the client's keepalive give it up. Tells whether it
    /// works again, and wants to be fed.
    pub fn probe(&mut self, id: WatchId, members: &Members, env: &mut Env) -> bool {
        let keepalive = self.keepalive;
        let watch = self.get_mut(id);
        let Some(since) = watch.stalled_since else { return false };
        if watch.over {
            return false;
        }
        if members.is_connected(watch.member, watch.epoch, watch.host, &env.net) {
            watch.stalled_since = None;
            return true;
        }
        if env.now() >= since + keepalive {
            self.end(id, "keepalive: no answer", 0, env);
        } else {
            let pause = (env.now() - since).clamp(200 * MS, 1_000 * MS);
            env.after(pause, Event::Watch { watch: id, event: WatchEvent::Probe });
        }
        false
    }

    /// Connections that do not work any more stall.
    pub fn look(&mut self, members: &Members, env: &mut Env) {
        for id in self.live() {
            let watch = self.get(id);
            if !watch.over && !members.is_connected(watch.member, watch.epoch, watch.host, &env.net)
            {
                self.stall(id, env);
            }
        }
    }

    /// What has arrived at a watcher.
    pub fn poll(
        &mut self,
        id: WatchId,
        env: &mut Env,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Update, StoreError>>> {
        let watch = self.get_mut(id);
        match watch.inbox.front() {
            Some((at, _)) if *at <= env.now() => {
                let update = watch.inbox.pop_front().map(|(_, update)| update);
                if let Some(Err(_)) = update {
                    env.count(|tally| &mut tally.watches_broken);
                }
                Poll::Ready(update)
            }
            None if watch.over => Poll::Ready(None),
            _ => {
                watch.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Something has arrived: whoever waits for it looks.
    pub fn wake(&mut self, id: WatchId) {
        if let Some(waker) = self.get_mut(id).waker.take() {
            waker.wake();
        }
    }

    /// Nobody watches any more.
    pub fn drop(&mut self, id: WatchId) {
        let watch = self.get_mut(id);
        watch.over = true;
        watch.inbox.clear();
        watch.waker = None;
    }
}

fn event_revision(event: &Change) -> Revision {
    match event {
        Change::Put(kv) => kv.mod_revision,
        Change::Delete { revision, .. } => *revision,
    }
}
