//! A relay that passes frames between two links of a namespace, each of them later than it came:
//! kernels need not have netem.

use std::collections::VecDeque;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::libc;

use crate::background::Background;
use crate::namespace::Namespace;
use crate::priority::raise_priority;

/// A frame of a link with segmentation offload, and the header that says how to segment it.
const FRAME_MAX: usize = (1 << 16) + 64;

/// Relays until it is dropped.
#[derive(Debug)]
pub struct Delay {
    _relay: Background,
}

impl Delay {
    /// Passes what comes in at either of two links out at the other, after `delay`.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn between(
        namespace: &Namespace,
        links: [&str; 2],
        delay: Duration,
    ) -> anyhow::Result<Self> {
        let sockets = namespace.run(|| Ok([open(links[0])?, open(links[1])?]))?;
        Ok(Delay { _relay: Background::start(move |stop| relay(&sockets, delay, stop)) })
    }
}

struct Late {
    due: Instant,
    frame: Vec<u8>,
}

fn relay(sockets: &[OwnedFd; 2], delay: Duration, stop: &AtomicBool) {
    raise_priority();
    // By the socket that they go out at.
    let mut queues = [VecDeque::<Late>::new(), VecDeque::new()];
    let mut buffer = vec![0_u8; FRAME_MAX];
    while !stop.load(Ordering::Relaxed) {
        wait(sockets, queues.iter().filter_map(VecDeque::front).map(|late| late.due).min());
        for (from, to) in [(0, 1), (1, 0)] {
            while let Some(length) = receive(&sockets[from], &mut buffer) {
                let due = Instant::now() + delay;
                queues[to].push_back(Late { due, frame: buffer[..length].to_vec() });
            }
            while queues[to].front().is_some_and(|late| late.due <= Instant::now()) {
                let late = queues[to].pop_front().expect("it has a front");
                send(&sockets[to], &late.frame);
            }
        }
    }
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
