//! What befalls the network between machines: which faults of the switch a deed is, and how much later what is
//! delivered.

use std::time::Duration;

use anyhow::Result;
use turnip_sim::script::{Deed, Target, Verb};

use super::Player;
use super::world::{World, pairs};
use crate::switch::Fault;

/// The numbers of those whom something befalls.
pub(super) fn numbers(target: &Target) -> &[usize] {
    match target {
        Target::These(all) => all,
        // The player knows them before it begins.
        Target::Leader | Target::Holder(_) => &[],
    }
}

impl World<'_> {
    /// The faults of the switch that a deed is; none for what is no fault of a switch.
    pub(super) fn faults(&self, deed: &Deed) -> Vec<Fault> {
        let whom = numbers(&deed.whom);
        let other = deed.other.as_ref().map(numbers);
        let of_each =
            |make: fn(String) -> Fault| whom.iter().map(|&one| make(self.port(one))).collect();
        let ppm = u32::try_from(deed.details.ppm).unwrap_or_default();
        let between = |others: &[usize]| {
            let (ones, others) = (self.ports_of(whom), self.ports_of(others));
            pairs(&ones, &others)
        };
        match (deed.verb, other) {
            (Verb::Isolate, _) => whom
                .iter()
                .flat_map(|&one| [Fault::From(self.port(one)), Fault::To(self.port(one))])
                .collect(),
            (Verb::Cut, Some(others)) => {
                let both = between(others).into_iter().flat_map(|(one, other)| {
                    [Fault::Between(one.clone(), other.clone()), Fault::Between(other, one)]
                });
                both.collect()
            }
            (Verb::CutOneWay, Some(others)) => {
                between(others).into_iter().map(|(from, to)| Fault::Between(from, to)).collect()
            }
            (Verb::CutOneWay, None) => of_each(Fault::From),
            (Verb::CutFromStore, _) => of_each(Fault::ClientOfStore),
            (Verb::CutFromPeers, None) => of_each(Fault::Heartbeats),
            (Verb::CutFromPeers, Some(others)) => {
                let both = between(others).into_iter().flat_map(|(one, other)| {
                    [
                        Fault::HeartbeatsBetween(one.clone(), other.clone()),
                        Fault::HeartbeatsBetween(other, one),
                    ]
                });
                both.collect()
            }
            (Verb::CutMember, _) => of_each(Fault::MemberOfStore),
            (Verb::Lossy, _) => {
                let paths = self.paths(deed).into_iter();
                paths.map(|(from, to)| Fault::LossBetween(from, to, ppm)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The ports behind the uplinks of machines, the client's among them where it is beside one.
    fn ports_of(&self, machines: &[usize]) -> Vec<String> {
        machines.iter().flat_map(|&machine| self.ports(machine)).collect()
    }

    /// The paths between machines that a deed slows or makes lossy, both ways; to all others where nobody else is
    /// named. The client's are left alone: it is there to see what becomes of the addresses.
    fn paths(&self, deed: &Deed) -> Vec<(String, String)> {
        let ports = |machines: &[usize]| -> Vec<String> {
            machines.iter().map(|&machine| self.port(machine)).collect()
        };
        let ones = ports(numbers(&deed.whom));
        let others = match &deed.other {
            Some(other) => ports(numbers(other)),
            None => ports(&(0..self.script.machines()).collect::<Vec<_>>()),
        };
        let mut all = pairs(&ones, &others);
        all.extend(pairs(&others, &ones));
        all.sort();
        all.dedup();
        all
    }
}

impl Player<'_> {
    /// Slows the paths that a deed is about, as much as they are to be.
    pub(super) fn slow(&self, deed: &Deed) -> Result<()> {
        self.world.paths(deed).iter().try_for_each(|path| self.delay_path(path))
    }

    /// What slows the paths of a machine goes on after it was without power.
    pub(super) fn slow_again(&self, machine: usize) -> Result<()> {
        let port = self.world.port(machine);
        self.world.relay_again(machine)?;
        let mut paths = self.under_way.of(Verb::Slow).flat_map(|deed| self.world.paths(deed));
        paths.try_for_each(|path| match path.0 == port || path.1 == port {
            true => self.delay_path(&path),
            false => Ok(()),
        })
    }

    fn delay_path(&self, path: &(String, String)) -> Result<()> {
        let these = self.under_way.of(Verb::Slow);
        let these = these.filter(|deed| self.world.paths(deed).contains(path));
        let by: Duration = these.map(|deed| deed.details.by).sum();
        let (from, to) = path;
        self.world.switch().delay_between(from, to, by + self.world.usual_delay(from, to))
    }
}
