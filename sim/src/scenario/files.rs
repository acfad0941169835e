//! Scenario files that go wrong when a rule is broken. What happens and what is expected is in the file; here is
//! which rules it is about, and with which of its seeds they show.

use std::path::Path;

use turnip_core::Mutant;

use crate::script::Script;

use super::{Scenario, Source};

/// A file below `sim/scenarios`; what of the protocol it is about, if that has a name; the seeds; the mutants.
macro_rules! file {
    ($path:literal, $about:literal, $seeds:expr, [$($mutant:ident),+]) => {
        scenario(
            $path,
            include_str!(concat!("../../scenarios/", $path)),
            $about,
            &$seeds,
            &[$(Mutant::$mutant),+],
        )
    };
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = of_holders();
    all.extend(of_etcd());
    all.extend(of_kernels());
    all.extend(of_checks());
    all
}

/// Who has an address, and who takes it over.
fn of_holders() -> Vec<Scenario> {
    vec![
        file!("maintenance.toml", "", [0], [SitsOnVip]),
        file!("an-operators-day.toml", "", [0], [SilentFromBefore]),
        file!("simulated/late-renewals.toml", "interleaving 4", [0], [ClaimFromTheLate]),
        file!("rules/death-with-the-leader.toml", "", [0], [PatienceDoubled]),
        file!("rules/long-election-with-a-death.toml", "", [0], [PatienceDoubled]),
        file!("simulated/deaf-watch.toml", "", [0], [RenewWhileStale]),
    ]
}

/// etcd is away, for all or for one, or is another one.
fn of_etcd() -> Vec<Scenario> {
    vec![
        file!("cut-from-etcd.toml", "", [0], [AcknowledgedCountsOn]),
        file!("quota-full.toml", "", [0], [AcknowledgedCountsOn]),
        file!("rules/etcd-away.toml", "", [0], [AcknowledgedCountsOn]),
        file!("simulated/members-crash-without-a-quorum.toml", "", [0], [AcknowledgedCountsOn]),
        file!("rules/death-while-etcd-is-away.toml", "", [0], [AnyWitness]),
        file!("rules/restart-while-etcd-is-away.toml", "", [0], [AnyWitness]),
        file!("rules/path-lost-while-etcd-is-away.toml", "", [0], [AnyWitness]),
        file!("rules/not-listed.toml", "", [0], [UnlistedExpires]),
        file!("rules/expired-and-not-told.toml", "", [0], [AcknowledgementOfAny]),
        file!("rules/one-of-two-hears.toml", "", [0], [AnyWitness]),
        file!("rules/handed-to-the-deaf.toml", "", [0], [DeafAcknowledged]),
        file!(
            "rules/rollback.toml",
            "interleaving 15",
            [2],
            [ResumeAfterRollback, KeepAfterRollback]
        ),
    ]
}

/// Clocks, and what only the kernel does.
fn of_kernels() -> Vec<Scenario> {
    vec![
        file!(
            "simulated/drifting-clocks.toml",
            "interleaving 2",
            [0, 7],
            [HolderIgnoresDrift, WaiterIgnoresDrift]
        ),
        file!("slewed-clock.toml", "", [4], [TimerRateIgnored]),
        file!("rules/stolen-address.toml", "", [0], [NoRepair]),
        file!("rules/flushed-rules.toml", "", [0], [ForeignChangesIgnored]),
        file!(
            "simulated/slow-kernel-at-a-drain.toml",
            "interleaving 5",
            [0],
            [HandOverBeforeRemoval]
        ),
        file!(
            "simulated/refreshes-that-wait.toml",
            "interleaving 11",
            [2],
            [LifetimeRoundedUp, ClockReadInQueue]
        ),
    ]
}

/// Checks of what stands behind an address (rule 11).
fn of_checks() -> Vec<Scenario> {
    vec![
        file!("failed-check.toml", "", [0], [ChecksIgnored]),
        file!("rules/checks-that-fail-everywhere.toml", "", [0], [LastResortIgnored]),
        file!("rules/check-that-comes-and-goes.toml", "", [0], [ChecksIgnored, SitsOnVip]),
        file!("rules/checks-that-come-and-go-everywhere.toml", "", [0], [LastResortIgnored]),
    ]
}

fn scenario(
    file: &'static str,
    text: &str,
    about: &str,
    seeds: &'static [u64],
    mutants: &'static [Mutant],
) -> Scenario {
    let path = format!("sim/scenarios/{file}");
    let script = Script::parse(Path::new(&path), text).unwrap_or_else(|wrong| panic!("{wrong}"));
    let name = file.rsplit('/').next().and_then(|name| name.strip_suffix(".toml"));
    let story = script.about.clone().unwrap_or_default();
    let story = if about.is_empty() { story } else { format!("{about}: {story}") };
    let source = Source::File { path, script: Box::new(script), seeds };
    Scenario { name: name.expect("the name of a file"), story, source, mutants }
}
