//! What hosts tell each other past the store (rule 10).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::name::{NodeName, Revision, SessionId};

/// A node says to all others that it is there (rule 10.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Its session.
    pub session: SessionId,
    /// The process that sends it: see [`NodeConfig::process`](crate::NodeConfig::process).
    pub process: u64,
    /// Counts the process's heartbeats: none is used twice.
    pub number: u64,
    /// The newest mod_revision of its session that the sender's watch has told it.
    pub modified: Revision,
    /// All that happened in the store up to here is known to the sender.
    pub complete_to: Revision,
}

/// The addressee's heartbeat was heard, and no expiry of its session by the sender is under way
/// (rule 10.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The addressee's session.
    pub session: SessionId,
    /// The addressee's process.
    pub process: u64,
    /// The number of its heartbeat.
    pub number: u64,
}

/// One datagram: a heartbeat, and with it the acknowledgement of the addressee's newest one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Datagram {
    /// The sender's heartbeat.
    pub heartbeat: Heartbeat,
    /// The sender has received a heartbeat of the addressee lately. Who has not is not acknowledged: it
    /// would not learn of that (rule 10.4).
    pub hears_addressee: bool,
    /// What of the addressee it acknowledges.
    pub acknowledges: Option<Acknowledgement>,
}

/// Whom a datagram goes to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Addressee {
    /// The node.
    pub node: NodeName,
    /// Where it receives heartbeats.
    pub address: SocketAddr,
    /// What it is told.
    pub datagram: Datagram,
}

/// `heartbeats/key`: what heartbeats are authenticated with. Keys are 256 bits in hexadecimal.
///
/// Whoever can read it can forge an acknowledgement; it lies where whoever can write may move the
/// addresses anyway.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct HeartbeatKeys {
    /// Heartbeats are sent with this one.
    pub current: String,
    /// Those with this one are taken as well: it was the current one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}
