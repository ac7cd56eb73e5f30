//! What a request says about its timeout.

use std::time::Duration;

/// Says how long the call of a request may take. Closures `Fn(&Req) -> Option<Duration>` implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell how long a call of `{Req}` may take",
    label = "expected a closure `|req: &{Req}| -> Option<Duration>`"
)]
pub trait PerRequest<Req> {
    /// The limit of `request`, if it has one of its own.
    fn limit(&self, request: &Req) -> Option<Duration>;
}

/// The default of [`PerRequest`]: one limit for all requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed;

/// Says which requests have no timeout. Closures `Fn(&Req) -> bool` implement it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell whether `{Req}` has a timeout",
    label = "expected a closure `|req: &{Req}| -> bool`"
)]
pub trait Bypass<Req> {
    /// Whether `request` has no timeout.
    fn passes_by(&self, request: &Req) -> bool;
}

/// The default of [`Bypass`]: every request has the timeout.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBypass;

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

impl<Req> Bypass<Req> for NoBypass {
    #[inline]
    fn passes_by(&self, _: &Req) -> bool {
        false
    }
}

impl<F, Req> Bypass<Req> for F
where
    F: Fn(&Req) -> bool,
{
    #[inline]
    fn passes_by(&self, request: &Req) -> bool {
        self(request)
    }
}
