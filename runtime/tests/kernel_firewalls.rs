//! The fence beside rules of the host's own: what they rewrite, and what is saved and loaded.

mod kernel_lab;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kernel_lab::*;
use turnip::seams::Clock;
use turnip_core::{Assignment, Backstop};

fn vips() -> [Assignment; 2] {
    [on(DEVICE, "10.0.0.50/24"), on(DEVICE, "fd00::50/64")]
}

fn nft(commands: &str) {
    load("nft", commands);
}

fn load(nft: &str, commands: &str) {
    let mut command = Command::new(nft);
    command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("this test needs nft");
    child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let loaded = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&loaded.stderr);
    assert!(loaded.status.success(), "{said}\n{commands}");
}

fn list(nft: &str) -> String {
    let told = Command::new(nft).args(["list", "ruleset"]).output().expect("this test needs nft");
    String::from_utf8_lossy(&told.stdout).into_owned()
}

fn reaches(neighbour: &Neighbour, address: IpAddr, port: u16) -> bool {
    let to = SocketAddr::new(address, port);
    let connects = || TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok();
    neighbour.run(|| async move { connects() })
}

/// From now on the neighbour sends what is for the address here, whoever says that he has it.
fn keep_sending_here(neighbour: &Neighbour, address: IpAddr) {
    let mac = neighbour.cached(address).expect("it was reached");
    let mac = mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let to = address.to_string();
    let arguments = ["neighbour", "replace", &to, "lladdr", &mac, "dev", NEIGHBOUR_DEVICE];
    let set = || Command::new("ip").args(arguments).args(["nud", "permanent"]).status();
    assert!(neighbour.run(|| async move { set() }).expect("this test needs ip").success());
}

/// Ports that are published as container engines do it, and by the VIP's address.
const PUBLISHED: &str = "table inet published {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        tcp dport 81 fib daddr type local meta nfproto ipv4 dnat ip to 10.0.0.1:7
        tcp dport 81 fib daddr type local meta nfproto ipv6 dnat ip6 to [fd00::1]:7
        tcp dport 82 ip daddr 10.0.0.50 dnat ip to 10.0.0.1:7
        tcp dport 82 ip6 daddr fd00::50 dnat ip6 to [fd00::1]:7
        tcp dport 83 fib daddr type local redirect to :7
    }
}";
const PORTS: [u16; 4] = [PORT, 81, 82, 83];

#[test]
fn what_is_rewritten_on_its_way_in_is_silent_from_the_deadline_on() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        nft(PUBLISHED);
        assert_eq!(host.assume(&vips(), host.after(30_000)).await, done());
        for vip in vips() {
            for port in PORTS {
                let address = vip.address.addr();
                eventually("an answer", async || reaches(&neighbour, address, port)).await;
            }
            keep_sending_here(&neighbour, vip.address.addr());
        }
        assert_eq!(host.withdraw(&vips()).await, done());
        let deadline = host.after(1_100);
        assert_eq!(host.assume(&vips(), deadline).await, done());
        host.clock.sleep_until(deadline).await;
        for vip in vips() {
            assert!(PORTS.iter().all(|port| !reaches(&neighbour, vip.address.addr(), *port)));
        }
        // And so where the kernel has taken the address away: it is routed here all the same.
        for vip in vips() {
            eventually("it to go", async || !is_present(&vip.address.to_string()).await).await;
            assert!(PORTS.iter().all(|port| !reaches(&neighbour, vip.address.addr(), *port)));
        }
        for own in ["10.0.0.1", "fd00::1"] {
            assert!(reaches(&neighbour, own.parse().unwrap(), 81), "the host's own address");
        }
    });
}

#[test]
fn what_is_rewritten_to_come_from_a_vip_leaves_while_it_is_held_and_not_after() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        neighbour.run(|| async { listen() });
        let host = Host::start(Backstop::Fence, &vips());
        nft("table inet hidden {
                chain postrouting {
                    type nat hook postrouting priority srcnat;
                    ip saddr 10.0.0.1 tcp dport 7 snat ip to 10.0.0.50
                    ip6 saddr fd00::1 tcp dport 7 snat ip6 to fd00::50
                }
            }");
        let reached = || ["10.0.0.2", "fd00::2"].map(|there| connects(there.parse().unwrap()));
        assert_eq!(reached(), [false; 2]);
        assert_eq!(host.assume(&vips(), host.after(30_000)).await, done());
        for there in ["10.0.0.2", "fd00::2"] {
            eventually("an answer", async || connects(there.parse().unwrap())).await;
        }
        assert_eq!(host.withdraw(&vips()).await, done());
        assert_eq!(reached(), [false; 2]);
        nft("delete table inet hidden");
        assert_eq!(reached(), [true; 2]);
    });
}

/// Each table, without what passes by itself.
fn without_times(ruleset: &str) -> BTreeMap<&str, Vec<&str>> {
    let tables = ruleset.split("\n}\n").map(|table| table.split_once('{').unwrap_or_default());
    tables
        .map(|(name, rest)| (name, rest.lines().filter(|line| !line.contains("expires")).collect()))
        .collect()
}

fn loads_what_it_lists(nft: &'static str) {
    on_a_host(move || async move {
        let _neighbour = Neighbour::join().await;
        let link_local = on(DEVICE, "fe80::1/64");
        let all = [vips().to_vec(), vec![link_local]].concat();
        let host = Host::start(Backstop::Fence, &all);
        load(
            nft,
            "table inet own {
                chain input {
                    type filter hook input priority 0;
                    tcp dport 22 accept
                }
            }",
        );
        assert_eq!(host.assume(&all, host.after(60_000)).await, done());
        let saved = list(nft);
        assert!(saved.contains("expires") && saved.contains("table inet own"), "{saved}");
        load(nft, &format!("flush ruleset\n{saved}"));
        let loaded = list(nft);
        assert_eq!(without_times(&loaded), without_times(&saved));
        assert!(loaded.contains("expires"), "{loaded}");
        // The daemon takes it for its own again, and nothing of the host's is lost.
        assert_eq!(host.refresh(&all, host.after(60_000)).await, done());
        assert_eq!(without_times(&list(nft)), without_times(&saved));
    });
}

#[test]
fn what_nft_lists_nft_loads_and_it_is_the_same_fence() {
    loads_what_it_lists("nft");
}

#[test]
fn what_a_newer_nft_lists_it_loads_and_it_is_the_same_fence() {
    const NEWER: &str = "TURNIP_LAB_NFT_NEWER";
    let nft = std::env::var(NEWER);
    let wanted = format!("{NEWER} names no nft 1.1: {NEWER}=$(ci/nft-newer)");
    loads_what_it_lists(nft.expect(&wanted).leak());
}

#[test]
fn a_saved_fence_that_is_loaded_again_opens_for_no_longer_than_was_left_when_it_was_saved() {
    on_a_host(|| async {
        listen();
        let neighbour = Neighbour::join().await;
        let host = Host::start(Backstop::Fence, &vips());
        let left = Duration::from_millis(1_500);
        let deadline = host.after(1_500);
        assert_eq!(host.assume(&vips(), deadline).await, done());
        let saved = list("nft");
        host.clock.sleep_until(deadline).await;
        drop(host);
        let [vip, _] = vips();
        // The kernel would take away the one that is there.
        remove(DEVICE, "10.0.0.50/24").await;
        add(DEVICE, "10.0.0.50/24").await;
        assert!(!reaches(&neighbour, vip.address.addr(), PORT));
        // It would wait for an answer that was silenced.
        neighbour.forget(vip.address.addr());
        let loaded = Instant::now();
        nft(&format!("flush ruleset\n{saved}"));
        while reaches(&neighbour, vip.address.addr(), PORT) {
            assert!(loaded.elapsed() < left + Duration::from_millis(200), "it answers still");
        }
        println!("a fence that was saved with {left:?} left was open for {:?}", loaded.elapsed());
        assert!(loaded.elapsed() < left + Duration::from_millis(400));
    });
}
