//! The bounds of a world, and the worlds that are worth looking at.

use std::time::Duration;

use turnip_core::{Lease, Mutant};

use super::daemon::TICK;
use super::files::Files;
use super::hearing::Hearing;
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
    /// So many of the hosts have not joined when it all begins; they may start at any time.
    pub absent: usize,
    /// How often a daemon may start with another configuration file.
    pub changes_max: u8,
    /// How often a host's renewals may begin to be lost, each time for as many ticks as may be;
    /// 255: as often as may be.
    pub losses_max: u8,
    /// How often a watch may stand still, where all is prompt.
    pub stalled_watches_max: u8,
    /// What is on its way arrives before anything else happens, but for what the bounds permit:
    /// then more can be looked at of what time brings.
    pub prompt: bool,
    /// Only requests that free a VIP are ever late; what else a killed daemon had sent is lost.
    pub late_freeing: bool,
    /// Daemons are killed, stopped and started with other files, and hosts are booted again, on
    /// this host only.
    pub unlucky: Option<usize>,
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
    /// How fast the hosts' clocks go, in percent of true time. The drift margin is 10 %.
    pub rates_percent: [u32; 3],
    /// How the hosts hear each other, where they do (rule 10). Then it is also wrong when a session is
    /// gone before its host's deadline, whoever answers.
    pub hearing: Option<Hearing>,
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
            absent: 0,
            changes_max: 0,
            losses_max: u8::MAX,
            stalled_watches_max: 0,
            prompt: false,
            late_freeing: false,
            unlucky: None,
            stay_down: false,
            files: Files::One,
            gap_max: u8::MAX,
            rest_zeros: 4,
            slow_kernel: false,
            fence: true,
            rates_percent: [90, 110, 100],
            hearing: None,
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
            Trouble::StalledWatch => self.stalled_watches_max,
            Trouble::Double => self.hearing.map_or(0, |hearing| hearing.doubles_max),
        }
    }

    /// The tick with which it ends.
    pub(super) fn last_tick(&self) -> u8 {
        self.ticks_max + self.hearing.map_or(0, |hearing| hearing.warm_up)
    }

    /// The number of the name that a host has.
    pub(super) fn name_of(&self, host: usize) -> usize {
        let twin_of = self.hearing.and_then(|hearing| hearing.twin_of);
        twin_of.filter(|_| host + 1 == self.nodes).unwrap_or(host)
    }
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
