//! The lock itself: a group of packet sockets (a fanout group) that has room for one.
//!
//! Such a group belongs to the network namespace, whatever else two daemons do not share: a container with
//! the host's network has its own files and process ids. It takes CAP_NET_RAW, which turnip has anyway, so
//! nobody without it can be there first. And it ends with its process. `nft list ruleset` does not show it,
//! as it would a table with an owner, which could then not be loaded again.

use std::io;

use nix::errno::Errno;
use nix::sys::socket::{SetSockOpt, setsockopt};
use nix::{libc, setsockopt_impl};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// The number of the group: the first letters of turnip.
const GROUP: u32 = 0x7475;
const MEMBERS_MAX: u32 = 1;
/// An ethertype for local experiments: no packet has it.
const PROTOCOL: u16 = 0x88b5;
/// Ethertypes among which one is drawn where the kernel does not count members.
const PROTOCOLS: std::ops::RangeInclusive<u16> = 0xa000..=0xfffe;

/// The only member of the group.
#[derive(Debug)]
pub(super) struct Room {
    _socket: Socket,
}

/// Joins a group, whose number and kind these are, with room for so many.
#[derive(Clone)]
struct JoinWithRoomFor;
setsockopt_impl!(
    JoinWithRoomFor,
    libc::SOL_PACKET,
    libc::PACKET_FANOUT,
    [u32; 2],
    nix::sys::socket::sockopt::SetStruct<[u32; 2]>
);

/// The same before Linux 5.10.
#[derive(Clone)]
struct Join;
setsockopt_impl!(
    Join,
    libc::SOL_PACKET,
    libc::PACKET_FANOUT,
    u32,
    nix::sys::socket::sockopt::SetStruct<u32>
);

impl Room {
    /// Takes the room; none when somebody is in it.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, or when the kernel has no packet sockets.
    pub(super) fn take() -> io::Result<Option<Self>> {
        match join(PROTOCOL, JoinWithRoomFor, &[GROUP, MEMBERS_MAX])? {
            Err(Errno::EINVAL) => Self::take_uncounted(),
            outcome => room(outcome),
        }
    }

    /// An older kernel does not count, but all members of a group must have one ethertype. Two daemons that
    /// draw the same, one time in 24,000, do not notice each other.
    fn take_uncounted() -> io::Result<Option<Self>> {
        let count = u32::from(PROTOCOLS.end() - PROTOCOLS.start()) + 1;
        let drawn = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))? % count;
        let protocol = PROTOCOLS.start() + u16::try_from(drawn).unwrap_or_default();
        room(join(protocol, Join, &GROUP)?)
    }
}

/// A socket that receives nothing, and what came of its joining the group.
fn join<O: SetSockOpt>(
    protocol: u16,
    option: O,
    value: &O::Val,
) -> io::Result<Result<Socket, Errno>> {
    let protocol = Protocol::from(i32::from(protocol.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
    let drop_all = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    socket.attach_filter(&[drop_all])?;
    Ok(setsockopt(&socket, option, value).map(|()| socket))
}

/// The kernel says ENOSPC of a full group, and EINVAL of one of another kind, which is somebody's as well.
fn room(joined: Result<Socket, Errno>) -> io::Result<Option<Room>> {
    match joined {
        Ok(socket) => Ok(Some(Room { _socket: socket })),
        Err(Errno::ENOSPC | Errno::EINVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a namespace of this thread's own, on which these depend.
    fn apart(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("this test needs root");
            test();
        });
        thread.join().unwrap();
    }

    #[test]
    fn there_is_room_for_one_in_each_network_namespace_until_it_goes() {
        apart(|| {
            let first = Room::take().unwrap().expect("nobody was there");
            assert!(Room::take().unwrap().is_none());
            apart(|| assert!(Room::take().unwrap().is_some(), "another namespace"));
            drop(first);
            assert!(Room::take().unwrap().is_some());
        });
    }

    #[test]
    fn a_kernel_that_does_not_count_members_has_room_for_one_as_well() {
        apart(|| {
            let first = Room::take_uncounted().unwrap().expect("nobody was there");
            assert!(Room::take_uncounted().unwrap().is_none());
            assert!(Room::take().unwrap().is_none());
            drop(first);
            assert!(Room::take_uncounted().unwrap().is_some());
        });
    }
}
