//! The seams of the driver, as one host sees the world through them.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use turnip::seams::{Clock, Command, Kernel, Store};
use turnip_core::{
    Assignment, Instant, KernelError, KernelEvent, KernelOp, KernelOutcome, MemberStatus,
    StoreError, Txn, TxnResponse, Update,
};

use crate::plan::Mishap;
use crate::time::MS;

use super::etcd::{Ask, Request, RequestId};
use super::event::Event;
use super::host::HostId;
use super::net::Plane;
use super::raft::MemberId;
use super::slots::{Reply, SlotId, Wait};
use super::watch::{Watch, WatchId};
use super::{Inner, World};

/// How long the first read of a watch may take, in ns.
const OPEN_TIMEOUT: u64 = 1_000 * MS;

/// A host's store, kernel and clock.
#[derive(Clone)]
pub struct SimHost {
    world: Rc<World>,
    host: HostId,
}

impl SimHost {
    /// What `host` sees of `world`.
    pub fn new(world: Rc<World>, host: HostId) -> Self {
        SimHost { world, host }
    }

    /// What an operator asks of its daemon.
    pub fn commands(&self) -> impl Stream<Item = Command> + use<> {
        Commands(self.clone())
    }
}

impl Store for SimHost {
    fn follow(
        &self,
        prefix: String,
        elsewhere: bool,
    ) -> impl Stream<Item = Result<Update, StoreError>> {
        let id = self.world.inner().client_follows(self.host, prefix, elsewhere);
        Follow { world: Rc::clone(&self.world), id }
    }

    async fn commit(&self, txn: Txn, timeout: Duration) -> Result<TxnResponse, StoreError> {
        let slot = self.world.inner().client_commits(self.host, txn, timeout);
        match Wait::new(Rc::clone(&self.world), slot).await {
            Reply::Txn(answer) => answer,
            other => unreachable!("a transaction answered by {other:?}"),
        }
    }

    async fn member_status(&self, timeout: Duration) -> Result<MemberStatus, StoreError> {
        let slot = self.world.inner().client_asks_status(self.host, timeout);
        match Wait::new(Rc::clone(&self.world), slot).await {
            Reply::Status(answer) => answer,
            Reply::Txn(Err(error)) => Err(error),
            other => unreachable!("a question for status answered by {other:?}"),
        }
    }
}

impl Kernel for SimHost {
    fn perform(&self, op: KernelOp) -> impl Future<Output = KernelOutcome> {
        let slot = self.world.inner().adapter_takes(self.host, op);
        let wait = Wait::new(Rc::clone(&self.world), slot);
        async move {
            match wait.await {
                Reply::Kernel(outcome) => outcome,
                other => KernelOutcome::Failed(KernelError::Refused(format!("{other:?}"))),
            }
        }
    }

    async fn announce(&self, addresses: Vec<Assignment>, deadline: Instant) {
        let mut inner = self.world.inner();
        if inner.local(self.host) < deadline.as_nanos() {
            inner.count(|tally| &mut tally.announcements);
            let host = self.host;
            inner.trace(|| format!("host {host} announces {addresses:?}"));
        }
    }

    fn events(&self) -> impl Stream<Item = KernelEvent> {
        Told(self.clone())
    }
}

impl Clock for SimHost {
    fn now(&self) -> Instant {
        let inner = self.world.inner();
        inner.hosts[self.host].clock.read(inner.now)
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> {
        SleepUntil { at: self.clone(), deadline, slot: None }
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.world.inner().now / MS
    }
}

struct SleepUntil {
    at: SimHost,
    deadline: Instant,
    slot: Option<SlotId>,
}

impl Future for SleepUntil {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (deadline, host) = (self.deadline, self.at.host);
        let world = Rc::clone(&self.at.world);
        let mut inner = world.inner();
        let clock = &inner.hosts[host].clock;
        if clock.read(inner.now) >= deadline {
            return Poll::Ready(());
        }
        let when = clock.when(deadline);
        match &mut inner.hosts[host].sleeper {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        // The clock may have changed its rate since the last time.
        if let Some(slot) = self.slot.take() {
            inner.slots.release(slot);
        }
        let slot = inner.slots.open();
        let _ = inner.slots.poll(slot, cx);
        if let Some(when) = when {
            inner.schedule(when, Event::Wake { slot });
        }
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for SleepUntil {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.at.world.inner().slots.release(slot);
        }
    }
}

struct Follow {
    world: Rc<World>,
    id: WatchId,
}

impl Stream for Follow {
    type Item = Result<Update, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut inner = self.world.inner();
        let now = inner.now;
        let watch = &mut inner.watches[self.id.0 as usize];
        match watch.inbox.front() {
            Some((at, _)) if *at <= now => {
                let (_, update) = watch.inbox.pop_front().expect("there is a front");
                if update.is_err() {
                    inner.count(|tally| &mut tally.watches_broken);
                }
                Poll::Ready(Some(update))
            }
            None if watch.over => Poll::Ready(None),
            _ => {
                watch.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut inner = self.world.inner();
        let watch = &mut inner.watches[self.id.0 as usize];
        watch.over = true;
        watch.inbox.clear();
        watch.waker = None;
    }
}

struct Told(SimHost);

impl Stream for Told {
    type Item = KernelEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<KernelEvent>> {
        let mut inner = self.0.world.inner();
        let host = &mut inner.hosts[self.0.host];
        match host.told.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => {
                host.told_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

struct Commands(SimHost);

impl Stream for Commands {
    type Item = Command;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Command>> {
        let mut inner = self.0.world.inner();
        let host = &mut inner.hosts[self.0.host];
        match host.commands.pop_front() {
            Some(command) => Poll::Ready(Some(command)),
            None => {
                host.commands_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The client's side of etcd, as the daemon's adapter does it: one endpoint at a time, the next
/// one after an error.
impl Inner {
    fn client_commits(&mut self, host: HostId, txn: Txn, timeout: Duration) -> SlotId {
        let slot = self.slots.open();
        let endpoint = self.hosts[host].endpoint;
        let local = Instant::from_nanos(self.local(host)) + timeout;
        // A clock that stands still lets nobody give up.
        if let Some(at) = self.hosts[host].clock.when(local) {
            self.schedule(at, Event::GiveUp { slot, host, endpoint });
        }
        let mishap = self.mishap(host, &txn);
        let mut request = Request::new(host, Some(slot), Ask::Txn(txn), self.now);
        request.endpoint = endpoint;
        let mut extra = 0;
        match mishap {
            Some(Mishap::LoseRequest) => return slot,
            Some(Mishap::LoseAnswer) => request.lose_answer = true,
            Some(Mishap::DelayRequest(by)) => extra = by,
            Some(Mishap::DelayAnswer(by)) => request.delay_answer = by,
            None => {}
        }
        let id = self.add_request(request);
        self.client_sends(id, extra);
        slot
    }

    fn client_sends(&mut self, id: RequestId, extra: u64) {
        let request = &mut self.requests[id.0 as usize];
        let host = request.host;
        let member = self.hosts[host].endpoints[request.endpoint];
        request.member = member;
        let site = self.members[member].site;
        if let Some(delay) = self.net.delay(Plane::Client, host, site, &mut self.rng) {
            self.schedule(self.now + delay + extra, Event::Request { request: id });
        }
    }

    /// A member's process does not run, or it knows no leader: the request was not carried out, the
    /// next may be asked.
    pub fn client_refused(&mut self, id: RequestId) {
        let request = &mut self.requests[id.0 as usize];
        request.refusals += 1;
        let Some(host) = self.hosts.get_mut(request.host) else { return };
        let tried = request.endpoint;
        let next = (tried + 1) % host.endpoints.len();
        match request.slot {
            Some(slot) => {
                if host.endpoint == tried {
                    host.endpoint = next;
                }
                if !self.slots.is_open(slot) {
                    return;
                }
                if request.refusals < host.endpoints.len() {
                    request.endpoint = next;
                    self.client_sends(id, 0);
                } else {
                    let error = StoreError::Unavailable("no member takes it".into());
                    self.slots.complete(slot, Reply::Txn(Err(error)));
                }
            }
            None => {
                if let &Ask::Snapshot(watch) = &request.ask {
                    self.watch_break(watch, "the member refuses", 0);
                }
            }
        }
    }

    /// A client has waited long enough.
    pub fn client_gives_up(&mut self, slot: SlotId, host: HostId, endpoint: usize) {
        let error = StoreError::Unavailable("no answer in time".into());
        if self.slots.complete(slot, Reply::Txn(Err(error))) {
            self.count(|tally| &mut tally.timeouts);
            let host = &mut self.hosts[host];
            if host.endpoint == endpoint {
                host.endpoint = (endpoint + 1) % host.endpoints.len();
            }
        }
    }

    fn client_asks_status(&mut self, host: HostId, timeout: Duration) -> SlotId {
        let slot = self.slots.open();
        let Some(member) = self.hosts[host].member else {
            let error = StoreError::Refused("no etcd member is local".into());
            self.slots.complete(slot, Reply::Status(Err(error)));
            return slot;
        };
        let reaches = self.net.reaches(Plane::Client, host, host);
        if reaches && !self.members[member].paused {
            let delay = self.rng.within(50_000..=200_000);
            self.schedule(self.now + delay, Event::Status { slot, member });
        } else {
            let local = Instant::from_nanos(self.local(host)) + timeout;
            if let Some(at) = self.hosts[host].clock.when(local) {
                let endpoint = usize::MAX;
                self.schedule(at, Event::GiveUp { slot, host, endpoint });
            }
        }
        slot
    }

    /// A member is asked for its status.
    pub fn status_asked(&mut self, slot: SlotId, member: MemberId) {
        let status = self.etcd_status(member);
        self.slots.complete(slot, Reply::Status(status));
    }

    fn client_follows(&mut self, host: HostId, prefix: String, elsewhere: bool) -> WatchId {
        let target = &mut self.hosts[host];
        if elsewhere {
            target.watch_endpoint = (target.watch_endpoint + 1) % target.endpoints.len();
        }
        let endpoint = target.watch_endpoint;
        let member = target.endpoints[endpoint];
        let epoch = self.members[member].epoch;
        let id = WatchId(self.watches.len() as u32);
        self.watches.push(Watch::new(host, member, epoch, prefix));
        self.count(|tally| &mut tally.watches);
        self.trace(|| format!("host {host} follows at member {member}"));
        let mut request = Request::new(host, None, Ask::Snapshot(id), self.now);
        request.endpoint = endpoint;
        let request = self.add_request(request);
        self.client_sends(request, 0);
        self.schedule(self.now + OPEN_TIMEOUT, Event::WatchOpens { watch: id });
        id
    }

    /// A watch that has not begun by now will not.
    pub fn watch_opens_late(&mut self, id: WatchId) {
        let watch = &self.watches[id.0 as usize];
        if !watch.has_begun() {
            self.watch_break(id, "no snapshot in time", 0);
        }
    }
}
