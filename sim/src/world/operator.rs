//! The operator, who writes intents and removes them.

use std::collections::BTreeMap;

use turnip_core::{Compare, Op, Revision, Txn};

use crate::time::S;

use super::env::Env;
use super::etcd::Etcd;
use super::etcd::request::{Ask, Request};
use super::event::{Event, Wish};

/// What the operator wants.
#[derive(Default)]
pub struct Operator {
    /// The newest wish about each key, by number.
    wishes: BTreeMap<String, u64>,
}

impl Operator {
    /// Writes or removes an intent. A removal is repeated, so that one that meets an election does
    /// not leave a host drained for good.
    pub fn intend(&mut self, key: String, value: Option<Vec<u8>>, etcd: &mut Etcd, env: &mut Env) {
        let repeats = value.is_none();
        self.write(key, value, repeats, etcd, env);
    }

    /// Writes or deletes a key; once more a little later if it `repeats`.
    pub fn write(
        &mut self,
        key: String,
        value: Option<Vec<u8>>,
        repeats: bool,
        etcd: &mut Etcd,
        env: &mut Env,
    ) {
        let op = match value {
            Some(value) => Op::Put { key: key.clone(), value },
            None => Op::Delete { key: key.clone() },
        };
        let txn = Txn { success: vec![op], ..Txn::default() };
        let number = self.wishes.entry(key.clone()).or_default();
        *number += 1;
        let wish = Wish { key, number: *number, txn };
        if repeats {
            for later in [2 * S, 5 * S] {
                env.after(later, Event::Intend { wish: Box::new(wish.clone()) });
            }
        }
        self.submit(wish, etcd, env);
    }

    /// `turnip forget`: the session that was written at that revision is given up, because its host is gone
    /// for good (rule 10.7).
    pub fn forget(&mut self, key: String, is: Revision, etcd: &mut Etcd, env: &mut Env) {
        let compares = vec![Compare::ModRevision { key: key.clone(), is }];
        let success = vec![Op::Delete { key: key.clone() }];
        let txn = Txn { compares, success, failure: Vec::new() };
        let number = self.wishes.entry(key.clone()).or_default();
        *number += 1;
        let wish = Wish { key, number: *number, txn };
        self.submit(wish, etcd, env);
    }

    /// A transaction goes to whoever leads, and is tried again while nobody does; but not once the
    /// operator wants something else of the same key.
    pub fn submit(&self, wish: Wish, etcd: &mut Etcd, env: &mut Env) {
        if self.wishes.get(&wish.key) != Some(&wish.number) {
            return;
        }
        let Some(leader) = etcd.leader() else {
            return env.after(S, Event::Intend { wish: Box::new(wish) });
        };
        // The operator is at none of the hosts.
        let nowhere = env.plan.params.hosts;
        let mut request = Request::new(nowhere, None, Ask::Txn(wish.txn), env.now());
        request.member = leader;
        let id = etcd.add(request);
        env.after(S / 1000, Event::Request { request: id });
    }
}
