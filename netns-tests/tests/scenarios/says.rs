//! What turnip says of itself, held against what is so.

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::plan::Plan;

#[test]
fn status_says_that_nobody_has_the_address_when_all_daemons_were_killed() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    cluster.wait_for_owner()?;
    let (code, said) = cluster.turnip_says(&["status"])?;
    assert_eq!(code, Some(0), "{said}");
    for host in 0..3 {
        cluster.kill_daemon(host)?;
    }
    // The hosts heard each other, and so wrote seldom: that etcd is silent for long says nothing by itself.
    let (code, said) = cluster.turnip_says(&["status"])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nobody holds it"), "{said}");
    assert!(cluster.nobody_has_it()?, "{}", cluster.logs());
    Ok(())
}

#[test]
fn the_status_names_the_owner_and_every_host() -> Result<()> {
    let name = |host: usize| format!("h{}", host + 1);
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("questions");
    let status: serde_json::Value = serde_json::from_str(&cluster.turnip(&["status", "--json"])?)?;
    let text = status.to_string();
    for host in 0..3 {
        assert!(text.contains(&name(host)), "{text}");
    }
    assert!(text.contains("api") && text.contains(&name(owner)), "{text}");
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn whoever_takes_over_says_in_its_log_whose_silence_it_was() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("h{} loses its power", owner + 1));
    cluster.power_off(owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    // Whichever host is the first to expire the session, the one that takes over says it.
    let log = cluster.daemon(next)?.log_text();
    let lost = format!("h{}", owner + 1);
    let expired = format!("expired the session of {lost}: nothing was heard of it for 3.");
    let by_another =
        format!("the session of {lost} is expired, by another host: nothing was heard of it for ");
    let why = log.find(&expired).or_else(|| log.find(&by_another));
    let assuming = log.rfind("assuming 10.77.0.100/24");
    assert!(why.is_some() && why < assuming, "{log}");
    cluster.conclude(from, Outcome::failed_over())
}
