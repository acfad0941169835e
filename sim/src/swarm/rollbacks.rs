//! Draws runs in which etcd is restored from a backup (A2), so that every daemon can notice: nobody starts
//! after the backup, everybody has written its session since, and nobody was expired without learning of it.

use crate::plan::{Fault, Mishap, Plan, Step, TxnKind};
use crate::rng::Rng;
use crate::time::{MS, S, True};

/// Makes such a run of a plan whose cluster is drawn, now and then. Whether it did.
pub fn draw(rng: &mut Rng, plan: &mut Plan) -> bool {
    if !rng.chance(40) {
        return false;
    }
    let lease = plan.params.lease_ms;
    // Whoever notices and is listed nowhere waits for so long (rule 9.5).
    plan.params.without_store_ms = plan.params.without_store_ms.min(lease * rng.within(4..=20));
    let backup = 10 * S + rng.below(10 * S);
    add(plan, backup, MS, Fault::BackUpStore);
    // Who is at ease writes its session once in a lease.
    let renewed = backup + 4 * lease * MS + S;
    let restore = renewed + rng.within(lease..=6 * lease) * MS;
    let lasts = rng.within(lease..=3 * lease) * MS;
    for _ in 0..rng.within(1..=5) {
        let at = backup + rng.below(restore - backup);
        let fault = moved(rng, plan);
        add(plan, at, rng.within(lease / 2..=6 * lease) * MS, fault);
    }
    for _ in 0..rng.within(1..=5) {
        let at = renewed + rng.below(restore + lasts - renewed);
        let fault = ignorant(rng, plan);
        let lasts = rng.within(lease / 2..=6 * lease) * MS;
        // Who was expired before the restore and does not know it may be listed nowhere by now, and cannot know that
        // either: the table of A2 tells what that costs.
        let late = restore - lease * MS * 2 / 3;
        let is_unaware = at < late && at + lasts + 2 * lease * MS + 2 * S > restore;
        add(plan, if is_unaware { late } else { at }, lasts, fault);
    }
    if rng.chance(400) {
        // Of two attempts that compare the same write one landed before the backup or after it, and the other
        // lands in what was restored, perhaps before anybody has heard of that.
        let host = rng.index(plan.params.hosts);
        let at = backup - rng.below(lease * MS);
        let by = restore + lasts + rng.below(lease * MS) - at;
        let (kind, mishap) = (TxnKind::Renew, Mishap::DelayRequest(by));
        add(plan, at, S, Fault::Meddle { host, kind, skip: 0, count: 1, mishap });
    }
    let fault = Fault::RestoreStore {
        other_cluster: rng.chance(200),
        raise: *rng.pick(&[0, 1, 20, 300, 1_000_000]),
    };
    add(plan, restore, lasts, fault);
    let quiet = 2 * lease.max(plan.params.without_store_ms) * MS;
    plan.lasting(restore + lasts + 8 * lease * MS + quiet);
    true
}

fn add(plan: &mut Plan, at: True, lasts: u64, fault: Fault) {
    plan.steps.push(Step { at, lasts: Some(lasts), fault });
}

/// What makes a VIP have another host than in the backup.
fn moved(rng: &mut Rng, plan: &Plan) -> Fault {
    let host = rng.index(plan.params.hosts);
    let vip = rng.index(plan.params.vips.len());
    rng.pick(&[Fault::Drain { host }, Fault::Pin { vip, host }, Fault::MoveLeader]).clone()
}

/// What makes a host hear of it later, or not in time.
fn ignorant(rng: &mut Rng, plan: &Plan) -> Fault {
    let hosts = plan.params.hosts;
    let (host, to) = (rng.index(hosts), rng.index(hosts));
    let member = rng.index(plan.params.members());
    let lease = plan.params.lease_ms;
    match rng.below(8) {
        0..=2 => Fault::CutStore { host },
        3 => Fault::Freeze { host },
        4 => Fault::CutPeers { from: host, to },
        5 => Fault::WatchLag { host, by: rng.within(lease / 6..=2 * lease) * MS },
        6 => Fault::CutEndpoint { host, member },
        _ => Fault::CutAnswers { host },
    }
}
