//! The worlds in which hosts hear each other (rule 10).
//!
//! In most of them host a goes on by what the others acknowledge, and one of those would like to expire it.
//! So a's clock is the slowest and theirs are the fastest: a may hold up to the very tick at which they may
//! expire it, and a rule that gives away one tick shows. When a host expires another, it does not
//! renew its own session at the same tick, for that would make the expiry fail.

use super::bounds::Options;
use super::files::Files;
use super::hearing::{Hearing, Ticks};
use super::worlds::SmallWorld;

/// Those small enough for every commit.
pub(super) fn small_hearing_worlds() -> Vec<SmallWorld> {
    [two_hosts(), lists(), namesakes()].concat()
}

const NEVER: Ticks = Ticks::NONE;

const fn at(ticks: &[u8]) -> Ticks {
    Ticks::at(ticks)
}

/// Hosts whose sessions are all that matters; renewals fail when the world says so, and only then.
fn two() -> Options {
    Options {
        lease_ticks: 3,
        files: Files::None,
        losses_max: 0,
        prompt: true,
        ..Options::default()
    }
}

/// The same with three, whose heartbeats are never late.
fn three() -> Options {
    Options { nodes: 3, rates_percent: [90, 110, 110], ..two() }
}

/// The ticks at which each host's renewals and its heartbeats get through.
fn hearing(writes: [Ticks; 3], beats: [Ticks; 3]) -> Hearing {
    Hearing { writes, beats, ..Hearing::ALL }
}

/// The same where nothing is late.
fn at_once(writes: [Ticks; 3], beats: [Ticks; 3]) -> Hearing {
    Hearing { flight_ticks: 0, ..hearing(writes, beats) }
}

fn world(
    name: &'static str,
    about: &'static str,
    options: Options,
    hearing: Hearing,
) -> SmallWorld {
    SmallWorld { name, about, options: Options { hearing: Some(hearing), ..options } }
}

/// Two hosts: heartbeats and acknowledgements that are lost, late, doubled and out of order; expiries
/// that land late or whose answers are lost; processes that start anew.
fn two_hosts() -> Vec<SmallWorld> {
    vec![
        world(
            "hear",
            "a does not reach the store, and goes on by what b acknowledges, which may arrive twice; b's expiry of a is late",
            Options { ticks_max: 5, late_max: 1, ..two() },
            Hearing {
                doubles_max: 1,
                ..hearing(
                    [NEVER, at(&[1, 2]), NEVER],
                    [at(&[1, 2, 3, 4]), at(&[1, 2, 3, 4, 5]), NEVER],
                )
            },
        ),
        world(
            "hear-both",
            "both reach the store or do not, and hear each other or do not",
            Options { ticks_max: 4, losses_max: 2, ..two() },
            hearing([Ticks::ALL; 3], [at(&[1, 2, 3]), at(&[2, 3, 4]), NEVER]),
        ),
        world(
            "hear-unanswered",
            "nobody hears that b's expiry of a has landed",
            Options { lease_ticks: 4, ticks_max: 8, slow_max: 1, stalled_watches_max: 2, ..two() },
            // A write of b's counts when its watch tells it, before that stands still.
            hearing([NEVER, at(&[3, 5]), NEVER], [at(&[5]), at(&[6]), NEVER]),
        ),
        world(
            "hear-kill",
            "b is killed and starts again while its expiry of a is on its way",
            Options { ticks_max: 5, late_max: 1, crashes_max: 1, unlucky: Some(1), ..two() },
            hearing([NEVER, at(&[1, 2]), NEVER], [at(&[3, 4]), at(&[3, 4, 5]), NEVER]),
        ),
        world(
            "hear-kill-renew",
            "the same, and b renews its session again",
            Options { ticks_max: 5, late_max: 1, crashes_max: 1, unlucky: Some(1), ..two() },
            hearing(
                [NEVER, at(&[1, 2, 3]), NEVER],
                [at(&[1, 2, 3, 4]), at(&[1, 2, 3, 4, 5]), NEVER],
            ),
        ),
        world(
            "hear-anew",
            "a is killed and starts again, and b acknowledges what its earlier process sent",
            Options { ticks_max: 4, crashes_max: 1, unlucky: Some(0), ..two() },
            hearing([at(&[1]), at(&[1, 2, 3]), NEVER], [at(&[1]), at(&[3, 4]), NEVER]),
        ),
        world(
            "hear-reboot",
            "b is booted again while its expiry of a is on its way, expires its own earlier session by itself, and acknowledges a",
            Options { ticks_max: 8, late_max: 1, reboots_max: 1, unlucky: Some(1), ..two() },
            at_once([NEVER, at(&[1, 2, 3]), NEVER], [at(&[4, 5, 6, 7]), at(&[5, 6, 7, 8]), NEVER]),
        ),
        world(
            "hear-move",
            "the VIP moves between hosts that hear each other, with a late request, and their renewals fail now and then",
            Options {
                ticks_max: 3,
                moves_max: 1,
                late_max: 1,
                losses_max: 1,
                files: Files::One,
                ..two()
            },
            hearing([Ticks::ALL; 3], [at(&[1, 2]), at(&[2, 3]), NEVER]),
        ),
        world(
            "hear-move-reboot",
            "the VIP moves between hosts that hear each other, and the one that has it is booted again",
            Options {
                ticks_max: 3,
                moves_max: 1,
                reboots_max: 1,
                losses_max: 1,
                unlucky: Some(0),
                files: Files::One,
                ..two()
            },
            hearing([Ticks::ALL; 3], [at(&[1, 2]), at(&[2, 3]), NEVER]),
        ),
    ]
}

/// Three hosts: who is listed, and who has to acknowledge.
fn lists() -> Vec<SmallWorld> {
    vec![
        world(
            "hear-three",
            "a does not reach the store, and one of the others may not hear it",
            Options { ticks_max: 4, ..three() },
            at_once([NEVER, at(&[1, 2]), at(&[1, 2])], [at(&[1, 2]), at(&[2, 3]), at(&[2, 3])]),
        ),
        world(
            "join",
            "c starts, and a does not hear of that and lists nobody else",
            Options { ticks_max: 4, absent: 1, stalled_watches_max: 1, ..three() },
            at_once([NEVER, at(&[1, 2, 3]), at(&[1, 2, 3])], [at(&[1, 2]), at(&[2, 3]), NEVER]),
        ),
        world(
            "join-late",
            "c has started; a lists it, and does not hear that this write has landed",
            Options { ticks_max: 4, slow_max: 1, stalled_watches_max: 1, ..three() },
            Hearing {
                newcomer: true,
                ..at_once([at(&[1]), at(&[1, 2, 3]), at(&[1, 2, 3])], [at(&[2]), at(&[3]), NEVER])
            },
        ),
        world(
            "join-old",
            "c has started, and does not know of heartbeats",
            Options { ticks_max: 4, ..three() },
            Hearing {
                newcomer: true,
                old_daemon: true,
                ..at_once([at(&[1]), at(&[1, 2]), at(&[1, 2])], [at(&[1]), NEVER, NEVER])
            },
        ),
        // a writes at once that c is gone: only what is late leaves c listed.
        world(
            "drop",
            "c is killed, is expired and starts again; a would like to drop it from its list",
            Options {
                ticks_max: 6,
                crashes_max: 1,
                late_max: 1,
                unlucky: Some(2),
                stalled_watches_max: 1,
                ..three()
            },
            at_once([at(&[1, 2, 3]), at(&[1, 2, 4, 5]), at(&[4, 5])], [at(&[4]), at(&[5]), NEVER]),
        ),
        world(
            "unlisted",
            "a does not reach the store; c is not listed, and waits for as long as a may go on without it",
            Options { ticks_max: 5, ..three() },
            Hearing {
                newcomer: true,
                without_store_ticks: 5,
                ..at_once(
                    [NEVER, at(&[1, 2, 3]), at(&[1, 2, 3, 4])],
                    [at(&[1, 2, 3]), at(&[2, 3, 4]), at(&[2, 3, 4])],
                )
            },
        ),
    ]
}

/// Two machines of one name.
fn namesakes() -> Vec<SmallWorld> {
    vec![
        world(
            "twin",
            "b goes on by what a acknowledges, and another machine waits for its name",
            Options { ticks_max: 6, losses_max: 1, ..three() },
            Hearing {
                newcomer: true,
                twin_of: Some(1),
                ..at_once(
                    [at(&[1, 2, 3]), at(&[1]), at(&[1, 2, 3])],
                    [at(&[1, 2, 3, 4]), at(&[1, 2, 3, 4]), NEVER],
                )
            },
        ),
        // Another machine that sees b renew twice gives up, so b loses renewals. Who hears that b's session is
        // over does not list it any more at once, so a's watch stands still.
        world(
            "twin-stop",
            "b acknowledges a and is stopped or killed, and another machine has been waiting for its name",
            Options {
                ticks_max: 4,
                stops_max: 1,
                crashes_max: 1,
                losses_max: 1,
                stalled_watches_max: 1,
                unlucky: Some(1),
                ..three()
            },
            Hearing {
                newcomer: true,
                twin_of: Some(1),
                ..at_once(
                    [at(&[1]), at(&[1, 2]), at(&[1, 2, 3, 4])],
                    [at(&[1, 2, 3]), at(&[1, 2, 3]), at(&[3, 4])],
                )
            },
        ),
        // Whose deadline has been over for a lease says nothing, so b's clock is slow. a does not hear of it either.
        world(
            "twin-late",
            "b is expired without hearing of that, and another machine takes its name",
            Options {
                ticks_max: 7,
                absent: 1,
                late_max: 1,
                stalled_watches_max: 2,
                rates_percent: [90, 90, 110],
                ..three()
            },
            Hearing {
                twin_of: Some(1),
                ..at_once([at(&[1, 2, 3]), NEVER, at(&[5, 6])], [at(&[5]), at(&[6]), NEVER])
            },
        ),
        world(
            "twin-of-expired",
            "a is expired without hearing of that, and another machine takes its name",
            Options { ticks_max: 5, absent: 1, stalled_watches_max: 1, ..three() },
            Hearing {
                twin_of: Some(0),
                ..at_once([NEVER, at(&[1, 2, 4, 5]), at(&[4, 5])], [at(&[3]), at(&[4]), NEVER])
            },
        ),
    ]
}

/// Those that take minutes.
pub(super) fn large_hearing_worlds() -> Vec<SmallWorld> {
    let most = 20_000_000;
    let (all, first_two) = (Ticks::ALL, at(&[1, 2]));
    vec![
        world(
            "hear-view",
            "b is killed while its expiry of a is on its way, and starts with a view from before that landed; everything arrives when it likes",
            Options {
                ticks_max: 7,
                late_max: 1,
                crashes_max: 1,
                unlucky: Some(1),
                prompt: false,
                states_max: most,
                ..two()
            },
            at_once([NEVER, at(&[1, 4, 5]), NEVER], [at(&[5, 6]), at(&[6, 7]), NEVER]),
        ),
        world(
            "hear-both-late",
            "both reach the store or do not, hear each other or do not, and are killed; datagrams arrive late and twice",
            Options {
                ticks_max: 5,
                late_max: 1,
                crashes_max: 1,
                losses_max: 2,
                states_max: most,
                ..two()
            },
            Hearing { doubles_max: 1, ..hearing([all; 3], [all, all, NEVER]) },
        ),
        world(
            "unlisted-large",
            "nobody of a and b reaches the store for long beside a host that is not listed",
            Options { ticks_max: 6, late_max: 1, states_max: most, ..three() },
            Hearing {
                newcomer: true,
                without_store_ticks: 5,
                ..hearing([NEVER, first_two, all], [all, all, all])
            },
        ),
        world(
            "lists-kill",
            "c starts and is listed, dropped and listed again, with two late requests and a kill",
            Options {
                ticks_max: 5,
                absent: 1,
                late_max: 2,
                crashes_max: 1,
                losses_max: 1,
                stalled_watches_max: 1,
                states_max: most,
                ..three()
            },
            at_once([all; 3], [at(&[1, 2, 3]), at(&[2, 3, 4]), at(&[2, 3, 4])]),
        ),
        world(
            "hear-move-kill",
            "the VIP moves between hosts that hear each other, with a late hand-over, lost renewals and a kill",
            Options {
                ticks_max: 4,
                moves_max: 1,
                late_max: 1,
                crashes_max: 1,
                losses_max: 1,
                files: Files::One,
                states_max: most,
                ..two()
            },
            hearing([all; 3], [all, all, NEVER]),
        ),
    ]
}
