//! The host's routes, as far as VIPs have to do with them: which subnets are on-link without
//! turnip, and which routes somebody made that go when a VIP goes.
//!
//! A thread of its own looks at them, when one has changed. A router may have a million, which
//! change all the time: neither may keep the thread waiting that renews. So what routing daemons do
//! is not looked at, and no more than a part of a core is ever spent on looking.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteMessage;

use super::address::{Found, LinkState};
use super::configured::Configured;
use super::prefix_route::{MAIN, Subnet};
use super::route::Route;
use super::route_seen::{self, Dependence, Seen};

/// A core's share that looking may take is one of so many.
const SHARE: u32 = 50;
/// What ends sooner is as good as gone: the route of a VIP is there before, not after.
const LASTING: Duration = Duration::from_secs(30);
/// The start of a process does not wait longer than this for the first look. Until then nothing is
/// known to be on-link, and a route too many does no harm.
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// How long after a look that failed there is another.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Bytes of one read.
const READ_BUFFER: usize = 32 << 10;
/// RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE and RTNLGRP_IPV6_ROUTE, as bits.
const GROUPS: u32 = 1 | 1 << 6 | 1 << 10;

/// What is known of the host's routes. The thread ends when it is dropped.
pub(super) struct Routes {
    known: Arc<Mutex<Known>>,
    _end: UnixStream,
}

#[derive(Default)]
struct Known {
    on_link: HashSet<Subnet>,
    /// The tables of interfaces that do not use the main one, by their index.
    tables: HashMap<u32, u32>,
}

impl Routes {
    /// Starts the thread, for these addresses.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch(configured: Arc<Configured>) -> io::Result<Self> {
        let known = Arc::<Mutex<Known>>::default();
        let (end, ended) = UnixStream::pair()?;
        let mut watcher = Watcher::new(configured, Arc::clone(&known), ended)?;
        let (begun, first) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("routes".into()).spawn(move || match Route::open() {
            Ok(route) => watcher.run(route, &begun),
            Err(error) => tracing::warn!(%error, "the host's routes cannot be looked at"),
        })?;
        let _ = first.recv_timeout(FIRST_LOOK);
        Ok(Routes { known, _end: end })
    }

    /// Whether the subnet is on-link, without turnip and for a while.
    pub fn is_on_link(&self, subnet: Subnet) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).on_link.contains(&subnet)
    }

    /// The table of an interface's routes.
    pub fn table(&self, index: u32) -> u32 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tables.get(&index).copied().unwrap_or(MAIN)
    }
}

/// The thread.
struct Watcher {
    known: Arc<Mutex<Known>>,
    events: Socket,
    ended: UnixStream,
    buffer: Vec<u8>,
    configured: Arc<Configured>,
    subnets: BTreeSet<Ipv6Net>,
    vips: BTreeSet<IpAddr>,
    /// What an operator has been told of.
    told: HashSet<String>,
}

impl Watcher {
    fn new(
        configured: Arc<Configured>,
        known: Arc<Mutex<Known>>,
        ended: UnixStream,
    ) -> io::Result<Self> {
        let mut events = Socket::new(NETLINK_ROUTE)?;
        events.bind(&SocketAddr::new(0, GROUPS))?;
        Ok(Watcher {
            known,
            events,
            ended,
            buffer: Vec::with_capacity(READ_BUFFER),
            subnets: BTreeSet::new(),
            vips: BTreeSet::new(),
            configured,
            told: HashSet::new(),
        })
    }

    fn run(&mut self, mut route: Route, begun: &mpsc::SyncSender<()>) {
        loop {
            let start = Instant::now();
            let again = self.look(&mut route).unwrap_or_else(|error| {
                tracing::debug!(%error, "the host's routes cannot be looked at");
                Some(AFTER_FAILURE)
            });
            let _ = begun.try_send(());
            if self.is_over(start.elapsed() * (SHARE - 1)) || !self.wait(again) {
                return;
            }
        }
    }

    /// Looks at all routes. Says after what time to look again, where one ends by itself.
    fn look(&mut self, route: &mut Route) -> io::Result<Option<Duration>> {
        // Whoever puts an address there that was not configured before makes a route that is news.
        let configured = self.configured.addresses();
        let subnets = configured.iter().filter_map(|address| match address {
            IpNet::V6(net) => Some(net.trunc()),
            IpNet::V4(_) => None,
        });
        self.subnets = subnets.collect();
        self.vips = configured.iter().map(IpNet::addr).collect();
        let links = route.links()?;
        let mut seen = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            seen.extend(route.routes(family, |message| self.of_interest(message))?);
        }
        let tables = tables(&links);
        let (on_link, again) = self.on_link(&seen, &tables);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known { on_link, tables };
        if seen.iter().any(Seen::is_of_somebody) {
            let addresses = route.addresses()?;
            self.tell_of_dependent(&seen, &links, &addresses);
        }
        Ok(again)
    }

    fn of_interest(&self, message: &RouteMessage) -> Option<Seen> {
        let seen = route_seen::parse(message)?;
        let to_subnet = match seen.to {
            IpNet::V6(net) => self.subnets.contains(&net),
            IpNet::V4(_) => false,
        };
        (to_subnet || seen.is_of_somebody()).then_some(seen)
    }

    fn on_link(
        &self,
        seen: &[Seen],
        tables: &HashMap<u32, u32>,
    ) -> (HashSet<Subnet>, Option<Duration>) {
        let (mut on_link, mut again) = (HashSet::new(), None::<Duration>);
        for one in seen.iter().filter(|one| one.is_on_link()) {
            let (IpNet::V6(net), Some(index)) = (one.to, one.index) else { continue };
            let of_interface = tables.get(&index).copied().unwrap_or(MAIN) == one.table;
            let left = one.expires.map(|left| left.checked_sub(LASTING));
            if !of_interface || left == Some(None) {
                continue;
            }
            if let Some(Some(left)) = left {
                again = Some(again.map_or(left, |again| again.min(left)));
            }
            on_link.insert(Subnet { index, net });
        }
        (on_link, again)
    }

    /// Names the routes that the kernel takes away, or changes, with a VIP: each once.
    fn tell_of_dependent(
        &mut self,
        seen: &[Seen],
        links: &BTreeMap<u32, LinkState>,
        addresses: &[Found],
    ) {
        let name = |index: u32| links.get(&index).map(|state| Arc::clone(&state.name));
        let mut alone = HashSet::new();
        let mut own = HashSet::new();
        for found in addresses.iter().filter(|found| found.slot.address.addr().is_ipv4()) {
            let Some(state) = links.get(&found.slot.index) else { continue };
            let is_vip = self.configured.vips_on(state).any(|vip| vip == found.slot.address);
            let which = if is_vip { &mut alone } else { &mut own };
            which.insert(found.slot.index);
        }
        alone.retain(|index| !own.contains(index));
        for one in seen.iter().filter(|one| one.is_of_somebody()) {
            let Some(why) = one.depends(&self.vips, &alone) else { continue };
            let text = one.text(|index| name(index).map(|name| name.to_string()));
            if !self.told.insert(text.clone()) {
                continue;
            }
            match why {
                Dependence::Source(vip) => tracing::warn!(
                    route = %text,
                    "the kernel takes this route away, or its source, when {vip} leaves this host, and it does not come back with the address: a route that is to stay needs an address of the host's own as its source"
                ),
                Dependence::Interface(index) => tracing::warn!(
                    route = %text,
                    "the kernel takes this route away when the last VIP leaves {interface}, and it does not come back with it: a route that is to stay needs an address of the host's own on {interface}",
                    interface = name(index).unwrap_or_default()
                ),
            }
        }
    }

    /// Waits until there is something to look at; false when it is over.
    fn wait(&mut self, mut again: Option<Duration>) -> bool {
        let mut start = Instant::now();
        loop {
            let left = again.map(|again| again.saturating_sub(start.elapsed()));
            let mut ready = [
                PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, timeout(left)) {
                Ok(0) => return true,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => {
                    // Neither of the two can fail; else this would go round and round.
                    again = Some(AFTER_FAILURE);
                    start = Instant::now();
                    if self.is_over(AFTER_FAILURE) {
                        return false;
                    }
                    continue;
                }
                Ok(_) => {}
            }
            if ready[1].any().unwrap_or(true) {
                return false;
            }
            if self.read() {
                return true;
            }
        }
    }

    /// Reads all that was told; whether any of it matters.
    fn read(&mut self) -> bool {
        let mut matters = false;
        loop {
            self.buffer.clear();
            match self.events.recv(&mut self.buffer, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => matters |= route_seen::matters(&self.buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return matters,
                // Something was lost.
                Err(_) => return true,
            }
        }
    }

    /// Rests for so long; whether it is over by then.
    fn is_over(&self, rest: Duration) -> bool {
        let mut ended = [PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ended, timeout(Some(rest))), Ok(ready) if ready > 0)
    }
}

fn timeout(time: Option<Duration>) -> PollTimeout {
    // Rounded up: too early there would be nothing to do yet.
    let rounded = time.map(|time| time + Duration::from_millis(1));
    rounded
        .map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX))
}

/// The tables of interfaces that belong to a VRF, by their index.
fn tables(links: &BTreeMap<u32, LinkState>) -> HashMap<u32, u32> {
    let table = |state: &LinkState| links.get(&state.master?)?.table;
    links.values().filter_map(|state| Some((state.index, table(state)?))).collect()
}
