//! Layers that keep the contract pass, and each breach fails its own check.

mod support;

use std::time::Duration;

use stockade_testkit::{Outcome, Probe, Report, contract};
use support::{Breach, Front, Gate, Hurried, LateCounter, Masking, Sleepy};

const LIMIT: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

async fn gate(breach: Breach) -> Report {
    let build = |inner: Probe| Gate::new(inner, LIMIT, breach);
    contract(build).limit(LIMIT).close(|gate| gate.close()).run().await
}

async fn front(breach: Breach) -> Report {
    let build = |inner: Probe| Front::new(inner, LIMIT, breach);
    contract(build).limit(LIMIT).close(|front| front.close()).run().await
}

#[track_caller]
fn assert_fails(report: &Report, checks: &[&str]) {
    assert_eq!(report.failed(), checks, "\n{report}");
}

#[track_caller]
fn assert_made(report: &Report, all_but: &[&str]) {
    let skipped = |outcome: &Outcome| matches!(outcome, Outcome::DoesNotApply(_));
    let skipped: Vec<_> = report.iter().filter(|(_, outcome)| skipped(outcome)).collect();
    let names: Vec<_> = skipped.iter().map(|(check, _)| *check).collect();
    assert_eq!(names, all_but, "\n{report}");
}

// === Those who keep the contract ===

#[tokio::test(start_paused = true)]
async fn the_probe_itself_passes_the_checks_that_apply_to_it() {
    let report = contract(|inner: Probe| inner).run().await;
    report.assert();
    assert_eq!(report.passed().len(), 11, "\n{report}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_waits_in_the_future_passes() {
    let report = gate(Breach::None).await;
    report.assert();
    assert_made(&report, &["deadline_under_busy_inner"]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_waits_in_poll_ready_passes() {
    let report = front(Breach::None).await;
    report.assert();
    assert_made(&report, &["deadline_under_busy_inner"]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_one_passes() {
    let build = |inner: Probe| Gate::new(inner, 1, Breach::None);
    contract(build).limit(1).close(|gate| gate.close()).run().await.assert();
    let build = |inner: Probe| Front::new(inner, 1, Breach::None);
    contract(build).limit(1).close(|front| front.close()).run().await.assert();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_whose_timer_has_a_budget_of_its_own_passes() {
    let build = |inner: Probe| Hurried::new(inner, SECOND, false);
    let report = contract(build).deadline(SECOND).run().await;
    report.assert();
    assert_eq!(*report.outcome("deadline_under_busy_inner"), Outcome::Passed);
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_sleeps_before_it_calls_passes_the_checks_of_what_it_does_then() {
    for nap in [Duration::from_millis(1), SECOND] {
        let report = contract(|inner: Probe| Sleepy::new(inner, nap)).run().await;
        assert_fails(&report, &[]);
        assert_eq!(*report.outcome("latest_waker_woken"), Outcome::Passed);
    }
}

// === Each breach, and the check that it fails ===

macro_rules! each_fails_its_check {
    ($($sentence:ident: $run:expr => $check:literal;)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $sentence() {
            assert_fails(&$run.await, &[$check]);
        }
    )+};
}

each_fails_its_check! {
    calling_an_unready_clone_fails:
        gate(Breach::CallsUnreadyClone) => "readied_instance_called";
    taking_a_permit_at_each_poll_fails:
        front(Breach::TakesPermitEachPoll) => "ready_idempotent";
    losing_the_permit_of_an_instance_that_is_never_called_fails:
        front(Breach::LeaksUncalled) => "ready_clone_drop_releases";
    cloning_the_flag_that_says_ready_fails:
        gate(Breach::ClonesReadyFlag) => "clone_starts_unready";
    cloning_a_permit_fails:
        front(Breach::ClonesPermit) => "clone_starts_unready";
    panicking_after_a_readiness_error_fails:
        gate(Breach::PanicsAfterReadinessError) => "readiness_error_sticky";
    never_asking_again_fails:
        contract(Masking::new).run() => "masked_inner_driven";
    counting_without_reserving_fails:
        contract(|inner: Probe| LateCounter::new(inner, LIMIT)).limit(LIMIT).run()
        => "peak_within_limit";
    losing_the_permit_of_a_dropped_call_fails:
        gate(Breach::ForgetsDropped) => "future_drop_releases";
    keeping_the_permit_in_a_finished_future_fails:
        gate(Breach::KeepsPermitInFinished) => "release_on_ready";
    serving_the_last_first_fails:
        gate(Breach::LastComesFirst) => "all_waiters_served_fifo";
    swallowing_the_wake_of_a_dropped_waiter_fails:
        gate(Breach::SwallowsWake) => "woken_waiter_drop_passes_on";
    hoarding_the_inner_readiness_fails:
        gate(Breach::HoardsReadiness) => "idle_waiter_no_hoard";
    keeping_the_request_of_a_dropped_waiter_fails:
        gate(Breach::KeepsCancelled) => "cancelled_queued_dropped";
    leaving_waiters_asleep_on_close_fails:
        gate(Breach::LeavesWaitersOnClose) => "close_wakes_all";
    waking_itself_while_waiting_fails:
        gate(Breach::WakesItself) => "no_self_wake";
    remembering_the_first_waker_only_fails:
        gate(Breach::FirstWakerOnly) => "latest_waker_woken";
    reading_an_exhausted_budget_as_full_fails:
        gate(Breach::CoopIsFull) => "coop_neutral";
    letting_the_timer_starve_fails:
        contract(|inner: Probe| Hurried::new(inner, SECOND, true)).deadline(SECOND).run()
        => "deadline_under_busy_inner";
    poisoning_a_lock_fails:
        gate(Breach::Poisons) => "panic_contained";
    rewriting_errors_fails:
        gate(Breach::RewritesErrors) => "error_lossless";
}

// === The runner ===

#[tokio::test(start_paused = true)]
async fn a_stack_that_hangs_is_reported_as_hanging() {
    let report = gate(Breach::NeverAnswers).await;
    let Outcome::Failed(why) = report.outcome("error_lossless") else { panic!("\n{report}") };
    assert!(why.contains("did not end within 300s"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_is_reported_with_the_message() {
    let build = |_: Probe| -> Probe { panic!("cannot be built") };
    let report = contract(build).run().await;
    let failed = Outcome::Failed("the check panicked: cannot be built".to_owned());
    assert_eq!(*report.outcome("error_lossless"), failed);
    assert!(report.passed().is_empty(), "\n{report}");
}

#[tokio::test(start_paused = true)]
async fn an_excepted_check_is_listed_with_its_reason_and_not_as_passed() {
    let report = contract(|inner: Probe| inner).except("coop_neutral", "no budget").run().await;
    let excepted = Outcome::DoesNotApply("no budget".to_owned());
    assert_eq!(*report.outcome("coop_neutral"), excepted);
    assert!(!report.passed().contains(&"coop_neutral"));
    assert!(report.to_string().contains("coop_neutral: does not apply: no budget\n"));
}

#[test]
#[should_panic(expected = "there is no check `typo`, the checks are: readied_instance_called, ")]
fn an_unknown_check_cannot_be_excepted() {
    let _ = contract(|inner: Probe| inner).except("typo", "");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "error_lossless: FAILED: request 1 failed inside")]
async fn assert_panics_with_the_report() {
    gate(Breach::RewritesErrors).await.assert();
}
