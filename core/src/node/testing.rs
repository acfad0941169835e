//! What the tests of several parts start with.

use super::own::Own;
use crate::config::{NodeConfig, Policy, VipAddress, VipConfig};
use crate::lease::{Backstop, Lease};
use crate::name::HostId;
use crate::records::{Nonce, SessionRecord};

/// Node a with that lease and no VIP.
pub(super) fn own(lease: Lease) -> Own {
    Own::new(config(lease, Vec::new()))
}

/// Node a with so many VIPs of one address each on eth0.
pub(super) fn own_with_vips(count: usize) -> Own {
    let vip = |number: usize| VipConfig {
        name: format!("v{number}").parse().unwrap(),
        addresses: VipAddress::all_on(
            "eth0",
            [format!("10.0.0.{}/32", number + 1).parse().unwrap()],
        ),
        policy: Policy::Spread,
        defend: false,
        require_carrier: true,
        keep_connections: false,
        checks: [].into(),
        last_resort: crate::check::LastResort::Keep,
        hooks: crate::hook::Hooks::new(),
    };
    let lease = Lease::new(std::time::Duration::from_secs(3)).unwrap();
    Own::new(config(lease, (0..count).map(vip).collect()))
}

fn config(lease: Lease, vips: Vec<VipConfig>) -> NodeConfig {
    NodeConfig {
        cluster: "main".parse().unwrap(),
        name: "a".parse().unwrap(),
        host: HostId("host-a".into()),
        process: 1,
        lease,
        backstop: Backstop::Fence,
        weight: 100,
        vips,
        checks: Vec::new(),
        announce_every: None,
        heartbeats: None,
        version: "test".into(),
    }
}

/// The session of another node.
pub(super) fn session_record() -> SessionRecord {
    SessionRecord {
        lease_ms: 3_000,
        host: HostId("host-b".into()),
        nonce: Nonce { process: 2, count: 1 },
        witnesses: std::collections::BTreeSet::new(),
    }
}
