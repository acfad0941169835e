//! In which world a broken rule shows.

use turnip_core::Mutant;

use super::worlds::{SmallWorld, large_worlds, small_worlds};

/// The small world in which a broken rule shows, if it shows in one; see [`why_not`].
pub fn where_it_shows(mutant: Mutant) -> Option<SmallWorld> {
    let name = world_of(mutant).ok()?;
    let all = || small_worlds().into_iter().chain(large_worlds());
    let mut world = all().find(|world| world.name == name)?;
    world.options.mutant = Some(mutant);
    Some(world)
}

/// Why a broken rule shows in none of the small worlds.
pub fn why_not(mutant: Mutant) -> Option<&'static str> {
    world_of(mutant).err()
}

/// [`Mutant::ViewGoesBack`] shows by a refusal; an overlap is still prevented by the barrier of
/// rule 5 and by what transactions compare. [`Mutant::PatienceDoubled`] and
/// [`Mutant::ExpiryRestarts`] show by a gap that is too long, [`Mutant::SitsOnVip`] by an address
/// that nobody holds at rest.
fn world_of(mutant: Mutant) -> Result<&'static str, &'static str> {
    Ok(match mutant {
        Mutant::DeadlineFromAnswer => "slow",
        Mutant::ExpireUncompared | Mutant::ClaimFromTheLate => "leases",
        Mutant::WaiterIgnoresDrift => "drift",
        Mutant::HandOverBeforeRemoval | Mutant::KeepAfterHandOver | Mutant::HandOverUncompared => {
            "move"
        }
        Mutant::ViewGoesBack => "kill",
        Mutant::KeepAfterResume => "move-kill",
        Mutant::ClaimByView | Mutant::SitsOnVip => "newcomer",
        Mutant::NonceReused => "late",
        Mutant::RefuseLateRenewal => "kill-late",
        Mutant::GuardIgnored => "no-fence",
        Mutant::PatienceDoubled | Mutant::ExpiryRestarts => "gone",
        Mutant::HolderIgnoresDrift
        | Mutant::NoTicket
        | Mutant::ClockReadInQueue
        | Mutant::AddressBeforeGate => "kernel-stall",
        Mutant::AcknowledgedCountsOn
        | Mutant::AcknowledgementOfAny
        | Mutant::ConsentFromAcknowledgement
        | Mutant::AcknowledgedWhileExpiring => "hear",
        Mutant::BarEndsWithOwnWrite => "hear-unanswered",
        Mutant::AcknowledgeBeforeWrite => "hear-kill",
        Mutant::ExpiryOutlivesProcess | Mutant::SilentFromBefore => "hear-kill-renew",
        Mutant::AcknowledgementOfAnyProcess => "hear-anew",
        Mutant::AcknowledgeByOldView => "hear-view",
        Mutant::AnyWitness => "hear-three",
        Mutant::UnlistedExpires => "join",
        Mutant::UnknownListIgnored => "join-late",
        Mutant::ExtendWithoutWitnesses => "join-old",
        Mutant::ListBeforeCommit => "drop",
        Mutant::WithoutStoreForEver => "unlisted",
        Mutant::NamesakeExpires => "twin",
        Mutant::SilentFromBeforeSession => "twin-stop",
        Mutant::AcknowledgeWhenLate => "twin-late",
        Mutant::UnknownSessionAcknowledged => "twin-of-expired",
        Mutant::DeafAcknowledged | Mutant::UnhearingAcknowledged => {
            return Err("it costs an address its host, and never gives it two");
        }
        Mutant::ExtendBeforeWrite => {
            return Err(
                "a process that has not written holds nothing without a VIP, and with one it takes too many states",
            );
        }
        Mutant::KeepRenamed => {
            return Err("in the world rename something else still prevents the harm");
        }
        Mutant::KeepAfterRollback
        | Mutant::ResumeAfterRollback
        | Mutant::EarlierTermIgnored
        | Mutant::EarlierWriteIgnored
        | Mutant::RecreationIgnored
        | Mutant::OtherContentIgnored
        | Mutant::PresenceIgnored
        | Mutant::OwnAbsenceIgnored
        | Mutant::OldTermAlarms
        | Mutant::CountsUntold
        | Mutant::UnawareAcknowledged
        | Mutant::QuietByOwnLease => {
            return Err("the store never goes back here: A2 holds");
        }
        Mutant::LeaseUnlimited | Mutant::FirstBeforeSession => {
            return Err("nobody writes what no daemon would here");
        }
        Mutant::NoRepair | Mutant::MisplacedLeft | Mutant::ForeignChangesIgnored => {
            return Err("nobody else touches a kernel here");
        }
        Mutant::FlapsForgotten => return Err("no interface goes away here"),
        mutant if mutant.breaks().starts_with("rule 11.") => {
            return Err("nothing is checked here");
        }
        Mutant::FailureForgotten | Mutant::FailedLetPass => {
            return Err("no kernel refuses anything here");
        }
        Mutant::LifetimeNotLookedAtAgain | Mutant::LifetimeRoundedUp | Mutant::TimerRateIgnored => {
            return Err(
                "lifetimes count seconds and here are tenths; the kernel's timers are true",
            );
        }
        Mutant::OneLinkSuffices => return Err("a host has one interface here"),
        mutant if mutant.breaks().starts_with("rule 12.") => {
            return Err("no VIP has hooks here");
        }
        Mutant::RenewWhileStale => {
            return Err("whoever hears nothing is silent here: no move depends on it");
        }
        _ => return Err("within these bounds something else still prevents the harm"),
    })
}
