//! How much a node may publish: `nodes/<node>` is one value, and etcd takes no request over 1.5 MiB.

use std::collections::BTreeMap;

use turnip_core::Revision;
use turnip_core::records::{NodeRecord, VipOffer, encode};

use super::problem::{Collector, Place, Problem};
use super::vips::Vip;

/// The largest record that is configured, in bytes. The rest of etcd's 1.5 MiB
/// (`--max-request-bytes`) is for why VIPs cannot be held, which the core bounds.
const RECORD_BYTES_MAX: usize = 5 << 18;

/// Refuses more VIPs than a node can publish.
pub(super) fn check(vips: &[Vip], place: &Place, problems: &mut Collector) {
    let bytes = record_bytes(vips);
    if bytes <= RECORD_BYTES_MAX {
        return;
    }
    let fit = vips.len() * RECORD_BYTES_MAX / bytes;
    let what = format!(
        "{} VIPs are too many for one node: what it publishes of them would be {} KiB, and {} KiB go into one request to etcd; of VIPs like these some {fit} fit. Write several addresses into one VIP, give it a shorter name, or share the VIPs out among several clusters of hosts",
        vips.len(),
        bytes.div_ceil(1024),
        RECORD_BYTES_MAX / 1024,
    );
    problems.add(Problem::new(place.clone(), "vip", None, what));
}

/// How large the record of a node with these VIPs is, in bytes.
pub(super) fn record_bytes(vips: &[Vip]) -> usize {
    encode(&record(vips)).len()
}

fn record(vips: &[Vip]) -> NodeRecord {
    let offers: BTreeMap<_, _> = vips
        .iter()
        .map(|vip| {
            let offer = VipOffer {
                // A revision of so many digits takes years of renewals.
                weight: Some(vip.config.checks.len() as u32).filter(|checks| *checks > 0),
                defined_at: Some(Revision(9_999_999_999)),
                ..VipOffer::of(&vip.config, vip.config.digest())
            };
            (vip.config.name.clone(), offer)
        })
        .collect();
    NodeRecord {
        vips: offers,
        checks: BTreeMap::new(),
        weighs_vips: true,
        weight: u32::MAX,
        drained: false,
        member: None,
        repairs: u64::MAX,
        heartbeats: None,
        version: env!("CARGO_PKG_VERSION").into(),
    }
}
