//! What an operator should know of the neighbours before turnip runs here: where addresses will be
//! announced, and who has them already.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendto};
use turnip_core::{Assignment, Mac};

use super::announce::{packet_socket, question};
use super::devices::Devices;
use super::listen::{Claim, read_all, sources, wait};

/// How often each is asked: a packet may be lost.
const QUESTIONS: u32 = 2;
/// How long a device with a full queue is given.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
const ATTEMPTS: usize = 20;

/// This host's interfaces, as its neighbours see them.
pub struct Surroundings(Devices);

/// Machines that say that they have an address: where each was heard.
pub type Claimants = BTreeSet<(Mac, Arc<str>)>;

impl Surroundings {
    /// Looks at them; `vips` are the addresses that are not the host's own.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn look(vips: &BTreeSet<IpAddr>) -> io::Result<Self> {
        Ok(Surroundings(Devices::read(|address| vips.contains(&address))?))
    }

    /// Whether there is an interface of that name.
    pub fn has(&self, interface: &str) -> bool {
        self.0.index_of(interface).is_some()
    }

    /// The interfaces on which an address is announced; `chosen` where the configuration names them.
    pub fn places(&self, assignment: &Assignment, chosen: Option<&[Arc<str>]>) -> Vec<Arc<str>> {
        let places = self.0.places(assignment, chosen).into_iter();
        places.map(|device| Arc::clone(&device.name)).collect()
    }

    /// Asks on each interface who has the addresses there, and waits so long for answers.
    ///
    /// # Errors
    /// When there is no socket for it, for want of CAP_NET_RAW.
    pub fn who_has(
        &self,
        asked: &[(IpAddr, Arc<str>)],
        timeout: Duration,
    ) -> io::Result<BTreeMap<IpAddr, Claimants>> {
        let addresses: Vec<IpAddr> = asked.iter().map(|(address, _)| *address).collect();
        let (socket, sources) = (packet_socket()?, sources(&addresses));
        let wanted: BTreeSet<IpAddr> = addresses.into_iter().collect();
        let mut found: BTreeMap<IpAddr, Claimants> = BTreeMap::new();
        for _ in 0..QUESTIONS {
            for (address, name) in asked {
                let Some(device) = self.0.device(name) else { continue };
                let Some(to) = self.0.link_address(device) else { continue };
                let Some(frame) = question(*address, device) else { continue };
                for _ in 0..ATTEMPTS {
                    match sendto(socket.as_raw_fd(), &frame, to, MsgFlags::MSG_DONTWAIT) {
                        Err(Errno::EAGAIN | Errno::ENOBUFS) => std::thread::sleep(QUEUE_PAUSE),
                        _ => break,
                    }
                }
            }
            let until = Instant::now() + timeout / QUESTIONS;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                if !wait(&sources, left) {
                    continue;
                }
                read_all(&sources, &mut |((address, mac), index): Claim| {
                    let heard_on = self.0.device_of(index).filter(|_| wanted.contains(&address));
                    if let Some(device) = heard_on.filter(|_| !self.0.macs().contains(&mac)) {
                        found.entry(address).or_default().insert((mac, Arc::clone(&device.name)));
                    }
                });
            }
        }
        Ok(found)
    }
}

/// Whether Linux answers ARP requests that come in on this interface for addresses of other interfaces.
///
/// # Errors
/// When there is no such interface, or /proc/sys is not there.
pub fn answers_arp_for_others(interface: &str) -> io::Result<bool> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/arp_ignore"))?;
        Ok::<_, io::Error>(text.trim().parse().unwrap_or(0))
    };
    // The greater one holds. 1 and 2: addresses of this interface only; 8: none; 3: those of a wide scope, as
    // VIPs are.
    let ignores: u32 = read(interface)?.max(read("all")?);
    Ok(!matches!(ignores, 1 | 2 | 8))
}

/// Whether Linux answers neighbour solicitations that come in on this interface for whom it is told to stand
/// in. For addresses of other interfaces it never does by itself.
///
/// # Errors
/// When there is no such interface, or no IPv6.
pub fn proxies_neighbours(interface: &str) -> io::Result<bool> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/proxy_ndp"))?;
        Ok::<_, io::Error>(text.trim() != "0")
    };
    Ok(read(interface)? || read("all")?)
}
