//! Elections: who may lead, and who learns that it leads no more.

use crate::time::True;
use crate::world::event::MemberEvent;
use crate::world::ids::MemberId;

use super::super::journal;
use super::super::message::Message;
use super::{Around, Cluster, Machine, Peer, Role};

impl Cluster {
    pub(super) fn random_election(&self, now: True, a: &mut Around<'_, impl Machine>) -> True {
        let election = self.timing.election;
        now + a.env.election_rng.within(election..=2 * election - 1)
    }

    pub(super) fn arm(&mut self, me: MemberId, at: True, a: &mut Around<'_, impl Machine>) {
        a.env.schedule(at, a.members.event(me, MemberEvent::Election));
    }

    /// The election timer of a member fired, perhaps too early.
    pub fn election_timer(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let now = a.env.now();
        let election = self.timing.election;
        let raft = &self.raft[me];
        if raft.role == Role::Leader {
            let heard = raft.peers.iter().filter(|peer| peer.heard_at + election >= now).count();
            // Its own place in `peers` counts for itself.
            if (heard as u32) < self.quorum() {
                self.become_follower(me, None, a);
            }
            let at = now + election;
            self.raft[me].election_at = at;
            self.arm(me, at, a);
            return;
        }
        if raft.election_at > now {
            let at = raft.election_at;
            self.arm(me, at, a);
            return;
        }
        let pre = self.timing.pre_vote;
        self.campaign(me, pre, false, a);
        let at = self.random_election(now, a);
        self.raft[me].election_at = at;
        self.arm(me, at, a);
    }

    pub(super) fn campaign(
        &mut self,
        me: MemberId,
        pre: bool,
        force: bool,
        a: &mut Around<'_, impl Machine>,
    ) {
        if self.raft[me].leader.take().is_some() {
            self.lost_leader(me, a);
        }
        let raft = &mut self.raft[me];
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
        a.env.trace(|_| format!("member {me} campaigns for term {term} (pre-vote {pre})"));
        for other in 0..self.raft.len() {
            if other != me {
                self.send(me, other, Message::Vote { term, last, pre, force }, a);
            }
        }
        self.count_votes(me, a);
    }

    fn count_votes(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let quorum = self.quorum();
        let raft = &self.raft[me];
        let (won, lost) = (raft.votes.count_ones() >= quorum, raft.refusals.count_ones() >= quorum);
        match raft.role {
            Role::PreCandidate if won => self.campaign(me, false, false, a),
            Role::Candidate if won => self.become_leader(me, a),
            Role::PreCandidate | Role::Candidate if lost => self.become_follower(me, None, a),
            _ => {}
        }
    }

    fn become_leader(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let now = a.env.now();
        let members = self.raft.len();
        let raft = &mut self.raft[me];
        raft.role = Role::Leader;
        raft.leader = Some(me);
        raft.round = 0;
        raft.reads.clear();
        let next = raft.log.len();
        raft.peers = vec![Peer { next, matched: 0, round: 0, heard_at: now }; members];
        raft.election_at = now + self.timing.election;
        let term = raft.term;
        journal::leads(me, term, a.env);
        self.append(me, None, a);
        self.heartbeat(me, term, a);
        self.leader_known(me, a);
    }

    pub(super) fn become_follower(
        &mut self,
        me: MemberId,
        leader: Option<MemberId>,
        a: &mut Around<'_, impl Machine>,
    ) {
        let now = a.env.now();
        let election_at = self.random_election(now, a);
        let raft = &mut self.raft[me];
        let was_leader = raft.role == Role::Leader;
        raft.role = Role::Follower;
        raft.election_at = election_at;
        raft.reads.clear();
        if was_leader {
            journal::deposed(me, a.env);
        }
        let raft = &mut self.raft[me];
        if raft.leader != leader {
            let lost = raft.leader.is_some() && leader.is_none();
            raft.leader = leader;
            if lost {
                self.lost_leader(me, a);
            }
            if leader.is_some() {
                self.leader_known(me, a);
            }
        }
    }

    /// From now on the member knows no leader. If that lasts, its watches end.
    fn lost_leader(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let since = a.env.now();
        self.raft[me].leaderless_since = since;
        let event = a.members.event(me, MemberEvent::Leaderless { since });
        a.env.after(3 * self.timing.election, event);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the message's fields")]
    pub(super) fn on_vote(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        last: (u64, usize),
        pre: bool,
        force: bool,
        a: &mut Around<'_, impl Machine>,
    ) {
        let now = a.env.now();
        let election = self.timing.election;
        let raft = &self.raft[me];
        let hears_a_leader =
            raft.role == Role::Leader || (raft.leader.is_some() && raft.heard_at + election > now);
        if hears_a_leader && !force && term > raft.term {
            return;
        }
        if !pre && term > raft.term {
            self.raft[me].term = term;
            self.raft[me].voted = None;
            self.become_follower(me, None, a);
        }
        let raft = &mut self.raft[me];
        let free = pre && term > raft.term
            || term == raft.term && raft.voted.is_none_or(|voted| voted == from);
        let granted = free && last >= raft.last() && term >= raft.term;
        if granted && !pre {
            raft.voted = Some(from);
            let at = self.random_election(now, a);
            self.raft[me].election_at = at;
        }
        let reply_term = if granted { term } else { self.raft[me].term };
        self.send(me, from, Message::VoteReply { term: reply_term, granted, pre }, a);
    }

    pub(super) fn on_vote_reply(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        granted: bool,
        pre: bool,
        a: &mut Around<'_, impl Machine>,
    ) {
        let raft = &mut self.raft[me];
        if !granted && term > raft.term {
            raft.term = term;
            raft.voted = None;
            self.become_follower(me, None, a);
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
            self.count_votes(me, a);
        }
    }
}
