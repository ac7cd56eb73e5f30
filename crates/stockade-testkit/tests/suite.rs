//! Layers that keep the contract pass, and each breach fails its own check.

mod support;

use std::time::Duration;

use stockade_testkit::{Outcome, Probe, Report, contract};
use tokio::time::sleep;
use tower::ServiceBuilder;

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

/// A limit that is never reached, and is held by hand.
async fn held(breach: Breach) -> Report {
    let build = |inner: Probe| Gate::new(inner, 16, breach);
    let suite = contract(build).hold(|gate| gate.hold()).release(|gate| gate.release());
    suite.close(|gate| gate.close()).run().await
}

#[track_caller]
fn assert_fails(report: &Report, checks: &[&str]) {
    assert_eq!(report.failed(), checks, "\n{report}");
}

#[track_caller]
fn assert_made(report: &Report, all_but: &[&str]) {
    let skipped =
        |outcome: &Outcome| matches!(outcome, Outcome::NotMade(_) | Outcome::DoesNotApply(_));
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

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_shut_and_opened_by_hand_passes() {
    let of_a_limit = ["peak_within_limit", "release_on_ready", "deadline_under_busy_inner"];
    let report = held(Breach::None).await;
    report.assert();
    assert_made(&report, &of_a_limit);
    let build = |inner: Probe| Front::new(inner, 16, Breach::None);
    let suite = contract(build).hold(|front| front.hold()).release(|front| front.release());
    let report = suite.close(|front| front.close()).run().await;
    report.assert();
    assert_made(&report, &of_a_limit);
}

#[tokio::test(start_paused = true)]
async fn a_gate_need_not_start_calls_in_order() {
    assert_fails(&held(Breach::LastComesFirst).await, &[]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_can_be_held_by_hand_as_well_passes() {
    let build = |inner: Probe| Gate::new(inner, LIMIT, Breach::None);
    let suite = contract(build).limit(LIMIT).hold(|gate| gate.hold());
    suite.release(|gate| gate.release()).close(|gate| gate.close()).run().await.assert();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_leaves_a_gate_open_that_the_stacks_share() {
    let gate = Gate::new(Probe::new(), 16, Breach::WakesItself);
    let (shut, opened) = (gate.clone(), gate.clone());
    let suite = contract(move |inner: Probe| gate.around(inner)).hold(move |_| shut.hold());
    let report = suite.release(move |_| opened.release()).run().await;
    assert_fails(&report, &["no_self_wake"]);
}

#[tokio::test(start_paused = true)]
async fn a_delay_passes_the_checks_of_waiting() {
    for nap in [Duration::from_millis(1), SECOND, 10 * SECOND] {
        let report = contract(|inner: Probe| Sleepy::new(inner, nap)).hold(|_| {}).run().await;
        report.assert();
        let others = [
            "peak_within_limit",
            "release_on_ready",
            "close_wakes_all",
            "deadline_under_busy_inner",
        ];
        assert_made(&report, &others);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_calls_before_it_waits_is_told_so() {
    let build = |inner: Probe| {
        let delayed = |call| async move {
            sleep(SECOND).await;
            call.await
        };
        ServiceBuilder::new().map_future(delayed).service(inner)
    };
    let report = contract(build).hold(|_| {}).run().await;
    let checks = [
        "all_waiters_served_fifo",
        "woken_waiter_drop_passes_on",
        "idle_waiter_no_hoard",
        "cancelled_queued_dropped",
        "no_self_wake",
    ];
    assert_fails(&report, &checks);
    let why = "of 8 calls that `.hold(..)` should make wait, 8 called the inner service at once";
    assert_eq!(*report.outcome("no_self_wake"), Outcome::Failed(why.to_owned()));
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
    calling_an_unready_clone_after_a_wait_fails:
        gate(Breach::CallsUnreadyAfterWait) => "readied_instance_called";
    calling_an_unready_clone_after_a_wait_by_hand_fails:
        held(Breach::CallsUnreadyAfterWait) => "readied_instance_called";
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
    swallowing_the_wake_of_a_dropped_waiter_by_hand_fails:
        held(Breach::SwallowsWake) => "woken_waiter_drop_passes_on";
    hoarding_the_inner_readiness_fails:
        gate(Breach::HoardsReadiness) => "idle_waiter_no_hoard";
    hoarding_the_inner_readiness_by_hand_fails:
        held(Breach::HoardsReadiness) => "idle_waiter_no_hoard";
    keeping_the_request_of_a_dropped_waiter_fails:
        gate(Breach::KeepsCancelled) => "cancelled_queued_dropped";
    keeping_the_request_of_a_dropped_waiter_by_hand_fails:
        held(Breach::KeepsCancelled) => "cancelled_queued_dropped";
    leaving_waiters_asleep_on_close_fails:
        gate(Breach::LeavesWaitersOnClose) => "close_wakes_all";
    leaving_waiters_asleep_on_close_by_hand_fails:
        held(Breach::LeavesWaitersOnClose) => "close_wakes_all";
    admitting_calls_after_close_fails:
        contract(|inner: Probe| inner).close(|_| {}).run() => "close_wakes_all";
    waking_itself_while_waiting_fails:
        gate(Breach::WakesItself) => "no_self_wake";
    waking_itself_while_waiting_by_hand_fails:
        held(Breach::WakesItself) => "no_self_wake";
    remembering_the_first_waker_only_fails:
        gate(Breach::FirstWakerOnly) => "latest_waker_woken";
    remembering_the_first_waker_only_by_hand_fails:
        held(Breach::FirstWakerOnly) => "latest_waker_woken";
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

#[tokio::test(start_paused = true)]
async fn a_check_for_which_nothing_is_declared_is_listed_as_not_made_with_what_to_declare() {
    let report = contract(|inner: Probe| inner).run().await;
    let not_made = |outcome: &Outcome| matches!(outcome, Outcome::NotMade(_));
    let lines = report.iter().filter(|(_, outcome)| not_made(outcome));
    let lines: Vec<_> = lines.map(|(check, outcome)| format!("{check}: {outcome}")).collect();
    assert_eq!(lines.len(), 9, "\n{report}");
    for line in [
        "release_on_ready: not made: no `.limit(..)` is declared",
        "idle_waiter_no_hoard: not made: neither `.limit(..)` nor `.hold(..)` is declared, so no call waits",
        "close_wakes_all: not made: no `.close(..)` is declared",
        "deadline_under_busy_inner: not made: no `.deadline(..)` is declared",
    ] {
        assert!(lines.iter().any(|listed| listed == line), "{line}\n{report}");
    }
}

#[tokio::test]
async fn a_clock_that_is_not_paused_is_told() {
    let build = |inner: Probe| Hurried::new(inner, SECOND, false);
    let report = contract(build).deadline(SECOND).run().await;
    assert_fails(&report, &["deadline_under_busy_inner"]);
    let told = "write `#[tokio::test(start_paused = true)]`";
    assert!(report.to_string().contains(told), "\n{report}");
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
