//! The virtual hardware address of a VIP, the same on every host, and the interface that has it.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::kernel::Mac;
use crate::name::{ClusterName, VipName};

/// Of one machine, and given by its owner, not by a maker of hardware.
const LOCALLY_ADMINISTERED: u8 = 0x02;

/// The hardware address that a VIP has on whichever host has it. All versions derive the same one.
pub fn virtual_mac(cluster: &ClusterName, vip: &VipName) -> Mac {
    let [_, _, _, a, b, c, d, e] = xxh3_64(format!("{cluster}/{vip}").as_bytes()).to_be_bytes();
    Mac([LOCALLY_ADMINISTERED, a, b, c, d, e])
}

/// What the interface is called that has a VIP's hardware address on another one of the host's. It fits
/// an interface's name, and so tells nobody anything.
pub fn virtual_link_name(cluster: &ClusterName, vip: &VipName, parent: &str) -> Arc<str> {
    let hash = xxh3_64(format!("{cluster}/{vip}/{parent}").as_bytes());
    format!("tn{:012x}", hash >> 16).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(cluster: &str, vip: &str) -> Mac {
        virtual_mac(&cluster.parse().unwrap(), &vip.parse().unwrap())
    }

    #[test]
    fn it_is_of_one_machine_locally_administered_and_another_one_for_each_vip_and_cluster() {
        let all: BTreeSet<Mac> =
            (0..1000).map(|n| of("main", &format!("v{n}"))).chain([of("other", "v0")]).collect();
        assert_eq!(all.len(), 1001);
        assert!(all.iter().all(|mac| mac.0[0] & 0b11 == 0b10));
    }
}
