//! Two hosts in network namespaces of their own, joined by a veth pair.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::{LinkUnspec, LinkVeth};
use turnip::clock::HostClock;
use turnip::kernel::{AnnounceOn, CompanionsOf, Netlink, Settings, VirtualLink};
use turnip::seams::{Clock, Kernel};
use turnip_core::{Assignment, Backstop, Instant, KernelError, KernelOp, KernelOutcome, Listing};
use turnip_netns_tests::lab::Lab;
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::poll::Poll;

/// The interface of the host, and of its neighbour.
pub const DEVICE: &str = "host0";
pub const NEIGHBOUR_DEVICE: &str = "peer0";
/// Where the host listens.
pub const PORT: u16 = 7;

/// Runs `test` in a host of its own, within a runtime as the daemon's.
pub fn on_a_host<T, F: Future<Output = T>>(test: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
{
    let lab = Lab::new().unwrap();
    let host = lab.namespace("host").expect("this test makes network namespaces, as root");
    host.block_on(|| async { Ok(test().await) }).unwrap()
}

/// Another network namespace.
pub struct Neighbour(Arc<Namespace>);

impl Neighbour {
    /// Joined with this host by a veth pair: `10.0.0.1/24` and `fd00::1/64` here,
    /// `10.0.0.2/24` and `fd00::2/64` there.
    pub async fn join() -> Self {
        let neighbour = Neighbour(Lab::new().unwrap().namespace("neighbour").unwrap());
        let handle = handle();
        let pair = LinkVeth::new(DEVICE, NEIGHBOUR_DEVICE).build();
        handle.link().add(pair).execute().await.unwrap();
        let there = index(NEIGHBOUR_DEVICE);
        let moved =
            LinkUnspec::new_with_index(there).setns_by_fd(neighbour.0.file().as_raw_fd()).build();
        handle.link().change(moved).execute().await.unwrap();
        configure(DEVICE, &["10.0.0.1/24", "fd00::1/64"]).await;
        neighbour.run(|| async {
            configure(NEIGHBOUR_DEVICE, &["10.0.0.2/24", "fd00::2/64"]).await;
        });
        eventually("the link to be up", async || {
            turnip::kernel::check::links()
                .unwrap()
                .iter()
                .any(|link| &*link.name == DEVICE && link.up)
        })
        .await;
        // The kernel looks for duplicates in the background, or sees that it need not.
        eventually("the host's own addresses to be in use", async || {
            present().await.iter().all(|(message, _)| !is_tentative(message))
        })
        .await;
        neighbour
    }

    /// Runs `what` on the neighbour.
    pub fn run<T: Send, F: Future<Output = T>>(&self, what: impl FnOnce() -> F + Send) -> T {
        self.0.block_on(|| async { Ok(what().await) }).unwrap()
    }

    /// Whether the address takes a connection from the neighbour within 200 ms.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.run(|| async move { connects(address) })
    }

    /// What the neighbour's cache says of the address.
    pub fn cached(&self, address: IpAddr) -> Option<Vec<u8>> {
        self.run(|| async move { cached(address).await })
    }

    /// Makes the neighbour forget what it knows of the address.
    pub fn forget(&self, address: IpAddr) {
        self.run(|| async move {
            for message in neighbours().await {
                if names(&message, address) {
                    handle().neighbours().del(message).execute().await.unwrap();
                }
            }
        });
    }
}

pub fn connects(address: IpAddr) -> bool {
    let to = SocketAddr::new(address, PORT);
    TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok()
}

async fn neighbours() -> Vec<rtnetlink::packet_route::neighbour::NeighbourMessage> {
    handle().neighbours().get().execute().try_collect().await.unwrap()
}

fn names(message: &rtnetlink::packet_route::neighbour::NeighbourMessage, address: IpAddr) -> bool {
    let wanted = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.contains(&NeighbourAttribute::Destination(wanted))
}

pub async fn cached(address: IpAddr) -> Option<Vec<u8>> {
    let found = neighbours().await.into_iter().find(|message| names(message, address))?;
    found.attributes.into_iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => Some(mac),
        _ => None,
    })
}

/// Listens on all addresses of the namespace that the caller is in.
pub fn listen() {
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
}

pub fn handle() -> rtnetlink::Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

pub fn index(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).unwrap()
}

pub async fn mac_of(device: &str) -> [u8; 6] {
    use rtnetlink::packet_route::link::LinkAttribute;
    let handle = handle();
    let mut links = handle.link().get().match_index(index(device)).execute();
    let link = links.try_next().await.unwrap().unwrap();
    let mac = link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(mac) => mac.try_into().ok(),
        _ => None,
    });
    mac.unwrap()
}

pub async fn set_up(device: &str) {
    let change = LinkUnspec::new_with_index(index(device)).up().build();
    handle().link().set(change).execute().await.unwrap();
}

pub async fn set_down(device: &str) {
    let change = LinkUnspec::new_with_index(index(device)).down().build();
    handle().link().set(change).execute().await.unwrap();
}

pub async fn remove_link(device: &str) {
    handle().link().del(index(device)).execute().await.unwrap();
}

async fn configure(device: &str, addresses: &[&str]) {
    let dad = format!("/proc/sys/net/ipv6/conf/{device}/accept_dad");
    std::fs::write(dad, "0").unwrap();
    set_up(device).await;
    for address in addresses {
        add(device, address).await;
    }
}

/// Adds an address as an operator would.
pub async fn add(device: &str, address: &str) {
    let address: IpNet = address.parse().unwrap();
    let index = index(device);
    handle().address().add(index, address.addr(), address.prefix_len()).execute().await.unwrap();
}

/// Removes an address as an operator would.
pub async fn remove(device: &str, address: &str) {
    let address: IpNet = address.parse().unwrap();
    let index = index(device);
    for (message, found) in present().await {
        if message.header.index == index && found == address {
            handle().address().del(message).execute().await.unwrap();
        }
    }
}

fn is_tentative(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        matches!(attribute,
            AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Tentative))
    })
}

/// Every address of this namespace.
pub async fn present() -> Vec<(AddressMessage, IpNet)> {
    let found: Vec<AddressMessage> =
        handle().address().get().execute().try_collect().await.unwrap();
    let parse = |message: AddressMessage| {
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })?;
        let address = IpNet::new(address, message.header.prefix_len).ok()?;
        Some((message, address))
    };
    found.into_iter().filter_map(parse).collect()
}

pub async fn is_present(address: &str) -> bool {
    let address: IpNet = address.parse().unwrap();
    present().await.iter().any(|(_, found)| *found == address)
}

/// An address of VIP `v` on the interface.
pub fn on(device: &str, address: &str) -> Assignment {
    let vip = "v".parse().unwrap();
    Assignment { vip, interface: device.into(), address: address.parse().unwrap() }
}

/// Many addresses on lo.
pub fn many(count: u32) -> Vec<Assignment> {
    let first = u32::from(std::net::Ipv4Addr::new(10, 128, 0, 0));
    (0..count)
        .map(|host| on("lo", &format!("{}/32", std::net::Ipv4Addr::from(first + host))))
        .collect()
}

/// The adapter under test, and its clock.
pub struct Host {
    pub kernel: Netlink,
    pub clock: HostClock,
}

impl Host {
    pub fn start(backstop: Backstop, configured: &[Assignment]) -> Self {
        Self::start_in(Path::new("/nonexistent/turnip"), backstop, configured)
    }

    /// Announces VIPs where it is told to.
    pub fn announcing_on(configured: &[Assignment], announce_on: AnnounceOn) -> Self {
        let directory = Path::new("/nonexistent/turnip");
        Self::start_with(directory, Backstop::Fence, configured, announce_on)
    }

    pub fn start_in(directory: &Path, backstop: Backstop, configured: &[Assignment]) -> Self {
        Self::start_with(directory, backstop, configured, AnnounceOn::new())
    }

    fn start_with(
        directory: &Path,
        backstop: Backstop,
        configured: &[Assignment],
        announce_on: AnnounceOn,
    ) -> Self {
        Self::start_as(Settings {
            configured: configured.to_vec(),
            announce_on,
            virtual_links: Vec::new(),
            companions: CompanionsOf::new(),
            backstop,
            runtime_directory: directory.into(),
        })
    }

    /// With routes and rules of the VIP `v`, and the interfaces of those that have some of their own.
    pub fn accompanied(
        configured: &[Assignment],
        companions: CompanionsOf,
        virtual_links: Vec<VirtualLink>,
    ) -> Self {
        Self::start_as(Settings {
            configured: configured.to_vec(),
            announce_on: AnnounceOn::new(),
            virtual_links,
            companions,
            backstop: Backstop::Fence,
            runtime_directory: "/nonexistent/turnip".into(),
        })
    }

    fn start_as(settings: Settings) -> Self {
        let clock = HostClock::new();
        let kernel = Netlink::open(settings, clock.clone())
            .expect("this test needs CAP_NET_ADMIN and nftables");
        Host { kernel, clock }
    }

    pub fn after(&self, millis: u64) -> Instant {
        self.clock.now() + Duration::from_millis(millis)
    }

    pub async fn assume(&self, addresses: &[Assignment], deadline: Instant) -> KernelOutcome {
        self.kernel.perform(KernelOp::Assume { addresses: addresses.to_vec(), deadline }).await
    }

    /// All that is held goes on. What that is, is named for whoever reads the test.
    pub async fn refresh(&self, _held: &[Assignment], deadline: Instant) -> KernelOutcome {
        self.kernel.perform(KernelOp::Refresh { deadline }).await
    }

    pub async fn withdraw(&self, addresses: &[Assignment]) -> KernelOutcome {
        self.kernel.perform(KernelOp::Withdraw { addresses: addresses.to_vec() }).await
    }

    pub async fn list(&self) -> Listing {
        match self.kernel.perform(KernelOp::List).await {
            KernelOutcome::Listed(listing) => listing,
            other => panic!("{other:?}"),
        }
    }
}

pub fn done() -> KernelOutcome {
    KernelOutcome::Done { failed: Vec::new(), until: None }
}

pub fn failed(assignment: &Assignment, error: KernelError) -> KernelOutcome {
    KernelOutcome::Done { failed: vec![(assignment.clone(), error)], until: None }
}

/// Waits until it is so, generously.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let poll = Poll::every(Duration::from_millis(20)).within(Duration::from_secs(20));
    let outcome = poll.succeed_async(async || is_so().await.then_some(()).ok_or(()));
    assert!(outcome.await.is_ok(), "waited in vain for {what}");
}
