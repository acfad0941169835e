//! The kernel's addresses and links, asked for and changed through rtnetlink, for a thread that
//! may block.
//!
//! rtnetlink's connection takes the end of an answer for success, also when the connection broke
//! and no answer came. Here an acknowledgement is needed: a withdrawal that was not acknowledged
//! has not taken place. So the connection is told to hand acknowledgements on, which rtnetlink
//! reports as errors without a code; and what ends without one is a failure.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;

use futures::channel::mpsc::UnboundedReceiver;
use futures::future::{Either, join_all, select};
use futures::{Stream, StreamExt};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket, Socket, SocketAddr};
use tokio::runtime::Runtime;
use turnip_core::Assignment;

use super::address::{self, Found, LinkState, Put, Slot};
use super::prefix_route::PrefixRoute;
use super::refusal::{MESSAGE_HEADER, Refusal};
use super::route_seen::{self, Seen};

/// How often a dump that changed under way is begun anew.
const DUMP_ATTEMPTS: usize = 8;
/// Bytes of an interface's own name at most (IFNAMSIZ - 1).
const OWN_NAME_MAX: usize = 15;
/// Bytes of the socket's buffer: a chunk's acknowledgements fit many times over.
const SOCKET_BUFFER: usize = 4 << 20;

/// The kernel's answer to each of some requests, in their order.
pub(super) type Answers = io::Result<Vec<Result<(), Refusal>>>;

/// What comes without being asked for; here only that answers were lost.
pub(super) type Unsolicited = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// A connection to rtnetlink, and the runtime that drives it. Its calls block: it belongs to a
/// thread that is in no other runtime.
pub(super) struct Route {
    runtime: Runtime,
    /// None when it broke; the next request makes a new one.
    connection: Option<Connection>,
}

struct Connection {
    handle: Handle,
    unsolicited: Unsolicited,
    /// Whether the kernel may say what was wrong with a request. Not before 4.12.
    explains: bool,
}

/// Runs `what` on a thread of its own: its caller may be in a runtime, which cannot be blocked on.
pub(super) fn briefly<T: Send>(
    what: impl FnOnce(&mut Route) -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| what(&mut Route::open()?));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Route {
    /// Connects to the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let connection = Some(Connection::open(&runtime)?);
        Ok(Route { runtime, connection })
    }

    /// Puts the addresses there for so many seconds, or renews those that are there.
    ///
    /// # Errors
    /// When the connection fails, as with all of these: then what became of them is unknown.
    pub fn put(&mut self, all: impl Iterator<Item = Put>, lifetime_secs: u32) -> Answers {
        self.request_all(|handle| {
            all.map(move |one| address::put(&handle, one, lifetime_secs).execute())
        })
    }

    /// Takes the addresses away.
    pub fn delete(&mut self, slots: impl Iterator<Item = Slot>) -> Answers {
        self.request_all(|handle| {
            slots.map(move |slot| handle.address().del(address::message(slot)).execute())
        })
    }

    /// Makes the subnets on-link for so many seconds, counted from now on where they are.
    pub fn put_routes(&mut self, routes: &[PrefixRoute], lifetime_secs: u32) -> Answers {
        self.request_all(|handle| {
            routes.iter().map(move |route| {
                let message = RouteNetlinkMessage::NewRoute(route.put(lifetime_secs));
                // Neither refused nor made anew where it is there: it is given the time, and the
                // answer is that it exists.
                request(handle.clone(), message, NLM_F_CREATE)
            })
        })
    }

    /// Takes away what made the subnets on-link.
    pub fn delete_routes(&mut self, routes: &[PrefixRoute]) -> Answers {
        self.request_all(|handle| {
            routes.iter().map(move |route| {
                let message = RouteNetlinkMessage::DelRoute(route.message());
                request(handle.clone(), message, 0)
            })
        })
    }

    /// Makes other requests, each with its flags.
    pub fn request(&mut self, all: Vec<(RouteNetlinkMessage, u16)>) -> Answers {
        self.request_all(|handle| {
            all.into_iter().map(move |(message, flags)| request(handle.clone(), message, flags))
        })
    }

    /// The host's rules of a family, as `parse` gives them.
    pub fn rules<T>(
        &mut self,
        family: AddressFamily,
        mut parse: impl FnMut(&RuleMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut message = RuleMessage::default();
        message.header.family = family;
        self.dump(&RouteNetlinkMessage::GetRule(message), |message| match message {
            RouteNetlinkMessage::NewRule(message) => parse(&message),
            _ => None,
        })
    }

    /// The host's routes of a family, as `parse` gives them.
    pub fn routes<T>(
        &mut self,
        family: AddressFamily,
        mut parse: impl FnMut(&RouteMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let request = RouteNetlinkMessage::GetRoute(message);
        self.dump(&request, |message| match message {
            RouteNetlinkMessage::NewRoute(message) => parse(&message),
            _ => None,
        })
    }

    /// The route that a packet to this address takes; none when that is this host's, or no host's.
    pub fn route_to(&mut self, address: IpAddr) -> io::Result<Option<Seen>> {
        let mut message = RouteMessage::default();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        message.header.destination_prefix_length = bits;
        let (family, to) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, RouteAddress::Inet6(address)),
        };
        message.header.address_family = family;
        message.attributes.push(RouteAttribute::Destination(to));
        self.exchange(async |connection| {
            let mut answers = Box::pin(connection.handle.route().get(message).execute());
            match unless_lost(&mut connection.unsolicited, answers.next()).await? {
                Some(Ok(route)) => Ok(route_seen::parse(&route)),
                Some(Err(rtnetlink::Error::NetlinkError(_))) | None => Ok(None),
                Some(Err(error)) => Err(io::Error::other(error)),
            }
        })
    }

    /// Changes settings of the interface, which the kernel knows by these numbers.
    pub fn set(&mut self, index: u32, settings: &[(u16, u32)]) -> io::Result<Result<(), Refusal>> {
        let message = address::ipv4_settings(index, settings);
        let request = |handle: Handle| std::iter::once(handle.link().set(message).execute());
        Ok(self.request_all(request)?.pop().unwrap_or(Ok(())))
    }

    /// Every address of the host; those of an interface in the order in which it has them.
    pub fn addresses(&mut self) -> io::Result<Vec<Found>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump(&request, |message| match message {
            RouteNetlinkMessage::NewAddress(message) => address::parse(&message),
            _ => None,
        })
    }

    /// Every interface by its index.
    pub fn links(&mut self) -> io::Result<BTreeMap<u32, LinkState>> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.dump(&request, |message| match message {
            RouteNetlinkMessage::NewLink(message) => address::parse_link(&message),
            _ => None,
        })?;
        Ok(links.into_iter().map(|link| (link.index, link)).collect())
    }

    /// Finds the interfaces of the addresses, each name once; none for a name that no interface has.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn resolve(&mut self, addresses: &[Assignment]) -> io::Result<Vec<Option<Slot>>> {
        let mut indices: BTreeMap<&str, Option<u32>> = BTreeMap::new();
        let mut slots = Vec::with_capacity(addresses.len());
        for one in addresses {
            let index = match indices.get(&*one.interface) {
                Some(index) => *index,
                None => {
                    let index = self.index_of(&one.interface)?;
                    indices.insert(&one.interface, index);
                    index
                }
            };
            slots.push(index.map(|index| Slot { index, address: one.address }));
        }
        Ok(slots)
    }

    /// The index of the interface that has the name, be it another one than its own.
    pub fn index_of(&mut self, name: &str) -> io::Result<Option<u32>> {
        // The call for it takes none that is longer than an interface's own name can be.
        if name.len() > OWN_NAME_MAX {
            let has_it = |state: &LinkState| state.names().any(|other| **other == *name);
            return Ok(self.links()?.into_values().find(has_it).map(|state| state.index));
        }
        match if_nametoindex(name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::ENODEV | Errno::ENXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the requests, all before the first answer, and awaits every acknowledgement.
    fn request_all<R, I>(&mut self, requests: impl FnOnce(Handle) -> I) -> Answers
    where
        I: Iterator<Item = R>,
        R: Future<Output = Result<(), rtnetlink::Error>>,
    {
        self.exchange(async |connection| {
            let requests = join_all(requests(connection.handle.clone()));
            let results = unless_lost(&mut connection.unsolicited, requests).await?;
            results.into_iter().map(|result| connection.answer(result)).collect()
        })
    }

    /// Everything of a kind, as `parse` gives it. rtnetlink's own listings do not tell when
    /// something changed under way, by which the kernel may have skipped something.
    fn dump<T>(
        &mut self,
        request: &RouteNetlinkMessage,
        mut parse: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut request = NetlinkMessage::from(request.clone());
            request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let mut found = Vec::new();
            let torn = self.exchange(async |connection| {
                let Connection { handle, unsolicited, explains } = connection;
                let answers = handle.request(request).map_err(io::Error::other)?;
                let each = |message| found.extend(parse(message));
                unless_lost(unsolicited, read_dump(answers, *explains, each)).await?
            })?;
            if !torn {
                return Ok(found);
            }
        }
        Err(io::Error::other("what was listed changed too often"))
    }

    /// Does so with a connection, which is not used again when it failed.
    fn exchange<T>(
        &mut self,
        what: impl AsyncFnOnce(&mut Connection) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.runtime)?,
        };
        let result = self.runtime.block_on(what(&mut connection))?;
        self.connection = Some(connection);
        Ok(result)
    }
}

impl Connection {
    fn open(runtime: &Runtime) -> io::Result<Self> {
        let _reactor = runtime.enter();
        let (mut connection, handle, unsolicited) = rtnetlink::new_connection()?;
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        enlarge(socket, SOCKET_BUFFER);
        // A refusal need not carry the request, but may say what was wrong with it.
        let explains = socket.set_cap_ack(true).and_then(|()| socket.set_ext_ack(true)).is_ok();
        runtime.spawn(connection);
        Ok(Connection { handle, unsolicited, explains })
    }

    /// What became of a request.
    fn answer(&self, result: Result<(), rtnetlink::Error>) -> io::Result<Result<(), Refusal>> {
        match result {
            Err(rtnetlink::Error::NetlinkError(error)) if error.code.is_none() => Ok(Ok(())),
            Err(rtnetlink::Error::NetlinkError(error)) => Ok(Err(refusal(&error, self.explains))),
            Ok(()) => Err(broken()),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Makes a request. Those of rtnetlink for routes only know to refuse or replace what is there.
async fn request(
    mut handle: Handle,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<(), rtnetlink::Error> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = pin!(handle.request(request)?);
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            return Err(rtnetlink::Error::NetlinkError(error));
        }
    }
    Ok(())
}

fn refusal(error: &ErrorMessage, explains: bool) -> Refusal {
    let attributes = error.header.get(MESSAGE_HEADER..).filter(|_| explains);
    Refusal::new(error.raw_code(), attributes.unwrap_or_default())
}

/// Gives the messages of a dump to `each`, and says whether it is torn.
async fn read_dump(
    answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>>,
    explains: bool,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<bool> {
    let (mut answers, mut torn) = (pin!(answers), false);
    while let Some(message) = answers.next().await {
        torn |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => each(inner),
            NetlinkPayload::Done(done) if done.code == 0 => return Ok(torn),
            NetlinkPayload::Done(done) => {
                return Err(Refusal::new(done.code, &done.extended_ack).into());
            }
            NetlinkPayload::Error(error) => return Err(refusal(&error, explains).into()),
            _ => {}
        }
    }
    Err(broken())
}

/// Waits for `answers`, or for word that some of them are lost, for which one would wait in vain.
async fn unless_lost<T>(
    unsolicited: &mut Unsolicited,
    answers: impl Future<Output = T>,
) -> io::Result<T> {
    let overrun = async {
        while let Some((message, _)) = unsolicited.next().await {
            if let NetlinkPayload::Overrun(_) = message.payload {
                return io::Error::from(Errno::ENOBUFS);
            }
        }
        broken()
    };
    match select(pin!(answers), pin!(overrun)).await {
        Either::Left((answers, _)) => Ok(answers),
        Either::Right((error, _)) => Err(error),
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the connection to rtnetlink ended without an answer")
}

/// Beyond the host's limits by CAP_NET_ADMIN; without it these are the limits.
pub(super) fn enlarge(socket: &Socket, bytes: usize) {
    let _ = setsockopt(socket, sockopt::RcvBufForce, &bytes)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &bytes));
}
