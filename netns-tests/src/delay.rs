//! Relays that pass frames between a switch and what is plugged into it, each of them later than it came:
//! kernels need not have netem.

use std::collections::BTreeMap;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;

use crate::background::Background;
use crate::namespace::Namespace;
use crate::priority::raise_priority;

/// A frame of a link with segmentation offload, and the header that says how to segment it.
const FRAME_MAX: usize = (1 << 16) + 64;

/// The length of that header (`virtio_net_hdr`).
const OFFLOAD_HEADER: usize = 10;

/// Where a frame's sender is written, in it.
const SENDER: std::ops::Range<usize> = 6..12;

type Mac = [u8; 6];

/// How much later what goes through a switch is delivered. Relays look at it for each frame.
#[derive(Default, Debug)]
pub struct Paths(Mutex<State>);

#[derive(Default, Debug)]
struct State {
    /// From and to a port, each way.
    ports: BTreeMap<String, Duration>,
    /// From one port to another.
    between: BTreeMap<(String, String), Duration>,
    /// At which port who is, as a switch knows it: by what was sent.
    seen_at: BTreeMap<Mac, String>,
}

impl Paths {
    /// What comes and goes at a port takes so much longer from now on.
    pub fn set_port(&self, port: &str, delay: Duration) {
        self.state().ports.insert(port.into(), delay);
    }

    /// What goes from one port to another takes so much longer from now on.
    pub fn set_between(&self, from: &str, to: &str, delay: Duration) {
        self.state().between.insert((from.into(), to.into()), delay);
    }

    /// Nothing takes longer any more.
    pub fn clear(&self) {
        let mut state = self.state();
        state.ports.clear();
        state.between.clear();
    }

    /// How much later a frame goes on that came from what is plugged into a port.
    fn behind_port(&self, port: &str, sender: Mac) -> Duration {
        let mut state = self.state();
        if state.seen_at.get(&sender).is_none_or(|seen| seen != port) {
            state.seen_at.insert(sender, port.into());
        }
        state.ports.get(port).copied().unwrap_or_default()
    }

    /// The same of one that goes there.
    fn towards_port(&self, port: &str, sender: Mac) -> Duration {
        let state = self.state();
        let own = state.ports.get(port).copied().unwrap_or_default();
        if state.between.is_empty() {
            return own;
        }
        let from = state.seen_at.get(&sender).cloned();
        let between = from.and_then(|from| state.between.get(&(from, port.into())).copied());
        own + between.unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays until it is dropped.
#[derive(Debug)]
pub struct Delay {
    _relay: Background,
}

impl Delay {
    /// Passes what comes in at either of two links out at the other, as late as `paths` says at that moment. The
    /// first link has the name of the port, and leads to what is plugged into it.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn of_port(
        namespace: &Namespace,
        links: [&str; 2],
        paths: &Arc<Paths>,
    ) -> anyhow::Result<Self> {
        let sockets = namespace.run(|| Ok([open(links[0])?, open(links[1])?]))?;
        let (port, paths) = (links[0].to_owned(), Arc::clone(paths));
        Ok(Delay { _relay: Background::start(move |stop| relay(&sockets, &port, &paths, stop)) })
    }
}

/// Frames that wait, those due first at the front. What one sender has sent stays in its order.
#[derive(Default)]
struct Queue {
    frames: BTreeMap<(Instant, u64), Vec<u8>>,
    latest: BTreeMap<Mac, Instant>,
    count: u64,
}

impl Queue {
    fn push(&mut self, frame: &[u8], sender: Mac, due: Instant) {
        let latest = self.latest.entry(sender).or_insert(due);
        *latest = due.max(*latest);
        self.count += 1;
        self.frames.insert((*latest, self.count), frame.to_vec());
    }

    fn next_due(&self) -> Option<Instant> {
        self.frames.keys().next().map(|(due, _)| *due)
    }

    fn pop_due(&mut self) -> Option<Vec<u8>> {
        let first = self.frames.first_entry().filter(|first| first.key().0 <= Instant::now())?;
        Some(first.remove())
    }
}

fn relay(sockets: &[OwnedFd; 2], port: &str, paths: &Paths, stop: &AtomicBool) {
    raise_priority();
    // By the socket that they go out at.
    let mut queues = [Queue::default(), Queue::default()];
    let mut buffer = vec![0_u8; FRAME_MAX];
    while !stop.load(Ordering::Relaxed) {
        wait(sockets, queues.iter().filter_map(Queue::next_due).min());
        for (from, to) in [(0, 1), (1, 0)] {
            while let Some(length) = receive(&sockets[from], &mut buffer) {
                let frame = &buffer[..length];
                let sender = sender_of(frame);
                let delay = match from {
                    0 => paths.behind_port(port, sender),
                    _ => paths.towards_port(port, sender),
                };
                queues[to].push(frame, sender, Instant::now() + delay);
            }
            while let Some(frame) = queues[to].pop_due() {
                send(&sockets[to], &frame);
            }
        }
    }
}

/// Who sent a frame, behind the header that says how to segment it.
fn sender_of(frame: &[u8]) -> Mac {
    let sender = frame.get(OFFLOAD_HEADER..).and_then(|frame| frame.get(SENDER));
    sender.and_then(|sender| sender.try_into().ok()).unwrap_or_default()
}

/// A socket for all frames of a link that come in, with their offload headers: without these, what a
/// virtual link leaves for hardware to do, checksums above all, would never be done.
fn open(link: &str) -> anyhow::Result<OwnedFd> {
    let index = nix::net::if_::if_nametoindex(link)?;
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: system calls with pointers to values that outlive them, and these values' sizes; the
    // descriptor is new and nobody else's.
    unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_PACKET, kind, i32::from(protocol));
        if fd < 0 {
            return Err(Error::last_os_error().into());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        for option in [libc::PACKET_VNET_HDR, libc::PACKET_IGNORE_OUTGOING] {
            let on: libc::c_int = 1;
            let length = size_of_val(&on) as libc::socklen_t;
            if libc::setsockopt(fd, libc::SOL_PACKET, option, (&raw const on).cast(), length) != 0 {
                return Err(Error::last_os_error().into());
            }
        }
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(index)?;
        let length = size_of_val(&address) as libc::socklen_t;
        if libc::bind(fd, (&raw const address).cast(), length) != 0 {
            return Err(Error::last_os_error().into());
        }
        Ok(socket)
    }
}

fn wait(sockets: &[OwnedFd; 2], due: Option<Instant>) {
    let patience = due.map_or(Duration::from_millis(50), |due| {
        due.saturating_duration_since(Instant::now()).min(Duration::from_millis(50))
    });
    let patience = libc::timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
    let mut polled = [0, 1].map(|socket| libc::pollfd {
        fd: sockets[socket].as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: two descriptors are in the array, and a null signal mask changes none.
    unsafe {
        libc::ppoll(polled.as_mut_ptr(), 2, &raw const patience, std::ptr::null());
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    nix::unistd::read(socket, buffer).ok().filter(|&length| length > 0)
}

/// What cannot be sent is lost, as on a full link.
fn send(socket: &OwnedFd, frame: &[u8]) {
    let _: Result<usize> = nix::unistd::write(socket, frame).map_err(Error::from);
}
