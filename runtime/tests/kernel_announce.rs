//! Announcements, as a neighbour's cache takes them.

mod kernel_lab;

use futures::StreamExt;
use kernel_lab::*;
use turnip::seams::{Clock, Kernel};
use turnip_core::{Assignment, Backstop};

const WRONG: &str = "02:00:00:00:00:99";

/// Has the neighbour know the addresses at another host, as before a failover.
fn mislead(neighbour: &Neighbour, vips: &[Assignment]) {
    for vip in vips {
        let address = vip.address.addr();
        neighbour.run(|| async move {
            let mac: Vec<u8> =
                WRONG.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            let request = handle()
                .neighbours()
                .add(index(NEIGHBOUR_DEVICE), address)
                .link_layer_address(&mac)
                .state(rtnetlink::packet_route::neighbour::NeighbourState::Stale);
            request.replace().execute().await.unwrap();
        });
        assert!(is_misled(neighbour, vip));
    }
}

fn is_misled(neighbour: &Neighbour, vip: &Assignment) -> bool {
    let wrong = WRONG.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    neighbour.cached(vip.address.addr()) == Some(wrong)
}

#[test]
fn a_neighbours_cache_learns_the_new_holder_from_the_announcement_alone() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vips = [on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64")];
        let host = Host::start(Backstop::Fence, &vips);
        mislead(&neighbour, &vips);
        let deadline = host.after(60_000);
        assert_eq!(host.assume(&vips, deadline).await, done());
        // As often as it takes: a single advertisement may be lost, which is why a node repeats it.
        eventually("the cache to learn", async || {
            host.kernel.announce(vips.to_vec(), deadline).await;
            !vips.iter().any(|vip| is_misled(&neighbour, vip))
        })
        .await;
    });
}

#[test]
fn a_device_that_was_made_anew_is_announced_with_its_new_hardware_address() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vips = [on(DEVICE, "10.0.0.50/24")];
        let host = Host::start(Backstop::Fence, &vips);
        let mut events = Box::pin(host.kernel.events());
        let deadline = host.after(60_000);
        assert_eq!(host.assume(&vips, deadline).await, done());
        mislead(&neighbour, &vips);
        host.kernel.announce(vips.to_vec(), deadline).await;
        let mac = [2, 0, 0, 0, 0, 0x50];
        let change = rtnetlink::LinkUnspec::new_with_index(index(DEVICE)).address(mac.to_vec());
        handle().link().set(change.build()).execute().await.unwrap();
        // The driver reads the news before it has anything announced.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(100), events.next()).await;
        let announced = std::time::Instant::now();
        eventually("the cache to learn", async || {
            host.kernel.announce(vips.to_vec(), deadline).await;
            neighbour.cached(vips[0].address.addr()) == Some(mac.to_vec())
        })
        .await;
        assert!(announced.elapsed() < std::time::Duration::from_millis(500));
    });
}

#[test]
fn nothing_is_announced_after_the_deadline() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vips = [on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64")];
        let host = Host::start(Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips, host.after(60_000)).await, done());
        mislead(&neighbour, &vips);
        host.kernel.announce(vips.to_vec(), host.clock.now()).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert!(vips.iter().all(|vip| is_misled(&neighbour, vip)));
    });
}

#[test]
fn what_was_withdrawn_meanwhile_is_not_announced() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vips = [on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64")];
        let host = Host::start(Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips, host.after(60_000)).await, done());
        assert_eq!(host.withdraw(&vips[..1]).await, done());
        mislead(&neighbour, &vips);
        // As often as it takes: a single advertisement may be lost, which is why a node repeats it.
        eventually("the cache to learn", async || {
            host.kernel.announce(vips.to_vec(), host.after(60_000)).await;
            !is_misled(&neighbour, &vips[1])
        })
        .await;
        assert!(is_misled(&neighbour, &vips[0]));
    });
}

#[test]
fn a_fenced_host_learns_from_the_announcements_of_the_new_holder() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vips = [on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64")];
        let _host = Host::start(Backstop::Fence, &vips);
        for vip in &vips {
            let request = handle()
                .neighbours()
                .add(index(DEVICE), vip.address.addr())
                .link_layer_address(&[2, 0, 0, 0, 0, 0x99])
                .state(rtnetlink::packet_route::neighbour::NeighbourState::Stale);
            request.execute().await.unwrap();
        }
        neighbour.run(|| async {
            let there = [on(NEIGHBOUR_DEVICE, "10.0.0.50/24"), on(NEIGHBOUR_DEVICE, "fd00::50/64")];
            let other = Host::start(Backstop::Fence, &there);
            let deadline = other.after(60_000);
            assert_eq!(other.assume(&there, deadline).await, done());
            for _ in 0..3 {
                other.kernel.announce(there.to_vec(), deadline).await;
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            }
        });
        for vip in &vips {
            let wrong = Some(vec![2, 0, 0, 0, 0, 0x99]);
            eventually("the cache to learn", async || cached(vip.address.addr()).await != wrong)
                .await;
        }
    });
}

#[test]
fn devices_that_resolve_no_addresses_are_left_alone() {
    on_a_host(|| async {
        let vips = many(1_000);
        let host = Host::start(Backstop::Fence, &vips);
        host.kernel.announce(vips, host.after(60_000)).await;
    });
}
