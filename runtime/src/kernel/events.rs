//! What the kernel tells unasked: addresses and links that change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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
use super::expected::Expected;
use super::liveness::Liveness;
use super::neighbourhood::Neighbourhood;
use super::route::{Unsolicited, enlarge};

const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
/// Bytes: the notifications of some thousand changes in a burst.
const SOCKET_BUFFER: usize = 8 << 20;
/// A connection that broke sooner than this was not worth making.
const BROKEN_AGAIN: Duration = Duration::from_secs(1);

/// The events of one network namespace, for ever: the connection is driven as they are asked for.
pub(super) struct Events {
    connection: Connection<RouteNetlinkMessage>,
    messages: Unsolicited,
    opened: Instant,
    ended: bool,
    liveness: Liveness,
    neighbourhood: Neighbourhood,
    links: BTreeMap<u32, LinkState>,
    configured: BTreeSet<IpNet>,
    expected: Expected,
    waiting: VecDeque<KernelEvent>,
}

impl Events {
    /// Subscribes. Must be called within a tokio runtime.
    pub fn open(
        configured: BTreeSet<IpNet>,
        expected: Expected,
        liveness: Liveness,
        neighbourhood: Neighbourhood,
    ) -> io::Result<Self> {
        let (connection, messages) = subscribe()?;
        Ok(Events {
            connection,
            messages,
            opened: Instant::now(),
            ended: false,
            liveness,
            neighbourhood,
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

    /// Subscribes anew when the connection broke. What happened meanwhile is lost. When that is
    /// no remedy, it is the end: a link that goes down must not go unnoticed.
    fn reopen(&mut self) {
        const END: &str = "the kernel's events can no longer be read";
        match subscribe() {
            Ok((connection, messages)) if self.opened.elapsed() > BROKEN_AGAIN => {
                tracing::warn!("the connection that brings the kernel's events broke: a new one");
                (self.connection, self.messages) = (connection, messages);
                self.opened = Instant::now();
                self.lose();
            }
            Ok(_) => self.end(END),
            Err(error) => self.end(&format!("{END}: {error}")),
        }
    }

    fn end(&mut self, why: &str) {
        self.ended = true;
        self.liveness.end(why);
    }

    fn lose(&mut self) {
        // What is known of links may be outdated: all that is said of them is news.
        self.links.clear();
        self.neighbourhood.tell();
        self.push(KernelEvent::Lost);
    }

    fn push(&mut self, event: KernelEvent) {
        let repeats = matches!(
            event,
            KernelEvent::AddressChanged | KernelEvent::AnnounceAnew(_) | KernelEvent::Lost
        );
        if !(repeats && self.waiting.contains(&event)) {
            self.waiting.push_back(event);
        }
    }

    fn notice(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        match message.payload {
            NetlinkPayload::Overrun(_) => self.lose(),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => {
                self.notice_address(&message, |expected, slot| !expected.contains(slot));
                self.notice_subnet(&message, true);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
                self.notice_address(&message, Expected::remove);
                self.notice_subnet(&message, false);
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
                    self.neighbourhood.tell();
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

    /// Where VIPs are announced that are on an interface on which nobody resolves addresses follows from
    /// the host's own addresses on others.
    fn notice_subnet(&mut self, message: &AddressMessage, is_there: bool) {
        let Some((slot, marked)) = address::parse(message) else { return };
        if marked || self.configured.contains(&slot.address) {
            return;
        }
        self.neighbourhood.tell();
        let Some(LinkState { link, resolves: true, .. }) = self.links.get(&slot.index) else {
            return;
        };
        if !is_there {
            return self.neighbourhood.subnet_gone(slot.address, &link.name);
        }
        let resolves = |name: &str| {
            let mut links = self.links.values();
            links.find(|state| *state.link.name == *name).is_none_or(|state| state.resolves)
        };
        for interface in self.neighbourhood.newly_in(slot.address, &link.name, resolves) {
            self.push(KernelEvent::AnnounceAnew(interface));
        }
    }

    fn notice_link(&mut self, message: &LinkMessage) {
        let Some(mut state) = address::parse_link(message) else { return };
        self.neighbourhood.tell();
        if state.hardware.is_empty()
            && let Some(before) = self.links.get(&state.index)
        {
            // Not every message says all.
            state.hardware.clone_from(&before.hardware);
        }
        let before = self.links.insert(state.index, state.clone());
        let LinkState { link, hardware, .. } = state;
        let mut may_be_unknown = address::wants_to_be_announced(message);
        if let Some(before) = &before {
            may_be_unknown |= before.hardware != hardware;
            // VIPs of its own are announced when they are told of it.
            if may_be_unknown || (link.up && !before.link.up) {
                for interface in self.neighbourhood.announced_on(&link.name) {
                    self.push(KernelEvent::AnnounceAnew(interface));
                }
            }
        }
        if before.as_ref().is_none_or(|before| before.link != link) {
            if let Some(before) = before
                && before.link.name != link.name
            {
                self.push(KernelEvent::LinkGone(before.link.name));
            }
            self.push(KernelEvent::LinkChanged(link.clone()));
        }
        if may_be_unknown {
            self.push(KernelEvent::AnnounceAnew(link.name));
        }
    }
}

fn subscribe() -> io::Result<(Connection<RouteNetlinkMessage>, Unsolicited)> {
    let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
    enlarge(connection.socket_mut().socket_ref(), SOCKET_BUFFER);
    Ok((connection, messages))
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
        while !self.ended && unconstrained(&mut self.connection).poll_unpin(cx).is_ready() {
            self.reopen();
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

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_that_breaks_is_made_anew_once_and_what_was_lost_is_told() {
        let liveness = Liveness::default();
        let news = Neighbourhood::default();
        let open =
            Events::open(BTreeSet::new(), Expected::default(), liveness.clone(), news.clone());
        let mut events = open.unwrap();
        let before = news.count();
        events.opened = Instant::now().checked_sub(BROKEN_AGAIN * 2).unwrap();
        events.reopen();
        assert_eq!(events.next().await, Some(KernelEvent::Lost));
        assert_ne!(news.count(), before);
        events.reopen();
        assert_eq!(events.next().await, None);
        let why = liveness.failure(Duration::from_secs(1)).await;
        assert!(why.contains("events"), "{why}");
    }
}
