//! etcd is restored from a backup, and its revision goes back.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd;
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

/// The same, but somebody has written to etcd since the restore, until its revision is higher than it
/// ever was: as if it had been raised by etcdutl.
#[test]
fn a_rollback_under_a_higher_revision_makes_no_two_holders_while_the_holder_is_cut_off()
-> Result<()> {
    let plan = Plan { etcd: EtcdPlan::Apart(3, quick_elections()), ..Plan::default() };
    let mut cluster = Cluster::start(plan.with_lease(&format!("{}s", LEASE.as_secs())))?;
    let owner_in_backup = cluster.wait_for_owner()?;
    cluster.note("a backup of etcd is made");
    cluster.back_up_etcd()?;
    cluster.wait_for_owner_among(|host| host == owner_in_backup)?;
    let holder = (owner_in_backup + 1) % 3;
    cluster.pin("api", holder)?;
    cluster.wait_for_owner_among(|host| host == holder)?;
    // Everybody has renewed since.
    sleep(LEASE / 4);
    let others = [(holder + 1) % 3, (holder + 2) % 3];
    let from = cluster.note("the holder is cut off from etcd, which is restored and written to");
    cluster.cut_from_store(holder)?;
    // They look again when its revision is high.
    others.iter().try_for_each(|&host| cluster.freeze_daemon(host))?;
    let lost = cluster.members[0].revision()?;
    cluster.restore_etcd()?;
    let member = etcd::wait_for_leader(&cluster.members)?;
    ensure!(cluster.members[member].revision()? < lost, "nothing was lost");
    cluster.members[member].write_up_to(lost + 100)?;
    cluster.note("etcd is back, at a higher revision");
    others.iter().try_for_each(|&host| cluster.thaw_daemon(host))?;
    cluster.wait("another host notices", || {
        Ok(cluster.logs().contains("etcd is not the store that it was"))
    })?;
    ensure!(!cluster.logs().contains("went back to revision"), "its revision is higher");
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
