//! What happens to etcd.

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::EtcdSettings;
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::a_lease_passes;

/// With etcd's own second an election that is split, one in ten, takes longer than a lease of 3 s
/// allows. These scenarios are about everything else.
pub fn quick_elections() -> EtcdSettings {
    EtcdSettings { heartbeat_ms: 30, election_ms: 300, ..EtcdSettings::default() }
}

/// Fails unless etcd asks for the certificate and the password, and lets turnip do what its role says
/// and nothing else.
fn assert_nobody_gets_in_without(cluster: &Cluster) -> Result<()> {
    const NO_ANSWER: Option<i32> = Some(2);
    for lacking in [&["user", "password_file"][..], &["cert", "key"]] {
        let (code, said) = cluster.status_without(lacking)?;
        assert_eq!(code, NO_ANSWER, "without {lacking:?}: {said}");
    }
    assert_eq!(cluster.status_without(&[])?.0, Some(0));
    let (code, said) = cluster.status_of("other")?;
    assert!(code == NO_ANSWER && said.contains("permission denied"), "{code:?}: {said}");
    Ok(())
}

#[test]
fn with_certificates_a_password_and_a_narrow_role_everything_works_as_without() -> Result<()> {
    let settings = EtcdSettings { secured: true, ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..Plan::default() };
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    assert_nobody_gets_in_without(&cluster)?;
    let from = cluster.note("the holder loses its power");
    cluster.power_off(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.power_on(owner)?;
    a_lease_passes();
    let wanted = (cluster.wait_for_owner()? + 1) % 3;
    cluster.pin("api", wanted)?;
    cluster.wait_for_owner_among(|host| host == wanted)?;
    let status = cluster.turnip(&["status", "--json"])?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    assert_eq!(status["vips"]["api"]["owner"], *cluster.host(wanted).name, "{status}");
    cluster.conclude(from, Outcome::failed_over())
}
