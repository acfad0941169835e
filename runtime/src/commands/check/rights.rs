//! What `turnip check` finds out about what etcd lets turnip do: enough, and not more; and values as large as
//! this node's.

use std::time::Duration;

use turnip::config::{Config, Reach};
use turnip::etcd::Etcd;
use turnip::seams::Store;
use turnip_core::{Compare, Keys, NodeName, Op, Revision, StoreError, Txn};

use super::Findings;

const TIMEOUT: Duration = Duration::from_secs(3);
const RIGHTS: &str = "etcd rights";
const RECORD: &str = "etcd record";
/// Of another application, for all that turnip knows.
const ELSEWHERE: &str = "/not-turnip/check";
/// What etcd adds to a value in a request, and why VIPs cannot be held adds to a record.
const RECORD_ROOM: usize = 2_048;

/// Checks both.
pub async fn check(etcd: &Etcd, reach: &Reach, config: Option<&Config>, findings: &mut Findings) {
    rights(etcd, reach, config, findings).await;
    if let Some(config) = config {
        record(etcd, config, findings).await;
    }
}

async fn rights(etcd: &Etcd, reach: &Reach, config: Option<&Config>, findings: &mut Findings) {
    let keys = Keys::new(&reach.cluster);
    let mut lacking = Vec::new();
    for key in wanted(&keys, config) {
        match may_write(etcd, &key).await {
            Ok(true) => {}
            Ok(false) => lacking.push(key),
            // Why etcd does not answer is said elsewhere.
            Err(_) => return,
        }
    }
    if !lacking.is_empty() {
        let what = format!(
            "the user{} may not write {}: grant its role read and write on the prefix {} (etcdctl role grant-permission ROLE readwrite {} --prefix)",
            of(reach),
            lacking.join(", "),
            keys.prefix(),
            keys.prefix()
        );
        return findings.error(RIGHTS, what);
    }
    let is_free = may_write(etcd, ELSEWHERE).await.unwrap_or(false);
    let asks = match &reach.etcd.user {
        Some((name, password)) => {
            etcd.asks_for_login(name, password.reveal(), TIMEOUT).await.unwrap_or(true)
        }
        None => false,
    };
    match (is_free, &reach.etcd.user, asks) {
        (false, ..) => findings.ok(RIGHTS, format!("{} and no more", keys.prefix())),
        (true, Some((name, _)), true) => findings.warning(
            RIGHTS,
            format!(
                "the user {name} may write what is not turnip's: whoever reads its password on one of these hosts may change all that is in etcd; give turnip a user with read and write on {} and /turnip-check/{}/ alone",
                keys.prefix(),
                reach.cluster
            ),
        ),
        (true, Some((name, _)), false) => findings.warning(
            RIGHTS,
            format!(
                "etcd asks nobody for a password (`etcdctl auth enable`), so the user {name} is of no use: whoever reaches etcd may move addresses"
            ),
        ),
        (true, None, _) if reach.etcd.tls.client.is_some() => findings.ok(
            RIGHTS,
            "everything, for whoever has a certificate that etcd takes: such a one may move addresses",
        ),
        (true, None, _) => findings.ok(
            RIGHTS,
            "everything, for everybody who reaches etcd: such a one may move addresses, so let only these hosts reach its ports",
        ),
    }
}

/// Keys of each kind that turnip writes.
fn wanted(keys: &Keys, config: Option<&Config>) -> Vec<String> {
    // An operator's command has no name of its own.
    let node: NodeName = match config {
        Some(config) => config.node.clone(),
        None => "check".parse().expect("it is a name"),
    };
    let another: NodeName = "turnip-check".parse().expect("it is a name");
    let vips = config.iter().flat_map(|config| &config.vips).take(1);
    let vips = vips.map(|vip| keys.vip(&vip.config.name));
    [keys.session(&node), keys.session(&another), keys.node(&node), keys.drain(&node)]
        .into_iter()
        .chain(vips)
        .chain([keys.heartbeat_keys()])
        .collect()
}

fn of(reach: &Reach) -> String {
    reach.etcd.user.as_ref().map(|(name, _)| format!(" {name}")).unwrap_or_default()
}

/// Whether a key could be written: asked by a transaction that never writes it, for no key has such a revision.
/// etcd judges the rights to all that is in it first.
async fn may_write(etcd: &Etcd, key: &str) -> Result<bool, StoreError> {
    let key = key.to_owned();
    let txn = Txn {
        compares: vec![Compare::ModRevision { key: key.clone(), is: Revision(-1) }],
        success: vec![Op::Put { key: key.clone(), value: Vec::new() }],
        failure: vec![Op::Get { key }],
    };
    match etcd.commit(txn, TIMEOUT).await {
        Ok(_) => Ok(true),
        Err(StoreError::Refused(why)) if why.contains("permission denied") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether etcd takes a value as large as what this node is going to publish of its VIPs.
async fn record(etcd: &Etcd, config: &Config, findings: &mut Findings) {
    let bytes = config.record_bytes() + RECORD_ROOM;
    let kib = bytes.div_ceil(1024);
    let key = format!("/turnip-check/{}/{}-record", config.reach.cluster, std::process::id());
    let put = etcd.put(&key, &vec![b'x'; bytes], TIMEOUT).await;
    // Whether or not that was answered, it may be there.
    let _ = etcd.delete(&key, TIMEOUT).await;
    match put {
        Ok(_) => findings.ok(RECORD, format!("etcd takes what this node publishes ({kib} KiB)")),
        Err(error) if is_too_large(&error.to_string()) => findings.error(
            RECORD,
            format!(
                "etcd refuses what this node publishes of its {} VIPs, some {kib} KiB: run it with --max-request-bytes={} or more on all members (ETCD_MAX_REQUEST_BYTES; its default is 1572864)",
                config.vips.len(),
                (2 * bytes).max(1_572_864)
            ),
        ),
        // That nothing can be written there, or at all, is said by what times commits.
        Err(_) => {}
    }
}

fn is_too_large(why: &str) -> bool {
    why.contains("request is too large") || why.contains("larger than max")
}
