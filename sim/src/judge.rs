//! Judges a run at its end.

use turnip_core::placement::{self, Candidate};

use crate::check::Hosts;
use crate::daemon;
use crate::plan::{Daemon, PolicyParams};
use crate::run::{Failure, Outcome};
use crate::world::{Inner, World};

/// What must not be, and was; and what happened.
pub fn judge(world: &World, ended: bool) -> Outcome {
    let mut inner = world.inner();
    let now = inner.now;
    inner.checker.finish(now);
    let mut failures = Vec::new();
    if inner.plan.params.daemon != Daemon::Naive {
        failures.extend(inner.checker.overlaps.iter().map(|span| Failure::Overlap(*span)));
        let refusals = inner.record.refusals.drain(..);
        failures.extend(refusals.map(|(host, why)| Failure::Refused { host, why }));
        failures.extend(inner.settled.clone());
        if ended {
            stopped(&inner, &mut failures);
        }
    }
    Outcome {
        failures,
        tally: inner.record.tally,
        overlap_max: inner.checker.overlap_max(),
        overlaps: std::mem::take(&mut inner.checker.overlaps),
        gaps: std::mem::take(&mut inner.checker.gaps),
        held: std::mem::take(&mut inner.checker.held),
        marks: std::mem::take(&mut inner.record.marks),
        moves_max: inner.checker.moves.iter().copied().max().unwrap_or(0),
        trace: std::mem::take(&mut inner.record.lines),
        turns: inner.record.turns,
    }
}

/// Whether, after healing, every VIP is where it belongs and has stayed there. Looked at just
/// before the daemons are stopped.
pub fn settled(inner: &Inner) -> Vec<Failure> {
    let mut failures = Vec::new();
    let by = inner.plan.heal_at + inner.plan.params.convergence();
    for vip in 0..inner.vip_addresses.len() {
        let (some, all) = (inner.checker.holders(vip), inner.checker.whole_holders(vip));
        if some != all || all.count_ones() != 1 {
            failures.push(Failure::NotHeld { vip, hosts: numbers(some) });
            continue;
        }
        let changed = inner.checker.last_change[vip];
        if changed > by {
            let after_ns = changed - inner.plan.heal_at;
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
    let params = &inner.plan.params;
    let policy = &params.vips[vip].policy;
    match policy {
        PolicyParams::Leader => {
            let leader = inner.leader()?;
            return inner.hosts.iter().position(|host| host.member == Some(leader));
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
            name: inner.names.node(host).clone(),
            weight: params.weights[host],
            priority: match policy {
                PolicyParams::Priority { priorities, .. } => priorities[host],
                _ => 0,
            },
            leads_term: None,
        })
        .collect();
    let policy = daemon::policy(policy, 0);
    let ranked = placement::rank(policy, inner.names.vip(vip), &candidates, None, None);
    inner.names.host_of(ranked.first()?)
}

/// Whether the daemons stopped and left nothing behind.
fn stopped(inner: &Inner, failures: &mut Vec<Failure>) {
    for (host, state) in inner.hosts.iter().enumerate() {
        if state.running {
            failures.push(Failure::StillRuns { host });
            continue;
        }
        let (addresses, fence) = state.kernel.leftovers();
        if !addresses.is_empty() {
            failures.push(Failure::LeftBehind { host, what: format!("{addresses:?}") });
        }
        if fence {
            failures.push(Failure::LeftBehind { host, what: "its fence".into() });
        }
        if inner.store.newest(&inner.names.session(host)).is_some() {
            failures.push(Failure::SessionLeft { host });
        }
    }
}

fn numbers(hosts: Hosts) -> Vec<usize> {
    (0..32).filter(|host| hosts >> host & 1 == 1).collect()
}
