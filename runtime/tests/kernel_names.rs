//! Interfaces that are renamed or have several names, and addresses that have a VIP's IP: on the real
//! kernel. Needs root.

mod kernel_lab;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::{LinkBridge, LinkUnspec};
use turnip::kernel::{check, release};
use turnip::seams::Kernel;
use turnip_core::adapter::Fenced;
use turnip_core::{Assignment, Backstop, KernelEvent, KernelOutcome, PresentAddress};

use kernel_lab::*;

const RENAMED: &str = "renamed0";
/// Longer than an interface's own name can be.
const ALTNAME: &str = "the-uplink-of-this-host";

async fn rename(device: &str, to: &str) {
    let index = index(device);
    let change = || LinkUnspec::new_with_index(index).name(to.to_owned()).build();
    if handle().link().set(change()).execute().await.is_err() {
        // Kernels before 6.2 do not rename what is up.
        set_down(device).await;
        handle().link().set(change()).execute().await.unwrap();
        set_up(to).await;
    }
}

async fn name_too(device: &str, altname: &str) {
    let request = handle().link().property_add(index(device)).alt_ifname(&[altname]);
    request.execute().await.unwrap();
}

fn present(interface: &str, address: &str, marked: bool) -> PresentAddress {
    let address = address.parse().unwrap();
    PresentAddress { interface: interface.into(), address, marked, misplaced: false }
}

#[test]
fn an_address_is_taken_away_from_the_interface_on_which_it_was_put_whatever_that_is_called() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vips = ["10.0.0.50/24", "fd00::50/64"].map(|vip| on(DEVICE, vip));
        for backstop in [Backstop::Fence, Backstop::Lifetime] {
            let host = Host::start(backstop, &vips);
            let outcome = host.assume(&vips, host.after(60_000)).await;
            let KernelOutcome::Done { failed, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(failed, []);
            rename(DEVICE, RENAMED).await;
            assert_eq!(host.withdraw(&vips).await, done());
            for vip in &vips {
                assert!(!is_present(&vip.address.to_string()).await, "{vip} {backstop:?}");
            }
            rename(RENAMED, DEVICE).await;
        }
    });
}

#[test]
fn an_address_is_taken_away_although_its_interfaces_name_is_anothers_by_then() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vip = [on(DEVICE, "10.0.0.50/24")];
        let host = Host::start(Backstop::Fence, &vip);
        assert_eq!(host.assume(&vip, host.after(60_000)).await, done());
        handle().link().add(LinkBridge::new("other0").build()).execute().await.unwrap();
        rename(DEVICE, RENAMED).await;
        rename("other0", DEVICE).await;
        assert_eq!(host.withdraw(&vip).await, done());
        assert!(!is_present("10.0.0.50/24").await);
    });
}

#[test]
fn what_an_earlier_process_put_on_an_interface_that_was_renamed_is_found_and_taken_away() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vip = [on(DEVICE, "10.0.0.50/24")];
        let earlier = Host::start(Backstop::Fence, &vip);
        assert_eq!(earlier.assume(&vip, earlier.after(60_000)).await, done());
        drop(earlier);
        rename(DEVICE, RENAMED).await;
        let host = Host::start(Backstop::Fence, &vip);
        let found = host.list().await.addresses;
        assert_eq!(found, [present(RENAMED, "10.0.0.50/24", true)]);
        // A rename between the listing and the removal.
        rename(RENAMED, DEVICE).await;
        assert_eq!(host.withdraw(&[on(RENAMED, "10.0.0.50/24")]).await, done());
        assert!(!is_present("10.0.0.50/24").await);
    });
}

#[test]
fn an_interface_goes_by_any_of_its_names_also_when_its_own_changes() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        name_too(DEVICE, ALTNAME).await;
        let vip = [on(ALTNAME, "10.0.0.50/24")];
        let host = Host::start(Backstop::Fence, &vip);
        let mut events = Box::pin(host.kernel.events());
        assert_eq!(host.assume(&vip, host.after(60_000)).await, done());
        let listing = host.list().await;
        assert_eq!(listing.addresses, [present(ALTNAME, "10.0.0.50/24", true)]);
        assert!(listing.links.iter().any(|link| &*link.name == ALTNAME && link.up));
        rename(DEVICE, RENAMED).await;
        assert_eq!(events.next().await, Some(KernelEvent::LinkGone(DEVICE.into())));
        let Some(KernelEvent::LinkChanged(link)) = events.next().await else { panic!() };
        assert_eq!(&*link.name, RENAMED);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The kernel tells of the host's own address once more, with its new label: a hint to look.
        let more = events.next().now_or_never();
        let is_no_more = matches!(more, None | Some(Some(KernelEvent::AddressChanged)));
        assert!(is_no_more, "nothing has changed for {ALTNAME}: {more:?}");
        assert_eq!(host.refresh(&vip, host.after(60_000)).await, done());
        assert!(check::links().unwrap().iter().any(|link| &*link.name == ALTNAME));
        assert_eq!(check::own_name(ALTNAME).unwrap().as_deref(), Some(RENAMED));
        assert_eq!(host.withdraw(&vip).await, done());
        assert!(!is_present("10.0.0.50/24").await);
    });
}

#[test]
fn an_address_on_an_interface_by_another_name_is_announced_there() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        listen();
        name_too(DEVICE, ALTNAME).await;
        let vip = [on(ALTNAME, "10.0.0.50/24")];
        let host = Host::start(Backstop::Fence, &vip);
        assert_eq!(host.assume(&vip, host.after(60_000)).await, done());
        let address = vip[0].address.addr();
        assert!(neighbour.reaches(address));
        let right = neighbour.cached(address).unwrap();
        neighbour.run(|| async move {
            let request = handle().neighbours().add(index(NEIGHBOUR_DEVICE), address);
            let request = request.link_layer_address(&[2, 9, 9, 9, 9, 9]).replace();
            request.state(NeighbourState::Stale).execute().await.unwrap();
        });
        eventually("the neighbour to learn where it is", async || {
            host.kernel.announce(vip.to_vec(), host.after(60_000)).await;
            neighbour.cached(address).as_ref() == Some(&right)
        })
        .await;
    });
}

#[test]
fn a_link_local_address_is_fenced_by_its_interfaces_own_name_whatever_it_is_configured_by() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        name_too(DEVICE, ALTNAME).await;
        let vip = [on(ALTNAME, "fe80::50/64")];
        let fenced_on = |name: &str| Fenced::new(&name.into(), vip[0].address.addr());
        let fenced = || turnip::kernel::fence::vips().unwrap();
        let host = Host::start(Backstop::Fence, &vip);
        assert_eq!(host.assume(&vip, host.after(60_000)).await, done());
        assert_eq!(fenced(), [fenced_on(DEVICE)].into());
        // The next process finds it held.
        drop(host);
        let host = Host::start(Backstop::Fence, &vip);
        assert_eq!(host.list().await.addresses, [present(ALTNAME, "fe80::50/64", true)]);
        let mut events = Box::pin(host.kernel.events());
        rename(DEVICE, RENAMED).await;
        assert!(events.next().await.is_some());
        assert_eq!(host.assume(&vip, host.after(60_000)).await, done());
        assert!(fenced().contains(&fenced_on(RENAMED)));
        assert_eq!(host.withdraw(&vip).await, done());
        assert!(!is_present("fe80::50/64").await);
    });
}

#[test]
fn what_has_a_vips_ip_is_listed_wherever_it_is_and_its_coming_and_going_is_told() {
    on_a_host(|| async {
        let vip = [on("lo", "10.9.0.1/24")];
        let host = Host::start(Backstop::Fence, &vip);
        let mut events = Box::pin(host.kernel.events());
        add("lo", "10.9.0.1/32").await;
        assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
        assert_eq!(host.list().await.addresses, [present("lo", "10.9.0.1/32", false)]);
        let found = check::addresses(&vip, std::path::Path::new("/nonexistent")).unwrap();
        assert_eq!(found, [present("lo", "10.9.0.1/32", false)]);
        remove("lo", "10.9.0.1/32").await;
        assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
        assert_eq!(host.list().await.addresses, []);
    });
}

#[test]
fn a_release_leaves_the_fence_to_an_address_that_would_answer_without_it() {
    on_a_host(|| async {
        let directory = tempfile::tempdir().unwrap();
        let vips: Vec<Assignment> = ["10.9.0.1/24", "10.9.0.2/24"].map(|vip| on("lo", vip)).into();
        let host = Host::start_in(directory.path(), Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips, host.after(60_000)).await, done());
        drop(host);
        add("lo", "10.9.0.2/32").await;
        let released = release::release(directory.path()).unwrap();
        assert_eq!(released.silenced, [present("lo", "10.9.0.2/32", false)]);
        assert!(!released.fence && turnip::kernel::fence::exists().unwrap());
        assert_eq!(released.addresses.len(), 2);
        assert!(is_present("10.9.0.2/32").await && !is_present("10.9.0.1/24").await);
        let released = release::release_all(directory.path()).unwrap();
        assert!(released.fence && !turnip::kernel::fence::exists().unwrap());
        assert!(is_present("10.9.0.2/32").await);
    });
}
