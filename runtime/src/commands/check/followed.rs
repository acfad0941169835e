//! What `turnip check` finds out about the keys of other programs that VIPs follow.

use std::collections::BTreeMap;
use std::time::Duration;

use turnip::config::Config;
use turnip::etcd::Etcd;
use turnip::seams::Store;
use turnip_core::{Op, StoreError, Txn, VipName, text};

use super::Findings;

const TIMEOUT: Duration = Duration::from_secs(3);
const FOLLOWED: &str = "followed keys";

/// Whether each may be read, and what it says now.
pub async fn check(etcd: &Etcd, config: &Config, findings: &mut Findings) {
    let mut keys: BTreeMap<&str, Vec<&VipName>> = BTreeMap::new();
    for vip in &config.vips {
        if let Some(follow) = vip.config.policy.follow() {
            keys.entry(&follow.key).or_default().push(&vip.config.name);
        }
    }
    for (key, vips) in keys {
        let vips: Vec<&str> = vips.into_iter().map(VipName::as_str).collect();
        let vips = vips.join(", ");
        let get = Txn { success: vec![Op::Get { key: key.to_owned() }], ..Txn::default() };
        match etcd.commit(get, TIMEOUT).await {
            Ok(answer) => match answer.gets.into_iter().next().flatten() {
                Some(kv) => {
                    let says = text::shown(&String::from_utf8_lossy(&kv.value));
                    findings.ok(FOLLOWED, format!("{key} says {says}; {vips} follows it"));
                }
                None => findings.warning(
                    FOLLOWED,
                    format!(
                        "{key} is absent, so nobody is named for {vips}: does the program that writes it use this etcd, by its API of version 3, and this name?"
                    ),
                ),
            },
            Err(StoreError::Refused(why)) => findings.error(
                FOLLOWED,
                format!(
                    "{key} cannot be read: {why}; nobody has {vips} until it can: etcdctl role grant-permission ROLE read {key}"
                ),
            ),
            // Why etcd does not answer is said elsewhere.
            Err(StoreError::Unavailable(_)) => return,
        }
    }
}
