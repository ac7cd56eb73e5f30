//! How calls wait.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use crate::{
    Behaviour, Request, Subject,
    flight::{Ending, Flight, PATIENCE},
    future::exhaust_budget,
    stage::{Stage, Verdict, ensure, expect_answer, settle},
};

const WAITERS: usize = 8;

/// Whoever waits is served, in the order of their coming.
pub(crate) async fn all_waiters_served_fifo<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let limit = stage.limit()?;
    let stand = stage.stand();
    let mut flights = stand.saturate(1, limit).await?;
    flights.extend(stand.fly_in_order(101, WAITERS, Behaviour::Wait).await);
    for ended in 1..=WAITERS {
        let id = stand.probe.started()[ended - 1];
        stand.probe.release(id);
        settle().await;
        let started = stand.probe.started().len();
        ensure!(
            started == limit + ended,
            "{ended} calls have ended, and {} of {WAITERS} waiters were started",
            started - limit
        );
    }
    stand.land(&flights).await?;
    let order = stand.probe.started().split_off(limit);
    let expected: Vec<_> = (101..).take(WAITERS).collect();
    ensure!(order == expected, "waiters came as {expected:?} and were started as {order:?}");
    Ok(())
}

/// While the stack is full, a waiter sleeps.
pub(crate) async fn no_self_wake<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let limit = stage.limit()?;
    let stand = stage.stand();
    let mut flights = stand.saturate(1, limit).await?;
    flights.extend(stand.fly_in_order(101, WAITERS, Behaviour::Wait).await);
    let polls = || flights.iter().map(Flight::polls).sum::<usize>();
    let before = polls();
    settle().await;
    let polled = polls() - before;
    ensure!(polled == 0, "nothing happened, and {WAITERS} waiters were polled {polled} times");
    sleep(Duration::from_secs(1)).await;
    let polled = polls() - before;
    ensure!(polled == 0, "in an idle second {WAITERS} waiters were polled {polled} times");
    stand.land(&flights).await
}

/// An exhausted cooperative budget delays a call at most by a poll.
pub(crate) async fn coop_neutral<S: Subject>(stage: &mut Stage<'_, S>) -> Verdict {
    let stand = stage.stand();
    for (id, when) in [(1, Exhaust::BeforeReady), (2, Exhaust::BeforeCall)] {
        let call = exhausted_call(stand.service.clone(), Request::ready(id), when);
        let task = AbortOnDrop(tokio::spawn(call));
        let ending = task.end().await;
        let what = match when {
            Exhaust::BeforeReady => "a call whose poll_ready met an exhausted budget",
            Exhaust::BeforeCall => "a call that met an exhausted budget",
        };
        expect_answer(what, id, &ending)?;
    }
    Ok(())
}

struct AbortOnDrop(tokio::task::JoinHandle<Ending>);

impl AbortOnDrop {
    async fn end(mut self) -> Ending {
        match timeout(PATIENCE, &mut self.0).await {
            Err(_) => Ending::Hung,
            Ok(Ok(ending)) => ending,
            Ok(Err(error)) => Ending::Panicked(error.to_string()),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exhaust {
    BeforeReady,
    BeforeCall,
}

/// A call whose budget is exhausted in its first poll, all the steps of which are made in one poll.
async fn exhausted_call<S: Subject>(mut service: S, request: Request, when: Exhaust) -> Ending {
    let mut future = pin!(None::<S::Future>);
    let mut request = Some(request);
    let mut fresh = true;
    let mut exhaust = |at: Exhaust, cx: &mut Context<'_>| {
        if at == when && std::mem::take(&mut fresh) {
            exhaust_budget(cx);
        }
    };
    poll_fn(|cx| {
        if request.is_some() {
            exhaust(Exhaust::BeforeReady, cx);
            match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Ending::error(&error)),
                Poll::Pending => return Poll::Pending,
            }
            exhaust(Exhaust::BeforeCall, cx);
        }
        if let Some(request) = request.take() {
            future.as_mut().set(Some(service.call(request)));
        }
        let future = future.as_mut().as_pin_mut().expect("the call has been made");
        future.poll(cx).map(Ending::of)
    })
    .await
}
