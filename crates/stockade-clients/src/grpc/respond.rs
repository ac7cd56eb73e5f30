//! Refusals as statuses, for all calls of a server.

use std::time::Duration;

use http::Response;
use stockade_core::Rejected;
use tower_layer::Layer;

use super::refusal;
use crate::http::{AnswerRefusal, DEFAULT_RETRY_AFTER, Respond};

/// Makes every refusal of the layers inside a status, for `Server::builder().layer(..)` of tonic.
///
/// The statuses are those of [`refusal`](super::refusal()), whose table is on the [module's](super) page. An error of
/// the service itself becomes an `INTERNAL` that says nothing about it: log it inside.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use stockade_clients::grpc::RespondLayer;
/// use stockade_core::Error;
/// use stockade_limit::LimitLayer;
/// use tonic::transport::Server;
/// use tower::ServiceBuilder;
///
/// let layers = ServiceBuilder::new()
///     .layer(RespondLayer::new())
///     .layer(LimitLayer::new(64).queue(0))
///     .map_err(Error::Service)
///     .into_inner();
/// let (_, health) = tonic_health::server::health_reporter();
/// let server = Server::builder().layer(layers).add_service(health).serve(([127, 0, 0, 1], 50051).into());
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RespondLayer {
    answers: Statuses,
}

/// How refusals are answered as gRPC; set by [`RespondLayer`]. It is there to be named in types.
#[derive(Clone, Copy, Debug)]
pub struct Statuses {
    retry_after: Duration,
}

// === impl RespondLayer ===

impl RespondLayer {
    /// With a pushback of [`DEFAULT_RETRY_AFTER`] where the layer names no time.
    #[must_use]
    pub const fn new() -> Self {
        Self { answers: Statuses { retry_after: DEFAULT_RETRY_AFTER } }
    }

    /// When to come back where the layer that refused does not know.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.answers.retry_after = after;
        self
    }
}

impl Default for RespondLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RespondLayer {
    type Service = Respond<S, Statuses>;

    fn layer(&self, inner: S) -> Self::Service {
        Respond::new(inner, self.answers)
    }
}

// === impl Statuses ===

impl<B: Default> AnswerRefusal<Response<B>> for Statuses {
    fn answer(&self, refusal: Option<&Rejected>) -> Response<B> {
        refusal::of(refusal, self.retry_after).into_http()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Request;
    use stockade_core::{Classify, Error, Reason};
    use stockade_limit::LimitLayer;
    use tower::{Service, ServiceBuilder, ServiceExt};

    use super::*;
    use crate::{grpc::Grpc, http::hold_body};

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer_that_a_client_judges_as_an_overload_with_a_hint() {
        let (limit, handle) = LimitLayer::new(1).queue(0).with_handle();
        let mut svc = ServiceBuilder::new()
            .layer(RespondLayer::new().retry_after(Duration::from_millis(30)))
            .layer(limit)
            .map_err(Error::Service)
            .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
        let permit = handle.try_acquire();
        let answer = svc.ready().await.unwrap().call(Request::new(())).await.unwrap();
        drop(permit);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &"8".parse().unwrap())
        );
        let class = Grpc::new().classify(Ok::<_, &Error<Infallible>>(&answer));
        let after = Some(Duration::from_millis(30));
        assert_eq!(class, stockade_core::Class::Overload { after, processed: true });
    }

    #[tokio::test]
    async fn of_each_reason_the_refusal_of_a_layer_inside_is_the_status_of_the_table() {
        for reason in Reason::ALL {
            let rejected =
                Rejected::new(&"any", reason).with_retry_after(Duration::from_millis(30));
            let refuse = async |()| Err::<Response<()>, _>(Error::<Infallible>::from(rejected));
            let stack = ServiceBuilder::new().layer(RespondLayer::new());
            let answer = stack.service_fn(refuse).oneshot(()).await.unwrap();
            let expected = refusal(&Error::<Infallible>::from(rejected)).into_http::<()>();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers(), expected.headers(), "{reason:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_bodies_of_tonic_keep_permits_and_refusals_none() {
        let (limit, handle) = LimitLayer::new(1).queue(0).hold(hold_body).with_handle();
        let mut svc = ServiceBuilder::new()
            .layer(RespondLayer::new())
            .layer(limit)
            .map_err(Error::Service)
            .service_fn(async |body| Ok::<_, Infallible>(Response::new(body)));
        let stream = || tonic::body::Body::new(http_body_util::Full::<bytes::Bytes>::from("a"));
        let streams = svc.ready().await.unwrap().call(stream()).await.unwrap();
        let refused = svc.ready().await.unwrap().call(stream()).await.unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8");
        drop(refused);
        assert_eq!(handle.in_flight(), 1);
        drop(streams);
        assert_eq!(handle.in_flight(), 0);
    }
}
