//! Asking other hosts' daemons whether datagrams come through.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use turnip_core::{HeartbeatKeys, NodeName};

use super::socket::Socket;
use super::wire::{DATAGRAM_LEN_MAX, Identity, Keys, Message};

/// How often each is asked: one datagram may be lost.
const TRIES: u32 = 3;
/// How long a reply is waited for at once.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Sends probes to each of `nodes` and waits up to `timeout` for replies: after how long each replied
/// that did. The number of the probes is drawn at random by the caller.
///
/// # Errors
/// When there is no socket to be had, or the keys are none.
pub fn probe(
    identity: &Identity,
    keys: &HeartbeatKeys,
    nodes: &BTreeMap<NodeName, SocketAddr>,
    number: u64,
    timeout: Duration,
) -> io::Result<BTreeMap<NodeName, Duration>> {
    let keys = Keys::new(keys).ok_or_else(|| io::Error::other("heartbeats/key is no key"))?;
    let socket = Socket::bind_all(0)?;
    let mut replied = BTreeMap::new();
    let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
    for _ in 0..TRIES {
        let begun = Instant::now();
        for (node, address) in nodes.iter().filter(|(node, _)| !replied.contains_key(*node)) {
            // What cannot be sent is not replied to.
            let _ = socket.send(&identity.encode(&keys, node, &Message::Probe(number)), *address);
        }
        while begun.elapsed() < timeout / TRIES && replied.len() < nodes.len() {
            let Ok(Some((len, _))) = socket.receive(&mut buffer, AT_ONCE) else { continue };
            if let Ok((from, Message::ProbeReply(reply))) =
                identity.decode(Some(&keys), &buffer[..len])
                && reply == number
                && nodes.contains_key(&from)
            {
                replied.entry(from).or_insert_with(|| begun.elapsed());
            }
        }
    }
    Ok(replied)
}
