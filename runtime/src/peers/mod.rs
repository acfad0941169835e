//! The way to the other hosts past the store (rule 10): authenticated datagrams over UDP.
//!
//! A thread of its own reads the socket, so that whoever floods the port keeps that thread busy and no
//! renewal waiting. It throws away what is not authentic or not new, and passes the rest on through a
//! queue that drops what does not fit. Nothing is answered, but an authentic probe of `turnip check`.

mod counters;
mod fresh;
mod probe;
mod socket;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::sync::mpsc;
use turnip_core::{Addressee, Datagram, HeartbeatKeys, NodeName};

pub use counters::Counts;
pub use probe::probe;
pub use socket::{PORT_DEFAULT, Socket, source_towards};
pub use wire::Identity;

use counters::Counters;
use fresh::Received;
use wire::{DATAGRAM_LEN_MAX, Keys, Message};

/// Datagrams that wait for the daemon: some intervals of many hosts.
const QUEUE_LEN: usize = 1024;
/// How often the reading thread looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The heartbeats' socket, and the thread that reads it.
pub struct UdpPeers {
    shared: Arc<Shared>,
    incoming: Mutex<Option<mpsc::Receiver<(NodeName, Datagram)>>>,
}

/// What an operator is shown of it.
#[derive(Clone)]
pub struct Watcher(Arc<Shared>);

struct Shared {
    socket: Socket,
    identity: Identity,
    keys: Mutex<Option<Keys>>,
    received: Mutex<Received>,
    counters: Counters,
    closed: AtomicBool,
}

impl UdpPeers {
    /// Begins to read `socket`, as the node and the process given. What was made before a heartbeat that was
    /// sent `hearing` ago comes from a host that does not hear this one, or was held back.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        socket: Socket,
        identity: Identity,
        process: u64,
        hearing: Duration,
    ) -> io::Result<Self> {
        socket.wait_at_most(LOOK_EVERY)?;
        let (sender, receiver) = mpsc::channel(QUEUE_LEN);
        let shared = Arc::new(Shared {
            socket,
            identity,
            keys: Mutex::new(None),
            received: Mutex::new(Received::new(process, hearing)),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
        });
        let reads = Arc::clone(&shared);
        std::thread::Builder::new().name("heartbeats".into()).spawn(move || reads.read(&sender))?;
        Ok(UdpPeers { shared, incoming: Mutex::new(Some(receiver)) })
    }

    /// For whoever shows an operator how it goes.
    pub fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.shared))
    }
}

impl crate::seams::Peers for UdpPeers {
    fn use_keys(&self, keys: HeartbeatKeys) {
        let keys = Keys::new(&keys);
        if keys.is_none() {
            tracing::error!(
                "heartbeats/key in etcd is no key of 256 bits in hexadecimal: no heartbeat is sent or taken; `turnip rotate-key` makes another one"
            );
        }
        *lock(&self.shared.keys) = keys;
    }

    fn send(&self, to: Vec<Addressee>) {
        let Some(keys) = lock(&self.shared.keys).clone() else { return };
        for Addressee { node, address, datagram } in to {
            let echo = {
                let mut received = lock(&self.shared.received);
                received.sends(datagram.heartbeat.number, Instant::now());
                received.echo(&node)
            };
            self.shared.send(&keys, &node, address, &Message::Beat { echo, datagram });
        }
    }

    fn datagrams(&self) -> impl Stream<Item = (NodeName, Datagram)> {
        let mut incoming = lock(&self.incoming).take();
        futures::stream::poll_fn(move |context| match &mut incoming {
            Some(incoming) => incoming.poll_recv(context),
            None => std::task::Poll::Ready(None),
        })
    }
}

impl Drop for UdpPeers {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
    }
}

impl Watcher {
    /// How long ago each node was heard last, of those that were.
    pub fn heard_ago(&self) -> impl Iterator<Item = (NodeName, Duration)> {
        let heard = lock(&self.0.received).heard();
        heard.into_iter().map(|(node, at)| (node, at.elapsed()))
    }

    /// What became of datagrams.
    pub fn counts(&self) -> Counts {
        self.0.counters.read()
    }
}

impl Shared {
    fn read(&self, to_daemon: &mpsc::Sender<(NodeName, Datagram)>) {
        // One byte more, so that one that is too long shows.
        let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
        while !self.closed.load(Ordering::Relaxed) {
            match self.socket.receive(&mut buffer) {
                Ok(Some((len, source))) => self.received(&buffer[..len], source, to_daemon),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!("the heartbeats' socket: {error}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn received(
        &self,
        bytes: &[u8],
        source: SocketAddr,
        to_daemon: &mpsc::Sender<(NodeName, Datagram)>,
    ) {
        let keys = lock(&self.keys).clone();
        let (from, message) = match self.identity.decode(keys.as_ref(), bytes) {
            Ok(decoded) => decoded,
            Err(why) => return self.counters.rejected(why),
        };
        match (message, keys) {
            (Message::Beat { echo, mut datagram }, _) => {
                let now = Instant::now();
                let mut received = lock(&self.received);
                let is_new = received.is_new(&from, &datagram.heartbeat, echo, now);
                datagram.hears_addressee &= received.is_lately(echo, now);
                drop(received);
                if !is_new {
                    self.counters.replayed();
                } else if to_daemon.try_send((from, datagram)).is_err() {
                    self.counters.dropped();
                } else {
                    self.counters.taken();
                }
            }
            (Message::Probe(number), Some(keys)) => {
                self.counters.taken();
                self.send(&keys, &from, source, &Message::ProbeReply(number));
            }
            // A reply is for who asked, on a socket of its own.
            _ => self.counters.replayed(),
        }
    }

    fn send(&self, keys: &Keys, to: &NodeName, address: SocketAddr, message: &Message) {
        let sent = self.socket.send(&self.identity.encode(keys, to, message), address);
        if let Err(error) = &sent {
            tracing::debug!("to {to} at {address}: {error}");
        }
        self.counters.sent(sent.is_ok());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
