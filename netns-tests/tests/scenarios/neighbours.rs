//! What neighbours know of where the address is, and who else says that he has it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Daemon, TurnipSettings, Vip};
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::network::BRIDGE;
use turnip_netns_tests::plan::{LINK, Plan, vip};
use turnip_netns_tests::responder::{PORT, Responder};

use crate::gateway::{limit_guests_to_announcements, wait_until_guests_know};
use crate::{a_lease_passes, of_both_families};

/// After the third announcement.
const AFTER_THE_FIRST_ANNOUNCEMENTS: Duration = Duration::from_secs(5);

fn announcing(every: &str, plan: Plan) -> Plan {
    let announce_every = Some(every.into());
    let settings = TurnipSettings { announce_every, ..TurnipSettings::default() };
    Plan { daemon: Daemon::Turnip(settings), ..plan }
}

/// A machine on the hosts' network that knows nothing of turnip.
struct Machine {
    name: &'static str,
    namespace: Arc<Namespace>,
}

impl Machine {
    fn join(cluster: &Cluster, name: &'static str) -> Result<Self> {
        let namespace = cluster.lab().namespace(name)?;
        cluster.network().attach(name, 9, &namespace)?;
        Ok(Machine { name, namespace })
    }

    /// It has found the address at that host, and never asks again.
    fn learns_once(&self, cluster: &Cluster, address: IpAddr, host: usize) -> Result<()> {
        cluster.wait(&format!("{} has found {address}", self.name), || {
            self.namespace.run(|| {
                let socket = UdpSocket::bind(("0.0.0.0", 0))?;
                Ok(socket.send_to(&[0; 8], SocketAddr::new(address, PORT)).map(drop)?)
            })?;
            self.knows(cluster, address, host)
        })?;
        self.namespace.nft(
            "table arp silence {\n chain out {\n  type filter hook output priority 0;\n  \
             arp operation request drop;\n }\n}\n",
        )
    }

    fn knows(&self, cluster: &Cluster, address: IpAddr, host: usize) -> Result<bool> {
        let mac = cluster.host(host).namespace().mac(LINK)?;
        Ok(self.namespace.neighbour(address)? == Some(mac))
    }

    /// It takes all addresses of the VIP, and tells nobody.
    fn takes_the_addresses(&self, cluster: &Cluster) -> Result<()> {
        let addresses = &cluster.plan().vips[0].addresses;
        addresses.iter().try_for_each(|net| self.namespace.add_address(LINK, *net))
    }

    fn gives_them_back(&self, cluster: &Cluster) -> Result<()> {
        let addresses = &cluster.plan().vips[0].addresses;
        addresses.iter().try_for_each(|net| self.namespace.remove_address(net.addr()))
    }

    /// It asks the client from the address, and so everybody hears that it has it.
    fn asks_the_client(&self, cluster: &Cluster) -> Result<()> {
        let client = SocketAddr::new(cluster.network().client_addresses()?[0], PORT);
        let address = cluster.address();
        self.namespace.output("ip", &["neighbour", "flush", "dev", LINK])?;
        self.namespace
            .run(|| Ok(UdpSocket::bind((address, 0))?.send_to(&[0; 8], client).map(drop)?))
    }

    fn mac(&self) -> Result<String> {
        Ok(self.namespace.mac(LINK)?.map(|byte| format!("{byte:02x}")).join(":"))
    }
}

/// What the daemon of a host tells `turnip status` by itself.
fn told_by(cluster: &Cluster, host: usize) -> Result<Value> {
    let (_, text) = cluster.turnip_on(host, &["status", "--json"])?;
    let json = text.find('{').and_then(|from| Some(&text[from..=text.rfind('}')?]));
    let status: Value = serde_json::from_str(json.context("JSON")?)?;
    Ok(status["local"].clone())
}

#[test]
fn a_neighbour_that_missed_the_first_announcements_learns_the_new_owner_from_a_later_one()
-> Result<()> {
    let mut cluster = Cluster::start(announcing("4s", Plan::default()))?;
    let owner = cluster.wait_for_owner()?;
    let router = Machine::join(&cluster, "router")?;
    router.learns_once(&cluster, cluster.address(), owner)?;
    let from = cluster.note("the router's port learns nothing, and the address moves");
    cluster.network().switch(owner).cut_incoming("router")?;
    let next = (owner + 1) % 3;
    cluster.pin("api", next)?;
    cluster.wait_for_owner_among(|host| host == next)?;
    sleep(AFTER_THE_FIRST_ANNOUNCEMENTS);
    ensure!(router.knows(&cluster, cluster.address(), owner)?, "{}", cluster.logs());
    cluster.note("it learns again");
    cluster.heal()?;
    cluster.wait("the router knows the new owner", || {
        router.knows(&cluster, cluster.address(), next)
    })?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn an_interface_that_gets_another_hardware_address_is_announced_with_that() -> Result<()> {
    let mut cluster = Cluster::start(announcing("0", Plan::gateway()))?;
    let owner = cluster.wait_for_owner()?;
    limit_guests_to_announcements(&cluster)?;
    wait_until_guests_know(&cluster, owner)?;
    sleep(AFTER_THE_FIRST_ANNOUNCEMENTS);
    let from = cluster.note(format!("{BRIDGE} of h{} gets another hardware address", owner + 1));
    let namespace = cluster.host(owner).namespace();
    let before = namespace.mac(BRIDGE)?;
    namespace.output("ip", &["link", "set", BRIDGE, "address", "02:00:00:00:77:77"])?;
    ensure!(namespace.mac(BRIDGE)? != before, "it has the same");
    wait_until_guests_know(&cluster, owner)?;
    cluster.wait_for_owner_among(|host| host == owner)?;
    // By itself a client asks again after some 25 s.
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(5)))
}

/// On `lo`, in the subnet of the hosts' link.
fn on_lo() -> Plan {
    let vips = vec![Vip { interface: "lo".into(), ..vip("api", &["10.77.0.100/32"]) }];
    Plan { vips, ..Plan::default() }
}

#[test]
fn an_address_on_lo_in_the_subnet_of_another_interface_moves_as_fast_as_one_that_is_there()
-> Result<()> {
    let mut cluster = Cluster::start(on_lo())?;
    let from = cluster.note("pins");
    for host in [0, 1, 2, 0] {
        cluster.pin("api", host)?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
    }
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_foreign_machine_that_has_the_address_and_only_answers_is_noticed_and_shown() -> Result<()> {
    let mut cluster = Cluster::start(announcing("1s", of_both_families()))?;
    let owner = cluster.wait_for_owner()?;
    let next = (owner + 1) % 3;
    let from = cluster.note("turnip's own moves are no conflicts");
    for host in [next, owner] {
        cluster.pin("api", host)?;
        cluster.wait_for_owner_among(|holder| holder == host)?;
        sleep(AFTER_THE_FIRST_ANNOUNCEMENTS);
    }
    for host in 0..3 {
        let told = told_by(&cluster, host)?;
        ensure!(told["claims_received"] == 0, "h{}: {told}\n{}", host + 1, cluster.logs());
    }
    cluster.note("a machine that knows nothing of turnip takes the addresses");
    let stranger = Machine::join(&cluster, "stranger")?;
    stranger.takes_the_addresses(&cluster)?;
    let mac = stranger.mac()?;
    cluster.wait("both claims are known", || {
        let told = told_by(&cluster, owner)?;
        let claims = told["claims"].as_array().context("claims")?.clone();
        let of_stranger = claims.iter().filter(|claim| claim["mac"] == *mac);
        Ok(of_stranger.count() == 2)
    })?;
    let (_, text) = cluster.turnip_on(owner, &["status"])?;
    ensure!(text.contains(&format!("the machine {mac} on {LINK}")), "{text}");
    let log = cluster.daemon(owner)?.log_text();
    let told = log.matches(&format!("the hardware address {mac}")).count();
    ensure!(told == 1, "told {told} times: {}", cluster.logs());
    a_lease_passes();
    assert_eq!(cluster.holders()?, [owner], "{}", cluster.logs());
    stranger.gives_them_back(&cluster)?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_host_of_turnips_that_was_killed_with_the_address_is_no_foreign_machine() -> Result<()> {
    let mut cluster = Cluster::start(announcing("1s", of_both_families()))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the turnip of h{} is killed", owner + 1));
    cluster.kill_daemon(owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    // It asks, and the other one's kernel may still have the address, silently.
    sleep(AFTER_THE_FIRST_ANNOUNCEMENTS);
    let told = told_by(&cluster, next)?;
    ensure!(told["claims_received"] == 0, "{told}\n{}", cluster.logs());
    cluster.release(owner)?;
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

#[test]
fn with_defend_clients_that_a_foreign_machine_misled_are_led_back_at_once() -> Result<()> {
    let settings = TurnipSettings {
        defend: true,
        announce_every: Some("0".into()),
        ..TurnipSettings::default()
    };
    let mut cluster = Cluster::start(Plan { daemon: Daemon::Turnip(settings), ..Plan::default() })?;
    let owner = cluster.wait_for_owner()?;
    sleep(AFTER_THE_FIRST_ANNOUNCEMENTS);
    let stranger = Machine::join(&cluster, "stranger")?;
    let _responder = Responder::start(&stranger.namespace, stranger.name)?;
    let from =
        cluster.note("a machine that knows nothing of turnip takes the address, and says so");
    stranger.takes_the_addresses(&cluster)?;
    let client_knows = |mac: [u8; 6]| -> Result<bool> {
        Ok(cluster.client().neighbour(cluster.address())? == Some(mac))
    };
    let [of_owner, of_stranger] =
        [cluster.host(owner).namespace().mac(LINK)?, stranger.namespace.mac(LINK)?];
    stranger.asks_the_client(&cluster)?;
    cluster
        .wait("the owner has heard it", || Ok(told_by(&cluster, owner)?["claims_received"] != 0))?;
    cluster.wait("the client knows the owner", || client_knows(of_owner))?;
    cluster.note("it says so again, which is not answered within ten seconds");
    stranger.asks_the_client(&cluster)?;
    cluster.wait("the client knows the stranger", || client_knows(of_stranger))?;
    sleep(Duration::from_secs(11));
    stranger.asks_the_client(&cluster)?;
    cluster.wait("the client knows the owner", || client_knows(of_owner))?;
    stranger.gives_them_back(&cluster)?;
    cluster.wait_for_owner_among(|host| host == owner)?;
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(60)))
}

#[test]
fn the_check_says_where_addresses_will_be_announced_and_who_has_them_already() -> Result<()> {
    let mut cluster = Cluster::lay_out(on_lo())?;
    // It writes the host's configuration.
    cluster.start_daemon(0)?;
    cluster.wait_for_owner_among(|host| host == 0)?;
    let from = cluster.note("checks");
    let check = |cluster: &Cluster| -> Result<String> { Ok(cluster.turnip_on(0, &["check"])?.1) };
    let text = check(&cluster)?;
    ensure!(text.contains(&format!("10.77.0.100/32: on lo, announced on {LINK}")), "{text}");
    ensure!(!text.contains("answered for by the machine"), "{text}");
    cluster.stop_daemon(0)?;
    let text = check(&cluster)?;
    ensure!(text.contains("nobody answers for 10.77.0.100"), "{text}");
    let stranger = Machine::join(&cluster, "stranger")?;
    stranger.takes_the_addresses(&cluster)?;
    let text = check(&cluster)?;
    let claimed =
        format!("10.77.0.100 is answered for by the machine {} on {LINK}", stranger.mac()?);
    ensure!(text.contains(&claimed), "{text}\nlacks {claimed:?}");
    stranger.gives_them_back(&cluster)?;
    cluster.start_daemon(0)?;
    let back = cluster.note("it is there again");
    cluster.wait_for_owner_among(|host| host == 0)?;
    cluster.conclude(from, Outcome::failed_over().since(back))
}
