//! Checks of what stands behind VIPs, as each host's daemon tries them (rule 11).

use turnip::seams::Command;
use turnip_core::{Attempt, CheckName};

use crate::plan::Played;
use crate::time::MS;

use super::Inner;
use super::event::{Event, HostEvent, Tried};
use super::ids::HostId;

/// The check of a VIP by its number in everybody's configuration.
pub fn name(vip: usize) -> CheckName {
    format!("c{}", vip + 1).parse().expect("a name")
}

impl Inner {
    /// A daemon has begun: it tries its checks at once.
    pub(super) fn checks_begin(&mut self, host: HostId) {
        let params = &self.env.plan.params;
        let numbered = params.played.as_deref().map_or(0, |played| played.checks.len());
        let mut which: Vec<Tried> = (0..numbered).map(Tried::Number).collect();
        which.extend(params.checks.map(|_| Tried::EachVips));
        let incarnation = self.hosts.incarnation(host);
        for which in which {
            let event = HostEvent::TriesChecks { incarnation, which };
            self.env.after(MS, Event::Host { host, event });
        }
    }

    /// A daemon tries checks once, unless it is another process by now.
    pub(super) fn try_checks(&mut self, host: HostId, incarnation: u32, which: Tried) {
        let event = HostEvent::TriesChecks { incarnation, which };
        let params = &self.env.plan.params;
        let (checks, interval): (Vec<(usize, CheckName)>, u64) = match which {
            Tried::EachVips => {
                let Some(checks) = params.checks else { return };
                let all = (0..params.vips.len()).map(|vip| (vip, name(vip)));
                (all.collect(), checks.interval_ms * MS)
            }
            Tried::Number(number) => {
                let check = |played: &Played| played.checks.get(number).cloned();
                let Some(check) = params.played.as_deref().and_then(check) else { return };
                (vec![(number, check.config.name)], check.interval.as_nanos() as u64)
            }
        };
        if self.hosts.incarnation(host) != incarnation || !self.hosts.is_running(host) {
            return;
        }
        if let Some(event) = self.hosts.defer(host, event) {
            for (number, check) in checks {
                let result = match self.check_fails(host, number) {
                    true => Err("refused".to_owned()),
                    false => Ok(()),
                };
                self.hosts.command(host, Command::Attempt(Attempt { check, result }));
            }
            self.env.after(interval, Event::Host { host, event });
        }
    }
}
