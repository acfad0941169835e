//! One UDP socket, for IPv4, IPv6 or both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Type};

/// Where heartbeats are received unless configured otherwise. IANA has assigned it to nobody.
pub const PORT_DEFAULT: u16 = 7746;

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
}

impl Socket {
    /// Binds it. `[::]` receives IPv4 as well.
    ///
    /// # Errors
    /// What the kernel has against it.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from(socket);
        let local = socket.local_addr()?;
        Ok(Socket { socket, local })
    }

    /// Binds it for all addresses of the host: IPv4 alone where the kernel has no IPv6.
    ///
    /// # Errors
    /// What the kernel has against it.
    pub fn bind_all(port: u16) -> io::Result<Self> {
        Self::bind((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| {
            match error.raw_os_error() {
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => {
                    Self::bind((Ipv4Addr::UNSPECIFIED, port).into())
                }
                _ => Err(error),
            }
        })
    }

    /// What it is bound to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether it reaches addresses of that family.
    pub fn speaks(&self, ip: IpAddr) -> bool {
        match self.local.ip() {
            IpAddr::V6(local) => ip.is_ipv6() || local.is_unspecified(),
            IpAddr::V4(_) => ip.is_ipv4(),
        }
    }

    /// The next datagram, and where it came from; none when there was none in `timeout`.
    ///
    /// # Errors
    /// What is wrong with the socket.
    pub fn receive(
        &self,
        buffer: &mut [u8],
        timeout: Duration,
    ) -> io::Result<Option<(usize, SocketAddr)>> {
        let received = unless_none(self.socket.recv_from(buffer))?;
        if received.is_some() || timeout.is_zero() {
            return Ok(received);
        }
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut comes = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match unless_none(poll(&mut comes, timeout).map_err(io::Error::from))? {
            None | Some(0) => Ok(None),
            Some(_) => unless_none(self.socket.recv_from(buffer)),
        }
    }

    /// Sends a datagram, without waiting for room in the kernel's queue.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = match (self.local, to) {
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => to,
        };
        self.socket.send_to(bytes, to).map(drop)
    }
}

/// What was received, if anything was.
fn unless_none<T>(received: io::Result<T>) -> io::Result<Option<T>> {
    match received {
        Ok(received) => Ok(Some(received)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}

/// The address of this host from which packets to `remote` go. Sends nothing.
///
/// # Errors
/// When there is no route.
pub fn source_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}
