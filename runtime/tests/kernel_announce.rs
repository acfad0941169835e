//! Announcements, as a neighbour's cache takes them.

mod kernel_lab;

use std::time::Duration;

use futures::{Stream, StreamExt};
use kernel_lab::*;
use turnip::kernel::AnnounceOn;
use turnip::seams::{Clock, Kernel};
use turnip_core::{Assignment, Backstop, KernelEvent};

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

async fn a_misled_neighbour_learns(vips: [Assignment; 2]) {
    let neighbour = Neighbour::join().await;
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
}

#[test]
fn a_neighbours_cache_learns_the_new_holder_from_the_announcement_alone() {
    on_a_host(|| {
        a_misled_neighbour_learns([on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64")])
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
        let _ = tokio::time::timeout(Duration::from_millis(100), events.next()).await;
        let announced = std::time::Instant::now();
        eventually("the cache to learn", async || {
            host.kernel.announce(vips.to_vec(), deadline).await;
            neighbour.cached(vips[0].address.addr()) == Some(mac.to_vec())
        })
        .await;
        assert!(announced.elapsed() < Duration::from_millis(500));
    });
}

#[test]
fn an_address_on_lo_is_announced_on_the_interface_in_whose_subnet_it_lies() {
    on_a_host(|| a_misled_neighbour_learns([on("lo", "10.0.0.50/32"), on("lo", "fd00::50/128")]));
}

#[test]
fn an_address_of_no_subnet_is_announced_where_the_configuration_says() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vips = [on("lo", "203.0.113.50/32")];
        mislead(&neighbour, &vips);
        let elsewhere = AnnounceOn::from([(vips[0].vip.clone(), vec!["lo".into()])]);
        for (announce_on, is_heard) in [
            (AnnounceOn::new(), false),
            (elsewhere, false),
            (AnnounceOn::from([(vips[0].vip.clone(), vec![DEVICE.into()])]), true),
        ] {
            let host = Host::announcing_on(&vips, announce_on);
            let deadline = host.after(60_000);
            assert_eq!(host.assume(&vips, deadline).await, done());
            host.kernel.announce(vips.to_vec(), deadline).await;
            if is_heard {
                eventually("the cache to learn", async || !is_misled(&neighbour, &vips[0])).await;
            } else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                assert!(is_misled(&neighbour, &vips[0]));
            }
            assert_eq!(host.withdraw(&vips).await, done());
        }
    });
}

/// Whether the event comes among the next ones.
async fn comes(
    events: &mut (impl Stream<Item = KernelEvent> + Unpin),
    event: &KernelEvent,
) -> bool {
    let next = async {
        while let Some(next) = events.next().await {
            if next == *event {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), next).await.is_ok()
}

async fn set_mac(device: &str, mac: [u8; 6]) {
    let change = rtnetlink::LinkUnspec::new_with_index(index(device)).address(mac.to_vec());
    handle().link().set(change.build()).execute().await.unwrap();
}

#[test]
fn another_hardware_address_is_told_for_all_that_is_announced_with_it() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vips = [on(DEVICE, "10.0.0.50/24"), on("lo", "10.0.0.51/32")];
        let host = Host::start(Backstop::Fence, &vips);
        let mut events = Box::pin(host.kernel.events());
        let deadline = host.after(60_000);
        assert_eq!(host.assume(&vips, deadline).await, done());
        let anew = |name: &str| KernelEvent::AnnounceAnew(name.into());
        set_mac(DEVICE, [2, 0, 0, 0, 0, 0x51]).await;
        assert!(comes(&mut events, &anew(DEVICE)).await);
        host.kernel.announce(vips.to_vec(), deadline).await;
        set_mac(DEVICE, [2, 0, 0, 0, 0, 0x52]).await;
        assert!(comes(&mut events, &anew("lo")).await, "it was announced there");
        set_down(DEVICE).await;
        set_up(DEVICE).await;
        assert!(comes(&mut events, &anew("lo")).await, "its carrier is back");
    });
}

#[test]
fn a_subnet_that_comes_after_the_address_in_it_is_told() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vips = [on("lo", "192.0.2.50/32")];
        let host = Host::start(Backstop::Fence, &vips);
        let mut events = Box::pin(host.kernel.events());
        assert_eq!(host.assume(&vips, host.after(60_000)).await, done());
        add(DEVICE, "192.0.2.1/24").await;
        assert!(comes(&mut events, &KernelEvent::AnnounceAnew("lo".into())).await);
    });
}

/// The addresses that somebody else was heard to claim, with the machine.
async fn claimed(
    events: &mut (impl Stream<Item = KernelEvent> + Unpin),
) -> Vec<(Assignment, [u8; 6])> {
    let mut claimed = Vec::new();
    let soon = Duration::from_millis(150);
    while let Ok(Some(event)) = tokio::time::timeout(soon, events.next()).await {
        if let KernelEvent::Conflict(conflict) = event {
            claimed.push((conflict.assignment, conflict.mac.0));
        }
    }
    claimed
}

#[test]
fn a_machine_that_only_answers_for_an_address_held_here_is_found_by_asking() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vips =
            [on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64"), on("lo", "10.0.0.51/32")];
        let host = Host::start(Backstop::Fence, &vips);
        let mut events = Box::pin(host.kernel.events());
        let deadline = host.after(60_000);
        assert_eq!(host.assume(&vips, deadline).await, done());
        // What was said until then may have been the last word of a host of turnip's.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        host.kernel.announce(vips.to_vec(), deadline).await;
        assert_eq!((claimed(&mut events).await, host.kernel.conflicts().packets()), (vec![], 0));
        let foreign = neighbour.run(|| async {
            for address in ["10.0.0.50/24", "fd00::50/64", "10.0.0.51/32"] {
                add(NEIGHBOUR_DEVICE, address).await;
            }
            mac_of(NEIGHBOUR_DEVICE).await
        });
        let mut heard = std::collections::BTreeSet::new();
        eventually("all claims to be heard", async || {
            host.kernel.announce(vips.to_vec(), deadline).await;
            heard.extend(claimed(&mut events).await);
            heard.len() == vips.len()
        })
        .await;
        assert!(heard.iter().all(|(vip, mac)| vips.contains(vip) && *mac == foreign), "{heard:?}");
        // Who does not hold them hears the next holder, and nothing is wrong.
        assert_eq!(host.withdraw(&vips).await, done());
        claimed(&mut events).await;
        let before = host.kernel.conflicts().packets();
        neighbour.run(|| async {
            let there = [on(NEIGHBOUR_DEVICE, "10.0.0.50/24"), on(NEIGHBOUR_DEVICE, "fd00::50/64")];
            let other = Host::start(Backstop::Fence, &there);
            assert_eq!(other.assume(&there, other.after(60_000)).await, done());
            other.kernel.announce(there.to_vec(), other.after(60_000)).await;
        });
        assert_eq!(claimed(&mut events).await, []);
        assert_eq!(host.kernel.conflicts().packets(), before);
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
        tokio::time::sleep(Duration::from_millis(200)).await;
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
                tokio::time::sleep(Duration::from_millis(300)).await;
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
