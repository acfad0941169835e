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
/// How many pauses of the reading thread make a lease: as little as an acknowledgement may be late.
const PAUSES: u32 = 100;
/// How long it pauses at most.
const PAUSE_MAX: Duration = Duration::from_millis(30);
/// So many datagrams at once are more than hosts send in a pause.
const FLOOD: u32 = 64;
/// How long it waits when the socket has failed.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

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
        let pause = reading_pause(hearing);
        let read = move || reads.read(&sender, pause);
        std::thread::Builder::new().name("heartbeats".into()).spawn(read)?;
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
            let echoes = {
                let mut received = lock(&self.shared.received);
                received.sends(datagram.heartbeat.number, Instant::now());
                received.echoes(&node, datagram.heartbeat.number)
            };
            self.shared.send(&keys, &node, address, &Message::Beat { echoes, datagram });
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

/// How long the reading thread pauses after each time that it has read, with a lease of `hearing`. So much later a
/// heartbeat may be taken than it arrives.
pub fn reading_pause(hearing: Duration) -> Duration {
    (hearing / PAUSES).min(PAUSE_MAX)
}

impl Shared {
    /// Reads what has come, and then pauses: with many hosts several datagrams come meanwhile, and each
    /// wakes nobody. A flood is read without a pause, for the kernel keeps some hundred datagrams only.
    fn read(&self, to_daemon: &mpsc::Sender<(NodeName, Datagram)>, pause: Duration) {
        // One byte more, so that one that is too long shows.
        let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
        let mut at_once = 0_u32;
        while !self.closed.load(Ordering::Relaxed) {
            let timeout = if at_once == 0 { LOOK_EVERY } else { Duration::ZERO };
            match self.socket.receive(&mut buffer, timeout) {
                Ok(Some((len, source))) => {
                    // A flood may last.
                    at_once = at_once.saturating_add(1);
                    self.received(&buffer[..len], source, to_daemon);
                    continue;
                }
                Ok(None) if at_once >= FLOOD => {}
                Ok(None) => std::thread::sleep(pause),
                Err(error) => {
                    tracing::debug!("the heartbeats' socket: {error}");
                    std::thread::sleep(ERROR_PAUSE);
                }
            }
            at_once = 0;
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
            (Message::Beat { echoes, mut datagram }, _) => {
                let now = Instant::now();
                let mut received = lock(&self.received);
                let is_new = received.is_new(&from, &datagram.heartbeat, echoes, now);
                datagram.hears_addressee &= received.is_lately(echoes, now);
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
