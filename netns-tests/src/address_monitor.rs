//! Monitors the addresses of all hosts of a lab: one netlink socket receives the kernel's address
//! events of all namespaces, in the order in which the kernel made them. The socket is in a namespace
//! of its own, which has an id for each of the others.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::libc;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::address_event::{AddressEvent, holders};
use crate::background::Background;
use crate::lab::Lab;
use crate::links::address_of;
use crate::namespace::Namespace;
use crate::priority::raise_priority;

const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RECEIVE_BUFFER_BYTES: libc::c_int = 64 << 20;

#[derive(Debug, Default)]
struct Seen {
    hosts: BTreeMap<i32, Arc<str>>,
    events: Vec<AddressEvent>,
    /// Why events may be missing.
    lost: Option<String>,
}

/// Receives address events until it is dropped.
#[derive(Debug)]
pub struct AddressMonitor {
    // Ends before the namespace that it is in.
    observer: Background,
    namespace: Arc<Namespace>,
    seen: Arc<Mutex<Seen>>,
}

impl AddressMonitor {
    /// Opens the socket; no namespace is watched yet.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(lab: &Lab) -> Result<Self> {
        let namespace = lab.namespace("address-monitor")?;
        let socket = namespace.run(listen)?;
        let seen = Arc::<Mutex<Seen>>::default();
        let observer = Background::start({
            let seen = Arc::clone(&seen);
            move |stop| observe(&socket, &seen, stop)
        });
        Ok(AddressMonitor { observer, namespace, seen })
    }

    /// Watches a namespace from now on, as `host`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch(&self, namespace: &Namespace, host: &str) -> Result<()> {
        let id = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let id = i32::try_from(seen.hosts.len())?;
            seen.hosts.insert(id, host.into());
            id
        };
        self.namespace.netlink(|netlink| async move {
            Ok(netlink.link().assign_netns_id(namespace.name(), id).execute().await?)
        })
    }

    /// What happened to `address` so far.
    ///
    /// # Errors
    /// When events were lost or not understood, or the observer has ended, so that nothing can be
    /// said.
    pub fn events(&self, address: IpAddr) -> Result<Vec<AddressEvent>> {
        self.select(|event| event.address == address)
    }

    /// What happened to each address so far.
    ///
    /// # Errors
    /// When events were lost or not understood, or the observer has ended, so that nothing can be
    /// said.
    pub fn events_by_address(&self) -> Result<BTreeMap<IpAddr, Vec<AddressEvent>>> {
        let mut by_address = BTreeMap::<_, Vec<_>>::new();
        for event in self.select(|_| true)? {
            by_address.entry(event.address).or_default().push(event);
        }
        Ok(by_address)
    }

    fn select(&self, wanted: impl Fn(&AddressEvent) -> bool) -> Result<Vec<AddressEvent>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = &seen.lost {
            bail!("{lost}: nothing can be said about overlap");
        }
        if self.observer.has_ended() {
            bail!("the observer of address events has ended: nothing can be said about overlap");
        }
        Ok(seen.events.iter().filter(|event| wanted(event)).cloned().collect())
    }

    /// The hosts that have `address` now, or had it at `at`.
    ///
    /// # Errors
    /// When events were lost.
    pub fn holders(&self, address: IpAddr, at: Instant) -> Result<Vec<String>> {
        let events = self.select(|event| event.address == address && event.at <= at)?;
        Ok(holders(&events).into_iter().map(str::to_owned).collect())
    }
}

fn listen() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_listen_all_namespaces(true)?;
    set_option(socket.as_raw_fd(), libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER_BYTES)?;
    let patience = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
    set_option(socket.as_raw_fd(), libc::SO_RCVTIMEO, &patience)?;
    for group in [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR] {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

fn set_option<T>(fd: RawFd, option: libc::c_int, value: &T) -> Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the pointer and the length are those of `value`.
    let done = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), length)
    };
    if done != 0 {
        return Err(std::io::Error::last_os_error()).context("socket option");
    }
    Ok(())
}

fn observe(socket: &Socket, seen: &Mutex<Seen>, stop: &AtomicBool) {
    raise_priority();
    let mut buffer = vec![0_u8; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let received = receive(socket.as_raw_fd(), &mut buffer);
        let at = Instant::now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match received {
            Ok((length, Some(namespace))) => {
                if let Some(host) = seen.hosts.get(&namespace).cloned()
                    && let Err(error) = take(&buffer[..length], at, &host, &mut seen.events)
                {
                    seen.lost = Some(format!("{error:#}"));
                }
            }
            // Of the observer's own namespace.
            Ok((_, None)) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => {}
                Some(libc::ENOBUFS) => {
                    seen.lost = Some("the kernel dropped address events".to_owned());
                }
                _ => {
                    seen.lost = Some(format!("address events cannot be received: {error}"));
                    return;
                }
            },
        }
    }
}

/// One datagram, and the id of the namespace that it is from.
fn receive(fd: RawFd, buffer: &mut [u8]) -> std::io::Result<(usize, Option<i32>)> {
    let mut control = [0_u64; 16];
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an msghdr of zeros is valid; its pointers are to memory that outlives the call, with
    // that memory's lengths; the control messages are walked by libc's own macros.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        let length = libc::recvmsg(fd, &raw mut message, 0);
        if length < 0 {
            return Err(std::io::Error::last_os_error());
        }
        if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(std::io::Error::other("a datagram is longer than the buffer"));
        }
        let mut namespace = None;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_NETLINK
                && (*header).cmsg_type == libc::NETLINK_LISTEN_ALL_NSID
            {
                namespace = Some(libc::CMSG_DATA(header).cast::<i32>().read_unaligned());
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Ok((length.cast_unsigned(), namespace))
    }
}

/// Takes the events of one datagram. What follows a message that is not understood is lost too.
fn take(
    mut bytes: &[u8],
    at: Instant,
    host: &Arc<str>,
    events: &mut Vec<AddressEvent>,
) -> Result<()> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .with_context(|| format!("an address event of {host} is not understood"))?;
        let changed = match &message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(m)) => Some((m, true)),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(m)) => Some((m, false)),
            NetlinkPayload::Overrun(_) => bail!("the kernel dropped address events of {host}"),
            _ => None,
        };
        if let Some((message, present)) = changed {
            let address = address_of(message)
                .with_context(|| format!("an address event of {host} names no address"))?;
            events.push(AddressEvent { at, host: Arc::clone(host), address, present });
        }
        let length = (message.header.length as usize).next_multiple_of(4);
        bytes = bytes.get(length.max(1)..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME_ADDRESS: [u8; 4] = [192, 0, 2, 1];

    /// As the kernel sends it: a header of 16 bytes, one of 8, and an attribute of 8.
    fn new_address() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(32_u32.to_ne_bytes());
        bytes.extend(libc::RTM_NEWADDR.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([2, 32, 0, 0, 1, 0, 0, 0]);
        bytes.extend([8, 0, 2, 0]);
        bytes.extend(SOME_ADDRESS);
        bytes
    }

    fn taken(bytes: &[u8]) -> (usize, Result<()>) {
        let mut events = Vec::new();
        let result = take(bytes, Instant::now(), &"a".into(), &mut events);
        (events.len(), result)
    }

    #[test]
    fn every_event_of_a_datagram_is_taken() {
        let (count, result) = taken(&[new_address(), new_address()].concat());
        assert_eq!(count, 2);
        assert!(result.is_ok(), "{result:?}");
    }

    #[test]
    fn an_event_that_is_not_understood_is_not_passed_over() {
        let mut broken = new_address();
        broken[24] = 200;
        assert!(taken(&[broken, new_address()].concat()).1.is_err());
        assert!(taken(&[new_address(), vec![1, 2, 3]].concat()).1.is_err());
        let mut nameless = new_address()[..24].to_vec();
        nameless[0] = 24;
        assert!(taken(&nameless).1.is_err());
    }
}
