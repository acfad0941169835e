//! The checks of what stands behind this node's VIPs, and what they say of each (rule 11).

use std::collections::BTreeMap;

use super::outbox::Outbox;
use super::own::{Own, VipIndex};
use super::reload::Step;
use crate::check::{Attempt, Check, CheckConfig, CheckState};
use crate::mutant::Mutant;
use crate::name::CheckName;
use crate::records::{CheckRecord, VipOffer};
use crate::report::Report;
use crate::time::Instant;

/// All checks, in the order of the configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Health {
    checks: Vec<Check>,
}

/// What the checks say against a VIP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Unwell {
    /// Why, in words.
    pub(super) why: String,
    /// A check has not been tried yet: nothing is known.
    pub(super) is_waiting: bool,
}

impl Health {
    pub(super) fn new(own: &Own) -> Self {
        Health { checks: own.config.checks.iter().map(Check::new).collect() }
    }

    /// Other checks are configured. One that goes by the same name goes on from where it stands.
    pub(super) fn reconfigured(&mut self, step: &Step) {
        let (before, after) = (&step.before.config.checks, &step.after.config.checks);
        let check = |config: &CheckConfig| {
            let known = before.iter().position(|one| one.name == config.name);
            known.map_or_else(|| Check::new(config), |number| self.checks[number].clone())
        };
        self.checks = after.iter().map(check).collect();
    }

    /// The check at that place of the configuration.
    pub(super) fn check(&self, number: usize) -> &Check {
        &self.checks[number]
    }

    /// An attempt is over: for which VIPs that means something.
    pub(super) fn tried(
        &mut self,
        own: &Own,
        attempt: &Attempt,
        (now, unix_ms): (Instant, u64),
        out: &mut Outbox,
    ) -> Vec<VipIndex> {
        let config = &own.config.checks;
        let Some(number) = config.iter().position(|one| one.name == attempt.check) else {
            return Vec::new();
        };
        let (config, check) = (&config[number], &mut self.checks[number]);
        let counts = match own.mutated(Mutant::OneAttemptIsEnough) {
            true => (1, 1),
            false => (config.rise, config.fall),
        };
        let is_damped = !own.mutated(Mutant::HoldDownIgnored);
        let before = check.state();
        if !check.tried(counts, &attempt.result, (now, unix_ms), is_damped) {
            return Vec::new();
        }
        if check.state() != before {
            let (name, state) = (config.name.clone(), check.state());
            let why = check.reason().to_owned();
            out.report(Report::Checked {
                check: name,
                state,
                why,
                is_first: before == CheckState::Waiting,
            });
        }
        let is_concerned = |index: &VipIndex| own.checks_of(*index).contains(&number);
        (0..own.vip_count()).filter(is_concerned).collect()
    }

    /// What the checks say against holding a VIP here.
    pub(super) fn unwell(&self, own: &Own, index: VipIndex) -> Option<Unwell> {
        if own.mutated(Mutant::ChecksIgnored) {
            return None;
        }
        let decides = |number: &&usize| own.config.checks[**number].weight.is_none();
        let deciding = || own.checks_of(index).iter().filter(decides);
        let is = |state: CheckState| move |number: &&usize| self.checks[**number].state() == state;
        if let Some(&number) = deciding().find(is(CheckState::Down)) {
            let (name, check) = (&own.config.checks[number].name, &self.checks[number]);
            let why = format!("check {name} fails: {}", check.reason());
            return Some(Unwell { why, is_waiting: false });
        }
        let number = *deciding().find(is(CheckState::Waiting))?;
        if own.mutated(Mutant::UntriedTakenForUp) {
            return None;
        }
        let why = format!("check {} has not been tried yet", own.config.checks[number].name);
        Some(Unwell { why, is_waiting: true })
    }

    /// What is offered of a VIP that can be taken.
    pub(super) fn offer(&self, own: &Own, index: VipIndex) -> VipOffer {
        let offer = VipOffer::of(own.vip(index), own.digest(index).to_owned());
        let weight = self.weigh(own, index, own.config.weight);
        VipOffer {
            priority: self.weigh(own, index, offer.priority),
            weight: (weight != self.weigh_node(own)).then_some(weight),
            ..offer
        }
    }

    /// The priority or share of a VIP here, with what its checks add to it or take from it.
    pub(super) fn weigh(&self, own: &Own, index: VipIndex, base: u32) -> u32 {
        self.weighed(own, own.checks_of(index).iter().copied(), base)
    }

    /// The node's share, with what the checks of the whole node add to it or take from it.
    pub(super) fn weigh_node(&self, own: &Own) -> u32 {
        let checks = &own.config.checks;
        let of_node = (0..checks.len()).filter(|number| checks[*number].whole_node);
        self.weighed(own, of_node, own.config.weight)
    }

    fn weighed(&self, own: &Own, checks: impl Iterator<Item = usize>, base: u32) -> u32 {
        let counts = |number: usize| {
            let weight = own.config.checks[number].weight?;
            let counted = if weight < 0 { CheckState::Down } else { CheckState::Up };
            (self.checks[number].state() == counted).then_some(i64::from(weight))
        };
        if own.mutated(Mutant::WeightIgnored) {
            return base;
        }
        let sum = i64::from(base) + checks.filter_map(counts).sum::<i64>();
        u32::try_from(sum.max(0)).unwrap_or(u32::MAX)
    }

    /// What the others are told.
    pub(super) fn records(&self, own: &Own) -> BTreeMap<CheckName, CheckRecord> {
        let record = |check: &Check| CheckRecord {
            state: check.state(),
            since_unix_ms: check.since_unix_ms(),
            reason: check.reason().to_owned(),
        };
        let names = own.config.checks.iter().map(|one| one.name.clone());
        names.zip(self.checks.iter().map(record)).collect()
    }
}
