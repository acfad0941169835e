//! Hosts that hear each other past the store (rule 10): what goes out, and what is on its way.

use turnip_core::HeartbeatConfig;

use super::daemon::TICK;
use super::state::{Flying, State};
use super::world::World;

/// How the hosts of a world hear each other, and how much of that can happen.
///
/// A datagram that is on its way can reach any machine that has its addressee's name, at any time, in any
/// order, or never; some arrive twice. To keep states few, hosts send and write only at the ticks that a
/// world gives them: at all others what they send is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hearing {
    /// For so many ticks all goes well before anything else can happen: sessions are opened, and
    /// everybody is listed.
    pub warm_up: u8,
    /// The last host joins right after that, so nobody has listed it yet.
    pub newcomer: bool,
    /// The last host is another machine with the name of this one.
    pub twin_of: Option<usize>,
    /// The last host does not know of heartbeats.
    pub old_daemon: bool,
    /// For how many ticks a datagram can be on its way.
    pub flight_ticks: u8,
    /// How many datagrams arrive twice.
    pub doubles_max: u8,
    /// The ticks after the warm-up at which datagrams of each host go out.
    pub beats: [Ticks; 3],
    /// Those at which renewals of each host can reach the store.
    pub writes: [Ticks; 3],
    /// For how many ticks a session can go on without a write in the store (rule 10.7).
    pub without_store_ticks: u32,
}

/// Some of the ticks after the warm-up: a bit for each, the lowest for the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticks(u16);

impl Ticks {
    /// All of them.
    pub const ALL: Ticks = Ticks(u16::MAX);
    /// None of them.
    pub const NONE: Ticks = Ticks(0);

    /// These; the first is 1.
    pub const fn at(ticks: &[u8]) -> Ticks {
        let (mut bits, mut next) = (0, 0);
        while next < ticks.len() {
            bits |= 1 << (ticks[next] - 1);
            next += 1;
        }
        Ticks(bits)
    }

    fn contains(self, tick: u8) -> bool {
        tick >= 1 && self.0.checked_shr(u32::from(tick) - 1).is_some_and(|bits| bits & 1 != 0)
    }
}

impl Hearing {
    /// Everybody hears everybody, at all ticks; a datagram can be a tick late.
    pub const ALL: Hearing = Hearing {
        warm_up: 3,
        newcomer: false,
        twin_of: None,
        old_daemon: false,
        flight_ticks: 1,
        doubles_max: 0,
        beats: [Ticks::ALL; 3],
        writes: [Ticks::ALL; 3],
        without_store_ticks: 1000,
    };

    /// What a node is configured with.
    pub(super) fn config(&self, host: usize) -> HeartbeatConfig {
        let port = u16::try_from(host).expect("few") + 7000;
        HeartbeatConfig {
            address: ([10, 0, 0, 1], port).into(),
            fresh_key: "key".to_owned(),
            without_store: TICK * self.without_store_ticks,
        }
    }
}

impl World {
    /// Whether a host's heartbeats go out now. Where all goes well they always do.
    fn goes_out(&self, host: usize, tick: u8) -> bool {
        self.permits(tick, |hearing| hearing.beats[host])
    }

    /// Whether a host's renewals can reach the store at a tick.
    pub(super) fn reaches_store(&self, host: usize, tick: u8) -> bool {
        self.permits(tick, |hearing| hearing.writes[host])
    }

    fn permits(&self, tick: u8, of: impl Fn(&Hearing) -> Ticks) -> bool {
        let Some(hearing) = &self.options.hearing else { return true };
        let all_well = tick <= hearing.warm_up || tick > self.options.last_tick();
        all_well || of(hearing).contains(tick - hearing.warm_up)
    }

    /// A host sends a heartbeat to one other.
    pub(super) fn send(&self, state: &mut State, from: usize, (to, datagram): (u8, u32)) {
        if self.goes_out(from, state.tick) {
            let flying = Flying { sent: state.tick, to, datagram };
            let at = state.flying.partition_point(|other| *other < flying);
            state.flying.insert(at, flying);
        }
    }

    /// What has been on its way for too long never arrives.
    pub(super) fn lose_old_datagrams(&self, state: &mut State) {
        let Some(hearing) = &self.options.hearing else { return };
        let tick = state.tick;
        state.flying.retain(|flying| tick - flying.sent <= hearing.flight_ticks);
    }

    /// The hosts that a datagram can reach: those that run and have its addressee's name.
    pub(super) fn reached_by(&self, state: &State, to: u8) -> impl Iterator<Item = u8> {
        let named = |host: usize| self.options.name_of(host) == usize::from(to);
        let hosts: Vec<u8> = (0..state.hosts.len())
            .filter(|&host| named(host) && state.hosts[host].is_running())
            .map(|host| u8::try_from(host).expect("few"))
            .collect();
        hosts.into_iter()
    }
}
