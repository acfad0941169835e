//! Measures how much of what one machine sends arrives at another, in each direction separately: the
//! proof that a fault of the network does what its name says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;

use anyhow::{Result, ensure};

use crate::background::Background;
use crate::namespace::Namespace;
use crate::plan::LINK;
use crate::probe::PERIOD;

/// A machine, and its address on [`LINK`].
pub type Side<'a> = (&'a Namespace, IpAddr);

/// Sends datagrams in both directions between two machines on one link until it is dropped. They are
/// not answered, so that the two directions do not depend on each other.
#[derive(Debug)]
pub struct LinkProbe {
    forward: Stream,
    reverse: Stream,
}

/// How many percent of what was sent in each direction arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// From the first machine to the second.
    pub forward: u32,
    /// From the second machine to the first.
    pub reverse: u32,
}

impl LinkProbe {
    /// Starts to send from `one` to `other` (forward) and from `other` to `one` (reverse).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn between(one: Side<'_>, other: Side<'_>) -> Result<Self> {
        // Entered by hand: ARP needs both directions, and one of them may be cut.
        for (from, to) in [(one, other), (other, one)] {
            from.0.add_neighbour(LINK, to.1, to.0.mac(LINK)?)?;
        }
        Ok(LinkProbe { forward: Stream::start(one, other)?, reverse: Stream::start(other, one)? })
    }

    /// What has arrived so far.
    ///
    /// # Errors
    /// When too little was sent to say.
    pub fn arrived(&self) -> Result<Arrived> {
        Ok(Arrived { forward: self.forward.percent()?, reverse: self.reverse.percent()? })
    }
}

#[derive(Debug)]
struct Stream {
    sent: Arc<AtomicU32>,
    received: Arc<AtomicU32>,
    _sender: Background,
}

impl Stream {
    fn start(from: Side<'_>, to: Side<'_>) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let socket = from.0.run(|| Ok(UdpSocket::bind(any)?))?;
        let receiver = to.0.run(|| Ok(UdpSocket::bind(any)?))?;
        socket.set_nonblocking(true)?;
        receiver.set_nonblocking(true)?;
        let target = (to.1, receiver.local_addr()?.port());
        let (sent, received) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let sender = Background::start({
            let (sent, received) = (Arc::clone(&sent), Arc::clone(&received));
            move |stop| {
                while !stop.load(Ordering::Relaxed) {
                    // What cannot be sent does not arrive.
                    let _ = socket.send_to(&[0], target);
                    sent.fetch_add(1, Ordering::Relaxed);
                    sleep(PERIOD);
                    while receiver.recv(&mut [0]).is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Stream { sent, received, _sender: sender })
    }

    fn percent(&self) -> Result<u32> {
        let sent = self.sent.load(Ordering::Relaxed);
        ensure!(sent >= 100, "only {sent} datagrams were sent");
        // The last may be on its way.
        Ok((self.received.load(Ordering::Relaxed) * 100 / (sent - 1)).min(100))
    }
}
