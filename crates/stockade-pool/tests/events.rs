//! What the feature `tracing` tells, and in which span.

#![cfg(feature = "tracing")]

mod common;

use stockade_core::{Error, deadline::Deadline};
use stockade_pool::{Pool, PoolBuilder};
use stockade_testkit::{Behaviour, Events, Fault, Probe, Readiness, Request, Response};
use tokio::time::sleep;
use tower::{Service, ServiceExt, service_fn};
use tracing::{Instrument, info_span};

use common::{MS, Refusal, accepted, settle};

type Probed = Pool<Request, Response, Error<Fault>>;

fn pool(probe: &Probe) -> Probed {
    let builder: PoolBuilder<_> = Pool::builder().workers(1).queue(1).name("jobs");
    builder.build(probe.clone())
}

#[track_caller]
fn one(events: &Events, parts: &[&str]) {
    let told = events.take();
    assert!(told.len() == 1 && parts.iter().all(|part| told[0].contains(part)), "{told:#?}");
}

/// Says that it runs, before and after it has slept.
fn telling() -> Pool<u64, u64, Refusal> {
    let telling = service_fn(async |n: u64| {
        tracing::info!(target: "job", n, "starts");
        sleep(MS).await;
        tracing::info!(target: "job", n, "ends");
        Ok::<_, Refusal>(n)
    });
    Pool::builder().workers(1).queue(8).build(telling)
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_answered_emits_nothing_whatever_the_answer() {
    let events = Events::of("stockade");
    let mut pool = pool(&Probe::new());
    pool.submit(Request::ready(1)).await.unwrap();
    pool.ready().await.unwrap().call(Request::new(2, Behaviour::Yield(3))).await.unwrap();
    pool.submit(Request::fail(3)).await.unwrap_err();
    let mut outcomes = pool.run((4..99).map(Request::ready));
    while outcomes.next().await.is_some() {}
    drop(outcomes);
    pool.drain(MS).await;
    assert_eq!(events.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_is_one_event() {
    let events = Events::of("stockade");
    let probe = Probe::new();
    let mut pool = pool(&probe);
    settle().await;
    let running = accepted(pool.submit(Request::wait(1))).await.unwrap();
    settle().await;
    let queued = accepted(pool.submit(Request::wait(2))).await.unwrap();
    assert_eq!(events.take(), [""; 0]);

    assert!(pool.try_submit(Request::ready(3)).is_err());
    one(&events, &[r#"DEBUG message=refused layer="pool" name="jobs" reason="queue_full""#]);
    pool.call(Request::ready(4)).await.unwrap_err();
    one(&events, &[r#"reason="queue_full""#]);
    drop(queued);
    assert_eq!(events.take(), [""; 0], "who goes away is refused nothing");

    let mut limit = Deadline::after(MS);
    let late = limit.enter(|| pool.submit(Request::ready(5)));
    sleep(2 * MS).await;
    probe.release_all();
    running.await.unwrap();
    late.await.unwrap_err();
    one(&events, &[r#"reason="deadline_expired""#]);

    pool.close();
    pool.call(Request::ready(6)).await.unwrap_err();
    one(&events, &[r#"reason="closed""#]);
    assert!(pool.try_submit(Request::ready(7)).is_err());
    one(&events, &[r#"reason="closed""#]);
    assert!(accepted(pool.submit(Request::ready(8))).await.is_err());
    one(&events, &[r#"reason="closed""#]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_event_with_its_worker_and_its_message_and_its_job_is_refused() {
    let events = Events::of("stockade");
    let pool = pool(&Probe::new());
    pool.submit(Request::new(1, Behaviour::PanicInFuture)).await.unwrap_err();
    let told = events.take();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].contains(r#"DEBUG message=panicked layer="pool" name="jobs" reason="panicked""#)
    );
    assert!(told[1].contains(r#"ERROR message=panicked layer="pool" name="jobs" worker=0 panic="#));
}

#[tokio::test(start_paused = true)]
async fn what_a_job_tells_is_in_the_span_in_which_it_was_submitted() {
    let events = Events::of("job");
    let mut pool = telling();
    let request = info_span!("request");
    let job = request.in_scope(|| pool.submit(1));
    job.await.unwrap();
    let job = info_span!("other").in_scope(|| pool.try_submit(2)).unwrap();
    pool.ready().await.unwrap();
    let call = request.in_scope(|| pool.call(3));
    job.await.unwrap();
    call.await.unwrap();
    pool.submit(4).await.unwrap();
    let mut outcomes = pool.run(5..6);
    outcomes.next().instrument(info_span!("batch")).await.unwrap();
    assert_eq!(
        events.take(),
        [
            "request: INFO message=starts n=1",
            "request: INFO message=ends n=1",
            "other: INFO message=starts n=2",
            "other: INFO message=ends n=2",
            "request: INFO message=starts n=3",
            "request: INFO message=ends n=3",
            "INFO message=starts n=4",
            "INFO message=ends n=4",
            "batch: INFO message=starts n=5",
            "batch: INFO message=ends n=5",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_pool_tells_of_a_job_is_in_its_span_too() {
    let events = Events::of("stockade");
    let probe = Probe::new();
    let pool = pool(&probe);
    let span = info_span!("request");
    let panics = Request::new(1, Behaviour::PanicInCall);
    span.in_scope(|| pool.submit(panics)).await.unwrap_err();
    probe.set_ready(Readiness::Pending);
    let job = span.in_scope(|| pool.try_submit(Request::ready(2))).unwrap();
    assert_eq!(pool.abort().len(), 1);
    job.await.unwrap_err();
    let told = events.take();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told.iter().all(|line| line.starts_with("request: ")), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_span_is_let_go_when_its_job_has_ended() {
    let events = Events::of("stockade");
    let probe = Probe::new();
    let pool = pool(&probe);
    let span = info_span!("request");
    let job = span.in_scope(|| pool.try_submit(Request::wait(1))).unwrap();
    settle().await;
    let queued = span.in_scope(|| pool.try_submit(Request::ready(2))).unwrap();
    drop(span);
    assert_eq!(events.open_spans(), 1);
    drop(queued);
    probe.release_all();
    job.await.unwrap();
    assert_eq!(events.open_spans(), 0);
}
