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

/// How long the first read of a watch may take, in ns.
const OPEN_TIMEOUT: u64 = 1_000 * MS;

/// One host's client.
struct Client {
    /// The member on the host.
    local: Option<MemberId>,
    /// The members that it knows, in the order of its configuration.
    endpoints: Vec<MemberId>,
    /// Which of them it asks now.
    endpoint: usize,
    /// Which of them its newest watch is at.
    watch_endpoint: usize,
}

impl Client {
    /// An endpoint is in doubt: the next one is asked from now on, unless it is already.
    fn leave(&mut self, endpoint: usize) {
        if self.endpoint == endpoint {
            self.endpoint = (endpoint + 1) % self.endpoints.len();
        }
    }
}

/// All hosts' clients.
pub struct Clients(Vec<Client>);

impl Clients {
    /// A host's own member first, then the others in turn.
    pub fn new(params: &Params) -> Self {
        let client = |host| Client {
            local: params.member_on(host),
            endpoints: (0..params.members).map(|n| (host + n) % params.members).collect(),
            endpoint: 0,
            watch_endpoint: 0,
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
        let endpoint = self.0[host].endpoint;
        if let Some(at) = give_up_at {
            env.schedule(at, Event::Client(ClientEvent::GiveUp { slot, host, endpoint }));
        }
        let mut request = Request::new(host, Some(slot), Ask::Txn(txn), env.now());
        request.endpoint = endpoint;
        let mut extra = 0;
        match mishap {
            Some(Mishap::LoseRequest) => return slot,
            Some(Mishap::LoseAnswer) => request.lose_answer = true,
            Some(Mishap::DelayRequest(by)) => extra = by,
            Some(Mishap::DelayAnswer(by)) => request.delay_answer = by,
            None => {}
        }
        let id = etcd.add(request);
        self.send(id, extra, etcd, env);
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
        let Some(member) = self.0[host].local else {
            let error = StoreError::Refused("no etcd member is local".into());
            env.slots.complete(slot, Reply::Status(Err(error)));
            return slot;
        };
        let reaches = env.net.reaches(Plane::Client, host, host);
        if reaches && !etcd.is_paused(member) {
            let delay = env.rng.within(50_000..=200_000);
            env.after(delay, Event::Client(ClientEvent::Status { slot, member }));
        } else if let Some(at) = give_up_at {
            let endpoint = usize::MAX;
            env.schedule(at, Event::Client(ClientEvent::GiveUp { slot, host, endpoint }));
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
        let client = &mut self.0[host];
        if elsewhere {
            client.watch_endpoint = (client.watch_endpoint + 1) % client.endpoints.len();
        }
        let endpoint = client.watch_endpoint;
        let member = client.endpoints[endpoint];
        let id = etcd.watch(host, member, prefix);
        env.count(|tally| &mut tally.watches);
        env.trace(|| format!("host {host} follows at member {member}"));
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
            ClientEvent::Refused { request } => self.refused(request, etcd, env),
            ClientEvent::GiveUp { slot, host, endpoint } => {
                let error = StoreError::Unavailable("no answer in time".into());
                if env.slots.complete(slot, Reply::Txn(Err(error))) {
                    env.count(|tally| &mut tally.timeouts);
                    self.0[host].leave(endpoint);
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
        let member = self.0[host].endpoints[request.endpoint];
        request.member = member;
        if let Some(delay) = env.delay(Plane::Client, host, etcd.site(member)) {
            env.after(delay + extra, Event::Request { request: id });
        }
    }

    /// A member's process does not run, or it knows no leader: the request was not carried out, the
    /// next may be asked.
    fn refused(&mut self, id: RequestId, etcd: &mut Etcd, env: &mut Env) {
        let request = etcd.request(id);
        request.refusals += 1;
        let Some(client) = self.0.get_mut(request.host) else { return };
        let Some(slot) = request.slot else {
            if let &Ask::Snapshot(watch) = &request.ask {
                etcd.watch_refused(watch, env);
            }
            return;
        };
        client.leave(request.endpoint);
        if !env.slots.is_open(slot) {
            return;
        }
        if request.refusals < client.endpoints.len() {
            request.endpoint = (request.endpoint + 1) % client.endpoints.len();
            self.send(id, 0, etcd, env);
        } else {
            let error = StoreError::Unavailable("no member takes it".into());
            env.slots.complete(slot, Reply::Txn(Err(error)));
        }
    }
}
