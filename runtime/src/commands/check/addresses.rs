//! What `turnip check` finds out about addresses of VIPs that this host has already.

use std::time::Duration;

use turnip::config::Config;
use turnip::etcd::Etcd;
use turnip_core::StoreError;

use super::Findings;
use crate::commands::heartbeats;
use crate::commands::own_addresses::{self, OwnAddress, OwnAddresses};

const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const SUBJECT: &str = "addresses";

/// Names every one that turnip did not put there.
pub async fn check(config: &Config, findings: &mut Findings) {
    let found = match OwnAddresses::look(config) {
        Ok(found) => found,
        Err(why) => return findings.error(SUBJECT, why),
    };
    if found == OwnAddresses::default() {
        return findings.ok(SUBJECT, "no VIP is on this host but by turnip's doing");
    }
    let etcd = Etcd::new(&config.reach.etcd);
    let named = match &etcd {
        Ok(etcd) => own_addresses::ask_named_here(config, etcd, ANSWER_WITHIN).await,
        Err(error) => Err(StoreError::Unavailable(error.to_string())),
    };
    for one in &found.exact {
        match &named {
            Ok(named) if named.contains(&one.vip) => findings.warning(
                SUBJECT,
                format!(
                    "{one}; for etcd says that this node has it, turnip takes it over at the start"
                ),
            ),
            Ok(_) => findings.error(SUBJECT, refused(one)),
            Err(error) => {
                let what =
                    format!("{}. etcd does not say whether it ever did: {error}", refused(one));
                findings.error(SUBJECT, what);
            }
        }
    }
    let reached = match &etcd {
        Ok(etcd) if !found.doubles.is_empty() => {
            heartbeats::reached_at(config, etcd, ANSWER_WITHIN).await
        }
        _ => Default::default(),
    };
    for one in &found.doubles {
        if one.is_beside {
            let what = format!(
                "{one}; the VIP is here, and stays until it moves, and is not taken again while that is there; {}",
                one.remedy()
            );
            findings.warning(SUBJECT, what);
            continue;
        }
        if reached.contains(&one.address.addr()) {
            findings.error(SUBJECT, refused(one));
            continue;
        }
        let what = format!(
            "{one}: this host does not take the VIP while that is there, and the fence silences it; {}",
            one.remedy()
        );
        findings.warning(SUBJECT, what);
    }
}

fn refused(one: &OwnAddress) -> String {
    format!(
        "{one}: turnip does not start, for it would take this host off the network; {}",
        one.remedy()
    )
}
