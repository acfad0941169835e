//! What the kernel tells unasked: addresses and links that change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use futures::Stream;
use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::unix::AsyncFd;
use turnip_core::KernelEvent;

use super::address::{self, LinkState, RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK};
use super::channel::for_each_message;
use super::worker::Expected;

/// Multicast groups, as the bits of an address.
const GROUPS: u32 = (1 << 0) | (1 << 4) | (1 << 8);
/// Bytes: the notifications of some thousand changes in a burst.
const SOCKET_BUFFER: usize = 8 << 20;
const READ_BUFFER: usize = 64 << 10;

/// The events of one network namespace.
pub(super) struct Events {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
    links: BTreeMap<u32, LinkState>,
    configured: BTreeSet<IpNet>,
    expected: Expected,
    waiting: VecDeque<KernelEvent>,
}

impl Events {
    /// Subscribes. Must be called within a tokio runtime.
    #[expect(deprecated, reason = "its successor is unsafe; the descriptor here is owned")]
    pub fn open(configured: BTreeSet<IpNet>, expected: Expected) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER));
        Ok(Events {
            socket: AsyncFd::new(socket)?,
            buffer: Vec::with_capacity(READ_BUFFER),
            links: BTreeMap::new(),
            configured,
            expected,
            waiting: VecDeque::new(),
        })
    }

    /// The links as they were when the subscription began: only what differs is news.
    pub fn know_links(&mut self, links: BTreeMap<u32, LinkState>) {
        self.links = links;
    }

    /// The events, one after the other, for ever.
    pub fn stream(self) -> impl Stream<Item = KernelEvent> {
        futures::stream::unfold(self, |mut events| async {
            let event = events.next().await?;
            Some((event, events))
        })
    }

    async fn next(&mut self) -> Option<KernelEvent> {
        loop {
            // All that is there is read first, so that many changes become one hint.
            let empty = self.drain();
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if let Err(error) = empty {
                tracing::error!(%error, "the kernel's events can no longer be read");
                return None;
            }
            match self.socket.readable().await {
                Ok(mut ready) => {
                    // Cleared before it is drained: what comes in between wakes again.
                    ready.clear_ready();
                }
                Err(_) => return None,
            }
        }
    }

    /// Reads until nothing is left.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.get_ref().recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(()),
                    Some(Errno::EINTR) => continue,
                    Some(Errno::ENOBUFS) => {
                        // What is known of links may be outdated: all that is said of them is news.
                        self.links.clear();
                        self.push(KernelEvent::Lost);
                        continue;
                    }
                    _ => return Err(error),
                },
            }
            let bytes = std::mem::take(&mut self.buffer);
            let read = for_each_message(&bytes, &mut |message| {
                self.notice(message.message_type(), message.payload());
                Ok(())
            });
            self.buffer = bytes;
            if read.is_err() {
                self.push(KernelEvent::Lost);
            }
        }
    }

    fn push(&mut self, event: KernelEvent) {
        let repeats = matches!(event, KernelEvent::AddressChanged | KernelEvent::Lost);
        if !(repeats && self.waiting.contains(&event)) {
            self.waiting.push_back(event);
        }
    }

    fn notice(&mut self, kind: u16, payload: &[u8]) {
        // Bridges speak of their ports, joining and leaving, as of links of a family.
        let of_a_port = payload.first().is_some_and(|family| *family != 0);
        match kind {
            RTM_NEWLINK | RTM_DELLINK if of_a_port => {}
            RTM_NEWADDR | RTM_DELADDR => {
                let Some((slot, marked)) = address::parse(payload) else { return };
                if !marked && !self.configured.contains(&slot.address) {
                    return;
                }
                // turnip's own doing is known beforehand, and so no news.
                let news = match kind {
                    RTM_NEWADDR => !self.expected.contains(slot),
                    _ => self.expected.remove(slot),
                };
                if news {
                    self.push(KernelEvent::AddressChanged);
                }
            }
            RTM_NEWLINK => {
                let Some(state) = address::parse_link(payload) else { return };
                let before = self.links.insert(state.index, state.clone());
                if before.as_ref() == Some(&state) {
                    return;
                }
                if let Some(before) = before
                    && before.link.name != state.link.name
                {
                    self.push(KernelEvent::LinkGone(before.link.name));
                }
                self.push(KernelEvent::LinkChanged(state.link));
            }
            RTM_DELLINK => {
                let Some(state) = address::parse_link(payload) else { return };
                self.links.remove(&state.index);
                self.push(KernelEvent::LinkGone(state.link.name));
            }
            _ => {}
        }
    }
}
