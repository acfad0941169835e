//! Judges a run: what of what happened must not be.

pub mod allowance;
mod failure;
mod following;
mod gaps;
mod hooks;

use turnip_core::placement::{self, Candidate};

use crate::plan::{Daemon, Fault, HookParams, PolicyParams};
use crate::record::Refusal;
use crate::run::Outcome;
use crate::time::{MS, S};
use crate::world::{Inner, World};

pub use failure::Failure;

/// What must not be, and was; and what happened. `settled` is what [`settled`] said.
pub fn judge(world: &World, settled: Vec<Failure>, ended: bool) -> Outcome {
    let inner = &mut *world.inner();
    let now = inner.env.now();
    inner.env.checker.finish(now);
    inner.env.neighbours.finish(now);
    let mut failures = Vec::new();
    if inner.env.is_played() {
        // The rest is for who wrote it to expect.
        let refusals = inner.env.record.refusals.drain(..);
        failures.extend(refusals.map(|Refusal { host, why, .. }| Failure::Refused { host, why }));
        let untrue = std::mem::take(&mut inner.env.record.history.untrue);
        failures.extend(untrue.into_iter().map(Failure::Untrue));
    } else if inner.env.plan.params.daemon != Daemon::Naive {
        failures.extend(inner.env.checker.overlaps.iter().map(|span| Failure::Overlap(*span)));
        let refusals: Vec<Refusal> = inner.env.record.refusals.drain(..).collect();
        let unexpected = refusals.into_iter().filter(|refusal| !is_expected(inner, refusal));
        let refused = |Refusal { host, why, .. }| Failure::Refused { host, why };
        failures.extend(unexpected.map(refused));
        let untrue = std::mem::take(&mut inner.env.record.history.untrue);
        failures.extend(untrue.into_iter().map(Failure::Untrue));
        if ended {
            inner.env.record.hooks.finish();
        }
        let hooks = std::mem::take(&mut inner.env.record.hooks.wrong);
        failures.extend(hooks.into_iter().map(Failure::Hooks));
        failures.extend(settled);
        failures.extend(taken_for_another(inner));
        if ended {
            failures.extend(gaps::judge(inner));
            failures.extend(following::judge(inner));
            stopped(inner, &mut failures);
        }
    }
    Outcome {
        failures,
        tally: inner.env.record.tally,
        overlap_max: inner.env.checker.overlap_max(),
        foreign_overlap_max: inner.env.checker.foreign_overlap_max(),
        moves_max: inner.env.checker.moves_max(),
        overlaps: std::mem::take(&mut inner.env.checker.overlaps),
        gaps: std::mem::take(&mut inner.env.checker.gaps),
        misled: std::mem::take(&mut inner.env.neighbours.misled),
        held: std::mem::take(&mut inner.env.checker.held),
        marks: std::mem::take(&mut inner.env.record.marks),
        trace: std::mem::take(&mut inner.env.record.lines),
        turns: inner.env.record.turns,
        began: inner.env.record.began,
        happened: std::mem::take(&mut inner.env.record.happened),
    }
}

/// Daemons that took etcd for another store where nobody restored it.
fn taken_for_another(inner: &Inner) -> Vec<Failure> {
    let restores = |step: &crate::plan::Step| matches!(step.fault, Fault::RestoreStore { .. });
    if inner.env.plan.steps.iter().any(restores) {
        return Vec::new();
    }
    let taken = inner.env.record.stores_changed.iter().cloned();
    taken.map(|(host, why)| Failure::TakenForAnother { host, why }).collect()
}

/// Whether another machine's daemon had the name of the one that refused to run, or had it until
/// lately.
fn is_expected(inner: &Inner, refusal: &Refusal) -> bool {
    let plan = &inner.env.plan;
    // Whoever was frozen meanwhile goes by what had come before that.
    let freezes =
        plan.steps.iter().filter(|step| step.fault == Fault::Freeze { host: refusal.host });
    let frozen: u64 = freezes.map(|step| step.lasts.unwrap_or_default()).sum();
    let lately = 3 * plan.lease_ms_max() * MS + 10 * S + frozen;
    let mut others = (0..plan.params.hosts).filter(|host| *host != refusal.host);
    others.any(|other| {
        let starts = || inner.env.record.configs.iter().filter(|one| one.host == other);
        let mut ends = starts().skip(1).map(|next| next.at);
        starts().any(|start| {
            let end = ends.next().unwrap_or(plan.end_at);
            let had = start.at <= refusal.at && refusal.at <= end + lately;
            had && start.config.name == refusal.name
        })
    })
}

/// Whether, after healing, every VIP is where it belongs and has stayed there. Looked at just
/// before the daemons are stopped.
pub fn settled(inner: &Inner) -> Vec<Failure> {
    let mut failures = Vec::new();
    let by = inner.env.plan.heal_at + inner.env.plan.convergence();
    for vip in 0..inner.env.plan.params.vips.len() {
        let params = &inner.env.plan.params;
        let is_candidate =
            |host: &usize| !params.follows(vip) || *host == params.usually_named(vip);
        let able = (0..params.hosts).filter(is_candidate);
        let able = able.filter(|host| !never_takes(inner, *host, vip));
        if able.count() == 0 {
            continue;
        }
        let mut holders =
            inner.env.plan.params.addresses_of(vip).map(|a| inner.env.checker.holders(a));
        let (Some(first), all) = (holders.next(), holders) else { continue };
        let (any, alike) =
            all.fold((first, true), |(any, alike), one| (any | one, alike && one == first));
        if !alike || any.count_ones() != 1 {
            failures.push(Failure::NotHeld { vip, hosts: failure::numbers(any) });
            continue;
        }
        let addresses = inner.env.plan.params.addresses_of(vip);
        let changed = addresses.map(|a| inner.env.checker.last_change(a)).max().unwrap_or_default();
        if changed > by {
            let after_ns = changed - inner.env.plan.heal_at;
            failures.push(Failure::NotSettled { vip, after_ns });
        }
        let on = any.trailing_zeros() as usize;
        if let Some(wanted) = wanted(inner, vip)
            && wanted != on
            && !was_refused(inner, wanted)
            && !inner.env.plan.params.hooks.as_ref().is_some_and(HookParams::may_fail)
        {
            failures.push(Failure::Misplaced { vip, on, wanted });
        }
    }
    failures
}

/// Whether a host's kernel refuses a VIP for ever.
fn never_takes(inner: &Inner, host: usize, vip: usize) -> bool {
    let refuses = Fault::RefuseAddress { host, vip };
    inner.env.plan.steps.iter().any(|step| step.is_for_ever() && step.fault == refuses)
}

/// Whether a host's kernel may have refused something at some time: nobody gives up for that host what
/// works (rule 7.7), for as long as it works.
fn was_refused(inner: &Inner, hit: usize) -> bool {
    inner.env.plan.steps.iter().any(|step| match step.fault {
        Fault::StuckNetlink { host, .. } => host == hit,
        ref fault => fault.refused_by() == Some(hit),
    })
}

/// Where a VIP's policy wants it when all hosts are well; nothing when it does not care.
fn wanted(inner: &Inner, vip: usize) -> Option<usize> {
    let params = &inner.env.plan.params;
    let policy = &params.vips[vip].policy;
    let able = |host: &usize| !never_takes(inner, *host, vip);
    match policy {
        PolicyParams::Leader => {
            let leader = inner.etcd.leader()?;
            let host = (0..params.hosts).find(|&host| params.member_on(host) == Some(leader));
            return host.filter(able);
        }
        PolicyParams::Priority { priorities, preempt } => {
            let of_able = || (0..params.hosts).filter(able).map(|host| priorities[host]);
            let highest = of_able().max()?;
            let ties = of_able().filter(|priority| *priority == highest).count();
            if !preempt || ties > 1 {
                return None;
            }
        }
        PolicyParams::Spread => {}
        PolicyParams::Follow { .. } => return Some(params.usually_named(vip)),
    }
    let candidates: Vec<Candidate> = (0..params.hosts)
        .filter(able)
        .map(|host| Candidate {
            name: inner.env.layout.names.node(host).clone(),
            weight: params.weights[host].into(),
            unwell: None,
            priority: match policy {
                PolicyParams::Priority { priorities, .. } => priorities[host],
                _ => 0,
            },
            leads_term: None,
            failed_at: None,
        })
        .collect();
    let (policy, name) = (policy.of(0, vip), inner.env.layout.names.vip(vip));
    let ranked = placement::rank((&policy).into(), name, &candidates, None, None);
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
