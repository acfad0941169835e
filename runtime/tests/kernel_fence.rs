//! The fence, as a neighbour sees it.

mod kernel_lab;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use kernel_lab::*;
use turnip::seams::{Clock, Kernel};
use turnip_core::{Assignment, Backstop, KernelError, KernelOp, KernelOutcome, PresentAddress};

const TOO_LATE: KernelOutcome = KernelOutcome::Failed(KernelError::TooLate);

fn vips() -> [Assignment; 2] {
    [on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64")]
}

fn ips(vips: &[Assignment]) -> Vec<IpAddr> {
    vips.iter().map(|vip| vip.address.addr()).collect()
}

async fn reached(neighbour: &Neighbour, vips: &[Assignment]) {
    for address in ips(vips) {
        eventually("an answer", async || neighbour.reaches(address)).await;
    }
}

#[test]
fn an_address_that_is_there_but_not_held_is_silent_to_packets_and_to_address_resolution() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        for vip in vips() {
            add(DEVICE, &vip.address.to_string()).await;
        }
        reached(&neighbour, &vips()).await;
        let host = Host::start(Backstop::Fence, &vips());
        for address in ips(&vips()) {
            // The neighbour still knows where it was.
            assert!(neighbour.cached(address).is_some());
            assert!(!neighbour.reaches(address));
            assert!(!connects(address));
            neighbour.forget(address);
            assert!(!neighbour.reaches(address));
            assert_eq!(neighbour.cached(address), None);
        }
        reached(&neighbour, &[on(DEVICE, "10.0.0.1/24"), on(DEVICE, "fd00::1/64")]).await;
        drop(host);
    });
}

#[test]
fn another_vips_holder_gets_no_answer_to_its_address_resolution_either() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let vip = on(DEVICE, "10.0.0.50/24");
        let elsewhere = on(DEVICE, "10.0.0.60/24");
        add(DEVICE, "10.0.0.50/24").await;
        let _host = Host::start(Backstop::Fence, &[vip, elsewhere]);
        let cached_from = |source: &'static str| {
            // Else nobody asks: what was asked before is waited for, what is known needs no asking.
            for known in ["10.0.0.50", "10.0.0.1"] {
                neighbour.forget(known.parse().unwrap());
            }
            neighbour.run(|| async move {
                // Its request comes from the address that the packet comes from.
                let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
                for to in ["10.0.0.50:9", "10.0.0.1:9"] {
                    socket.send_to(b"?", to).unwrap();
                }
                let host = "10.0.0.1".parse().unwrap();
                eventually("the host to answer", async || cached(host).await.is_some()).await;
                cached("10.0.0.50".parse().unwrap()).await
            })
        };
        neighbour.run(|| add(NEIGHBOUR_DEVICE, "10.0.0.60/24"));
        assert_eq!(cached_from("10.0.0.60"), None);
        assert_eq!(cached_from("10.0.0.2"), None);
    });
}

#[test]
fn a_frozen_holder_is_silenced_at_the_deadline_and_then_loses_the_address_to_the_kernel() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        assert_eq!(host.assume(&vips(), host.after(10_000)).await, done());
        reached(&neighbour, &vips()).await;
        // From here on nobody renews. A lifetime of two seconds outlives the deadline.
        assert_eq!(host.withdraw(&vips()).await, done());
        let deadline = host.after(1_100);
        assert_eq!(host.assume(&vips(), deadline).await, done());
        host.clock.sleep_until(deadline).await;
        for address in ips(&vips()) {
            assert!(!neighbour.reaches(address));
            neighbour.forget(address);
            assert!(!neighbour.reaches(address));
            assert_eq!(neighbour.cached(address), None);
        }
        for vip in vips() {
            eventually("it to go", async || !is_present(&vip.address.to_string()).await).await;
        }
    });
}

#[test]
fn renewals_keep_an_address_answering() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        assert_eq!(host.assume(&vips(), host.after(2_000)).await, done());
        for _ in 0..20 {
            assert_eq!(host.refresh(&vips(), host.after(2_000)).await, done());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        reached(&neighbour, &vips()).await;
    });
}

#[test]
fn a_renewal_that_comes_after_the_deadline_cannot_reopen_the_fence() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        let deadline = host.after(1_600);
        assert_eq!(host.assume(&vips(), deadline).await, done());
        host.clock.sleep_until(deadline).await;
        // Its own deadline is far away: only the kernel knows that the time was over.
        assert_eq!(host.refresh(&vips(), host.after(60_000)).await, TOO_LATE);
        assert_eq!(host.refresh(&vips(), host.after(60_000)).await, TOO_LATE);
        for address in ips(&vips()) {
            assert!(!neighbour.reaches(address));
        }
        assert_eq!(host.assume(&vips(), host.after(60_000)).await, done());
        reached(&neighbour, &vips()).await;
    });
}

#[test]
fn a_fence_that_is_opened_anew_holds_what_is_assumed_and_nothing_older() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        // Longer lifetimes than the fence's deadline would give: both stay in place.
        let deadline = host.after(1_600);
        assert_eq!(host.assume(&vips(), deadline).await, done());
        host.clock.sleep_until(deadline).await;
        let [first, second] = vips();
        assert_eq!(host.assume(std::slice::from_ref(&second), host.after(60_000)).await, done());
        add_if_absent(&first).await;
        reached(&neighbour, std::slice::from_ref(&second)).await;
        assert!(!neighbour.reaches(first.address.addr()));
    });
}

async fn add_if_absent(vip: &Assignment) {
    let address = vip.address.to_string();
    if !is_present(&address).await {
        add(DEVICE, &address).await;
    }
}

#[test]
fn an_earlier_assumption_lasts_as_long_as_a_later_one() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        let [first, second] = vips();
        let early = host.after(1_500);
        assert_eq!(host.assume(std::slice::from_ref(&first), early).await, done());
        assert_eq!(host.assume(std::slice::from_ref(&second), host.after(60_000)).await, done());
        // And one with an earlier deadline takes nothing from the others.
        assert_eq!(host.assume(std::slice::from_ref(&first), host.after(1_000)).await, done());
        assert_eq!(host.refresh(&vips(), host.after(60_000)).await, done());
        host.clock.sleep_until(early).await;
        reached(&neighbour, &vips()).await;
    });
}

#[test]
fn clients_on_a_host_that_does_not_hold_an_address_reach_it_elsewhere() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        neighbour.run(|| async {
            listen();
            add(NEIGHBOUR_DEVICE, "10.0.0.50/24").await;
            let dad = format!("/proc/sys/net/ipv6/conf/{NEIGHBOUR_DEVICE}/accept_dad");
            std::fs::write(dad, "0").unwrap();
            add(NEIGHBOUR_DEVICE, "fd00::50/64").await;
        });
        for address in ips(&vips()) {
            eventually("the address elsewhere to answer", async || connects(address)).await;
        }
        drop(host);
    });
}

#[test]
fn a_withdrawn_address_is_silent_though_someone_puts_it_back() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        assert_eq!(host.assume(&vips(), host.after(60_000)).await, done());
        reached(&neighbour, &vips()).await;
        let [first, second] = vips();
        assert_eq!(host.withdraw(std::slice::from_ref(&first)).await, done());
        add(DEVICE, &first.address.to_string()).await;
        assert!(!neighbour.reaches(first.address.addr()));
        reached(&neighbour, &[second]).await;
    });
}

#[test]
fn a_restarted_daemon_takes_the_fence_over_as_it_is() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let foreign = on(DEVICE, "10.0.0.60/24");
        let configured = [vips().to_vec(), vec![foreign.clone()]].concat();
        let earlier = Host::start(Backstop::Fence, &configured);
        let [first, second] = vips();
        let held = [first.clone(), foreign.clone()];
        assert_eq!(earlier.assume(&held, earlier.after(60_000)).await, done());
        reached(&neighbour, &held).await;
        drop(earlier);
        add(DEVICE, &second.address.to_string()).await;

        let host = Host::start(Backstop::Fence, &vips());
        reached(&neighbour, std::slice::from_ref(&first)).await;
        // No longer configured, and so not this node's to hold.
        assert!(!neighbour.reaches(foreign.address.addr()));
        assert!(!neighbour.reaches(second.address.addr()));
        let resumed = std::slice::from_ref(&first);
        let deadline = host.after(3_000);
        assert_eq!(host.refresh(resumed, deadline).await, done());
        reached(&neighbour, resumed).await;
        host.clock.sleep_until(deadline).await;
        assert!(!neighbour.reaches(first.address.addr()));
    });
}

/// Changes the tables as an operator would.
fn nft(commands: &str) {
    let changed = Command::new("nft").arg(commands).output().expect("this test needs nft");
    let said = String::from_utf8_lossy(&changed.stderr);
    assert!(changed.status.success(), "{commands}: {said}");
}

/// As at the deadline of a session that nobody renews.
fn close_the_gate() {
    nft("flush set inet turnip alive; flush set arp turnip alive4");
}

#[test]
fn a_vip_that_is_no_longer_configured_is_silent_until_its_address_is_gone() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let [former, second] = vips();
        let earlier = Host::start(Backstop::Fence, &vips());
        assert_eq!(earlier.assume(&vips(), earlier.after(60_000)).await, done());
        reached(&neighbour, &vips()).await;
        drop(earlier);
        close_the_gate();

        let host = Host::start(Backstop::Fence, std::slice::from_ref(&second));
        assert!(!neighbour.reaches(former.address.addr()));
        let stray = |present: &PresentAddress| present.address == former.address;
        assert!(host.list().await.addresses.iter().any(stray));
        assert!(!neighbour.reaches(former.address.addr()));
        // A daemon that was killed before it got to take it away knows of it still.
        drop(host);
        let host = Host::start(Backstop::Fence, std::slice::from_ref(&second));
        assert!(!neighbour.reaches(former.address.addr()));
        assert_eq!(host.withdraw(std::slice::from_ref(&former)).await, done());
        // From now on it is no matter of turnip's.
        add(DEVICE, &former.address.to_string()).await;
        reached(&neighbour, &[former]).await;
    });
}

#[test]
fn an_address_that_its_operator_took_over_from_turnip_answers() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let [former, second] = vips();
        let earlier = Host::start(Backstop::Fence, &vips());
        drop(earlier);
        add(DEVICE, &former.address.to_string()).await;
        let host = Host::start(Backstop::Fence, std::slice::from_ref(&second));
        assert!(!host.list().await.addresses.iter().any(|present| present.marked));
        reached(&neighbour, &[former]).await;
    });
}

#[test]
fn a_fence_taken_over_closed_stays_closed_until_something_is_assumed() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let earlier = Host::start(Backstop::Fence, &vips());
        let deadline = earlier.after(1_600);
        assert_eq!(earlier.assume(&vips(), deadline).await, done());
        earlier.clock.sleep_until(deadline).await;
        drop(earlier);
        let host = Host::start(Backstop::Fence, &vips());
        assert_eq!(host.refresh(&vips(), host.after(60_000)).await, TOO_LATE);
        for address in ips(&vips()) {
            assert!(!neighbour.reaches(address));
        }
        assert_eq!(host.assume(&vips(), host.after(60_000)).await, done());
        reached(&neighbour, &vips()).await;
    });
}

#[test]
fn a_fence_that_someone_flushed_is_put_back_by_the_next_renewal() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        let [first, second] = vips();
        assert_eq!(host.assume(std::slice::from_ref(&first), host.after(60_000)).await, done());
        assert!(turnip::kernel::fence::remove().unwrap());
        assert_eq!(host.refresh(std::slice::from_ref(&first), host.after(60_000)).await, done());
        assert!(turnip::kernel::fence::exists().unwrap());
        add(DEVICE, &second.address.to_string()).await;
        reached(&neighbour, std::slice::from_ref(&first)).await;
        assert!(!neighbour.reaches(second.address.addr()));
    });
}

/// The tables as `nft` tells them, without what passes by itself.
fn told_by_nft() -> String {
    let told = Command::new("nft").args(["list", "ruleset"]).output().expect("this test needs nft");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    told.lines().filter(|line| !line.contains("expires")).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_someone_changes_in_the_fence_is_put_back_by_the_next_renewal() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        let [first, second] = vips();
        let first = std::slice::from_ref(&first);
        assert_eq!(host.assume(first, host.after(60_000)).await, done());
        add(DEVICE, &second.address.to_string()).await;
        let whole = told_by_nft();
        for damage in [
            "flush table inet turnip",
            "flush table arp turnip",
            "flush chain inet turnip input; delete chain inet turnip input",
            "add rule arp turnip input accept",
            "flush set inet turnip held4",
            "flush set inet turnip vips6",
            "add element inet turnip held6 { fd00::50 }",
            "add element inet turnip vips4 { 10.0.0.1 }",
            "flush set inet turnip alive",
            "flush set arp turnip alive4",
            "flush chain inet turnip after_dnat",
            "flush set inet turnip vips6_link",
            "add table inet turnip { flags dormant; }",
            "delete table inet turnip",
        ] {
            nft(damage);
            assert_eq!(host.refresh(first, host.after(60_000)).await, done(), "{damage}");
            assert_eq!(told_by_nft(), whole, "{damage}");
            reached(&neighbour, first).await;
            assert!(!neighbour.reaches(second.address.addr()), "{damage}");
        }
        // What others do in tables of their own is theirs.
        nft("add table inet other; add chain inet other input");
        assert_eq!(host.refresh(first, host.after(60_000)).await, done());
        assert_eq!(told_by_nft(), whole + "\ntable inet other {\n\tchain input {\n\t}\n}");
    });
}

#[test]
fn a_fence_that_is_as_it_should_be_is_not_made_anew() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        let handles = || {
            let told = Command::new("nft").args(["-a", "list", "table", "inet", "turnip"]).output();
            let told = String::from_utf8(told.expect("this test needs nft").stdout).unwrap();
            told.lines().filter(|line| line.contains("# handle")).collect::<String>()
        };
        let made = handles();
        let [first, second] = vips();
        let deadline = host.after(600);
        assert_eq!(host.assume(&vips(), deadline).await, done());
        assert_eq!(host.withdraw(std::slice::from_ref(&first)).await, done());
        nft("add table inet other");
        host.list().await;
        assert_eq!(host.refresh(std::slice::from_ref(&second), deadline).await, done());
        host.clock.sleep_until(deadline).await;
        nft("delete table inet other");
        host.list().await;
        assert_eq!(host.refresh(std::slice::from_ref(&second), host.after(60_000)).await, TOO_LATE);
        assert_eq!(host.assume(&[first], host.after(60_000)).await, done());
        assert_eq!(host.withdraw(&vips()).await, done());
        nft("add table inet other");
        host.list().await;
        assert_eq!(handles(), made);
    });
}

#[test]
fn an_outdated_ruleset_that_someone_loads_lets_nothing_pass_that_is_not_held() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        assert_eq!(host.assume(&vips(), host.after(60_000)).await, done());
        let saved = "table inet turnip {
            set held4 { type ipv4_addr; elements = { 10.0.0.50 }; }
            set held6 { type ipv6_addr; elements = { fd00::50 }; }
        }";
        let [first, second] = vips();
        assert_eq!(host.withdraw(std::slice::from_ref(&second)).await, done());
        add(DEVICE, &second.address.to_string()).await;

        nft(&format!("flush ruleset; {saved}"));
        let first = std::slice::from_ref(&first);
        assert_eq!(host.refresh(first, host.after(60_000)).await, done());
        reached(&neighbour, first).await;
        assert!(!neighbour.reaches(second.address.addr()));

        // With nothing held it is a look at the addresses that finds out.
        assert_eq!(host.withdraw(first).await, done());
        add(DEVICE, &first[0].address.to_string()).await;
        nft(&format!("flush ruleset; {saved}"));
        host.list().await;
        for address in ips(&vips()) {
            assert!(!neighbour.reaches(address));
        }
    });
}

#[test]
fn a_look_at_the_addresses_puts_a_flushed_fence_back_and_keeps_it_open() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        let [first, second] = vips();
        let first = std::slice::from_ref(&first);
        assert_eq!(host.assume(first, host.after(60_000)).await, done());
        assert!(turnip::kernel::fence::remove().unwrap());
        add(DEVICE, &second.address.to_string()).await;
        host.list().await;
        reached(&neighbour, first).await;
        assert!(!neighbour.reaches(second.address.addr()));
        assert_eq!(host.refresh(first, host.after(60_000)).await, done());
    });
}

#[test]
fn taking_a_stray_of_the_same_address_away_does_not_silence_what_is_held() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        assert_eq!(host.assume(&vips(), host.after(60_000)).await, done());
        assert_eq!(host.withdraw(&[on("lo", "10.0.0.50/32")]).await, done());
        reached(&neighbour, &vips()).await;
    });
}

#[test]
fn the_last_step_of_an_orderly_stop_leaves_no_fence() {
    on_a_host(|| async {
        let host = Host::start(Backstop::Fence, &many(3));
        assert_eq!(host.assume(&many(3), host.after(60_000)).await, done());
        assert_eq!(host.withdraw(&many(3)).await, done());
        assert!(turnip::kernel::fence::exists().unwrap());
        assert_eq!(host.kernel.perform(KernelOp::RemoveFence).await, done());
        host.list().await;
        assert!(!turnip::kernel::fence::exists().unwrap());
    });
}

#[test]
fn a_fence_left_behind_does_not_silence_a_daemon_that_uses_lifetimes() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let earlier = Host::start(Backstop::Fence, &vips());
        assert_eq!(earlier.assume(&vips(), earlier.after(60_000)).await, done());
        drop(earlier);
        let host = Host::start(Backstop::Lifetime, &vips());
        assert_eq!(host.list().await.addresses, []);
        let _ = host.assume(&vips(), host.after(60_000)).await;
        reached(&neighbour, &vips()).await;
    });
}

#[test]
fn a_probe_of_nftables_leaves_nothing_behind() {
    on_a_host(|| async {
        turnip::kernel::fence::probe().expect("this kernel has no nftables, or this is not root");
        assert!(!turnip::kernel::fence::exists().unwrap());
    });
}
