//! Which calls pass a layer by.

/// Decides which calls pass a layer by, as if it were not there.
///
/// Closures `Fn(&Req) -> bool` do; annotate the type of the request: `|request: &Request| …`. It is asked
/// once per call, before the layer does anything, and under no lock.
pub trait Bypass<Req> {
    /// Whether this call passes the layer by.
    fn passes_by(&self, request: &Req) -> bool;
}

/// No call passes the layer by: the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBypass;

/// All calls pass the layer by, except those for which a closure `Fn(&Req) -> bool` says so.
#[derive(Clone, Copy, Debug)]
pub struct Only<F>(pub F);

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

impl<F, Req> Bypass<Req> for Only<F>
where
    F: Fn(&Req) -> bool,
{
    fn passes_by(&self, request: &Req) -> bool {
        !(self.0)(request)
    }
}
