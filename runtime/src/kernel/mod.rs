//! The kernel: netlink, nftables, ARP and neighbour discovery.
//!
//! ```text
//!   driver -- perform --> core's Adapter <-- a thread --> Caller --+--> Fence (nftables)
//!          <-- events --- Events <-- multicast                     +--> Route (rtnetlink)
//!          -- announce -> Announcer (a thread) --+                 +--> Places, Record, Setting
//!          <-- conflicts - Listener (a thread) --+--> Neighbourhood
//!                         Routes (a thread) <-- multicast, dumps <-+
//!                     Companions (a thread) <-- multicast <--------+
//!          -- end_connections -> Connections (a thread)
//! ```
//!
//! What is sent, and when, and what is undone because it came too late, is decided by
//! [`turnip_core::Adapter`] (rule 8). Here are the thread, the sockets, the messages and packets.

mod address;
mod announce;
mod beside;
mod caller;
mod channel;
pub mod check;
mod companion;
mod companions;
mod companions_watch;
mod configured;
mod conflicts;
mod connections;
mod devices;
mod events;
mod expected;
pub mod fence;
mod fence_names;
mod filter;
mod ipv6_off;
mod listen;
mod liveness;
mod neighbourhood;
pub mod neighbours;
mod nft;
mod packets;
mod places;
mod prefix_route;
mod record;
mod refusal;
pub mod release;
mod route;
mod route_seen;
mod routes;
mod rule;
mod rules;
mod sets;
mod setting;
mod subnets;
mod surroundings;
mod takeover;
mod thread;
mod virtual_link;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc::Receiver;
use turnip_core::{
    Adapter, Assignment, Backstop, Conflict, Instant, KernelError, KernelEvent, KernelOp,
    KernelOutcome,
};

pub use address::MARK;
pub use companion::{Companion, VipRoute, VipRule};
pub use companions::CompanionsOf;
pub use conflicts::{Claim, Conflicts};
pub use neighbourhood::AnnounceOn;
pub use virtual_link::VirtualLink;

use crate::clock::HostClock;
use crate::host;
use crate::seams::Kernel;
use address::LinkState;
use announce::Announcer;
use caller::Caller;
use companions::Companions;
use configured::{Configured, OwnNames};
use connections::Connections;
use events::{Events, Followed};
use expected::Expected;
use fence::Fence;
use fence_names::{ByInterface, FenceNames};
use listen::Listener;
use liveness::Liveness;
use neighbourhood::Neighbourhood;
use places::Places;
use record::Record;
use route::Route;
use routes::Routes;
use setting::{Setting, Which};
use subnets::Subnets;
use surroundings::{AddressNews, Surroundings};
use thread::Shared;
use virtual_link::{KnownLinks, VirtualLinks};

/// What the kernel adapter is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every address that this node may be asked to put there, until it is told of others.
    pub configured: Vec<Assignment>,
    /// On which interfaces VIPs are announced, where that is not to be found out.
    pub announce_on: AnnounceOn,
    /// The interfaces of VIPs with a virtual hardware address, made while these are here.
    pub virtual_links: Vec<VirtualLink>,
    /// The routes and rules of VIPs that have some.
    pub companions: CompanionsOf,
    /// Whether to make a fence. [`fence::probe`] tells whether that works here.
    pub backstop: Backstop,
    /// Where the record of addresses is kept for kernels without marks: `/run/turnip`.
    pub runtime_directory: PathBuf,
}

/// What VIPs bring along, where the configuration is another one (rule 14.3).
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Every address that VIPs will have.
    pub addresses: Vec<Assignment>,
    /// As in [`Settings`].
    pub announce_on: AnnounceOn,
    /// As in [`Settings`].
    pub virtual_links: Vec<VirtualLink>,
    /// As in [`Settings`].
    pub companions: CompanionsOf,
}

/// The kernel of the network namespace that the calling thread is in.
pub struct Netlink {
    shared: Arc<Shared>,
    events: Mutex<Option<(Events, Receiver<Conflict>)>>,
    announcer: Announcer,
    conflicts: Conflicts,
    fence_repairs: Arc<AtomicU64>,
    listener: Listener,
    configured: Arc<Configured>,
    fenced_by_interface: ByInterface,
    neighbourhood: Neighbourhood,
    known_links: KnownLinks,
    companions: Arc<Companions>,
    connections: Connections,
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
        let no_fence = context("cannot make the nftables fence");
        let own_names = OwnNames::default();
        let names = FenceNames::new(&settings.configured, own_names.clone());
        if names.are_needed() {
            learn(&own_names).map_err(context("cannot list the interfaces"))?;
        }
        let fenced_by_interface = names.by_interface();
        let mut fence = match settings.backstop {
            Backstop::Fence => Some(Fence::open(names).map_err(&no_fence)?),
            Backstop::Lifetime => {
                clear_earlier_fence(&settings)?;
                None
            }
        };
        let mut adapter = Adapter::new(settings.configured.iter().cloned(), settings.backstop);
        thread::begin(&mut adapter, fence.as_mut(), &clock).map_err(no_fence)?;
        let fence_repairs = fence.as_ref().map(Fence::repairs).unwrap_or_default();
        let expected = Expected::default();
        let parents = settings.virtual_links.iter().map(|link| Arc::clone(&link.parent));
        let configured = Arc::new(Configured::new(&settings.configured));
        configured.also_links(parents);
        let neighbourhood =
            Neighbourhood::new(&settings.configured, settings.announce_on, own_names.clone());
        let (liveness, address_news) = (Liveness::default(), AddressNews::default());
        let followed = Followed {
            expected: expected.clone(),
            liveness: liveness.clone(),
            neighbourhood: neighbourhood.clone(),
            address_news: address_news.clone(),
            own_names,
        };
        let events = Events::open(Arc::clone(&configured), followed);
        let mut events = events.map_err(context("cannot follow changes of addresses"))?;
        let routes = Routes::watch(Arc::clone(&configured));
        let routes = routes.map_err(context("cannot follow changes of routes"))?;
        let companions = Companions::watch(settings.companions, &settings.configured);
        let companions = Arc::new(companions.map_err(context("cannot follow changes of rules"))?);
        let announcer = Announcer::start(clock.clone(), expected.clone(), neighbourhood.clone())?;
        let conflicts = Conflicts::default();
        let (listener, claims) =
            Listener::start(neighbourhood.clone(), expected.clone(), conflicts.clone())?;
        let connections = Connections::start()?;
        let namespace = host::network_namespace()?;
        let record = Record::open(&settings.runtime_directory, namespace);
        let setting = |which| Setting::open(which, &settings.runtime_directory, namespace);
        let promotion = setting(Which::PromoteSecondaries);
        let of_parents = Which::OF_PARENTS.map(setting);
        let known_links = KnownLinks::new(settings.virtual_links);
        let virtual_links =
            VirtualLinks::new(known_links.clone(), of_parents, neighbourhood.clone());
        let shared = Arc::new(Shared::new(adapter, clock));
        let (of_caller, of_thread) = (liveness.clone(), Arc::clone(&configured));
        let made_by_thread = Arc::clone(&companions);
        let caller = |route| Caller {
            route,
            fence,
            configured: of_thread,
            places: Places::default(),
            record,
            expected,
            liveness: of_caller,
            promotion,
            virtual_links,
            surroundings: Surroundings::new(address_news),
            routes,
            subnets: Subnets::default(),
            companions: made_by_thread,
        };
        let links = start(caller, Arc::clone(&shared), liveness.clone());
        events.know_links(links.map_err(context("cannot list the interfaces"))?);
        let events = Mutex::new(Some((events, claims)));
        Ok(Netlink {
            shared,
            events,
            announcer,
            conflicts,
            fence_repairs,
            listener,
            configured,
            fenced_by_interface,
            neighbourhood,
            known_links,
            companions,
            connections,
            liveness,
        })
    }

    /// The machines that were heard with addresses which are held here, for who shows them.
    pub fn conflicts(&self) -> Conflicts {
        self.conflicts.clone()
    }

    /// This is what VIPs bring along from now on. A VIP that is to be elsewhere has what it had until it is
    /// not here any more; of any other, what changes is made or taken away at once.
    pub fn want(&self, wanted: Wanted) {
        let Wanted { addresses, announce_on, virtual_links, companions } = wanted;
        self.configured.also_links(virtual_links.iter().map(|link| Arc::clone(&link.parent)));
        self.known_links.extend(virtual_links);
        self.neighbourhood.announce_on(announce_on);
        self.companions.want(companions, &addresses);
    }

    /// These are all addresses from now on, for whoever looks, listens and announces: the fence is the
    /// adapter's affair, and behind what was asked before.
    fn configure(&self, addresses: &[Assignment]) {
        self.configured.replace(addresses);
        self.fenced_by_interface.extend(addresses);
        self.neighbourhood.configure(addresses);
        self.companions.configure(addresses);
        if let Err(error) = self.listener.start_anew() {
            tracing::warn!(%error, "machines that claim what is new in the configuration go unnoticed");
        }
    }

    /// How often somebody else's changes of the fence were put right.
    pub fn fence_repairs(&self) -> u64 {
        self.fence_repairs.load(Ordering::Relaxed)
    }

    /// Waits until the kernel is out of reach for good: nothing came of what it is asked to do for
    /// as long as a `lease`, or the thread that asks it has ended. Says why. Whoever goes on
    /// renewing a session then owns what it cannot hold.
    pub async fn failure(&self, lease: Duration) -> String {
        self.liveness.failure(lease).await
    }
}

/// Looks what interfaces are called.
fn learn(own_names: &OwnNames) -> io::Result<()> {
    let links = route::briefly(|route| route.links())?;
    links.values().for_each(|state| own_names.learn(state));
    Ok(())
}

/// Starts the thread, which alone may block on its connection to rtnetlink; gives the interfaces
/// that it finds.
fn start(
    caller: impl FnOnce(Route) -> Caller + Send + 'static,
    shared: Arc<Shared>,
    liveness: Liveness,
) -> io::Result<BTreeMap<u32, LinkState>> {
    let (begun, first) = mpsc::sync_channel(1);
    std::thread::Builder::new().name("kernel".into()).spawn(move || {
        let opened = Route::open().and_then(|mut route| Ok((route.links()?, route)));
        match opened {
            Ok((links, route)) => {
                let _ = begun.send(Ok(links));
                shared.work(caller(route), &liveness);
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
        release::release_all(&settings.runtime_directory)?;
    }
    Ok(())
}

impl Kernel for Netlink {
    fn perform(&self, op: KernelOp) -> impl Future<Output = KernelOutcome> {
        if let KernelOp::Configure { addresses } = &op {
            self.configure(addresses);
        }
        self.liveness.begin();
        let answer = self.shared.push(op);
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

    fn end_connections(&self, addresses: Vec<IpAddr>) {
        self.connections.end(addresses);
    }

    fn events(&self) -> impl Stream<Item = KernelEvent> {
        let taken = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream::iter(taken).flat_map(|(events, mut claims)| {
            let claims = stream::poll_fn(move |context| claims.poll_recv(context));
            stream::select(events, claims.map(KernelEvent::Conflict))
        })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.shared.close();
    }
}
