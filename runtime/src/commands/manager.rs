//! The service manager, where there is one: systemd, or whoever set `NOTIFY_SOCKET`.
//!
//! It must never hold up the daemon: its socket takes a handful of messages and then lets senders
//! wait, and a host where systemd is stuck is the very one on which renewals must go on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager. Without a service manager nothing happens.
#[derive(Clone, Default)]
pub struct Manager(Option<Rc<Notifier>>);

struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    /// What it has not taken yet, oldest first.
    waiting: RefCell<VecDeque<String>>,
    /// It was told that the start is over.
    ready: Cell<bool>,
    /// It was told that the end is intended.
    stopping: Cell<bool>,
}

impl Manager {
    /// The one that started this process.
    pub fn new() -> Self {
        Manager(
            std::env::var("NOTIFY_SOCKET").ok().and_then(|name| Notifier::new(&name)).map(Rc::new),
        )
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// The start is over: the daemon works, or waits for something that may take any time. Said once.
    pub fn ready(&self) {
        if let Some(notifier) = &self.0
            && !notifier.ready.replace(true)
        {
            self.notify(&NotifyState::Ready);
        }
    }

    /// A status line for people.
    pub fn status(&self, status: &str) {
        self.notify(&NotifyState::Status(status));
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        self.notify(&NotifyState::Reloading);
        // Where the manager waits for the end of that it wants to know when it began.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&now);
        }
    }

    /// That is over, however it went.
    pub fn reloaded(&self) {
        self.notify(&NotifyState::Ready);
    }

    /// The end is intended.
    pub fn stopping(&self) {
        if let Some(notifier) = &self.0 {
            notifier.stopping.set(true);
        }
        self.notify(&NotifyState::Stopping);
        self.status("handing over");
    }

    /// Whether the end is intended.
    pub fn is_stopping(&self) -> bool {
        self.0.as_ref().is_some_and(|notifier| notifier.stopping.get())
    }

    /// The end takes so much longer at most, whatever limit is configured.
    pub fn extend(&self, by: Duration) {
        let by = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.notify(&NotifyState::ExtendTimeoutUsec(by));
    }

    /// The daemon is alive.
    pub fn ping(&self) {
        self.notify(&NotifyState::Watchdog);
    }

    /// Sends what could not be sent before.
    pub fn retry(&self) {
        if let Some(notifier) = &self.0 {
            notifier.send();
        }
    }

    fn notify(&self, state: &NotifyState<'_>) {
        if let Some(notifier) = &self.0 {
            notifier.queue(state.to_string());
            notifier.send();
        }
    }
}

impl Notifier {
    fn new(name: &str) -> Option<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Notifier {
            socket,
            address: address.ok()?,
            waiting: RefCell::default(),
            ready: Cell::default(),
            stopping: Cell::default(),
        })
    }

    /// Of messages of one kind only the newest counts, so that few ever wait.
    fn queue(&self, message: String) {
        let kind = |message: &str| message.split('=').next().map(str::to_owned);
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|other| kind(other) != kind(&message));
        waiting.push_back(message);
    }

    fn send(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(message) = waiting.front() {
            match self.socket.send_to_addr(message.as_bytes(), &self.address) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // With a manager that went away there is nobody to notify.
                _ => drop(waiting.pop_front()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &std::path::Path) -> Manager {
        Manager(Notifier::new(name.to_str().unwrap()).map(Rc::new))
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 256];
        let mut messages = Vec::new();
        while let Ok(length) = socket.recv(&mut buffer) {
            messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        messages
    }

    #[test]
    fn a_manager_that_does_not_listen_holds_up_nobody_and_misses_nothing_that_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let manager = manager(&path);
        // The kernel's limit, net.unix.max_dgram_qlen, is 10 or some hundreds.
        (0..2_000).for_each(|_| manager.ping());
        manager.ready();
        manager.status("holding 1 of 1 VIPs");
        received(&socket);
        manager.retry();
        let late = received(&socket);
        assert!(late.contains(&"READY=1".to_owned()), "{late:?}");
        assert!(late.contains(&"STATUS=holding 1 of 1 VIPs".to_owned()), "{late:?}");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        Manager::default().ready();
    }
}
