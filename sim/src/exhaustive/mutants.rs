//! In which world a broken rule shows.

use turnip_core::Mutant;

use super::worlds::{SmallWorld, small_worlds};

/// The small world in which a broken rule shows, if it shows in one.
///
/// [`Mutant::ExpiryRestarts`] does not: it only makes others wait for ever, and nothing here waits
/// that long. [`Mutant::ViewGoesBack`] shows by a refusal; an overlap is still prevented by the
/// barrier of rule 5 and by what transactions compare.
pub fn where_it_shows(mutant: Mutant) -> Option<SmallWorld> {
    let name = match mutant {
        Mutant::DeadlineFromAnswer => "slow",
        Mutant::HolderIgnoresDrift | Mutant::ExpireUncompared | Mutant::ClaimFromTheLate => {
            "leases"
        }
        Mutant::WaiterIgnoresDrift => "drift",
        Mutant::HandOverBeforeRemoval | Mutant::KeepAfterHandOver | Mutant::HandOverUncompared => {
            "move"
        }
        Mutant::ViewGoesBack => "kill",
        Mutant::KeepAfterResume => "move-kill",
        Mutant::ClaimByView => "newcomer",
        Mutant::NonceReused => "late",
        Mutant::RefuseLateRenewal => "kill-late",
        Mutant::GuardIgnored => "no-fence",
        _ => return None,
    };
    let mut world = small_worlds().into_iter().find(|world| world.name == name)?;
    world.options.mutant = Some(mutant);
    Some(world)
}
