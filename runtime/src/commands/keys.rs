//! `turnip rotate-key`: another key for heartbeats.

use std::process::ExitCode;

use turnip::config::{Reach, Sources};
use turnip_core::records::{decode, encode};
use turnip_core::{Compare, HeartbeatKeys, Op, Revision, Txn};

use super::cluster::{Cluster, ClusterState};
use super::heartbeats::fresh_key;
use super::intents::finish;

/// Makes a new key; the current one becomes the one before.
pub fn rotate(sources: &Sources) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    finish(&reach, async |cluster, state| {
        let (txn, said) = rotation(cluster, state, fresh_key()?);
        let landed = cluster.commit(txn).await.map_err(|error| error.to_string())?.succeeded;
        match landed {
            true => Ok(said),
            false => Err("somebody else changed heartbeats/key at the same time; nothing was written, look and try again".into()),
        }
    })
}

fn rotation(cluster: &Cluster, state: &ClusterState, fresh: String) -> (Txn, String) {
    let key = cluster.keys.heartbeat_keys();
    let is = state.modified(&key).unwrap_or(Revision(0));
    let old = state.value(&key).map(decode::<HeartbeatKeys>);
    let (previous, said) = match old {
        Some(Ok(old)) => (
            Some(old.current),
            "the heartbeats' key is another one; the one before is taken until the next rotation, so rotate twice to be rid of it\n",
        ),
        Some(Err(_)) => (
            None,
            "the heartbeats' key could not be read, and is another one now; heartbeats of hosts that have not heard of it are not taken\n",
        ),
        None => (None, "there was no key for heartbeats; now there is one\n"),
    };
    let value = encode(&HeartbeatKeys { current: fresh, previous });
    let compares = vec![Compare::ModRevision { key: key.clone(), is }];
    let success = vec![Op::Put { key, value }];
    (Txn { compares, success, ..Txn::default() }, said.into())
}
