//! The hosts' clients of etcd, as the daemon's adapter does it: one endpoint at a time, the next
//! one after an error.

use turnip_core::{StoreError, Txn};

use crate::plan::{Mishap, Params};
use crate::time::{MS, True};

use super::env::Env;
use super::etcd::Etcd;
use super::etcd::request::{Ask, Request};
use super::event::{ClientEvent, Event, WatchEvent};
use super::ids::{HostId, MemberId, RequestId, WatchId};
use super::net::Plane;
use super::slots::{Reply, SlotId};

/// How long the first read of a watch may take, in ns. The node usually asks elsewhere before.
const OPEN_TIMEOUT: u64 = 3_000 * MS;

/// So often a load balancer leads to the same member: for longer than a preference has to last.
const ASKED_IN_A_ROW: usize = 10;

/// One host's client.
struct Client {
    /// The member on the host.
    local: Option<MemberId>,
    /// How often it was asked, where a load balancer has the next of all members answer each time.
    balanced: Option<usize>,
    /// The members that it knows, in the order of its configuration.
    endpoints: Vec<Endpoint>,
    /// Where requests begin.
    current: usize,
    /// Where its newest watch is, and whether it is to be left.
    followed: Option<usize>,
    leave_followed: bool,
}

/// What a client knows of a member.
#[derive(Clone, Copy)]
struct Endpoint {
    member: MemberId,
    /// When it last failed, unless it has answered since.
    failed: Option<True>,
    /// There is no connection to it, although one was wanted.
    unreachable: bool,
    /// It has answered, and has not been given up since.
    connected: bool,
}

impl Client {
    /// The endpoint that a request asks next, after those that it has asked: as bits.
    fn next(&self, asked: u32) -> usize {
        let left = (0..self.endpoints.len()).filter(|index| asked >> index & 1 == 0);
        let order = |&index: &usize| {
            let Endpoint { unreachable, failed, .. } = self.endpoints[index];
            (unreachable, index != self.current, failed)
        };
        left.min_by_key(order).unwrap_or(self.current)
    }

    /// An endpoint has failed, or does not even run: then later requests begin at another, unless
    /// they already do.
    fn fails(&mut self, index: usize, unreachable: bool, now: True) {
        self.endpoints[index].failed = Some(now);
        self.endpoints[index].unreachable |= unreachable;
        self.endpoints[index].connected &= !unreachable;
        if unreachable && self.current == index {
            self.current = self.other_than(index);
        }
    }

    /// An endpoint has answered.
    fn answers(&mut self, index: usize) {
        self.endpoints[index].failed = None;
        self.endpoints[index].unreachable = false;
        self.endpoints[index].connected = true;
        self.current = index;
    }

    /// The next after `index` that has not failed; if all have, the one that did so the longest ago.
    fn other_than(&self, index: usize) -> usize {
        let count = self.endpoints.len();
        let others = (1..count).map(|step| (index + step) % count);
        let doubts = |&other: &usize| {
            let Endpoint { unreachable, failed, .. } = self.endpoints[other];
            (unreachable, failed)
        };
        others.min_by_key(doubts).unwrap_or(index)
    }

    /// Followers stay with an endpoint until it fails them or the node wants another.
    fn endpoint_to_follow(&mut self, elsewhere: bool) -> usize {
        let leave = std::mem::take(&mut self.leave_followed);
        let index = match self.followed {
            None => self.current,
            Some(last) if elsewhere || leave => self.other_than(last),
            Some(last) => last,
        };
        self.followed = Some(index);
        index
    }
}

/// All hosts' clients.
pub struct Clients(Vec<Client>);

impl Clients {
    /// A host's own member first, then the others in turn.
    pub fn new(params: &Params) -> Self {
        let client = |host| Client {
            local: params.member_on(host),
            balanced: params.balanced.then_some(0),
            endpoints: (0..params.members())
                .map(|n| Endpoint {
                    member: (host + n) % params.members(),
                    failed: None,
                    unreachable: false,
                    connected: false,
                })
                .collect(),
            current: 0,
            followed: None,
            leave_followed: false,
        };
        Clients((0..params.hosts).map(client).collect())
    }

    /// A daemon commits a transaction, which may meet a mishap. It waits until `give_up_at`; for
    /// ever on a clock that stands still.
    pub fn commit(
        &mut self,
        host: HostId,
        txn: Txn,
        give_up_at: Option<True>,
        mishap: Option<Mishap>,
        etcd: &mut Etcd,
        env: &mut Env,
    ) -> SlotId {
        let slot = env.slots.open();
        let endpoint = self.0[host].next(0);
        let mut request = Request::new(host, Some(slot), Ask::Txn(txn), env.now());
        request.endpoint = endpoint;
        let (mut extra, mut lost) = (0, false);
        match mishap {
            Some(Mishap::LoseRequest) => lost = true,
            Some(Mishap::LoseAnswer) => request.lose_answer = true,
            Some(Mishap::DelayRequest(by)) => extra = by,
            Some(Mishap::DelayAnswer(by)) => request.delay_answer = by,
            None => {}
        }
        let id = etcd.add(request);
        if let Some(at) = give_up_at {
            env.schedule(at, Event::Client(ClientEvent::GiveUp { slot, request: Some(id) }));
        }
        if !lost {
            self.send(id, extra, etcd, env);
        }
        slot
    }

    /// A daemon asks the member on its host for its status.
    pub fn ask_status(
        &mut self,
        host: HostId,
        give_up_at: Option<True>,
        etcd: &Etcd,
        env: &mut Env,
    ) -> SlotId {
        let slot = env.slots.open();
        let Some(mut member) = self.0[host].local else {
            let error = StoreError::Refused("no etcd member is local".into());
            env.slots.complete(slot, Reply::Status(Err(error)));
            return slot;
        };
        if let Some(asked) = &mut self.0[host].balanced {
            member = (member + *asked / ASKED_IN_A_ROW) % env.plan.params.members();
            *asked += 1;
        }
        let reaches = env.net.reaches(Plane::Client, host, host);
        if reaches && !etcd.is_paused(member) {
            let delay = env.rng.within(50_000..=200_000);
            env.after(delay, Event::Client(ClientEvent::Status { slot, member }));
        } else if let Some(at) = give_up_at {
            env.schedule(at, Event::Client(ClientEvent::GiveUp { slot, request: None }));
        }
        slot
    }

    /// A daemon follows what changes.
    pub fn follow(
        &mut self,
        host: HostId,
        prefix: String,
        elsewhere: bool,
        etcd: &mut Etcd,
        env: &mut Env,
    ) -> WatchId {
        let endpoint = self.0[host].endpoint_to_follow(elsewhere);
        self.follow_at(host, endpoint, prefix, etcd, env)
    }

    /// The same of a key of another program, where the prefix is followed.
    pub fn follow_key(
        &mut self,
        host: HostId,
        key: String,
        etcd: &mut Etcd,
        env: &mut Env,
    ) -> WatchId {
        let client = &self.0[host];
        let endpoint = client.followed.unwrap_or(client.current);
        self.follow_at(host, endpoint, key, etcd, env)
    }

    fn follow_at(
        &self,
        host: HostId,
        endpoint: usize,
        prefix: String,
        etcd: &mut Etcd,
        env: &mut Env,
    ) -> WatchId {
        let member = self.0[host].endpoints[endpoint].member;
        let id = etcd.watch(host, member, prefix);
        env.count(|tally| &mut tally.watches);
        env.trace(|params| format!("{h} follows at member {member}", h = params.host(host)));
        let mut request = Request::new(host, None, Ask::Snapshot(id), env.now());
        request.endpoint = endpoint;
        let request = etcd.add(request);
        self.send(request, 0, etcd, env);
        env.after(OPEN_TIMEOUT, Event::Watch { watch: id, event: WatchEvent::Opens });
        id
    }

    /// Something happens to a client.
    pub fn event(&mut self, event: ClientEvent, etcd: &mut Etcd, env: &mut Env) {
        match event {
            ClientEvent::Refused { request, runs } => self.refused(request, runs, etcd, env),
            ClientEvent::Answered { request, answer } => {
                let (host, endpoint) = self.asked(request, etcd);
                if let Some(slot) = etcd.request(request).slot
                    && env.slots.complete(slot, Reply::Txn(*answer))
                {
                    self.0[host].answers(endpoint);
                }
            }
            ClientEvent::GiveUp { slot, request } => {
                let error = StoreError::Unavailable("no answer in time".into());
                if env.slots.complete(slot, Reply::Txn(Err(error))) {
                    env.count(|tally| &mut tally.timeouts);
                    if let Some(request) = request {
                        let (host, endpoint) = self.asked(request, etcd);
                        self.0[host].fails(endpoint, true, env.now());
                    }
                }
            }
            ClientEvent::Status { slot, member } => {
                env.slots.complete(slot, Reply::Status(etcd.status(member)));
            }
        }
    }

    fn send(&self, id: RequestId, extra: u64, etcd: &mut Etcd, env: &mut Env) {
        let request = etcd.request(id);
        let host = request.host;
        let Endpoint { member, connected, .. } = self.0[host].endpoints[request.endpoint];
        request.member = member;
        // No connection is made without answers. Elsewhere than in scenarios each has one all along: that is worse.
        let site = etcd.site(member);
        if env.is_played() && !connected && !env.net.reaches(Plane::Client, site, host) {
            return;
        }
        if let Some(delay) = env.delay(Plane::Client, host, site) {
            env.after(delay + extra, Event::Request { request: id });
        }
    }

    /// What a host has followed has failed.
    pub fn stop_following_there(&mut self, host: HostId, now: True) {
        let client = &mut self.0[host];
        client.leave_followed = true;
        if let Some(index) = client.followed {
            client.fails(index, false, now);
        }
    }

    /// Who asked, and the endpoint that was asked last.
    fn asked(&self, id: RequestId, etcd: &mut Etcd) -> (HostId, usize) {
        let request = etcd.request(id);
        (request.host, request.endpoint)
    }

    /// A member's process does not run, or it knows no leader: the request was not carried out, the
    /// next may be asked.
    fn refused(&mut self, id: RequestId, runs: bool, etcd: &mut Etcd, env: &mut Env) {
        let request = etcd.request(id);
        request.refusals += 1;
        let Some(client) = self.0.get_mut(request.host) else { return };
        client.fails(request.endpoint, !runs, env.now());
        client.endpoints[request.endpoint].connected = runs;
        let Some(slot) = request.slot else {
            if let &Ask::Snapshot(watch) = &request.ask {
                etcd.watch_refused(watch, env);
            }
            return;
        };
        if !env.slots.is_open(slot) {
            return;
        }
        if request.refusals < client.endpoints.len() {
            request.asked |= 1 << request.endpoint;
            request.endpoint = client.next(request.asked);
            self.send(id, 0, etcd, env);
        } else {
            let error = StoreError::Unavailable("no member takes it".into());
            env.slots.complete(slot, Reply::Txn(Err(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let endpoint =
            |member| Endpoint { member, failed: None, unreachable: false, connected: false };
        Client {
            local: Some(0),
            balanced: None,
            endpoints: (0..3).map(endpoint).collect(),
            current: 0,
            followed: None,
            leave_followed: false,
        }
    }

    #[test]
    fn a_request_leaves_an_endpoint_that_does_not_answer_and_one_that_refuses_only_for_once() {
        let mut client = client();
        client.fails(0, false, 10);
        assert_eq!((client.next(0), client.next(1)), (0, 1));
        client.fails(0, true, 20);
        assert_eq!((client.next(0), client.next(1 << 1)), (1, 2));
        client.answers(2);
        assert_eq!(client.next(0), 2);
    }

    #[test]
    fn who_follows_stays_until_that_fails_and_then_asks_who_failed_the_longest_ago() {
        let mut client = client();
        assert_eq!((client.endpoint_to_follow(false), client.endpoint_to_follow(false)), (0, 0));
        client.fails(0, false, 10);
        client.leave_followed = true;
        assert_eq!(client.endpoint_to_follow(false), 1);
        client.fails(1, false, 20);
        assert_eq!(client.endpoint_to_follow(true), 2);
        client.fails(2, false, 30);
        assert_eq!(client.endpoint_to_follow(true), 0);
    }
}
