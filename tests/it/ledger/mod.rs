//! The ledger: one suite for the one in memory, SQLite and PostgreSQL, and what only one of them can suffer.
//!
//! `suite` and `crowd` say what every ledger does, `peer` gives them one; `foreign` has what is no ledger. Nothing
//! here ever asserts how a database is laid out inside.

mod crowd;
mod foreign;
mod peer;
mod postgres;
mod sqlite;
mod suite;

/// Every case on every ledger, each with a ledger of its own.
macro_rules! on_every_ledger {
    ($($part:ident :: $case:ident),+ $(,)?) => {
        mod in_memory { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() { super::$part::$case(&super::peer::World::memory()).await; }
        )+ }
        mod on_sqlite { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() { super::$part::$case(&super::peer::World::sqlite()).await; }
        )+ }
        mod on_postgres { $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() { super::$part::$case(&super::peer::World::postgres().await).await; }
        )+ }
    };
}

on_every_ledger!(
    suite::a_claim_finds_what_was_left,
    suite::a_new_owner_takes_over_and_the_late_one_changes_nothing,
    suite::the_first_answer_stays,
    suite::unfinished_events_are_found_by_their_partition,
    suite::an_acknowledgement_is_noted_once,
    suite::any_text_is_an_identity,
    suite::any_bytes_come_back,
    suite::published_events_are_forgotten_by_age,
    suite::the_story_says_who_did_what,
    crowd::deeds_on_one_key_keep_their_order,
    crowd::ten_thousand_deeds_at_once,
    crowd::whoever_stops_waiting_harms_nobody,
    crowd::two_owners_at_once_agree,
    crowd::every_ledger_replies_as_the_one_in_memory,
);
