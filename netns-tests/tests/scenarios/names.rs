//! etcd is reached by names, and who knows them is dead.

use std::fs;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{self, TurnipSettings};

use crate::{a_lease_passes, with_settings};

/// Nothing of it is needed while a resolver is there; without one, nothing else is left.
#[test]
fn a_dead_resolver_costs_no_address_when_connections_break_nor_when_a_daemon_is_restarted()
-> Result<()> {
    let settings = TurnipSettings {
        by_name: true,
        own_member_first: true,
        listen: Some("off".into()),
        ..TurnipSettings::default()
    };
    let mut cluster = Cluster::start(with_settings(settings))?;
    let owner = cluster.wait_until_settled()?;
    let bystander = (owner + 1) % 3;
    let from = cluster.note("nobody knows the names any more");
    for host in 0..3 {
        fs::write(daemon::hosts_file(&cluster.host(host).directory), "")?;
    }
    cluster.note("etcd's members are restarted, one after the other");
    cluster.roll_etcd(owner)?;
    cluster.note("a bystander's daemon is restarted");
    cluster.restart_daemon(bystander)?;
    cluster.wait("it goes on with what it knew", || {
        Ok(cluster.logs().contains("going on with the last good ones"))
    })?;
    a_lease_passes();
    let status = cluster.status()?;
    let name = format!("h{}", bystander + 1);
    ensure!(!status["nodes"][&name]["session"].is_null(), "{name} has no session: {status}");
    cluster.check(from, Outcome::stayed_on(owner))?;

    cluster.note("it has forgotten all addresses");
    cluster.stop_daemon(bystander)?;
    fs::remove_dir_all(daemon::state_directory(&cluster.host(bystander).directory))?;
    cluster.start_daemon(bystander)?;
    cluster.wait("it says that it is the resolver", || {
        let logs = cluster.logs();
        let says = ["look at /etc/resolv.conf", "the resolver has not answered for"];
        Ok(says.iter().any(|words| logs.contains(words)))
    })?;
    cluster.kill_daemon(bystander)?;
    fs::remove_file(daemon::hosts_file(&cluster.host(bystander).directory))?;
    cluster.start_daemon(bystander)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}
