//! The server, and the client's end of it, which is the service inside of every stack.
//!
//! A request stays with the server when its caller has given up: nothing tells the server, and it does the work for
//! nobody. That, with retries, is what keeps an overload going after its cause has gone.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use fastrand::Rng;
use slab::Slab;
use tower::Service;

use crate::{
    scenario::{Scenario, Spread},
    station::{Full, Station},
};

/// A request. There is nothing in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request;

/// An answer to a [`Request`]. There is nothing in it either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer;

/// The server's own refusal: its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// The server.
#[derive(Clone, Debug)]
pub(crate) struct Server(Arc<Mutex<State>>);

/// A client's connection to the [`Server`].
#[derive(Clone, Debug)]
pub(crate) struct Client(Server);

/// What has come of the requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Requests that arrived.
    pub(crate) arrived: u64,
    /// Requests that were done.
    pub(crate) done: u64,
    /// Of these, those that nobody waited for any more.
    pub(crate) wasted: u64,
}

/// The response future.
#[derive(Debug)]
pub(crate) enum Response {
    Refused,
    /// The number of the request, until the answer was taken.
    Sent(Server, Option<usize>),
}

#[derive(Debug)]
struct State {
    station: Station,
    /// Who waits for the answer to which request.
    callers: Slab<Caller>,
    work: Work,
    traffic: Traffic,
    closed: bool,
}

#[derive(Debug)]
enum Caller {
    Waits(Option<Waker>),
    HasGivenUp,
    IsAnswered,
}

/// How long a request takes.
#[derive(Debug)]
struct Work {
    mean: Duration,
    spread: Spread,
    chance: Rng,
}

// === impl Server ===

impl Server {
    pub(crate) fn new(scenario: &Scenario, chance: Rng) -> Self {
        let crate::scenario::Server { service_time, spread, .. } = scenario.server;
        let work = Work { mean: service_time.get(), spread, chance };
        let station = Station::new(scenario.workers(), scenario.queue());
        let (callers, traffic) = (Slab::new(), Traffic::default());
        Self(Arc::new(Mutex::new(State { station, callers, work, traffic, closed: false })))
    }

    /// Another connection.
    pub(crate) fn client(&self) -> Client {
        Client(self.clone())
    }

    pub(crate) fn set_speed(&self, speed: f64) {
        self.lock().station.set_speed(speed);
    }

    /// Works until `now`, and answers what was done. `wakers` is room to work in, empty before and after.
    pub(crate) fn advance(&self, now: Duration, wakers: &mut Vec<Waker>) -> Traffic {
        let mut state = self.lock();
        let State { station, callers, work, traffic, .. } = &mut *state;
        let done = |request: usize| {
            traffic.done += 1;
            match &mut callers[request] {
                Caller::Waits(waker) => {
                    wakers.extend(waker.take());
                    callers[request] = Caller::IsAnswered;
                }
                Caller::HasGivenUp => {
                    traffic.wasted += 1;
                    callers.remove(request);
                }
                Caller::IsAnswered => unreachable!("a request is done once"),
            }
        };
        station.advance(now, || work.draw(), done);
        let traffic = *traffic;
        drop(state);
        wakers.drain(..).for_each(Waker::wake);
        traffic
    }

    /// Refuses whatever waits, and whatever comes from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = state.callers.iter_mut().filter_map(|(_, caller)| match caller {
            Caller::Waits(waker) => waker.take(),
            _ => None,
        });
        let wakers: Vec<_> = waiting.collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Client ===

impl Service<Request> for Client {
    type Response = Answer;
    type Error = Busy;
    type Future = Response;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Busy>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Request: Request) -> Response {
        let mut state = self.0.lock();
        let State { station, callers, work, traffic, closed } = &mut *state;
        if *closed {
            return Response::Refused;
        }
        traffic.arrived += 1;
        let request = callers.vacant_key();
        match station.arrive(request, || work.draw()) {
            Ok(()) => {
                callers.insert(Caller::Waits(None));
                Response::Sent(self.0.clone(), Some(request))
            }
            Err(Full) => Response::Refused,
        }
    }
}

// === impl Response ===

impl Future for Response {
    type Output = Result<Answer, Busy>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self::Sent(server, place) = &mut *self else { return Poll::Ready(Err(Busy)) };
        let request = place.expect("a response is polled until it is ready, not after");
        let mut state = server.lock();
        let closed = state.closed;
        if let Caller::Waits(waker) = &mut state.callers[request] {
            if closed {
                state.callers[request] = Caller::HasGivenUp;
                drop(state);
                *place = None;
                return Poll::Ready(Err(Busy));
            }
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        state.callers.remove(request);
        drop(state);
        *place = None;
        Poll::Ready(Ok(Answer))
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        let Self::Sent(server, Some(request)) = self else { return };
        let mut state = server.lock();
        if let Caller::IsAnswered = state.callers[*request] {
            state.callers.remove(*request);
        } else {
            state.callers[*request] = Caller::HasGivenUp;
        }
    }
}

// === impl Work ===

impl Work {
    fn draw(&mut self) -> Duration {
        match self.spread {
            Spread::Constant => self.mean,
            Spread::Exponential => self.mean.mul_f64(exponential(&mut self.chance)),
        }
    }
}

/// Drawn from the exponential distribution whose mean is 1.
pub(crate) fn exponential(chance: &mut Rng) -> f64 {
    -(1.0 - chance.f64()).ln()
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use tokio::{
        spawn,
        task::yield_now,
        time::{Instant, sleep, timeout},
    };
    use tower::ServiceExt;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// One worker, 10 ms a request, room for two.
    fn server() -> Server {
        let text = r#"
            fleet = { clients = 1, rate = 1, patience = "1s", duration = "1s" }
            server = { workers = 1, service_time = "10ms", spread = "constant", queue = "20ms" }
            phase = [{ name = "calm", at = "0s" }]
            stack = [{ name = "none", layers = [] }]
        "#;
        Server::new(&Scenario::read("test.toml", text).unwrap(), Rng::with_seed(1))
    }

    /// Lets the server work until `end`.
    async fn work(server: &Server, end: Duration) -> Traffic {
        let (begin, mut wakers) = (Instant::now(), Vec::new());
        loop {
            let traffic = server.advance(begin.elapsed(), &mut wakers);
            // Who was answered goes on before the time does.
            yield_now().await;
            if begin.elapsed() >= end {
                return traffic;
            }
            sleep(MS).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_are_answered_in_their_order() {
        let server = server();
        let begin = Instant::now();
        let calls = (0..3).map(|_| {
            let call = server.client().oneshot(Request);
            async move { call.await.map(|Answer| begin.elapsed()) }
        });
        let calls = spawn(join_all(calls));
        yield_now().await;

        work(&server, 40 * MS).await;
        assert_eq!(calls.await.unwrap(), [Ok(10 * MS), Ok(20 * MS), Ok(30 * MS)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once() {
        let server = server();
        let mut calls: Vec<_> =
            (0..4).map(|_| Box::pin(server.client().oneshot(Request))).collect();
        for call in &mut calls[..3] {
            assert!(timeout(Duration::ZERO, call).await.is_err());
        }

        assert_eq!(timeout(Duration::ZERO, &mut calls[3]).await.unwrap().unwrap_err(), Busy);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_does_the_work_although_the_caller_has_given_up() {
        let server = server();
        let given_up = timeout(5 * MS, server.client().oneshot(Request));
        let call = spawn(given_up);
        yield_now().await;
        let patient = spawn(server.client().oneshot(Request));

        let traffic = work(&server, 30 * MS).await;
        assert!(call.await.unwrap().is_err());
        assert!(patient.await.unwrap().is_ok(), "it waits until the server has done the first one");
        assert_eq!(traffic, Traffic { arrived: 2, done: 2, wasted: 1 });
        assert!(server.lock().callers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_server_leaves_nobody_waiting() {
        let server = server();
        let call = spawn(server.client().oneshot(Request));
        yield_now().await;

        server.close();
        assert_eq!(call.await.unwrap().unwrap_err(), Busy);
        assert_eq!(server.client().oneshot(Request).await.unwrap_err(), Busy);
    }

    #[test]
    fn exponential_service_times_have_their_mean() {
        let chance = Rng::with_seed(7);
        let mut work = Work { mean: 10 * MS, spread: Spread::Exponential, chance };
        let sum: Duration = (0..100_000).map(|_| work.draw()).sum();

        assert!(sum.abs_diff(1_000_000 * MS) < 10_000 * MS, "{sum:?}");
    }
}
