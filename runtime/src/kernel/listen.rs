//! Listens for machines that claim addresses which are here: ARP and neighbour advertisements.
//!
//! ARP comes over a packet socket, which gets nothing else. Advertisements come over a socket for ICMPv6:
//! a packet socket would look at every IPv6 packet of the host. What is about no VIP the kernel drops
//! ([`filter`](super::filter)); what is left is read by a thread of its own, so that whoever floods the
//! network keeps that thread busy and nobody else.

use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, SockaddrIn6, recvfrom, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::sync::mpsc;
use turnip_core::{Conflict, Mac};

use super::conflicts::Conflicts;
use super::expected::Expected;
use super::neighbourhood::Neighbourhood;
use super::{filter, packets};

/// Conflicts that wait for the daemon.
const QUEUE_LEN: usize = 64;
/// How often the thread looks whether it shall end.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it pauses after it has read: what comes meanwhile wakes nobody.
const PAUSE: Duration = Duration::from_millis(100);
/// So many packets are read until it pauses; the kernel drops what it cannot keep.
const AT_ONCE_MAX: usize = 256;
const BUFFER_LEN: usize = 256;

/// The thread, and what it takes to start another one. It ends when this is dropped.
pub(super) struct Listener {
    thread: Mutex<Thread>,
    neighbourhood: Neighbourhood,
    expected: Expected,
    conflicts: Conflicts,
    sender: mpsc::Sender<Conflict>,
}

/// A thread that listens; it ends when this is dropped.
struct Thread(Arc<AtomicBool>);

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An address that a machine claims, and the index of the interface on which it was heard.
pub(super) type Claim = ((IpAddr, Mac), u32);

/// A socket, and how a packet of it is read.
pub(super) struct Source {
    socket: Socket,
    read: fn(&Socket) -> nix::Result<Option<Claim>>,
}

impl Listener {
    /// Starts it. Each conflict goes to `conflicts`, and now and then to who has the other end.
    ///
    /// # Errors
    /// When there is no thread to be had. Where there are no sockets, that is logged.
    pub fn start(
        neighbourhood: Neighbourhood,
        expected: Expected,
        conflicts: Conflicts,
    ) -> io::Result<(Self, mpsc::Receiver<Conflict>)> {
        let (sender, receiver) = mpsc::channel(QUEUE_LEN);
        let thread = Mutex::new(Thread(Arc::default()));
        let listener = Listener { thread, neighbourhood, expected, conflicts, sender };
        listener.start_anew()?;
        Ok((listener, receiver))
    }

    /// Listens for the addresses that are configured by now.
    ///
    /// # Errors
    /// When there is no thread to be had: then the one before goes on.
    pub fn start_anew(&self) -> io::Result<()> {
        let closed = Arc::new(AtomicBool::new(false));
        let sources = sources(&self.neighbourhood.addresses());
        if !sources.is_empty() {
            let is_closed = Arc::clone(&closed);
            let (neighbourhood, expected) = (self.neighbourhood.clone(), self.expected.clone());
            let (conflicts, sender) = (self.conflicts.clone(), self.sender.clone());
            let tell = move |((address, mac), index): Claim| {
                if let Some(conflict) = neighbourhood.conflict((address, mac), index, &expected)
                    && conflicts.heard(&conflict, Instant::now())
                {
                    // Where many wait already, the daemon knows.
                    let _ = sender.try_send(conflict);
                }
            };
            let listens = move || listen(&sources, &is_closed, tell);
            std::thread::Builder::new().name("listener".into()).spawn(listens)?;
        }
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Thread(closed);
        Ok(())
    }
}

/// The sockets for claims of these addresses; what cannot be had is logged.
pub(super) fn sources(addresses: &[IpAddr]) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut add = |what: &str, source: io::Result<Source>| match source {
        Ok(source) => sources.push(source),
        Err(error) => tracing::warn!(
            %error,
            "nobody will notice machines that claim a VIP by {what} (CAP_NET_RAW?)"
        ),
    };
    if addresses.iter().any(IpAddr::is_ipv4) {
        add("ARP", arp(&filter::arp(addresses)));
    }
    if addresses.iter().any(IpAddr::is_ipv6) {
        add("neighbour advertisements", advertisements(&filter::advertisements(addresses)));
    }
    sources
}

fn arp(filter: &[SockFilter]) -> io::Result<Source> {
    let protocol = i32::from((libc::ETH_P_ARP as u16).to_be());
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol)))?;
    socket.attach_filter(filter)?;
    socket.set_nonblocking(true)?;
    Ok(Source { socket, read: read_arp })
}

fn advertisements(filter: &[SockFilter]) -> io::Result<Source> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.attach_filter(filter)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    Ok(Source { socket, read: read_advertisement })
}

fn read_arp(socket: &Socket) -> nix::Result<Option<Claim>> {
    let mut buffer = [0; BUFFER_LEN];
    let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?;
    let index = from.and_then(|from| u32::try_from(from.ifindex()).ok());
    Ok(index.and_then(|index| {
        let (address, mac) = packets::parse_arp(&buffer[..length])?;
        Some(((address.into(), mac), index))
    }))
}

fn read_advertisement(socket: &Socket) -> nix::Result<Option<Claim>> {
    let mut buffer = [0; BUFFER_LEN];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let index = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_ifindex),
        _ => None,
    });
    let length = received.bytes;
    Ok(index.and_then(|index| {
        let (address, mac) = packets::parse_advertisement(buffer.get(..length)?)?;
        Some(((address.into(), mac), index))
    }))
}

fn listen(sources: &[Source], closed: &AtomicBool, mut tell: impl FnMut(Claim)) {
    while !closed.load(Ordering::Relaxed) {
        if wait(sources, LOOK_EVERY) {
            read_all(sources, &mut tell);
            std::thread::sleep(PAUSE);
        }
    }
}

/// Waits until there is something to read, or for so long; whether there is.
pub(super) fn wait(sources: &[Source], timeout: Duration) -> bool {
    let sockets = sources.iter().map(|source| source.socket.as_fd());
    let mut comes: Vec<_> = sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    match poll(&mut comes, timeout) {
        Ok(count) => count > 0,
        Err(_) => {
            std::thread::sleep(PAUSE);
            false
        }
    }
}

/// Reads what is there, or a good part of it.
pub(super) fn read_all(sources: &[Source], tell: &mut impl FnMut(Claim)) {
    for source in sources {
        for _ in 0..AT_ONCE_MAX {
            match (source.read)(&source.socket) {
                Ok(claim) => claim.into_iter().for_each(&mut *tell),
                // A link that went down is told to packet sockets as an error, once.
                Err(Errno::ENETDOWN | Errno::EINTR) => {}
                Err(_) => break,
            }
        }
    }
}
