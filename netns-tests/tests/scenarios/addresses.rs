//! Somebody else meddles with addresses and links.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::Policy;
use turnip_netns_tests::namespace::{LinkState, Namespace};
use turnip_netns_tests::network::{BRIDGE, BRIDGED};
use turnip_netns_tests::plan::{LINK, Plan, vip};
use turnip_netns_tests::responder::{PORT, Responder};

use crate::{VERY_LONG_LEASE, a_lease_passes, of_both_families, with_policy};

#[test]
fn an_address_that_somebody_removes_is_put_back_and_its_vips_others_stay() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("somebody removes one address after the other");
    let removals = |address| -> Result<usize> {
        Ok(cluster.address_monitor().events(address)?.iter().filter(|event| !event.present).count())
    };
    let addresses: Vec<IpAddr> = cluster.probed().collect();
    for (address, other) in
        [(0, 1), (1, 0), (0, 1), (1, 0)].map(|(a, b)| (addresses[a], addresses[b]))
    {
        let [before, before_other] = [removals(address)?, removals(other)?];
        cluster.host(owner).namespace().remove_address(address)?;
        cluster.wait("it is gone, and back", || {
            Ok(removals(address)? > before && cluster.holders_of(address)? == [owner])
        })?;
        assert_eq!(removals(other)?, before_other, "{other} went too: {}", cluster.logs());
    }
    a_lease_passes();
    for address in addresses {
        assert_eq!(cluster.holders_of(address)?, [owner], "{}", cluster.logs());
    }
    cluster.conclude(from, Outcome::moved())
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
    let mut cluster = Cluster::start(Plan::gateway().with_lease(VERY_LONG_LEASE))?;
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

/// A machine that knows nothing of turnip, and has all addresses of the VIP.
struct Stranger {
    namespace: Arc<Namespace>,
    addresses: Vec<IpNet>,
    _responder: Responder,
}

impl Stranger {
    const NAME: &'static str = "stranger";

    fn join(cluster: &Cluster) -> Result<Self> {
        let namespace = cluster.lab().namespace(Self::NAME)?;
        cluster.network().attach(Self::NAME, 9, &namespace)?;
        let addresses = cluster.plan().vips[0].addresses.clone();
        addresses.iter().try_for_each(|net| namespace.add_address(LINK, *net))?;
        let _responder = Responder::start(&namespace, Self::NAME)?;
        Ok(Stranger { namespace, addresses, _responder })
    }

    /// Makes the client take it for the owner of the addresses: it asks the client from each of them.
    fn mislead(&self, cluster: &Cluster) -> Result<()> {
        for (net, client) in self.addresses.iter().zip(cluster.network().client_addresses()?) {
            let client = SocketAddr::new(client, PORT);
            cluster.wait(&format!("the stranger answers the client at {net}"), || {
                self.namespace.output("ip", &["neighbour", "flush", "dev", LINK])?;
                self.namespace
                    .run(|| Ok(UdpSocket::bind((net.addr(), 0))?.send_to(&[0], client)?))?;
                sleep(Duration::from_millis(100));
                Ok(cluster.last_to_answer(net.addr()).is_some_and(|who| *who == *Self::NAME))
            })?;
        }
        Ok(())
    }

    fn leave(self) -> Result<()> {
        self.addresses.iter().try_for_each(|net| self.namespace.remove_address(net.addr()))
    }
}

#[test]
fn a_foreign_machine_with_the_same_address_does_not_bring_two_hosts_to_share_it() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("a machine that knows nothing of turnip takes the address");
    let stranger = Stranger::join(&cluster)?;
    stranger.mislead(&cluster)?;
    a_lease_passes();
    assert_eq!(cluster.holders()?, [owner], "{}", cluster.logs());
    let back = cluster.note("it gives it back");
    stranger.leave()?;
    // Misled clients must find the owner again; nothing informs turnip that the stranger has gone.
    cluster.pin("api", (owner + 1) % 3)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.conclude(from, Outcome::failed_over().since(back))
}

#[test]
fn a_foreign_machine_that_has_the_address_before_turnip_starts_finds_one_host_beside_it()
-> Result<()> {
    let mut cluster = Cluster::lay_out(of_both_families())?;
    let from = cluster.note("a machine that knows nothing of turnip has the address");
    let stranger = Stranger::join(&cluster)?;
    cluster.wait("the stranger answers the client", || {
        let mut last = cluster.probed().map(|address| cluster.last_to_answer(address));
        Ok(last.all(|who| who.is_some_and(|who| *who == *Stranger::NAME)))
    })?;
    cluster.note("turnip starts");
    for host in cluster.plan().in_order_of_start() {
        cluster.start_daemon(host)?;
    }
    // The protocol knows of turnip's hosts alone, and its announcements lead clients to them.
    let owner = cluster.wait_for_owner()?;
    stranger.mislead(&cluster)?;
    let back = cluster.note("it gives it back");
    stranger.leave()?;
    cluster.pin("api", (owner + 1) % 3)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.conclude(from, Outcome::failed_over().since(back))
}

/// IPv6 is off on its link: every address of that family is refused, although the link is up.
fn refuse_ipv6(namespace: &Namespace) -> Result<()> {
    namespace.sysctl(&format!("ipv6/conf/{LINK}/disable_ipv6"), "1")
}

#[test]
fn a_preferred_host_whose_kernel_refuses_the_address_does_not_get_it_again_and_again() -> Result<()>
{
    let vips = vec![vip("api", &["fd77::100/64"])];
    let plan = Plan { vips, ..with_policy(Policy::Priority { preempt: true }) };
    let mut cluster = Cluster::lay_out(plan)?;
    refuse_ipv6(cluster.host(0).namespace())?;
    for host in [1, 2, 0] {
        cluster.start_daemon(host)?;
    }
    let healthy = cluster.wait_for_owner_among(|host| host == 1)?;
    let from =
        cluster.note("h1, which should have the address, and whose kernel refuses it, is there");
    sleep(Duration::from_secs(40));
    cluster.wait_for_owner_among(|host| host == healthy)?;
    let moves = || -> Result<usize> {
        let events = cluster.address_monitor().events(cluster.address())?;
        Ok(events.iter().filter(|event| event.at > from && !event.present).count())
    };
    // Once it may be tried: before, nobody knows.
    let moves = moves()?;
    assert!(moves <= 1, "the healthy holder gave it up {moves} times: {}", cluster.logs());
    cluster.conclude(from, Outcome::failed_over())
}
