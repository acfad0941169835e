//! What the protocol stands on, as a contract that every [`Store`] must keep.
//!
//! The same clauses run against real etcd and against the simulator's model of it, so that the
//! model cannot drift from the real thing. A clause panics when it is broken. The suite spawns
//! nothing and knows no executor: it only polls the store's and the clock's futures.
//!
//! ```text
//! for clause in CLAUSES {
//!     store_contract::check(clause, &Subject { stores: &handles, clock: &clock, prefix, .. }).await;
//! }
//! ```

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use turnip_core::{
    Compare, Header, KeyValue, OPS_PER_TXN_MAX, Op, Revision, StoreError, Txn, TxnResponse,
};

use crate::seams::{Clock, Store};

mod follower;
mod following;
mod transactions;
mod troubles;

/// The stores under test. The cluster is healthy, and nobody else writes under the prefix.
pub struct Subject<'a, S, C> {
    /// Handles of one and the same cluster: at least two, preferably at different members. At
    /// least one of them knows a local member.
    pub stores: &'a [S],
    /// The time in which the clauses wait.
    pub clock: &'a C,
    /// Where the clauses may write: fresh, and ending with a slash. Each makes its own below it.
    pub prefix: String,
    /// How long a commit, and whatever else is waited for, may take: generous, for it is only
    /// there so that a broken store fails instead of hanging.
    pub patience: Duration,
}

/// What can be done to the cluster under the stores: three members, of which handle number `n`
/// prefers member `n`.
pub trait Trouble {
    /// The member that leads, as soon as there is one.
    fn leader(&self) -> impl Future<Output = usize>;

    /// Stops a member's process, or lets it go on. Its connections stay.
    fn pause(&self, member: usize, paused: bool);

    /// The store forgets what happened before `revision`.
    fn compact(&self, revision: Revision) -> impl Future<Output = ()>;
}

macro_rules! troubled_clauses {
    ($($clause:ident)+) => {
        /// The names of the clauses about a cluster in trouble.
        pub const TROUBLED: &[&str] = &[$(stringify!($clause),)+];

        /// Runs one of the [`TROUBLED`] clauses below a prefix of its own. Afterwards the cluster
        /// is healthy again; what the handles remember is what they have met.
        ///
        /// # Panics
        /// When the store breaks the clause, or when there is none of that name.
        pub async fn check_troubled<S: Store, C: Clock, T: Trouble>(
            clause: &str,
            subject: &Subject<'_, S, C>,
            trouble: &T,
        ) {
            assert_eq!(subject.stores.len(), 3, "a handle at each of three members");
            let subject = subject.below(clause);
            match clause {
                $(stringify!($clause) => troubles::$clause(&subject, trouble).await,)+
                other => panic!("the contract has no clause {other:?} about troubles"),
            }
        }
    };
}

troubled_clauses! {
    what_its_client_has_given_up_lands_later
    what_lands_later_compares_what_is_there_then
    a_watch_at_a_member_without_a_leader_ends
    a_watch_from_before_a_compaction_tells_all_or_ends
    no_member_answers_in_an_earlier_raft_term_than_it_did
}

macro_rules! clauses {
    ($($module:ident: $($clause:ident)+;)+) => {
        /// The names of all clauses.
        pub const CLAUSES: &[&str] = &[$($(stringify!($clause),)+)+];

        /// Runs one of the [`CLAUSES`] below a prefix of its own.
        ///
        /// # Panics
        /// When the store breaks the clause, or when there is none of that name.
        pub async fn check<S: Store, C: Clock>(clause: &str, subject: &Subject<'_, S, C>) {
            assert!(subject.stores.len() >= 2, "the contract is about two handles at least");
            let subject = subject.below(clause);
            match clause {
                $($(stringify!($clause) => $module::$clause(&subject).await,)+)+
                other => panic!("the contract has no clause {other:?}"),
            }
        }
    };
}

clauses! {
    transactions:
        an_absent_key_has_both_revisions_zero
        a_key_is_compared_by_its_mod_revision
        a_key_is_compared_by_its_create_revision
        a_transaction_without_compares_succeeds
        a_transaction_without_operations_is_refused
        all_compares_must_hold
        a_transaction_is_done_wholly_or_not_at_all
        a_failed_transaction_names_the_revision_of_what_it_read
        what_a_failed_transaction_read_was_so_at_its_revision
        gets_answer_in_their_order_for_the_branch_that_ran
        a_get_sees_the_puts_before_it_in_its_transaction
        a_put_takes_place_at_the_revision_of_its_answer
        create_revision_survives_puts_and_changes_after_a_deletion
        writes_of_one_transaction_share_a_revision
        deleting_an_absent_key_makes_no_revision
        reading_makes_no_revision
        revisions_never_go_back_from_handle_to_handle
        every_answer_names_the_same_cluster
        a_handle_reads_what_another_has_written
        of_many_claims_of_one_key_exactly_one_succeeds
        values_are_kept_byte_for_byte
        the_limit_of_operations_is_allowed_and_one_more_is_refused
        writing_a_key_twice_in_one_branch_is_refused
        a_commit_answers_within_its_timeout
        of_the_members_that_answer_at_most_one_leads_in_a_term;
    following:
        following_begins_with_all_keys_under_the_prefix
        a_prefix_without_keys_has_an_empty_snapshot
        a_put_comes_as_an_event_with_its_place_in_history
        a_deletion_comes_as_an_event_with_its_revision
        a_transaction_that_fails_brings_no_event
        a_transaction_is_told_whole_before_its_revision_is_claimed
        keys_beside_the_prefix_are_not_told
        concurrent_writes_come_in_order_and_without_a_hole
        two_followers_see_the_same_order
        snapshot_and_events_together_are_the_state
        following_elsewhere_tells_the_same
        a_key_by_itself_is_told_as_it_is_and_whenever_it_changes
        a_key_is_told_whole_however_long_its_name_is
        several_keys_are_told_each_for_itself;
}

impl<S: Store, C: Clock> Subject<'_, S, C> {
    /// The same with a prefix of its own for `clause`.
    fn below(&self, clause: &str) -> Self {
        Subject {
            prefix: format!("{}{clause}/", self.prefix),
            stores: self.stores,
            clock: self.clock,
            patience: self.patience,
        }
    }

    /// The key `name` below the clause's prefix.
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Some handle; two that differ for numbers that differ by one.
    fn store(&self, number: usize) -> &S {
        &self.stores[number % self.stores.len()]
    }

    async fn try_commit(&self, number: usize, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.store(number).commit(txn, self.patience).await
    }

    async fn commit(&self, number: usize, txn: Txn) -> TxnResponse {
        match self.try_commit(number, txn.clone()).await {
            Ok(response) => response,
            Err(error) => panic!("{error}; the transaction was {txn:?}"),
        }
    }

    /// Does `ops` unconditionally.
    async fn apply(&self, number: usize, ops: Vec<Op>) -> TxnResponse {
        self.commit(number, Txn { success: ops, ..Txn::default() }).await
    }

    /// Puts a value; the revision is that of the put.
    async fn put(&self, number: usize, name: &str, value: &str) -> Revision {
        self.apply(number, vec![put(self.key(name), value)]).await.header.revision
    }

    async fn delete(&self, number: usize, name: &str) -> Revision {
        self.apply(number, vec![Op::Delete { key: self.key(name) }]).await.header.revision
    }

    async fn get(&self, number: usize, name: &str) -> (Header, Option<KeyValue>) {
        let mut response = self.apply(number, vec![Op::Get { key: self.key(name) }]).await;
        assert_eq!(response.gets.len(), 1, "one get, one answer: {response:?}");
        (response.header, response.gets.remove(0))
    }

    /// Whether `compare` holds now.
    async fn holds(&self, number: usize, compare: Compare) -> bool {
        self.hold(number, vec![compare]).await
    }

    /// Whether all of `compares` hold now.
    async fn hold(&self, number: usize, compares: Vec<Compare>) -> bool {
        let success = vec![Op::Get { key: self.key("whatever") }];
        let txn = Txn { compares, success, ..Txn::default() };
        self.commit(number, txn).await.succeeded
    }

    /// Waits for `future`, but not for ever.
    async fn in_time<F: Future>(&self, what: &str, future: F) -> F::Output {
        let deadline = self.clock.now() + self.patience;
        match select(pin!(future), pin!(self.clock.sleep_until(deadline))).await {
            Either::Left((output, _)) => output,
            Either::Right(_) => panic!("{what} did not come within {:?}", self.patience),
        }
    }
}

fn put(key: String, value: &str) -> Op {
    Op::Put { key, value: value.as_bytes().to_vec() }
}

/// As many operations or compares as are allowed, and one more.
const TOO_MANY: usize = OPS_PER_TXN_MAX + 1;
