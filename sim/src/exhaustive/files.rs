//! The configuration files of the small world's daemons.

use turnip_core::{Policy, VipConfig};

/// The interface of all VIPs.
pub(super) const INTERFACE: &str = "eth0";

/// The addresses that VIPs have.
const ADDRESSES: [&str; 2] = ["10.0.0.50/32", "10.0.0.51/32"];

/// What daemons can be configured to have. The first file is the one with which all begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Files {
    /// One VIP, v.
    One,
    /// The VIP v is renamed to w, and back.
    Rename,
    /// Two VIPs, v and w.
    Two,
    /// Two VIPs, v and w, exchange their addresses.
    Exchange,
    /// One VIP, v, with two addresses.
    Wide,
}

impl Files {
    /// The VIPs of each file.
    pub(super) fn list(self) -> Vec<Vec<VipConfig>> {
        match self {
            Files::One => vec![vec![vip("v", &[0])]],
            Files::Rename => vec![vec![vip("v", &[0])], vec![vip("w", &[0])]],
            Files::Two => vec![vec![vip("v", &[0]), vip("w", &[1])]],
            Files::Exchange => {
                vec![vec![vip("v", &[0]), vip("w", &[1])], vec![vip("v", &[1]), vip("w", &[0])]]
            }
            Files::Wide => vec![vec![vip("v", &[0, 1])]],
        }
    }
}

fn vip(name: &str, addresses: &[usize]) -> VipConfig {
    let address = |&which: &usize| ADDRESSES[which].parse().expect("an address");
    VipConfig {
        name: name.parse().expect("a name"),
        addresses: addresses.iter().map(address).collect(),
        interface: INTERFACE.into(),
        policy: Policy::Priority { priority: 0, preempt: false },
    }
}
