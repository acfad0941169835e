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

impl Player<'_> {
    /// Ends it: whatever is still in force, and then all daemons; looks at what they leave behind. Returns what went
    /// wrong.
    pub(super) fn end(&mut self, vips: &[VipRun]) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let end = self.zero + self.world.script.lasts;
        self.check_what_stays(vips, end, &mut wrong)?;
        self.world.cluster.note("the scenario is over: what befalls hosts and etcd ends");
        let all_are_held = vips.iter().all(|vip| !vip.owners.is_empty());
        let settled = self.end_all().and_then(|()| self.settle(all_are_held));
        let begin = Instant::now();
        let ends = settled.and_then(|()| self.stop_all());
        let ends = ends.and_then(|()| self.world.cluster.assert_nothing_is_left());
        wrong.extend(ends.err().map(|error| first_line(&error)));
        let stopped = Span { from: begin, to: Instant::now() };
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
        self.check_overlap(&mut wrong)?;
        Ok(wrong)
    }

    /// Ends what is still in force and would keep a daemon from leaving nothing behind: one that is cut off cannot
    /// take back what it has told etcd, and what a killed one has left is there until it is started again. What
    /// operators want and what checks find is not in the way.
    fn end_all(&mut self) -> Result<()> {
        let stays = [Verb::Drain, Verb::Pin, Verb::MoveKey, Verb::Reload, Verb::FailCheck];
        let ends = self.under_way.all().filter(|deed| !stays.contains(&deed.verb));
        let ends: Vec<Deed> = ends.cloned().collect();
        ends.iter().try_for_each(|deed| self.end_deed(deed))
    }

    /// Waits until etcd has a leader, without which a daemon that is stopped cannot say so, and all daemons have found
    /// it; and, where all VIPs are held, until each is whole and on one host.
    fn settle(&self, all_are_held: bool) -> Result<()> {
        etcd::wait_for_leader(&self.world.cluster.members)?;
        self.world.cluster.wait_until_none_waits_for_etcd()?;
        match all_are_held {
            true => self.world.cluster.wait_until_each_is_on_one_host(),
            false => Ok(()),
        }
    }

    fn stop_all(&mut self) -> Result<()> {
        let cluster = &mut self.world.cluster;
        cluster.note("all daemons are stopped");
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
