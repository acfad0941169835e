//! Checks of what stands behind VIPs, as each host's daemon tries them (rule 11).

use turnip::seams::Command;
use turnip_core::{Attempt, CheckName};

use crate::time::MS;

use super::Inner;
use super::event::{Event, HostEvent};
use super::ids::HostId;

/// The check of a VIP by its number in everybody's configuration.
pub fn name(vip: usize) -> CheckName {
    format!("c{vip}").parse().expect("a name")
}

impl Inner {
    /// A daemon has begun: it tries its checks at once.
    pub(super) fn checks_begin(&mut self, host: HostId) {
        if self.env.plan.params.checks.is_some() {
            let incarnation = self.hosts.incarnation(host);
            self.env.after(MS, Event::Host { host, event: HostEvent::TriesChecks { incarnation } });
        }
    }

    /// A daemon tries its checks once, unless it is another process by now.
    pub(super) fn try_checks(&mut self, host: HostId, incarnation: u32) {
        let event = HostEvent::TriesChecks { incarnation };
        let Some(checks) = self.env.plan.params.checks else { return };
        if self.hosts.incarnation(host) != incarnation || !self.hosts.is_running(host) {
            return;
        }
        if let Some(event) = self.hosts.defer(host, event) {
            for vip in 0..self.env.plan.params.vips.len() {
                let result = match self.check_fails(host, vip) {
                    true => Err("refused".to_owned()),
                    false => Ok(()),
                };
                let attempt = Attempt { check: name(vip), result };
                self.hosts.command(host, Command::Attempt(attempt));
            }
            self.env.after(checks.interval_ms * MS, Event::Host { host, event });
        }
    }
}
