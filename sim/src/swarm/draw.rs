//! Draws a cluster, its settings and its weather from a seed.

use turnip_core::Backstop;

use crate::plan::{Daemon, Params, Plan, PolicyParams, VipParams};
use crate::rng::Rng;
use crate::time::{MS, S, US};
use crate::timing::{RaftTiming, Weather};

use super::{
    announcing, answers, drills, faults, following, health, hearing, hooks, reloads, rollbacks,
};

/// The plan of a seed. Everything in it keeps to the assumptions A1 to A3; but etcd may be restored from a
/// backup in a way that everybody notices (A2).
pub fn draw(seed: u64) -> Plan {
    let rng = &mut Rng::new(seed, "plan");
    // Streams of their own: what does not concern rule 10, or announcements, is what it was before these
    // were there.
    let of_hearing = &mut Rng::new(seed, "hearing");
    let of_announcing = &mut Rng::new(seed, "announcing");
    let of_health = &mut Rng::new(seed, "health");
    let mut plan = Plan { seed, params: params(rng), ..Plan::quiet() };
    hearing::params(of_hearing, &mut plan.params);
    announcing::params(of_announcing, &mut plan.params);
    health::params(of_health, &mut plan.params);
    hooks::params(&mut Rng::new(seed, "hooks"), &mut plan.params);
    let of_following = &mut Rng::new(seed, "following");
    following::params(of_following, &mut plan.params);
    plan.quiet = if rng.chance(150) { rng.within(60..=240) * S } else { 5 * S };
    if rollbacks::draw(&mut Rng::new(seed, "rollbacks"), &mut plan) {
        return plan;
    }
    if rng.chance(250) {
        let mut of_reloads = Rng::new(seed, "reloads");
        drills::draw(rng, (of_hearing, of_health, &mut of_reloads), &mut plan);
        following::faults(of_following, &mut plan);
        return plan;
    }
    plan.heal_at = rng.within(40..=120) * S;
    plan.steps = faults::draw(rng, &plan);
    hearing::faults(of_hearing, &mut plan);
    announcing::faults(of_announcing, &mut plan);
    answers::faults(&mut Rng::new(seed, "answers"), &mut plan);
    reloads::faults(&mut Rng::new(seed, "reloads"), &mut plan);
    health::faults(of_health, &mut plan);
    following::faults(of_following, &mut plan);
    plan.lasting(plan.heal_at);
    plan
}

fn params(rng: &mut Rng) -> Params {
    let hosts = *rng.pick(&[3, 3, 3, 3, 3, 2, 2, 4, 5, 1]);
    let members = *rng.pick(&[3, 3, 3, 3, 3, 1, 5]);
    let mut params = Params::plain(hosts, members, 0);
    if !rng.chance(750) {
        params.members_apart();
    }
    lease(rng, &mut params);
    params.interfaces = *rng.pick(&[1, 1, 1, 2, 3]);
    params.vips = vips(rng, hosts, params.interfaces);
    params.rates_ppm = rates(rng, hosts, params.drift_ppm);
    params.offsets = (0..hosts).map(|_| rng.below(10_000_000 * S)).collect();
    params.weights = (0..hosts).map(|_| *rng.pick(&[100, 100, 100, 50, 300])).collect();
    params.keepalive = rng.within(1_000..=5_000) * MS;
    params.tick = *rng.pick(&[1, 4, 4, 10]) * MS;
    params.slews_ppm = (0..hosts).map(|_| slew(rng)).collect();
    params.start_spread = if rng.chance(500) { 0 } else { rng.below(3 * S) };
    params.daemon = Daemon::Turnip(None);
    params
}

fn lease(rng: &mut Rng, params: &mut Params) {
    params.drift_ppm = *rng.pick(&[10_000, 10_000, 10_000, 500, 1_000, 50_000]);
    if rng.chance(200) {
        params.backstop = Some(Backstop::Lifetime);
        params.lease_ms = *rng.pick(&[4_000, 5_000, 10_000]);
    } else {
        params.lease_ms = *rng.pick(&[3_000, 3_000, 3_000, 3_000, 600, 1_000, 2_000, 6_000]);
        if rng.chance(200) {
            params.renew_ms = Some(params.lease_ms / rng.within(4..=12));
            params.guard_ms = Some((params.lease_ms / rng.within(12..=40)).max(5));
        }
    }
    let fast = params.lease_ms < 2_000;
    let (heartbeat, election) =
        if fast { (20, 200) } else { *rng.pick(&[(100, 1_000), (100, 1_000), (50, 500)]) };
    params.raft = RaftTiming {
        heartbeat: heartbeat * MS,
        election: election * MS,
        pre_vote: rng.chance(600),
        disk_max: rng.within(200..=if fast { 2_000 } else { 8_000 }) * US,
    };
    let far = if fast { 1 } else { *rng.pick(&[1, 1, 1, 5, 20]) };
    params.weather = Weather {
        delay_min: 50 * US * far,
        delay_max: rng.within(100..=1_000) * US * far,
        tail_permille: *rng.pick(&[0, 1, 10, 50]),
        tail: rng.within(1..=params.lease_ms / 3) * MS,
    };
}

fn vips(rng: &mut Rng, hosts: usize, interfaces: usize) -> Vec<VipParams> {
    let few = *rng.pick(&[1, 2, 3, 5, 10, 10, 30]);
    // Enough for several transactions and several calls of the kernel; they cost time.
    let count = if rng.chance(15) { rng.within(100..=150) as usize } else { few };
    let policy = |rng: &mut Rng| match rng.below(4) {
        0 => PolicyParams::Leader,
        1 | 2 => PolicyParams::Spread,
        _ => PolicyParams::Priority {
            priorities: (0..hosts).map(|_| rng.below(4) as u32 * 50).collect(),
            preempt: rng.chance(600),
        },
    };
    let common = policy(rng);
    let mixed = rng.chance(500);
    (0..count)
        .map(|_| VipParams {
            addresses: if rng.chance(200) { 2 } else { 1 },
            // A clone: what else is drawn stays as it was.
            interfaces: [rng.index(interfaces), rng.clone().index(interfaces)],
            policy: if mixed { policy(rng) } else { common.clone() },
        })
        .collect()
}

/// What NTP does to a kernel's timers: little, but now and then what chrony does at most.
fn slew(rng: &mut Rng) -> i64 {
    let most = *rng.pick(&[0, 500, 500, 83_333]);
    rng.within_signed(-most..=most)
}

/// Rates within the margin: often at its very ends, where it hurts.
fn rates(rng: &mut Rng, hosts: usize, drift_ppm: u32) -> Vec<i64> {
    let most = i64::from(drift_ppm);
    let extreme = rng.chance(500);
    (0..hosts)
        .map(|_| if extreme { *rng.pick(&[-most, most]) } else { rng.within_signed(-most..=most) })
        .collect()
}
