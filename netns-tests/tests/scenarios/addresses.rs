//! Somebody else meddles with addresses and links.

use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::namespace::{LinkState, Namespace};
use turnip_netns_tests::network::{BRIDGE, BRIDGED};
use turnip_netns_tests::plan::{LINK, Plan};
use turnip_netns_tests::probe::Way;
use turnip_netns_tests::responder::{PORT, Responder};

use crate::{UNHURRIED, a_lease_passes};

#[test]
fn an_address_that_somebody_removes_is_put_back() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("somebody removes the address");
    let removals = || -> Result<usize> {
        Ok(cluster.eye().events(cluster.address())?.iter().filter(|event| !event.present).count())
    };
    for _ in 0..3 {
        let before = removals()?;
        cluster.host(owner).namespace().remove_address(cluster.address())?;
        cluster.wait("it is gone, and back", || {
            Ok(removals()? > before && cluster.holders()? == [owner])
        })?;
    }
    a_lease_passes();
    assert_eq!(cluster.holders()?, [owner], "{}", cluster.said());
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn an_address_that_somebody_adds_to_another_host_is_silent_there_and_taken_away() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let other = (owner + 1) % 3;
    let from = cluster.note("somebody adds the address elsewhere");
    let namespace = cluster.host(other).namespace();
    namespace.add_address(LINK, cluster.plan().vips[0].addresses[0])?;
    cluster.wait("it is gone there", || Ok(cluster.holders()? == [owner]))?;
    sleep(Duration::from_secs(1));
    cluster.conclude(from, Outcome::moved().beside_a_silent_holder(other))
}

#[test]
fn a_holder_whose_interface_goes_down_passes_the_address_on_at_once() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("{BRIDGE} of h{} goes down", owner + 1));
    cluster.host(owner).namespace().set_link(BRIDGE, LinkState::Down)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    // The host is well otherwise: nobody had to wait for its lease to end.
    cluster.check(from, Outcome::moved())?;
    cluster.note("it goes up");
    cluster.host(owner).namespace().set_link(BRIDGE, LinkState::Up)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_holder_whose_interface_disappears_passes_the_address_on_and_may_have_it_back() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway().with_lease(UNHURRIED))?;
    let owner = cluster.wait_for_owner()?;
    let mac = cluster.host(owner).namespace().mac(BRIDGE)?;
    let from = cluster.note(format!("{BRIDGE} of h{} is gone", owner + 1));
    cluster.host(owner).namespace().remove_link(BRIDGE)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.note("it is back");
    let namespace = cluster.host(owner).namespace();
    namespace.bridge(BRIDGE, Some(mac))?;
    BRIDGED.into_iter().try_for_each(|port| namespace.plug(port, BRIDGE))?;
    cluster.pin("gateway", owner)?;
    cluster.wait_for_owner_among(|host| host == owner)?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_holder_whose_only_link_goes_down_is_replaced() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("{LINK} of h{} goes down", owner + 1));
    cluster.host(owner).namespace().set_link(LINK, LinkState::Down)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.note("it goes up");
    cluster.host(owner).namespace().set_link(LINK, LinkState::Up)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_holder_whose_only_link_disappears_is_replaced_and_may_have_the_address_back() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("{LINK} of h{} is gone", owner + 1));
    cluster.unplug(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.note("it is back");
    cluster.plug_in(owner)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

/// Has the client take the stranger for the owner of the address, by what the stranger's own
/// questions tell of it.
fn mislead(cluster: &Cluster, stranger: &Namespace) -> Result<()> {
    let client = SocketAddr::new(cluster.network().client_address()?, PORT);
    let address = cluster.address();
    cluster.wait("the stranger answers the client", || {
        stranger.output("ip", &["neighbour", "flush", "dev", LINK])?;
        stranger.run(|| Ok(UdpSocket::bind((address, 0))?.send_to(&[0], client)?))?;
        sleep(Duration::from_millis(100));
        let shots = cluster.client_shots(Way::Udp);
        let answers = shots.iter().rev().filter_map(|shot| shot.answer.as_ref());
        Ok(answers.take(1).any(|(_, who)| **who == *"stranger"))
    })
}

#[test]
fn a_foreign_machine_with_the_same_address_does_not_bring_two_hosts_to_share_it() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("a machine that knows nothing of turnip takes the address");
    let stranger = cluster.lab().namespace("stranger")?;
    cluster.network().attach("stranger", 9, &stranger)?;
    stranger.add_address(LINK, cluster.plan().vips[0].addresses[0])?;
    let _responder = Responder::start(&stranger, "stranger")?;
    mislead(&cluster, &stranger)?;
    a_lease_passes();
    assert_eq!(cluster.holders()?, [owner], "{}", cluster.said());
    let back = cluster.note("it gives it back");
    stranger.remove_address(cluster.address())?;
    // Clients that the stranger has misled must find back; turnip is not told that it has gone.
    cluster.pin("api", (owner + 1) % 3)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.conclude(from, Outcome::failed_over().since(back))
}
