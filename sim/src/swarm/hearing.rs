//! Draws what concerns rule 10: who speaks it, what befalls the hosts' way to each other, and what befalls
//! hosts while etcd is away.

use crate::judge::allowance::Durations;
use crate::plan::{Change, Fault, Mishap, Params, Plan, Step, TxnKind};
use crate::rng::Rng;
use crate::time::{MS, S, True};
use crate::timing::Mishandling;

/// Who speaks it, and for how long a session goes on without a write in etcd.
pub fn params(rng: &mut Rng, params: &mut Params) {
    let all = |speaks: bool| vec![speaks; params.hosts];
    params.heartbeats = match rng.below(10) {
        0..=6 => all(true),
        7 => (0..params.hosts).map(|_| rng.chance(600)).collect(),
        _ => all(false),
    };
    if rng.chance(250) {
        // Longer than the longest lease that a file may come to have.
        params.without_store_ms = params.lease_ms * rng.within(4..=20) + rng.below(1_000);
    }
}

/// Adds to the faults of a run.
pub fn faults(rng: &mut Rng, plan: &mut Plan) {
    if !plan.speaks_somewhere() || rng.chance(300) {
        return;
    }
    if rng.chance(300) {
        plan.lasting(plan.heal_at + rng.within(30..=240) * S);
    }
    let enabled: Vec<u64> = (0..7).filter(|_| rng.chance(400)).collect();
    let mean_pause = rng.within(1_000..=15_000) * MS;
    let mut at = rng.below(10 * S);
    while at < plan.heal_at && !enabled.is_empty() {
        match rng.pick(&enabled) {
            0 | 1 => away(rng, plan, at),
            2 => path(rng, plan, at),
            3 => stale(rng, plan, at),
            4 => rolled_out(rng, plan, at),
            5 => namesake(rng, plan, at),
            _ => cut_off(rng, plan, at),
        }
        at += rng.within(1..=2 * mean_pause);
    }
    let heal_at = plan.heal_at;
    plan.steps.retain(|step| step.at < heal_at);
}

/// From a tenth of a lease to minutes, short ones as likely as long ones.
fn duration(rng: &mut Rng, plan: &Plan) -> u64 {
    let scale = (plan.params.lease_ms / 10 * MS) << rng.below(10);
    rng.within(scale..=2 * scale)
}

fn add(plan: &mut Plan, at: True, lasts: u64, fault: Fault) {
    plan.steps.push(Step { at, lasts: Some(lasts), fault });
}

/// etcd is away, for everybody, in one of the ways in which it can be.
fn away(rng: &mut Rng, plan: &mut Plan, at: True) {
    let lasts = duration(rng, plan);
    let members = plan.params.members();
    match rng.below(6) {
        0..=1 => add(plan, at, lasts, Fault::LoseQuorum),
        2..=3 => add(plan, at, lasts, Fault::RefuseWrites),
        4 => {
            for member in 0..members / 2 + 1 {
                add(plan, at + rng.below(S), lasts, Fault::CrashMember { member });
            }
        }
        _ => {
            for host in 0..plan.params.hosts {
                let lasts = lasts + rng.below(plan.params.lease_ms) * MS;
                add(plan, at, lasts, Fault::CutStore { host });
            }
        }
    }
    for _ in 0..rng.below(4) {
        let fault = meanwhile(rng, plan);
        let begin = at + rng.below(lasts);
        let lasts = duration(rng, plan);
        add(plan, begin, lasts, fault);
    }
}

/// What befalls a host, or its way to another one, while etcd is away.
fn meanwhile(rng: &mut Rng, plan: &Plan) -> Fault {
    let hosts = plan.params.hosts;
    let (host, to) = (rng.index(hosts), rng.index(hosts));
    match rng.below(10) {
        0..=1 => Fault::Kill { host },
        2..=3 => Fault::Freeze { host },
        4 => Fault::Restart { host },
        5 => Fault::PowerOff { host },
        6 => Fault::CutPeers { from: host, to },
        7 => Fault::LossyPeers { from: host, to, how: mishandling(rng, plan) },
        8 => Fault::MoveLeader,
        _ => Fault::CrashMember { member: rng.index(plan.params.members()) },
    }
}

fn mishandling(rng: &mut Rng, plan: &Plan) -> Mishandling {
    let mut some = |most: u64| if rng.chance(500) { rng.within(10..=most) } else { 0 };
    let (lost, doubled, late) = (some(900), some(900), some(900));
    Mishandling { lost, doubled, late, by: rng.within(1..=4 * plan.params.lease_ms) * MS }
}

/// The way from one host to another, or to all, one way or both.
fn path(rng: &mut Rng, plan: &mut Plan, at: True) {
    let hosts = plan.params.hosts;
    let from = rng.index(hosts);
    let lasts = duration(rng, plan);
    let (to_all, both) = (rng.chance(300), rng.chance(500));
    let cut = rng.chance(500);
    let how = mishandling(rng, plan);
    let one = rng.index(hosts);
    for to in (0..hosts).filter(|to| to_all || *to == one) {
        let mut one_way = |from: usize, to: usize| {
            let fault = if cut {
                Fault::CutPeers { from, to }
            } else {
                Fault::LossyPeers { from, to, how }
            };
            add(plan, at, lasts, fault);
        };
        one_way(from, to);
        if both {
            one_way(to, from);
        }
    }
}

/// A host rests until it is about to be expired, or is, and the expiry is late: what the others have of
/// it by then is stale.
fn stale(rng: &mut Rng, plan: &mut Plan, at: True) {
    let (hosts, lease) = (plan.params.hosts, plan.params.lease_ms);
    let host = rng.index(hosts);
    let late = Mishap::DelayRequest(rng.within(1..=3 * lease) * MS);
    let mishap = *rng.pick(&[late, Mishap::LoseAnswer, Mishap::LoseRequest]);
    for waiter in (0..hosts).filter(|waiter| *waiter != host) {
        let meddle =
            Fault::Meddle { host: waiter, kind: TxnKind::Expire, skip: 0, count: 2, mishap };
        add(plan, at, 6 * lease * MS, meddle);
        if rng.chance(300) {
            let fault = Fault::Kill { host: waiter };
            add(plan, at + rng.within(lease..=2 * lease) * MS, rng.within(1..=lease) * MS, fault);
        }
    }
    let lasts = rng.within(lease..=lease + lease / 5) * MS;
    add(plan, at + MS, lasts, Fault::Freeze { host });
    if rng.chance(600) {
        add(plan, at, lasts + rng.within(1..=4 * lease) * MS, Fault::CutStore { host });
    }
}

/// The version that speaks it is rolled out or back, host by host.
fn rolled_out(rng: &mut Rng, plan: &mut Plan, mut at: True) {
    let pause = rng.within(100..=8_000) * MS;
    let hosts = plan.params.hosts;
    let first = rng.index(hosts);
    for number in 0..rng.within(1..=hosts as u64) as usize {
        let host = (first + number) % hosts;
        let speaks = !plan.params.heartbeats[host];
        let lasts = rng.chance(500).then(|| rng.within(1_000..=40_000) * MS);
        let fault = Fault::Reconfigure { host, change: Change::Heartbeats { speaks } };
        plan.steps.push(Step { at, lasts, fault });
        let down = rng.within(1..=plan.params.lease_ms) * MS;
        let again = if rng.chance(500) { Fault::Restart { host } } else { Fault::Kill { host } };
        add(plan, at + MS, down, again.clone());
        if let Some(lasts) = lasts {
            add(plan, at + lasts + MS, down, again);
        }
        at += pause;
    }
}

/// A host dies while all hold by consent, and another machine has its name.
fn namesake(rng: &mut Rng, plan: &mut Plan, at: True) {
    let (hosts, lease) = (plan.params.hosts, plan.params.lease_ms);
    let (host, twin) = (rng.index(hosts), rng.index(hosts));
    if host == twin {
        return;
    }
    let lasts = rng.within(lease..=12 * lease) * MS;
    let fault = Fault::Reconfigure { host: twin, change: Change::NameOf { host } };
    add(plan, at, lasts, fault);
    add(plan, at + MS, rng.within(1..=lease) * MS, Fault::Restart { host: twin });
    let dies = at + rng.within(1..=4 * lease) * MS;
    let fault = rng.pick(&[Fault::PowerOff { host }, Fault::Freeze { host }]).clone();
    add(plan, dies, rng.within(lease / 2..=8 * lease) * MS, fault);
    for other in (0..hosts).filter(|other| *other != twin) {
        if rng.chance(500) {
            let lasts = rng.within(lease / 2..=6 * lease) * MS;
            add(plan, at + rng.below(2 * lease) * MS, lasts, Fault::CutStore { host: other });
        }
    }
    if rng.chance(500) {
        add(plan, at + lasts + MS, rng.within(1..=lease) * MS, Fault::Restart { host: twin });
    }
}

/// A host hears and reaches etcd no more, and the others meanwhile move VIPs, or fall silent.
fn cut_off(rng: &mut Rng, plan: &mut Plan, at: True) {
    let hosts = plan.params.hosts;
    let (host, other) = (rng.index(hosts), rng.index(hosts));
    let lasts = duration(rng, plan);
    add(plan, at, lasts, Fault::CutStore { host });
    let begin = at + rng.below(lasts);
    let vip = rng.index(plan.params.vips.len());
    let fault = match rng.below(6) {
        0 => Fault::Pin { vip, host },
        1 => Fault::Drain { host },
        2 => Fault::Drain { host: other },
        3 => Fault::PowerOff { host: other },
        4 => Fault::Freeze { host: other },
        _ => Fault::CutPeers { from: host, to: other },
    };
    let lasts = duration(rng, plan);
    add(plan, begin, lasts, fault);
}

/// Now and then, in a drill: one fault that the table of allowances has a line for because of rule 10, or
/// etcd away and another fault meanwhile. Tells when all of it is over.
pub fn drill(rng: &mut Rng, plan: &mut Plan, durations: &Durations, at: True) -> Option<True> {
    if !plan.speaks_somewhere() || !rng.chance(450) {
        return None;
    }
    let hosts = plan.params.hosts;
    let long = rng.within(5..=120) * S;
    let away = Step {
        at,
        lasts: Some(long),
        fault: rng.pick(&[Fault::LoseQuorum, Fault::RefuseWrites]).clone(),
    };
    let from = rng.index(hosts);
    let to = (from + 1 + rng.index(hosts.max(2) - 1)) % hosts;
    let steps = match rng.below(6) {
        0..=1 => vec![away],
        2 => {
            let fault = match rng.chance(500) {
                true => Fault::CutPeers { from, to },
                false => Fault::LossyPeers { from, to, how: mishandling(rng, plan) },
            };
            vec![Step { at, lasts: Some(duration(rng, plan)), fault }]
        }
        3 => {
            let crash = |rng: &mut Rng| {
                let at = at + rng.below(long);
                let member = rng.index(plan.params.members());
                let fault = rng
                    .pick(&[
                        Fault::CrashMember { member },
                        Fault::CrashLeader,
                        Fault::MoveLeader,
                        Fault::CutStore { host: from },
                        Fault::PauseMember { member },
                    ])
                    .clone();
                Step { at, lasts: Some(rng.within(100..=30_000) * MS), fault }
            };
            let mut steps: Vec<Step> = (0..rng.within(1..=3)).map(|_| crash(rng)).collect();
            steps.push(away);
            steps
        }
        _ => {
            let host = from;
            let fault = rng
                .pick(&[
                    Fault::Kill { host },
                    Fault::Freeze { host },
                    Fault::Restart { host },
                    Fault::PowerOff { host },
                    Fault::CutPeers { from, to },
                ])
                .clone();
            let begin = at + rng.below(long);
            vec![away, Step { at: begin, lasts: Some(rng.within(100..=30_000) * MS), fault }]
        }
    };
    let first = plan.steps.len();
    plan.steps.extend(steps);
    let windows = plan.steps[first..].iter().flat_map(|step| {
        let mut windows = durations.allowance(plan, step).windows(plan, step);
        windows.push((step.at, step.ends(plan.heal_at)));
        windows
    });
    windows.map(|(_, to)| to).max()
}
