//! Addresses: put there with mark and lifetime, taken away, listed, followed.

mod kernel_lab;

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kernel_lab::*;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use turnip::seams::{Clock, Kernel};
use turnip_core::{Backstop, KernelError, KernelEvent, KernelOp, KernelOutcome, PresentAddress};

#[test]
fn an_assumed_address_has_a_mark_and_ends_by_itself_after_its_deadline() {
    on_a_host(|| async {
        let vip = on("lo", "10.9.0.1/32");
        let host = Host::start(Backstop::Fence, std::slice::from_ref(&vip));
        assert_eq!(host.assume(std::slice::from_ref(&vip), host.after(1500)).await, done());
        let (message, _) =
            present().await.into_iter().find(|(_, address)| *address == vip.address).unwrap();
        assert!(message.attributes.iter().any(|attribute| matches!(attribute,
            AddressAttribute::Protocol(mark) if u8::from(*mark) == turnip::kernel::MARK)));
        assert!(message.attributes.iter().any(|attribute| matches!(attribute,
            AddressAttribute::CacheInfo(lifetime) if (1..=2).contains(&lifetime.ifa_valid))));
        eventually("the kernel to remove it", async || !is_present("10.9.0.1/32").await).await;
    });
}

#[test]
fn a_withdrawn_address_is_gone_and_withdrawing_it_again_is_no_failure() {
    on_a_host(|| async {
        let vips = [on("lo", "10.9.0.1/32"), on("lo", "fd09::1/128")];
        let host = Host::start(Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips, host.after(10_000)).await, done());
        assert!(is_present("10.9.0.1/32").await && is_present("fd09::1/128").await);
        assert_eq!(host.withdraw(&vips).await, done());
        assert!(!is_present("10.9.0.1/32").await && !is_present("fd09::1/128").await);
        assert_eq!(host.withdraw(&vips).await, done());
        let elsewhere = [on("nowhere0", "10.9.0.1/32")];
        assert_eq!(host.withdraw(&elsewhere).await, done());
    });
}

#[test]
fn an_ipv6_address_is_there_without_duplicate_address_detection() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{DEVICE}/accept_dad"), "1").unwrap();
        let vip = on(DEVICE, "fd00::50/64");
        let host = Host::start(Backstop::Fence, std::slice::from_ref(&vip));
        assert_eq!(host.assume(std::slice::from_ref(&vip), host.after(10_000)).await, done());
        let (message, _) =
            present().await.into_iter().find(|(_, address)| *address == vip.address).unwrap();
        assert!(!message.attributes.iter().any(|attribute| matches!(attribute,
            AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Tentative))));
    });
}

#[test]
fn withdrawing_one_address_of_a_subnet_leaves_the_others() {
    on_a_host(|| async {
        let vips = ["10.9.0.1/24", "10.9.0.2/24", "10.9.0.3/24"].map(|vip| on("lo", vip));
        let host = Host::start(Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips, host.after(10_000)).await, done());
        assert_eq!(host.withdraw(&vips[..1]).await, done());
        assert!(!is_present("10.9.0.1/24").await);
        assert!(is_present("10.9.0.2/24").await && is_present("10.9.0.3/24").await);
    });
}

#[test]
fn what_cannot_be_put_there_fails_alone_and_says_why() {
    on_a_host(|| async {
        let vips = [on("lo", "10.9.0.1/32"), on("nowhere0", "10.9.0.2/32")];
        let host = Host::start(Backstop::Fence, &vips);
        let outcome = host.assume(&vips, host.after(10_000)).await;
        assert_eq!(outcome, failed(&vips[1], KernelError::NoInterface));
        assert!(is_present("10.9.0.1/32").await);
    });
}

#[test]
fn the_kernels_own_words_come_with_a_refusal() {
    on_a_host(|| async {
        std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1").unwrap();
        let vip = on("lo", "fd09::1/128");
        let host = Host::start(Backstop::Fence, std::slice::from_ref(&vip));
        let outcome = host.assume(std::slice::from_ref(&vip), host.after(10_000)).await;
        let KernelOutcome::Done { failed, .. } = outcome else { panic!("{outcome:?}") };
        assert!(matches!(&failed[..], [(_, KernelError::Refused(why))] if why.contains("IPv6")));
    });
}

#[test]
fn nothing_is_put_there_after_the_deadline() {
    for backstop in [Backstop::Fence, Backstop::Lifetime] {
        on_a_host(move || async move {
            let vip = on("lo", "10.9.0.1/32");
            let host = Host::start(backstop, std::slice::from_ref(&vip));
            let outcome = host.assume(std::slice::from_ref(&vip), host.clock.now()).await;
            assert_eq!(outcome, failed(&vip, KernelError::TooLate));
            assert!(!is_present("10.9.0.1/32").await);
        });
    }
}

#[test]
fn strays_and_configured_addresses_are_listed_and_others_are_not() {
    on_a_host(|| async {
        let stray = on("lo", "10.9.0.1/32");
        let before = Host::start(Backstop::Fence, std::slice::from_ref(&stray));
        assert_eq!(before.assume(std::slice::from_ref(&stray), before.after(60_000)).await, done());
        let vip = on("lo", "10.9.0.2/32");
        add("lo", "10.9.0.2/32").await;
        add("lo", "10.9.0.3/32").await;
        let host = Host::start(Backstop::Fence, std::slice::from_ref(&vip));
        let listing = host.list().await;
        let listed = |address: &str, marked| {
            let (interface, address) = ("lo".into(), address.parse().unwrap());
            // The host's own came after them.
            PresentAddress { interface, address, marked, misplaced: true }
        };
        assert_eq!(listing.addresses, [listed("10.9.0.1/32", true), listed("10.9.0.2/32", false)]);
        assert!(listing.links.iter().any(|link| &*link.name == "lo" && link.up));
        assert_eq!(host.withdraw(&[stray]).await, done());
        assert!(!is_present("10.9.0.1/32").await);
    });
}

#[test]
fn a_withdrawal_overtakes_ten_thousand_additions() {
    on_a_host(|| async {
        let vips = many(10_000);
        let first = on("lo", "10.9.0.1/32");
        let mut configured = vips.clone();
        configured.push(first.clone());
        let host = Host::start(Backstop::Fence, &configured);
        let deadline = host.after(60_000);
        assert_eq!(host.assume(std::slice::from_ref(&first), deadline).await, done());
        let assume = KernelOp::Assume { addresses: vips.clone(), deadline };
        let mut assume = Box::pin(host.kernel.perform(assume));
        // Under way: the first chunk is there.
        eventually("the first of many", async || is_present("10.128.0.0/32").await).await;
        let last = vips[9_999].clone();
        let withdrawn = [first, last.clone()];
        assert_eq!(host.withdraw(&withdrawn).await, done());
        assert!((&mut assume).now_or_never().is_none(), "it waited for all of them");
        assert!(!is_present("10.9.0.1/32").await);
        assert_eq!(assume.await, failed(&last, KernelError::TooLate));
        assert!(!is_present(&last.address.to_string()).await);
        assert_eq!(host.withdraw(&vips).await, done());
        assert_eq!(host.list().await.addresses, []);
    });
}

#[test]
fn by_lifetimes_the_answer_says_until_when_and_the_address_goes_by_then_and_a_second() {
    on_a_host(|| async {
        let vip = on("lo", "10.9.0.1/32");
        let host = Host::start(Backstop::Lifetime, std::slice::from_ref(&vip));
        let deadline = host.after(3_500);
        let before = host.clock.now();
        let outcome = host.assume(std::slice::from_ref(&vip), deadline).await;
        let KernelOutcome::Done { until: Some(until), .. } = outcome else { panic!("{outcome:?}") };
        assert!(until >= before + Duration::from_secs(2));
        assert!(until + Duration::from_secs(1) <= deadline);
        assert!(!turnip::kernel::fence::exists().unwrap());
        host.clock.sleep_until(deadline).await;
        assert!(!is_present("10.9.0.1/32").await);
    });
}

#[test]
fn by_lifetimes_every_renewal_prolongs() {
    on_a_host(|| async {
        let vip = [on("lo", "10.9.0.1/32")];
        let host = Host::start(Backstop::Lifetime, &vip);
        let _ = host.assume(&vip, host.after(2_900)).await;
        let deadline = host.after(6_000);
        let outcome = host.refresh(&vip, deadline).await;
        assert!(matches!(outcome, KernelOutcome::Done { until: Some(_), .. }));
        tokio::time::sleep(Duration::from_millis(2_900)).await;
        assert!(is_present("10.9.0.1/32").await);
        host.clock.sleep_until(deadline).await;
        assert!(!is_present("10.9.0.1/32").await);
    });
}

#[test]
fn what_others_do_to_an_address_is_told_and_what_turnip_does_is_not() {
    on_a_host(|| async {
        let vip = [on("lo", "10.9.0.1/32")];
        let host = Host::start(Backstop::Fence, &vip);
        let mut events = Box::pin(host.kernel.events());
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        assert_eq!(host.refresh(&vip, host.after(20_000)).await, done());
        add("lo", "10.9.0.7/32").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(events.next().now_or_never(), None);
        remove("lo", "10.9.0.1/32").await;
        assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
        add("lo", "10.9.0.1/32").await;
        assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
        assert_eq!(host.withdraw(&vip).await, done());
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The address that an operator put there was not known to be turnip's own.
        assert_eq!(events.next().now_or_never(), None);
    });
}

#[test]
fn many_changes_are_one_hint() {
    on_a_host(|| async {
        let vips = many(50);
        let host = Host::start(Backstop::Fence, &vips);
        let mut events = Box::pin(host.kernel.events());
        for vip in &vips {
            add("lo", &vip.address.to_string()).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(events.next().await, Some(KernelEvent::AddressChanged));
        assert_eq!(events.next().now_or_never(), None);
    });
}

#[test]
fn when_changes_were_lost_it_is_told_and_what_follows_is_told_again() {
    on_a_host(|| async {
        let vip = [on("lo", "10.9.0.1/32")];
        let host = Host::start(Backstop::Fence, &vip);
        let mut events = Box::pin(host.kernel.events());
        let handle = handle();
        // More than the socket's buffer takes while nobody reads.
        for mtu in 0..12_000 {
            let change = LinkUnspec::new_with_index(index("lo")).mtu(16_000 + mtu % 2).build();
            handle.link().change(change).execute().await.unwrap();
        }
        let mut told = async |wanted| {
            while events.next().await.expect("the events go on") != wanted {}
        };
        told(KernelEvent::Lost).await;
        add("lo", "10.9.0.1/32").await;
        told(KernelEvent::AddressChanged).await;
    });
}

#[test]
fn links_that_change_are_told() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &[]);
        let mut events = Box::pin(host.kernel.events());
        let mut told = async |up| loop {
            match events.next().await {
                Some(KernelEvent::LinkChanged(link)) if &*link.name == DEVICE && link.up == up => {
                    return;
                }
                Some(KernelEvent::LinkChanged(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        set_down(DEVICE).await;
        told(false).await;
        set_up(DEVICE).await;
        told(true).await;
        remove_link(DEVICE).await;
        loop {
            match events.next().await {
                Some(KernelEvent::LinkGone(name)) => return assert_eq!(&*name, DEVICE),
                Some(KernelEvent::LinkChanged(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn release_clears_a_host_without_a_daemon_and_says_what_it_removed() {
    on_a_host(|| async {
        let directory = tempfile::tempdir().unwrap();
        let vips = ["10.9.0.1/24", "10.9.0.2/24"].map(|vip| on("lo", vip));
        let host = Host::start_in(directory.path(), Backstop::Fence, &vips);
        assert_eq!(host.assume(&vips, host.after(60_000)).await, done());
        drop(host);
        add("lo", "10.9.0.3/24").await;
        assert_eq!(turnip::kernel::release::marked(directory.path()).unwrap().len(), 2);
        let released = turnip::kernel::release::release(directory.path()).unwrap();
        let removed: Vec<_> = released.addresses.iter().map(|one| one.address).collect();
        assert_eq!(removed, vips.map(|vip| vip.address));
        assert!(released.fence && !turnip::kernel::fence::exists().unwrap());
        assert!(is_present("10.9.0.3/24").await);
        let again = turnip::kernel::release::release(directory.path()).unwrap();
        assert!(again.addresses.is_empty() && !again.fence);
    });
}

#[test]
fn promote_secondaries_is_put_back_with_the_fence_and_without_one() {
    const SETTING: &str = "/proc/sys/net/ipv4/conf/lo/promote_secondaries";
    let is = |value: &str| std::fs::read_to_string(SETTING).unwrap().trim() == value;
    for backstop in [Backstop::Fence, Backstop::Lifetime] {
        on_a_host(move || async move {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(SETTING, "0").unwrap();
            let vip = [on("lo", "10.9.0.1/24")];
            let host = Host::start_in(directory.path(), backstop, &vip);
            let _ = host.assume(&vip, host.after(10_000)).await;
            assert!(is("1"));
            // Of a daemon that was killed.
            drop(host);
            let host = Host::start_in(directory.path(), backstop, &vip);
            assert_eq!(host.list().await.addresses.len(), 1);
            assert_eq!(host.withdraw(&vip).await, done());
            assert!(is("1"));
            assert_eq!(host.kernel.perform(KernelOp::RemoveFence).await, done());
            assert!(is("0"));
        });
    }
}

#[test]
fn an_ipv6_address_is_put_there_although_ipv6_is_off_for_a_moment() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vips = [on(DEVICE, "fd00::50/64"), on(DEVICE, "fd00::51/128")];
        let host = Host::start(Backstop::Fence, &vips);
        let setting = format!("/proc/sys/net/ipv6/conf/{DEVICE}/disable_ipv6");
        let mut succeeded = 0;
        // On a busy machine the moment may be too long now and then.
        for _ in 0..5 {
            std::fs::write(&setting, "1").unwrap();
            // In the namespace of this thread, as its child.
            let on_again = std::thread::spawn({
                let setting = setting.clone();
                move || {
                    std::thread::sleep(Duration::from_millis(15));
                    std::fs::write(setting, "0").unwrap();
                }
            });
            succeeded += u32::from(host.assume(&vips, host.after(60_000)).await == done());
            on_again.join().unwrap();
            assert_eq!(host.withdraw(&vips).await, done());
        }
        assert!(succeeded >= 3, "{succeeded} of 5");
        // For good it is a refusal.
        std::fs::write(&setting, "1").unwrap();
        let outcome = host.assume(&vips, host.after(60_000)).await;
        let KernelOutcome::Done { failed, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(failed.len(), 2);
    });
}

#[test]
fn root_lacks_no_capability() {
    assert_eq!(turnip::kernel::check::missing_capabilities().unwrap(), Vec::<&str>::new());
}

#[test]
fn a_second_daemon_is_told_who_the_first_is() {
    on_a_host(|| async {
        let first = turnip::lock::InstanceLock::take("node-1").unwrap();
        let second = tokio::task::spawn_blocking(|| turnip::lock::InstanceLock::take("node-1"));
        let _namespace = first;
        // A thread of the runtime has the namespace of the thread that made it.
        let error = second.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("node node-1"), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    });
}
