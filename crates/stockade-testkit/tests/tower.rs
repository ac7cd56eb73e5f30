//! Which of tower's own layers fail which checks.

use std::{future::Ready, time::Duration};

use stockade_testkit::{Probe, Report, Request, Response, contract};
use tower::{
    BoxError,
    buffer::Buffer,
    filter::Filter,
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    load_shed::LoadShed,
    retry::{Policy, Retry},
    spawn_ready::SpawnReady,
    timeout::Timeout,
};

const LIMIT: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// Repeats nothing.
#[derive(Clone)]
struct Never;

impl<E> Policy<Request, Response, E> for Never {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request, _: &mut Result<Response, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }
}

/// What fails, by the name of the layer.
async fn record() -> Vec<(&'static str, Report)> {
    let plenty = || Rate::new(1_000_000, SECOND);
    vec![
        ("ConcurrencyLimit", {
            contract(|inner: Probe| ConcurrencyLimit::new(inner, LIMIT)).limit(LIMIT).run().await
        }),
        ("Timeout", {
            contract(|inner: Probe| Timeout::new(inner, SECOND)).deadline(SECOND).run().await
        }),
        ("Retry", contract(|inner: Probe| Retry::new(Never, inner)).run().await),
        ("LoadShed", contract(|inner: Probe| LoadShed::new(inner)).run().await),
        (
            "Filter",
            contract(|inner: Probe| Filter::new(inner, Ok::<Request, BoxError>)).run().await,
        ),
        ("Buffer", contract(|inner: Probe| Buffer::new(inner, 16)).run().await),
        // The next two cannot be cloned by themselves.
        ("SpawnReady in a Buffer", {
            contract(|inner: Probe| Buffer::new(SpawnReady::new(inner), 16)).run().await
        }),
        ("RateLimit in a Buffer", {
            contract(move |inner: Probe| Buffer::new(RateLimit::new(inner, plenty()), 16))
                .run()
                .await
        }),
        ("ConcurrencyLimit in a Buffer", {
            contract(|inner: Probe| Buffer::new(ConcurrencyLimit::new(inner, LIMIT), 16))
                .limit(LIMIT)
                .run()
                .await
        }),
        ("Buffer in a LoadShed", {
            contract(|inner: Probe| LoadShed::new(Buffer::new(inner, 16))).run().await
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn towers_layers_fail_the_recorded_checks() {
    let record = record().await;
    let failed: Vec<_> = record.iter().map(|(layer, report)| (*layer, report.failed())).collect();
    let expected: [(&str, &[&str]); 10] = [
        // It keeps its permit in a finished future.
        ("ConcurrencyLimit", &["release_on_ready"]),
        // Its timer has no budget when the inner future has eaten it.
        ("Timeout", &["deadline_under_busy_inner"]),
        ("Retry", &[]),
        ("LoadShed", &[]),
        ("Filter", &[]),
        // Its worker dies of one panic, and of one error of readiness.
        ("Buffer", &["panic_contained"]),
        ("SpawnReady in a Buffer", &["panic_contained"]),
        ("RateLimit in a Buffer", &["panic_contained"]),
        // Who is cancelled in its queue stays there until it is at the head.
        (
            "ConcurrencyLimit in a Buffer",
            &[
                "readiness_error_sticky",
                "release_on_ready",
                "cancelled_queued_dropped",
                "panic_contained",
            ],
        ),
        // An exhausted cooperative budget reads as full.
        ("Buffer in a LoadShed", &["coop_neutral", "panic_contained"]),
    ];
    let reports: String =
        record.iter().map(|(layer, report)| format!("{layer}\n{report}\n")).collect();
    assert_eq!(failed, expected.map(|(layer, checks)| (layer, checks.to_vec())), "\n{reports}");
}
