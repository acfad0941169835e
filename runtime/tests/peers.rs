//! Heartbeats over real UDP sockets, on loopback: what passes, and what does not.

use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use turnip::peers::{Counts, Identity, Socket, UdpPeers};
use turnip::seams::Peers;
use turnip_core::{
    Acknowledgement, Addressee, Datagram, Heartbeat, HeartbeatKeys, NodeName, Revision, SessionId,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn keys(byte: u8) -> HeartbeatKeys {
    HeartbeatKeys { current: format!("{byte:02x}").repeat(32), previous: None }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") })
}

/// One end.
struct End {
    peers: UdpPeers,
    name: NodeName,
    address: SocketAddr,
    process: u64,
    number: AtomicU64,
}

impl End {
    fn new(name: &str, process: u64, address: &str) -> Self {
        let socket = Socket::bind(address.parse().unwrap()).unwrap();
        let address = socket.local();
        let name: NodeName = name.parse().unwrap();
        let identity = Identity { cluster: "main".parse().unwrap(), node: name.clone() };
        let peers = UdpPeers::start(socket, identity, process, Duration::from_secs(60)).unwrap();
        peers.use_keys(keys(1));
        End { peers, name, address, process, number: AtomicU64::new(0) }
    }

    /// Sends its next heartbeat, and says its number.
    fn beat(&self, to: &NodeName, address: SocketAddr) -> u64 {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let session = SessionId(Revision(3));
        let revision = Revision(5);
        let heartbeat = Heartbeat {
            session,
            process: self.process,
            number,
            modified: revision,
            complete_to: revision,
        };
        let acknowledges = Some(Acknowledgement { session, process: 9, number: 9 });
        let datagram = Datagram { heartbeat, hears_addressee: true, acknowledges };
        self.peers.send(vec![Addressee { node: to.clone(), address, datagram }]);
        number
    }

    fn counts(&self) -> Counts {
        self.peers.watcher().counts()
    }

    /// Waits until one more was rejected, as `of` counts.
    async fn rejects(&self, of: impl Fn(Counts) -> u64, before: u64) {
        while of(self.counts()) == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(of(self.counts()), before + 1, "{:?}", self.counts());
    }
}

/// Has `b` take `a`: each hears the other once, or `a` until it has echoed.
async fn meet(a: &End, b: &End, at_b: &mut (impl Stream<Item = (NodeName, Datagram)> + Unpin)) {
    let meeting = async {
        loop {
            a.beat(&b.name, b.address);
            b.beat(&a.name, a.address);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        taken = at_b.next() => assert_eq!(taken.unwrap().0, a.name),
        () = meeting => {}
    }
    // What was sent meanwhile.
    while tokio::time::timeout(Duration::from_millis(100), at_b.next()).await.is_ok() {}
}

async fn passes(a: &End, b: &End, to: SocketAddr) {
    let mut at_b = pin!(b.peers.datagrams());
    meet(a, b, &mut at_b).await;
    let number = a.beat(&b.name, to);
    let (from, datagram) = at_b.next().await.unwrap();
    assert_eq!(from, a.name);
    assert_eq!((datagram.heartbeat.process, datagram.heartbeat.number), (a.process, number));
    assert_eq!(datagram.acknowledges.map(|acknowledged| acknowledged.number), Some(9));
    let heard: Vec<_> = b.peers.watcher().heard_ago().map(|(node, _)| node).collect();
    assert_eq!(heard, std::slice::from_ref(&a.name));
}

#[test]
fn heartbeats_pass_over_ipv4_and_over_ipv6() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let (a, b) = (End::new("a", 1, local), End::new("b", 2, local));
        run(passes(&a, &b, b.address));
    }
}

#[test]
fn a_socket_for_all_addresses_serves_both_families() {
    let a = End::new("a", 1, "[::]:0");
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let b = End::new("b", 2, local);
        let a_at = SocketAddr::new(b.address.ip(), a.address.port());
        run(async {
            let mut at_b = pin!(b.peers.datagrams());
            // Both ways, by addresses of b's family.
            loop {
                b.beat(&a.name, a_at);
                tokio::time::sleep(Duration::from_millis(20)).await;
                a.beat(&b.name, b.address);
                let taken = tokio::time::timeout(Duration::from_millis(100), at_b.next()).await;
                if taken.is_ok() {
                    break;
                }
            }
        });
    }
}

#[test]
fn what_was_recorded_and_is_sent_again_is_not_taken() {
    run(async {
        let (a, b) = (End::new("a", 1, "127.0.0.1:0"), End::new("b", 2, "127.0.0.1:0"));
        let mut at_b = pin!(b.peers.datagrams());
        meet(&a, &b, &mut at_b).await;
        // Somebody on the way, who records.
        let tap = UdpSocket::bind("127.0.0.1:0").unwrap();
        a.beat(&b.name, tap.local_addr().unwrap());
        let mut recorded = [0; 512];
        let (len, _) = tap.recv_from(&mut recorded).unwrap();
        let recorded = &recorded[..len];
        assert!(len <= 200, "{len} bytes");

        tap.send_to(recorded, b.address).unwrap();
        assert!(at_b.next().await.is_some(), "it was late, and came once");
        let before = b.counts().replayed;
        tap.send_to(recorded, b.address).unwrap();
        b.rejects(|counts| counts.replayed, before).await;

        // Another process of `a` takes its place; then the record is of the one before.
        let next = End::new("a", 3, "127.0.0.1:0");
        meet(&next, &b, &mut at_b).await;
        let before = b.counts().replayed;
        tap.send_to(recorded, b.address).unwrap();
        b.rejects(|counts| counts.replayed, before).await;
        next.beat(&b.name, b.address);
        assert_eq!(at_b.next().await.unwrap().1.heartbeat.process, 3);

        // A process of `b` that has heard nothing yet takes no record of what an earlier one heard.
        let reborn = End::new("b", 4, "127.0.0.1:0");
        tap.send_to(recorded, reborn.address).unwrap();
        reborn.rejects(|counts| counts.replayed, 0).await;
        assert_eq!(reborn.counts().taken, 0);
    });
}

#[test]
fn what_is_not_authentic_is_counted_by_its_reason_and_not_answered() {
    run(async {
        let (a, b) = (End::new("a", 1, "127.0.0.1:0"), End::new("b", 2, "127.0.0.1:0"));
        let tap = UdpSocket::bind("127.0.0.1:0").unwrap();
        tap.send_to(b"GET / HTTP/1.1", b.address).unwrap();
        b.rejects(|counts| counts.malformed, 0).await;
        a.beat(&"c".parse().unwrap(), b.address);
        b.rejects(|counts| counts.misaddressed, 0).await;
        a.peers.use_keys(keys(2));
        a.beat(&b.name, b.address);
        b.rejects(|counts| counts.forged, 0).await;
        let ignorant = End::new("b", 3, "127.0.0.1:0");
        ignorant.peers.use_keys(HeartbeatKeys { current: "short".into(), previous: None });
        a.beat(&b.name, ignorant.address);
        ignorant.rejects(|counts| counts.no_key, 0).await;
        ignorant.beat(&a.name, a.address);
        for end in [&b, &ignorant] {
            assert_eq!((end.counts().sent, end.counts().taken), (0, 0), "{:?}", end.counts());
        }
        tap.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(tap.recv_from(&mut [0; 512]).is_err(), "it was answered");
    });
}

#[test]
fn after_a_rotation_the_new_key_and_the_one_before_are_taken() {
    run(async {
        let (a, b) = (End::new("a", 1, "127.0.0.1:0"), End::new("b", 2, "127.0.0.1:0"));
        let mut at_b = pin!(b.peers.datagrams());
        meet(&a, &b, &mut at_b).await;
        b.peers.use_keys(HeartbeatKeys { previous: Some(keys(1).current), ..keys(2) });
        a.beat(&b.name, b.address);
        assert!(at_b.next().await.is_some(), "the key before");
        a.peers.use_keys(keys(2));
        a.beat(&b.name, b.address);
        assert!(at_b.next().await.is_some(), "the new one");
        a.peers.use_keys(keys(3));
        a.beat(&b.name, b.address);
        b.rejects(|counts| counts.forged, 0).await;
    });
}

/// Sends the same bytes as fast as it can until it is told to end; says how many it sent.
fn flood(bytes: Vec<u8>, to: SocketAddr, ended: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let ended = Arc::clone(ended);
    thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sent = 0;
        while !ended.load(Ordering::Relaxed) {
            sent += u64::from(socket.send_to(&bytes, to).is_ok());
        }
        sent
    })
}

#[test]
fn under_a_flood_authentic_heartbeats_pass_and_the_daemons_own_thread_goes_on() {
    run(async {
        let (a, b) = (End::new("a", 1, "127.0.0.1:0"), End::new("b", 2, "127.0.0.1:0"));
        let mut at_b = pin!(b.peers.datagrams());
        meet(&a, &b, &mut at_b).await;
        // Of the costliest kind: all is right but the tag.
        let tap = UdpSocket::bind("127.0.0.1:0").unwrap();
        a.beat(&b.name, tap.local_addr().unwrap());
        let mut forged = [0; 512];
        let (len, _) = tap.recv_from(&mut forged).unwrap();
        forged[len - 1] ^= 1;

        let ended = Arc::new(AtomicBool::new(false));
        let floods = [
            flood(forged[..len].to_vec(), b.address, &ended),
            flood(vec![7; 64], b.address, &ended),
        ];
        let (mut turns, mut taken) = (0, 0);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            // As the driver's loop: this thread also waits for etcd, timers and the kernel.
            a.beat(&b.name, b.address);
            turns += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
            while let Some(Some(_)) = at_b.next().now_or_never() {
                taken += 1;
            }
        }
        ended.store(true, Ordering::Relaxed);
        let sent: u64 = floods.map(|flood| flood.join().unwrap()).into_iter().sum();
        let counts = b.counts();
        eprintln!("{sent} sent by the flood, {counts:?}; {taken} taken of {turns} turns");
        assert!(counts.forged > 1_000 && counts.malformed > 1_000, "no flood: {counts:?}");
        assert!(taken > 0, "none passed: {counts:?}");
        assert!(turns > 50, "this thread stood still: {turns}");
    });
}
