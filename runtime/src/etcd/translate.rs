//! The core's vocabulary in etcd's, and back.

use etcd_client as etcd;
use turnip_core::{Compare, Event, Header, KeyValue, Op, Revision, StoreError, Txn, TxnResponse};

/// The transaction as etcd takes it.
pub(super) fn transaction(txn: &Txn) -> etcd::Txn {
    etcd::Txn::new()
        .when(txn.compares.iter().map(compare).collect::<Vec<_>>())
        .and_then(txn.success.iter().map(operation).collect::<Vec<_>>())
        .or_else(txn.failure.iter().map(operation).collect::<Vec<_>>())
}

fn compare(compare: &Compare) -> etcd::Compare {
    use etcd::{Compare as Of, CompareOp};
    match compare {
        Compare::ModRevision { key, is } => Of::mod_revision(key.as_str(), CompareOp::Equal, is.0),
        Compare::CreateRevision { key, is } => {
            Of::create_revision(key.as_str(), CompareOp::Equal, is.0)
        }
        Compare::CreateRevisionNot { key, is_not } => {
            Of::create_revision(key.as_str(), CompareOp::NotEqual, is_not.0)
        }
    }
}

fn operation(op: &Op) -> etcd::TxnOp {
    match op {
        Op::Put { key, value } => etcd::TxnOp::put(key.as_str(), value.as_slice(), None),
        Op::Delete { key } => etcd::TxnOp::delete(key.as_str(), None),
        Op::Get { key } => etcd::TxnOp::get(key.as_str(), None),
    }
}

/// etcd's answer to a transaction.
pub(super) fn answer(response: &etcd::TxnResponse) -> Result<TxnResponse, StoreError> {
    let gets = response.op_responses().into_iter().filter_map(|answer| match answer {
        etcd::TxnOpResponse::Get(get) => Some(get.kvs().first().map(key_value)),
        _ => None,
    });
    Ok(TxnResponse {
        header: header(response.header())?,
        succeeded: response.succeeded(),
        gets: gets.collect(),
    })
}

/// The header that every answer of etcd has.
pub(super) fn header(header: Option<&etcd::ResponseHeader>) -> Result<Header, StoreError> {
    let header = header.ok_or_else(|| {
        StoreError::Unavailable("an answer without a header: this is no etcd".to_owned())
    })?;
    Ok(Header {
        cluster_id: header.cluster_id(),
        member_id: header.member_id(),
        raft_term: header.raft_term(),
        revision: Revision(header.revision()),
    })
}

/// Longer than any key of turnip's, with the names of cluster and node.
const KEY_BYTES_MAX: usize = 512;

/// A key that is no UTF-8, or longer than any of turnip's, is nobody's here, and only has to stay that:
/// of a long one the beginning is enough, and of its value nothing.
pub(super) fn key_value(kv: &etcd::KeyValue) -> KeyValue {
    let (beginning, is_long) = match kv.key().get(..KEY_BYTES_MAX) {
        Some(beginning) => (beginning, true),
        None => (kv.key(), false),
    };
    KeyValue {
        key: String::from_utf8_lossy(beginning).into_owned(),
        value: if is_long { Vec::new() } else { kv.value().to_vec() },
        create_revision: Revision(kv.create_revision()),
        mod_revision: Revision(kv.mod_revision()),
    }
}

/// A change, and the revision at which it was made.
pub(super) fn event(event: &etcd::Event) -> Option<(Event, Revision)> {
    let kv = key_value(event.kv()?);
    let revision = kv.mod_revision;
    let event = match event.event_type() {
        etcd::EventType::Put => Event::Put(kv),
        etcd::EventType::Delete => Event::Delete { key: kv.key, revision },
    };
    Some((event, revision))
}
