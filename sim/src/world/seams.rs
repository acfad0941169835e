//! The seams of the driver, as one host sees the world through them.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use turnip::seams::{Clock, Command, Hooks, Kernel, Peers, Store};
use turnip_core::{
    Addressee, Assignment, Datagram, Event as Change, ForeignKey, HeartbeatKeys, HookEnd, HookId,
    HookRun, Instant, KernelError, KernelEvent, KernelOp, KernelOutcome, MemberStatus, NodeName,
    Owed, StoreError, Txn, TxnResponse, Update, VipName,
};

use crate::time::MS;

use super::World;
use super::event::Event;
use super::ids::{HostId, WatchId};
use super::slots::{Reply, SlotId};

/// When a key that could not be followed is asked for again.
const KEY_AGAIN_AFTER: Duration = Duration::from_millis(300);

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

    /// Waits until its adapter has started.
    pub fn adapter_starts(&self) -> impl Future<Output = KernelOutcome> + use<> {
        let inner = &mut *self.world.inner();
        let slot = inner.hosts.adapter_starts(self.host, &mut inner.env);
        outcome(Wait::new(Rc::clone(&self.world), slot))
    }

    fn watch_key(&self, key: &str) -> Follow {
        let id = self.world.inner().follow_key(self.host, key.to_owned());
        Follow { world: Rc::clone(&self.world), host: self.host, id, is_of_prefix: false }
    }

    /// Its hooks, of which an earlier process of the daemon may have left some: what these owed.
    pub fn owed(&self) -> Vec<Owed> {
        let inner = &mut *self.world.inner();
        inner.hosts.take_over_hooks(self.host, &mut inner.env)
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
        let id = self.world.inner().follow(self.host, prefix, elsewhere);
        Follow { world: Rc::clone(&self.world), host: self.host, id, is_of_prefix: true }
    }

    fn follow_keys(&self, keys: BTreeSet<String>) -> impl Stream<Item = ForeignKey> {
        futures::stream::select_all(keys.into_iter().map(|key| Box::pin(follow_key(self, key))))
    }

    async fn commit(&self, txn: Txn, timeout: Duration) -> Result<TxnResponse, StoreError> {
        let slot = self.world.inner().commit(self.host, txn, timeout);
        match Wait::new(Rc::clone(&self.world), slot).await {
            Reply::Txn(answer) => answer,
            other => unreachable!("a transaction answered by {other:?}"),
        }
    }

    async fn member_status(&self, timeout: Duration) -> Result<MemberStatus, StoreError> {
        let slot = self.world.inner().ask_status(self.host, timeout);
        match Wait::new(Rc::clone(&self.world), slot).await {
            Reply::Status(answer) => answer,
            Reply::Txn(Err(error)) => Err(error),
            other => unreachable!("a question for status answered by {other:?}"),
        }
    }
}

impl Kernel for SimHost {
    fn perform(&self, op: KernelOp) -> impl Future<Output = KernelOutcome> {
        let slot = self.world.inner().perform(self.host, op);
        outcome(Wait::new(Rc::clone(&self.world), slot))
    }

    async fn announce(&self, addresses: Vec<Assignment>, deadline: Instant) {
        let inner = &mut *self.world.inner();
        inner.hosts.announce(self.host, &addresses, deadline, &mut inner.env);
    }

    fn end_connections(&self, addresses: Vec<IpAddr>) {
        let inner = &mut *self.world.inner();
        inner.hosts.end_connections(self.host, &addresses, &mut inner.env);
    }

    fn events(&self) -> impl Stream<Item = KernelEvent> {
        Told(self.clone())
    }
}

impl Hooks for SimHost {
    fn owe(&self, owed: Owed) {
        self.world.inner().hosts.owe(self.host, owed);
    }

    fn paid(&self, vip: &VipName) {
        self.world.inner().hosts.paid(self.host, vip);
    }

    fn run(&self, run: HookRun) -> impl Future<Output = HookEnd> {
        let inner = &mut *self.world.inner();
        let slot = inner.hosts.run_hook(self.host, run, &mut inner.env);
        let wait = Wait::new(Rc::clone(&self.world), slot);
        async move {
            match wait.await {
                Reply::Hook(end) => end,
                other => unreachable!("a hook that ends with {other:?}"),
            }
        }
    }

    fn kill(&self, id: HookId) {
        let inner = &mut *self.world.inner();
        inner.hosts.kill_hook(self.host, id, &mut inner.env);
    }
}

async fn outcome(wait: Wait) -> KernelOutcome {
    match wait.await {
        Reply::Kernel(outcome) => outcome,
        other => KernelOutcome::Failed(KernelError::Refused(format!("{other:?}"))),
    }
}

impl Peers for SimHost {
    fn use_keys(&self, keys: HeartbeatKeys) {
        self.world.inner().hosts.use_keys(self.host, keys);
    }

    fn send(&self, to: Vec<Addressee>) {
        let inner = &mut *self.world.inner();
        inner.hosts.send_datagrams(self.host, to, &mut inner.env);
    }

    fn datagrams(&self) -> impl Stream<Item = (NodeName, Datagram)> {
        Datagrams(self.clone())
    }
}

impl Clock for SimHost {
    fn now(&self) -> Instant {
        let inner = self.world.inner();
        inner.hosts.clock(self.host).read(inner.env.now())
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> {
        SleepUntil { at: self.clone(), deadline, slot: None }
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.world.inner().env.now() / MS
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
        let inner = &mut *world.inner();
        let env = &mut inner.env;
        let clock = inner.hosts.clock(host);
        if clock.read(env.now()) >= deadline {
            return Poll::Ready(());
        }
        let when = clock.when(deadline);
        inner.hosts.sleep(host, cx);
        // The clock may have changed its rate since the last time.
        if let Some(slot) = self.slot.take() {
            env.slots.release(slot);
        }
        let slot = env.slots.open();
        let _ = env.slots.poll(slot, cx);
        if let Some(when) = when {
            env.schedule(when, Event::Wake { slot });
        }
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for SleepUntil {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.at.world.inner().env.slots.release(slot);
        }
    }
}

struct Follow {
    world: Rc<World>,
    host: HostId,
    id: WatchId,
    is_of_prefix: bool,
}

/// A key of another program, for ever: as the daemon's adapter follows it.
fn follow_key(host: &SimHost, key: String) -> impl Stream<Item = ForeignKey> {
    futures::stream::unfold(None, move |mut follow| {
        let key = key.clone();
        async move {
            loop {
                let watch = follow.get_or_insert_with(|| host.watch_key(&key));
                let state = match watch.next().await {
                    Some(Ok(Update::Snapshot(snapshot))) => {
                        let kv = snapshot.kvs.into_iter().find(|kv| kv.key == key);
                        (kv, snapshot.header.revision)
                    }
                    // The model's watches are of prefixes.
                    Some(Ok(Update::Events(batch))) => {
                        match batch.events.into_iter().rfind(|event| *event.key() == key) {
                            Some(Change::Put(kv)) => {
                                let at = kv.mod_revision;
                                (Some(kv), at)
                            }
                            Some(Change::Delete { revision, .. }) => (None, revision),
                            None => continue,
                        }
                    }
                    Some(Err(_)) | None => {
                        follow = None;
                        host.sleep_until(host.now() + KEY_AGAIN_AFTER).await;
                        continue;
                    }
                };
                return Some((ForeignKey { key, state: Ok(state) }, follow));
            }
        }
    })
}

impl Stream for Follow {
    type Item = Result<Update, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let inner = &mut *self.world.inner();
        let update = inner.etcd.poll_watch(self.id, &mut inner.env, cx);
        if self.is_of_prefix
            && let Poll::Ready(Some(Err(_)) | None) = update
        {
            inner.clients.stop_following_there(self.host, inner.env.now());
        }
        update
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.world.inner().etcd.unwatch(self.id);
    }
}

struct Told(SimHost);

impl Stream for Told {
    type Item = KernelEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<KernelEvent>> {
        self.0.world.inner().hosts.poll_told(self.0.host, cx).map(Some)
    }
}

struct Datagrams(SimHost);

impl Stream for Datagrams {
    type Item = (NodeName, Datagram);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let inner = &mut *self.0.world.inner();
        inner.hosts.poll_datagram(self.0.host, &mut inner.env, cx).map(Some)
    }
}

struct Commands(SimHost);

impl Stream for Commands {
    type Item = Command;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Command>> {
        self.0.world.inner().hosts.poll_command(self.0.host, cx).map(Some)
    }
}

/// A wait as a future. Dropping it gives the wait up, and takes nothing back.
struct Wait {
    world: Rc<World>,
    id: SlotId,
}

impl Wait {
    /// Waits in `world` for the end of `id`.
    fn new(world: Rc<World>, id: SlotId) -> Self {
        Wait { world, id }
    }
}

impl Future for Wait {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        self.world.inner().env.slots.poll(self.id, cx)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.world.inner().env.slots.release(self.id);
    }
}
