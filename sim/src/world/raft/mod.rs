//! Raft among etcd's members, message by message: terms, elections with randomised timeouts,
//! pre-vote, check-quorum, and a log whose entries take effect when a majority has them.
//!
//! What it leaves out is what turnip cannot see: snapshots of the log, changes of membership.

mod election;

use crate::time::{MS, True};

use super::event::Event;
use super::{Inner, etcd::RequestId};

/// A member's number.
pub type MemberId = usize;

/// One entry of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    term: u64,
    /// Nothing for the entry with which a leader begins its term.
    request: Option<RequestId>,
}

/// How a member sees its part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads, as far as it knows.
    Leader,
}

/// A message between members.
#[derive(Clone, Debug)]
pub enum Message {
    Vote { term: u64, last: (u64, usize), pre: bool, force: bool },
    VoteReply { term: u64, granted: bool, pre: bool },
    Append { term: u64, prev: (u64, usize), entries: Vec<Entry>, commit: usize, round: u64 },
    AppendReply { term: u64, matched: Option<usize>, round: u64 },
    Propose { request: RequestId },
    ReadIndex { request: RequestId },
    ReadAt { request: RequestId, index: usize },
    TimeoutNow { term: u64 },
}

/// Timings of the members, as etcd's flags set them.
#[derive(Clone, Copy, Debug)]
pub struct RaftTiming {
    /// In ns.
    pub heartbeat: u64,
    /// Elections begin after this to twice this without a heartbeat, in ns.
    pub election: u64,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// What one write to a member's disk takes at most, in ns.
    pub disk_max: u64,
}

/// One member's raft state. `term`, `voted` and the durable part of `log` outlive a crash.
pub struct Raft {
    pub term: u64,
    voted: Option<MemberId>,
    log: Vec<Entry>,
    durable: usize,
    pub commit: usize,
    pub applied: usize,
    pub role: Role,
    pub leader: Option<MemberId>,
    heard_at: True,
    election_at: True,
    votes: u32,
    refusals: u32,
    peers: Vec<Peer>,
    round: u64,
    reads: Vec<(u64, RequestId, MemberId)>,
    /// Since when it knows no leader.
    pub leaderless_since: True,
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
    pub fn new() -> Self {
        Raft {
            term: 0,
            voted: None,
            log: Vec::new(),
            durable: 0,
            commit: 0,
            applied: 0,
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
        }
    }

    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }

    fn term_at(&self, len: usize) -> u64 {
        if len == 0 { 0 } else { self.log[len - 1].term }
    }

    /// What may be carried out: what is committed and on the member's own disk.
    pub fn ready(&self) -> usize {
        self.commit.min(self.durable)
    }

    /// The entry at `index`.
    pub fn entry(&self, index: usize) -> Option<RequestId> {
        self.log[index].request
    }
}

impl Inner {
    /// Begins a member's life, at the start or after a crash.
    pub fn raft_start(&mut self, me: MemberId) {
        let now = self.now;
        let election_at = self.random_election(now);
        let raft = &mut self.members[me].raft;
        raft.log.truncate(raft.durable);
        raft.role = Role::Follower;
        raft.leader = None;
        raft.leaderless_since = now;
        raft.heard_at = 0;
        // Others may have what this one had not written yet when it was committed.
        raft.commit = raft.commit.min(raft.log.len());
        raft.election_at = election_at;
        raft.reads.clear();
        self.raft_arm(me, election_at);
    }

    /// The leader's regular heartbeat.
    pub fn raft_heartbeat(&mut self, me: MemberId, term: u64) {
        let raft = &mut self.members[me].raft;
        if raft.role != Role::Leader || raft.term != term {
            return;
        }
        raft.peers[me].heard_at = self.now;
        self.raft_broadcast_round(me);
        let (epoch, at) = (self.members[me].epoch, self.now + self.timing.heartbeat);
        self.schedule(at, Event::Heartbeat { member: me, epoch, term });
    }

    fn raft_broadcast_round(&mut self, me: MemberId) {
        let raft = &mut self.members[me].raft;
        raft.round += 1;
        let (term, round) = (raft.term, raft.round);
        raft.peers[me].round = round;
        for other in 0..self.members.len() {
            if other == me {
                continue;
            }
            let raft = &self.members[me].raft;
            let matched = raft.peers[other].matched;
            let prev = (raft.term_at(matched), matched);
            let commit = raft.commit.min(matched);
            let entries = Vec::new();
            self.raft_send(me, other, Message::Append { term, prev, entries, commit, round });
        }
        self.raft_confirm_reads(me);
    }

    /// The leader appends an entry and sends it on.
    fn raft_append(&mut self, me: MemberId, request: Option<RequestId>) {
        let disk = self.disk_time(me);
        let raft = &mut self.members[me].raft;
        raft.log.push(Entry { term: raft.term, request });
        let (len, epoch) = (raft.log.len(), self.members[me].epoch);
        let at = self.now + disk;
        self.schedule(at, Event::Disk { member: me, epoch, len });
        for other in 0..self.members.len() {
            if other != me {
                self.raft_send_entries(me, other);
            }
        }
    }

    /// What a write to the member's disk takes now.
    fn disk_time(&mut self, me: MemberId) -> u64 {
        let slow = self.members[me].disk_slow;
        slow + self.rng.within(100_000..=self.timing.disk_max)
    }

    /// The leader's own write is on its disk.
    pub fn raft_durable(&mut self, me: MemberId, len: usize) {
        let raft = &mut self.members[me].raft;
        if raft.log.len() >= len && raft.durable < len {
            raft.durable = len;
            self.etcd_apply(me);
        }
        self.raft_advance(me);
    }

    fn raft_send_entries(&mut self, me: MemberId, to: MemberId) {
        let raft = &mut self.members[me].raft;
        let next = raft.peers[to].next.min(raft.log.len());
        raft.peers[to].next = raft.log.len();
        let message = Message::Append {
            term: raft.term,
            prev: (raft.term_at(next), next),
            entries: raft.log[next..].to_vec(),
            commit: raft.commit,
            round: 0,
        };
        self.raft_send(me, to, message);
    }

    fn raft_advance(&mut self, me: MemberId) {
        let quorum = self.quorum() as usize;
        let raft = &mut self.members[me].raft;
        if raft.role != Role::Leader {
            return;
        }
        raft.peers[me].matched = raft.durable;
        let mut matched: Vec<usize> = raft.peers.iter().map(|peer| peer.matched).collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let commit = matched[quorum - 1];
        if commit <= raft.commit || raft.term_at(commit) != raft.term {
            return;
        }
        raft.commit = commit;
        let term = raft.term;
        self.etcd_apply(me);
        for other in 0..self.members.len() {
            let raft = &self.members[me].raft;
            if other != me && raft.role == Role::Leader {
                // What was sent before arrives before: the links keep the order.
                let next = raft.peers[other].next;
                let prev = (raft.term_at(next), next);
                let entries = Vec::new();
                let message = Message::Append { term, prev, entries, commit, round: 0 };
                self.raft_send(me, other, message);
            }
        }
        self.raft_confirm_reads(me);
    }

    /// A client of this member wants a request in the log.
    pub fn raft_propose(&mut self, me: MemberId, request: RequestId) -> bool {
        let raft = &self.members[me].raft;
        match raft.leader {
            Some(leader) if leader == me => self.raft_append(me, Some(request)),
            Some(leader) => self.raft_send(me, leader, Message::Propose { request }),
            None => return false,
        }
        true
    }

    /// A client of this member wants to read what is committed.
    pub fn raft_read(&mut self, me: MemberId, request: RequestId) -> bool {
        match self.members[me].raft.leader {
            Some(leader) if leader == me => self.raft_leader_read(me, request, me),
            Some(leader) => self.raft_send(me, leader, Message::ReadIndex { request }),
            None => return false,
        }
        true
    }

    fn raft_leader_read(&mut self, me: MemberId, request: RequestId, asker: MemberId) {
        let raft = &mut self.members[me].raft;
        if raft.role != Role::Leader {
            return;
        }
        let round = raft.round + 1;
        raft.reads.push((round, request, asker));
        self.raft_broadcast_round(me);
    }

    fn raft_confirm_reads(&mut self, me: MemberId) {
        let quorum = self.quorum() as usize;
        let raft = &mut self.members[me].raft;
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
                self.etcd_read_at(me, request, index);
            } else {
                self.raft_send(me, asker, Message::ReadAt { request, index });
            }
        }
    }

    /// Hands leadership to another member, as `etcdctl move-leader` does.
    pub fn raft_move_leader(&mut self, me: MemberId, to: MemberId) {
        let raft = &self.members[me].raft;
        if raft.role == Role::Leader && me != to {
            let term = raft.term;
            self.raft_send(me, to, Message::TimeoutNow { term });
        }
    }

    fn raft_send(&mut self, from: MemberId, to: MemberId, message: Message) {
        let (a, b) = (self.members[from].site, self.members[to].site);
        let Some(mut delay) = self.net.delay(super::net::Plane::Peer, a, b, &mut self.rng) else {
            return;
        };
        if let Message::Append { entries, .. } = &message
            && !entries.is_empty()
        {
            // The receiver answers when the entries are on its disk.
            delay += self.disk_time(to);
        }
        let members = self.members.len();
        let last = &mut self.peer_order[from * members + to];
        let at = (self.now + delay).max(*last + 1);
        *last = at;
        let epoch = self.members[to].epoch;
        self.schedule(at, Event::Raft { from, to, epoch, message: Box::new(message) });
    }

    /// A message arrives.
    pub fn raft_receive(&mut self, from: MemberId, me: MemberId, message: Message) {
        match message {
            Message::Vote { term, last, pre, force } => {
                self.raft_on_vote(from, me, term, last, pre, force);
            }
            Message::VoteReply { term, granted, pre } => {
                self.raft_on_vote_reply(from, me, term, granted, pre);
            }
            Message::Append { term, prev, entries, commit, round } => {
                self.raft_on_append(from, me, term, prev, &entries, commit, round);
            }
            Message::AppendReply { term, matched, round } => {
                self.raft_on_append_reply(from, me, term, matched, round);
            }
            Message::Propose { request } => {
                self.raft_propose(me, request);
            }
            Message::ReadIndex { request } => self.raft_leader_read(me, request, from),
            Message::ReadAt { request, index } => self.etcd_read_at(me, request, index),
            Message::TimeoutNow { term } => {
                let raft = &self.members[me].raft;
                if raft.term == term && raft.role == Role::Follower {
                    self.raft_campaign(me, false, true);
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the message's fields")]
    fn raft_on_append(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        prev: (u64, usize),
        entries: &[Entry],
        commit: usize,
        round: u64,
    ) {
        let now = self.now;
        let raft = &mut self.members[me].raft;
        if term < raft.term {
            // Tells a leader that was deposed without its knowledge.
            let reply = Message::AppendReply { term: raft.term, matched: None, round };
            self.raft_send(me, from, reply);
            return;
        }
        if term > raft.term {
            raft.term = term;
            raft.voted = None;
        }
        if raft.role != Role::Follower || raft.leader != Some(from) {
            self.raft_become_follower(me, Some(from));
        }
        let election = self.timing.election;
        let jitter = self.rng.within(election..=2 * election - 1);
        let raft = &mut self.members[me].raft;
        raft.heard_at = now;
        raft.election_at = now + jitter;
        let matches = prev.1 <= raft.log.len() && raft.term_at(prev.1) == prev.0;
        if !matches {
            let reply = Message::AppendReply { term, matched: None, round };
            self.raft_send(me, from, reply);
            return;
        }
        for (offset, entry) in entries.iter().enumerate() {
            let index = prev.1 + offset;
            if raft.log.get(index) != Some(entry) {
                assert!(index >= raft.commit, "a committed entry would be overwritten");
                raft.log.truncate(index);
                raft.log.push(*entry);
            }
        }
        raft.durable = raft.log.len();
        let matched = prev.1 + entries.len();
        let commit = commit.min(matched);
        if commit > raft.commit {
            raft.commit = commit;
            self.etcd_apply(me);
        }
        if round > 0 || !entries.is_empty() {
            let reply = Message::AppendReply { term, matched: Some(matched), round };
            self.raft_send(me, from, reply);
        }
    }

    fn raft_on_append_reply(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        matched: Option<usize>,
        round: u64,
    ) {
        let now = self.now;
        let raft = &mut self.members[me].raft;
        if term > raft.term {
            raft.term = term;
            raft.voted = None;
            self.raft_become_follower(me, None);
            return;
        }
        if raft.role != Role::Leader || term < raft.term {
            return;
        }
        let peer = &mut raft.peers[from];
        peer.heard_at = now;
        peer.round = peer.round.max(round);
        match matched {
            Some(matched) => {
                peer.matched = peer.matched.max(matched);
                // A heartbeat's answer shows what never arrived.
                if round > 0 && peer.matched < raft.log.len() {
                    peer.next = peer.matched;
                    self.raft_send_entries(me, from);
                }
            }
            None => {
                // Far enough back to match in any case: logs here are short.
                peer.next = peer.matched;
                self.raft_send_entries(me, from);
            }
        }
        self.raft_advance(me);
        self.raft_confirm_reads(me);
    }
}

/// How long a proposal waits at a member that knows no leader, before etcd gives it up.
pub const REQUEST_TIMEOUT: u64 = 7_000 * MS;
