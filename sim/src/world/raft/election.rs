//! Elections: who may lead, and who learns that it leads no more.

use crate::time::True;
use crate::world::Inner;
use crate::world::event::Event;

use super::{MemberId, Message, Peer, Role};

impl Inner {
    pub(super) fn random_election(&mut self, now: True) -> True {
        let election = self.timing.election;
        now + self.rng.within(election..=2 * election - 1)
    }

    pub(super) fn raft_arm(&mut self, me: MemberId, at: True) {
        let epoch = self.members[me].epoch;
        self.schedule(at, Event::Election { member: me, epoch });
    }

    pub(super) fn quorum(&self) -> u32 {
        self.members.len() as u32 / 2 + 1
    }

    /// The election timer of a member fired, perhaps too early.
    pub fn raft_election_timer(&mut self, me: MemberId) {
        let now = self.now;
        let election = self.timing.election;
        let raft = &self.members[me].raft;
        if raft.role == Role::Leader {
            let heard = raft.peers.iter().filter(|peer| peer.heard_at + election >= now).count();
            // Its own place in `peers` counts for itself.
            if (heard as u32) < self.quorum() {
                self.raft_become_follower(me, None);
            }
            let at = now + election;
            self.members[me].raft.election_at = at;
            self.raft_arm(me, at);
            return;
        }
        if raft.election_at > now {
            let at = raft.election_at;
            self.raft_arm(me, at);
            return;
        }
        let pre = self.timing.pre_vote;
        self.raft_campaign(me, pre, false);
        let at = self.random_election(now);
        self.members[me].raft.election_at = at;
        self.raft_arm(me, at);
    }

    pub(super) fn raft_campaign(&mut self, me: MemberId, pre: bool, force: bool) {
        if self.members[me].raft.leader.take().is_some() {
            self.raft_lost_leader(me);
        }
        let raft = &mut self.members[me].raft;
        raft.votes = 1 << me;
        raft.refusals = 0;
        let mut term = raft.term + 1;
        if pre {
            raft.role = Role::PreCandidate;
        } else {
            raft.role = Role::Candidate;
            raft.term = term;
            raft.voted = Some(me);
            term = raft.term;
        }
        let last = raft.last();
        self.trace(|| format!("member {me} campaigns for term {term} (pre-vote {pre})"));
        for other in 0..self.members.len() {
            if other != me {
                self.raft_send(me, other, Message::Vote { term, last, pre, force });
            }
        }
        self.raft_count_votes(me);
    }

    fn raft_count_votes(&mut self, me: MemberId) {
        let quorum = self.quorum();
        let raft = &self.members[me].raft;
        let (won, lost) = (raft.votes.count_ones() >= quorum, raft.refusals.count_ones() >= quorum);
        match raft.role {
            Role::PreCandidate if won => self.raft_campaign(me, false, false),
            Role::Candidate if won => self.raft_become_leader(me),
            Role::PreCandidate | Role::Candidate if lost => self.raft_become_follower(me, None),
            _ => {}
        }
    }

    pub(super) fn raft_become_leader(&mut self, me: MemberId) {
        let now = self.now;
        let members = self.members.len();
        let raft = &mut self.members[me].raft;
        raft.role = Role::Leader;
        raft.leader = Some(me);
        raft.round = 0;
        raft.reads.clear();
        let next = raft.log.len();
        raft.peers = vec![Peer { next, matched: 0, round: 0, heard_at: now }; members];
        raft.election_at = now + self.timing.election;
        let term = raft.term;
        self.record_leader(me, term);
        self.raft_append(me, None);
        self.raft_heartbeat(me, term);
        self.etcd_leader_known(me);
    }

    pub(in crate::world) fn raft_become_follower(
        &mut self,
        me: MemberId,
        leader: Option<MemberId>,
    ) {
        let now = self.now;
        let election_at = self.random_election(now);
        let raft = &mut self.members[me].raft;
        let was_leader = raft.role == Role::Leader;
        raft.role = Role::Follower;
        raft.election_at = election_at;
        raft.reads.clear();
        if was_leader {
            self.record_deposed(me);
        }
        let raft = &mut self.members[me].raft;
        if raft.leader != leader {
            let lost = raft.leader.is_some() && leader.is_none();
            raft.leader = leader;
            if lost {
                self.raft_lost_leader(me);
            }
            if leader.is_some() {
                self.etcd_leader_known(me);
            }
        }
    }

    /// From now on the member knows no leader. If that lasts, its watches end.
    fn raft_lost_leader(&mut self, me: MemberId) {
        let since = self.now;
        self.members[me].raft.leaderless_since = since;
        let (epoch, at) = (self.members[me].epoch, since + 3 * self.timing.election);
        self.schedule(at, Event::Leaderless { member: me, epoch, since });
    }

    pub(super) fn raft_on_vote(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        last: (u64, usize),
        pre: bool,
        force: bool,
    ) {
        let now = self.now;
        let election = self.timing.election;
        let raft = &self.members[me].raft;
        let hears_a_leader =
            raft.role == Role::Leader || (raft.leader.is_some() && raft.heard_at + election > now);
        if hears_a_leader && !force && term > raft.term {
            return;
        }
        if !pre && term > raft.term {
            self.members[me].raft.term = term;
            self.members[me].raft.voted = None;
            self.raft_become_follower(me, None);
        }
        let raft = &mut self.members[me].raft;
        let free = pre && term > raft.term
            || term == raft.term && raft.voted.is_none_or(|voted| voted == from);
        let granted = free && last >= raft.last() && term >= raft.term;
        if granted && !pre {
            raft.voted = Some(from);
            let at = self.random_election(now);
            self.members[me].raft.election_at = at;
        }
        let reply_term = if granted { term } else { self.members[me].raft.term };
        self.raft_send(me, from, Message::VoteReply { term: reply_term, granted, pre });
    }

    pub(super) fn raft_on_vote_reply(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        granted: bool,
        pre: bool,
    ) {
        let raft = &mut self.members[me].raft;
        if !granted && term > raft.term {
            raft.term = term;
            raft.voted = None;
            self.raft_become_follower(me, None);
            return;
        }
        let counts = match raft.role {
            Role::PreCandidate => pre && (!granted || term == raft.term + 1),
            Role::Candidate => !pre && term == raft.term,
            _ => false,
        };
        if counts {
            let bits = if granted { &mut raft.votes } else { &mut raft.refusals };
            *bits |= 1 << from;
            self.raft_count_votes(me);
        }
    }
}
