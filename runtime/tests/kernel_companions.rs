//! Routes and rules that come and go with a VIP, and interfaces with a virtual hardware address, on the
//! real kernel.

mod kernel_lab;

use std::process::Command;

use kernel_lab::*;
use turnip::kernel::{Companion, VipRoute, VipRule, VirtualLink, Wanted};
use turnip::seams::Kernel;
use turnip_core::{Assignment, Backstop, KernelOp};

const MAIN: u32 = 254;

fn route(to: &str, metric: u32) -> VipRoute {
    VipRoute {
        to: to.parse().unwrap(),
        via: None,
        dev: Some(DEVICE.into()),
        table: MAIN,
        metric,
        src: None,
        blackhole: false,
    }
}

fn rule(priority: u32) -> VipRule {
    let from = Some("10.9.0.0/24".parse().unwrap());
    VipRule { v6: false, from, to: None, fwmark: None, table: 100, priority }
}

fn ip(line: &str) -> String {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn start(vip: &Assignment, companions: Vec<Companion>) -> Host {
    let companions = [(vip.vip.clone(), companions)].into();
    Host::accompanied(std::slice::from_ref(vip), companions, Vec::new())
}

#[test]
fn they_are_there_when_the_assumption_is_acknowledged_and_gone_when_the_withdrawal_is() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vip = [on(DEVICE, "10.9.0.1/24")];
        let with_source =
            VipRoute { src: Some("10.9.0.1".parse().unwrap()), ..route("10.91.0.0/16", 0) };
        let by_gateway = VipRoute {
            via: Some("10.9.0.254".parse().unwrap()),
            dev: None,
            ..route("10.92.0.0/16", 0)
        };
        let all = [with_source, by_gateway].map(Companion::Route);
        let host = start(&vip[0], all.into_iter().chain([Companion::Rule(rule(1000))]).collect());
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        let routes = ip("route show proto 116");
        assert!(routes.contains("10.91.0.0/16") && routes.contains("10.92.0.0/16"), "{routes}");
        assert!(ip("rule show").contains("1000:\tfrom 10.9.0.0/24 lookup 100 proto 116"));
        assert_eq!(host.withdraw(&vip).await, done());
        assert_eq!(ip("route show table all proto 116"), "");
        assert!(!ip("rule show").contains("10.9.0.0/24"));
    });
}

#[test]
fn what_somebody_else_has_made_alike_is_left_alone() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vip = [on(DEVICE, "10.9.0.1/24")];
        ip("route add 10.91.0.0/16 dev host0 metric 7 proto static");
        ip("rule add from 10.9.0.0/24 lookup 100 priority 1000");
        let all = vec![Companion::Route(route("10.91.0.0/16", 7)), Companion::Rule(rule(1000))];
        let host = start(&vip[0], all);
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        assert_eq!(host.withdraw(&vip).await, done());
        let (routes, rules) = (ip("route show proto static"), ip("rule show"));
        assert!(
            routes.contains("10.91.0.0/16") && rules.contains("10.9.0.0/24"),
            "{routes}{rules}"
        );
        // The kernel takes a rule of another protocol for another rule: the VIP's comes and goes beside it.
        assert!(!rules.contains("proto 116"), "{rules}");
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        let rules = ip("rule show");
        assert!(rules.contains("10.9.0.0/24 lookup 100 proto 116"), "{rules}");
        // A route is not: once the other has gone, the VIP's comes.
        assert_eq!(ip("route show proto 116"), "");
        ip("route del 10.91.0.0/16 dev host0 metric 7 proto static");
        eventually("the VIP's route to come", async || !ip("route show proto 116").is_empty())
            .await;
    });
}

fn wanted(addresses: &[Assignment], companions: Vec<Companion>) -> Wanted {
    Wanted {
        addresses: addresses.to_vec(),
        announce_on: Default::default(),
        virtual_links: Vec::new(),
        companions: addresses
            .first()
            .map(|vip| (vip.vip.clone(), companions))
            .into_iter()
            .collect(),
    }
}

async fn configure(host: &Host, addresses: &[Assignment]) {
    let op = KernelOp::Configure { addresses: addresses.to_vec() };
    assert_eq!(host.kernel.perform(op).await, done());
}

/// Rule 14.3.
#[test]
fn a_vip_that_stays_gets_and_loses_what_the_new_configuration_says_and_keeps_the_rest() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vip = [on(DEVICE, "10.9.0.1/24")];
        // It has none at first.
        let host = Host::start(Backstop::Fence, &vip);
        assert_eq!(host.assume(&vip, host.after(30_000)).await, done());
        let has = |what: &str| ip("route show").contains(what);
        let all = |routes: &[&str]| -> Vec<Companion> {
            let route = |to: &&str| Companion::Route(route(to, 7));
            routes.iter().map(route).chain([Companion::Rule(rule(1000))]).collect()
        };
        host.kernel.want(wanted(&vip, all(&["10.91.0.0/16", "10.92.0.0/16"])));
        eventually("what is new", async || has("10.91.") && has("10.92.")).await;
        assert!(ip("rule show").contains("10.9.0.0/24"));
        // They are put back as well as those of the start.
        ip("route del 10.91.0.0/16 metric 7");
        eventually("the route to come back", async || has("10.91.")).await;
        let monitor = Command::new("timeout")
            .args(["2", "ip", "monitor", "route", "rule"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        host.kernel.want(wanted(&vip, all(&["10.92.0.0/16", "10.93.0.0/16"])));
        eventually("the change", async || !has("10.91.") && has("10.93.")).await;
        let seen = String::from_utf8(monitor.wait_with_output().unwrap().stdout).unwrap();
        assert!(
            seen.contains("10.93.") && !seen.contains("10.92."),
            "what stays is not touched: {seen}"
        );
        assert!(!seen.contains("10.9.0.0/24"), "{seen}");
        assert_eq!(host.withdraw(&vip).await, done());
        assert_eq!(ip("route show table all proto 116"), "");
    });
}

/// Rules 14.2 and 14.3.
#[test]
fn a_vip_that_moves_keeps_its_routes_until_it_has_gone_and_comes_with_its_new_ones() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let (old, new) = ([on(DEVICE, "10.9.0.1/24")], [on(DEVICE, "10.9.0.1/25")]);
        let companion = |to: &str| vec![Companion::Route(route(to, 7))];
        let host = start(&old[0], companion("10.91.0.0/16"));
        assert_eq!(host.assume(&old, host.after(30_000)).await, done());
        host.kernel.want(wanted(&new, companion("10.92.0.0/16")));
        host.list().await;
        let routes = ip("route show");
        assert!(routes.contains("10.91.") && !routes.contains("10.92."), "{routes}");
        assert_eq!(host.withdraw(&old).await, done());
        assert_eq!(ip("route show proto 116"), "");
        configure(&host, &new).await;
        assert_eq!(host.assume(&new, host.after(30_000)).await, done());
        let routes = ip("route show");
        assert!(!routes.contains("10.91.") && routes.contains("10.92."), "{routes}");
    });
}

/// Rule 14.3.
#[test]
fn a_vip_gets_a_virtual_mac_while_the_daemon_runs() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let link =
            VirtualLink::new(&"main".parse().unwrap(), &"v".parse().unwrap(), &DEVICE.into());
        let (old, new) = ([on(DEVICE, "10.0.0.50/32")], [on(&link.name, "10.0.0.50/32")]);
        let host = Host::start(Backstop::Fence, &old);
        assert_eq!(host.assume(&old, host.after(30_000)).await, done());
        let with_link = Wanted { virtual_links: vec![link.clone()], ..wanted(&new, Vec::new()) };
        host.kernel.want(with_link);
        assert_eq!(host.withdraw(&old).await, done());
        configure(&host, &new).await;
        assert_eq!(host.assume(&new, host.after(30_000)).await, done());
        assert_eq!(mac_of(&link.name).await, link.mac.0);
        // And back.
        host.kernel.want(wanted(&old, Vec::new()));
        assert_eq!(host.withdraw(&new).await, done());
        configure(&host, &old).await;
        assert_eq!(host.assume(&old, host.after(30_000)).await, done());
        assert!(!ip("link show").contains(&*link.name));
    });
}

#[test]
fn one_that_somebody_took_away_comes_back_and_one_of_before_that_no_vip_has_goes() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let vip = [on(DEVICE, "10.9.0.1/24")];
        ip("route add 10.93.0.0/16 dev host0 proto 116");
        ip("rule add from 10.93.0.0/16 lookup 100 priority 1003 protocol 116");
        let all = vec![Companion::Route(route("10.91.0.0/16", 7)), Companion::Rule(rule(1000))];
        let host = start(&vip[0], all);
        eventually("what was left to go", async || {
            !ip("route show").contains("10.93.") && !ip("rule show").contains("10.93.")
        })
        .await;
        assert_eq!(host.assume(&vip, host.after(10_000)).await, done());
        ip("route del 10.91.0.0/16 metric 7");
        eventually("the route to come back", async || ip("route show").contains("10.91.")).await;
        ip("rule del priority 1000");
        eventually("the rule to come back", async || ip("rule show").contains("10.9.0.0/24")).await;
        set_down(DEVICE).await;
        assert!(!ip("route show").contains("10.91."), "it goes without a word");
        set_up(DEVICE).await;
        eventually("the route to come back", async || ip("route show").contains("10.91.")).await;
    });
}

#[test]
fn an_address_with_a_virtual_mac_is_on_an_interface_of_its_own_which_goes_with_it() {
    on_a_host(|| async {
        let neighbour = Neighbour::join().await;
        listen();
        let cluster = "main".parse().unwrap();
        let link = VirtualLink::new(&cluster, &"v".parse().unwrap(), &DEVICE.into());
        // The one alone, so that the way back is by the other interface.
        let vips = ["10.0.0.50/32", "fd00::50/64"].map(|vip| on(&link.name, vip));
        // As distributions have it.
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
        let host = Host::accompanied(&vips, Default::default(), vec![link.clone()]);
        assert_eq!(host.assume(&vips, host.after(10_000)).await, done());
        assert_eq!(mac_of(&link.name).await, link.mac.0);
        assert!(ip(&format!("link show {}", link.name)).contains("alias turnip: VIP v"));
        assert!(!ip(&format!("-6 address show dev {}", link.name)).contains("fe80"));
        for address in vips.each_ref().map(|vip| vip.address.addr()) {
            assert!(neighbour.reaches(address), "{address}");
            assert_eq!(neighbour.cached(address), Some(link.mac.0.to_vec()), "and no other");
        }
        assert_eq!(host.withdraw(&vips[..1]).await, done());
        assert!(ip("link show").contains(&*link.name), "it has an address still");
        assert_eq!(host.withdraw(&vips).await, done());
        assert!(!ip("link show").contains(&*link.name));
        assert!(!neighbour.reaches(vips[0].address.addr()));
    });
}

#[test]
fn an_interface_that_a_killed_turnip_left_goes_with_its_last_address() {
    on_a_host(|| async {
        let _neighbour = Neighbour::join().await;
        let link =
            VirtualLink::new(&"main".parse().unwrap(), &"v".parse().unwrap(), &DEVICE.into());
        let vip = [on(&link.name, "10.0.0.50/32")];
        let killed = Host::accompanied(&vip, Default::default(), vec![link.clone()]);
        assert_eq!(killed.assume(&vip, killed.after(10_000)).await, done());
        drop(killed);
        // It is not configured any more.
        let host = Host::start(Backstop::Fence, &[]);
        let listed = host.list().await;
        assert!(listed.addresses.iter().any(|one| one.interface == link.name && one.marked));
        assert!(ip("link show").contains(&*link.name), "what it has is taken away first");
        assert_eq!(host.withdraw(&vip).await, done());
        assert!(!ip("link show").contains(&*link.name));
    });
}
