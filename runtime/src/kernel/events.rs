//! What the kernel tells unasked: addresses and links that change.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
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
use turnip_core::{KernelEvent, Link};

use super::address::{self, Found, LinkState, Slot};
use super::configured::{Configured, OwnNames};
use super::expected::Expected;
use super::liveness::Liveness;
use super::neighbourhood::Neighbourhood;
use super::route::{Unsolicited, enlarge};
use super::surroundings::AddressNews;

const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
/// Bytes: the notifications of some thousand changes in a burst.
const SOCKET_BUFFER: usize = 8 << 20;
/// A connection that broke sooner than this was not worth making.
const BROKEN_AGAIN: Duration = Duration::from_secs(1);

/// What is shared with others: what they should know, and what they expect.
pub(super) struct Followed {
    pub expected: Expected,
    pub liveness: Liveness,
    pub neighbourhood: Neighbourhood,
    pub address_news: AddressNews,
    pub own_names: OwnNames,
}

/// The events of one network namespace, for ever: the connection is driven as they are asked for.
pub(super) struct Events {
    connection: Connection<RouteNetlinkMessage>,
    messages: Unsolicited,
    opened: Instant,
    ended: bool,
    followed: Followed,
    links: BTreeMap<u32, LinkState>,
    configured: Arc<Configured>,
    /// Of the host's own addresses beside VIPs, those that were told of.
    own: HashSet<Slot>,
    waiting: VecDeque<KernelEvent>,
}

impl Events {
    /// Subscribes. Must be called within a tokio runtime.
    pub fn open(configured: Arc<Configured>, followed: Followed) -> io::Result<Self> {
        let (connection, messages) = subscribe()?;
        Ok(Events {
            connection,
            messages,
            opened: Instant::now(),
            ended: false,
            followed,
            links: BTreeMap::new(),
            configured,
            own: HashSet::new(),
            waiting: VecDeque::new(),
        })
    }

    /// The links as they were when the subscription began: only what differs is news.
    pub fn know_links(&mut self, links: BTreeMap<u32, LinkState>) {
        self.links = links;
        for state in self.links.values() {
            self.followed.own_names.learn(state);
        }
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
        self.followed.liveness.end(why);
    }

    fn lose(&mut self) {
        // What is known of links may be outdated: all that is said of them is news.
        self.links.clear();
        self.own.clear();
        self.followed.neighbourhood.tell();
        self.followed.address_news.tell();
        self.followed.expected.lose();
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
                self.notice_address(&message, true);
                self.notice_subnet(&message, true);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => {
                self.notice_address(&message, false);
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
                    self.followed.neighbourhood.tell();
                    let mut gone = self.configured.links(&state);
                    let known = self.links.remove(&state.index);
                    gone.extend(known.iter().flat_map(|known| self.configured.links(known)));
                    self.tell_links(gone, &[]);
                }
            }
            _ => {}
        }
    }

    /// An address has come, or changed, or has gone. turnip's own doing is known beforehand, and so no
    /// news.
    fn notice_address(&mut self, message: &AddressMessage, is_there: bool) {
        let Some(Found { slot, marked, .. }) = address::parse(message) else { return };
        let expected = &self.followed.expected;
        let is_news = if !marked && !self.configured.has(slot.address.addr()) {
            self.notice_own(slot, is_there)
        } else if is_there {
            !expected.contains(slot)
        } else {
            expected.gone(slot)
        };
        if is_news {
            self.push(KernelEvent::AddressChanged);
        }
    }

    /// One of the host's own has come, or gone. Whoever puts VIPs there must look at what is beside
    /// them; and it is news where it has the subnet of one.
    fn notice_own(&mut self, slot: Slot, is_there: bool) -> bool {
        let Some(state) = self.links.get(&slot.index) else {
            // It may be beside anything.
            self.followed.address_news.tell();
            return true;
        };
        let (own, is_v4) = (slot.address, slot.address.addr().is_ipv4());
        let mut vips = self.configured.vips_on(state).filter(|vip| vip.addr().is_ipv4() == is_v4);
        let Some(first) = vips.next() else { return false };
        // That something of it changed, as a lifetime with each router advertisement, does not matter.
        let is_news = if is_there { self.own.insert(slot) } else { true };
        if !is_news {
            return false;
        }
        if !is_there {
            self.own.remove(&slot);
        }
        self.followed.address_news.tell();
        let has_its_subnet = |vip: IpNet| vip.contains(&own.addr()) || own.contains(&vip.addr());
        has_its_subnet(first) || vips.any(has_its_subnet)
    }

    /// Where VIPs are announced that are on an interface on which nobody resolves addresses follows from
    /// the host's own addresses on others.
    fn notice_subnet(&mut self, message: &AddressMessage, is_there: bool) {
        let Some(Found { slot, marked, .. }) = address::parse(message) else { return };
        if marked || self.configured.has(slot.address.addr()) {
            return;
        }
        self.followed.neighbourhood.tell();
        let Some(LinkState { name, resolves: true, .. }) = self.links.get(&slot.index) else {
            return;
        };
        if !is_there {
            return self.followed.neighbourhood.subnet_gone(slot.address, name);
        }
        let resolves = |wanted: &str| {
            let is_it = |state: &&LinkState| state.names().any(|name| **name == *wanted);
            self.links.values().find(is_it).is_none_or(|state| state.resolves)
        };
        for interface in self.followed.neighbourhood.newly_in(slot.address, name, resolves) {
            self.push(KernelEvent::AnnounceAnew(interface));
        }
    }

    fn notice_link(&mut self, message: &LinkMessage) {
        let Some(mut state) = address::parse_link(message) else { return };
        self.followed.neighbourhood.tell();
        if state.hardware.is_empty()
            && let Some(before) = self.links.get(&state.index)
        {
            // Not every message says all.
            state.hardware.clone_from(&before.hardware);
        }
        self.followed.own_names.learn(&state);
        let after = self.configured.links(&state);
        let before = self.links.insert(state.index, state.clone());
        let mut may_be_unknown = address::wants_to_be_announced(message);
        if let Some(before) = &before {
            may_be_unknown |= before.hardware != state.hardware;
            let came_up = (state.up && state.carrier) && !(before.up && before.carrier);
            // VIPs of its own are announced when they are told of it.
            if may_be_unknown || came_up {
                for interface in self.followed.neighbourhood.announced_on(&state.name) {
                    self.push(KernelEvent::AnnounceAnew(interface));
                }
            }
        }
        let before = before.map(|before| self.configured.links(&before));
        self.tell_links(before.unwrap_or_default(), &after);
        if may_be_unknown {
            for link in after {
                self.push(KernelEvent::AnnounceAnew(link.name));
            }
        }
    }

    /// Tells of the names that an interface has no more, and of those by which it is another one
    /// than before.
    fn tell_links(&mut self, before: Vec<Link>, after: &[Link]) {
        let changed = after.iter().filter(|link| !before.contains(link)).cloned();
        let changed: Vec<Link> = changed.collect();
        let is_gone = |name: &Arc<str>| !after.iter().any(|link| link.name == *name);
        let gone: BTreeSet<Arc<str>> =
            before.into_iter().map(|link| link.name).filter(is_gone).collect();
        for name in gone {
            self.push(KernelEvent::LinkGone(name));
        }
        for link in changed {
            self.push(KernelEvent::LinkChanged(link));
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
    use turnip_core::Assignment;

    use super::*;

    fn events(
        configured: &[Assignment],
        liveness: Liveness,
        neighbourhood: Neighbourhood,
    ) -> Events {
        let followed = Followed {
            expected: Expected::default(),
            liveness,
            neighbourhood,
            address_news: AddressNews::default(),
            own_names: OwnNames::default(),
        };
        Events::open(Arc::new(Configured::new(configured)), followed).unwrap()
    }

    fn state(name: &str, other_names: &[&str], carrier: bool) -> LinkState {
        LinkState {
            other_names: other_names.iter().map(|name| Arc::from(*name)).collect(),
            carrier,
            ..LinkState::example(7, name)
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_renamed_interface_is_gone_by_its_old_name_and_stays_by_a_configured_other_one() {
        let vip = Assignment {
            vip: "v".parse().unwrap(),
            interface: "uplink".into(),
            address: "10.0.0.50/32".parse().unwrap(),
        };
        let mut events = events(&[vip], Liveness::default(), Neighbourhood::default());
        let mut told = |before: Option<LinkState>, after: &LinkState| {
            let links = |state: &LinkState| events.configured.links(state);
            let (before, after) = (before.as_ref().map(links).unwrap_or_default(), links(after));
            events.tell_links(before, &after);
            std::mem::take(&mut events.waiting)
        };
        let changed = |name: &str, carrier| {
            KernelEvent::LinkChanged(Link { name: name.into(), up: true, carrier })
        };
        let (old, new) = (state("eth0", &["uplink"], true), state("eth9", &["uplink"], true));
        assert_eq!(told(None, &old), [changed("eth0", true), changed("uplink", true)]);
        let renamed = [KernelEvent::LinkGone("eth0".into()), changed("eth9", true)];
        assert_eq!(told(Some(old.clone()), &new), renamed);
        let lost = state("eth9", &["uplink"], false);
        let both = [changed("eth9", false), changed("uplink", false)];
        assert_eq!(told(Some(new.clone()), &lost), both);
        assert!(told(Some(new.clone()), &new).is_empty());
        let gone = [KernelEvent::LinkGone("uplink".into())];
        assert_eq!(told(Some(new), &state("eth9", &[], true)), gone);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_that_breaks_is_made_anew_once_and_what_was_lost_is_told() {
        let liveness = Liveness::default();
        let news = Neighbourhood::default();
        let mut events = events(&[], liveness.clone(), news.clone());
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
