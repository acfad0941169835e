//! etcd is restored from a backup, and its revision goes back.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::store::quick_elections;

/// Of which a good part is left when etcd is back, for a holder that knows nothing of it.
const LEASE: Duration = Duration::from_secs(10);

/// After the notice nothing is held for a lease and its margin; then the address comes back, once etcd
/// has been read again.
const GAP_MAX: Duration = Duration::from_secs(20);

/// Far more than the hosts write while one of them is cut off.
const LOST_WRITES: usize = 200;

/// In the backup one host has the address; later another one gets it, which is then cut off from etcd,
/// and holds the address for the rest of its lease. The first one must not believe the backup.
#[test]
fn a_rollback_that_is_noticed_makes_no_two_holders_while_the_holder_is_cut_off() -> Result<()> {
    let plan = Plan { etcd: EtcdPlan::Apart(3, quick_elections()), ..Plan::default() };
    let mut cluster = Cluster::start(plan.with_lease(&format!("{}s", LEASE.as_secs())))?;
    let owner_in_backup = cluster.wait_for_owner()?;
    cluster.note("a backup of etcd is made");
    cluster.back_up_etcd()?;
    cluster.wait_for_owner_among(|host| host == owner_in_backup)?;
    let holder = (owner_in_backup + 1) % 3;
    cluster.pin("api", holder)?;
    cluster.wait_for_owner_among(|host| host == holder)?;
    // Whoever connects again must see that the revision went back, also a good while after the restore.
    for _ in 0..LOST_WRITES {
        cluster.members[0].time_to_commit()?;
    }
    // Everybody has renewed since, and knows of these revisions.
    sleep(LEASE / 4);
    let from = cluster.note("the holder is cut off from etcd, which is restored from the backup");
    cluster.cut_from_store(holder)?;
    cluster.restore_etcd()?;
    cluster.note("etcd is back");
    cluster.wait("another host notices", || {
        Ok(cluster.logs().contains("etcd went back to revision"))
    })?;
    ensure!(
        cluster.holders()?.contains(&holder),
        "the holder gave up before the rollback was noticed: nothing is shown"
    );
    cluster.wait_for_owner_among(|host| host != holder)?;
    cluster.note("heal");
    cluster.heal()?;
    sleep(LEASE);
    cluster.wait_for_owner()?;
    cluster.conclude(from, Outcome::gap_at_most(GAP_MAX))
}
