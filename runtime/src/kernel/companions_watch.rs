//! Puts routes and rules of VIPs back that somebody took away, and takes those away that a turnip
//! which was killed has left.
//!
//! The kernel tells of most of what becomes of routes, and not of all: IPv4 routes go without a word
//! with their interface and with their source. So there is a look after each link or address that goes,
//! too. A look asks for each route and rule of the VIPs that are here to be made, which the kernel
//! refuses where it is there already; nothing is listed but at the start, for a router may have a
//! million routes.

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::MsgFlags;

use super::address::MARK;
use super::companions::{self, Found, State};
use super::route::Route;

/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE and _IPV6_RULE, as
/// bits.
const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_DELRULE: u16 = 33;
const NLM_F_REPLACE: u16 = 0x100;
/// Bytes of one read.
const READ_BUFFER: usize = 32 << 10;
/// What comes in a burst is looked at once.
const BURST: Duration = Duration::from_millis(10);
/// A core's share that looking may take is one of so many.
const SHARE: u32 = 20;
/// How often what could not be made is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Starts the thread; it ends when the other end of `nudged` is gone.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn start(state: Arc<Mutex<State>>, nudged: UnixStream) -> io::Result<()> {
    let events = Socket::new(NETLINK_ROUTE)?;
    nudged.set_nonblocking(true)?;
    let buffer = Vec::with_capacity(READ_BUFFER);
    let mut watcher = Watcher { state, events, follows: false, nudged, buffer };
    watcher.follow()?;
    std::thread::Builder::new().name("companions".into()).spawn(move || match Route::open() {
        Ok(route) => watcher.run(route),
        Err(error) => tracing::warn!(%error, "routes and rules of VIPs cannot be looked at"),
    })?;
    Ok(())
}

struct Watcher {
    state: Arc<Mutex<State>>,
    events: Socket,
    /// The events come.
    follows: bool,
    nudged: UnixStream,
    buffer: Vec<u8>,
}

impl Watcher {
    /// Has the kernel tell of what becomes of routes and rules, once there are some.
    fn follow(&mut self) -> io::Result<()> {
        if !self.follows && !companions::lock(&self.state).is_empty() {
            self.events.bind(&SocketAddr::new(0, GROUPS))?;
            self.follows = true;
        }
        Ok(())
    }

    fn run(mut self, mut route: Route) {
        let mut is_clean = self.clean(&mut route);
        loop {
            let again = {
                let state = companions::lock(&self.state);
                (!is_clean || state.is_incomplete()).then_some(AGAIN)
            };
            if !self.wait(again) {
                return;
            }
            let start = Instant::now();
            // With another configuration VIPs may have got some.
            if let Err(error) = self.follow() {
                tracing::warn!(%error, "routes and rules of VIPs that others take away are not put back");
            }
            if !is_clean {
                is_clean = self.clean(&mut route);
            }
            let mut state = companions::lock(&self.state);
            state.tidy(&mut route);
            state.repair(&mut route);
            drop(state);
            self.deny(&mut route);
            if !self.rest(start.elapsed() * (SHARE - 1)) {
                return;
            }
        }
    }

    /// Finds what an earlier process left; whether that could be done.
    fn clean(&self, route: &mut Route) -> bool {
        let found = companions::list_routes(route)
            .and_then(|routes| Ok((routes, companions::list_rules(route)?)));
        let strays: Vec<Found> = match found {
            Ok((routes, rules)) => {
                let mut state = companions::lock(&self.state);
                let strays = state.adopt(routes, rules);
                state.tidy(route);
                strays
            }
            Err(error) => {
                tracing::debug!(%error, "the host's routes and rules cannot be looked at");
                return false;
            }
        };
        if strays.is_empty() {
            return true;
        }
        match companions::delete(route, &strays) {
            Ok(gone) => {
                for what in gone {
                    tracing::info!("took away {what}, which an earlier turnip left");
                }
                true
            }
            Err(_) => false,
        }
    }

    /// A route that the kernel refused to make, because there is one, may be somebody else's.
    fn deny(&self, route: &mut Route) {
        if companions::lock(&self.state).take_doubts()
            && let Ok(found) = companions::list_routes(route)
        {
            companions::lock(&self.state).deny(&found);
        }
    }

    /// Waits until there is something to look at; false when it is over.
    fn wait(&mut self, again: Option<Duration>) -> bool {
        let start = Instant::now();
        loop {
            let left = again.map(|again| again.saturating_sub(start.elapsed()));
            let mut ready = [
                PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.nudged.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, timeout(left)) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return self.rest(AGAIN),
            }
            let (told, nudged) = (ready[0].any().unwrap_or(true), ready[1].any().unwrap_or(true));
            if nudged {
                match self.nudged.read(&mut [0; 64]) {
                    Ok(0) => return false,
                    _ => return self.rest(BURST),
                }
            }
            if told && self.read() {
                return self.rest(BURST);
            }
        }
    }

    /// Reads all that was told; whether any of it matters.
    fn read(&mut self) -> bool {
        let mut is_news = false;
        loop {
            self.buffer.clear();
            match self.events.recv(&mut self.buffer, MsgFlags::MSG_DONTWAIT.bits()) {
                Ok(_) => is_news |= matters(&self.buffer),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return is_news,
                // Something was lost.
                Err(_) => return true,
            }
        }
    }

    /// Rests for so long, or until it is over; whether it goes on.
    fn rest(&self, rest: Duration) -> bool {
        let mut over = [PollFd::new(self.nudged.as_fd(), PollFlags::empty())];
        // Without an event to wait for, only the other end's going wakes.
        !matches!(poll(&mut over, timeout(Some(rest))), Ok(1..))
    }
}

fn timeout(time: Option<Duration>) -> PollTimeout {
    let rounded = time.map(|time| time + Duration::from_millis(1));
    rounded
        .map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX))
}

/// Whether one of these messages tells of something by which routes or rules of VIPs may have gone.
fn matters(mut messages: &[u8]) -> bool {
    const HEADER: usize = 16;
    while let Some(header) = messages.first_chunk::<HEADER>() {
        let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _] = header;
        let length = u32::from_ne_bytes([*a, *b, *c, *d]) as usize;
        let [k0, k1, f0, f1] = *kind;
        let (kind, flags) = (u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1]));
        // rtm_protocol is the sixth byte of a route's header.
        let is_ours = messages.get(HEADER + 5) == Some(&MARK);
        let is_news = match kind {
            RTM_NEWLINK | RTM_DELLINK | RTM_DELADDR | RTM_DELRULE => true,
            RTM_DELROUTE => is_ours,
            // It took the place of another one, be it turnip's.
            RTM_NEWROUTE => flags & NLM_F_REPLACE != 0 && !is_ours,
            _ => false,
        };
        if is_news {
            return true;
        }
        messages = messages.get(length.next_multiple_of(4).max(HEADER)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, protocol: u8) -> Vec<u8> {
        let mut bytes = Vec::from(28_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([2, 0, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn what_may_take_a_route_or_a_rule_of_turnips_away_is_worth_a_look() {
        assert!(matters(&message(RTM_DELROUTE, 0, MARK)));
        assert!(matters(&message(RTM_NEWROUTE, NLM_F_REPLACE, 4)));
        for kind in [RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR, RTM_DELRULE] {
            assert!(matters(&message(kind, 0, 0)));
        }
        let mut several = message(RTM_NEWROUTE, 0, 12);
        several.extend(message(RTM_DELROUTE, 0, 12));
        several.extend(message(RTM_NEWROUTE, NLM_F_REPLACE, MARK));
        assert!(!matters(&several), "what routing daemons and turnip itself do");
        several.extend(message(RTM_DELROUTE, 0, MARK));
        assert!(matters(&several));
        assert!(!matters(&[1, 2, 3]));
    }
}
