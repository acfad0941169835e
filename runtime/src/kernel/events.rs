//! What the kernel tells unasked: addresses and links that change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{FutureExt, Stream};
use ipnet::IpNet;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::Connection;
use rtnetlink::sys::AsyncSocket;
use tokio::task::unconstrained;
use turnip_core::KernelEvent;

use super::address::{self, LinkState, Slot};
use super::route::{Unsolicited, enlarge};
use super::worker::Expected;

const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
/// Bytes: the notifications of some thousand changes in a burst.
const SOCKET_BUFFER: usize = 8 << 20;

/// The events of one network namespace, for ever: the connection is driven as they are asked for.
pub(super) struct Events {
    connection: Connection<RouteNetlinkMessage>,
    messages: Unsolicited,
    ended: bool,
    links: BTreeMap<u32, LinkState>,
    configured: BTreeSet<IpNet>,
    expected: Expected,
    waiting: VecDeque<KernelEvent>,
}

impl Events {
    /// Subscribes. Must be called within a tokio runtime.
    pub fn open(configured: BTreeSet<IpNet>, expected: Expected) -> io::Result<Self> {
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
        enlarge(connection.socket_mut().socket_ref(), SOCKET_BUFFER);
        Ok(Events {
            connection,
            messages,
            ended: false,
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

    fn push(&mut self, event: KernelEvent) {
        let repeats = matches!(event, KernelEvent::AddressChanged | KernelEvent::Lost);
        if !(repeats && self.waiting.contains(&event)) {
            self.waiting.push_back(event);
        }
    }

    fn notice(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        match message.payload {
            NetlinkPayload::Overrun(_) => {
                // What is known of links may be outdated: all that is said of them is news.
                self.links.clear();
                self.push(KernelEvent::Lost);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
                self.notice_address(&message, |expected, slot| !expected.contains(slot));
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
                self.notice_address(&message, Expected::remove);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))
                if !is_of_a_port(&message) =>
            {
                self.notice_link(&message);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                if let Some(state) = address::parse_link(&message)
                    && !is_of_a_port(&message)
                {
                    self.links.remove(&state.index);
                    self.push(KernelEvent::LinkGone(state.link.name));
                }
            }
            _ => {}
        }
    }

    /// turnip's own doing is known beforehand, and so no news.
    fn notice_address(
        &mut self,
        message: &AddressMessage,
        is_news: impl FnOnce(&Expected, Slot) -> bool,
    ) {
        let Some((slot, marked)) = address::parse(message) else { return };
        if (marked || self.configured.contains(&slot.address)) && is_news(&self.expected, slot) {
            self.push(KernelEvent::AddressChanged);
        }
    }

    fn notice_link(&mut self, message: &LinkMessage) {
        let Some(state) = address::parse_link(message) else { return };
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
}

/// Bridges speak of their ports, joining and leaving, as of links of a family.
fn is_of_a_port(message: &LinkMessage) -> bool {
    message.header.interface_family != AddressFamily::Unspec
}

impl Stream for Events {
    type Item = KernelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<KernelEvent>> {
        // All that is there is read first, so that many changes become one hint. tokio's budget may
        // not end that early: after an overrun the kernel drops what happens, without another
        // word, until the buffer is empty, and only then may `Lost` be told. Nothing is read
        // while nobody asks: it waits in the kernel's buffer, whose size is bounded.
        if !self.ended && unconstrained(&mut self.connection).poll_unpin(cx).is_ready() {
            tracing::error!("the kernel's events can no longer be read");
            self.ended = true;
        }
        while let Ok((message, _)) = self.messages.try_recv() {
            self.notice(message);
        }
        match self.waiting.pop_front() {
            None if !self.ended => Poll::Pending,
            event => Poll::Ready(event),
        }
    }
}
