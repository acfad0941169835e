//! The worlds that are worth looking at.

use super::bounds::Options;
use super::files::Files;
use super::hearing_worlds::{large_hearing_worlds, small_hearing_worlds};

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

/// The worlds that are small enough to be exhausted at every commit: together some nine million
/// states. Each is where a rule of the protocol is put to the test.
pub fn small_worlds() -> Vec<SmallWorld> {
    [leases(), hand_overs(), files(), time_and_kernels(), small_hearing_worlds()].concat()
}

/// Renewals and sessions.
fn leases() -> Vec<SmallWorld> {
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
    ]
}

/// Hand-overs, newcomers, ends.
fn hand_overs() -> Vec<SmallWorld> {
    let calm = Options::default();
    let one = |name, about, options| SmallWorld { name, about, options };
    vec![
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
            Options { ticks_max: 0, drains_max: 2, absent: 1, rest_zeros: 0, ..calm },
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
    ]
}

/// Renames and several VIPs.
fn files() -> Vec<SmallWorld> {
    let calm = Options::default();
    let one = |name, about, options| SmallWorld { name, about, options };
    vec![
        one(
            "rename",
            "a VIP is renamed and named as before, with kills and a late request",
            Options {
                ticks_max: 2,
                files: Files::Rename,
                changes_max: 2,
                crashes_max: 2,
                late_max: 2,
                losses_max: 0,
                stalled_watches_max: 1,
                slow_kernel: true,
                absent: 1,
                prompt: true,
                unlucky: Some(0),
                late_freeing: true,
                ..calm
            },
        ),
        one(
            "rename-drain",
            "a VIP is renamed on one host, and the other is drained",
            Options {
                ticks_max: 2,
                files: Files::Rename,
                changes_max: 1,
                crashes_max: 1,
                drains_max: 1,
                losses_max: 1,
                prompt: true,
                rest_zeros: 0,
                ..calm
            },
        ),
        one(
            "exchange",
            "two VIPs exchange their addresses and take them back, with kills",
            Options {
                ticks_max: 2,
                files: Files::Exchange,
                changes_max: 2,
                crashes_max: 2,
                losses_max: 0,
                stalled_watches_max: 1,
                slow_kernel: true,
                prompt: true,
                unlucky: Some(0),
                rest_zeros: 0,
                ..calm
            },
        ),
        one(
            "two",
            "two VIPs of which one moves, and a daemon is killed",
            Options {
                ticks_max: 2,
                files: Files::Two,
                moves_max: 1,
                crashes_max: 1,
                stalled_watches_max: 1,
                losses_max: 1,
                prompt: true,
                rest_zeros: 0,
                ..calm
            },
        ),
        one(
            "late-two",
            "two requests are late while the VIP moves",
            Options { ticks_max: 1, moves_max: 2, late_max: 2, ..calm },
        ),
    ]
}

/// Gaps, slow kernels, three hosts.
fn time_and_kernels() -> Vec<SmallWorld> {
    let calm = Options::default();
    let one = |name, about, options| SmallWorld { name, about, options };
    vec![
        one(
            "gone",
            "a daemon is killed for good, and the other's renewals fail now and then",
            Options {
                ticks_max: 9,
                crashes_max: 1,
                losses_max: 2,
                stay_down: true,
                prompt: true,
                gap_max: 2,
                ..calm
            },
        ),
        one(
            "kernel",
            "every call to the kernel takes its time, among leases",
            Options { ticks_max: 4, slow_kernel: true, prompt: true, stalls_max: 1, ..calm },
        ),
        one(
            "kernel-stall",
            "a longer lease, so that a call to the kernel can be read ticks after it was sent",
            Options {
                lease_ticks: 4,
                ticks_max: 7,
                losses_max: 1,
                slow_kernel: true,
                prompt: true,
                ..calm
            },
        ),
        one(
            "kernel-kill",
            "the same with a kill",
            Options {
                ticks_max: 3,
                slow_kernel: true,
                prompt: true,
                crashes_max: 1,
                losses_max: 1,
                ..calm
            },
        ),
        one(
            "wide",
            "a VIP with more addresses than one call to the kernel takes",
            Options {
                ticks_max: 3,
                files: Files::Wide,
                slow_kernel: true,
                prompt: true,
                losses_max: 2,
                moves_max: 1,
                ..calm
            },
        ),
        one(
            "three-deep",
            "three hosts, and time enough for an expiry, a return and another expiry",
            Options { nodes: 3, ticks_max: 8, losses_max: 2, prompt: true, ..calm },
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
    [large_hand_overs(), large_further(), large_hearing_worlds()].concat()
}

/// Large worlds of leases and hand-overs.
fn large_hand_overs() -> Vec<SmallWorld> {
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
    ]
}

/// More of the large worlds.
fn large_further() -> Vec<SmallWorld> {
    let calm = Options::default();
    let one = |name, about, options| SmallWorld { name, about, options };
    vec![
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
        one(
            "rename-large",
            "a VIP is renamed and named as before on two hosts, with kills and late requests",
            Options {
                ticks_max: 2,
                files: Files::Rename,
                changes_max: 2,
                crashes_max: 2,
                late_max: 2,
                losses_max: 1,
                stalled_watches_max: 1,
                absent: 1,
                prompt: true,
                states_max: 10_000_000,
                ..calm
            },
        ),
        one(
            "two-large",
            "two VIPs, moves, a kill, a late request and a watch that stands still",
            Options {
                ticks_max: 3,
                files: Files::Two,
                moves_max: 2,
                crashes_max: 1,
                late_max: 1,
                stalled_watches_max: 1,
                losses_max: 1,
                prompt: true,
                states_max: 10_000_000,
                ..calm
            },
        ),
        one(
            "three-deeper",
            "three hosts, three outages and a watch that stands still",
            Options {
                nodes: 3,
                ticks_max: 9,
                losses_max: 3,
                stalled_watches_max: 1,
                prompt: true,
                states_max: 10_000_000,
                ..calm
            },
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
    SmallWorld { name: "everything", about: "every trouble at once", options }
}
