//! What crosses the network from one machine to another: the proof that a fault is what its name
//! says, in each direction by itself.

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

/// Datagrams both ways between two machines on one link, each without an answer, until it is
/// dropped.
#[derive(Debug)]
pub struct Crossing {
    there: Stream,
    back: Stream,
}

/// How many percent of what was sent each way arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrived {
    /// From the one to the other.
    pub there: u32,
    /// From the other to the one.
    pub back: u32,
}

impl Crossing {
    /// Starts to send from `one` to `other` and back.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn between(one: Side<'_>, other: Side<'_>) -> Result<Self> {
        // Told, for a link that works one way cannot be asked.
        for (from, to) in [(one, other), (other, one)] {
            from.0.add_neighbour(LINK, to.1, to.0.mac(LINK)?)?;
        }
        Ok(Crossing { there: Stream::start(one, other)?, back: Stream::start(other, one)? })
    }

    /// What has arrived so far.
    ///
    /// # Errors
    /// When too little was sent to say.
    pub fn arrived(&self) -> Result<Arrived> {
        Ok(Arrived { there: self.there.percent()?, back: self.back.percent()? })
    }
}

#[derive(Debug)]
struct Stream {
    sent: Arc<AtomicU32>,
    heard: Arc<AtomicU32>,
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
        let (sent, heard) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let sender = Background::start({
            let (sent, heard) = (Arc::clone(&sent), Arc::clone(&heard));
            move |stop| {
                while !stop.load(Ordering::Relaxed) {
                    // What cannot be sent does not arrive.
                    let _ = socket.send_to(&[0], target);
                    sent.fetch_add(1, Ordering::Relaxed);
                    sleep(PERIOD);
                    while receiver.recv(&mut [0]).is_ok() {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Stream { sent, heard, _sender: sender })
    }

    fn percent(&self) -> Result<u32> {
        let sent = self.sent.load(Ordering::Relaxed);
        ensure!(sent >= 100, "only {sent} datagrams were sent");
        // The last may be on its way.
        Ok((self.heard.load(Ordering::Relaxed) * 100 / (sent - 1)).min(100))
    }
}
