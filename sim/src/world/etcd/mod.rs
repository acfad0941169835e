//! A cluster of etcd: members that agree by raft, and what they do for their clients.

pub mod journal;
pub mod member;
pub mod message;
mod raft;
pub mod request;
mod service;
pub mod watches;

use std::task::{Context, Poll};

use turnip_core::{KeyValue, MemberStatus, Op, StoreError, Txn, TxnResponse, Update};

use crate::plan::Params;

use super::env::Env;
use super::event::{Event, MemberEvent, WatchEvent};
use turnip_core::model::Mvcc;

use super::ids::{HostId, MemberId, RequestId, WatchId};

use super::net::Site;

use member::Members;
use raft::{Around, Cluster};
use request::{Ask, Request};
use service::Service;

/// The cluster.
pub struct Etcd {
    members: Members,
    raft: Cluster,
    service: Service,
    /// The newest backup of what it held.
    backup: Option<Mvcc>,
    /// How often it was restored into a cluster with another id.
    clusters: u64,
    /// Its quota is full: nothing is put.
    refuses_writes: bool,
}

/// What a member calls itself.
fn member_id(member: MemberId) -> u64 {
    0x1000 + member as u64
}

/// The first cluster's id.
const CLUSTER_ID: u64 = 0xC1;

impl Etcd {
    /// A cluster that has never run.
    pub fn new(params: &Params) -> Self {
        Etcd {
            members: Members::new((0..params.members()).map(|member| params.site_of(member))),
            raft: Cluster::new(params.members(), params.raft),
            service: Service::new(CLUSTER_ID, params),
            backup: None,
            clusters: 0,
            refuses_writes: false,
        }
    }

    /// How many members there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Where a member runs.
    pub fn site(&self, member: MemberId) -> Site {
        self.members.get(member).site
    }

    /// The newest value of a key.
    pub fn newest(&self, key: &str) -> Option<&KeyValue> {
        self.service.store.newest(key)
    }

    /// Who leads, as far as the newest term goes.
    pub fn leader(&self) -> Option<MemberId> {
        let leads = |member: &MemberId| self.members.get(*member).up && self.raft.leads(*member);
        (0..self.members.len()).filter(leads).max_by_key(|&member| self.raft.term(member))
    }

    /// What a member says of itself.
    ///
    /// # Errors
    /// When it does not run.
    pub fn status(&self, member: MemberId) -> Result<MemberStatus, StoreError> {
        if !self.members.get(member).up {
            return Err(StoreError::Unavailable("connection refused".into()));
        }
        Ok(MemberStatus {
            member_id: member_id(member),
            is_leader: self.raft.leads(member),
            term: self.raft.term(member),
        })
    }

    /// Whether a member's process, or its machine, is stopped.
    pub fn is_paused(&self, member: MemberId) -> bool {
        self.members.get(member).paused
    }

    /// Keeps a client's request.
    pub fn add(&mut self, request: Request) -> RequestId {
        self.service.requests.add(request)
    }

    /// The member that a request was sent to.
    pub fn member_asked(&self, id: RequestId) -> MemberId {
        self.service.requests.get(id).member
    }

    /// A request.
    pub fn request(&mut self, id: RequestId) -> &mut Request {
        self.service.requests.get_mut(id)
    }

    /// A member's process begins, for the first time or again.
    pub fn start(&mut self, member: MemberId, env: &mut Env) {
        let process = self.members.get_mut(member);
        process.up = true;
        // A process that begins on a machine that is stopped has waited for nothing yet.
        process.paused_at = env.now();
        let (raft, mut around) = self.raft(env);
        raft.start(member, &mut around);
    }

    /// A member's process begins again, unless it runs.
    pub fn restart(&mut self, member: MemberId, env: &mut Env) {
        if !self.members.get(member).up {
            self.start(member, env);
            let (raft, mut around) = self.raft(env);
            raft.restarted(member, &mut around);
        }
    }

    /// A member's process ends. What is on its disk stays. Its machine may run on, and then closes
    /// the connections.
    pub fn crash(&mut self, me: MemberId, machine_runs: bool, env: &mut Env) {
        let member = self.members.get_mut(me);
        if !member.up {
            return;
        }
        member.up = false;
        member.epoch += 1;
        member.deferred.clear();
        let site = member.site;
        if self.raft.crash(me) {
            journal::deposed(me, env);
        }
        self.service.crash(me);
        if machine_runs {
            self.service.watches.end_all(me, site, "connection closed", env);
        }
        self.look(env);
    }

    /// Stops a member's process, or lets it go on.
    pub fn pause(&mut self, member: MemberId, paused: bool, env: &mut Env) {
        let now = env.now();
        let process = self.members.get_mut(member);
        let was_paused = std::mem::replace(&mut process.paused, paused);
        if paused {
            if !was_paused {
                process.paused_at = now;
            }
            self.look(env);
        } else {
            if was_paused {
                self.raft.slept(member, now - process.paused_at);
            }
            for event in std::mem::take(&mut self.members.get_mut(member).deferred) {
                env.after(0, event);
            }
        }
    }

    /// What a write to a member's disk takes longer than usual, in ns.
    pub fn set_disk_slow(&mut self, member: MemberId, by: u64) {
        self.members.get_mut(member).disk_slow = by;
    }

    /// How long a member takes to answer what it has carried out, at most, in ns.
    pub fn set_answers_slow(&mut self, member: MemberId, by: u64) {
        self.service.set_slow(member, by);
    }

    /// A member answers what it has carried out.
    pub fn replies(&mut self, id: RequestId, epoch: u32, response: TxnResponse, env: &mut Env) {
        if self.members.get(self.member_asked(id)).epoch == epoch {
            self.service.send(id, Ok(response), &self.members, env);
        }
    }

    /// Whoever leads gives leadership to the member after it.
    pub fn move_leader(&mut self, to: Option<MemberId>, env: &mut Env) {
        if let Some(leader) = self.leader() {
            let to = to.unwrap_or((leader + 1) % self.members.len());
            let (raft, mut around) = self.raft(env);
            raft.move_leader(leader, to, &mut around);
        }
    }

    /// Its quota is full from now on, or no longer.
    pub fn refuse_writes(&mut self, refuses: bool) {
        self.refuses_writes = refuses;
    }

    /// Forgets the history of the store but for the newest revisions.
    pub fn compact(&mut self) {
        self.service.compact();
    }

    /// An operator makes a backup.
    pub fn back_up(&mut self) {
        self.backup = Some(self.service.store.clone());
    }

    /// An operator stops all members, and restores from the newest backup what they hold, or
    /// nothing where there is none. They do not run yet.
    pub fn restore(&mut self, other_cluster: bool, raise: i64, env: &mut Env) {
        for member in 0..self.members.len() {
            self.crash(member, true, env);
        }
        self.clusters += u64::from(other_cluster);
        let cluster_id = CLUSTER_ID + self.clusters;
        let mut store = self.backup.clone().unwrap_or_else(|| Mvcc::new(cluster_id));
        store.restored(cluster_id, raise);
        self.raft.forget();
        self.service.restore(store);
        env.trace(|_| {
            let revision = self.service.store.revision();
            format!("etcd is restored: cluster {cluster_id:x} at revision {revision}")
        });
    }

    /// Something happens to a member, unless it has crashed since, or is stopped.
    pub fn member_event(&mut self, me: MemberId, epoch: u32, event: MemberEvent, env: &mut Env) {
        let member = self.members.get_mut(me);
        if member.epoch != epoch || !member.up {
            return;
        }
        if member.paused {
            member.deferred.push(Event::Member { member: me, epoch, event });
            return;
        }
        let site = member.site;
        let (raft, mut around) = self.raft(env);
        match event {
            MemberEvent::Message { from, message } => {
                raft.receive(from, me, *message, &mut around);
            }
            MemberEvent::Election => raft.election_timer(me, &mut around),
            MemberEvent::Heartbeat { term } => raft.heartbeat(me, term, &mut around),
            MemberEvent::Disk { len } => raft.durable(me, len, &mut around),
            // Watches asked for a leader.
            MemberEvent::Leaderless { since } => {
                if raft.is_leaderless_since(me, since) {
                    self.service.watches.end_all(me, site, "no leader", env);
                }
            }
        }
    }

    /// A request arrives at its member, whose machine may be off.
    pub fn arrives(&mut self, id: RequestId, machine_runs: bool, env: &mut Env) {
        let request = self.service.requests.get_mut(id);
        let me = request.member;
        let member = self.members.get_mut(me);
        if member.up && member.paused {
            member.deferred.push(Event::Request { request: id });
            return;
        }
        if !member.up {
            // Nobody waits for the answer to an operator's wish: it is repeated.
            if machine_runs && request.slot.is_some() {
                self.service.refuse(id, false, &self.members, env);
            }
            return;
        }
        request.epoch = member.epoch;
        if let Ask::Txn(txn) = &request.ask {
            let mut answer = turnip_core::model::check(txn);
            if self.refuses_writes && puts(txn) {
                answer = Err(StoreError::Unavailable("database space exceeded".into()));
            }
            if let Err(error) = answer {
                self.service.answer(id, Err(error), &self.members, env);
                return;
            }
        }
        let reads = self.service.reads_only(id);
        let (raft, mut around) = self.raft(env);
        let taken =
            if reads { raft.read(me, id, &mut around) } else { raft.propose(me, id, &mut around) };
        if !taken {
            self.service.leaderless(me, id, &self.members, env);
        }
    }

    fn raft<'a>(&'a mut self, env: &'a mut Env) -> (&'a mut Cluster, Around<'a, Service>) {
        let around = Around { members: &self.members, machine: &mut self.service, env };
        (&mut self.raft, around)
    }
}

/// Whether a transaction may put a key: with a full quota etcd refuses that, and carries out what only
/// reads and deletes.
fn puts(txn: &Txn) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| matches!(op, Op::Put { .. }))
}

/// Watches, as their clients see them.
impl Etcd {
    /// A client begins to watch at a member: the request for its first read is to be sent.
    pub fn watch(&mut self, host: HostId, member: MemberId, prefix: String) -> WatchId {
        let epoch = self.members.get(member).epoch;
        self.service.watches.add(host, member, epoch, prefix)
    }

    /// What the watcher has been sent and has arrived; the end after the last of a watch that is
    /// over.
    pub fn poll_watch(
        &mut self,
        id: WatchId,
        env: &mut Env,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Update, StoreError>>> {
        self.service.watches.poll(id, env, cx)
    }

    /// Nobody watches any more.
    pub fn unwatch(&mut self, id: WatchId) {
        self.service.watches.drop(id);
    }

    /// A member refuses to begin a watch.
    pub fn watch_refused(&mut self, id: WatchId, env: &mut Env) {
        self.service.watches.end(id, "the member refuses", 0, env);
    }

    /// Something happens to a watch.
    pub fn watch_event(&mut self, id: WatchId, event: WatchEvent, env: &mut Env) {
        match event {
            WatchEvent::Arrives => self.service.watches.wake(id),
            WatchEvent::Opens => self.service.watches.opens_late(id, env),
            WatchEvent::Probe => self.service.probe(id, &self.members, env),
        }
    }

    /// What a host hears on its watch is late by so many ns.
    pub fn set_watch_lag(&mut self, host: HostId, by: u64) {
        self.service.watches.set_lag(host, by);
    }

    /// Something was cut, paused or stopped: connections that do not work any more are noticed
    /// in time.
    pub fn look(&mut self, env: &mut Env) {
        self.service.watches.look(&self.members, env);
    }
}
