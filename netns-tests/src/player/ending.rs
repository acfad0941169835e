//! How a play ends: whether two hosts ever had an address at once, by their kernels' own events, and what is left of
//! turnip when all daemons are stopped.

use std::time::{Duration, Instant};

use anyhow::Result;
use turnip_sim::play::VipRun;
use turnip_sim::script::{Deed, Expectation, Measure, Verb, human};

use super::network::numbers;
use super::world::addresses_of;
use super::{Player, rounded};
use crate::cluster::SILENT_MAX;
use crate::etcd;
use crate::measure::Span;

/// A VIP that is not to move, nor to be without an answer for longer than a busy machine stops, never leaves its host.
const STALL: Duration = Duration::from_secs(1);

/// What came of the end.
pub(super) struct Ending {
    /// What went wrong.
    pub(super) wrong: Vec<String>,
    /// Why nobody looked at what is left; somebody did when absent.
    pub(super) not_looked: Option<String>,
}

impl Player<'_> {
    /// Ends it: stops all daemons, and looks at what is left, unless something is still in force that prevents it.
    pub(super) fn end(&mut self, vips: &[VipRun]) -> Result<Ending> {
        let mut wrong = Vec::new();
        let end = self.zero + self.world.script.lasts;
        self.check_what_stays(vips, end, &mut wrong)?;
        let not_looked = self.in_the_way();
        if not_looked.is_none() {
            let all_are_held = vips.iter().all(|vip| !vip.owners.is_empty());
            let ends = self.settle(all_are_held).and_then(|()| self.stop_all());
            let ends = ends.and_then(|()| self.world.cluster.assert_nothing_is_left());
            wrong.extend(ends.err().map(|error| first_line(&error)));
            let stopped = Span { from: end, to: Instant::now() };
            let cluster = &self.world.cluster;
            for (number, vip) in vips.iter().enumerate() {
                let overlap = cluster.answers_overlap(&addresses_of(cluster, number), stopped);
                if !overlap.is_zero() {
                    let (vip, time) = (&vip.vip, human(overlap.max(Duration::from_millis(1))));
                    wrong.push(format!(
                        "while daemons were stopped two hosts answered for {vip} for {time}"
                    ));
                }
            }
        }
        self.check_overlap(&mut wrong)?;
        Ok(Ending { wrong, not_looked })
    }

    /// What keeps hosts from leaving nothing behind, of what is still in force at the end.
    fn in_the_way(&self) -> Option<String> {
        let script = self.world.script;
        let was_killed = |host: &usize| {
            let mut kills = self.begun.iter().filter(|deed| deed.verb == Verb::Kill);
            kills.any(|deed| numbers(&deed.whom).contains(host))
        };
        // Hosts without power are not looked at. What the others tell each other is not in the way.
        let is_in_the_way = |deed: &&Deed| match deed.verb {
            // What a killed daemon has left behind is there until it is started again.
            Verb::Stop => numbers(&deed.whom).iter().any(was_killed),
            Verb::Drain | Verb::Pin | Verb::Reload | Verb::FailCheck => false,
            Verb::PowerOff | Verb::Reboot => false,
            _ => true,
        };
        if let Some(deed) = self.under_way.all().find(is_in_the_way) {
            return Some(format!("{} is still in force", script.tell_deed(deed)));
        }
        let members = &self.world.cluster.members;
        let run = members.iter().filter(|member| member.runs()).count();
        (run * 2 <= members.len()).then(|| "etcd has no quorum".to_owned())
    }

    /// Waits until etcd has a leader, without which a daemon that is stopped cannot say so; and, where all VIPs are
    /// held, until each is whole and on one host.
    fn settle(&self, all_are_held: bool) -> Result<()> {
        etcd::wait_for_leader(&self.world.cluster.members)?;
        match all_are_held {
            true => self.world.cluster.wait_until_each_is_on_one_host(),
            false => Ok(()),
        }
    }

    fn stop_all(&mut self) -> Result<()> {
        let cluster = &mut self.world.cluster;
        cluster.note("the scenario is over: all daemons are stopped");
        (0..cluster.size()).try_for_each(|host| cluster.stop_daemon(host))
    }

    /// By the kernels' events, no two hosts ever had an address at once; one that could not take it away had it
    /// silently for a while at most.
    fn check_overlap(&self, wrong: &mut Vec<String>) -> Result<()> {
        let span = Span { from: self.zero, to: Instant::now() };
        let (aside, at_most) = self.helpless();
        let cluster = &self.world.cluster;
        let others = cluster.overlap_without(&aside, span)?;
        if !others.is_zero() {
            let aside = match aside.is_empty() {
                true => String::new(),
                false => " of those whose turnip could take it away".to_owned(),
            };
            let time = human(others.max(Duration::from_millis(1)));
            wrong.push(format!(
                "by their kernels' events two hosts{aside} had an address at once for {time}"
            ));
        }
        let all = cluster.overlap_without(&[], span)?;
        if let Some(at_most) = at_most.filter(|at_most| all > *at_most) {
            let (time, at_most) = (human(rounded(all)), human(at_most));
            wrong.push(format!(
                "by their kernels' events two hosts had an address at once for {time}: more than {at_most}, after which the kernel of one takes it away"
            ));
        }
        Ok(())
    }

    /// The hosts that could not take an address away, and how long one of them may have it beside another host: for
    /// as long as somebody wants it who put it there.
    fn helpless(&self) -> (Vec<usize>, Option<Duration>) {
        // Where the lifetime is the proof, the kernel has taken it away before anybody else has it.
        let is_fenced = self.world.script.is_fenced();
        let (mut hosts, mut at_most) = (Vec::new(), Some(SILENT_MAX));
        for deed in &self.begun {
            match deed.verb {
                Verb::Kill if !is_fenced => {}
                Verb::Kill | Verb::Freeze | Verb::Leave => hosts.extend(numbers(&deed.whom)),
                Verb::AddAddress => {
                    hosts.extend(self.hosts_of(deed));
                    at_most = None;
                }
                _ => {}
            }
        }
        (hosts, at_most)
    }

    /// A VIP that stays where it is does so in the kernel's own view too.
    fn check_what_stays(
        &self,
        vips: &[VipRun],
        end: Instant,
        wrong: &mut Vec<String>,
    ) -> Result<()> {
        let takes = |deed: &Deed| matches!(deed.verb, Verb::RemoveAddress | Verb::LinkDown);
        if self.begun.iter().any(takes) {
            return Ok(());
        }
        for (number, vip) in vips.iter().enumerate() {
            let at_most = |wanted: Measure, limit: u64| {
                self.world.script.expect.iter().any(|one| match one {
                    Expectation::Within { vip, measure, bounds, .. } => {
                        vip.is_none_or(|vip| vip == number)
                            && *measure == wanted
                            && bounds.most <= limit
                    }
                    Expectation::Owner { .. } => false,
                })
            };
            if !at_most(Measure::Moves, 0) || !at_most(Measure::Gap, STALL.as_nanos() as u64) {
                continue;
            }
            let absence =
                self.world.cluster.absence_of(number, Span { from: self.zero, to: end })?;
            if !absence.is_zero() {
                let time = human(absence.max(Duration::from_millis(1)));
                wrong.push(format!("by the kernels' events no host had {} for {time}", vip.vip));
            }
        }
        Ok(())
    }
}

/// The rest is the logs.
pub(super) fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}
