//! Certificates that are about to end.

use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::EtcdSettings;
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::a_lease_passes;

#[test]
fn certificates_that_end_within_a_week_are_named_by_the_log_by_status_and_by_check() -> Result<()> {
    let settings = EtcdSettings { secured: true, ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..Plan::default() };
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_until_settled()?;
    let (_, status) = cluster.turnip_says(&["status"])?;
    ensure!(!status.contains("certificate"), "nothing ends soon: {status}");

    let from = cluster.note("certificates are put there that end in six days");
    cluster.renew_certificates(Some(Duration::from_secs(6 * 86_400)))?;
    let client = "this client's certificate";
    cluster.wait("the daemons have read them and warn of the end", || {
        let logs = cluster.logs();
        Ok(logs.contains(client) && logs.contains("ends in 5 days"))
    })?;
    let (_, status) = cluster.turnip_says(&["status"])?;
    for words in [client, "the certificate of etcd at https://", "ends in 5 days"] {
        ensure!(status.contains(words), "{words:?} is not in {status}");
    }
    let (_, check) = cluster.turnip_on(owner, &["check"])?;
    for words in ["the certificate of etcd at https://", "renew it on that member", client] {
        ensure!(check.contains(words), "{words:?} is not in {check}");
    }
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}
