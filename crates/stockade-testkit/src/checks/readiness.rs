//! What `poll_ready` promises, and what a clone must not inherit.

use std::task::Poll;

use crate::{
    Behaviour, Probe, Readiness, Request, Subject,
    flight::{Ending, Flight, Plan},
    stage::{Hold, Stage, Verdict, ensure, expect_answer, expect_ready, ready, serve, settle},
};

const READIED: Plan = Plan { readied: true, keep: false };

/// Each instance of the inner service is polled ready before it is called.
pub(crate) async fn readied_instance_called<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    let mut service = stand.service.clone();
    for id in 1..=2 {
        serve(&mut service, Request::ready(id)).await;
    }
    for id in 11..=13 {
        serve(&mut service.clone(), Request::ready(id)).await;
    }
    // Calls that overlap, one that a retry repeats, and calls that have to wait.
    let mut flights = stand.fly_in_order(21, 3, Behaviour::Yield(3)).await;
    flights.push(stand.fly(Request::new(31, Behaviour::FailTimes(1))));
    for flight in &flights {
        flight.end().await;
    }
    if let Ok(limit) = stage.limit() {
        let flights = stand.fly_in_order(101, limit + 3, Behaviour::Wait).await;
        for _ in &flights {
            stand.probe.release_all();
            settle().await;
        }
    }
    if stage.hold.is_some() {
        stand.hold(Hold::ByHand).await?;
        let flights = stand.fly_in_order(201, 3, Behaviour::Wait).await;
        stand.release(Hold::ByHand);
        stand.end_all(&flights).await;
    }
    ensure!(stand.probe.calls() > 0, "no call reached the inner service");
    expect_no_violation(&stand.probe)
}

/// Polling a ready stack again stays ready and takes no more capacity.
pub(crate) async fn ready_idempotent<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    let mut service = stand.service.clone();
    for _ in 0..5 {
        expect_ready(&mut service).await?;
    }
    let Ok(limit) = stage.limit() else {
        let ending = serve(&mut service, Request::ready(1)).await;
        expect_answer("the call after five polls", 1, &ending)?;
        ensure!(stand.probe.calls() == 1, "one call reached the inner service as several");
        return Ok(());
    };
    let mut flights = stand.saturate(1, limit - 1, "next to one ready instance").await?;
    flights.push(Flight::start(service, Request::wait(101), READIED));
    stand.expect_in_flight(limit, "with an instance that was polled ready five times").await?;
    stand.land(&flights).await
}

/// A ready instance that is dropped uncalled returns what it holds.
pub(crate) async fn ready_clone_drop_releases<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    stand.probe.set_slots(1);
    let mut readied = stand.service.clone();
    expect_ready(&mut readied).await?;
    drop(readied);
    let ending = serve(&mut stand.service.clone(), Request::ready(1)).await;
    expect_answer("a call after a ready clone was dropped", 1, &ending)?;

    let Ok(limit) = stage.limit() else { return Ok(()) };
    let stand = stage.stand();
    let mut readied = vec![stand.service.clone(); limit];
    for service in &mut readied {
        expect_ready(service).await?;
    }
    drop(readied);
    let flights = stand.saturate(1, limit, "after ready instances were dropped").await?;
    stand.land(&flights).await
}

/// A clone of a ready instance is not ready, and shares nothing that the instance has reserved.
pub(crate) async fn clone_starts_unready<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    let mut original = stand.service.clone();
    expect_ready(&mut original).await?;
    // The clone may have to wait for what the original has reserved.
    let cloned = Flight::start(original.clone(), Request::ready(1), Plan::default());
    settle().await;
    let original = Flight::start(original, Request::ready(2), READIED);
    expect_answer("a call on the ready instance itself", 2, &original.end().await)?;
    expect_answer("a call on the clone of a ready instance", 1, &cloned.end().await)?;
    expect_no_new_violation(&stand.probe, stage).await?;

    let Ok(limit) = stage.limit() else { return Ok(()) };
    let stand = stage.stand();
    let mut original = stand.service.clone();
    expect_ready(&mut original).await?;
    let clones = vec![original.clone(); limit];
    let mut flights = vec![Flight::start(original, Request::wait(1), READIED)];
    settle().await;
    for (clone, id) in clones.into_iter().zip(2..) {
        flights.push(Flight::start(clone, Request::wait(id), Plan::default()));
    }
    stand.expect_in_flight(limit, "over a ready instance and its clones").await?;
    stand.land(&flights).await
}

/// An inner readiness error is reported each time, and nothing panics or leaks.
pub(crate) async fn readiness_error_sticky<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    settle().await;
    stand.probe.set_ready(Readiness::Error);
    settle().await;
    let mut service = stand.service.clone();
    let first = ready(&mut service).await;
    for _ in 0..2 {
        let again = ready(&mut service).await;
        if let Poll::Ready(Err(ending)) = &again {
            expect_fault("poll_ready", ending)?;
        } else {
            ensure!(
                !matches!(first, Poll::Ready(Err(_))),
                "poll_ready failed with the inner error, and when polled again it did not"
            );
        }
    }
    match first {
        Poll::Ready(Err(ending)) => expect_fault("poll_ready", &ending)?,
        // Stacks that call from a task of their own, or that hide the inner readiness, report the error from the call, or wait.
        Poll::Ready(Ok(())) => {
            let flight = Flight::start(service, Request::ready(1), READIED);
            settle().await;
            stand.probe.set_ready(Readiness::Ready);
            expect_fault_or_answer(&flight).await?;
        }
        Poll::Pending => {}
    }

    for hold in stage.holds().unwrap_or_default() {
        let stand = stage.stand();
        let running = stand.hold(hold).await?;
        let waiter = stand.fly(Request::ready(101));
        settle().await;
        stand.probe.set_ready(Readiness::Error);
        stand.release(hold);
        settle().await;
        stand.probe.set_ready(Readiness::Ready);
        expect_fault_or_answer(&waiter).await?;
        stand.land(&running).await?;
        let after = hold.running().max(1);
        let flights = stand.saturate(201, after, "after a readiness error").await?;
        stand.land(&flights).await?;
    }
    Ok(())
}

/// A stack that is ready while the inner service is not never calls an unready instance, and works
/// again as soon as the inner service is ready.
pub(crate) async fn masked_inner_driven<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    settle().await;
    stand.probe.set_ready(Readiness::Pending);
    settle().await;
    let mut service = stand.service.clone();
    if let Poll::Ready(result) = ready(&mut service).await {
        if let Err(ending) = result {
            ensure!(false, "with a pending inner service, poll_ready {ending}");
        }
        // It may wait for the inner service, or refuse.
        let call = service.call(Request::ready(1));
        let flight = Flight::of(1, |_| async { Ending::of(call.await) });
        settle().await;
        stand.probe.set_ready(Readiness::Ready);
        let ending = flight.end().await;
        ensure!(
            matches!(ending, Ending::Answered(1) | Ending::Refused(_)),
            "a call made while the inner service was pending {ending}"
        );
    }
    stand.probe.set_ready(Readiness::Ready);
    settle().await;
    let ending = serve(&mut service, Request::ready(2)).await;
    expect_answer("a call on the same instance, once the inner service is ready", 2, &ending)?;
    let ending = serve(&mut stand.service.clone(), Request::ready(3)).await;
    expect_answer("a call on a clone, once the inner service is ready", 3, &ending)?;
    expect_no_new_violation(&stand.probe, stage).await
}

fn expect_fault(what: &str, ending: &Ending) -> Verdict {
    let through = matches!(ending, Ending::Failed(fault) if fault.request.is_none());
    ensure!(through, "the inner readiness error was lost: {what} {ending}");
    Ok(())
}

async fn expect_fault_or_answer(flight: &Flight) -> Verdict {
    match flight.end().await {
        Ending::Answered(id) if id == flight.id => Ok(()),
        ending => expect_fault("the call", &ending),
    }
}

fn expect_no_violation(probe: &Probe) -> Verdict {
    match probe.violations().first() {
        None => Ok(()),
        Some(violation) => {
            ensure!(false, "{violation}");
            Ok(())
        }
    }
}

/// The same, except for a stack that breaks this with every call, which another check reports.
async fn expect_no_new_violation<S: Subject>(probe: &Probe, stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    serve(&mut stand.service.clone(), Request::ready(1)).await;
    if stand.probe.violations().is_empty() { expect_no_violation(probe) } else { Ok(()) }
}
