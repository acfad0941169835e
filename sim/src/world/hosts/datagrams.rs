//! What hosts tell each other past etcd (rule 10): datagrams, each for whatever process has the socket
//! when it arrives.
//!
//! The kernel keeps what arrives until the process reads it. So what was sent to a frozen process is read
//! when that goes on, however old it is by then; what was for a process that has ended is gone with its
//! socket.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use turnip::peers::reading_pause;
use turnip_core::{
    Acknowledgement, Addressee, Datagram, Heartbeat, HeartbeatKeys, NodeName, Revision, SessionId,
};

use crate::world::env::Env;
use crate::world::event::Event;
use crate::world::ids::HostId;

use super::Hosts;

/// A socket's buffer holds so many datagrams; those that do not fit are lost.
const QUEUE_MAX: usize = 256;

/// A datagram on its way. Its seal is the key itself: whoever has not got it cannot make one, and
/// whoever has another one does not take it.
#[derive(Clone, Debug)]
pub struct Sealed {
    key: String,
    from: NodeName,
    datagram: Datagram,
}

/// Where a process receives datagrams, and what it needs to open and to seal them.
#[derive(Default)]
pub struct Socket {
    keys: Option<HeartbeatKeys>,
    queue: VecDeque<Sealed>,
    waker: Option<Waker>,
    reader: Reader,
}

/// The thread that reads the socket: it takes what has come, and then pauses until then.
#[derive(Default)]
struct Reader(u64);

impl Reader {
    /// When it takes what arrives now.
    fn takes(&mut self, now: u64, pause: u64) -> u64 {
        if now >= self.0 {
            self.0 = now + pause;
        }
        // What comes together is taken together.
        if self.0 == now + pause { now } else { self.0 }
    }
}

impl Socket {
    /// Whether a datagram is authentic.
    fn opens(&self, sealed: &Sealed) -> bool {
        self.keys.as_ref().is_some_and(|keys| {
            sealed.key == keys.current || keys.previous.as_ref() == Some(&sealed.key)
        })
    }
}

impl Hosts {
    /// A daemon seals and opens datagrams with these keys from now on.
    pub fn use_keys(&mut self, host: HostId, keys: HeartbeatKeys) {
        self.list[host].process.socket.keys = Some(keys);
    }

    /// A daemon sends a heartbeat to each addressee, if it has a key.
    pub fn send_datagrams(&mut self, host: HostId, to: Vec<Addressee>, env: &mut Env) {
        let sender = &self.list[host];
        let Some(keys) = &sender.process.socket.keys else { return };
        let from = env.layout.names.node(sender.config.name).clone();
        for Addressee { node, address, datagram } in to {
            env.trace(|params| {
                let Heartbeat { number, modified, complete_to, .. } = datagram.heartbeat;
                let of = datagram.acknowledges.map(|one| format!(", acknowledges {}", one.number));
                let of = of.unwrap_or_default();
                format!("{h}: heartbeat {number} to {node}: written at {modified}, knows {complete_to}{of}", h = params.host(host))
            });
            let sealed = Sealed { key: keys.current.clone(), from: from.clone(), datagram };
            let Some(to) = env.layout.host_at(address) else { continue };
            let copies = env.net.datagram(host, to, &mut env.direct_rng);
            if copies.is_empty() {
                env.record.tally.datagrams_lost += 1;
            }
            for delay in copies {
                let sealed = Box::new(sealed.clone());
                env.agenda.schedule(env.agenda.now() + delay, Event::Datagram { to, sealed });
            }
            if sender.forged {
                let forged = forged(&datagram.heartbeat, &keys.current, node);
                let event = Event::Datagram { to: host, sealed: Box::new(forged) };
                env.agenda.schedule(env.agenda.now(), event);
            }
        }
    }

    /// A datagram arrives: the kernel keeps it for the process that has the socket.
    pub fn datagram_arrives(&mut self, host: HostId, sealed: Sealed, env: &mut Env) {
        let target = &mut self.list[host];
        // What arrives for a paused machine waits in front of it.
        let is_received = target.powered && !target.suspended && target.process.running;
        let socket = &mut target.process.socket;
        if !is_received || socket.queue.len() >= QUEUE_MAX {
            env.count(|tally| &mut tally.datagrams_lost);
            return;
        }
        // In other plans the network delays datagrams by more than that.
        if env.is_played() {
            let lease = Duration::from_millis(env.plan.params.lease_ms);
            let (now, pause) = (env.now(), reading_pause(lease).as_nanos() as u64);
            let taken = socket.reader.takes(now, pause);
            if taken > now {
                let sealed = Box::new(sealed);
                return env.agenda.schedule(taken, Event::Datagram { to: host, sealed });
            }
        }
        socket.queue.push_back(sealed);
        if let Some(waker) = socket.waker.take() {
            waker.wake();
        }
    }

    /// A daemon reads the next datagram that is authentic.
    pub fn poll_datagram(
        &mut self,
        host: HostId,
        env: &mut Env,
        cx: &mut Context<'_>,
    ) -> Poll<(NodeName, Datagram)> {
        let socket = &mut self.list[host].process.socket;
        while let Some(sealed) = socket.queue.pop_front() {
            if socket.opens(&sealed) {
                env.count(|tally| &mut tally.datagrams);
                return Poll::Ready((sealed.from, sealed.datagram));
            }
            env.count(|tally| &mut tally.datagrams_unauthentic);
        }
        match &mut socket.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Somebody who has the key acknowledges every heartbeat of a host from now on, or no longer does.
    pub fn forge(&mut self, host: HostId, forged: bool) {
        self.list[host].forged = forged;
    }
}

/// An acknowledgement that its sender never made.
fn forged(heartbeat: &Heartbeat, key: &str, from: NodeName) -> Sealed {
    let Heartbeat { session, process, number, .. } = *heartbeat;
    let nothing = Revision(0);
    let nobodys = Heartbeat {
        session: SessionId(nothing),
        process: 0,
        number: 0,
        modified: nothing,
        complete_to: nothing,
    };
    let acknowledges = Some(Acknowledgement { session, process, number });
    let datagram = Datagram { heartbeat: nobodys, hears_addressee: true, acknowledges };
    Sealed { key: key.to_owned(), from, datagram }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_a_pause_is_taken_when_it_ends_and_all_of_it_at_once() {
        let mut reader = Reader::default();
        let takes: Vec<u64> =
            [100, 100, 110, 129, 130, 130, 131, 170].map(|now| reader.takes(now, 30)).into();
        assert_eq!(takes, [100, 100, 130, 130, 130, 130, 160, 170]);
    }
}
