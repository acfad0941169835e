//! What etcd's members do for their clients: transactions, snapshots, watches.
//!
//! It is the state machine behind the log: it carries out what is committed, and knows nothing of
//! how that came to be.

use turnip_core::{Header, StoreError, TxnResponse};

use crate::check::history::Changes;
use crate::plan::Params;
use crate::time::{MS, True};
use crate::world::env::Env;
use crate::world::event::{ClientEvent, Event};
use crate::world::ids::{MemberId, RequestId, WatchId};
use crate::world::net::Plane;
use turnip_core::model::Mvcc;

use super::journal;
use super::member::Members;
use super::message::Entry;
use super::raft::Machine;
use super::request::{Ask, Request, Requests};
use super::watches::Watches;

/// How long a proposal waits at a member that knows no leader, before etcd gives it up.
const REQUEST_TIMEOUT: u64 = 7_000 * MS;

/// The clients' side of all members.
pub struct Service {
    /// What etcd holds.
    pub store: Mvcc,
    /// What clients asked for.
    pub requests: Requests,
    /// What they watch.
    pub watches: Watches,
    /// The revision at which the log began.
    began_at: i64,
    /// What is committed: the request, and the revision after it.
    committed: Vec<(Option<RequestId>, i64)>,
    /// How much of that each member has carried out.
    applied: Vec<usize>,
    /// The term of the newest entry that each has carried out.
    terms: Vec<u64>,
    /// How long each takes to answer what it has carried out, at most.
    slow: Vec<u64>,
    /// What waits for a leader at each member.
    waiting: Vec<Vec<RequestId>>,
    /// What waits until a member has carried out so much.
    reads: Vec<(MemberId, RequestId, usize)>,
}

impl Service {
    /// An empty store, behind as many members as the parameters say.
    pub fn new(cluster_id: u64, params: &Params) -> Self {
        let Params { hosts, keepalive, .. } = *params;
        let members = params.members();
        Service {
            store: Mvcc::new(cluster_id),
            requests: Requests::default(),
            watches: Watches::new(hosts, keepalive),
            began_at: 1,
            committed: Vec::new(),
            applied: vec![0; members],
            terms: vec![0; members],
            slow: vec![0; members],
            waiting: vec![Vec::new(); members],
            reads: Vec::new(),
        }
    }

    /// Whether a request only reads.
    pub fn reads_only(&self, id: RequestId) -> bool {
        match &self.requests.get(id).ask {
            Ask::Txn(txn) => turnip_core::model::reads_only(txn),
            Ask::Snapshot(_) => true,
        }
    }

    /// A member knows no leader to ask: the request waits there, or is refused.
    pub fn leaderless(&mut self, me: MemberId, id: RequestId, members: &Members, env: &mut Env) {
        match self.requests.get(id) {
            // An operator's tool waits for a leader.
            Request { slot: None, ask: Ask::Txn(_), .. } => self.waiting[me].push(id),
            // The daemons ask with require-leader.
            _ => self.refuse(id, true, members, env),
        }
    }

    /// A client is told that its request was not carried out: the member's process does not run, or
    /// it says so itself.
    pub fn refuse(&self, id: RequestId, runs: bool, members: &Members, env: &mut Env) {
        let request = self.requests.get(id);
        let (host, site) = (request.host, members.get(request.member).site);
        if let Some(delay) = env.delay(Plane::Client, site, host) {
            env.after(delay, Event::Client(ClientEvent::Refused { request: id, runs }));
        }
    }

    /// A client is sent its answer.
    pub fn answer(
        &self,
        id: RequestId,
        answer: Result<TxnResponse, StoreError>,
        members: &Members,
        env: &mut Env,
    ) {
        let member = self.requests.get(id).member;
        match (self.slow[member], answer) {
            (most @ 1.., Ok(response)) => {
                let (delay, epoch) = (env.rng.below(most), members.get(member).epoch);
                let response = Box::new(response);
                env.after(delay, Event::Reply { request: id, epoch, response });
            }
            (_, answer) => self.send(id, answer, members, env),
        }
    }

    /// How long a member takes to answer what it has carried out, at most.
    pub fn set_slow(&mut self, me: MemberId, by: u64) {
        self.slow[me] = by;
    }

    /// An answer leaves its member, with what that says of itself now.
    pub fn send(
        &self,
        id: RequestId,
        answer: Result<TxnResponse, StoreError>,
        members: &Members,
        env: &mut Env,
    ) {
        let request = self.requests.get(id);
        let (host, site) = (request.host, members.get(request.member).site);
        if request.slot.is_none() || request.lose_answer {
            return;
        }
        let extra = request.delay_answer;
        let (member_id, raft_term) = self.identity(request.member);
        let answer = answer.map(|mut response| {
            response.header = Header { member_id, raft_term, ..response.header };
            response
        });
        if let Some(delay) = env.delay(Plane::Client, site, host) {
            let event = ClientEvent::Answered { request: id, answer: Box::new(answer) };
            env.after(delay + extra, Event::Client(event));
        }
    }

    /// What a member says of itself in each answer: who it is, and the term of its newest entry.
    fn identity(&self, me: MemberId) -> (u64, u64) {
        (super::member_id(me), self.terms[me])
    }

    /// The revision up to which a member has carried everything out.
    pub fn revision_at(&self, me: MemberId) -> i64 {
        match self.applied[me] {
            0 => self.began_at,
            applied => self.committed[applied - 1].1,
        }
    }

    /// A watch's connection is tried again.
    pub fn probe(&mut self, id: WatchId, members: &Members, env: &mut Env) {
        if self.watches.probe(id, members, env) {
            self.feed(id, members, env);
        }
    }

    fn feed(&mut self, id: WatchId, members: &Members, env: &mut Env) {
        let newest = self.revision_at(self.watches.get(id).member);
        self.watches.feed(id, &self.store, newest, members, env);
    }

    /// A member's process has ended: what waited there is gone, and of terms it knows nothing when it begins
    /// again.
    pub fn crash(&mut self, me: MemberId) {
        self.terms[me] = 0;
        self.waiting[me].clear();
        self.reads.retain(|read| read.0 != me);
    }

    /// Everything but `store` is gone: the log begins anew, with what that holds.
    pub fn restore(&mut self, store: Mvcc) {
        self.began_at = store.revision();
        self.store = store;
        self.committed.clear();
        self.applied.fill(0);
        self.terms.fill(0);
    }

    /// Forgets the history of the store but for the newest revisions.
    pub fn compact(&mut self) {
        let members = 0..self.applied.len();
        let oldest = members.map(|member| self.revision_at(member)).min().unwrap_or(1);
        self.store.compact(self.store.revision() - 1);
        self.store.forget(oldest);
    }

    /// The first member to learn of it carries an entry out for all.
    fn commit(&mut self, entry: Option<RequestId>, env: &mut Env) {
        if let Some(id) = entry {
            let request = self.requests.get_mut(id);
            let Ask::Txn(txn) = &mut request.ask else { unreachable!("reads are not logged") };
            let txn = std::mem::take(txn);
            let layout = std::rc::Rc::clone(&env.layout);
            let newest = |key: &str| self.store.newest(key);
            let changes = Changes::of(layout.names.keys(), &txn, newest);
            let response = self.store.apply(&txn);
            if request.slot.is_some_and(|slot| !env.slots.is_open(slot)) {
                env.count(|tally| &mut tally.landed_late);
            }
            journal::committed(request.host, (&txn, &changes), &response, env);
            request.response = Some(response);
        }
        self.committed.push((entry, self.store.revision()));
    }

    fn answer_if_mine(&mut self, me: MemberId, id: RequestId, members: &Members, env: &mut Env) {
        let request = self.requests.get_mut(id);
        if request.member == me
            && request.epoch == members.get(me).epoch
            && let Some(response) = request.response.take()
        {
            self.answer(id, Ok(response), members, env);
        }
    }

    fn serve_reads(&mut self, me: MemberId, members: &Members, env: &mut Env) {
        if self.reads.is_empty() {
            return;
        }
        let applied = self.applied[me];
        let mut ready = Vec::new();
        self.reads.retain(|&(member, id, index)| {
            let now = member == me && index <= applied;
            if now {
                ready.push(id);
            }
            !now
        });
        for id in ready {
            let revision = self.revision_at(me);
            let request = self.requests.get(id);
            if request.member != me || request.epoch != members.get(me).epoch {
                continue;
            }
            match &request.ask {
                Ask::Txn(txn) => {
                    let response = self.store.read(txn, revision);
                    self.answer(id, Ok(response), members, env);
                }
                &Ask::Snapshot(watch) => {
                    let identity = self.identity(me);
                    self.watches.begin(watch, (revision, identity), &self.store, members, env);
                }
            }
        }
    }
}

impl Machine for Service {
    fn apply(&mut self, me: MemberId, log: &[Entry], members: &Members, env: &mut Env) {
        let before = self.revision_at(me);
        while self.applied[me] < log.len() {
            let index = self.applied[me];
            self.applied[me] += 1;
            self.terms[me] = log[index].term;
            let entry = log[index].request;
            if self.committed.len() == index {
                self.commit(entry, env);
            }
            assert_eq!(self.committed[index].0, entry, "two members disagree about the log");
            if let Some(id) = entry {
                self.answer_if_mine(me, id, members, env);
            }
        }
        let revision = self.revision_at(me);
        if revision > before {
            for id in self.watches.begun_at(me) {
                self.watches.feed(id, &self.store, revision, members, env);
            }
        }
        self.serve_reads(me, members, env);
    }

    fn read_at(
        &mut self,
        me: MemberId,
        id: RequestId,
        index: usize,
        members: &Members,
        env: &mut Env,
    ) {
        self.reads.push((me, id, index));
        self.serve_reads(me, members, env);
    }

    fn leader_known(&mut self, me: MemberId, now: True) -> Vec<(RequestId, bool)> {
        let waited = std::mem::take(&mut self.waiting[me]);
        let in_time = |id: &RequestId| self.requests.get(*id).made_at + REQUEST_TIMEOUT > now;
        let in_time = waited.into_iter().filter(in_time);
        in_time.map(|id| (id, self.reads_only(id))).collect()
    }
}
