//! What every host runs for clients: a service on all its addresses that answers with its name.

use std::io::{IoSlice, IoSliceMut, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::namespace::Namespace;
use crate::priority::raise_priority;

/// The port that it answers at, by UDP and by TCP.
pub const PORT: u16 = 7;

/// The service on one host.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    /// Starts it.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(namespace: &Namespace, host: &str) -> Result<Self> {
        let (sockets, listener) = namespace.run(|| {
            let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            setsockopt(&v4, sockopt::Ipv4PacketInfo, &true)?;
            let v6 = udp_v6_only()?;
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
            let patience = TimeVal::milliseconds(50);
            setsockopt(&v4, sockopt::ReceiveTimeout, &patience)?;
            setsockopt(&v6, sockopt::ReceiveTimeout, &patience)?;
            setsockopt(&listener, sockopt::ReceiveTimeout, &patience)?;
            Ok(([v4, v6], listener))
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let name: Arc<str> = host.into();
        let mut threads = Vec::new();
        for socket in sockets {
            let (stop, name) = (Arc::clone(&stop), Arc::clone(&name));
            threads.push(thread::spawn(move || answer_udp(&socket, &name, &stop)));
        }
        let ended = Arc::clone(&stop);
        threads.push(thread::spawn(move || answer_tcp(&listener, &name, &ended)));
        Ok(Responder { stop, threads })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn udp_v6_only() -> Result<UdpSocket> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, socket};
    let fd = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
    let any = std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0);
    bind(fd.as_raw_fd(), &SockaddrIn6::from(any))?;
    Ok(UdpSocket::from(fd))
}

fn answer_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    raise_priority();
    while !stop.load(Ordering::Relaxed) {
        // Errors are timeouts, or of answers that could not be sent: then there is no answer.
        let _ = answer_one(socket, name);
    }
}

/// Answers one datagram from the very address that it was sent to, and not at all when that has
/// gone meanwhile.
fn answer_one(socket: &UdpSocket, name: &str) -> nix::Result<()> {
    let mut buffer = [0_u8; 64];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo);
    let (length, from, info) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        (message.bytes, message.address, message.cmsgs()?.next())
    };
    let mut answer = buffer[..length.min(8)].to_vec();
    answer.extend(name.as_bytes());
    let slices = [IoSlice::new(&answer)];
    let send = |control: ControlMessage<'_>| {
        let fd = socket.as_raw_fd();
        sendmsg(fd, &slices, &[control], MsgFlags::empty(), from.as_ref()).map(drop)
    };
    match info {
        Some(ControlMessageOwned::Ipv4PacketInfo(mut info)) => {
            info.ipi_spec_dst = info.ipi_addr;
            info.ipi_ifindex = 0;
            send(ControlMessage::Ipv4PacketInfo(&info))
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(mut info)) => {
            info.ipi6_ifindex = 0;
            send(ControlMessage::Ipv6PacketInfo(&info))
        }
        _ => Ok(()),
    }
}

fn answer_tcp(listener: &TcpListener, name: &str, stop: &AtomicBool) {
    raise_priority();
    while !stop.load(Ordering::Relaxed) {
        if let Ok((mut stream, _)) = listener.accept() {
            let _: Result<(), _> = stream.set_write_timeout(Some(Duration::from_millis(50)));
            let _ = stream.write_all(name.as_bytes());
        }
    }
}

/// Where the service at `address` is.
pub fn service(address: std::net::IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}
