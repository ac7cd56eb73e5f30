//! What a request says about its timeout.

use std::time::Duration;

use crate::shared::nanos;

/// Says how long the call of a request may take. Closures `Fn(&Req) -> Option<Duration>` implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell how long a call of `{Req}` may take",
    label = "expected a closure `|req: &{Req}| -> Option<Duration>`"
)]
pub trait PerRequest<Req> {
    /// The limit of `request`, if it has one of its own.
    fn limit(&self, request: &Req) -> Option<Duration>;

    /// What holds in nanoseconds, where that of the layer is `of_layer`: a stack that is read from a file lets a call keep
    /// the limit with which it began.
    #[doc(hidden)]
    #[inline]
    fn within(&self, request: &Req, of_layer: u64) -> u64 {
        match self.limit(request) {
            Some(own) => of_layer.min(nanos(own)),
            None => of_layer,
        }
    }
}

/// The default of [`PerRequest`]: one limit for all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed;

impl<Req> PerRequest<Req> for Fixed {
    #[inline]
    fn limit(&self, _: &Req) -> Option<Duration> {
        None
    }
}

impl<F, Req> PerRequest<Req> for F
where
    F: Fn(&Req) -> Option<Duration>,
{
    #[inline]
    fn limit(&self, request: &Req) -> Option<Duration> {
        self(request)
    }
}
