//! VIPs that follow a key of another program: they are nowhere for long where that does not name them (rule 13).
//!
//! Where they are when all is well again is looked at for all policies alike, in [`settled`](super::settled). In
//! between, gaps and moves are the other program's doing.

use turnip_core::Absent;

use crate::check::Held;
use crate::plan::{Fault, Plan, PolicyParams};
use crate::time::{MS, S, True};
use crate::world::Inner;

use super::Failure;

/// Times in which a host answers for such a VIP for too long after its key named another.
///
/// Not judged are plans in which etcd is restored or files change, and VIPs that stay where they are when nobody
/// is named.
pub fn judge(inner: &Inner) -> Vec<Failure> {
    let plan = &*inner.env.plan;
    let is_judged = |fault: &Fault| {
        !matches!(
            fault,
            Fault::RestoreStore { .. } | Fault::Reconfigure { .. } | Fault::Reload { .. }
        )
    };
    if !plan.steps.iter().all(|step| is_judged(&step.fault)) {
        return Vec::new();
    }
    let limit = limit(plan);
    let follows = PolicyParams::Follow { absent: Absent::Nobody };
    let held = inner.env.checker.held.iter();
    let held = held.filter(|held| plan.params.vips[held.address / 2].policy == follows);
    held.filter_map(|held| {
        let longest = longest_unnamed(inner, held);
        (longest > limit).then_some(Failure::HeldUnnamed {
            address: held.address,
            host: held.host,
            from: held.from,
            length: longest,
            limit,
        })
    })
    .collect()
}

/// How long a host may go on, in ns: it hears nothing more of the store from when the key names another, and
/// holds by the others' consent for two leases (rule 13.6). Before it knows that its watch is dead its
/// renewals may be answered for `4r`, and a lease is what the kernel may have been told.
fn limit(plan: &Plan) -> u64 {
    let lag = |fault: &Fault| match fault {
        Fault::WatchLag { by, .. } | Fault::Slow { by, .. } | Fault::SlowNetlink { by, .. } => *by,
        _ => 0,
    };
    let lags: u64 = plan.steps.iter().map(|step| lag(&step.fault)).sum();
    4 * plan.lease_ms_max() * MS + plan.params.keepalive + lags + 2 * S + plan.hook_time()
}

/// The longest time of those in which the host had the address and the key named another, or nobody.
fn longest_unnamed(inner: &Inner, held: &Held) -> u64 {
    let vip = held.address / 2;
    let namings = || inner.env.record.named.iter().filter(|naming| naming.vip == vip);
    let ends = namings().skip(1).map(|naming| naming.at).chain([True::MAX]);
    let mut longest = 0;
    let mut since: Option<True> = None;
    for (naming, end) in namings().zip(ends) {
        if naming.host == Some(held.host) {
            since = None;
            continue;
        }
        let from = *since.get_or_insert(naming.at.max(held.from));
        longest = longest.max(end.min(held.to).saturating_sub(from));
    }
    longest
}
