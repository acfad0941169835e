//! Judges a run at its end.

use turnip_core::placement::{self, Candidate};

use crate::check::Hosts;
use crate::daemon;
use crate::plan::{Daemon, PolicyParams};
use crate::run::{Failure, Outcome};
use crate::world::{Inner, World};

/// What must not be, and was; and what happened. `settled` is what [`settled`] said.
pub fn judge(world: &World, settled: Vec<Failure>, ended: bool) -> Outcome {
    let inner = &mut *world.inner();
    let now = inner.env.now();
    inner.env.checker.finish(now);
    let mut failures = Vec::new();
    if inner.env.plan.params.daemon != Daemon::Naive {
        failures.extend(inner.env.checker.overlaps.iter().map(|span| Failure::Overlap(*span)));
        let refusals = inner.env.record.refusals.drain(..);
        failures.extend(refusals.map(|(host, why)| Failure::Refused { host, why }));
        failures.extend(settled);
        if ended {
            stopped(inner, &mut failures);
        }
    }
    Outcome {
        failures,
        tally: inner.env.record.tally,
        overlap_max: inner.env.checker.overlap_max(),
        overlaps: std::mem::take(&mut inner.env.checker.overlaps),
        gaps: std::mem::take(&mut inner.env.checker.gaps),
        held: std::mem::take(&mut inner.env.checker.held),
        marks: std::mem::take(&mut inner.env.record.marks),
        moves_max: inner.env.checker.moves.iter().copied().max().unwrap_or(0),
        trace: std::mem::take(&mut inner.env.record.lines),
        turns: inner.env.record.turns,
    }
}

/// Whether, after healing, every VIP is where it belongs and has stayed there. Looked at just
/// before the daemons are stopped.
pub fn settled(inner: &Inner) -> Vec<Failure> {
    let mut failures = Vec::new();
    let by = inner.env.plan.heal_at + inner.env.plan.params.convergence();
    for vip in 0..inner.env.layout.vip_addresses.len() {
        let (some, all) = (inner.env.checker.holders(vip), inner.env.checker.whole_holders(vip));
        if some != all || all.count_ones() != 1 {
            failures.push(Failure::NotHeld { vip, hosts: numbers(some) });
            continue;
        }
        let changed = inner.env.checker.last_change[vip];
        if changed > by {
            let after_ns = changed - inner.env.plan.heal_at;
            failures.push(Failure::NotSettled { vip, after_ns });
        }
        let on = all.trailing_zeros() as usize;
        if let Some(wanted) = wanted(inner, vip)
            && wanted != on
        {
            failures.push(Failure::Misplaced { vip, on, wanted });
        }
    }
    failures
}

/// Where a VIP's policy wants it when all hosts are well; nothing when it does not care.
fn wanted(inner: &Inner, vip: usize) -> Option<usize> {
    let params = &inner.env.plan.params;
    let policy = &params.vips[vip].policy;
    match policy {
        PolicyParams::Leader => {
            let leader = inner.etcd.leader()?;
            return (0..params.hosts).find(|&host| params.member_on(host) == Some(leader));
        }
        PolicyParams::Priority { priorities, preempt } => {
            let highest = priorities.iter().max()?;
            let ties = priorities.iter().filter(|priority| *priority == highest).count();
            if !preempt || ties > 1 {
                return None;
            }
        }
        PolicyParams::Spread => {}
    }
    let candidates: Vec<Candidate> = (0..params.hosts)
        .map(|host| Candidate {
            name: inner.env.layout.names.node(host).clone(),
            weight: params.weights[host],
            priority: match policy {
                PolicyParams::Priority { priorities, .. } => priorities[host],
                _ => 0,
            },
            leads_term: None,
        })
        .collect();
    let policy = daemon::policy(policy, 0);
    let ranked = placement::rank(policy, inner.env.layout.names.vip(vip), &candidates, None, None);
    inner.env.layout.names.host_of(ranked.first()?)
}

/// Whether the daemons stopped and left nothing behind.
fn stopped(inner: &Inner, failures: &mut Vec<Failure>) {
    for host in 0..inner.hosts.len() {
        if inner.hosts.is_running(host) {
            failures.push(Failure::StillRuns { host });
            continue;
        }
        let (addresses, fence) = inner.hosts.leftovers(host);
        if !addresses.is_empty() {
            failures.push(Failure::LeftBehind { host, what: format!("{addresses:?}") });
        }
        if fence {
            failures.push(Failure::LeftBehind { host, what: "its fence".into() });
        }
        if inner.etcd.newest(&inner.env.layout.names.session(host)).is_some() {
            failures.push(Failure::SessionLeft { host });
        }
    }
}

fn numbers(hosts: Hosts) -> Vec<usize> {
    (0..32).filter(|host| hosts >> host & 1 == 1).collect()
}
