//! A daemon that reaches etcd by a load balancer: each connection may lead to another member. On a host of its
//! own with a real etcd of three members. Needs root, etcd and iproute2, and fails without.

mod support;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use support::host::{Host, within};
use turnip_netns_tests::etcd::{self, Access, EtcdSettings, Member, Place};

/// Where clients reach the members.
const PORTS: [u16; 3] = [2379, 2479, 2579];
const BALANCER: &str = "127.0.0.1:23790";
const CONFIGURATION: &str = r#"
node = "h"
[etcd]
endpoints = ["http://127.0.0.1:23790"]
[[vip]]
name = "v"
addresses = ["10.0.0.50/32"]
interface = "lo"
"#;

fn members(host: &Host) -> Vec<Member> {
    let places: Vec<Place> = PORTS
        .iter()
        .map(|port| {
            let name = format!("m{port}");
            let directory = host.directory.join(&name);
            std::fs::create_dir(&directory).unwrap();
            let place = Place::on_loopback(name, [*port, port + 1], directory);
            Place { namespace: Some(Arc::clone(&host.namespace)), ..place }
        })
        .collect();
    let mut members = etcd::members(&places, &EtcdSettings::default(), &Access::Open);
    members.iter_mut().for_each(|member| member.start().expect("this test needs etcd"));
    members
}

/// Leads each connection to the next member that takes one; counts them.
fn balance(host: &Host) -> Arc<AtomicU32> {
    let (count, namespace) = (Arc::new(AtomicU32::new(0)), Arc::clone(&host.namespace));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        // The threads that it starts are there, too.
        namespace.enter().unwrap();
        let listener = TcpListener::bind(BALANCER).unwrap();
        let mut next = PORTS.iter().cycle();
        for near in listener.incoming() {
            let ports = next.by_ref().take(PORTS.len());
            let far = ports.map(|port| TcpStream::connect(("127.0.0.1", *port)));
            let (Ok(near), Some(Ok(far))) = (near, far.into_iter().find(Result::is_ok)) else {
                continue;
            };
            counted.fetch_add(1, Ordering::Relaxed);
            for (mut from, mut to) in
                [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    count
}

/// Rule 9.7: members that lag behind each other are one store.
#[test]
fn a_daemon_behind_a_load_balancer_holds_through_elections_and_takes_the_members_for_one_store() {
    let host = Host::bare();
    let mut members = members(&host);
    let connections = balance(&host);
    within("etcd answers by the balancer", || {
        let endpoint = format!("http://{BALANCER}");
        host.etcdctl(&["--endpoints", &endpoint, "endpoint", "health"]).status.success()
    });
    let file = host.directory.join("turnip.toml");
    std::fs::write(&file, CONFIGURATION).unwrap();
    let mut command = host.command(env!("CARGO_BIN_EXE_turnip"));
    command.args(["run", "--config", file.to_str().unwrap()]);
    let mut daemon = host.start_command(command);
    within("the address", || host.has_vip());
    for member in 0..PORTS.len() {
        let before = connections.load(Ordering::Relaxed);
        members[member].kill();
        // Who is led there must come by another connection.
        within("etcd answers without it", || {
            let endpoint = format!("http://127.0.0.1:{}", PORTS[(member + 1) % PORTS.len()]);
            host.etcdctl(&["--endpoints", &endpoint, "endpoint", "health"]).status.success()
        });
        members[member].start().unwrap();
        within("the member is back", || {
            let endpoint = format!("http://127.0.0.1:{}", PORTS[member]);
            host.etcdctl(&["--endpoints", &endpoint, "endpoint", "health"]).status.success()
        });
        within("the address, still or again", || host.has_vip());
        assert!(connections.load(Ordering::Relaxed) >= before);
    }
    assert!(connections.load(Ordering::Relaxed) > 3, "it was led to more than one member");
    assert!(!daemon.log().contains("not the store that it was"), "{}", daemon.log());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
}
