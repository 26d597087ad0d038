//! The store in memory passes the suite, and the suite catches stores that do not keep the contract.

mod bugs;
mod memory;

use std::sync::Arc;

use bugs::{Bug, Buggy};
use memory::Memory;
use unified_scheduler_conformance::{Report, run_all};

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_memory_conforms() {
    run_all(&Memory::default()).await.assert_passed();
}

/// The report on a store that has this bug, and is otherwise right.
async fn report_on(wrap: memory::Wrap) -> Report {
    run_all(&Memory::wrapped(wrap)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_fencing_is_caught() {
    let report = report_on(|store| Arc::new(Buggy { store, bug: Bug::NoFence })).await;
    assert!(report.has_failed("fencing::a_zombie_can_not_complete_after_it_was_reaped"), "{report:?}");
    assert!(report.has_failed("races::a_completion_is_applied_once_by_many"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_rounds_times_is_caught() {
    let report = report_on(|store| Arc::new(Buggy { store, bug: Bug::RoundsTimes })).await;
    assert!(report.has_failed("jobs::due_times_come_back_to_the_millisecond"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_versions_is_caught() {
    let report = report_on(|store| Arc::new(Buggy { store, bug: Bug::LastWriteWins })).await;
    assert!(report.has_failed("jobs::a_stale_edit_changes_nothing_and_shows_the_job"), "{report:?}");
    assert!(report.has_failed("races::one_of_many_edits_from_the_same_version_wins"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_keys_is_caught() {
    let report = report_on(|store| Arc::new(Buggy { store, bug: Bug::ForgetsKeys })).await;
    assert!(report.has_failed("triggers::a_key_answers_the_execution_it_made_also_after_its_end"));
    assert!(report.has_failed("races::one_key_makes_one_execution"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_more_than_it_was_asked_for_is_caught() {
    let report = report_on(|store| Arc::new(Buggy { store, bug: Bug::NoLimit })).await;
    assert!(report.has_failed("claims::a_claim_takes_no_more_than_its_limit_and_says_that_there_is_more"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_panics_fails_that_case_alone() {
    let report = report_on(|store| Arc::new(Buggy { store, bug: Bug::Panics })).await;
    assert!(report.has_failed("history::counts_follow_every_change"), "{report:?}");
    assert!(!report.has_failed("jobs::a_job_comes_back_as_it_was_stored"), "{report:?}");
}
