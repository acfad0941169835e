//! What `turnip check` finds out about this host.

use std::collections::BTreeSet;

use turnip::config::{Config, Fence};
use turnip::kernel::{check as host, fence};
use turnip::lock::{InstanceLock, LockError};
use turnip_core::{Backstop, Link};

use super::Findings;
use crate::commands::{self, PRIVILEGES};

/// Checks privileges, and what the configuration needs of the host.
pub async fn check(config: Option<&Config>, findings: &mut Findings) {
    match host::missing_capabilities() {
        Ok(missing) if missing.is_empty() => {
            findings.ok("privileges", "CAP_NET_ADMIN and CAP_NET_RAW are there");
        }
        Ok(missing) => {
            findings.error("privileges", format!("{}; {PRIVILEGES}", commands::missing(&missing)));
        }
        Err(error) => findings.warning("privileges", format!("cannot be read: {error}")),
    }
    match InstanceLock::take("turnip check") {
        Ok(_) => findings.ok("daemon", "none runs on this host"),
        Err(running @ LockError::Taken { .. }) => findings.ok("daemon", running.to_string()),
        Err(error) => findings.warning("daemon", error.to_string()),
    }
    let Some(config) = config else { return };
    nftables(config, findings);
    match host::links() {
        Ok(links) => interfaces(config, &links, findings),
        Err(error) => findings.error("interfaces", format!("cannot be listed: {error}")),
    }
    secondaries(config, findings);
}

fn nftables(config: &Config, findings: &mut Findings) {
    let too_short = config.lease.check_backstop(Backstop::Lifetime);
    match (config.fence, fence::probe()) {
        (Fence::Lifetime, Ok(())) => findings.warning(
            "fence",
            "fence = \"lifetime\", though nftables works here: with it a killed daemon's addresses are silent at the deadline, to some ms",
        ),
        (Fence::Lifetime, Err(_)) => findings.ok("fence", "by lifetimes, as configured"),
        (_, Ok(())) => findings.ok("fence", "nftables works"),
        (Fence::Nftables, Err(error)) => {
            findings.error("fence", format!("nftables does not work here: {error}"));
        }
        (Fence::Auto, Err(error)) => match too_short {
            Ok(()) => findings.warning(
                "fence",
                format!("nftables does not work here: {error}; turnip uses lifetimes instead"),
            ),
            Err(why) => findings
                .error("fence", format!("nftables does not work here: {error}; and {why}")),
        },
    }
}

fn interfaces(config: &Config, links: &[Link], findings: &mut Findings) {
    let existing: Vec<String> = links.iter().map(|link| link.name.to_string()).collect();
    if let Err(problems) = config.check_interfaces(&existing) {
        for problem in problems.iter() {
            findings.error("interfaces", problem.to_string());
        }
    }
    let wanted: BTreeSet<(&str, bool)> =
        config.vips.iter().map(|vip| (&*vip.config.interface, vip.wait_for_interface)).collect();
    for (name, waited_for) in wanted {
        match links.iter().find(|link| &*link.name == name) {
            Some(link) if link.up => findings.ok("interfaces", format!("{name} is up")),
            Some(_) => findings.warning(
                "interfaces",
                format!("{name} is down: this host takes no VIP of it until it is up"),
            ),
            None if waited_for => findings
                .warning("interfaces", format!("{name} is not there yet; turnip waits for it")),
            None => {}
        }
    }
}

/// Without it, the kernel takes away every other address of a subnet together with the first one.
fn secondaries(config: &Config, findings: &mut Findings) {
    let in_subnets = config.vips.iter().filter(|vip| {
        vip.config.addresses.iter().any(|net| net.addr().is_ipv4() && net.prefix_len() < 32)
    });
    let interfaces: BTreeSet<&str> = in_subnets.map(|vip| &*vip.config.interface).collect();
    for name in interfaces {
        match host::promotes_secondaries(name) {
            Ok(true) => findings.ok("secondaries", format!("{name} promotes them")),
            Ok(false) => findings.ok(
                "secondaries",
                format!("turnip will set promote_secondaries on {name}, so that other addresses of a VIP's subnet stay when it goes"),
            ),
            // An interface that is not there is told of elsewhere.
            Err(_) => {}
        }
    }
}
