//! Mishaps that wait for their transactions.

use crate::plan::words;
use crate::plan::{Mishap, TxnKind};

use super::env::Env;
use super::ids::HostId;
use turnip_core::Txn;

/// A mishap that waits for its transaction.
#[derive(Clone, Debug)]
struct Waiting {
    host: HostId,
    kind: TxnKind,
    skip: u32,
    left: u32,
    mishap: Mishap,
}

/// All mishaps that wait.
#[derive(Default)]
pub struct Mishaps(Vec<Waiting>);

impl Mishaps {
    /// Of a host's transactions of one kind, the next `count` after `skip` have a mishap.
    pub fn add(&mut self, host: HostId, kind: TxnKind, skip: u32, count: u32, mishap: Mishap) {
        self.0.push(Waiting { host, kind, skip, left: count, mishap });
    }

    /// Nothing more goes wrong.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether a transaction of `host` meets a mishap.
    pub fn meets(&mut self, host: HostId, txn: &Txn, env: &mut Env) -> Option<Mishap> {
        if self.0.is_empty() {
            return None;
        }
        let kind = env.kind(host, txn)?;
        let found =
            self.0.iter().position(|waiting| waiting.host == host && waiting.kind == kind)?;
        let waiting = &mut self.0[found];
        if waiting.skip > 0 {
            waiting.skip -= 1;
            return None;
        }
        waiting.left -= 1;
        let mishap = waiting.mishap;
        if waiting.left == 0 {
            self.0.remove(found);
        }
        env.count(|tally| &mut tally.mishaps);
        env.trace(|params| {
            format!("{}: {}: {}", params.host(host), words::kind_of(kind), words::meddled(mishap))
        });
        Some(mishap)
    }
}
