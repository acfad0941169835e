//! A VIP is for its clients: the host's own connections come from the host's own addresses.

mod kernel_lab;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use futures::{FutureExt, StreamExt};
use kernel_lab::*;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use turnip::seams::Kernel;
use turnip_core::{Backstop, KernelEvent, Listing};

/// The address from which this host would speak to `destination`.
fn source_towards(destination: &str) -> IpAddr {
    let destination: IpAddr = destination.parse().unwrap();
    let any = if destination.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(SocketAddr::new(destination, PORT)).unwrap();
    socket.local_addr().unwrap().ip()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn is_deprecated(address: &str) -> bool {
    let (message, _) = present()
        .await
        .into_iter()
        .find(|(_, found)| *found == address.parse().unwrap())
        .unwrap_or_else(|| panic!("{address} is not there"));
    message.attributes.iter().any(|attribute| {
        matches!(attribute,
            AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Deprecated))
    })
}

#[test]
fn an_ipv6_host_address_serves_its_clients_and_is_no_source_of_the_hosts_own_connections() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        listen();
        // By its prefix it is nearer to the neighbour, fd00::2, than the host's own fd00::1.
        let vip = [on(DEVICE, "fd00::3/128")];
        let host = Host::start(Backstop::Fence, &vip);
        for deadline in [5_000, 10_000] {
            let outcome = match deadline {
                5_000 => host.assume(&vip, host.after(deadline)).await,
                _ => host.refresh(&vip, host.after(deadline)).await,
            };
            assert_eq!(outcome, done());
            assert!(is_deprecated("fd00::3/128").await);
            assert_eq!(source_towards("fd00::2"), ip("fd00::1"));
            // The kernel begins to listen to solicitations for it in the background.
            eventually("an answer", async || neighbour.reaches(ip("fd00::3"))).await;
        }
    });
}

#[test]
fn a_deprecated_address_ends_by_itself_after_its_deadline_too() {
    on_a_host(|| async {
        let vip = [on("lo", "fd09::1/128")];
        let host = Host::start(Backstop::Fence, &vip);
        assert_eq!(host.assume(&vip, host.after(1_500)).await, done());
        assert!(is_deprecated("fd09::1/128").await);
        eventually("the kernel to remove it", async || !is_present("fd09::1/128").await).await;
    });
}

#[test]
fn an_ipv6_address_with_a_subnet_is_preferred_as_long_as_it_is_there() {
    on_a_host(|| async {
        let vip = [on("lo", "fd09::1/64")];
        let host = Host::start(Backstop::Fence, &vip);
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        assert!(!is_deprecated("fd09::1/64").await);
    });
}

#[test]
fn an_ipv4_address_is_no_source_where_the_interface_has_another() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let routes = handle().route();
        let gateway = Ipv4Addr::new(10, 0, 0, 2);
        let beyond = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(198, 51, 100, 0), 24)
            .gateway(gateway);
        routes.add(beyond.build()).execute().await.unwrap();
        let on_link = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(192, 0, 2, 0), 24)
            .output_interface(index(DEVICE));
        routes.add(on_link.build()).execute().await.unwrap();
        let vips = ["10.0.0.50/32", "192.0.2.50/32", "10.0.0.60/24"].map(|vip| on(DEVICE, vip));
        let host = Host::start(Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips, host.after(10_000)).await, done());
        for destination in ["10.0.0.2", "198.51.100.1", "192.0.2.1"] {
            assert_eq!(source_towards(destination), ip("10.0.0.1"), "towards {destination}");
        }
    });
}

fn misplaced(listing: &Listing) -> usize {
    listing.addresses.iter().filter(|one| one.misplaced).count()
}

#[test]
fn ipv4_addresses_that_the_hosts_own_came_after_are_put_behind_it() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        remove(DEVICE, "10.0.0.1/24").await;
        let vips = ["10.0.0.50/24", "10.0.0.51/24", "10.0.0.52/32"].map(|vip| on(DEVICE, vip));
        let host = Host::start(Backstop::Fence, &vips);
        let mut events = Box::pin(host.kernel.events());
        assert_eq!(host.assume(&vips, host.after(10_000)).await, done());
        assert_eq!(source_towards("10.0.0.2"), ip("10.0.0.50"));
        for _ in 0..3 {
            add(DEVICE, "10.0.0.1/24").await;
            assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
            assert_eq!(misplaced(&host.list().await), 3);
            assert_eq!(host.assume(&vips, host.after(10_000)).await, done());
            assert_eq!(source_towards("10.0.0.2"), ip("10.0.0.1"));
            let listing = host.list().await;
            assert_eq!((listing.addresses.len(), misplaced(&listing)), (3, 0));
            // That it was taken away and put back is turnip's own doing.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            assert_eq!(events.next().now_or_never(), None);
            remove(DEVICE, "10.0.0.1/24").await;
            assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
            assert_eq!(misplaced(&host.list().await), 0);
        }
    });
}

#[test]
fn an_ipv6_address_with_a_subnet_is_a_source_only_while_the_host_has_no_other_there() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vip = [on(DEVICE, "fd00::50/64")];
        let host = Host::start(Backstop::Fence, &vip);
        let mut events = Box::pin(host.kernel.events());
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        assert!(is_deprecated("fd00::50/64").await);
        assert_eq!(source_towards("fd00::2"), ip("fd00::1"));
        remove(DEVICE, "fd00::1/64").await;
        assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
        assert_eq!(misplaced(&host.list().await), 1);
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        assert!(!is_deprecated("fd00::50/64").await);
        assert_eq!(misplaced(&host.list().await), 0);
    });
}
