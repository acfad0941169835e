//! turnip on real etcd and a real kernel, broken in every way that a data centre breaks.
//!
//! Each scenario is a lab of its own, and several run side by side. They need root, and fail
//! without it. No scenario asserts how fast something is, only that it happens at all: the
//! benchmark measures.

mod addresses;
mod api_server;
mod certificates;
mod connections;
mod daemons;
mod fence;
mod files;
mod following;
mod gateway;
mod health;
mod heartbeats;
mod history;
mod hooks;
mod hosts;
mod logins;
mod members;
mod metrics;
mod migrating;
mod names;
mod neighbours;
mod own_address;
mod own_addresses;
mod own_interface;
mod reloads;
mod renames;
mod rollback;
mod routers;
mod says;
mod store;
mod strangers;
mod upgrades;
mod walkthroughs;
mod watching;

use std::thread::sleep;
use std::time::Duration;

use turnip_netns_tests::daemon::{Daemon, Policy, TurnipSettings};
use turnip_netns_tests::plan::{Plan, vip};

/// As the default, with another policy.
fn with_policy(policy: Policy) -> Plan {
    with_settings(TurnipSettings { policy, ..TurnipSettings::default() })
}

/// As the default, set up in this way.
fn with_settings(settings: TurnipSettings) -> Plan {
    Plan { daemon: Daemon::Turnip(settings), ..Plan::default() }
}

/// For faults that must be over before the lease ends, even on a busy machine.
fn with_a_long_lease() -> TurnipSettings {
    TurnipSettings { lease: Some("5s".into()), ..TurnipSettings::default() }
}

/// So long that a takeover after a crash, which waits for the lease to end, takes longer than
/// [`Outcome::moved`] allows: a scenario that expects an orderly move fails when it was a crash.
/// Not for scenarios that wait until a VIP is back where placement wants it: that takes a lease.
const VERY_LONG_LEASE: &str = "10s";

/// As the default, with an address of each family in the one VIP.
fn of_both_families() -> Plan {
    Plan { vips: vec![vip("api", &["10.77.0.100/24", "fd77::100/64"])], ..Plan::default() }
}

/// Long enough for a lease to run out and for another host to have taken over.
fn a_lease_passes() {
    sleep(Duration::from_secs(5));
}
