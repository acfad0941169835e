//! What happens to thousands of VIPs at once is a few lines, not thousands: of each kind so many in a
//! second are logged by themselves, and the rest is summed up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use turnip_core::{Level, Report, VipName};

/// So many lines of one kind are logged by themselves in each window.
const ALONE_MAX: usize = 10;
/// How long the rest is collected.
const WINDOW: Duration = Duration::from_secs(1);
/// So many VIPs are named to people.
const SHOWN: usize = 5;
/// So many are named to programs.
const NAMED: usize = 100;
/// So many reasons are given.
const REASONS: usize = 3;

/// The lines of each kind that were logged in the window that is open, and what was not.
#[derive(Default)]
pub struct Summary(BTreeMap<Kind, Group>);

/// The event of the reports, and whether it matters.
type Kind = (&'static str, bool);

struct Group {
    /// When its window was opened.
    since: Instant,
    alone: usize,
    verb: &'static str,
    level: Level,
    rest: BTreeSet<VipName>,
    reasons: BTreeMap<String, usize>,
}

/// What was not logged by itself.
pub struct Line {
    /// The event of the reports.
    pub event: &'static str,
    /// How much each of them matters.
    pub level: Level,
    /// How many VIPs it is about.
    pub count: usize,
    /// Their names, or the first of many.
    pub vips: String,
    /// For people.
    pub text: String,
}

impl Summary {
    /// Takes note of a report; whether it is to be logged by itself.
    pub fn is_alone(&mut self, event: &'static str, report: &Report, now: Instant) -> bool {
        let Some((vip, verb, reason)) = about_one(report) else { return true };
        let level = report.level();
        let group = self.0.entry((event, level == Level::Info)).or_insert_with(|| Group {
            since: now,
            alone: 0,
            verb,
            level,
            rest: BTreeSet::new(),
            reasons: BTreeMap::new(),
        });
        if group.rest.is_empty() && now.duration_since(group.since) >= WINDOW {
            (group.since, group.alone) = (now, 0);
        }
        if group.alone < ALONE_MAX {
            group.alone += 1;
            return true;
        }
        group.rest.insert(vip.clone());
        if let Some(reason) = reason {
            *group.reasons.entry(reason).or_default() += 1;
        }
        false
    }

    /// When the next window is over in which something was not logged.
    pub fn next_due(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|group| !group.rest.is_empty());
        waiting.map(|group| group.since + WINDOW).min()
    }

    /// What was not logged in windows that are over.
    pub fn due(&mut self, now: Instant) -> Vec<Line> {
        self.take(|group| group.since + WINDOW <= now)
    }

    /// All that was not logged.
    pub fn rest(&mut self) -> Vec<Line> {
        self.take(|_| true)
    }

    fn take(&mut self, is_over: impl Fn(&Group) -> bool) -> Vec<Line> {
        let over = self.0.extract_if(.., |_, group| is_over(group));
        over.filter(|(_, group)| !group.rest.is_empty())
            .map(|((event, _), group)| group.line(event))
            .collect()
    }
}

impl Group {
    fn line(&self, event: &'static str) -> Line {
        let count = self.rest.len();
        let names = |most: usize| self.rest.iter().take(most).map(VipName::as_str);
        let mut shown = names(SHOWN).collect::<Vec<_>>().join(", ");
        if count > SHOWN {
            shown += &format!(" and {} others", count - SHOWN);
        }
        let vips = if count == 1 { "VIP" } else { "VIPs" };
        let text = format!("{} {count} more {vips}: {shown}{}", self.verb, self.reasons());
        Line {
            event,
            level: self.level,
            count,
            vips: names(NAMED).collect::<Vec<_>>().join(","),
            text,
        }
    }

    fn reasons(&self) -> String {
        let mut reasons: Vec<(&String, &usize)> = self.reasons.iter().collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
        match reasons.as_slice() {
            [] => String::new(),
            [(reason, _)] => format!("; {reason}"),
            several => {
                let shown = several.iter().take(REASONS);
                let shown: Vec<String> =
                    shown.map(|(reason, count)| format!("{reason} ({count})")).collect();
                let more = several.len().saturating_sub(REASONS);
                let more = if more > 0 { format!("; {more} other reasons") } else { String::new() };
                format!("; {}{more}", shown.join("; "))
            }
        }
    }
}

/// The VIP that a report is about, what happens to it, and why.
fn about_one(report: &Report) -> Option<(&VipName, &'static str, Option<String>)> {
    Some(match report {
        Report::Assuming { vip, .. } => (vip, "assuming", None),
        Report::Assumed { vip, .. } => (vip, "assumed", None),
        Report::Kept { vip, .. } => (vip, "kept", None),
        Report::Forfeiting { vip, why, .. } => (vip, "forfeiting", Some(format!("because {why}"))),
        Report::Forfeited { vip, .. } => (vip, "forfeited", None),
        Report::HandedOver { vip, to: Some(to) } => (vip, "handed over", Some(format!("to {to}"))),
        Report::HandedOver { vip, to: None } => {
            (vip, "released", Some("no other node can take them".to_owned()))
        }
        Report::Repairing { vip, what, .. } => (vip, "repairing", Some(what.clone())),
        Report::Misplaced { vip, .. } => (vip, "putting there anew, behind the host's own,", None),
        Report::KernelFails { vip, why } => (vip, "the kernel fails with", Some(why.clone())),
        Report::Blocked { vip, why } => (vip, "cannot hold here", Some(why.clone())),
        Report::Double { vip, why, held: false } => {
            (vip, "cannot hold here, beside addresses of others,", Some(why.clone()))
        }
        Report::Double { vip, why, held: true } => {
            (vip, "held here beside addresses of others:", Some(why.clone()))
        }
        Report::DoubleGone { vip } => (vip, "nowhere else on this host any more:", None),
        Report::HookStarted { vip, hook, .. } => (vip, "running hooks of", Some(hook.to_string())),
        Report::HookEnded { vip, hook, end } => {
            let verb =
                if end.is_success() { "hooks have ended of" } else { "hooks have failed of" };
            let why = if end.is_success() { hook.to_string() } else { format!("{hook}: {end}") };
            (vip, verb, Some(why))
        }
        Report::Unblocked { vip } => (vip, "can hold here again", None),
        Report::PinIgnored { vip, why, .. } => (vip, "ignoring the pins of", Some(why.clone())),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked(number: usize, why: &str) -> Report {
        Report::Blocked { vip: format!("v{number:04}").parse().unwrap(), why: why.into() }
    }

    /// How many of so many are logged by themselves, one a millisecond.
    fn tell(summary: &mut Summary, count: usize, why: &str, from: Instant) -> usize {
        let at = |number: usize| from + Duration::from_micros(number as u64 * 100);
        let alone =
            |number: &usize| summary.is_alone("blocked", &blocked(*number, why), at(*number));
        (0..count).filter(alone).count()
    }

    #[test]
    fn five_thousand_vips_of_an_interface_that_goes_down_are_some_lines() {
        let (mut summary, now) = (Summary::default(), Instant::now());
        assert_eq!(tell(&mut summary, 5_000, "interface eth0 is down", now), ALONE_MAX);
        assert_eq!(summary.next_due(), Some(now + WINDOW));
        assert!(summary.due(now + WINDOW / 2).is_empty());
        let lines = summary.due(now + WINDOW);
        let [line] = lines.as_slice() else { panic!("{} lines", lines.len()) };
        assert_eq!((line.count, line.level), (4_990, Level::Error));
        assert_eq!(
            line.text,
            "cannot hold here 4990 more VIPs: v0010, v0011, v0012, v0013, v0014 and 4985 others; interface eth0 is down"
        );
        assert_eq!(line.vips.split(',').count(), NAMED);
        assert_eq!(summary.next_due(), None);
    }

    #[test]
    fn a_few_are_logged_by_themselves_and_a_few_later_on_too() {
        let (mut summary, now) = (Summary::default(), Instant::now());
        assert_eq!(tell(&mut summary, ALONE_MAX, "x", now), ALONE_MAX);
        assert_eq!(tell(&mut summary, ALONE_MAX, "x", now + WINDOW), ALONE_MAX);
        assert!(summary.rest().is_empty());
    }

    #[test]
    fn reasons_are_given_with_how_often_and_the_end_waits_for_no_window() {
        let (mut summary, now) = (Summary::default(), Instant::now());
        tell(&mut summary, 20, "often", now);
        tell(&mut summary, 5, "seldom", now);
        let lines = summary.rest();
        assert!(lines[0].text.ends_with("; often (10); seldom (5)"), "{}", lines[0].text);
    }

    #[test]
    fn what_is_about_no_single_vip_is_always_logged() {
        let (mut summary, now) = (Summary::default(), Instant::now());
        assert!((0..100).all(|_| summary.is_alone("x", &Report::RenewalsSucceed, now)));
    }
}
