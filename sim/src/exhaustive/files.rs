//! The configuration files of the small world's daemons.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use turnip_core::adapter::Adapter;
use turnip_core::{Policy, VipAddress, VipConfig};

/// The interface of all VIPs.
pub(super) const INTERFACE: &str = "eth0";

/// So many addresses go to the kernel in one call.
const WIDE: u8 = Adapter::CHUNK as u8;

/// What daemons can be configured to have. The first file is the one with which all begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Files {
    /// No VIP at all: only sessions matter.
    None,
    /// One VIP, v.
    One,
    /// The VIP v is renamed to w, and back.
    Rename,
    /// Two VIPs, v and w.
    Two,
    /// Two VIPs, v and w, exchange their addresses.
    Exchange,
    /// One VIP, v, with one address more than one call to the kernel takes.
    Wide,
}

impl Files {
    /// The VIPs of each file.
    pub(super) fn list(self) -> Vec<Vec<VipConfig>> {
        match self {
            Files::None => vec![Vec::new()],
            Files::One => vec![vec![vip("v", &[0])]],
            Files::Rename => vec![vec![vip("v", &[0])], vec![vip("w", &[0])]],
            Files::Two => vec![vec![vip("v", &[0]), vip("w", &[1])]],
            Files::Exchange => {
                vec![vec![vip("v", &[0]), vip("w", &[1])], vec![vip("v", &[1]), vip("w", &[0])]]
            }
            Files::Wide => {
                let every: Vec<u8> = (0..=WIDE).collect();
                vec![vec![vip("v", &every)]]
            }
        }
    }
}

/// A VIP with the addresses of these numbers.
fn vip(name: &str, addresses: &[u8]) -> VipConfig {
    let address = |which: &u8| {
        let ip = Ipv4Addr::new(10, 0, 0, 50 + which);
        IpNet::new(ip.into(), 32).expect("32 bits")
    };
    VipConfig {
        name: name.parse().expect("a name"),
        addresses: VipAddress::all_on(INTERFACE, addresses.iter().map(address)),
        policy: Policy::Priority { priority: 0, preempt: false },
        defend: false,
        require_carrier: true,
        keep_connections: false,
        checks: [].into(),
        last_resort: turnip_core::LastResort::Keep,
        hooks: turnip_core::Hooks::new(),
    }
}
