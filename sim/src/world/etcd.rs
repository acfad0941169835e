//! etcd's members as their clients see them: transactions, snapshots, watches, status.

use std::collections::VecDeque;
use std::task::Waker;

use turnip_core::{Events, MemberStatus, Revision, StoreError, Txn, TxnResponse, Update};

use crate::time::{MS, True};

use super::Inner;
use super::event::Event;
use super::host::HostId;
use super::mvcc::Mvcc;
use super::net::{Plane, Site};
use super::raft::{MemberId, REQUEST_TIMEOUT, Raft, Role};
use super::slots::{Reply, SlotId};

/// Names a client's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(pub u32);

/// Names a watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchId(pub u32);

/// One member of the cluster.
pub struct Member {
    /// Where it runs.
    pub site: Site,
    /// Its process runs.
    pub up: bool,
    /// Its process, or its machine, is stopped.
    pub paused: bool,
    /// Counts its crashes.
    pub epoch: u32,
    /// What its disk takes longer than usual, in ns.
    pub disk_slow: u64,
    /// Its part in the cluster.
    pub raft: Raft,
    /// What waits for a leader.
    waiting: Vec<RequestId>,
    /// What happened to it while it was paused.
    pub deferred: Vec<Event>,
}

impl Member {
    /// A member that will run at `site`.
    pub fn new(site: Site) -> Self {
        Member {
            site,
            up: true,
            paused: false,
            epoch: 0,
            disk_slow: 0,
            raft: Raft::new(),
            waiting: Vec::new(),
            deferred: Vec::new(),
        }
    }
}

/// What a client asked for.
pub enum Ask {
    /// Carry out a transaction.
    Txn(Txn),
    /// Read everything under a watch's prefix, to begin the watch.
    Snapshot(WatchId),
}

/// A client's request.
pub struct Request {
    /// Who asked.
    pub host: HostId,
    /// Who waits; nobody for a snapshot, which arrives on the watch.
    pub slot: Option<SlotId>,
    /// What for.
    pub ask: Ask,
    /// Which member it was sent to, by its place in the host's list.
    pub endpoint: usize,
    /// That member.
    pub member: MemberId,
    /// Which life of that member it reached.
    epoch: u32,
    /// When it was made.
    made_at: True,
    /// How many endpoints have refused it.
    pub refusals: usize,
    /// The answer, once it was carried out.
    response: Option<TxnResponse>,
    /// Its answer will be lost on the way.
    pub lose_answer: bool,
    /// Its answer takes so many ns longer.
    pub delay_answer: u64,
}

impl Request {
    /// A request not sent yet.
    pub fn new(host: HostId, slot: Option<SlotId>, ask: Ask, made_at: True) -> Self {
        Request {
            host,
            slot,
            ask,
            endpoint: 0,
            member: 0,
            epoch: 0,
            made_at,
            refusals: 0,
            response: None,
            lose_answer: false,
            delay_answer: 0,
        }
    }
}

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
    /// A request arrives at its member.
    pub fn etcd_request(&mut self, id: RequestId) {
        let request = &mut self.requests[id.0 as usize];
        let me = request.member;
        let member = &self.members[me];
        if !member.up {
            let (host, site) = (request.host, member.site);
            if self.site_is_up(site)
                && let Some(delay) = self.net.delay(Plane::Client, site, host, &mut self.rng)
            {
                self.schedule(self.now + delay, Event::Refused { request: id });
            }
            return;
        }
        request.epoch = member.epoch;
        if let Ask::Txn(txn) = &request.ask
            && let Err(error) = Mvcc::check(txn)
        {
            self.etcd_answer(id, Err(error));
            return;
        }
        self.etcd_process(me, id);
    }

    fn etcd_process(&mut self, me: MemberId, id: RequestId) {
        let reads = match &self.requests[id.0 as usize].ask {
            Ask::Txn(txn) => Mvcc::reads_only(txn),
            Ask::Snapshot(_) => true,
        };
        let taken = if reads { self.raft_read(me, id) } else { self.raft_propose(me, id) };
        if !taken {
            self.members[me].waiting.push(id);
        }
    }

    /// The member knows a leader again: what waited for one goes on.
    pub(super) fn etcd_leader_known(&mut self, me: MemberId) {
        for id in std::mem::take(&mut self.members[me].waiting) {
            let request = &self.requests[id.0 as usize];
            if request.made_at + REQUEST_TIMEOUT > self.now {
                self.etcd_process(me, id);
            }
        }
    }

    /// The member carries out what is newly committed, answers its clients and feeds its watches.
    pub(super) fn etcd_apply(&mut self, me: MemberId) {
        let before = self.member_revision(me);
        while self.members[me].raft.applied < self.members[me].raft.commit {
            let index = self.members[me].raft.applied;
            self.members[me].raft.applied += 1;
            let entry = self.members[me].raft.entry(index);
            if self.committed.len() == index {
                self.etcd_commit(entry);
            }
            assert_eq!(self.committed[index].0, entry, "two members disagree about the log");
            if let Some(id) = entry {
                self.etcd_answer_if_mine(me, id);
            }
        }
        let revision = self.member_revision(me);
        if revision > before {
            for index in 0..self.watches.len() {
                let watch = &self.watches[index];
                if watch.member == me && !watch.over && watch.has_begun() {
                    self.watch_feed(WatchId(index as u32));
                }
            }
        }
        self.etcd_serve_reads(me);
    }

    /// The first member to learn of it carries an entry out for all.
    fn etcd_commit(&mut self, entry: Option<RequestId>) {
        if let Some(id) = entry {
            let request = &mut self.requests[id.0 as usize];
            let Ask::Txn(txn) = &mut request.ask else { unreachable!("reads are not logged") };
            let txn = std::mem::take(txn);
            let (host, slot) = (request.host, request.slot);
            let response = self.store.apply(&txn);
            if slot.is_some_and(|slot| !self.slots.is_open(slot)) {
                self.count(|tally| &mut tally.landed_late);
            }
            self.record_commit(host, &txn, &response);
            self.requests[id.0 as usize].response = Some(response);
        }
        self.committed.push((entry, self.store.revision()));
    }

    fn etcd_answer_if_mine(&mut self, me: MemberId, id: RequestId) {
        let request = &mut self.requests[id.0 as usize];
        if request.member == me
            && request.epoch == self.members[me].epoch
            && let Some(response) = request.response.take()
        {
            self.etcd_answer(id, Ok(response));
        }
    }

    fn etcd_answer(&mut self, id: RequestId, answer: Result<TxnResponse, StoreError>) {
        let request = &self.requests[id.0 as usize];
        let (host, site) = (request.host, self.members[request.member].site);
        let (Some(slot), false) = (request.slot, request.lose_answer) else { return };
        let extra = request.delay_answer;
        if let Some(delay) = self.net.delay(Plane::Client, site, host, &mut self.rng) {
            let reply = Box::new(Reply::Txn(answer));
            self.schedule(self.now + delay + extra, Event::Answer { slot, reply });
        }
    }

    /// The revision up to which a member has carried everything out.
    pub fn member_revision(&self, me: MemberId) -> i64 {
        match self.members[me].raft.applied {
            0 => 1,
            applied => self.committed[applied - 1].1,
        }
    }

    /// A read may be answered as soon as the member has carried out the log up to `index`.
    pub(super) fn etcd_read_at(&mut self, me: MemberId, id: RequestId, index: usize) {
        self.reads.push((me, id, index));
        self.etcd_serve_reads(me);
    }

    fn etcd_serve_reads(&mut self, me: MemberId) {
        if self.reads.is_empty() {
            return;
        }
        let applied = self.members[me].raft.applied;
        let mut ready = Vec::new();
        self.reads.retain(|&(member, id, index)| {
            let now = member == me && index <= applied;
            if now {
                ready.push(id);
            }
            !now
        });
        for id in ready {
            let revision = self.member_revision(me);
            let request = &self.requests[id.0 as usize];
            if request.member != me || request.epoch != self.members[me].epoch {
                continue;
            }
            match &request.ask {
                Ask::Txn(txn) => {
                    let response = self.store.read(txn, revision);
                    self.etcd_answer(id, Ok(response));
                }
                &Ask::Snapshot(watch) => self.watch_begin(watch, revision),
            }
        }
    }

    /// What a member says of itself.
    pub fn etcd_status(&self, me: MemberId) -> Result<MemberStatus, StoreError> {
        let member = &self.members[me];
        if !member.up {
            return Err(StoreError::Unavailable("connection refused".into()));
        }
        Ok(MemberStatus {
            member_id: 0x1000 + me as u64,
            is_leader: member.raft.role == Role::Leader,
            term: member.raft.term,
        })
    }

    fn watch_begin(&mut self, id: WatchId, revision: i64) {
        let watch = &mut self.watches[id.0 as usize];
        if watch.over || watch.has_begun() {
            return;
        }
        watch.sent = Some(revision);
        let snapshot = self.store.snapshot(&watch.prefix, revision);
        self.watch_send(id, Update::Snapshot(snapshot));
    }

    /// Sends a watcher what it has not been sent yet.
    fn watch_feed(&mut self, id: WatchId) {
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

    /// A member's process ends. What is on its disk stays.
    pub fn member_crash(&mut self, me: MemberId) {
        let member = &mut self.members[me];
        if !member.up {
            return;
        }
        member.up = false;
        member.epoch += 1;
        member.waiting.clear();
        member.deferred.clear();
        if member.raft.role == Role::Leader {
            self.record_deposed(me);
        }
        let raft = &mut self.members[me].raft;
        raft.role = Role::Follower;
        raft.leader = None;
        self.reads.retain(|read| read.0 != me);
        self.watches_close(me);
        self.watches_look();
    }

    /// A member's process begins again.
    pub fn member_start(&mut self, me: MemberId) {
        if !self.members[me].up {
            self.members[me].up = true;
            self.raft_start(me);
        }
    }

    /// Stops a member's process, or lets it go on.
    pub fn member_pause(&mut self, me: MemberId, paused: bool) {
        self.members[me].paused = paused;
        if paused {
            self.watches_look();
        } else {
            for event in std::mem::take(&mut self.members[me].deferred) {
                self.schedule(self.now, event);
            }
        }
    }

    /// Forgets the history of the store but for the newest revisions.
    pub fn etcd_compact(&mut self) {
        let oldest =
            (0..self.members.len()).map(|member| self.member_revision(member)).min().unwrap_or(1);
        self.store.compact(self.store.revision() - 1);
        self.store.forget(oldest);
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
