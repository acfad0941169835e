//! Ends connections through addresses that have left this host (rule 7.10), by the kernel's sock_diag.
//!
//! A TCP connection is aborted: its process gets ECONNABORTED from the next call, and what the kernel
//! would tell the peer is dropped by the fence. Sockets that listen stay, for they may wait for the
//! address to come back. A UDP socket that is connected gets the same error.
//!
//! Nothing waits for it, and it has a thread of its own: with very many sockets the kernel takes a
//! while to list them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;

use super::channel::{for_each_message, parse_answer};
use super::refusal::{MESSAGE_HEADER, Refusal};

/// How long the end of the process waits for what is under way.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of one read; the kernel never sends more at once.
const READ_BUFFER: usize = 64 << 10;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
/// States by their bits: all of TCP's but TIME_WAIT, CLOSE and LISTEN.
const TCP_STATES: u32 = 0x1ffe & !(1 << 6 | 1 << 7 | 1 << 10);
/// Connected.
const UDP_STATES: u32 = 1 << 1;
/// Where a socket's identity is in what the kernel says of it: four bytes come first.
const IDENTITY: std::ops::Range<usize> = 4..52;

/// Families and protocols whose sockets are looked at, with the states that count.
const KINDS: [(u8, u8, u32); 4] = [
    (AF_INET, IPPROTO_TCP, TCP_STATES),
    (AF_INET6, IPPROTO_TCP, TCP_STATES),
    (AF_INET, IPPROTO_UDP, UDP_STATES),
    (AF_INET6, IPPROTO_UDP, UDP_STATES),
];

/// The thread that ends connections.
pub(super) struct Connections {
    /// Dropped to let the thread end.
    requests: Option<mpsc::Sender<Vec<IpAddr>>>,
    ended: mpsc::Receiver<()>,
}

impl Connections {
    /// Starts the thread, in the network namespace of the calling one.
    pub fn start() -> io::Result<Self> {
        let (requests, asked) = mpsc::channel::<Vec<IpAddr>>();
        let (ending, ended) = mpsc::sync_channel(1);
        std::thread::Builder::new().name("connections".into()).spawn(move || {
            let mut thread = Ending::default();
            for addresses in asked {
                thread.end(&addresses);
            }
            let _ = ending.send(());
        })?;
        Ok(Connections { requests: Some(requests), ended })
    }

    /// Ends the connections through the addresses, but for those that are on an interface.
    pub fn end(&self, addresses: Vec<IpAddr>) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(addresses);
        }
    }
}

impl Drop for Connections {
    /// The last VIPs of an orderly stop have left just before.
    fn drop(&mut self) {
        self.requests = None;
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

/// A socket as the kernel names it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    family: u8,
    protocol: u8,
    /// Ports, addresses, interface, and a number that no other socket has.
    identity: [u8; 48],
}

impl Found {
    /// Reads what the kernel says of a socket.
    fn parse(protocol: u8, payload: &[u8]) -> Option<Self> {
        let identity = payload.get(IDENTITY)?.try_into().ok()?;
        Some(Found { family: *payload.first()?, protocol, identity })
    }

    /// The address on this host. A socket for both families has IPv4's within IPv6's.
    fn address(&self) -> IpAddr {
        let bytes: [u8; 16] = self.identity[4..20].try_into().expect("16 bytes");
        match self.family {
            AF_INET => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
            _ => IpAddr::from(Ipv6Addr::from(bytes)).to_canonical(),
        }
    }

    /// The request to destroy it.
    fn destroy(&self) -> Vec<u8> {
        request(self.family, self.protocol, u32::MAX, &self.identity)
    }
}

/// The body of a request: `struct inet_diag_req_v2`.
fn request(family: u8, protocol: u8, states: u32, identity: &[u8; 48]) -> Vec<u8> {
    let mut bytes = vec![family, protocol, 0, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend(identity);
    bytes
}

/// What the thread does.
#[derive(Default)]
struct Ending {
    /// It was said that this kernel ends no connections.
    complained: bool,
}

impl Ending {
    fn end(&mut self, addresses: &[IpAddr]) {
        match self.try_end(addresses) {
            Ok(0) => {}
            Ok(ended) => {
                tracing::info!("ended {ended} connections through addresses that have left");
            }
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Ends what can be ended; says how many that was.
    fn try_end(&mut self, addresses: &[IpAddr]) -> io::Result<usize> {
        // Seldom needed, and its buffer is large: it is not kept.
        let mut channel = Channel::open()?;
        let wanted: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        let mut found = Vec::new();
        for (family, protocol, states) in KINDS {
            // There may be very many: only what is looked for is kept.
            let each = |socket: Found| {
                if wanted.contains(&socket.address()) {
                    found.push(socket);
                }
            };
            // A kernel may not list the sockets of a protocol.
            if let Err(refusal) = channel.list(family, protocol, states, each)? {
                tracing::debug!(family, protocol, %refusal, "sockets are not listed");
            }
        }
        if found.is_empty() {
            return Ok(0);
        }
        // Only now: what was listed, and has no address by this time, is not of a VIP that came back.
        let present = present()?;
        found.retain(|socket| !present.contains(&socket.address()));
        let mut ended = 0;
        for socket in found {
            match channel.destroy(&socket)? {
                Ok(()) => ended += 1,
                // It has ended by itself.
                Err(refusal) if refusal.errno == Errno::ENOENT as i32 => {}
                Err(refusal) => self.complain(&refusal.to_string()),
            }
        }
        Ok(ended)
    }

    fn complain(&mut self, why: &str) {
        if std::mem::replace(&mut self.complained, true) {
            tracing::debug!("connections are not ended: {why}");
        } else {
            tracing::warn!(
                "connections through addresses that have left are not ended, and go on when these come back: {why}; that takes CAP_NET_ADMIN, and a kernel with CONFIG_INET_DIAG_DESTROY. keep_connections = true in a [[vip]] leaves them on purpose"
            );
        }
    }
}

/// The addresses of this host.
fn present() -> io::Result<BTreeSet<IpAddr>> {
    let ip = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    Ok(getifaddrs()?.filter_map(|interface| interface.address.and_then(ip)).collect())
}

/// Asks the kernel, which answers within the call that asks.
struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Channel { socket, sequence: 0, buffer: Vec::with_capacity(READ_BUFFER) })
    }

    /// Gives the sockets of a family and a protocol that are in these states to `each`.
    fn list(
        &mut self,
        family: u8,
        protocol: u8,
        states: u32,
        mut each: impl FnMut(Found),
    ) -> io::Result<Result<(), Refusal>> {
        let body = request(family, protocol, states, &[0; 48]);
        self.exchange(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &body, |message| {
            if let Some(socket) = Found::parse(protocol, message.payload()) {
                each(socket);
            }
        })
    }

    fn destroy(&mut self, socket: &Found) -> io::Result<Result<(), Refusal>> {
        self.exchange(SOCK_DESTROY, NLM_F_ACK, &socket.destroy(), |_| {})
    }

    /// Sends a request, gives what comes to `each`, and how it ended.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(&NetlinkBuffer<&[u8]>),
    ) -> io::Result<Result<(), Refusal>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let message = message(kind, NLM_F_REQUEST | flags, sequence, body);
        again(|| self.socket.send(&message, 0))?;
        let mut ended = None;
        while ended.is_none() {
            self.buffer.clear();
            let (socket, buffer) = (&self.socket, &mut self.buffer);
            again(|| socket.recv(&mut *buffer, 0))?;
            for_each_message(&self.buffer, |message| {
                if message.sequence_number() != sequence || ended.is_some() {
                    return;
                }
                match message.message_type() {
                    NLMSG_DONE => ended = Some(parse_done(message.payload())),
                    NLMSG_ERROR => ended = parse_answer(message),
                    _ => each(message),
                }
            })?;
        }
        Ok(ended.unwrap_or(Ok(())))
    }
}

/// The end of a dump says how that went.
fn parse_done(payload: &[u8]) -> Result<(), Refusal> {
    match payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes)) {
        code if code < 0 => Err(Refusal::new(code, &[])),
        _ => Ok(()),
    }
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

/// Once more when a signal came between.
fn again<T>(mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match what() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel says it, with this address on the host's side.
    fn told(family: u8, address: &[u8]) -> Vec<u8> {
        let mut payload = vec![family, 1, 0, 0];
        let mut identity = [0; 48];
        identity[..4].copy_from_slice(&[0, 80, 0x9c, 0x40]);
        identity[4..4 + address.len()].copy_from_slice(address);
        payload.extend(identity);
        payload.extend([0; 20]);
        payload
    }

    #[test]
    fn a_socket_has_its_address_also_where_it_is_of_both_families() {
        let address = |family, bytes: &[u8]| {
            Found::parse(IPPROTO_TCP, &told(family, bytes)).unwrap().address().to_string()
        };
        assert_eq!(address(AF_INET, &[10, 0, 0, 50]), "10.0.0.50");
        let mapped = Ipv4Addr::new(10, 0, 0, 50).to_ipv6_mapped().octets();
        assert_eq!(address(AF_INET6, &mapped), "10.0.0.50");
        let own: Ipv6Addr = "fd00::50".parse().unwrap();
        assert_eq!(address(AF_INET6, &own.octets()), "fd00::50");
        assert_eq!(Found::parse(IPPROTO_TCP, &[2; 20]), None);
    }

    #[test]
    fn what_is_destroyed_is_named_as_the_kernel_named_it() {
        let payload = told(AF_INET, &[10, 0, 0, 50]);
        let socket = Found::parse(IPPROTO_UDP, &payload).unwrap();
        let body = socket.destroy();
        assert_eq!(body[..2], [AF_INET, IPPROTO_UDP]);
        assert_eq!(body[8..], payload[IDENTITY]);
        let message = message(SOCK_DESTROY, NLM_F_ACK, 7, &body);
        assert_eq!(message.len(), 16 + 56);
        let read = NetlinkBuffer::new_checked(&message[..]).unwrap();
        assert_eq!((read.message_type(), read.sequence_number()), (SOCK_DESTROY, 7));
        assert_eq!(read.payload(), body);
    }
}
