//! How calls wait, and how they leave.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use crate::{
    Behaviour, Request, Subject,
    flight::Ending,
    stage::{
        FRESH, Hold, Stage, Stand, Verdict, WAITERS, ensure, expect_ready, serve, settle,
        whole_call,
    },
};

/// Waiting calls are served, and in order where they wait for a limit.
pub(crate) async fn all_waiters_served_fifo<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    for hold in stage.holds()? {
        match hold {
            Hold::Full(limit) => served_in_order(stage, limit).await?,
            Hold::ByHand => {
                let stand = stage.stand();
                stand.hold(hold).await?;
                let flights = stand.queue(hold, 101, WAITERS).await?;
                stand.release(hold);
                stand.land(&flights).await?;
            }
        }
    }
    Ok(())
}

async fn served_in_order<S: Subject>(stage: &mut Stage<'_, S>, limit: usize) -> Verdict {
    let stand = stage.stand();
    let mut flights = stand.saturate(1, limit, FRESH).await?;
    flights.extend(stand.fly_in_order(101, WAITERS, Behaviour::Wait).await);
    for ended in 1..=WAITERS {
        let id = stand.probe.started()[ended - 1];
        stand.probe.release(id);
        settle().await;
        let started = stand.probe.started().len() - limit;
        ensure!(
            started == ended,
            "{ended} calls have ended, and {started} of {WAITERS} waiters were started"
        );
    }
    stand.land(&flights).await?;
    let order = stand.probe.started().split_off(limit);
    let expected: Vec<_> = (101..).take(WAITERS).collect();
    ensure!(order == expected, "waiters came as {expected:?} and were started as {order:?}");
    Ok(())
}

/// A waiter that is dropped after it was woken, and before it is polled, passes its turn on.
pub(crate) async fn woken_waiter_drop_passes_on<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    for hold in stage.holds()? {
        match hold {
            Hold::Full(limit) => dropped_with_a_permit(stage, limit).await?,
            Hold::ByHand => dropped_when_released(stage).await?,
        }
    }
    Ok(())
}

async fn dropped_when_released<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    stand.hold(Hold::ByHand).await?;
    // Polled by hand, so that it is not polled again when it is woken.
    let mut cx = Context::from_waker(Waker::noop());
    let mut service = stand.service.clone();
    // It owns the service, because a layer may wait in `poll_ready`.
    let mut woken = Box::pin(async move { whole_call(&mut service, Request::wait(101)).await });
    for _ in 0..2 {
        let _ = woken.as_mut().poll(&mut cx);
        settle().await;
    }
    let flights = stand.queue(Hold::ByHand, 102, 2).await?;
    stand.release(Hold::ByHand);
    drop(woken);
    stand.land(&flights).await
}

async fn dropped_with_a_permit<S: Subject>(stage: &mut Stage<'_, S>, limit: usize) -> Verdict {
    let stand = stage.stand();
    // Polled by hand, so that nothing runs between the end of the first and the drop of the second.
    let mut cx = Context::from_waker(Waker::noop());
    let by_hand = |id| {
        let mut service = stand.service.clone();
        async move { whole_call(&mut service, Request::wait(id)).await }
    };
    let mut running = pin!(by_hand(1));
    let mut woken = pin!(Some(by_hand(101)));
    for _ in 0..2 {
        let _ = running.as_mut().poll(&mut cx);
        settle().await;
    }
    stand.expect_in_flight(1, FRESH).await?;
    let mut flights = stand.saturate(2, limit - 1, FRESH).await?;
    for _ in 0..2 {
        if let Some(woken) = woken.as_mut().as_pin_mut() {
            let _ = woken.poll(&mut cx);
        }
        settle().await;
    }
    flights.push(stand.fly(Request::wait(102)));
    settle().await;

    stand.probe.release(1);
    let polled = running.as_mut().poll(&mut cx);
    woken.set(None);
    if polled.is_pending() {
        // A stack that calls from a task of its own ends the call there, and answers later.
        settle().await;
        let _ = running.as_mut().poll(&mut cx);
    }
    stand.expect_in_flight(limit, "after a woken waiter was dropped, with another waiting").await?;
    stand.land(&flights).await
}

/// A call that waits for the layer does not hold the inner service's readiness.
pub(crate) async fn idle_waiter_no_hoard<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    for hold in stage.holds()? {
        let stand = stage.stand();
        let running = hold.running();
        stand.probe.set_slots(running + 1);
        let mut flights = stand.hold(hold).await?;
        flights.extend(stand.queue(hold, 101, WAITERS).await?);
        let hoarded = stand.probe.reserved().saturating_sub(running);
        ensure!(
            hoarded == 0,
            "{running} calls run, {WAITERS} wait, and those that wait hold {hoarded} of the inner service's slots: \
             drop the ready instance before the wait, and then poll a clone ready and call that"
        );
        // Another caller can get ready at the same inner service.
        let mut neighbour = stand.probe.clone();
        expect_ready(&mut neighbour).await?;
        drop(neighbour);
        stand.release(hold);
        stand.land(&flights).await?;
    }
    Ok(())
}

/// A dropped waiter leaves nothing behind: its request is dropped at once and never starts.
pub(crate) async fn cancelled_queued_dropped<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    for hold in stage.holds()? {
        let stand = stage.stand();
        let mut flights = stand.hold(hold).await?;
        flights.extend(stand.queue(hold, 101, 1).await?);
        let (request, watch) = Request::wait(102).watched();
        let cancelled = stand.fly(request);
        settle().await;
        flights.extend(stand.queue(hold, 103, 1).await?);
        drop(cancelled);
        settle().await;
        ensure!(watch.is_dropped(), "the request of a waiter that was dropped is kept");
        stand.release(hold);
        stand.land(&flights).await?;
        let started = stand.probe.started().contains(&102);
        ensure!(!started, "the request of a waiter that was dropped was started");
    }
    Ok(())
}

/// Closing ends all waits, and no new call is let in.
pub(crate) async fn close_wakes_all<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let close = stage.close()?;
    for hold in stage.holds().unwrap_or_default() {
        let stand = stage.stand();
        let mut flights = stand.hold(hold).await?;
        flights.extend(stand.queue(hold, 101, WAITERS).await?);
        close(&mut stand.service.clone());
        // A call that was accepted may still run.
        stand.end_all(&flights).await;
        for flight in &flights {
            let ending = flight.end().await;
            let id = flight.id;
            ensure!(
                !matches!(ending, Ending::Hung | Ending::Panicked(_)),
                "after closing, the call with request {id} {ending}"
            );
        }
        expect_closed(&stand).await?;
    }
    let stand = stage.stand();
    close(&mut stand.service.clone());
    expect_closed(&stand).await
}

async fn expect_closed<S: Subject>(stand: &Stand<S>) -> Verdict {
    let ending = serve(&mut stand.service.clone(), Request::ready(201)).await;
    ensure!(matches!(ending, Ending::Refused(_)), "a call made after closing {ending}");
    Ok(())
}
