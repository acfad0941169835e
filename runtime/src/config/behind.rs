//! Endpoints of etcd that are VIPs: who needs etcd to hold an address cannot need that address to reach etcd.

use std::net::IpAddr;

use super::Reach;
use super::etcd::address_of;
use super::problem::{Collector, Place, Problem};
use super::vips::Vip;

/// Refuses endpoints that are all VIPs, and a member on this host that is one; of some endpoints among
/// others the operator is told.
pub(super) fn check(
    vips: &[Vip],
    reach: &mut Reach,
    [at, local_at]: [Option<Place>; 2],
    problems: &mut Collector,
) {
    let vip_at = |url: &str| vip_at(vips, address_of(url)?);
    if let Some((url, vip)) = reach.etcd.local.as_deref().and_then(|url| Some((url, vip_at(url)?)))
    {
        let what = format!(
            "the address of the VIP {}, which is on one host after the other; write the address that the etcd member on this host has for itself",
            vip.config.name
        );
        problems.add(Problem::new(
            local_at.unwrap_or(Place::Default),
            "etcd.local",
            Some(format!("{url:?}")),
            what,
        ));
    }
    let endpoints = &reach.etcd.endpoints;
    let behind: Vec<(&String, &Vip)> =
        endpoints.iter().filter_map(|url| Some((url, vip_at(url)?))).collect();
    let notices: Vec<String> = match behind.as_slice() {
        [] => Vec::new(),
        [(url, vip), ..] if behind.len() == endpoints.len() => {
            let what = format!(
                "the address of the VIP {}, which nobody holds before etcd is reached: after a power failure turnip would wait for itself; write the members' own addresses",
                vip.config.name
            );
            problems.add(Problem::new(at.unwrap_or(Place::Default), "etcd.endpoints", Some(format!("{url:?}")), what));
            Vec::new()
        }
        some => some
            .iter()
            .map(|(url, vip)| {
                format!(
                    "etcd.endpoints: {url} is the address of the VIP {}, by which etcd is not reached when that is needed: leave it out, and write the members' own addresses",
                    vip.config.name
                )
            })
            .collect(),
    };
    reach.notices.extend(notices);
}

fn vip_at(vips: &[Vip], address: IpAddr) -> Option<&Vip> {
    vips.iter().find(|vip| vip.config.ips().any(|ip| ip == address))
}
