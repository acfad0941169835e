//! Gratuitous ARP and unsolicited neighbour advertisements.
//!
//! Packet sockets pass the fence by, so the deadline is looked at before every single packet.
//!
//! Who announces an address that has been here for a while also asks who else has it, as nobody, so that no
//! neighbour learns anything: a machine that has the address, and only ever answers those who ask for it,
//! is heard by no other means. What it answers is [`listen`](super::listen)'s.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use futures::channel::oneshot;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use turnip_core::{Assignment, Instant};

use super::address::Slot;
use super::devices::{Device, Devices};
use super::expected::Expected;
use super::neighbourhood::{Neighbourhood, SETTLED_AFTER};
use super::packets;
use crate::clock::HostClock;
use crate::seams::Clock;

/// How often a full queue of the device is tried again.
const ATTEMPTS: usize = 20;

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
    pub fn start(
        clock: HostClock,
        expected: Expected,
        neighbourhood: Neighbourhood,
    ) -> io::Result<Self> {
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
            let thread = Sending { packets, clock, expected, neighbourhood };
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

/// A socket that sends frames.
pub(super) fn packet_socket() -> nix::Result<OwnedFd> {
    // Protocol none: nothing is received.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Packet, SockType::Raw, flags, None)
}

/// What the thread works with.
struct Sending {
    packets: OwnedFd,
    clock: HostClock,
    expected: Expected,
    neighbourhood: Neighbourhood,
}

/// The deadline has passed.
struct TooLate;

impl Sending {
    fn announce(&self, addresses: &[Assignment], deadline: Instant) {
        let devices = self.neighbourhood.devices();
        let mut routers = Routers::default();
        let announcement = |assignment: &Assignment, device: &Device| {
            let frame = match assignment.address.addr() {
                IpAddr::V4(address) => packets::arp_announcement(device.mac, address),
                IpAddr::V6(address) => {
                    packets::advertisement(device.mac, routers.contain(device), address)
                }
            };
            Some(frame)
        };
        // All are announced before one is asked for.
        if self.send_all(&devices, addresses, deadline, announcement).is_ok() {
            let settled: Vec<_> =
                addresses.iter().filter(|one| self.is_settled(&devices, one)).cloned().collect();
            let _ = self.send_all(&devices, &settled, deadline, |assignment, device| {
                question(assignment.address.addr(), device)
            });
        }
    }

    /// Whether it has been here for so long that nobody else of turnip's says that it has it.
    fn is_settled(&self, devices: &Devices, assignment: &Assignment) -> bool {
        let slot = self.neighbourhood.slot(devices, assignment);
        let since = slot.and_then(|slot| self.expected.since(slot));
        since.is_some_and(|since| since.elapsed() >= SETTLED_AFTER)
    }

    /// Sends the frame that `make` gives for each address, on each device where that is announced.
    fn send_all(
        &self,
        devices: &Devices,
        addresses: &[Assignment],
        deadline: Instant,
        mut make: impl FnMut(&Assignment, &Device) -> Option<Vec<u8>>,
    ) -> Result<(), TooLate> {
        for assignment in addresses {
            let Some(slot) = self.neighbourhood.slot(devices, assignment) else { continue };
            for device in self.neighbourhood.places(devices, assignment) {
                let Some(frame) = make(assignment, device) else { continue };
                let Some(to) = devices.link_address(device) else { continue };
                if !self.send(&frame, to, slot, deadline, assignment) {
                    tracing::debug!("announcing ended: the deadline has passed");
                    return Err(TooLate);
                }
                if device.index != slot.index {
                    self.neighbourhood.announced_elsewhere(&assignment.interface, &device.name);
                }
            }
        }
        Ok(())
    }

    /// Sends one frame; false when the deadline has passed.
    fn send(
        &self,
        frame: &[u8],
        to: &LinkAddr,
        slot: Slot,
        deadline: Instant,
        assignment: &Assignment,
    ) -> bool {
        for _ in 0..ATTEMPTS {
            if !self.expected.contains(slot) {
                return true;
            }
            if self.clock.now() >= deadline {
                return false;
            }
            match sendto(self.packets.as_raw_fd(), frame, to, MsgFlags::MSG_DONTWAIT) {
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

/// Asks the neighbours on a device who has an address; none where there is no address to ask from.
pub(super) fn question(address: IpAddr, device: &Device) -> Option<Vec<u8>> {
    match address {
        IpAddr::V4(address) => Some(packets::arp_probe(device.mac, address)),
        IpAddr::V6(address) => {
            let source = device.link_local.filter(|source| *source != address)?;
            Some(packets::solicitation(device.mac, source, address))
        }
    }
}

/// Which devices route IPv6, each looked up once.
#[derive(Default)]
struct Routers(HashMap<u32, bool>);

impl Routers {
    fn contain(&mut self, device: &Device) -> bool {
        *self.0.entry(device.index).or_insert_with(|| {
            let forwarding = format!("/proc/sys/net/ipv6/conf/{}/forwarding", device.name);
            std::fs::read_to_string(forwarding).is_ok_and(|text| text.trim() != "0")
        })
    }
}
