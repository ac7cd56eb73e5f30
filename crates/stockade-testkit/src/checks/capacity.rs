//! How many calls run at once, and when their capacity is returned.

use std::{future::poll_fn, sync::mpsc, task::Poll, time::Duration};

use tokio::runtime;

use crate::{
    Behaviour, Request, Subject,
    flight::{Flight, Plan},
    stage::{FRESH, Objection, Stage, Verdict, ensure, expect_answer, expect_ready, serve, settle},
};

/// At most the declared number of calls runs inside, over all clones and threads.
pub(crate) async fn peak_within_limit<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let limit = stage.limit()?;
    // All clones are polled ready before the first one is called.
    let stand = stage.stand();
    let mut clones = vec![stand.service.clone(); 3 * limit];
    let mut readied = Vec::new();
    settle().await;
    for (mut service, id) in clones.drain(..).zip(1..) {
        let polled = poll_fn(|cx| Poll::Ready(service.poll_ready(cx))).await;
        readied.push((service, id, matches!(polled, Poll::Ready(Ok(())))));
    }
    let mut flights = Vec::new();
    for (service, id, readied) in readied {
        flights.push(Flight::start(service, Request::wait(id), Plan { readied, keep: false }));
    }
    stand.expect_in_flight(limit, "after all clones were polled ready and then called").await?;
    stand.land(&flights).await?;

    let stand = stage.stand();
    let flights = stand.fly_in_order(1, 2 * limit + 2, Behaviour::Wait).await;
    stand.expect_in_flight(limit, "with more calls than the limit").await?;
    stand.land(&flights).await?;
    let peak = stand.probe.peak();
    ensure!(peak <= limit, "{peak} calls ran inside at once, the limit is {limit}");
    over_threads(stage, limit)
}

const TASKS: u64 = 16;
const CALLS: u64 = 40;

fn over_threads<S: Subject>(stage: &mut Stage<'_, S>, limit: usize) -> Verdict {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .map_err(|error| Objection::Broken(format!("no runtime with threads: {error}")))?;
    let (done, ended) = mpsc::channel();
    let entered = runtime.enter();
    let stand = stage.stand();
    for task in 0..TASKS {
        let mut service = stand.service.clone();
        let done = done.clone();
        runtime.spawn(async move {
            for call in 0..CALLS {
                let request = Request::new(task * CALLS + call, Behaviour::Yield(2));
                let id = request.id;
                let verdict = expect_answer("a call", id, &serve(&mut service, request).await);
                if verdict.is_err() || call + 1 == CALLS {
                    let _ = done.send(verdict);
                    return;
                }
            }
        });
    }
    // This blocks the test's own runtime, on which nothing else has to run.
    let mut verdict = Ok(());
    for _ in 0..TASKS {
        verdict = ended.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| {
            Err(Objection::Broken("calls over four threads did not end within 20 seconds".into()))
        });
        if verdict.is_err() {
            break;
        }
    }
    let peak = stand.probe.peak();
    drop(stand);
    drop(entered);
    runtime.shutdown_background();
    verdict?;
    ensure!(peak <= limit, "{peak} calls ran inside at once over threads, the limit is {limit}");
    Ok(())
}

/// Dropping the future ends the call inside and returns what it held.
pub(crate) async fn future_drop_releases<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    stand.probe.set_slots(1);
    let flight = stand.fly(Request::wait(1));
    stand.expect_in_flight(1, FRESH).await?;
    drop(flight);
    settle().await;
    ensure!(stand.probe.in_flight() == 0, "the inner call runs on after the future was dropped");
    ensure!(stand.probe.live() == 0, "the inner future is kept after the outer one was dropped");
    let ending = serve(&mut stand.service.clone(), Request::ready(2)).await;
    expect_answer("a call after the future of another was dropped", 2, &ending)?;

    let Ok(limit) = stage.limit() else { return Ok(()) };
    let stand = stage.stand();
    drop(stand.saturate(1, limit, FRESH).await?);
    settle().await;
    let flights =
        stand.saturate(101, limit, "after the futures of running calls were dropped").await?;
    stand.land(&flights).await?;
    // The same with futures that were never polled.
    for id in (201..).take(limit) {
        let mut service = stand.service.clone();
        expect_ready(&mut service).await?;
        drop(service.call(Request::wait(id)));
    }
    settle().await;
    let flights = stand.saturate(301, limit, "after futures were dropped unpolled").await?;
    stand.land(&flights).await
}

/// A finished future holds nothing, even if it is kept.
pub(crate) async fn release_on_ready<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let limit = stage.limit()?;
    let stand = stage.stand();
    let keep = Plan { readied: false, keep: true };
    let kept =
        (1..).take(limit).map(|id| Flight::start(stand.service.clone(), Request::ready(id), keep));
    let kept: Vec<_> = kept.collect();
    for flight in &kept {
        expect_answer("a call", flight.id, &flight.end().await)?;
    }
    let flights = stand.saturate(101, limit, "while answered futures are kept").await?;
    stand.land(&flights).await?;

    let failed = Flight::start(stand.service.clone(), Request::fail(201), keep);
    failed.end().await;
    let flights = stand.saturate(301, limit, "while a failed future is kept").await?;
    stand.land(&flights).await
}
