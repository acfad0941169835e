//! etcd's members as their clients see them: transactions, snapshots, watches, status.

use turnip_core::{MemberStatus, StoreError, Txn, TxnResponse, model};

use crate::time::True;

use super::Inner;
use super::event::Event;
use super::host::HostId;
use super::net::{Plane, Site};
use super::raft::{MemberId, REQUEST_TIMEOUT, Raft, Role};
use super::slots::{Reply, SlotId};
use super::watch::WatchId;

/// Names a client's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(pub u32);

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

impl Inner {
    /// A request arrives at its member.
    pub fn etcd_request(&mut self, id: RequestId) {
        let request = &mut self.requests[id.0 as usize];
        let me = request.member;
        let member = &self.members[me];
        if !member.up {
            // Nobody waits for the answer to an operator's wish: it is repeated.
            if request.slot.is_some() && self.site_is_up(member.site) {
                self.etcd_refuse(id);
            }
            return;
        }
        request.epoch = member.epoch;
        if let Ask::Txn(txn) = &request.ask
            && let Err(error) = model::check(txn)
        {
            self.etcd_answer(id, Err(error));
            return;
        }
        self.etcd_process(me, id);
    }

    fn etcd_process(&mut self, me: MemberId, id: RequestId) {
        let reads = match &self.requests[id.0 as usize].ask {
            Ask::Txn(txn) => model::reads_only(txn),
            Ask::Snapshot(_) => true,
        };
        let taken = if reads { self.raft_read(me, id) } else { self.raft_propose(me, id) };
        if taken {
            return;
        }
        match self.requests[id.0 as usize] {
            // An operator's tool waits for a leader.
            Request { slot: None, ask: Ask::Txn(_), .. } => self.members[me].waiting.push(id),
            // The daemons ask with require-leader.
            _ => self.etcd_refuse(id),
        }
    }

    /// A client is told that its request was not carried out.
    fn etcd_refuse(&mut self, id: RequestId) {
        let request = &self.requests[id.0 as usize];
        let (host, site) = (request.host, self.members[request.member].site);
        if let Some(delay) = self.net.delay(Plane::Client, site, host, &mut self.rng) {
            self.schedule(self.now + delay, Event::Refused { request: id });
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
        while self.members[me].raft.applied < self.members[me].raft.ready() {
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
