//! The kernel: netlink, nftables, ARP and neighbour discovery.
//!
//! ```text
//!   driver -- perform --> Queue --> Worker (a thread) --+--> Fence    (nftables)
//!          <-- events --- Events <-- multicast          +--> address  (rtnetlink)
//!          -- announce -> Announcer (a thread)          +--> Record, Lifetimes
//! ```
//!
//! Rule 8 of the design is kept here: every deadline is held against a clock read just before
//! a message is sent, and again after its acknowledgement; what came too late is undone.

mod address;
mod announce;
mod channel;
pub mod check;
mod events;
pub mod fence;
mod lifetimes;
mod liveness;
mod nft;
mod queue;
mod record;
mod refusal;
pub mod release;
mod route;
mod rules;
mod sets;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures::{Stream, StreamExt};
use turnip_core::{
    Assignment, Backstop, Instant, KernelError, KernelEvent, KernelOp, KernelOutcome,
};

pub use address::MARK;

use crate::clock::HostClock;
use crate::host;
use crate::seams::Kernel;
use address::LinkState;
use announce::{Announcer, LinkNews};
use events::Events;
use fence::Fence;
use lifetimes::Lifetimes;
use liveness::Liveness;
use queue::Queue;
use record::Record;
use route::Route;
use worker::{Expected, Worker};

/// What the kernel adapter is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every address that this node may ever be asked to put there.
    pub configured: Vec<Assignment>,
    /// Whether to make a fence. [`fence::probe`] tells whether that works here.
    pub backstop: Backstop,
    /// Where the record of addresses is kept for kernels without marks: `/run/turnip`.
    pub runtime_directory: PathBuf,
}

/// The kernel of the network namespace that the calling thread is in.
pub struct Netlink {
    queue: Arc<Queue>,
    events: Mutex<Option<Events>>,
    announcer: Announcer,
    liveness: Liveness,
}

impl Netlink {
    /// Opens the sockets, makes the fence or takes over the one that is there, and starts the
    /// thread that does the work. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses: without CAP_NET_ADMIN, or with a fence and without nftables.
    pub fn open(settings: Settings, clock: HostClock) -> io::Result<Self> {
        let context = |what: &'static str| {
            move |error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        let addresses: BTreeSet<_> =
            settings.configured.iter().map(|one| one.address.addr()).collect();
        let fence = match settings.backstop {
            Backstop::Fence => {
                let fence = Fence::open(addresses, clock.clone());
                Some(fence.map_err(context("cannot make the nftables fence"))?)
            }
            Backstop::Lifetime => {
                clear_earlier_fence(&settings)?;
                None
            }
        };
        let expected = Expected::default();
        let networks = settings.configured.iter().map(|one| one.address).collect();
        let (liveness, link_news) = (Liveness::default(), LinkNews::default());
        let events = Events::open(networks, expected.clone(), liveness.clone(), link_news.clone());
        let mut events = events.map_err(context("cannot follow changes of addresses"))?;
        let announcer = Announcer::start(clock.clone(), expected.clone(), link_news)?;
        let entry = |one: Assignment| (one.interface, one.address);
        let configured = settings.configured.into_iter().map(entry).collect();
        let record = Record::open(&settings.runtime_directory, host::network_namespace()?);
        let queue = Arc::new(Queue::default());
        let of_worker = liveness.clone();
        let worker = |route, queue| Worker {
            route,
            fence,
            clock,
            configured,
            record,
            expected,
            queue,
            lifetimes: Lifetimes::default(),
            liveness: of_worker,
            promoting: HashSet::new(),
        };
        let links = start(worker, Arc::clone(&queue));
        events.know_links(links.map_err(context("cannot list the interfaces"))?);
        Ok(Netlink { queue, events: Mutex::new(Some(events)), announcer, liveness })
    }

    /// Waits until the kernel is out of reach for good: nothing came of what it is asked to do for
    /// as long as a `lease`, or the thread that asks it has ended. Says why. Whoever goes on
    /// renewing a session then owns what it cannot hold.
    pub async fn failure(&self, lease: Duration) -> String {
        self.liveness.failure(lease).await
    }
}

/// Starts the thread, which alone may block on its connection to rtnetlink; gives the interfaces
/// that it finds.
fn start(
    worker: impl FnOnce(Route, Arc<Queue>) -> Worker + Send + 'static,
    queue: Arc<Queue>,
) -> io::Result<BTreeMap<u32, LinkState>> {
    let (begun, first) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("kernel".into()).spawn(move || {
        let opened = Route::open().and_then(|mut route| Ok((route.links()?, route)));
        match opened {
            Ok((links, route)) => {
                let _ = begun.send(Ok(links));
                worker(route, queue).run();
            }
            Err(error) => {
                let _ = begun.send(Err(error));
            }
        }
    })?;
    first.recv().unwrap_or_else(|_| Err(io::Error::other("the kernel's thread has ended")))
}

/// A fence that nobody tends would silence what is held by lifetimes. It may silence
/// what an earlier process left, though, so that goes first.
fn clear_earlier_fence(settings: &Settings) -> io::Result<()> {
    if fence::exists()? {
        tracing::warn!(
            "a fence of an earlier turnip is there, but lifetimes are configured: clearing this host first"
        );
        release::release(&settings.runtime_directory)?;
    }
    Ok(())
}

impl Kernel for Netlink {
    fn perform(&self, op: KernelOp) -> impl Future<Output = KernelOutcome> {
        self.liveness.begin();
        let answer = self.queue.push(op);
        async move {
            answer.await.unwrap_or_else(|_| {
                let why = "the thread that speaks to the kernel has ended";
                KernelOutcome::Failed(KernelError::Refused(why.into()))
            })
        }
    }

    fn announce(&self, addresses: Vec<Assignment>, deadline: Instant) -> impl Future<Output = ()> {
        self.announcer.announce(addresses, deadline)
    }

    fn events(&self) -> impl Stream<Item = KernelEvent> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        futures::stream::iter(events).flatten()
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.queue.close();
    }
}
