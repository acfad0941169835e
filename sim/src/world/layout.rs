//! What a run's cluster is made of: names, addresses, interfaces.

use std::sync::Arc;

use ipnet::IpNet;

use crate::plan::Params;

use super::names::Names;

/// The names of a run, and where its VIPs are.
pub struct Layout {
    /// The names.
    pub names: Names,
    /// The interface that carries the VIPs on every host.
    pub interface: Arc<str>,
    /// Every VIP's addresses.
    pub vip_addresses: Vec<Vec<IpNet>>,
}

impl Layout {
    /// One or two addresses a VIP, no two alike.
    pub fn new(params: &Params) -> Self {
        let vips = params.vips.iter().enumerate();
        Layout {
            names: Names::new(params.hosts, params.vips.len()),
            interface: "eth0".into(),
            vip_addresses: vips
                .map(|(vip, params)| (0..params.addresses).map(|n| address(vip, n)).collect())
                .collect(),
        }
    }
}

fn address(vip: usize, number: usize) -> IpNet {
    let text = match number {
        0 => format!("10.0.{}.{}/32", vip / 200, vip % 200 + 1),
        _ => format!("fd00::{number}:{:x}/128", vip + 1),
    };
    text.parse().expect("a valid address")
}
