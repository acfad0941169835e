//! What a scenario's verbs are in the simulator's world.

use std::time::Duration;

use turnip_core::Policy;

use crate::check::Hosts;
use crate::script::{Deed, Happening, Target, Verb};
use crate::time::{MS, S, True};

use super::{Change, Fault, Params, Step};

/// What a real process takes from its start until it does what the simulated one does at once: it is loaded, reads its
/// file, and connects.
const START: u64 = 60 * MS;

/// When a host goes off that is rebooted: it stops its programs first.
const OFF_AFTER: u64 = S;

/// What is known when something happens.
pub struct Deeds<'a> {
    /// The cluster.
    pub params: &'a Params,
    /// True time.
    pub now: True,
    /// Who holds a VIP.
    pub holders: &'a dyn Fn(usize) -> Hosts,
    /// How long the scenario lasts, in ns.
    pub lasts: u64,
}

/// What happens, as steps from now on. Whom it befalls is known.
pub fn steps(deeds: &Deeds<'_>, happening: &Happening) -> Vec<Step> {
    let starts = matches!(happening.deed.verb, Verb::Kill | Verb::Stop | Verb::Leave);
    let start = if starts { START } else { 0 };
    let lasts = happening.lasts.map(|lasts| nanos(lasts) + start);
    let at = deeds.now;
    let step = |fault: Fault| Step { at, lasts, fault };
    let deed = &happening.deed;
    let all: Vec<Fault> = match deed.verb {
        Verb::Flap => return flap(deeds, happening),
        Verb::Reload => return reload(deeds, happening),
        Verb::Reboot => {
            let off = lasts.map(|lasts| lasts.saturating_sub(OFF_AFTER).max(S / 2));
            let reboot = |host: usize| {
                let all = off.map(|off| OFF_AFTER + off);
                let stop = Step { at, lasts: all, fault: Fault::Restart { host } };
                let off = Step { at: at + OFF_AFTER, lasts: off, fault: Fault::PowerOff { host } };
                [stop, off]
            };
            return these(&deed.whom).iter().flat_map(|&host| reboot(host)).collect();
        }
        Verb::Isolate
        | Verb::Cut
        | Verb::CutOneWay
        | Verb::CutFromStore
        | Verb::ExpireCertificate
        | Verb::CutFromPeers
        | Verb::CutMember
        | Verb::Lossy
        | Verb::Slow
        | Verb::LinkDown => on_the_network(deeds.params, deed),
        Verb::StopEtcd
        | Verb::FreezeEtcd
        | Verb::SlowDisk
        | Verb::MoveLeader
        | Verb::FillEtcd
        | Verb::CompactEtcd
        | Verb::BackUpEtcd
        | Verb::RestoreEtcd => to_etcd(deeds.params, deed),
        _ => to_hosts(deeds, deed),
    };
    all.into_iter().map(step).collect()
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// Whom it is about; nobody is left to be found out.
fn these(target: &Target) -> &[usize] {
    match target {
        Target::These(all) => all,
        Target::Leader | Target::Holder(_) => &[],
    }
}

/// A path one way.
type Path = (usize, usize);

/// From these machines to those, and to all others where nobody is named.
fn paths(params: &Params, deed: &Deed) -> Vec<Path> {
    let whom = these(&deed.whom);
    let others: Vec<usize> = match &deed.other {
        Some(other) => these(other).to_vec(),
        None => (0..params.sites()).collect(),
    };
    let pairs = whom.iter().flat_map(|&one| others.iter().map(move |&other| (one, other)));
    pairs.filter(|(one, other)| one != other).collect()
}

fn both_ways(paths: Vec<Path>) -> Vec<Path> {
    let mut all: Vec<Path> =
        paths.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn on_the_network(params: &Params, deed: &Deed) -> Vec<Fault> {
    let whom = these(&deed.whom);
    let of_each = |fault: &dyn Fn(usize) -> Fault| whom.iter().map(|&one| fault(one)).collect();
    let of_paths = |paths: Vec<Path>, fault: &dyn Fn(usize, usize) -> Fault| {
        paths.into_iter().map(|(from, to)| fault(from, to)).collect()
    };
    let (by, ppm) = (nanos(deed.details.by), deed.details.ppm.unsigned_abs());
    match deed.verb {
        Verb::Isolate => of_each(&|site| Fault::Isolate { site }),
        Verb::Cut => of_paths(both_ways(paths(params, deed)), &|from, to| Fault::Cut { from, to }),
        Verb::CutOneWay => of_paths(paths(params, deed), &|from, to| Fault::Cut { from, to }),
        Verb::CutFromStore | Verb::ExpireCertificate => of_each(&|host| Fault::CutStore { host }),
        Verb::CutFromPeers => {
            let paths = paths(params, deed).into_iter().filter(|(_, other)| *other < params.hosts);
            of_paths(both_ways(paths.collect()), &|from, to| Fault::CutPeers { from, to })
        }
        Verb::CutMember => of_each(&|site| Fault::SplitMembers { side: vec![site] }),
        Verb::Lossy | Verb::Slow => {
            of_paths(both_ways(paths(params, deed)), &|from, to| match deed.verb {
                Verb::Slow => Fault::Slow { from, to, by },
                _ => Fault::Lossy { from, to, ppm },
            })
        }
        _ => {
            // A host has one link, so it hears nobody either.
            let of_host = |&host: &usize| {
                let links = 0..params.interfaces;
                let links = links.map(move |interface| Fault::LinkDown { host, interface });
                links.chain([Fault::Isolate { site: host }])
            };
            whom.iter().flat_map(of_host).collect()
        }
    }
}

/// A machine's uplink goes down and up in turns.
fn flap(deeds: &Deeds<'_>, happening: &Happening) -> Vec<Step> {
    let (down, up) = happening.deed.details.down_up;
    let turn = nanos(down + up).max(1);
    let end = deeds.now + happening.lasts.map_or(deeds.lasts, nanos);
    let begins = (deeds.now..end).step_by(turn as usize);
    let of_machine = |&site: &usize| {
        begins.clone().map(move |at| {
            let lasts = Some(nanos(down).min(end - at));
            Step { at, lasts, fault: Fault::Isolate { site } }
        })
    };
    these(&happening.deed.whom).iter().flat_map(of_machine).collect()
}

fn to_etcd(params: &Params, deed: &Deed) -> Vec<Fault> {
    let members = these(&deed.whom).iter().filter_map(|&site| params.member_on(site));
    match deed.verb {
        Verb::StopEtcd => members.map(|member| Fault::CrashMember { member }).collect(),
        Verb::FreezeEtcd => members.map(|member| Fault::PauseMember { member }).collect(),
        Verb::SlowDisk => {
            let by = nanos(deed.details.by);
            members.map(|member| Fault::SlowDisk { member, by }).collect()
        }
        Verb::MoveLeader => match &deed.other {
            Some(to) => {
                let members = these(to).iter().filter_map(|&site| params.member_on(site));
                members.map(|member| Fault::LeadFrom { member }).collect()
            }
            None => vec![Fault::MoveLeader],
        },
        Verb::FillEtcd => vec![Fault::RefuseWrites],
        Verb::CompactEtcd => vec![Fault::Compact],
        Verb::BackUpEtcd => vec![Fault::BackUpStore],
        // As `etcdutl snapshot restore` does it with the flags that the members had.
        _ => vec![Fault::RestoreStore { other_cluster: false, raise: 0 }],
    }
}

fn to_hosts(deeds: &Deeds<'_>, deed: &Deed) -> Vec<Fault> {
    let whom = these(&deed.whom);
    let other = deed.other.as_ref().map(these);
    let of_each = |fault: &dyn Fn(usize) -> Fault| whom.iter().map(|&one| fault(one)).collect();
    // Of VIPs, on the hosts that are named, or else where they are.
    let of_vips = |fault: &dyn Fn(usize, usize) -> Fault| {
        let hosts = |vip: usize| match other {
            Some(hosts) => hosts.to_vec(),
            None => {
                let there = (deeds.holders)(vip);
                (0..deeds.params.hosts).filter(|host| there >> host & 1 == 1).collect()
            }
        };
        let faults = |&vip: &usize| hosts(vip).into_iter().map(move |host| fault(host, vip));
        whom.iter().flat_map(faults).collect()
    };
    let (by, ppm) = (nanos(deed.details.by), deed.details.ppm);
    match deed.verb {
        Verb::Kill => of_each(&|host| Fault::Kill { host }),
        Verb::Stop => of_each(&|host| Fault::Restart { host }),
        Verb::Leave => of_each(&|host| Fault::Leave { host }),
        Verb::Freeze => of_each(&|host| Fault::Freeze { host }),
        Verb::Pause => of_each(&|host| Fault::PauseHost { host }),
        Verb::Suspend => of_each(&|host| Fault::Suspend { host }),
        Verb::PowerOff => whom.iter().flat_map(|&site| power_off(deeds.params, site)).collect(),
        Verb::Drain => of_each(&|host| Fault::Drain { host }),
        Verb::Pin => of_vips(&|host, vip| Fault::Pin { vip, host }),
        Verb::MoveKey => {
            let host = other.and_then(|hosts| hosts.first().copied());
            of_each(&|vip| Fault::Name { vip, host })
        }
        Verb::RemoveAddress => of_vips(&|host, vip| Fault::StealAddress { host, vip }),
        Verb::AddAddress => of_vips(&|host, vip| Fault::PlantAddress { host, vip }),
        Verb::FlushRules => of_each(&|host| Fault::FlushRules { host }),
        Verb::FailCheck => {
            let hosts = other.unwrap_or_default().to_vec();
            of_each(&|check| Fault::FailCheck { hosts: hosts.clone(), vip: check, every: None })
        }
        Verb::Drift => of_each(&|host| Fault::Drift { host, ppm }),
        Verb::Slew => of_each(&|host| Fault::Slew { host, ppm }),
        Verb::DelayWatch => of_each(&|host| Fault::WatchLag { host, by }),
        Verb::SlowNetlink => of_each(&|host| Fault::SlowNetlink { host, by }),
        _ => unreachable!("of the network, of etcd, or taken back"),
    }
}

/// A machine that runs etcd only goes off without a word: nobody hears its connections close.
fn power_off(params: &Params, site: usize) -> Vec<Fault> {
    match params.member_on(site) {
        _ if site < params.hosts => vec![Fault::PowerOff { host: site }],
        Some(member) => vec![Fault::Isolate { site }, Fault::CrashMember { member }],
        None => Vec::new(),
    }
}

/// A host reads another file, and its own again at the end.
fn reload(deeds: &Deeds<'_>, happening: &Happening) -> Vec<Step> {
    let details = happening.deed.details;
    let lasts = happening.lasts.map(nanos);
    let mut all = Vec::new();
    for &host in these(&happening.deed.whom) {
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(details.weight.map(|weight| Change::Weight { weight }));
        if let Some(priority) = details.priority {
            let goes_by_it = |vip: &usize| {
                let policy = deeds.params.vips[*vip].policy.of(host, *vip);
                matches!(policy, Policy::Priority { .. })
            };
            let vips = (0..deeds.params.vips.len()).filter(goes_by_it);
            changes.extend(vips.map(|vip| Change::Priority { vip, priority }));
        }
        let change =
            |change| Step { at: deeds.now, lasts, fault: Fault::Reconfigure { host, change } };
        all.extend(changes.into_iter().map(change));
        // Once the file is as it is to be read.
        let reads = [Some(deeds.now + 1), lasts.map(|lasts| deeds.now + lasts + 1)];
        let read = |at| Step { at, lasts: Some(0), fault: Fault::Reload { host } };
        all.extend(reads.into_iter().flatten().map(read));
    }
    all
}
