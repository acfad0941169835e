//! The log: how entries come to a majority, and take effect.

use crate::world::event::MemberEvent;
use crate::world::ids::{MemberId, RequestId};

use super::super::message::{Entry, Message};
use super::{Around, Cluster, Machine, Role};

impl Cluster {
    /// The leader appends an entry and sends it on.
    pub(super) fn append(
        &mut self,
        me: MemberId,
        request: Option<RequestId>,
        a: &mut Around<'_, impl Machine>,
    ) {
        let disk = self.disk_time(me, a);
        let raft = &mut self.raft[me];
        raft.log.push(Entry { term: raft.term, request });
        let len = raft.log.len();
        a.env.after(disk, a.members.event(me, MemberEvent::Disk { len }));
        for other in 0..self.raft.len() {
            if other != me {
                self.send_entries(me, other, a);
            }
        }
    }

    /// What a write to the member's disk takes now.
    pub(super) fn disk_time(&self, me: MemberId, a: &mut Around<'_, impl Machine>) -> u64 {
        let slow = a.members.get(me).disk_slow;
        slow + a.env.election_rng.within(100_000..=self.timing.disk_max)
    }

    /// The leader's own write is on its disk.
    pub fn durable(&mut self, me: MemberId, len: usize, a: &mut Around<'_, impl Machine>) {
        let raft = &mut self.raft[me];
        if raft.log.len() >= len && raft.durable < len {
            raft.durable = len;
            self.apply(me, a);
        }
        self.advance(me, a);
    }

    /// The member carries out what is newly committed.
    pub(super) fn apply(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let raft = &self.raft[me];
        a.machine.apply(me, &raft.log[..raft.ready()], a.members, a.env);
    }

    /// What waited for a leader goes on.
    pub(super) fn leader_known(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        for (request, reads) in a.machine.leader_known(me, a.env.now()) {
            if reads {
                self.read(me, request, a);
            } else {
                self.propose(me, request, a);
            }
        }
    }

    pub(super) fn send_entries(
        &mut self,
        me: MemberId,
        to: MemberId,
        a: &mut Around<'_, impl Machine>,
    ) {
        let raft = &mut self.raft[me];
        let next = raft.peers[to].next.min(raft.log.len());
        raft.peers[to].next = raft.log.len();
        let message = Message::Append {
            term: raft.term,
            prev: (raft.term_at(next), next),
            entries: raft.log[next..].to_vec(),
            commit: raft.commit,
            round: 0,
        };
        self.send(me, to, message, a);
    }

    pub(super) fn advance(&mut self, me: MemberId, a: &mut Around<'_, impl Machine>) {
        let quorum = self.quorum() as usize;
        let raft = &mut self.raft[me];
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
        self.apply(me, a);
        for other in 0..self.raft.len() {
            let raft = &self.raft[me];
            if other != me && raft.role == Role::Leader {
                // What was sent before arrives before: the links keep the order.
                let next = raft.peers[other].next;
                let prev = (raft.term_at(next), next);
                let entries = Vec::new();
                let message = Message::Append { term, prev, entries, commit, round: 0 };
                self.send(me, other, message, a);
            }
        }
        self.confirm_reads(me, a);
    }

    #[expect(clippy::too_many_arguments, reason = "they are the message's fields")]
    pub(super) fn on_append(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        prev: (u64, usize),
        entries: &[Entry],
        commit: usize,
        round: u64,
        a: &mut Around<'_, impl Machine>,
    ) {
        let now = a.env.now();
        let raft = &mut self.raft[me];
        if term < raft.term {
            // Tells a leader that was deposed without its knowledge.
            let reply = Message::AppendReply { term: raft.term, matched: None, round };
            self.send(me, from, reply, a);
            return;
        }
        if term > raft.term {
            raft.term = term;
            raft.voted = None;
        }
        if raft.role != Role::Follower || raft.leader != Some(from) {
            self.become_follower(me, Some(from), a);
        }
        let election = self.timing.election;
        let jitter = a.env.election_rng.within(election..=2 * election - 1);
        let raft = &mut self.raft[me];
        raft.heard_at = now;
        raft.election_at = now + jitter;
        let matches = prev.1 <= raft.log.len() && raft.term_at(prev.1) == prev.0;
        if !matches {
            let reply = Message::AppendReply { term, matched: None, round };
            self.send(me, from, reply, a);
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
            self.apply(me, a);
        }
        if round > 0 || !entries.is_empty() {
            let reply = Message::AppendReply { term, matched: Some(matched), round };
            self.send(me, from, reply, a);
        }
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: MemberId,
        me: MemberId,
        term: u64,
        matched: Option<usize>,
        round: u64,
        a: &mut Around<'_, impl Machine>,
    ) {
        let now = a.env.now();
        let raft = &mut self.raft[me];
        if term > raft.term {
            raft.term = term;
            raft.voted = None;
            self.become_follower(me, None, a);
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
                    self.send_entries(me, from, a);
                }
            }
            None => {
                // Far enough back to match in any case: logs here are short.
                peer.next = peer.matched;
                self.send_entries(me, from, a);
            }
        }
        self.advance(me, a);
        self.confirm_reads(me, a);
    }
}
