//! The ledgers: one suite for memory, SQLite and PostgreSQL (direct and behind PgBouncer), and the failures of each database.
//!
//! `suite`, `parked`, `due`, `counts`, `identities`, `versions`, `operator` and `crowd` test what every ledger does, on a ledger from `peer`; `foreign` has files that
//! are no ledger, `locked` rows of PostgreSQL that others have locked.

mod counts;
mod crowd;
mod due;
mod foreign;
mod identities;
mod locked;
mod operator;
mod parked;
mod peer;
mod postgres;
mod sqlite;
mod suite;
mod versions;

/// Every case on every ledger, each with a ledger of its own.
macro_rules! on_every_ledger {
    ($($part:ident :: $case:ident),+ $(,)?) => {
        mod in_memory { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() { super::$part::$case(&super::peer::TestLedger::memory()).await; }
        )+ }
        mod on_sqlite { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() { super::$part::$case(&super::peer::TestLedger::sqlite()).await; }
        )+ }
        mod behind_pgbouncer { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() { super::$part::$case(&super::peer::TestLedger::pooled().await).await; }
        )+ }
        mod on_postgres { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() { super::$part::$case(&super::peer::TestLedger::postgres().await).await; }
        )+ }
    };
}

on_every_ledger!(
    suite::a_claim_returns_what_the_last_one_left,
    suite::a_fenced_owner_changes_nothing,
    suite::the_first_answer_wins,
    suite::recovery_returns_the_unfinished_events_of_its_partitions,
    suite::an_acknowledgement_is_stored_once,
    suite::any_text_can_be_an_id,
    suite::any_bytes_survive_a_round_trip,
    suite::published_events_are_pruned_by_age,
    suite::what_was_pruned_is_known_as_forgotten,
    identities::events_are_found_by_their_records_whatever_became_of_them,
    suite::the_history_says_who_did_what,
    parked::a_parked_event_needs_no_other_delivery,
    due::due_events_come_in_their_order,
    due::woken_events_that_are_too_early_hide_no_other,
    parked::an_event_that_is_parked_no_more_is_not_due,
    parked::recovery_finds_what_parked_events_wait_for_and_leaves_them,
    counts::parked_events_are_counted_by_what_they_wait_for,
    counts::parked_events_are_added_up_by_route_and_problem,
    parked::a_waiting_room_is_read_in_order,
    parked::an_answer_wakes_the_next_event_of_its_session,
    parked::a_refused_answer_wakes_nothing,
    parked::a_session_is_woken_in_its_order,
    parked::many_answers_wake_their_sessions_at_once,
    parked::a_session_is_parked_while_an_earlier_event_is,
    parked::an_answer_that_is_not_published_is_found_by_those_behind_it,
    versions::an_entry_that_has_changed_since_it_was_read_is_not_claimed,
    versions::a_woken_entry_is_still_in_its_version,
    versions::a_claimed_event_that_nobody_works_on_is_ahead,
    versions::of_two_instances_that_read_an_event_one_starts_it,
    operator::a_retried_event_is_due_and_one_that_is_given_up_is_overdue,
    operator::an_event_in_work_stays_its_owners_after_it_was_given_up,
    operator::an_answer_ends_the_parking_of_an_event_that_is_given_up,
    operator::an_event_that_is_given_up_shows_whether_it_was_woken,
    operator::every_entry_is_listed_once_whatever_its_state,
    crowd::commands_on_one_key_keep_their_order,
    crowd::ten_thousand_commands_at_once_are_all_stored,
    crowd::an_abandoned_command_affects_no_other,
    crowd::of_two_concurrent_owners_one_wins_each_event,
    crowd::every_ledger_behaves_like_the_one_in_memory,
);
