//! Store and kernel with somebody who counts: how long renewals take, what fails and why.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use turnip_core::{
    Assignment, ForeignKey, KernelEvent, KernelOp, KernelOutcome, KeyKind, Keys, MemberStatus,
    NodeName, Op, StoreError, Txn, TxnResponse, Update,
};

use super::Counters;
use super::counters::{Cause, Request, operation};
use crate::seams::{Kernel, Store};

/// A store whose answers are counted; without counters, the store as it is.
pub struct MeteredStore<'a, S> {
    store: &'a S,
    counters: Option<Counters>,
    keys: Keys,
    own: NodeName,
}

impl<'a, S: Store> MeteredStore<'a, S> {
    /// Counts what `store` answers to the node `own`.
    pub fn new(store: &'a S, counters: Option<Counters>, keys: Keys, own: NodeName) -> Self {
        MeteredStore { store, counters, keys, own }
    }

    fn failed(&self, request: Request, error: &StoreError, took: Option<(Duration, Duration)>) {
        if let Some(counters) = &self.counters {
            counters.etcd_failed(request, cause(error, took));
        }
    }
}

/// Why there was no answer. `took`: how long it was waited for, and how long it was to be.
fn cause(error: &StoreError, took: Option<(Duration, Duration)>) -> Cause {
    match (error, took) {
        (StoreError::Refused(_), _) => Cause::Refused,
        // The last few milliseconds are not enough for another attempt.
        (StoreError::Unavailable(_), Some((took, timeout))) if took >= timeout * 9 / 10 => {
            Cause::Timeout
        }
        (StoreError::Unavailable(_), _) => Cause::Unavailable,
    }
}

/// What a transaction of the node `own` asks for.
fn request_of(keys: &Keys, own: &NodeName, txn: &Txn) -> Request {
    let mut request = Request::Other;
    for op in &txn.success {
        match op {
            Op::Put { key, .. } => match keys.kind(key) {
                KeyKind::Session(_) => return Request::Renewal,
                KeyKind::Vip(_) if request == Request::Other => request = Request::Ownership,
                KeyKind::Node(_) if request == Request::Other => request = Request::Publication,
                _ => {}
            },
            Op::Delete { key } => match keys.kind(key) {
                KeyKind::Session(node) if node != *own => return Request::Expiry,
                KeyKind::Vip(_) if request == Request::Other => request = Request::Ownership,
                _ => {}
            },
            Op::Get { .. } => {}
        }
    }
    request
}

impl<S: Store> Store for MeteredStore<'_, S> {
    fn follow(
        &self,
        prefix: String,
        elsewhere: bool,
    ) -> impl Stream<Item = Result<Update, StoreError>> {
        self.store.follow(prefix, elsewhere).inspect(|update| {
            if let Err(error) = update {
                self.failed(Request::Watch, error, None);
            }
        })
    }

    fn follow_keys(&self, keys: BTreeSet<String>) -> impl Stream<Item = ForeignKey> {
        self.store.follow_keys(keys)
    }

    async fn commit(&self, txn: Txn, timeout: Duration) -> Result<TxnResponse, StoreError> {
        let Some(counters) = &self.counters else { return self.store.commit(txn, timeout).await };
        let (request, sent) = (request_of(&self.keys, &self.own, &txn), Instant::now());
        let answer = self.store.commit(txn, timeout).await;
        let took = sent.elapsed();
        match &answer {
            Ok(_) if request == Request::Renewal => counters.renewed(took),
            Ok(_) => {}
            Err(error) => self.failed(request, error, Some((took, timeout))),
        }
        answer
    }

    async fn member_status(&self, timeout: Duration) -> Result<MemberStatus, StoreError> {
        let asked = Instant::now();
        let answer = self.store.member_status(timeout).await;
        match &answer {
            // Where there is none on this host it is asked all the same.
            Ok(_) | Err(StoreError::Refused(_)) => {}
            Err(error) => self.failed(Request::Member, error, Some((asked.elapsed(), timeout))),
        }
        answer
    }
}

/// A kernel whose answers are counted; without counters, the kernel as it is.
pub struct MeteredKernel<'a, K> {
    kernel: &'a K,
    counters: Option<Counters>,
}

impl<'a, K: Kernel> MeteredKernel<'a, K> {
    /// Counts what `kernel` answers.
    pub fn new(kernel: &'a K, counters: Option<Counters>) -> Self {
        MeteredKernel { kernel, counters }
    }
}

impl<K: Kernel> Kernel for MeteredKernel<'_, K> {
    fn perform(&self, op: KernelOp) -> impl Future<Output = KernelOutcome> {
        let operation = operation(&op);
        // It is queued now, not when the future is first polled.
        let answer = self.kernel.perform(op);
        async move {
            let outcome = answer.await;
            if let Some(counters) = &self.counters {
                match &outcome {
                    KernelOutcome::Failed(error) => counters.kernel_failed(operation, error),
                    KernelOutcome::Done { failed, .. } => {
                        failed.iter().for_each(|(_, error)| {
                            counters.kernel_failed(operation, error);
                        });
                    }
                    KernelOutcome::Listed(_) => {}
                }
            }
            outcome
        }
    }

    fn announce(
        &self,
        addresses: Vec<Assignment>,
        deadline: turnip_core::Instant,
    ) -> impl Future<Output = ()> {
        if let Some(counters) = &self.counters {
            counters.announced(addresses.len());
        }
        self.kernel.announce(addresses, deadline)
    }

    fn end_connections(&self, addresses: Vec<IpAddr>) {
        self.kernel.end_connections(addresses);
    }

    fn events(&self) -> impl Stream<Item = KernelEvent> {
        self.kernel.events()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_transaction_asks_for_is_known_by_the_keys_that_it_writes() {
        let keys = Keys::new(&"main".parse().unwrap());
        let (a, b): (NodeName, NodeName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let vip = keys.vip(&"v".parse().unwrap());
        let put = |key: String| Op::Put { key, value: Vec::new() };
        let delete = |key: String| Op::Delete { key };
        for (success, request) in [
            (vec![put(keys.session(&a))], Request::Renewal),
            (vec![put(keys.session(&a)), put(keys.node(&a))], Request::Renewal),
            (vec![put(vip.clone()), delete(keys.session(&b))], Request::Expiry),
            (vec![put(vip.clone())], Request::Ownership),
            (vec![delete(vip)], Request::Ownership),
            (vec![put(keys.node(&a))], Request::Publication),
            (vec![delete(keys.session(&a)), delete(keys.node(&a))], Request::Other),
            (vec![put(keys.heartbeat_keys())], Request::Other),
        ] {
            let txn = Txn { success, ..Txn::default() };
            assert_eq!(request_of(&keys, &a, &txn), request, "{txn:?}");
        }
    }

    #[test]
    fn an_answer_that_did_not_come_in_time_is_told_from_one_that_could_not_come() {
        let time = |ms| Some((Duration::from_millis(ms), Duration::from_millis(500)));
        let unavailable = StoreError::Unavailable("no route to host".into());
        assert_eq!(cause(&unavailable, time(3)), Cause::Unavailable);
        assert_eq!(cause(&unavailable, time(499)), Cause::Timeout);
        assert_eq!(cause(&unavailable, None), Cause::Unavailable);
        assert_eq!(cause(&StoreError::Refused("password".into()), time(500)), Cause::Refused);
    }
}
