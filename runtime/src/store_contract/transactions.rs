//! The contract's clauses about transactions.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use turnip_core::{Compare, OPS_PER_TXN_MAX, Op, Revision, StoreError, Txn};

use super::{Subject, TOO_MANY, put};
use crate::seams::{Clock, Store};

pub async fn an_absent_key_has_both_revisions_zero<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let key = || on.key("absent");
    let zero = Revision(0);
    assert!(on.holds(0, Compare::ModRevision { key: key(), is: zero }).await);
    assert!(on.holds(0, Compare::CreateRevision { key: key(), is: zero }).await);
    assert!(!on.holds(0, Compare::CreateRevisionNot { key: key(), is_not: zero }).await);
    assert!(!on.holds(0, Compare::ModRevision { key: key(), is: Revision(1) }).await);
    assert!(!on.holds(0, Compare::CreateRevision { key: key(), is: Revision(1) }).await);
    assert!(on.holds(0, Compare::CreateRevisionNot { key: key(), is_not: Revision(1) }).await);

    on.put(0, "absent", "now present").await;
    assert!(!on.holds(0, Compare::ModRevision { key: key(), is: zero }).await);
    assert!(!on.holds(0, Compare::CreateRevision { key: key(), is: zero }).await);

    on.delete(0, "absent").await;
    assert!(on.holds(0, Compare::ModRevision { key: key(), is: zero }).await, "deleted is absent");
    assert!(on.holds(0, Compare::CreateRevision { key: key(), is: zero }).await);
}

pub async fn a_key_is_compared_by_its_mod_revision<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let key = || on.key("k");
    let first = on.put(0, "k", "1").await;
    assert!(on.holds(1, Compare::ModRevision { key: key(), is: first }).await);
    let second = on.put(0, "k", "2").await;
    assert!(!on.holds(1, Compare::ModRevision { key: key(), is: first }).await);
    assert!(on.holds(1, Compare::ModRevision { key: key(), is: second }).await);
}

pub async fn a_key_is_compared_by_its_create_revision<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let key = || on.key("k");
    let created = on.put(0, "k", "1").await;
    let changed = on.put(0, "k", "2").await;
    assert!(on.holds(1, Compare::CreateRevision { key: key(), is: created }).await);
    assert!(!on.holds(1, Compare::CreateRevision { key: key(), is: changed }).await);
    assert!(!on.holds(1, Compare::CreateRevisionNot { key: key(), is_not: created }).await);
    assert!(on.holds(1, Compare::CreateRevisionNot { key: key(), is_not: changed }).await);
}

pub async fn a_transaction_without_compares_succeeds<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let response = on.apply(0, vec![Op::Get { key: on.key("k") }]).await;
    assert!(response.succeeded);
    assert_eq!(response.gets, [None]);
    assert!(response.header.revision > Revision(0), "a store begins at revision 1");
}

/// What it compares with would be what one member happens to know.
pub async fn a_transaction_without_operations_is_refused<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let absent = Compare::ModRevision { key: on.key("k"), is: Revision(0) };
    for compares in [vec![], vec![absent]] {
        let answer = on.try_commit(0, Txn { compares, ..Txn::default() }).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    }
}

pub async fn all_compares_must_hold<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let a = on.put(0, "a", "1").await;
    let b = on.put(0, "b", "1").await;
    let compares = |a, b| {
        vec![
            Compare::ModRevision { key: on.key("a"), is: a },
            Compare::CreateRevision { key: on.key("b"), is: b },
        ]
    };
    let wrong = Revision(1);
    for (a, b, expected) in [(a, b, true), (wrong, b, false), (a, wrong, false)] {
        assert_eq!(on.hold(1, compares(a, b)).await, expected);
    }
}

pub async fn a_transaction_is_done_wholly_or_not_at_all<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let revision = on.put(0, "k", "before").await;
    let txn = |is| Txn {
        compares: vec![Compare::ModRevision { key: on.key("k"), is }],
        success: vec![put(on.key("k"), "success"), put(on.key("s"), "1")],
        failure: vec![put(on.key("f"), "1"), Op::Delete { key: on.key("gone") }],
    };
    on.put(0, "gone", "1").await;

    let response = on.commit(0, txn(Revision(1))).await;
    assert!(!response.succeeded);
    assert_eq!(on.get(1, "k").await.1.unwrap().value, b"before");
    assert_eq!(on.get(1, "s").await.1, None, "nothing of the success branch");
    assert_eq!(on.get(1, "f").await.1.unwrap().mod_revision, response.header.revision);
    assert_eq!(on.get(1, "gone").await.1, None, "all of the failure branch");

    let deleted = on.delete(0, "f").await;
    let response = on.commit(0, txn(revision)).await;
    assert!(response.succeeded);
    assert!(response.header.revision > deleted);
    assert_eq!(on.get(1, "k").await.1.unwrap().value, b"success");
    assert_eq!(on.get(1, "s").await.1.unwrap().value, b"1");
    assert_eq!(on.get(1, "f").await.1, None, "nothing of the failure branch");
}

/// A node learns from the else branch what the keys are, and as of when.
pub async fn a_failed_transaction_names_the_revision_of_what_it_read<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let written = on.put(0, "k", "1").await;
    let failing = |failure| Txn {
        compares: vec![Compare::ModRevision { key: on.key("k"), is: Revision(1) }],
        success: vec![put(on.key("k"), "never")],
        failure,
    };
    let get = || Op::Get { key: on.key("k") };
    let read = on.commit(1, failing(vec![get()])).await;
    assert!(!read.succeeded);
    assert_eq!(read.header.revision, written, "it wrote nothing, so it made no revision");
    let idle = on.commit(0, failing(vec![Op::Delete { key: on.key("never was") }])).await;
    assert_eq!(idle.header.revision, written);
    let wrote = on.commit(1, failing(vec![get(), put(on.key("other"), "")])).await;
    assert_eq!(wrote.header.revision, Revision(written.0 + 1), "that of its write");
    assert_eq!(wrote.gets[0].as_ref().unwrap().mod_revision, written);
}

/// Also while others write: the revision is neither newer nor older than what was read.
pub async fn what_a_failed_transaction_read_was_so_at_its_revision<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    on.put(0, "k", "first").await;
    let mut follower = on.follow(0, false).await;
    let failing = || Txn {
        compares: vec![Compare::ModRevision { key: on.key("k"), is: Revision(1) }],
        failure: vec![Op::Get { key: on.key("k") }],
        ..Txn::default()
    };
    let write = |number: usize| async move {
        for round in 0..30 {
            on.put(number, if number == 0 { "k" } else { "beside" }, &round.to_string()).await;
        }
        Vec::new()
    };
    let read = |number: usize| async move {
        let mut read = Vec::new();
        for _ in 0..30 {
            let response = on.commit(number, failing()).await;
            assert!(!response.succeeded);
            read.push((response.header.revision, response.gets[0].clone()));
        }
        read
    };
    let both = |number: usize| async move {
        if number < 2 { write(number).await } else { read(number).await }
    };
    let read: Vec<_> = join_all((0..5).map(both)).await.into_iter().flatten().collect();
    follower.until(on.put(0, "last", "").await).await;
    for (revision, kv) in read {
        let at = follower.snapshot.header.revision;
        assert!(revision >= at, "{revision} is older than a snapshot that was read before, {at}");
        assert_eq!(kv.as_ref(), follower.as_of(&on.key("k"), revision), "as of {revision}");
    }
}

pub async fn gets_answer_in_their_order_for_the_branch_that_ran<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    on.put(0, "a", "of a").await;
    on.put(0, "b", "of b").await;
    let get = |name: &str| Op::Get { key: on.key(name) };
    for holds in [true, false] {
        let is = if holds { Revision(0) } else { Revision(1) };
        let (forth, back) = (
            vec![get("b"), put(on.key("p"), ""), get("none"), get("a")],
            vec![get("a"), get("none"), Op::Delete { key: on.key("p") }, get("b")],
        );
        let compares = vec![Compare::ModRevision { key: on.key("none"), is }];
        let response = on.commit(1, Txn { compares, success: forth, failure: back }).await;
        assert_eq!(response.succeeded, holds);
        let keys: Vec<_> =
            response.gets.into_iter().map(|kv| kv.map(|kv| (kv.key, kv.value))).collect();
        let a = Some((on.key("a"), b"of a".to_vec()));
        let b = Some((on.key("b"), b"of b".to_vec()));
        assert_eq!(keys, if holds { vec![b, None, a] } else { vec![a, None, b] });
    }
}

pub async fn a_get_sees_the_puts_before_it_in_its_transaction<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    on.put(0, "k", "old").await;
    let get = || Op::Get { key: on.key("k") };
    let response = on.apply(0, vec![get(), put(on.key("k"), "new"), get()]).await;
    let [Some(before), Some(after)] = &response.gets[..] else { panic!("{response:?}") };
    assert_eq!(before.value, b"old");
    assert_eq!(after.value, b"new");
    assert_eq!(after.mod_revision, response.header.revision);
}

pub async fn a_put_takes_place_at_the_revision_of_its_answer<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    for number in 0..4 {
        let revision = on.put(number, "k", "value").await;
        let (header, kv) = on.get(number + 1, "k").await;
        assert_eq!(kv.unwrap().mod_revision, revision);
        assert!(header.revision >= revision);
    }
}

pub async fn create_revision_survives_puts_and_changes_after_a_deletion<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let created = on.put(0, "k", "1").await;
    assert_eq!(on.get(1, "k").await.1.unwrap().create_revision, created);
    let changed = on.put(1, "k", "2").await;
    let kv = on.get(0, "k").await.1.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision), (created, changed));

    let deleted = on.delete(0, "k").await;
    assert!(deleted > changed);
    assert_eq!(on.get(1, "k").await.1, None);
    let anew = on.put(1, "k", "3").await;
    let kv = on.get(0, "k").await.1.unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision), (anew, anew));
}

pub async fn writes_of_one_transaction_share_a_revision<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let before = on.put(0, "gone", "1").await;
    let ops = vec![
        put(on.key("a"), "1"),
        Op::Delete { key: on.key("gone") },
        Op::Delete { key: on.key("never was") },
        put(on.key("b"), "1"),
    ];
    let together = on.apply(0, ops).await.header.revision;
    assert!(together > before);
    for name in ["a", "b"] {
        let kv = on.get(1, name).await.1.unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision), (together, together));
    }
    assert_eq!(on.get(1, "gone").await.1, None);
}

pub async fn deleting_an_absent_key_makes_no_revision<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let before = on.put(0, "k", "1").await;
    assert_eq!(on.delete(0, "never was").await, before);
    assert_eq!(on.get(1, "k").await.0.revision, before);
}

pub async fn reading_makes_no_revision<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let before = on.put(0, "k", "1").await;
    for number in 0..4 {
        assert_eq!(on.get(number, "k").await.0.revision, before);
        on.holds(number, Compare::ModRevision { key: on.key("k"), is: Revision(0) }).await;
    }
    assert_eq!(on.put(0, "k", "2").await, Revision(before.0 + 1));
}

pub async fn revisions_never_go_back_from_handle_to_handle<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let mut last = Revision(0);
    for number in 0..20 {
        let written = on.put(number, "k", "value").await;
        assert!(written > last, "{written} after {last}");
        let (header, _) = on.get(number + 1, "k").await;
        assert!(header.revision >= written, "{} after {written}", header.revision);
        last = header.revision;
    }
}

pub async fn every_answer_names_the_same_cluster<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let (first, _) = on.get(0, "k").await;
    assert_ne!(first.cluster_id, 0);
    for number in 0..on.stores.len() {
        assert_eq!(on.get(number, "k").await.0.cluster_id, first.cluster_id);
        let written = on.apply(number, vec![put(on.key("k"), "")]).await;
        assert_eq!(written.header.cluster_id, first.cluster_id);
        let follower = on.follow(number, false).await;
        assert_eq!(follower.snapshot.header.cluster_id, first.cluster_id);
    }
}

/// Also when it only learns it from the else branch of a transaction that failed.
pub async fn a_handle_reads_what_another_has_written<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let mut stale = Revision(0);
    for number in 0..20 {
        let value = number.to_string();
        let written = on.put(number, "k", &value).await;
        let txn = Txn {
            compares: vec![Compare::ModRevision { key: on.key("k"), is: stale }],
            success: vec![put(on.key("k"), "lost update")],
            failure: vec![Op::Get { key: on.key("k") }],
        };
        let response = on.commit(number + 1, txn).await;
        assert!(!response.succeeded, "a stale compare held");
        let kv = response.gets[0].as_ref().expect("the key is there");
        assert_eq!((kv.mod_revision, &kv.value[..]), (written, value.as_bytes()));
        stale = written;
    }
}

pub async fn of_many_claims_of_one_key_exactly_one_succeeds<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let claim = |number: usize| {
        let txn = Txn {
            compares: vec![Compare::ModRevision { key: on.key("claimed"), is: Revision(0) }],
            success: vec![put(on.key("claimed"), &number.to_string())],
            failure: vec![Op::Get { key: on.key("claimed") }],
        };
        on.commit(number, txn)
    };
    let responses = join_all((0..16).map(claim)).await;
    let winners: Vec<usize> = (0..16).filter(|&number| responses[number].succeeded).collect();
    assert_eq!(winners.len(), 1, "{responses:?}");
    let owner = on.get(0, "claimed").await.1.unwrap();
    assert_eq!(owner.value, winners[0].to_string().as_bytes());
    for response in responses.iter().filter(|response| !response.succeeded) {
        assert_eq!(response.gets, [Some(owner.clone())], "the losers see who won");
    }
}

pub async fn values_are_kept_byte_for_byte<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    let every_byte: Vec<u8> = (0..=255).collect();
    for value in [Vec::new(), every_byte, vec![b'x'; 100_000]] {
        let key = on.key("k");
        on.apply(0, vec![Op::Put { key, value: value.clone() }]).await;
        assert!(on.get(1, "k").await.1.unwrap().value == value);
    }
}

pub async fn the_limit_of_operations_is_allowed_and_one_more_is_refused<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let compares = |count: usize| -> Vec<Compare> {
        let absent = |n| Compare::ModRevision { key: on.key(&format!("{n}")), is: Revision(0) };
        (0..count).map(absent).collect()
    };
    let gets = |count: usize| -> Vec<Op> {
        (0..count).map(|n| Op::Get { key: on.key(&format!("{n}")) }).collect()
    };
    let most = OPS_PER_TXN_MAX;
    let txn = Txn { compares: compares(most), success: gets(most), failure: gets(most) };
    let response = on.commit(0, txn).await;
    assert!(response.succeeded);
    assert_eq!(response.gets, vec![None; most]);

    for txn in [
        Txn { compares: compares(TOO_MANY), success: gets(1), ..Txn::default() },
        Txn { success: gets(TOO_MANY), ..Txn::default() },
        Txn { failure: gets(TOO_MANY), ..Txn::default() },
    ] {
        let answer = on.try_commit(0, txn).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    }
}

pub async fn writing_a_key_twice_in_one_branch_is_refused<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let put = |value| put(on.key("k"), value);
    let delete = || Op::Delete { key: on.key("k") };
    for ops in [vec![put("1"), put("2")], vec![delete(), put("1")], vec![put("1"), delete()]] {
        let answer = on.try_commit(0, Txn { success: ops, ..Txn::default() }).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    }
    assert_eq!(on.get(1, "k").await.1, None);
    let either = Txn { success: vec![put("1")], failure: vec![put("2")], ..Txn::default() };
    assert!(on.commit(0, either).await.succeeded, "once in each branch is no conflict");
}

/// If only by an error; and what it was to do is done, or not, or done later, but never twice.
pub async fn a_commit_answers_within_its_timeout<S: Store, C: Clock>(on: &Subject<'_, S, C>) {
    for micros in [0, 1, 100, 1_000, 10_000] {
        let timeout = Duration::from_micros(micros);
        let txn = Txn { success: vec![put(on.key("k"), "")], ..Txn::default() };
        let answer = on.in_time("an answer", on.store(0).commit(txn, timeout)).await;
        assert!(!matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    }
    on.put(0, "k", "the handle is still usable").await;
}

pub async fn of_the_members_that_answer_at_most_one_leads_in_a_term<S: Store, C: Clock>(
    on: &Subject<'_, S, C>,
) {
    let mut leaders = BTreeMap::new();
    let mut answers = 0;
    for store in on.stores {
        let Ok(status) = store.member_status(on.patience).await else { continue };
        answers += 1;
        assert_ne!(status.member_id, 0);
        assert!(status.term > 0, "the cluster is healthy, so it has had an election");
        if status.is_leader {
            let leader = *leaders.entry(status.term).or_insert(status.member_id);
            assert_eq!(leader, status.member_id, "two leaders in term {}", status.term);
        }
    }
    assert!(answers > 0, "no handle knows a member that answers");
}
