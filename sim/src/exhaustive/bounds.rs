//! The bounds of a world, and the worlds that are worth looking at.

use std::time::Duration;

use turnip_core::{Lease, Mutant};

use super::daemon::TICK;
use super::files::Files;
use super::state::Trouble;

/// The bounds of a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How many hosts: 1 to 3.
    pub nodes: usize,
    /// The lease in ticks of true time: 2 or more.
    pub lease_ticks: u32,
    /// How many ticks a node waits between renewals: 1, unless the lease is long.
    pub renew_ticks: u32,
    /// How many ticks there are.
    pub ticks_max: u8,
    /// Visit no more states than these.
    pub states_max: usize,
    /// How many requests may be told to have failed and land later.
    pub late_max: u8,
    /// How many answers may be delayed after the commit.
    pub slow_max: u8,
    /// For how many ticks in all a daemon may stall.
    pub stalls_max: u8,
    /// How often a daemon may be killed.
    pub crashes_max: u8,
    /// How often a host may be booted again.
    pub reboots_max: u8,
    /// How often the operator moves the VIP.
    pub moves_max: u8,
    /// How often the operator drains a host, or undoes that.
    pub drains_max: u8,
    /// How many daemons the operator stops for good.
    pub stops_max: u8,
    /// Only the first host has joined when it all begins; the others may start at any time.
    pub alone: bool,
    /// How often a daemon may start with another configuration file.
    pub changes_max: u8,
    /// How many renewals may be lost; 255: any number.
    pub losses_max: u8,
    /// How often a watch may stand still, where all is prompt.
    pub deaf_max: u8,
    /// What is on its way arrives before anything else happens, but for what the bounds permit:
    /// then more can be looked at of what time brings.
    pub prompt: bool,
    /// Only requests that free a VIP are ever late; what else a killed daemon had sent is lost.
    pub late_freeing: bool,
    /// Daemons are killed, stopped and started with other files, and hosts are booted again, on
    /// the first host only.
    pub one_unlucky: bool,
    /// A daemon that was killed does not start again.
    pub stay_down: bool,
    /// The configuration files.
    pub files: Files,
    /// For how many ticks in a row an address may be nobody's that somebody could have; 255: any.
    pub gap_max: u8,
    /// From one in two to the power of so many states of the last tick on, all goes well, and
    /// must come to rest.
    pub rest_zeros: u32,
    /// Additions and refreshes take their time too, not removals only.
    pub slow_kernel: bool,
    /// The fence silences at the deadline. Without it only the daemon does, and neither it nor its
    /// kernel ever stalls.
    pub fence: bool,
    /// The rule that is broken, to see whether that is noticed.
    pub mutant: Option<Mutant>,
}

impl Default for Options {
    /// Two hosts and four ticks without troubles, but for watches that lag and renewals that fail.
    fn default() -> Self {
        Options {
            nodes: 2,
            lease_ticks: 2,
            renew_ticks: 1,
            ticks_max: 4,
            states_max: usize::MAX,
            late_max: 0,
            slow_max: 0,
            stalls_max: 0,
            crashes_max: 0,
            reboots_max: 0,
            moves_max: 0,
            drains_max: 0,
            stops_max: 0,
            alone: false,
            changes_max: 0,
            losses_max: u8::MAX,
            deaf_max: 0,
            prompt: false,
            late_freeing: false,
            one_unlucky: false,
            stay_down: false,
            files: Files::One,
            gap_max: u8::MAX,
            rest_zeros: 4,
            slow_kernel: false,
            fence: true,
            mutant: None,
        }
    }
}

impl Options {
    /// How often there may be such a trouble.
    pub(super) fn max(&self, trouble: Trouble) -> u8 {
        match trouble {
            Trouble::Late => self.late_max,
            Trouble::Slow => self.slow_max,
            Trouble::Stall => self.stalls_max,
            Trouble::Crash => self.crashes_max,
            Trouble::Reboot => self.reboots_max,
            Trouble::Move => self.moves_max,
            Trouble::Drain => self.drains_max,
            Trouble::Stop => self.stops_max,
            Trouble::Change => self.changes_max,
            Trouble::Loss => self.losses_max,
            Trouble::Deaf => self.deaf_max,
        }
    }
}

/// A world that is worth looking at for a reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmallWorld {
    /// Its name on the command line.
    pub name: &'static str,
    /// What can happen in it.
    pub about: &'static str,
    /// Its bounds.
    pub options: Options,
}

/// The worlds that are small enough to be exhausted at every commit: together some two million
/// states. Each is where a rule of the protocol is put to the test.
pub fn small_worlds() -> Vec<SmallWorld> {
    let calm = Options::default();
    let one = |name, about, options| SmallWorld { name, about, options };
    vec![
        one("leases", "renewals fail, sessions expire and are opened again", calm),
        one(
            "drift",
            "a long lease, at the end of which the clocks have drifted apart",
            Options { lease_ticks: 11, renew_ticks: 3, ticks_max: 12, ..calm },
        ),
        one(
            "late",
            "a renewal lands when nobody waits for it any more",
            Options { ticks_max: 3, late_max: 1, ..calm },
        ),
        one("slow", "an answer is slow", Options { ticks_max: 3, slow_max: 1, ..calm }),
        one(
            "stall",
            "a daemon stands still for a tick",
            Options { ticks_max: 3, stalls_max: 1, ..calm },
        ),
        one(
            "kill",
            "a daemon is killed and starts again",
            Options { ticks_max: 3, crashes_max: 1, ..calm },
        ),
        one(
            "kill-late",
            "the same, and what it had sent lands late",
            Options { ticks_max: 1, crashes_max: 1, late_max: 1, ..calm },
        ),
        one(
            "move",
            "the operator moves the VIP three times, and a hand-over is late",
            Options { ticks_max: 1, moves_max: 3, late_max: 1, ..calm },
        ),
        one(
            "move-kill",
            "the same, with a daemon that is killed and resumes",
            Options { ticks_max: 0, moves_max: 2, late_max: 1, crashes_max: 1, ..calm },
        ),
        one(
            "move-expire",
            "a hand-over among renewals that fail and sessions that expire",
            Options { ticks_max: 2, moves_max: 1, ..calm },
        ),
        one(
            "newcomer",
            "a node joins while the only other one is drained and no longer is",
            Options { ticks_max: 0, drains_max: 2, alone: true, ..calm },
        ),
        one(
            "reboot",
            "a host is booted again and joins under its name",
            Options { ticks_max: 3, reboots_max: 1, ..calm },
        ),
        one("stop", "a daemon is stopped", Options { ticks_max: 2, stops_max: 1, ..calm }),
        one(
            "no-fence",
            "only the daemon takes addresses away, in time",
            Options { fence: false, ..calm },
        ),
        one(
            "rename",
            "a VIP is renamed and named as before, with kills and a late request",
            Options {
                ticks_max: 2,
                files: Files::Rename,
                changes_max: 2,
                crashes_max: 2,
                late_max: 1,
                losses_max: 0,
                prompt: true,
                alone: true,
                one_unlucky: true,
                late_freeing: true,
                deaf_max: 1,
                ..calm
            },
        ),
        one("three", "three hosts and their leases", Options { nodes: 3, ticks_max: 2, ..calm }),
        one(
            "three-move",
            "three hosts between which the VIP moves",
            Options { nodes: 3, ticks_max: 1, moves_max: 2, ..calm },
        ),
    ]
}

/// The worlds that take minutes to exhaust: together some seventy million states.
pub fn large_worlds() -> Vec<SmallWorld> {
    let calm = Options::default();
    let one = |name, about, options| SmallWorld { name, about, options };
    vec![
        one("leases-5", "five ticks of leases", Options { ticks_max: 5, ..calm }),
        one(
            "troubles",
            "a late renewal, a slow answer and a stall among leases",
            Options { ticks_max: 3, late_max: 1, slow_max: 1, stalls_max: 1, ..calm },
        ),
        one(
            "kill-slow",
            "a kill and a slow answer among leases",
            Options { ticks_max: 3, crashes_max: 1, slow_max: 1, ..calm },
        ),
        one(
            "kills",
            "two kills and a late request",
            Options { ticks_max: 2, crashes_max: 2, late_max: 1, ..calm },
        ),
        one(
            "move-leases",
            "a hand-over while sessions expire and are opened again",
            Options { ticks_max: 3, moves_max: 1, ..calm },
        ),
        one(
            "move-stall",
            "the same with a stall",
            Options { ticks_max: 3, moves_max: 1, stalls_max: 1, ..calm },
        ),
        one(
            "moves-slow",
            "the VIP moves to and fro, and an answer is slow",
            Options { ticks_max: 2, moves_max: 2, slow_max: 1, ..calm },
        ),
        one(
            "moves-kill",
            "the VIP moves to and fro, with a late request and a kill",
            Options { ticks_max: 1, moves_max: 2, late_max: 1, crashes_max: 1, ..calm },
        ),
        one(
            "slow-kernel",
            "the VIP moves to and fro, and no kernel operation is quick",
            Options { ticks_max: 2, moves_max: 2, late_max: 1, slow_kernel: true, ..calm },
        ),
        one(
            "stop-kill",
            "a stop, a kill and a late request",
            Options { ticks_max: 2, stops_max: 1, crashes_max: 1, late_max: 1, ..calm },
        ),
        one(
            "reboot-4",
            "a host is booted again among leases",
            Options { ticks_max: 4, reboots_max: 1, ..calm },
        ),
        one(
            "drain",
            "a host is drained and no longer is, among leases",
            Options { ticks_max: 2, drains_max: 2, ..calm },
        ),
        one(
            "no-fence-5",
            "five ticks without a fence",
            Options { ticks_max: 5, fence: false, ..calm },
        ),
        one(
            "no-fence-move",
            "a hand-over and a late request without a fence",
            Options { ticks_max: 3, moves_max: 1, late_max: 1, fence: false, ..calm },
        ),
        one("three-3", "three hosts, three ticks", Options { nodes: 3, ticks_max: 3, ..calm }),
        one(
            "three-late",
            "three hosts between which the VIP moves, with a late request",
            Options { nodes: 3, ticks_max: 1, moves_max: 2, late_max: 1, ..calm },
        ),
    ]
}

/// Every trouble at once: more states than can be visited, so only the nearest are.
pub fn wide_world() -> SmallWorld {
    let options = Options {
        ticks_max: 2,
        late_max: 1,
        slow_max: 1,
        stalls_max: 1,
        crashes_max: 1,
        moves_max: 1,
        states_max: 20_000_000,
        ..Options::default()
    };
    SmallWorld { name: "wide", about: "every trouble at once", options }
}

/// The small world in which a broken rule shows, if it shows in one.
///
/// [`Mutant::ExpiryRestarts`] does not: it only makes others wait for ever, and nothing here waits
/// that long. [`Mutant::ViewGoesBack`] shows by a refusal; an overlap is still prevented by the
/// barrier of rule 5.3 and by what transactions compare.
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

/// A lease whose holder on the slowest clock, and whose waiter on the fastest, count the same whole
/// number of ticks.
pub(super) fn lease(options: &Options) -> Lease {
    let duration = TICK * options.lease_ticks;
    // Without a fence the daemon has one tick of its own clock to take the address away.
    let guard = if options.fence { Duration::from_millis(15) } else { Duration::from_millis(90) };
    let holding = duration * 9 / 10;
    let renew = (holding - guard) / 3;
    Lease::with(
        duration,
        Some(renew.min(TICK * options.renew_ticks * 8 / 10)),
        Some(guard),
        Some(100_000),
    )
    .expect("a lease of some ticks")
}
