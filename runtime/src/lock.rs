//! One daemon a network namespace.
//!
//! The lock is an abstract unix socket: the kernel scopes it to the network namespace, and lets
//! go of it with the process. Whoever is too late can ask it who was first.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

const NAME: &str = "turnip";
/// How long the first daemon is given to say its name.
const PATIENCE: Duration = Duration::from_millis(200);

/// Held while the daemon runs.
#[derive(Debug)]
pub struct InstanceLock {
    accepting: tokio::task::JoinHandle<()>,
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
    /// The socket could not be made.
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
        let listener = match UnixListener::bind_addr(&address) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(ask(&address)),
            Err(error) => return Err(LockError::Io(error)),
        };
        listener.set_nonblocking(true).map_err(LockError::Io)?;
        let listener = tokio::net::UnixListener::from_std(listener).map_err(LockError::Io)?;
        let node = node.to_owned();
        let accepting = tokio::spawn(async move {
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
        });
        Ok(InstanceLock { accepting })
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn ask(address: &SocketAddr) -> LockError {
    let Ok(mut stream) = UnixStream::connect_addr(address) else {
        return LockError::Taken { pid: None, node: None };
    };
    let pid = getsockopt(&stream, sockopt::PeerCredentials).ok().map(|peer| peer.pid());
    let mut node = String::new();
    let read =
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_string(&mut node));
    LockError::Taken { pid, node: read.ok().filter(|_| !node.is_empty()).map(|_| node) }
}
