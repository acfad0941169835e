//! Interfaces as hosts have them: renamed, with several names, without a carrier.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Daemon, Policy, TurnipSettings, Vip};
use turnip_netns_tests::namespace::LinkState;
use turnip_netns_tests::network::{BRIDGE, BRIDGED};
use turnip_netns_tests::plan::{LINK, Plan, vip};

use crate::{VERY_LONG_LEASE, a_lease_passes};

/// Longer than an interface's own name can be.
const ALTNAME: &str = "the-uplink-of-this-host";
const RENAMED: &str = "br-renamed";

/// While it is up, which the kernel allows from Linux 6.2 on.
fn rename(cluster: &Cluster, host: usize, from: &str, to: &str) -> Result<()> {
    let namespace = cluster.host(host).namespace();
    namespace.output("ip", &["link", "set", "dev", from, "name", to]).map(drop)
}

/// The gateway of guests, on hosts that are set up in this way.
fn gateway_with(settings: TurnipSettings) -> Plan {
    Plan { daemon: Daemon::Turnip(settings), ..Plan::gateway() }
}

/// A host with so many addresses takes a while to look for those that are left over: whatever goes by
/// that look alone comes too late.
fn crowd(cluster: &Cluster, host: usize) -> Result<()> {
    let file = cluster.host(host).directory.join("addresses");
    let line = |n: u32| {
        format!("address add 10.{}.{}.{}/32 dev lo\n", 200 + n / 10_000, n / 100 % 100, n % 100)
    };
    std::fs::write(&file, (0..5_000).map(line).collect::<String>())?;
    let file = file.display().to_string();
    cluster.host(host).namespace().output("ip", &["-batch", &file]).map(drop)
}

/// The interface has another name, and the VIP an owner elsewhere; then all is as it was.
fn gets_its_name_back(cluster: &mut Cluster, owner: usize) -> Result<()> {
    cluster.wait_for_owner_among(|host| host != owner)?;
    let addresses = cluster.plan().vips[0].addresses.clone();
    let present = cluster.host(owner).namespace().addresses()?;
    for net in addresses {
        ensure!(!present.contains(&net.addr()), "{net} is on {RENAMED}: {}", cluster.logs());
    }
    cluster.note("the interface has its name again");
    rename(cluster, owner, RENAMED, BRIDGE)?;
    cluster.pin("gateway", owner)?;
    cluster.wait_for_owner_among(|host| host == owner).map(drop)
}

#[test]
fn an_interface_that_is_renamed_while_it_carries_the_address_does_not_keep_it() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway().with_lease(VERY_LONG_LEASE))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("{BRIDGE} of h{} is {RENAMED} from now on", owner + 1));
    rename(&cluster, owner, BRIDGE, RENAMED)?;
    gets_its_name_back(&mut cluster, owner)?;
    cluster.conclude(from, Outcome::moved())
}

/// By lifetimes nothing silences the address before it is gone.
#[test]
fn an_interface_that_is_renamed_while_its_daemon_sleeps_is_cleared_before_the_address_moves()
-> Result<()> {
    let (lease, fence) = (Some(VERY_LONG_LEASE.into()), Some("lifetime".into()));
    let settings = TurnipSettings { lease, fence, ..TurnipSettings::default() };
    let mut cluster = Cluster::start(gateway_with(settings))?;
    let owner = cluster.wait_for_owner()?;
    crowd(&cluster, owner)?;
    let from = cluster.note(format!("{BRIDGE} of h{} is renamed behind its back", owner + 1));
    cluster.freeze_daemon(owner)?;
    rename(&cluster, owner, BRIDGE, RENAMED)?;
    sleep(Duration::from_millis(200));
    cluster.thaw_daemon(owner)?;
    gets_its_name_back(&mut cluster, owner)?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn an_interface_that_was_renamed_after_its_daemon_was_killed_is_cleared_by_the_next_one()
-> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway().with_lease(VERY_LONG_LEASE))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the daemon of h{} is killed, {BRIDGE} renamed", owner + 1));
    cluster.kill_daemon(owner)?;
    rename(&cluster, owner, BRIDGE, RENAMED)?;
    // It waits for an interface only where it is told to; with none of the name it would not start.
    let namespace = cluster.host(owner).namespace();
    namespace.bridge(BRIDGE, None)?;
    namespace.set_link(BRIDGE, LinkState::Down)?;
    cluster.start_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    let present = cluster.host(owner).namespace().output("ip", &["address", "show", RENAMED])?;
    for net in &cluster.plan().vips[0].addresses {
        ensure!(!present.contains(&net.to_string()), "{present}\n{}", cluster.logs());
    }
    cluster.note("the interface has its name again");
    let namespace = cluster.host(owner).namespace();
    namespace.remove_link(BRIDGE)?;
    rename(&cluster, owner, RENAMED, BRIDGE)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(20)))
}

#[test]
fn an_address_on_an_interface_by_another_name_of_it_stays_when_the_interface_is_renamed()
-> Result<()> {
    let vips = vec![Vip { interface: ALTNAME.into(), ..vip("api", &["10.77.0.100/24"]) }];
    let mut cluster = Cluster::lay_out(Plan { vips, ..Plan::default() })?;
    for host in 0..cluster.size() {
        let namespace = cluster.host(host).namespace();
        namespace.output("ip", &["link", "property", "add", "dev", LINK, "altname", ALTNAME])?;
    }
    for host in cluster.plan().in_order_of_start() {
        cluster.start_daemon(host)?;
    }
    let owner = cluster.wait_until_settled()?;
    let from = cluster.note(format!("{LINK} of h{} is renamed", owner + 1));
    rename(&cluster, owner, LINK, "wan0")?;
    let (_, checked) = cluster.turnip_on(owner, &["check"])?;
    ensure!(checked.contains(&format!("{ALTNAME} (now wan0) is up")), "{checked}");
    a_lease_passes();
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("it loses that name");
    let namespace = cluster.host(owner).namespace();
    namespace.output("ip", &["link", "property", "del", "dev", "wan0", "altname", ALTNAME])?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.conclude(from, Outcome::moved())
}

fn set_ports(cluster: &Cluster, host: usize, plugged: bool) -> Result<()> {
    let namespace = cluster.host(host).namespace();
    BRIDGED.into_iter().try_for_each(|port| match plugged {
        true => namespace.plug(port, BRIDGE),
        false => namespace.unplug(port),
    })
}

#[test]
fn a_holder_whose_interface_loses_its_carrier_passes_the_address_on_and_says_why() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let owner = cluster.wait_for_owner()?;
    let name = cluster.host(owner).name.clone();
    let from = cluster.note(format!("{BRIDGE} of {name} has no port any more"));
    set_ports(&cluster, owner, false)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    let blocked = cluster.status()?["nodes"][&name]["blocked"]["gateway"].clone();
    ensure!(blocked == format!("interface {BRIDGE} has no carrier"), "{blocked}");
    let (_, checked) = cluster.turnip_on(owner, &["check"])?;
    ensure!(checked.contains(&format!("{BRIDGE} is up and has no carrier")), "{checked}");
    ensure!(checked.contains("require_carrier = false"), "{checked}");
    cluster.note("it has its ports again");
    set_ports(&cluster, owner, true)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn a_holder_that_needs_no_carrier_keeps_the_address_without_one_and_not_when_its_interface_is_down()
-> Result<()> {
    let settings = TurnipSettings {
        policy: Policy::Priority { preempt: false },
        vip_lines: vec!["require_carrier = false".into()],
        ..TurnipSettings::default()
    };
    let mut cluster = Cluster::start(gateway_with(settings))?;
    let owner = cluster.wait_for_owner()?;
    cluster.note(format!("{BRIDGE} of h{} has no port any more", owner + 1));
    set_ports(&cluster, owner, false)?;
    a_lease_passes();
    for address in cluster.probed() {
        ensure!(cluster.holders_of(address)? == [owner], "{}", cluster.logs());
    }
    cluster.host(owner).namespace().set_link(BRIDGE, LinkState::Down)?;
    let from = cluster.note("it is down");
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.host(owner).namespace().set_link(BRIDGE, LinkState::Up)?;
    set_ports(&cluster, owner, true)?;
    cluster.conclude(from, Outcome::failed_over())
}
