//! One daemon a network namespace (rule 6.8 of the protocol).
//!
//! The lock is a group of packet sockets with room for one (`room`), which takes privileges. Who has it
//! listens on an abstract unix socket besides, and says its name to whoever is too late. Any user may have
//! taken that socket: then nobody is told a name, and that is all.

mod room;

use std::fmt;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::socket::{UnixCredentials, getsockopt, sockopt};
use nix::unistd::Uid;

use room::Room;

/// Under this name turnip says who it is. Before it had another lock, this socket was it.
const NAME: &str = "turnip";
/// How long the first daemon is given to say its name.
const PATIENCE: Duration = Duration::from_millis(200);

/// Held while the daemon runs.
#[derive(Debug)]
pub struct InstanceLock {
    _room: Room,
    accepting: Option<tokio::task::JoinHandle<()>>,
}

/// Why the lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Another daemon has it.
    Taken {
        /// Its process id, as seen from here.
        pid: Option<i32>,
        /// The node that it runs as; it may be too busy to say.
        node: Option<String>,
    },
    /// It could not be made, for want of privileges for one.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Taken { pid, node } => {
                f.write_str("another turnip runs in this network namespace already")?;
                match (pid, node) {
                    (Some(pid), Some(node)) => write!(f, ": node {node}, process {pid}"),
                    (Some(pid), None) => write!(f, ": process {pid}"),
                    (None, Some(node)) => write!(f, ": node {node}"),
                    (None, None) => Ok(()),
                }
            }
            LockError::Io(error) => write!(f, "cannot take the lock of this host: {error}"),
        }
    }
}

impl std::error::Error for LockError {}

impl InstanceLock {
    /// Takes the lock for the node. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When another daemon has it: the error names that one.
    pub fn take(node: &str) -> Result<Self, LockError> {
        let address = SocketAddr::from_abstract_name(NAME).map_err(LockError::Io)?;
        let room = match Room::take() {
            Ok(Some(room)) => room,
            Ok(None) => return Err(ask(&address)),
            // Whoever lacks the privileges can ask all the same.
            Err(error) => {
                return Err(match ask(&address) {
                    LockError::Taken { pid: None, node: None } => LockError::Io(error),
                    taken => taken,
                });
            }
        };
        let listener = match UnixListener::bind_addr(&address) {
            Ok(listener) => listener,
            Err(_) => {
                // A turnip of before, for which this is the lock.
                if let Some(taken) = privileged(&address) {
                    return Err(taken);
                }
                tracing::warn!(
                    "another program listens on the abstract socket {NAME:?}: who asks which turnip runs here is told what that says"
                );
                return Ok(InstanceLock { _room: room, accepting: None });
            }
        };
        listener.set_nonblocking(true).map_err(LockError::Io)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(LockError::Io)?;
        let accepting = Some(tokio::spawn(say(node.to_owned(), listener)));
        Ok(InstanceLock { _room: room, accepting })
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// Says the node's name to whoever asks.
async fn say(node: String, listener: tokio::net::UnixListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        // A name fits the socket's buffer, so this never waits.
        if let Ok(mut stream) = stream.into_std() {
            let _ = stream.write_all(node.as_bytes());
        }
    }
}

/// Who listens on the socket, if it is somebody who could have the privileges: root, or this very user, who
/// under the unit is nobody else.
fn privileged(address: &SocketAddr) -> Option<LockError> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let uid = Uid::from_raw(credentials(&stream)?.uid());
    (uid.is_root() || uid == Uid::effective()).then(|| ask(address))
}

fn credentials(stream: &UnixStream) -> Option<UnixCredentials> {
    getsockopt(stream, sockopt::PeerCredentials).ok()
}

fn ask(address: &SocketAddr) -> LockError {
    let Ok(mut stream) = UnixStream::connect_addr(address) else {
        return LockError::Taken { pid: None, node: None };
    };
    let pid = credentials(&stream).map(|peer| peer.pid());
    let mut node = String::new();
    let read =
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_string(&mut node));
    LockError::Taken { pid, node: read.ok().filter(|_| !node.is_empty()).map(|_| node) }
}
