//! What goes wrong, as people say it. In a run of a scenario file all have the file's names; else hosts are `h1`, `h2`,
//! …, VIPs `v1`, `v2`, …, as in the lab, and machines that run etcd only are `e1`, `e2`, ….

use std::time::Duration;

use crate::script::human;

use super::{Change, Fault, Mishap, Params, PolicyParams, Step, TxnKind};

/// A host's name.
pub fn host(number: usize) -> String {
    format!("h{}", number + 1)
}

/// A VIP's name.
pub fn vip(number: usize) -> String {
    format!("v{}", number + 1)
}

/// The names of hosts.
pub fn hosts(numbers: &[usize]) -> String {
    match numbers {
        [] => "nobody".into(),
        all => all.iter().map(|&one| host(one)).collect::<Vec<_>>().join(" and "),
    }
}

/// A time in ns.
pub fn time(ns: u64) -> String {
    human(Duration::from_nanos(ns))
}

/// A share that is given in thousandths, in percent.
fn permille(share: u64) -> String {
    format!("{} %", share as f64 / 10.0)
}

/// A difference of rates that is given in millionths, in percent.
fn ppm(rate: i64) -> String {
    format!("{} %", rate as f64 / 10_000.0)
}

impl Params {
    /// What goes wrong, in words.
    pub fn tell(&self, fault: &Fault) -> String {
        self.of_links(fault)
            .or_else(|| self.of_members(fault))
            .or_else(|| self.of_machines(fault))
            .or_else(|| self.of_kernels(fault))
            .or_else(|| self.of_operators(fault))
            .unwrap_or_else(|| format!("{fault:?}"))
    }

    /// What goes wrong when, in words.
    pub fn tell_step(&self, step: &Step) -> String {
        let lasts = match step.lasts {
            Some(0) => String::new(),
            Some(lasts) => format!(" for {}", time(lasts)),
            None if step.is_for_ever() => " for ever".into(),
            None => " until all heals".into(),
        };
        format!("at {}{lasts}: {}", time(step.at), self.tell(&step.fault))
    }

    /// The name of a host.
    pub fn host(&self, number: usize) -> String {
        match &self.played {
            Some(played) => played.hosts[number].as_str().to_owned(),
            None => host(number),
        }
    }

    /// The name of a machine.
    pub fn machine(&self, site: usize) -> String {
        match (site < self.hosts, &self.played) {
            (true, _) => self.host(site),
            (false, Some(played)) => played.beside[site - self.hosts].clone(),
            (false, None) => format!("e{}", site - self.hosts + 1),
        }
    }

    /// The name of a VIP; of the second name that one can go by where no file says any.
    fn vip(&self, number: usize) -> String {
        match self.played.as_ref().and_then(|played| played.vips.get(number)) {
            Some(vip) => vip.name.as_str().to_owned(),
            None => vip(number),
        }
    }

    /// What a check is called: by its name in a file, else by the VIP that it is of.
    fn check(&self, number: usize) -> String {
        match &self.played {
            Some(played) => played.checks[number].config.name.as_str().to_owned(),
            None => self.vip(number),
        }
    }

    fn machines(&self, sites: &[usize]) -> String {
        match sites {
            [] => "nobody".into(),
            all => all.iter().map(|&one| self.machine(one)).collect::<Vec<_>>().join(" and "),
        }
    }

    fn of_links(&self, fault: &Fault) -> Option<String> {
        let to = |from: usize, to: usize| format!("{} to {}", self.machine(from), self.machine(to));
        Some(match fault {
            Fault::Cut { from, to: there } => format!("cut one way {}", to(*from, *there)),
            Fault::Isolate { site } => format!("isolate {}", self.machine(*site)),
            Fault::CutStore { host: one } => format!("cut from store {}", self.host(*one)),
            Fault::CutEndpoint { host: one, member } => {
                format!("cut {} from the member on {}", self.host(*one), self.place(*member))
            }
            Fault::CutAnswers { host: one } => {
                format!("cut answers of etcd to {}", self.host(*one))
            }
            Fault::SplitMembers { side } => format!("cut members on {}", self.machines(side)),
            Fault::Split { side } => format!("cut {} from the rest", self.machines(side)),
            Fault::Slow { from, to: there, by } => {
                format!("slow {} by {}", to(*from, *there), time(*by))
            }
            Fault::Lossy { from, to: there, ppm } => {
                format!("lossy {}, {} lost", to(*from, *there), self::ppm(*ppm as i64))
            }
            Fault::CutPeers { from, to: there } => {
                format!("cut heartbeats {}", to(*from, *there))
            }
            Fault::LossyPeers { from, to: there, how } => format!(
                "heartbeats {}: {} lost, {} twice, {} late by up to {}",
                to(*from, *there),
                permille(how.lost),
                permille(how.doubled),
                permille(how.late),
                time(how.by)
            ),
            Fault::ForgeAcknowledgements { host: one } => {
                format!("forge acknowledgements of {}'s heartbeats", self.host(*one))
            }
            _ => return None,
        })
    }

    /// Where a member runs.
    fn place(&self, member: usize) -> String {
        self.machine(self.site_of(member))
    }

    fn of_members(&self, fault: &Fault) -> Option<String> {
        Some(match fault {
            Fault::CrashMember { member } => format!("stop etcd on {}", self.place(*member)),
            Fault::PauseMember { member } => format!("freeze etcd on {}", self.place(*member)),
            Fault::SlowDisk { member, by } => {
                format!("slow disk on {} by {}", self.place(*member), time(*by))
            }
            Fault::SlowAnswers { member, by } => {
                format!("slow answers of etcd on {} by up to {}", self.place(*member), time(*by))
            }
            Fault::LoseQuorum => "freeze etcd on most machines".into(),
            Fault::RefuseWrites => "fill etcd".into(),
            Fault::MoveLeader => "move leader".into(),
            Fault::CrashLeader => "stop etcd on its leader".into(),
            Fault::FlapLeader { every } => format!("move leader every {}", time(*every)),
            Fault::Compact => "compact etcd".into(),
            Fault::BackUpStore => "back up etcd".into(),
            Fault::RestoreStore { other_cluster, raise } => {
                let id = if *other_cluster { ", as another cluster" } else { "" };
                let raise = if *raise > 0 {
                    format!(", revisions raised by {raise}")
                } else {
                    String::new()
                };
                format!("restore etcd{id}{raise}")
            }
            _ => return None,
        })
    }
}

/// What befalls transactions.
pub fn meddled(mishap: Mishap) -> String {
    match mishap {
        Mishap::LoseRequest => "lose requests".into(),
        Mishap::LoseAnswer => "lose answers".into(),
        Mishap::DelayRequest(by) => format!("delay requests by {}", time(by)),
        Mishap::DelayAnswer(by) => format!("delay answers by {}", time(by)),
    }
}

/// What a transaction is for.
pub fn kind_of(kind: TxnKind) -> &'static str {
    match kind {
        TxnKind::Renew => "renewal",
        TxnKind::Open => "opening",
        TxnKind::Close => "closing",
        TxnKind::Expire => "expiration",
        TxnKind::Claim => "claim",
        TxnKind::HandOver => "hand-over",
        TxnKind::Publish => "publication",
    }
}

impl Params {
    fn of_machines(&self, fault: &Fault) -> Option<String> {
        Some(match fault {
            Fault::Kill { host: one } => format!("kill {}", self.host(*one)),
            Fault::Freeze { host: one } => format!("freeze {}", self.host(*one)),
            Fault::Restart { host: one } => format!("stop {}", self.host(*one)),
            Fault::Leave { host: one } => format!("leave {}", self.host(*one)),
            Fault::PowerOff { host: one } => format!("power off {}", self.host(*one)),
            Fault::PauseHost { host: one } => format!("pause {}", self.host(*one)),
            Fault::Suspend { host: one } => format!("suspend {}", self.host(*one)),
            Fault::Drift { host: one, ppm } => {
                format!("drift clock {} by {}", self.host(*one), self::ppm(*ppm))
            }
            Fault::Slew { host: one, ppm } => {
                format!("slew clock {} by {}", self.host(*one), self::ppm(*ppm))
            }
            Fault::WatchLag { host: one, by } => {
                format!("delay watch of {} by {}", self.host(*one), time(*by))
            }
            Fault::FailCheck { hosts: on, vip: of, every } => {
                let every = every.map(|every| format!(", in turns of {}", time(every)));
                format!(
                    "fail check of {} on {}{}",
                    self.check(*of),
                    self.machines(on),
                    every.unwrap_or_default()
                )
            }
            Fault::LinkDown { host: one, interface } => {
                format!("link down eth{interface} on {}", self.host(*one))
            }
            Fault::LinkGone { host: one, interface } => {
                format!("link gone eth{interface} on {}", self.host(*one))
            }
            Fault::ChangeHardware { host: one, interface } => {
                format!("another hardware address of eth{interface} on {}", self.host(*one))
            }
            Fault::Meddle { host: one, kind, skip, count, mishap } => {
                let after = if *skip > 0 { format!(", after {skip}") } else { String::new() };
                let plural = if *count == 1 { "" } else { "s" };
                let which =
                    format!("the next {count} {}{plural} of {}", kind_of(*kind), self.host(*one));
                format!("{}: {which}{after}", meddled(*mishap))
            }
            _ => return None,
        })
    }

    fn of_kernels(&self, fault: &Fault) -> Option<String> {
        Some(match fault {
            Fault::SlowNetlink { host: one, by } => {
                format!("slow netlink on {} by up to {}", self.host(*one), time(*by))
            }
            Fault::StuckNetlink { host: one, by } => {
                format!("stuck netlink on {} for {}", self.host(*one), time(*by))
            }
            Fault::FailingNetlink { host: one, permille } => {
                format!(
                    "failing netlink on {}, {} of calls",
                    self.host(*one),
                    self::permille(*permille)
                )
            }
            Fault::StallAdapter { host: one, by } => {
                format!("stall the kernel adapter of {} for up to {}", self.host(*one), time(*by))
            }
            Fault::StallAnnouncer { host: one, by } => {
                format!("late announcements of {} by up to {}", self.host(*one), time(*by))
            }
            Fault::LoseAnnouncements { host: one, permille } => {
                format!("lost announcements of {}, {}", self.host(*one), self::permille(*permille))
            }
            Fault::ClaimAddress { host: one, vip: of } => {
                format!("{} hears another machine claim {}", self.host(*one), self.vip(*of))
            }
            Fault::ChangeRules { host: one } => {
                format!("change other rules of nftables on {}", self.host(*one))
            }
            Fault::FlushRules { host: one } => format!("flush rules on {}", self.host(*one)),
            Fault::StealAddress { host: one, vip: of } => {
                format!("remove address of {} on {}", self.vip(*of), self.host(*one))
            }
            Fault::PlantAddress { host: one, vip: of } => {
                format!("add address of {} on {}", self.vip(*of), self.host(*one))
            }
            Fault::OwnAddressReturns { host: one, interface } => {
                format!("own address of eth{interface} goes and returns on {}", self.host(*one))
            }
            Fault::Double { host: one, vip: of } => {
                format!(
                    "address of {} on another interface of {} as well",
                    self.vip(*of),
                    self.host(*one)
                )
            }
            Fault::RefuseAddress { host: one, vip: of } => {
                format!("the kernel of {} refuses {}", self.host(*one), self.vip(*of))
            }
            _ => return None,
        })
    }

    fn of_operators(&self, fault: &Fault) -> Option<String> {
        Some(match fault {
            Fault::Drain { host: one } => format!("drain {}", self.host(*one)),
            Fault::Pin { vip: of, host: one } => {
                format!("pin {} to {}", self.vip(*of), self.host(*one))
            }
            Fault::Name { vip: of, host: one } => {
                let name = one.map_or("nobody".into(), |one| self.host(one));
                format!("the key that {} follows names {name}", self.vip(*of))
            }
            Fault::Reconfigure { host: one, change } => {
                format!("another file on {}: {}", self.host(*one), self.changed(change))
            }
            Fault::Reload { host: one } => format!("reload {}", self.host(*one)),
            _ => return None,
        })
    }

    fn changed(&self, change: &Change) -> String {
        match change {
            Change::Cluster { cluster } => format!("cluster {cluster}"),
            Change::NameOf { host: of } => format!("the name of {}", self.host(*of)),
            Change::MachineOf { host: of } => format!("the machine id of {}", self.host(*of)),
            Change::Heartbeats { speaks: true } => "with heartbeats".into(),
            Change::Heartbeats { speaks: false } => "without heartbeats".into(),
            Change::Lease(lease) => format!("lease {}", time(lease.lease_ms * 1_000_000)),
            Change::Weight { weight } => format!("weight {weight}"),
            Change::Rename { vip: one, to } => {
                format!("{} is called {}", self.vip(*one), self.vip(*to))
            }
            Change::MoveAddress { from, to } => {
                format!("an address of {} is {}'s", self.vip(*from), self.vip(*to))
            }
            Change::Swap { one, other } => {
                format!("{} and {} exchange their addresses", self.vip(*one), self.vip(*other))
            }
            Change::Remove { vip: one } => format!("no {}", self.vip(*one)),
            Change::Priority { vip: one, priority } => {
                format!("priority {priority} for {}", self.vip(*one))
            }
            Change::Interface { vip: one, interface } => {
                format!("{} on eth{interface}", self.vip(*one))
            }
            Change::Policy { vip: one, policy } => {
                let word = match policy {
                    PolicyParams::Leader => "leader",
                    PolicyParams::Spread => "spread",
                    PolicyParams::Priority { .. } => "priority",
                    PolicyParams::Follow { .. } => "follow",
                };
                format!("policy {word} for {}", self.vip(*one))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{MS, S};

    #[test]
    fn faults_are_told_in_the_fields_words_with_units() {
        let params = Params::plain(3, 3, 2);
        let mishap = Mishap::DelayAnswer(450 * MS);
        for (fault, said) in [
            (Fault::SlowNetlink { host: 0, by: 88 * MS }, "slow netlink on h1 by up to 88 ms"),
            (Fault::CutStore { host: 2 }, "cut from store h3"),
            (Fault::Lossy { from: 0, to: 1, ppm: 125_000 }, "lossy h1 to h2, 12.5 % lost"),
            (Fault::Slew { host: 1, ppm: -83_333 }, "slew clock h2 by -8.3333 %"),
            (Fault::Pin { vip: 1, host: 0 }, "pin v2 to h1"),
            (
                Fault::Meddle { host: 0, kind: TxnKind::Renew, skip: 1, count: 2, mishap },
                "delay answers by 450 ms: the next 2 renewals of h1, after 1",
            ),
        ] {
            assert_eq!(params.tell(&fault), said);
        }
        let step = Step { at: 8 * S, lasts: Some(300 * MS), fault: Fault::PowerOff { host: 0 } };
        assert_eq!(params.tell_step(&step), "at 8 s for 300 ms: power off h1");
        // Whatever a seed draws has words: what Rust shows of a value is for nobody else.
        for seed in 0..300 {
            let plan = crate::swarm::draw(seed);
            let told: Vec<String> =
                plan.steps.iter().map(|one| plan.params.tell_step(one)).collect();
            assert!(!told.iter().any(|one| one.contains('{')), "{told:?}");
        }
        let mut apart = Params::plain(3, 3, 1);
        apart.members_apart();
        assert_eq!(apart.tell(&Fault::CrashMember { member: 1 }), "stop etcd on e2");
    }
}
