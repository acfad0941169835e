//! Gratuitous ARP and unsolicited neighbour advertisements.
//!
//! ARP announcements are requests (RFC 5227, section 3): a host has to look at every request,
//! and updates what it knows of the sender; many ignore a reply that they did not ask for, and
//! switches filter broadcast replies more often. Packet sockets pass the fence by, so
//! the deadline is looked at before every single one.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures::channel::oneshot;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use turnip_core::{Assignment, Instant};

use super::address::Slot;
use super::expected::Expected;
use crate::clock::HostClock;
use crate::seams::Clock;

/// How often a full queue of the device is tried again.
const ATTEMPTS: usize = 20;
/// How long a device is taken for what it was: looking it up goes through every address of the
/// host, under the lock that putting addresses there needs too. Every VIP is announced again later.
const KNOWN_FOR: Duration = Duration::from_secs(1);
const ARPHRD_ETHER: u16 = 1;
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// How often something was heard of a link: what is known of devices may be outdated since.
#[derive(Clone, Default)]
pub(super) struct LinkNews(Arc<AtomicU64>);

impl LinkNews {
    /// Something was heard.
    pub fn tell(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A device that resolves addresses.
struct Device {
    index: u32,
    address: LinkAddr,
    mac: [u8; 6],
    /// Whether it routes IPv6: an advertisement that denied it would cost the neighbours their
    /// default route.
    router: bool,
}

/// What waits to be announced.
struct Request {
    addresses: Vec<Assignment>,
    deadline: Instant,
    done: oneshot::Sender<()>,
}

/// The thread that announces. Thousands of addresses take their time, and closing a packet
/// socket takes the kernel some 10 ms, which is why there is one for good.
pub(super) struct Announcer(mpsc::Sender<Request>);

impl Announcer {
    /// Starts the thread. What is not `expected` to be there any more when its turn comes is left
    /// out: it may be another host's by then.
    pub fn start(clock: HostClock, expected: Expected, link_news: LinkNews) -> io::Result<Self> {
        let (sender, requests) = mpsc::channel::<Request>();
        let packets = packet_socket();
        std::thread::Builder::new().name("announcer".into()).spawn(move || {
            let packets = match packets {
                Ok(packets) => packets,
                Err(error) => {
                    tracing::warn!(%error, "nothing will be announced: no packet socket (CAP_NET_RAW?)");
                    return;
                }
            };
            let devices = Devices::of(link_news);
            let mut thread = Sending { packets, clock, expected, devices };
            for request in requests {
                thread.announce(&request.addresses, request.deadline);
                let _ = request.done.send(());
            }
        })?;
        Ok(Announcer(sender))
    }

    /// Tells the neighbours of every address, unless `deadline` has passed when its turn comes.
    pub fn announce(
        &self,
        addresses: Vec<Assignment>,
        deadline: Instant,
    ) -> impl Future<Output = ()> + use<> {
        let (done, answer) = oneshot::channel();
        let sent = self.0.send(Request { addresses, deadline, done });
        async move {
            // Without a packet socket there is nothing to wait for.
            if sent.is_ok() {
                let _ = answer.await;
            }
        }
    }
}

fn packet_socket() -> nix::Result<OwnedFd> {
    // Protocol none: nothing is received.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Packet, SockType::Raw, flags, None)
}

/// What the thread works with.
struct Sending {
    packets: OwnedFd,
    clock: HostClock,
    expected: Expected,
    devices: Devices,
}

/// The devices of the interfaces that were asked for, as they were a moment ago.
struct Devices {
    link_news: LinkNews,
    /// When they were looked at, with the news until then.
    looked_at: Option<(Instant, u64)>,
    named: BTreeSet<Arc<str>>,
    found: HashMap<String, Device>,
}

impl Devices {
    fn of(link_news: LinkNews) -> Self {
        Devices { link_news, looked_at: None, named: BTreeSet::new(), found: HashMap::new() }
    }

    /// Looks the interfaces of `addresses` up, if that was not done lately, or if something was
    /// heard of a link since: its hardware address may be another.
    fn refresh(&mut self, addresses: &[Assignment], now: Instant) {
        let news = self.link_news.count();
        let outdated = |(at, known)| now.since(at) > KNOWN_FOR || known != news;
        if self.looked_at.is_none_or(outdated) {
            self.named.clear();
            self.found.clear();
        }
        let before = self.named.len();
        for assignment in addresses {
            if !self.named.contains(&assignment.interface) {
                self.named.insert(Arc::clone(&assignment.interface));
            }
        }
        if self.named.len() > before {
            (self.looked_at, self.found) = (Some((now, news)), devices(&self.named));
        }
    }
}

impl Sending {
    fn announce(&mut self, addresses: &[Assignment], deadline: Instant) {
        self.devices.refresh(addresses, self.clock.now());
        for assignment in addresses {
            let Some(device) = self.devices.found.get(&*assignment.interface) else { continue };
            let frame = match assignment.address.addr() {
                IpAddr::V4(address) => arp_announcement(device.mac, address).to_vec(),
                IpAddr::V6(address) => advertisement(device, address),
            };
            if !self.send(&frame, device, deadline, assignment) {
                tracing::debug!("announcing ended: the deadline has passed");
                return;
            }
        }
    }

    /// Sends one frame; false when the deadline has passed.
    fn send(
        &self,
        frame: &[u8],
        device: &Device,
        deadline: Instant,
        assignment: &Assignment,
    ) -> bool {
        let slot = Slot { index: device.index, address: assignment.address };
        for _ in 0..ATTEMPTS {
            if !self.expected.contains(slot) {
                return true;
            }
            if self.clock.now() >= deadline {
                return false;
            }
            let packets = self.packets.as_raw_fd();
            match sendto(packets, frame, &device.address, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return true,
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    tracing::debug!(%assignment, %error, "cannot announce");
                    return true;
                }
            }
        }
        tracing::debug!(%assignment, "cannot announce: the device's queue is full");
        true
    }
}

/// The Ethernet devices among those named, by name.
fn devices(named: &BTreeSet<Arc<str>>) -> HashMap<String, Device> {
    let mut devices = HashMap::new();
    let found = match getifaddrs() {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "cannot list the interfaces: addresses are not announced on them for now");
            return devices;
        }
    };
    let silent =
        InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_NOARP | InterfaceFlags::IFF_POINTOPOINT;
    for interface in found {
        let Some(address) = interface.address.as_ref().and_then(|one| one.as_link_addr()) else {
            // Links come before addresses, of which there may be thousands.
            if interface.address.is_some() {
                break;
            }
            continue;
        };
        let name = interface.interface_name;
        if interface.flags.intersects(silent)
            || address.hatype() != ARPHRD_ETHER
            || !named.contains(&*name)
        {
            continue;
        }
        let (Some(mac), Ok(index)) = (address.addr(), u32::try_from(address.ifindex())) else {
            continue;
        };
        let forwarding = format!("/proc/sys/net/ipv6/conf/{name}/forwarding");
        let router = std::fs::read_to_string(forwarding).is_ok_and(|text| text.trim() != "0");
        devices.insert(name, Device { index, address: *address, mac, router });
    }
    devices
}

fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: [u8; 2]) -> [u8; 14] {
    let mut header = [0; 14];
    header[..6].copy_from_slice(&destination);
    header[6..12].copy_from_slice(&source);
    header[12..].copy_from_slice(&ethertype);
    header
}

/// An ARP request by `address` for itself.
fn arp_announcement(mac: [u8; 6], address: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..14].copy_from_slice(&ethernet([0xff; 6], mac, ETHERTYPE_ARP));
    // Ethernet, IPv4, lengths of their addresses, request.
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// An unsolicited neighbour advertisement of `address` to all nodes.
fn advertisement(device: &Device, address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0];
    message.extend([OVERRIDE | if device.router { ROUTER } else { 0 }, 0, 0, 0]);
    message.extend(address.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(device.mac);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let mut pseudo = Vec::from(address.octets());
    pseudo.extend(ALL_NODES.octets());
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(&message);
    message[2..4].copy_from_slice(&checksum(&pseudo).to_be_bytes());

    let mut frame = ethernet([0x33, 0x33, 0, 0, 0, 1], device.mac, ETHERTYPE_IPV6).to_vec();
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // A hop limit of 255 is how a receiver knows that it comes from the link.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The Internet checksum of bytes of even number.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_message_that_carries_its_own_is_zero() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        let sum = checksum(&bytes);
        assert_eq!(sum, 0x220d);
        let mut with = bytes.to_vec();
        with.extend(sum.to_be_bytes());
        assert_eq!(checksum(&with), 0);
    }
}
