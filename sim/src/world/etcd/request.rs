//! What clients ask of etcd.

use turnip_core::{Txn, TxnResponse};

use crate::time::True;
use crate::world::ids::{HostId, MemberId, RequestId, WatchId};
use crate::world::slots::SlotId;

/// What a client asked for.
pub enum Ask {
    /// Carry out a transaction.
    Txn(Txn),
    /// Read everything under a watch's prefix, to begin the watch.
    Snapshot(WatchId),
}

/// A client's request.
pub struct Request {
    /// Who asked.
    pub host: HostId,
    /// Who waits; nobody for a snapshot, which arrives on the watch.
    pub slot: Option<SlotId>,
    /// What for.
    pub ask: Ask,
    /// Which member it was sent to, by its place in the host's list.
    pub endpoint: usize,
    /// That member.
    pub member: MemberId,
    /// Which life of that member it reached.
    pub epoch: u32,
    /// When it was made.
    pub made_at: True,
    /// How many endpoints have refused it.
    pub refusals: usize,
    /// Which they were, as bits of their places.
    pub asked: u32,
    /// The answer, once it was carried out.
    pub response: Option<TxnResponse>,
    /// Its answer will be lost on the way.
    pub lose_answer: bool,
    /// Its answer takes so many ns longer.
    pub delay_answer: u64,
}

impl Request {
    /// A request not sent yet.
    pub fn new(host: HostId, slot: Option<SlotId>, ask: Ask, made_at: True) -> Self {
        Request {
            host,
            slot,
            ask,
            endpoint: 0,
            member: 0,
            epoch: 0,
            made_at,
            refusals: 0,
            asked: 0,
            response: None,
            lose_answer: false,
            delay_answer: 0,
        }
    }
}

/// All requests that were ever made.
#[derive(Default)]
pub struct Requests(Vec<Request>);

impl Requests {
    /// Keeps a request.
    pub fn add(&mut self, request: Request) -> RequestId {
        self.0.push(request);
        RequestId(self.0.len() as u32 - 1)
    }

    /// One of them.
    pub fn get(&self, id: RequestId) -> &Request {
        &self.0[id.0 as usize]
    }

    /// One of them, to change it.
    pub fn get_mut(&mut self, id: RequestId) -> &mut Request {
        &mut self.0[id.0 as usize]
    }
}
