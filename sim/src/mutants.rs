//! Mutants that no simulated cluster shows within reason, and the tests of core that catch each.
//!
//! They break what the kernel adapter does within a few microseconds, or where another rule stands
//! behind it; a cluster shows them only by a coincidence of stalls. core's tests drive the adapter alone,
//! against tables of a kernel, or a node in a store of their own, and set the same mutants.

use turnip_core::Mutant;

/// A test of core, by file and name.
pub struct CoreTest {
    /// The file, below `core/`.
    pub file: &'static str,
    /// The test's name.
    pub name: &'static str,
    #[cfg(test)]
    source: &'static str,
}

macro_rules! core_test {
    ($file:literal, $name:literal) => {
        Some(CoreTest {
            file: $file,
            name: $name,
            #[cfg(test)]
            source: include_str!(concat!("../../core/", $file)),
        })
    };
}

/// The test of core that catches a mutant which clusters do not show.
pub fn core_test(mutant: Mutant) -> Option<CoreTest> {
    let of_both = of_records(mutant).or_else(|| of_order(mutant)).or_else(|| of_reload(mutant));
    of_both.or_else(|| of_health(mutant)).or_else(|| of_hooks(mutant))
}

/// Of a configuration that changes while a daemon runs.
fn of_reload(mutant: Mutant) -> Option<CoreTest> {
    match mutant {
        // It costs a moment here and there, and no rule of the judge knows what would be untouched.
        Mutant::UnchangedTouched => {
            core_test!("tests/reload.rs", "what_did_not_change_is_not_touched")
        }
        // Two hosts must be told of one address within a watch's delay.
        Mutant::AddedAtOnce => core_test!(
            "tests/reload.rs",
            "what_is_new_is_held_only_when_all_is_known_that_others_published_before"
        ),
        _ => None,
    }
}

/// Of what another store, or a stranger, says in records.
fn of_records(mutant: Mutant) -> Option<CoreTest> {
    match mutant {
        // One sign of another store stands behind the other where a whole cluster is restored.
        Mutant::EarlierWriteIgnored => core_test!(
            "tests/another_store.rs",
            "a_key_at_an_earlier_write_is_noticed_however_high_the_revision_is"
        ),
        Mutant::CountsUntold => core_test!(
            "tests/another_store.rs",
            "what_was_had_before_is_not_assumed_when_a_late_renewal_lands_while_news_are_stale"
        ),
        Mutant::OwnAbsenceIgnored => core_test!(
            "tests/another_store.rs",
            "that_the_own_session_is_gone_before_anybody_may_expire_it_is_noticed"
        ),
        Mutant::EarlierTermIgnored => core_test!(
            "tests/another_store.rs",
            "a_member_in_an_earlier_raft_term_is_noticed_when_all_that_is_known_fits"
        ),
        Mutant::UnawareAcknowledged => core_test!(
            "tests/another_store.rs",
            "who_does_not_know_that_the_store_changed_is_not_acknowledged_though_its_session_was_written_since"
        ),
        Mutant::OldTermAlarms => core_test!(
            "tests/another_store.rs",
            "an_answer_that_was_under_way_when_a_later_term_was_learnt_is_of_the_same_store"
        ),
        Mutant::RecreationIgnored => core_test!(
            "tests/another_store.rs",
            "a_key_that_came_to_be_anew_without_having_been_deleted_is_noticed"
        ),
        Mutant::OtherContentIgnored => core_test!(
            "tests/another_store.rs",
            "a_write_with_another_value_than_it_had_is_noticed"
        ),
        Mutant::PresenceIgnored => core_test!(
            "tests/another_store.rs",
            "a_key_that_is_told_absent_when_it_was_there_is_noticed"
        ),
        Mutant::QuietByOwnLease => core_test!(
            "tests/another_store.rs",
            "who_has_noticed_waits_for_the_longest_lease_that_it_knew"
        ),
        // Nobody but the operator of a test writes such records.
        Mutant::LeaseUnlimited => core_test!(
            "src/node/peers.rs",
            "a_lease_beyond_what_can_be_configured_is_waited_for_no_longer_than_the_longest_that_can"
        ),
        Mutant::FirstBeforeSession => core_test!(
            "tests/limits.rs",
            "a_stranger_that_says_it_has_always_had_an_address_takes_it_from_nobody"
        ),
        _ => None,
    }
}

/// Of checks: a cluster shows little of what each attempt makes of one.
fn of_health(mutant: Mutant) -> Option<CoreTest> {
    match mutant {
        Mutant::OneAttemptIsEnough => core_test!(
            "tests/health.rs",
            "one_attempt_that_fails_moves_nothing_where_more_are_asked_for"
        ),
        Mutant::UntriedTakenForUp => core_test!(
            "tests/health.rs",
            "nothing_is_taken_before_a_check_was_tried_and_what_an_earlier_process_left_stays"
        ),
        Mutant::HoldDownIgnored => core_test!(
            "tests/health.rs",
            "a_check_that_toggles_every_second_moves_a_vip_a_few_times_and_then_no_more"
        ),
        Mutant::FailingLeftForFailing => core_test!(
            "tests/health.rs",
            "who_fails_and_keeps_what_it_has_is_noticed_when_it_gives_it_up"
        ),
        Mutant::WeightIgnored => core_test!(
            "tests/health.rs",
            "a_weight_is_taken_from_the_priority_while_its_check_is_down"
        ),
        _ => None,
    }
}

/// Of the order in which things happen.
fn of_order(mutant: Mutant) -> Option<CoreTest> {
    match mutant {
        Mutant::ExpiredGateMoved | Mutant::RefreshReopensGate => {
            core_test!(
                "src/adapter/tests/fence.rs",
                "a_refresh_never_moves_a_gate_whose_time_is_over"
            )
        }
        Mutant::EarlierHeldRevived | Mutant::LeftOutUntold => core_test!(
            "src/adapter/tests/fence.rs",
            "a_gate_opens_anew_for_exactly_what_is_assumed_and_the_rest_is_told_with_the_next_refresh"
        ),
        Mutant::LateNotUndone => {
            core_test!("src/adapter/tests/lifetimes.rs", "what_came_too_late_is_taken_away_again")
        }
        Mutant::LifetimeNotLookedAtAgain => core_test!(
            "src/adapter/tests/lifetimes.rs",
            "by_lifetimes_what_the_kernel_read_too_late_is_set_again_or_taken_away"
        ),
        Mutant::WithdrawalCancelsNothing => core_test!(
            "src/adapter/tests/order.rs",
            "a_withdrawal_goes_before_what_waits_and_takes_its_addresses_out_of_that"
        ),
        Mutant::RenewedOutlivesSession => {
            core_test!(
                "src/adapter/tests/order.rs",
                "what_another_session_was_renewed_to_counts_no_longer"
            )
        }
        Mutant::FailedLetPass => {
            core_test!("src/adapter/tests/fence.rs", "what_could_not_be_put_there_is_not_let_pass")
        }
        Mutant::WithdrawalWaits => {
            core_test!(
                "src/adapter/tests/order.rs",
                "a_withdrawal_comes_between_two_chunks_of_what_is_under_way"
            )
        }
        Mutant::AddressBeforeGate | Mutant::DeleteBeforeShut => {
            core_test!(
                "src/adapter/tests/fence.rs",
                "the_gate_comes_before_the_address_and_goes_before_it"
            )
        }
        Mutant::SilentTakenForHeld => {
            core_test!(
                "src/adapter/tests/fence.rs",
                "what_is_there_but_silent_is_not_taken_for_held"
            )
        }
        Mutant::ContestEndsEarly => core_test!(
            "tests/hearing_from_review.rs",
            "who_waits_for_a_name_waits_anew_from_what_it_hears_while_its_expiry_is_under_way"
        ),
        // These take a store that was replaced, a rare order, or a machine of the same name.
        Mutant::AcknowledgeWhenClosing => core_test!(
            "tests/hearing_from_review.rs",
            "who_may_have_deleted_its_session_acknowledges_nobody"
        ),
        Mutant::SilentFromBeforeResuming => core_test!(
            "tests/hearing_from_review.rs",
            "who_resumes_a_session_counts_no_silence_from_before_it_wrote_it"
        ),
        Mutant::OtherHistoryAcknowledged => core_test!(
            "tests/hearing_from_review.rs",
            "who_was_written_in_another_history_is_not_acknowledged"
        ),
        // Nobody is given two owners by these: what is lost comes back later.
        Mutant::UnhearingAcknowledged => core_test!(
            "tests/hearing.rs",
            "who_hears_nothing_is_missed_a_little_later_than_who_says_nothing"
        ),
        Mutant::UnheldTakenForHeld => core_test!(
            "tests/hearing_from_review.rs",
            "a_host_that_does_not_hold_what_is_its_own_is_not_acknowledged_for_long"
        ),
        // Nobody sends a heartbeat where no session is known, so nobody is acknowledged there.
        Mutant::UnknownSessionAcknowledged => core_test!(
            "tests/hearing.rs",
            "a_session_that_the_view_does_not_show_is_not_acknowledged"
        ),
        // The lists of its own attempts are demanded, too, and stand in for what it does not know.
        Mutant::ExtendBeforeWrite => core_test!(
            "tests/hearing.rs",
            "a_process_that_resumes_a_session_holds_by_consent_only_after_its_own_write"
        ),
        _ => None,
    }
}

/// Of hooks: these cost time, or a wish, and nobody is given two owners by them.
fn of_hooks(mutant: Mutant) -> Option<CoreTest> {
    match mutant {
        Mutant::AssumeWithoutLook => core_test!(
            "tests/hooks.rs",
            "what_has_come_to_be_while_before_assume_ran_is_looked_at_when_it_has_ended"
        ),
        Mutant::HookFailureIgnored => core_test!(
            "tests/hooks.rs",
            "a_host_whose_before_assume_fails_passes_the_vip_on_unless_failures_are_ignored"
        ),
        Mutant::MoveBesideHook => core_test!(
            "tests/hooks.rs",
            "a_planned_move_waits_for_before_release_and_no_longer_than_it_may_take"
        ),
        Mutant::ForcedWaitsForHook | Mutant::HookOutlivesRelease => core_test!(
            "tests/hooks.rs",
            "what_must_go_at_once_waits_for_no_hook_and_ends_the_one_that_runs"
        ),
        Mutant::SupersededRuns => core_test!(
            "tests/hooks.rs",
            "what_has_not_begun_when_something_else_is_decided_is_never_run"
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_core_that_are_named_are_there_and_break_the_rule() {
        for &mutant in Mutant::ALL {
            let Some(test) = core_test(mutant) else { continue };
            let begin = test.source.find(&format!("fn {}(", test.name));
            let body = &test.source[begin.unwrap_or_else(|| panic!("{} is gone", test.name))..];
            let body = body.split("\n}\n").next().unwrap_or_default();
            assert!(body.contains(&format!("Mutant::{mutant:?}")), "{}: {mutant:?}", test.name);
        }
    }
}
