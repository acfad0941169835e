//! Raft among etcd's members, message by message: terms, elections with randomised timeouts,
//! pre-vote, check-quorum, and a log whose entries take effect when a majority has them.
//!
//! What it leaves out is what turnip cannot see: snapshots of the log, changes of membership.

mod election;
mod log;

use crate::time::{S, True};
use crate::timing::RaftTiming;
use crate::world::env::Env;
use crate::world::event::MemberEvent;
use crate::world::ids::{MemberId, RequestId};
use crate::world::net::Plane;

use super::member::Members;
use super::message::{Entry, Message};

/// What stands behind the log.
pub trait Machine {
    /// A member may carry out all of `log`.
    fn apply(&mut self, me: MemberId, log: &[Entry], members: &Members, env: &mut Env);

    /// A read may be answered as soon as the member has carried out the log up to `index`.
    fn read_at(
        &mut self,
        me: MemberId,
        request: RequestId,
        index: usize,
        members: &Members,
        env: &mut Env,
    );

    /// The member knows a leader again: what waited there for one goes on. With each, whether it
    /// only reads.
    fn leader_known(&mut self, me: MemberId, now: True) -> Vec<(RequestId, bool)>;
}

/// What a cluster works with.
pub struct Around<'a, M> {
    /// The members' processes.
    pub members: &'a Members,
    /// What stands behind the log.
    pub machine: &'a mut M,
    /// The world.
    pub env: &'a mut Env,
}

/// How a member sees its part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads, as far as it knows.
    Leader,
}

/// One member's raft state. `term`, `voted` and the durable part of `log` outlive a crash.
struct Raft {
    term: u64,
    voted: Option<MemberId>,
    log: Vec<Entry>,
    durable: usize,
    commit: usize,
    role: Role,
    leader: Option<MemberId>,
    heard_at: True,
    election_at: True,
    votes: u32,
    refusals: u32,
    peers: Vec<Peer>,
    round: u64,
    reads: Vec<(u64, RequestId, MemberId)>,
    /// Since when it knows no leader.
    leaderless_since: True,
    /// When it was started again, until it knows the other members.
    restarted_at: Option<True>,
}

#[derive(Clone, Copy, Default)]
struct Peer {
    next: usize,
    matched: usize,
    round: u64,
    heard_at: True,
}

impl Raft {
    /// A member that has never run.
    fn new() -> Self {
        Raft {
            term: 0,
            voted: None,
            log: Vec::new(),
            durable: 0,
            commit: 0,
            role: Role::Follower,
            leader: None,
            heard_at: 0,
            election_at: 0,
            votes: 0,
            refusals: 0,
            peers: Vec::new(),
            round: 0,
            reads: Vec::new(),
            leaderless_since: 0,
            restarted_at: None,
        }
    }

    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }

    fn term_at(&self, len: usize) -> u64 {
        if len == 0 { 0 } else { self.log[len - 1].term }
    }

    /// What may be carried out: what is committed and on the member's own disk.
    fn ready(&self) -> usize {
        self.commit.min(self.durable)
    }
}

/// All members' parts.
pub struct Cluster {
    raft: Vec<Raft>,
    /// When the last message from one to another arrives: the links keep the order.
    order: Vec<True>,
    timing: RaftTiming,
}

impl Cluster {
    /// So many members that have never run.
    pub fn new(members: usize, timing: RaftTiming) -> Self {
        let raft = (0..members).map(|_| Raft::new()).collect();
        Cluster { raft, order: vec![0; members * members], timing }
    }

    /// The members have never run.
    pub fn forget(&mut self) {
        self.raft.iter_mut().for_each(|raft| *raft = Raft::new());
    }

    /// Whether a member leads, as far as it knows.
    pub fn leads(&self, me: MemberId) -> bool {
        self.raft[me].role == Role::Leader
    }

    /// A member's term.
    pub fn term(&self, me: MemberId) -> u64 {
        self.raft[me].term
    }

    /// Whether a member knows no leader, and has known none since then.
    pub fn is_leaderless_since(&self, me: MemberId, since: True) -> bool {
        self.raft[me].leader.is_none() && self.raft[me].leaderless_since == since
    }

    /// A member's process ends; what is on its disk stays. Tells whether it led.
    pub fn crash(&mut self, me: MemberId) -> bool {
        let raft = &mut self.raft[me];
        raft.leader = None;
        std::mem::replace(&mut raft.role, Role::Follower) == Role::Leader
    }

    fn quorum(&self) -> u32 {
        self.raft.len() as u32 / 2 + 1
    }

    /// Begins a member's life, at the start or after a crash.
    pub fn start(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let now = a.env.now();
        let election_at = self.random_election(now, a);
        let raft = &mut self.raft[me];
        raft.log.truncate(raft.durable);
        raft.role = Role::Follower;
        raft.leader = None;
        raft.leaderless_since = now;
        raft.heard_at = 0;
        // Others may have what this one had not written yet when it was committed.
        raft.commit = raft.commit.min(raft.log.len());
        raft.election_at = election_at;
        raft.reads.clear();
        self.arm(me, election_at, a);
    }

    /// A member was started again. Who is connected to two others within 5 s of its start waits for a leader for two
    /// heartbeats less than others wait at most: `--initial-election-tick-advance`.
    pub fn restarted(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let now = a.env.now();
        self.raft[me].restarted_at = Some(now);
        let up = (0..self.raft.len()).filter(|&member| a.members.get(member).up).count();
        if up < 3 {
            return;
        }
        let advance = self.timing.election.saturating_sub(2 * self.timing.heartbeat);
        for member in 0..self.raft.len() {
            let raft = &mut self.raft[member];
            let is_new = raft.restarted_at.take_if(|_| a.members.get(member).up);
            if is_new.is_some_and(|at| now - at <= 5 * S) && raft.role == Role::Follower {
                raft.election_at = raft.election_at.saturating_sub(advance).max(now);
                let at = raft.election_at;
                self.arm(member, at, a);
            }
        }
    }

    /// A member's process was stopped for so long. Its clock is a count of ticks, which did not come meanwhile: what it
    /// waits for it goes on to wait for, and whom it has heard lately it has heard lately.
    pub fn slept(&mut self, me: MemberId, time: u64) {
        let raft = &mut self.raft[me];
        raft.election_at += time;
        raft.heard_at += time;
        raft.peers.iter_mut().for_each(|peer| peer.heard_at += time);
    }

    /// The leader's regular heartbeat.
    pub fn heartbeat(&mut self, me: MemberId, term: u64, a: &mut Around<'_, impl Machine>) {
        let raft = &mut self.raft[me];
        if raft.role != Role::Leader || raft.term != term {
            return;
        }
        raft.peers[me].heard_at = a.env.now();
        self.broadcast_round(me, a);
        let event = a.members.event(me, MemberEvent::Heartbeat { term });
        a.env.after(self.timing.heartbeat, event);
    }

    fn broadcast_round(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let raft = &mut self.raft[me];
        raft.round += 1;
        let (term, round) = (raft.term, raft.round);
        raft.peers[me].round = round;
        for other in 0..self.raft.len() {
            if other == me {
                continue;
            }
            let raft = &self.raft[me];
            let matched = raft.peers[other].matched;
            let prev = (raft.term_at(matched), matched);
            let commit = raft.commit.min(matched);
            let entries = Vec::new();
            self.send(me, other, Message::Append { term, prev, entries, commit, round }, a);
        }
        self.confirm_reads(me, a);
    }

    /// A client of this member wants a request in the log.
    pub fn propose(
        &mut self,
        me: MemberId,
        request: RequestId,
        a: &mut Around<'_, impl Machine>,
    ) -> bool {
        let raft = &self.raft[me];
        match raft.leader {
            Some(leader) if leader == me => self.append(me, Some(request), a),
            Some(leader) => self.send(me, leader, Message::Propose { request }, a),
            None => return false,
        }
        true
    }

    /// A client of this member wants to read what is committed.
    pub fn read(
        &mut self,
        me: MemberId,
        request: RequestId,
        a: &mut Around<'_, impl Machine>,
    ) -> bool {
        match self.raft[me].leader {
            Some(leader) if leader == me => self.leader_read(me, request, me, a),
            Some(leader) => self.send(me, leader, Message::ReadIndex { request }, a),
            None => return false,
        }
        true
    }

    fn leader_read(
        &mut self,
        me: MemberId,
        request: RequestId,
        asker: MemberId,
        a: &mut Around<'_, impl Machine>,
    ) {
        let raft = &mut self.raft[me];
        if raft.role != Role::Leader {
            return;
        }
        let round = raft.round + 1;
        raft.reads.push((round, request, asker));
        self.broadcast_round(me, a);
    }

    fn confirm_reads(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let quorum = self.quorum() as usize;
        let raft = &mut self.raft[me];
        if raft.role != Role::Leader
            || raft.reads.is_empty()
            || raft.term_at(raft.commit) != raft.term
        {
            return;
        }
        let mut rounds: Vec<u64> = raft.peers.iter().map(|peer| peer.round).collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let (confirmed, index) = (rounds[quorum - 1], raft.commit);
        let mut ready = Vec::new();
        raft.reads.retain(|&(round, request, asker)| {
            let done = round <= confirmed;
            if done {
                ready.push((request, asker));
            }
            !done
        });
        for (request, asker) in ready {
            if asker == me {
                a.machine.read_at(me, request, index, a.members, a.env);
            } else {
                self.send(me, asker, Message::ReadAt { request, index }, a);
            }
        }
    }

    /// Hands leadership to another member, as `etcdctl move-leader` does.
    pub fn move_leader(&mut self, me: MemberId, to: MemberId, a: &mut Around<'_, impl Machine>) {
        let raft = &self.raft[me];
        if raft.role == Role::Leader && me != to {
            let term = raft.term;
            self.send(me, to, Message::TimeoutNow { term }, a);
        }
    }

    fn send(
        &mut self,
        from: MemberId,
        to: MemberId,
        message: Message,
        a: &mut Around<'_, impl Machine>,
    ) {
        let (here, there) = (a.members.get(from).site, a.members.get(to).site);
        let Some(mut delay) = a.env.delay(Plane::Peer, here, there) else { return };
        if let Message::Append { entries, .. } = &message
            && !entries.is_empty()
        {
            // The receiver answers when the entries are on its disk.
            delay += self.disk_time(to, a);
        }
        let members = self.raft.len();
        let last = &mut self.order[from * members + to];
        let at = (a.env.now() + delay).max(*last + 1);
        *last = at;
        let event = MemberEvent::Message { from, message: Box::new(message) };
        a.env.schedule(at, a.members.event(to, event));
    }

    /// A message arrives.
    pub fn receive(
        &mut self,
        from: MemberId,
        me: MemberId,
        message: Message,
        a: &mut Around<'_, impl Machine>,
    ) {
        match message {
            Message::Vote { term, last, pre, force } => {
                self.on_vote(from, me, term, last, pre, force, a);
            }
            Message::VoteReply { term, granted, pre } => {
                self.on_vote_reply(from, me, term, granted, pre, a);
            }
            Message::Append { term, prev, entries, commit, round } => {
                self.on_append(from, me, term, prev, &entries, commit, round, a);
            }
            Message::AppendReply { term, matched, round } => {
                self.on_append_reply(from, me, term, matched, round, a);
            }
            Message::Propose { request } => {
                self.propose(me, request, a);
            }
            Message::ReadIndex { request } => self.leader_read(me, request, from, a),
            Message::ReadAt { request, index } => {
                a.machine.read_at(me, request, index, a.members, a.env)
            }
            Message::TimeoutNow { term } => {
                let raft = &self.raft[me];
                if raft.term == term && raft.role == Role::Follower {
                    self.campaign(me, false, true, a);
                }
            }
        }
    }
}
