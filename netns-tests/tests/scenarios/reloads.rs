//! Configurations that change while daemons run, and daemons that leave all to the next start.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::TurnipSettings;
use turnip_netns_tests::plan::{Plan, vip};
use turnip_netns_tests::responder;

use crate::{VERY_LONG_LEASE, of_both_families, with_a_long_lease, with_settings};

/// A datagram each millisecond, and an answer to each.
struct Pings {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<usize>>,
}

impl Pings {
    fn start(cluster: &Cluster, address: IpAddr) -> Result<Self> {
        let socket = cluster.client().run(move || {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.connect(SocketAddr::new(address, responder::PORT))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            // A busy machine reads late.
            setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
            Ok(Arc::new(socket))
        })?;
        let (stop, answered) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
        let (sends, ended) = (Arc::clone(&socket), Arc::clone(&stop));
        let sender = thread::spawn(move || {
            let mut sent = 0;
            while !ended.load(Ordering::Relaxed) {
                sent += usize::from(sends.send(b"who are you?").is_ok());
                sleep(Duration::from_millis(1));
            }
            sent
        });
        let (counts, ended) = (Arc::clone(&answered), Arc::clone(&stop));
        let receiver = thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(_) => drop(counts.fetch_add(1, Ordering::Relaxed)),
                    // Some may be under way still.
                    Err(_) if ended.load(Ordering::Relaxed) => return 0,
                    Err(_) => {}
                }
            }
        });
        Ok(Pings { stop, answered, threads: vec![sender, receiver] })
    }

    /// How many were sent, and how many of these are lost.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let sent: usize = self.threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        (sent, sent - self.answered.load(Ordering::Relaxed))
    }
}

/// What a host's daemon says when it is told to reload, which works.
fn reload(cluster: &Cluster, host: usize) -> Result<String> {
    cluster.write_configuration(host)?;
    let (status, said) = cluster.ask_daemon(host, &["reload"])?;
    assert_eq!(status, Some(0), "{said}\n{}", cluster.logs());
    Ok(said)
}

#[test]
fn a_daemon_that_leaves_all_to_the_next_start_loses_not_a_packet() -> Result<()> {
    let plan = Plan { vips: of_both_families().vips, ..with_settings(with_a_long_lease()) };
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    let pings = Pings::start(&cluster, cluster.address())?;
    let from = cluster.note("the unit's restart, and a stop that leaves");
    for by_signal in [true, false] {
        match by_signal {
            true => cluster.daemon(owner)?.signal(Signal::SIGUSR2)?,
            false => {
                let (status, said) = cluster.ask_daemon(owner, &["stop", "--leave"])?;
                assert_eq!(status, Some(0), "{said}");
            }
        }
        let status = cluster.daemon(owner)?.wait(Duration::from_secs(3))?;
        assert!(status.success(), "{status}\n{}", cluster.logs());
        assert_eq!(cluster.holders()?, [owner], "nobody has taken it away");
        sleep(Duration::from_millis(300));
        cluster.start_daemon(owner)?;
        // Longer than what was left of the lease.
        sleep(Duration::from_secs(6));
    }
    let (sent, lost) = pings.end();
    assert!(sent > 1_000 && lost == 0, "{lost} of {sent} are lost\n{}", cluster.logs());
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_vip_is_added_and_removed_and_not_a_packet_of_another_is_lost() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let before = cluster.daemon(owner)?.id();
    let pings = Pings::start(&cluster, cluster.address())?;
    let from = cluster.note("a VIP more");
    let more: IpAddr = "10.77.0.101".parse()?;
    let with_more = || {
        let mut vips = of_both_families().vips;
        vips.push(vip("web", &["10.77.0.101/24"]));
        vips
    };
    for host in 0..cluster.size() {
        cluster.configure(host, with_more());
        cluster.write_configuration(host)?;
        let (status, said) = cluster.ask_daemon(host, &["reload", "--dry-run"])?;
        assert_eq!((status, said.as_str()), (Some(0), "+ vip web: 10.77.0.101/24 on eth0\n"));
        assert!(cluster.holders_of(more)?.is_empty() || host > 0, "nothing has changed by that");
        assert!(reload(&cluster, host)?.contains("+ vip web"));
    }
    cluster.wait("the new VIP has a host", || Ok(cluster.holders_of(more)?.len() == 1))?;
    cluster.note("and gone again");
    for host in 0..cluster.size() {
        cluster.configure(host, of_both_families().vips);
        cluster.write_configuration(host)?;
        cluster.daemon(host)?.signal(Signal::SIGHUP)?;
    }
    cluster.wait("the new VIP is nowhere", || Ok(cluster.holders_of(more)?.is_empty()))?;
    let (sent, lost) = pings.end();
    assert!(sent > 100 && lost == 0, "{lost} of {sent} are lost\n{}", cluster.logs());
    assert_eq!(cluster.daemon(owner)?.id(), before);
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_vip_is_renamed_and_gets_another_prefix_length_by_reloads_in_any_order() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default().with_lease(VERY_LONG_LEASE))?;
    let owner = cluster.wait_for_owner()?;
    let last = (owner + 2) % 3;
    let from = cluster.note("each host has the VIP under another name, the holder first");
    for host in [owner, (owner + 1) % 3, last] {
        cluster.rename_vip(host, "web");
        reload(&cluster, host)?;
    }
    cluster.wait_for_owner()?;
    cluster.note("and with another prefix length, all at once");
    for host in [last, owner, (owner + 1) % 3] {
        cluster.configure(host, vec![vip("web", &["10.77.0.100/32"])]);
        reload(&cluster, host)?;
    }
    cluster.wait_for_owner()?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_file_with_errors_changes_nothing_and_says_so_and_a_new_lease_takes_a_new_session() -> Result<()>
{
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let before = cluster.daemon(owner)?.id();
    let from = cluster.note("a file with errors");
    let file = cluster.host(owner).directory.join("turnip.toml");
    let good = std::fs::read_to_string(&file)?;
    std::fs::write(&file, good.replace("[[vip]]", "[[vip]]\nprioritty = 3"))?;
    let (status, said) = cluster.ask_daemon(owner, &["reload"])?;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("prioritty") && said.contains("priority"), "{said}");
    cluster.daemon(owner)?.signal(Signal::SIGHUP)?;
    cluster.wait("the log says so", || {
        let log = std::fs::read_to_string(cluster.host(owner).directory.join("daemon.log"))?;
        Ok(log.matches("not reloaded, and nothing has changed").count() == 2)
    })?;
    cluster
        .set_up_daemons(TurnipSettings { lease: Some("5s".into()), ..TurnipSettings::default() });
    cluster.write_configuration(owner)?;
    let (status, said) = cluster.ask_daemon(owner, &["reload"])?;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("lease: 3s -> 5s") && said.contains("--new-session"), "{said}");
    let stayed = cluster.check(from, Outcome::stayed_on(owner));
    stayed?;
    let from = cluster.note("a new session");
    let (status, said) = cluster.ask_daemon(owner, &["reload", "--new-session"])?;
    assert_eq!(status, Some(0), "{said}\n{}", cluster.logs());
    assert_eq!(cluster.daemon(owner)?.id(), before, "the service manager sees no other process");
    let (status, said) = cluster.ask_daemon(owner, &["reload"])?;
    assert_eq!((status, said.as_str()), (Some(0), "nothing differs\n"));
    cluster.conclude(from, Outcome::moved())
}
