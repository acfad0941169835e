//! Whether a measured run lies within the simulated ones.

use std::collections::BTreeSet;
use std::time::Duration;

use turnip_netns_tests::measure::QUIET_MAX;
use turnip_netns_tests::timeline::ms;
use turnip_sim::play::{Run, VipRun};
use turnip_sim::script::Script;

/// What real processes and a real kernel take that the simulator does not charge: a daemon that is woken, etcd's answer
/// read and parsed, netlink's and nftables' calls, a gratuitous ARP on its way through two namespaces. An orderly move,
/// which is nothing but that, takes the client 8 to 15 ms in the median, and on a machine whose cores are shared some
/// more.
pub const PROCESSES: Duration = Duration::from_millis(25);

/// By how much a measured gap may lie outside of what was simulated: two periods of the client's, since it reports a gap
/// from one answer to the next; the cost of real processes; and for as long as the machine kept its observers waiting.
pub fn tolerance(blind: Duration) -> Duration {
    QUIET_MAX + PROCESSES + blind
}

/// A scenario in both worlds.
#[derive(Debug)]
pub struct Compared {
    /// Its name.
    pub scenario: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a scenario.
#[derive(Debug)]
pub enum Verdict {
    /// Only one world can play it; why.
    NotPlayed(String),
    /// It was played so often for real.
    Played(Vec<Agreement>),
}

/// One measured run beside the simulated ones.
#[derive(Debug)]
pub struct Agreement {
    /// By how much a gap may lie outside.
    pub tolerance: Duration,
    /// Each VIP.
    pub vips: Vec<VipAgreement>,
    /// What went wrong for real.
    pub wrong: Vec<String>,
}

/// From the least to the most that was simulated, and what was measured.
#[derive(Clone, Copy, Debug)]
pub struct Beside<T> {
    /// The least.
    pub least: T,
    /// The most.
    pub most: T,
    /// What was measured.
    pub measured: T,
}

/// A VIP in both worlds.
#[derive(Debug)]
pub struct VipAgreement {
    /// Its name.
    pub vip: String,
    /// Its longest gap.
    pub gap: Beside<Duration>,
    /// Its longest overlap.
    pub overlap: Beside<Duration>,
    /// How often it moved.
    pub moves: Beside<u64>,
    /// Who had it at the end of simulated runs.
    pub owners: BTreeSet<String>,
    /// And of the measured one.
    pub owner: String,
}

impl Compared {
    /// What came of a scenario.
    pub fn new(script: &Script, verdict: Verdict) -> Self {
        Compared { scenario: script.name.clone(), verdict }
    }

    /// Whether nothing lies outside.
    pub fn agrees(&self) -> bool {
        self.counted().is_none_or(Agreement::agrees)
    }

    /// The run that counts: of those that agree the one that was observed best, else the last.
    pub fn counted(&self) -> Option<&Agreement> {
        let Verdict::Played(tries) = &self.verdict else { return None };
        let agreeing = tries.iter().filter(|one| one.agrees());
        agreeing.min_by_key(|one| one.tolerance).or(tries.last())
    }
}

impl Agreement {
    /// That of a measured run whose observers were kept from asking for `blind` at the longest.
    pub fn of(script: &Script, simulated: &[Run], measured: &Run, blind: Duration) -> Self {
        let vips = script.vips().enumerate().map(|(number, name)| {
            let of_vip = || simulated.iter().map(move |run| &run.vips[number]);
            let (own, owners) = (&measured.vips[number], of_vip().map(owner).collect());
            VipAgreement {
                vip: name.to_owned(),
                gap: beside(of_vip().map(VipRun::gap_max), own.gap_max()),
                overlap: beside(of_vip().map(VipRun::overlap_max), own.overlap_max()),
                moves: beside(of_vip().map(|run| run.moves), own.moves),
                owners,
                owner: owner(own),
            }
        });
        Agreement {
            tolerance: tolerance(blind),
            vips: vips.collect(),
            wrong: measured.wrong.clone(),
        }
    }

    /// Whether nothing lies outside.
    pub fn agrees(&self) -> bool {
        self.outside().is_empty()
    }

    /// What lies outside, each in a few words.
    pub fn outside(&self) -> Vec<String> {
        let mut all = self.wrong.clone();
        for vip in &self.vips {
            let name = &vip.vip;
            let Beside { least, most, measured } = vip.gap;
            if measured + self.tolerance < least || measured > most + self.tolerance {
                all.push(format!(
                    "longest gap of {name}: {}, simulated {} to {}",
                    ms(measured),
                    ms(least),
                    ms(most)
                ));
            }
            let Beside { least, most, measured } = vip.overlap;
            // What was measured is proven; it is shorter than what was, by two periods of the probers.
            if measured + QUIET_MAX < least || measured > most {
                all.push(format!(
                    "longest overlap of {name}: {}, simulated {} to {}",
                    ms(measured),
                    ms(least),
                    ms(most)
                ));
            }
            let Beside { least, most, measured } = vip.moves;
            if !(least..=most).contains(&measured) {
                all.push(format!("moves of {name}: {measured}, simulated {least} to {most}"));
            }
            if !vip.owners.contains(&vip.owner) {
                let owners: Vec<&str> = vip.owners.iter().map(String::as_str).collect();
                all.push(format!(
                    "at the end on {}, simulated on {}",
                    vip.owner,
                    owners.join(", ")
                ));
            }
        }
        all
    }
}

fn beside<T: Ord + Copy>(simulated: impl Iterator<Item = T>, measured: T) -> Beside<T> {
    let all: BTreeSet<T> = simulated.collect();
    let least = all.first().copied().unwrap_or(measured);
    Beside { least, most: all.last().copied().unwrap_or(measured), measured }
}

/// Who has it at the end.
fn owner(run: &VipRun) -> String {
    match run.owners.as_slice() {
        [] => "nobody".into(),
        all => all.join(" and "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn agreement(gap: u64, overlap: u64, moves: u64, owner: &str) -> Agreement {
        let vip = VipAgreement {
            vip: "v1".into(),
            gap: Beside { least: millis(2_800), most: millis(3_100), measured: millis(gap) },
            overlap: Beside { least: millis(0), most: millis(0), measured: millis(overlap) },
            moves: Beside { least: 1, most: 2, measured: moves },
            owners: ["h2".to_owned(), "h3".to_owned()].into(),
            owner: owner.into(),
        };
        let tolerance = tolerance(millis(0));
        Agreement { tolerance, vips: vec![vip], wrong: Vec::new() }
    }

    #[test]
    fn what_lies_within_agrees_and_a_gap_may_lie_outside_by_the_tolerance() {
        for gap in [2_770, 2_800, 3_000, 3_100, 3_135] {
            assert!(agreement(gap, 0, 1, "h3").agrees(), "{gap}");
        }
    }

    #[test]
    fn of_several_tries_the_one_counts_that_agrees_and_was_observed_best() {
        let blind = |gap, blind| Agreement {
            tolerance: tolerance(millis(blind)),
            ..agreement(gap, 0, 1, "h2")
        };
        let of = |tries| Compared { scenario: "x".into(), verdict: Verdict::Played(tries) };
        let counted = |compared: &Compared| compared.counted().map(|one| one.vips[0].gap.measured);
        let some = of(vec![blind(3_200, 150), blind(2_900, 20), blind(9_000, 0)]);
        assert_eq!((counted(&some), some.agrees()), (Some(millis(2_900)), true));
        let none = of(vec![blind(9_000, 0), blind(8_000, 0)]);
        assert_eq!((counted(&none), none.agrees()), (Some(millis(8_000)), false));
    }

    #[test]
    fn what_lies_outside_is_told_with_what_was_simulated() {
        for (agreement, said) in [
            (
                agreement(2_600, 0, 1, "h2"),
                "longest gap of v1: 2600 ms, simulated 2800 ms to 3100 ms",
            ),
            (
                agreement(3_200, 0, 1, "h2"),
                "longest gap of v1: 3200 ms, simulated 2800 ms to 3100 ms",
            ),
            (agreement(3_000, 1, 1, "h2"), "longest overlap of v1: 1.0 ms, simulated 0 to 0"),
            (agreement(3_000, 0, 3, "h2"), "moves of v1: 3, simulated 1 to 2"),
            (agreement(3_000, 0, 1, "nobody"), "at the end on nobody, simulated on h2, h3"),
        ] {
            assert_eq!(agreement.outside(), [said]);
        }
    }
}
