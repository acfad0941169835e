//! The contract's clauses about a cluster in trouble.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, TryStreamExt};
use turnip_core::{Compare, Revision, StoreError, Txn, Update};

use super::{Subject, Trouble, put};
use crate::seams::{Clock, Store};

/// Less than any member waits for a leader.
const SHORT: Duration = Duration::from_millis(200);

/// How long is waited between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A client that gave up knows nothing: without a majority the leader keeps the transaction, and it
/// lands when the others are back, whole and once.
pub async fn what_its_client_has_given_up_lands_later<S: Store, C: Clock, T: Trouble>(
    on: &Subject<'_, S, C>,
    trouble: &T,
) {
    let leader = trouble.leader().await;
    let first = on.put(leader, "k", "first").await;
    let others = others_than(leader);
    others.iter().for_each(|&member| trouble.pause(member, true));
    let txn = Txn {
        compares: vec![Compare::ModRevision { key: on.key("k"), is: first }],
        success: vec![put(on.key("k"), "late"), put(on.key("too"), "late")],
        ..Txn::default()
    };
    let answer = on.in_time("an answer", on.store(leader).commit(txn, SHORT)).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    others.iter().for_each(|&member| trouble.pause(member, false));

    let landed =
        on.until_it_holds(Compare::CreateRevisionNot { key: on.key("too"), is_not: Revision(0) });
    landed.await;
    let (k, too) = (on.get(0, "k").await.1.unwrap(), on.get(1, "too").await.1.unwrap());
    assert_eq!((&k.value[..], &too.value[..]), (&b"late"[..], &b"late"[..]));
    assert_eq!(k.mod_revision, too.mod_revision, "all of it at one revision");
    let (last, _) = on.get(2, "k").await;
    for _ in 0..5 {
        on.wait(PAUSE).await;
        assert_eq!(on.get(0, "k").await.0.revision, last.revision, "and never again");
    }
}

/// What the transaction compares is looked at when it lands, not when it was sent.
pub async fn what_lands_later_compares_what_is_there_then<S: Store, C: Clock, T: Trouble>(
    on: &Subject<'_, S, C>,
    trouble: &T,
) {
    let leader = trouble.leader().await;
    let first = on.put(leader, "k", "first").await;
    let others = others_than(leader);
    others.iter().for_each(|&member| trouble.pause(member, true));
    let claim = |value: &str| Txn {
        compares: vec![Compare::ModRevision { key: on.key("k"), is: first }],
        success: vec![put(on.key("k"), value)],
        failure: vec![put(on.key("lost"), value)],
    };
    // Both are sent to the leader before either is given up.
    let (one, other) = futures::join!(
        on.store(leader).commit(claim("one"), SHORT),
        on.store(leader).commit(claim("other"), SHORT)
    );
    assert!(one.is_err() && other.is_err(), "{one:?}, {other:?}");
    others.iter().for_each(|&member| trouble.pause(member, false));

    on.until_it_holds(Compare::CreateRevisionNot { key: on.key("lost"), is_not: Revision(0) })
        .await;
    let (k, lost) = (on.get(0, "k").await.1.unwrap(), on.get(1, "lost").await.1.unwrap());
    assert!(k.mod_revision > first && lost.mod_revision > k.mod_revision);
    assert_ne!(k.value, lost.value, "one of them came first, and the other saw that");
}

/// What a member has carried out is never of an earlier term than what it had: rule 9.7 goes by that.
pub async fn no_member_answers_in_an_earlier_raft_term_than_it_did<
    S: Store,
    C: Clock,
    T: Trouble,
>(
    on: &Subject<'_, S, C>,
    trouble: &T,
) {
    let leader = trouble.leader().await;
    let before = terms(on).await;
    assert!(before.iter().all(|(_, term)| *term > 0), "{before:?}");
    trouble.pause(leader, true);
    while trouble.leader().await == leader {
        on.wait(PAUSE).await;
    }
    trouble.pause(leader, false);
    let after = terms(on).await;
    for (member, term) in &after {
        let of_member = before.iter().find(|(other, _)| other == member);
        let was = of_member.map_or(0, |(_, term)| *term);
        assert!(*term >= was, "member {member:x}: {term}, and {was} before");
    }
    let newest = |terms: &[(u64, u64)]| terms.iter().map(|(_, term)| *term).max();
    assert!(newest(&after) > newest(&before), "another leads: {before:?}, {after:?}");
}

/// Who answers each handle, and in which term.
async fn terms<S: Store, C: Clock>(on: &Subject<'_, S, C>) -> Vec<(u64, u64)> {
    let mut terms = Vec::new();
    for handle in 0..3 {
        // A member that was just unpaused may not know yet who leads.
        let header = loop {
            let txn = Txn { success: vec![put(on.key("term"), "")], ..Txn::default() };
            match on.try_commit(handle, txn).await {
                Ok(response) => break response.header,
                Err(_) => on.wait(PAUSE).await,
            }
        };
        terms.push((header.member_id, header.raft_term));
    }
    terms
}

/// The daemons ask for a leader: who cannot hear news is told that it cannot.
pub async fn a_watch_at_a_member_without_a_leader_ends<S: Store, C: Clock, T: Trouble>(
    on: &Subject<'_, S, C>,
    trouble: &T,
) {
    let leader = trouble.leader().await;
    let member = (leader + 1) % 3;
    on.put(member, "k", "before").await;
    let mut follower = on.follow(member, false).await;
    let others = others_than(member);
    others.iter().for_each(|&other| trouble.pause(other, true));
    let why = follower.until_it_ends(None).await;
    assert!(matches!(why, StoreError::Unavailable(_)), "{why:?}");
    let first = {
        let mut again = Box::pin(on.store(member).follow(on.prefix.clone(), false));
        on.in_time("a snapshot or an error", again.next()).await
    };
    assert!(matches!(first, Some(Err(_))), "there is no newest state now: {first:?}");
    others.iter().for_each(|&other| trouble.pause(other, false));

    trouble.leader().await;
    let after = on.put(member, "k", "after").await;
    let mut follower = on.follow_at_last(member).await;
    follower.until(after).await;
    assert_eq!(follower.state().len(), 1);
}

/// Whoever hears slowly is told everything in order, or that it cannot be. Nobody hears of a later
/// revision and not of an earlier one.
pub async fn a_watch_from_before_a_compaction_tells_all_or_ends<S: Store, C: Clock, T: Trouble>(
    on: &Subject<'_, S, C>,
    trouble: &T,
) {
    let leader = trouble.leader().await;
    let member = (leader + 1) % 3;
    let mut slow = on.follow(leader, false).await;
    let mut paused = on.follow(member, false).await;
    trouble.pause(member, true);
    let value = "x".repeat(2_000);
    let written = stream::iter(0..3_000)
        .map(|n| {
            let txn = Txn {
                success: vec![put(on.key(&format!("{}", n % 10)), &value)],
                ..Txn::default()
            };
            on.try_commit(leader, txn)
        })
        .buffer_unordered(32)
        .try_collect::<Vec<_>>();
    let written = written.await.expect("two members of three are enough");
    let last = written.iter().map(|response| response.header.revision).max().unwrap();
    trouble.compact(last).await;
    trouble.pause(member, false);

    for follower in [&mut slow, &mut paused] {
        let began = follower.snapshot.header.revision;
        let ended = follower.until_it_ends(Some(last)).await;
        let told = follower.events.len();
        let all = usize::try_from(follower.told.0 - began.0).unwrap();
        assert_eq!(
            told, all,
            "every revision up to {} was told; it ended with {ended}",
            follower.told
        );
        let fresh = on.follow_at_last(leader).await;
        assert!(fresh.snapshot.header.revision >= last);
        assert_eq!(fresh.snapshot.kvs.len(), 10, "what was compacted is history, not keys");
    }
}

/// The other two of three members.
fn others_than(member: usize) -> [usize; 2] {
    [(member + 1) % 3, (member + 2) % 3]
}

impl<S: Store, C: Clock> Subject<'_, S, C> {
    async fn wait(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now() + time).await;
    }

    /// Asks until `compare` holds, whoever answers.
    async fn until_it_holds(&self, compare: Compare) {
        let ask = async {
            for number in 0.. {
                let success = vec![turnip_core::Op::Get { key: self.key("whatever") }];
                let txn = Txn { compares: vec![compare.clone()], success, ..Txn::default() };
                if self.try_commit(number, txn).await.is_ok_and(|response| response.succeeded) {
                    return;
                }
                self.wait(PAUSE).await;
            }
        };
        self.in_time(&format!("{compare:?}"), ask).await;
    }

    /// Follows as soon as that can be.
    async fn follow_at_last(&self, number: usize) -> super::follower::Follower<'_, S, C> {
        let begin = async {
            loop {
                let mut updates = Box::pin(self.store(number).follow(self.prefix.clone(), false));
                if let Some(Ok(Update::Snapshot(snapshot))) = updates.next().await {
                    return super::follower::Follower::new(self, updates, snapshot);
                }
                self.wait(PAUSE).await;
            }
        };
        self.in_time("a snapshot", begin).await
    }
}
