//! What the tests share.
#![allow(dead_code, unreachable_pub, reason = "no test uses all of it")]

use std::time::Duration;

use stockade_core::{Error, LayerError, Rejected};
use stockade_rate::{Rate, RateLayer, ResponseFuture};
use stockade_testkit::{Fault, Probe, Request, Response};
use tokio_test::{
    assert_pending, assert_ready, assert_ready_err, assert_ready_ok,
    task::{self, Spawn},
};
use tower::{Layer, Service};

pub type Answer = Result<Response, Error<Fault>>;
pub type Future = ResponseFuture<<Probe as Service<Request>>::Future, Probe, Request>;
pub type Call = Spawn<Future>;

pub const MS: Duration = Duration::from_millis(1);
pub const NS: Duration = Duration::from_nanos(1);
pub const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub fn service(layer: RateLayer) -> (Rate<Probe>, Probe) {
    let probe = Probe::new();
    (layer.layer(probe.clone()), probe)
}

/// Makes the service ready and calls it; the future is not polled yet.
pub fn future_of<R>(service: &mut R, id: u64) -> R::Future
where
    R: Service<Request, Error: std::fmt::Debug>,
{
    let mut ready = task::spawn(());
    assert_ready_ok!(ready.enter(|cx, _| service.poll_ready(cx)));
    service.call(Request::ready(id))
}

pub fn future(service: &mut Rate<Probe>, id: u64) -> Future {
    future_of(service, id)
}

pub fn call(service: &mut Rate<Probe>, id: u64) -> Call {
    task::spawn(future(service, id))
}

/// A call that waits.
pub fn waiter(service: &mut Rate<Probe>, id: u64) -> Call {
    let mut call = call(service, id);
    assert_pending!(call.poll());
    call
}

pub fn passes(service: &mut Rate<Probe>, id: u64) -> bool {
    assert_ready!(call(service, id).poll()).is_ok()
}

pub fn refusal(service: &mut Rate<Probe>, id: u64) -> Rejected {
    *assert_ready_err!(call(service, id).poll()).rejected().expect("a refusal, not a fault")
}
