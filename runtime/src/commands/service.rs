//! What the service manager is notified of.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use turnip_core::{Report, VipName};

use super::manager::Manager;

/// The daemon as the service manager sees it.
pub struct Service {
    manager: Manager,
    configured: usize,
    held: BTreeSet<VipName>,
    ready: bool,
    trouble: Option<&'static str>,
    /// Sent once a turn, so that a thousand VIPs that move are one message.
    changed: bool,
    heartbeat: Heartbeat,
}

/// When the driver's loop went round last.
#[derive(Clone)]
pub struct Heartbeat(Rc<Cell<Instant>>);

impl Service {
    /// A service with `configured` VIPs that is about to start.
    pub fn new(configured: usize, manager: Manager) -> Self {
        Service {
            manager,
            configured,
            held: BTreeSet::new(),
            ready: false,
            trouble: None,
            changed: false,
            heartbeat: Heartbeat(Rc::new(Cell::new(Instant::now()))),
        }
    }

    /// Shared with the watchdog.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// The driver's loop went round.
    pub fn turn(&mut self) {
        self.heartbeat.0.set(Instant::now());
        if std::mem::take(&mut self.changed) {
            self.send_status();
        }
        self.manager.retry();
    }

    /// Takes note of a transition. The first session makes the service ready.
    pub fn report(&mut self, report: &Report) {
        match report {
            Report::SessionOpened { .. } | Report::SessionResumed { .. } => {
                self.trouble = None;
                if !self.ready {
                    self.ready = true;
                    self.manager.ready();
                }
            }
            Report::Assumed { vip, .. } => {
                self.held.insert(vip.clone());
            }
            Report::Forfeited { vip, .. } => {
                self.held.remove(vip);
            }
            Report::SessionLost { .. } => self.trouble = Some("no session"),
            Report::RenewalsFail { .. } => self.trouble = Some("etcd does not answer"),
            Report::RenewalsSucceed => self.trouble = None,
            Report::NameContested { .. } => self.trouble = Some("this node's name is taken"),
            _ => return,
        }
        self.changed = true;
    }

    fn send_status(&self) {
        let mut status = format!("holding {} of {} VIPs", self.held.len(), self.configured);
        if let Some(trouble) = self.trouble {
            status += &format!("; {trouble}");
        }
        self.manager.status(&status);
    }
}

/// Pings the watchdog for as long as the driver's loop goes round; never ends. A loop at rest
/// goes round at every renewal, so silence of three intervals `renew` means that it hangs.
pub async fn watchdog(manager: &Manager, heartbeat: Option<Heartbeat>, renew: Duration) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        let alive = heartbeat
            .as_ref()
            .is_none_or(|heartbeat| heartbeat.0.get().elapsed() < interval.max(renew * 3));
        if alive {
            manager.ping();
        }
        tokio::time::sleep(interval / 2).await;
    }
}
