//! What `turnip check` finds out about this host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use turnip::config::Config;

use super::Findings;
use crate::commands::privileges;

/// Checks privileges, and what the configuration needs of the host.
pub fn check(config: Option<&Config>, findings: &mut Findings) {
    match privileges::missing() {
        Ok(missing) if missing.is_empty() => {
            findings.ok("privileges", "CAP_NET_ADMIN and CAP_NET_RAW are there");
        }
        Ok(missing) => {
            let what = format!("{} is missing; {}", missing.join(" and "), privileges::REMEDY);
            findings.error("privileges", what);
        }
        Err(why) => findings.warning("privileges", why),
    }
    let Some(config) = config else { return };
    interfaces(config, findings);
    promote_secondaries(config, findings);
}

fn interfaces(config: &Config, findings: &mut Findings) {
    let existing = match existing_interfaces() {
        Ok(existing) => existing,
        Err(why) => return findings.error("interfaces", why),
    };
    if let Err(problems) = config.check_interfaces(&existing) {
        for problem in problems.iter() {
            findings.error("interfaces", problem.to_string());
        }
    }
    let wanted: BTreeSet<&str> = config.vips.iter().map(|vip| &*vip.config.interface).collect();
    for name in wanted {
        let exists = existing.iter().any(|interface| interface == name);
        let waited_for =
            config.vips.iter().any(|vip| &*vip.config.interface == name && vip.wait_for_interface);
        if exists {
            findings.ok("interfaces", format!("{name} is there"));
        } else if waited_for {
            findings.warning("interfaces", format!("{name} is not there yet; turnip waits for it"));
        }
    }
}

/// The names of the interfaces in this network namespace.
///
/// # Errors
/// When the kernel does not tell.
pub fn existing_interfaces() -> Result<Vec<String>, String> {
    let all = nix::net::if_::if_nameindex()
        .map_err(|error| format!("the interfaces cannot be listed: {error}"))?;
    Ok(all.iter().map(|each| each.name().to_string_lossy().into_owned()).collect())
}

/// Without it, the kernel takes away every other address of a subnet together with the first one.
fn promote_secondaries(config: &Config, findings: &mut Findings) {
    let in_subnets = config.vips.iter().filter(|vip| {
        vip.config.addresses.iter().any(|net| net.addr().is_ipv4() && net.prefix_len() < 32)
    });
    let interfaces: BTreeSet<&str> = in_subnets.map(|vip| &*vip.config.interface).collect();
    for name in interfaces {
        let set = |scope: &str| {
            let path = format!("/proc/sys/net/ipv4/conf/{scope}/promote_secondaries");
            fs::read_to_string(Path::new(&path)).map(|value| value.trim() != "0")
        };
        let Ok(own) = set(name) else { continue };
        if own || set("all").unwrap_or(false) {
            findings.ok("secondaries", format!("{name} keeps the other addresses of a subnet"));
        } else {
            let what = format!(
                "on {name} the kernel takes away all addresses of a subnet with its first one, a VIP with others beside it included: `sysctl -w net.ipv4.conf.{name}.promote_secondaries=1`, or write VIPs as /32"
            );
            findings.warning("secondaries", what);
        }
    }
}
