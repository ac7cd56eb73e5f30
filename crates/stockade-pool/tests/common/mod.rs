//! What the tests of the pool share.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{convert::Infallible, time::Duration};

use stockade_core::{Error, LayerError, Reason};
use stockade_pool::{Job, Refused};
use tokio::task::yield_now;

/// The error of a service that never fails.
pub(crate) type Refusal = Error<Infallible>;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Lets the workers do what they can.
pub(crate) async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// The job, once it has a place in the queue.
pub(crate) async fn accepted<Req, T, E>(
    mut job: Job<Req, T, E>,
) -> Result<Job<Req, T, E>, Refused<Req>> {
    job.accepted().await.map(|()| job)
}

/// Why this was refused.
pub(crate) fn reason<T, E: LayerError>(result: Result<T, E>) -> Reason {
    let error = result.err().expect("an error");
    error.rejected().expect("a refusal").reason()
}
