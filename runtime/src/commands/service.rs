//! What the service manager is notified of.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use turnip_core::{NO_NEWS, Report, VipName};

use super::manager::Manager;

/// The daemon as the service manager sees it.
pub struct Service {
    manager: Manager,
    configured: Rc<Cell<usize>>,
    held: BTreeSet<VipName>,
    has_session: bool,
    /// What is amiss; each until that itself has ended.
    troubles: BTreeSet<Trouble>,
    /// Sent once a turn, so that a thousand VIPs that move are one message.
    changed: bool,
    heartbeat: Heartbeat,
}

/// What keeps a daemon from being as it should; the first in this order is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Trouble {
    NameTaken,
    Unanswered,
    WithoutNews,
}

impl Trouble {
    fn as_str(self) -> &'static str {
        match self {
            Trouble::NameTaken => "this node's name is taken",
            Trouble::Unanswered => "etcd takes no renewals",
            Trouble::WithoutNews => NO_NEWS,
        }
    }
}

/// When the driver's loop went round last.
#[derive(Clone)]
pub struct Heartbeat(Rc<Cell<Instant>>);

impl Service {
    /// A service with `configured` VIPs that is about to start.
    pub fn new(configured: usize, manager: Manager) -> Self {
        Service {
            manager,
            configured: Rc::new(Cell::new(configured)),
            held: BTreeSet::new(),
            has_session: false,
            troubles: BTreeSet::new(),
            changed: false,
            heartbeat: Heartbeat(Rc::new(Cell::new(Instant::now()))),
        }
    }

    /// How many VIPs there are: whoever changes the configuration says so.
    pub fn configured(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.configured)
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

    /// Takes note of a transition. The service is ready with the first session, or with the first reason to
    /// wait for one: that may last as long as it likes, and nobody's start or boot must last as long.
    pub fn report(&mut self, report: &Report) {
        match report {
            Report::SessionOpened { .. } | Report::SessionResumed { .. } => {
                self.has_session = true;
                self.troubles.clear();
            }
            Report::Assumed { vip, .. } | Report::Kept { vip, .. } => {
                self.held.insert(vip.clone());
            }
            Report::Forfeited { vip, .. } => {
                self.held.remove(vip);
            }
            Report::SessionLost { .. } => self.has_session = false,
            Report::RenewalsFail { .. } => drop(self.troubles.insert(Trouble::Unanswered)),
            Report::RenewingStopped { .. } => drop(self.troubles.insert(Trouble::WithoutNews)),
            Report::RenewalsSucceed => self.troubles.retain(|one| *one == Trouble::NameTaken),
            Report::RenewalAnswered => drop(self.troubles.remove(&Trouble::Unanswered)),
            Report::RenewingGoesOn => drop(self.troubles.remove(&Trouble::WithoutNews)),
            Report::NameContested { .. } => drop(self.troubles.insert(Trouble::NameTaken)),
            Report::Reconfigured { .. } => {}
            _ => return,
        }
        self.changed = true;
        if self.has_session || !self.troubles.is_empty() {
            self.manager.ready();
        }
    }

    fn send_status(&self) {
        if !self.manager.is_stopping() {
            self.manager.status(&self.status());
        }
    }

    fn status(&self) -> String {
        let held = format!("holding {} of {} VIPs", self.held.len(), self.configured.get());
        match (self.troubles.first(), self.has_session) {
            (Some(trouble), _) => format!("{held}; {}", trouble.as_str()),
            (None, true) => held,
            (None, false) => format!("{held}; no session"),
        }
    }
}

/// When the service manager is told at the latest that the start is over.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Says that the start is over when that takes long, whatever it waits for; never ends.
pub async fn ready_in_any_case(manager: &Manager) {
    tokio::time::sleep(READY_WITHIN).await;
    manager.ready();
    std::future::pending().await
}

/// How often the service manager hears that the end goes on, and for how long it then waits.
const PROLONG_EVERY: Duration = Duration::from_secs(2);
const PROLONG_BY: Duration = Duration::from_secs(15);

/// Keeps the service manager from killing a daemon that is ending and whose loop goes round: how long that
/// may take follows from the lease, which the manager does not know. Never ends.
pub async fn prolong(manager: &Manager, heartbeat: Heartbeat, renew: Duration) {
    loop {
        tokio::time::sleep(PROLONG_EVERY).await;
        if manager.is_stopping() && heartbeat.is_alive(PROLONG_EVERY.max(renew * 3)) {
            manager.extend(PROLONG_BY);
        }
    }
}

/// Pings the watchdog for as long as the driver's loop goes round; never ends. A loop at rest
/// goes round at every renewal, so silence of three intervals `renew` means that it hangs.
pub async fn watchdog(manager: &Manager, heartbeat: Option<Heartbeat>, renew: Duration) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    loop {
        let longest = interval.max(renew * 3);
        if heartbeat.as_ref().is_none_or(|heartbeat| heartbeat.is_alive(longest)) {
            manager.ping();
        }
        tokio::time::sleep(interval / 2).await;
    }
}

impl Heartbeat {
    /// Whether the loop went round lately.
    fn is_alive(&self, longest: Duration) -> bool {
        self.0.get().elapsed() < longest
    }
}

#[cfg(test)]
mod tests {
    use turnip_core::{Revision, SessionId};

    use super::*;

    fn opened() -> Report {
        Report::SessionOpened { session: SessionId(Revision(7)) }
    }

    #[test]
    fn the_status_says_what_is_held_and_what_is_amiss() {
        let mut service = Service::new(2, Manager::default());
        assert_eq!(service.status(), "holding 0 of 2 VIPs; no session");
        service.report(&opened());
        assert_eq!(service.status(), "holding 0 of 2 VIPs");
        service.report(&Report::RenewalsFail { why: String::new(), left: Duration::ZERO });
        assert_eq!(service.status(), "holding 0 of 2 VIPs; etcd takes no renewals");
        service.report(&Report::RenewalsSucceed);
        let lost = Report::SessionLost { session: SessionId(Revision(7)), why: String::new() };
        service.report(&lost);
        assert_eq!(service.status(), "holding 0 of 2 VIPs; no session");
    }

    #[test]
    fn each_trouble_is_told_until_that_one_has_ended() {
        let left = Duration::ZERO;
        let mut service = Service::new(1, Manager::default());
        service.report(&opened());
        service.report(&Report::RenewalsFail { why: String::new(), left });
        service.report(&Report::RenewingStopped { left });
        service.report(&Report::RenewalAnswered);
        assert_eq!(service.status(), "holding 0 of 1 VIPs; no news come from etcd");
        service.report(&Report::RenewingGoesOn);
        assert_eq!(service.status(), "holding 0 of 1 VIPs");
        service.report(&Report::NameContested { why: String::new() });
        service.report(&Report::RenewalsFail { why: String::new(), left });
        service.report(&Report::RenewalsSucceed);
        assert_eq!(service.status(), "holding 0 of 1 VIPs; this node's name is taken");
    }
}
