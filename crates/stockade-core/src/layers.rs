//! What a layer becomes once its setters are done.

use tower_layer::Layer;

use crate::internal::backpressure::BackpressureLayer;

/// A layer whose setters are done, because somebody holds its handle.
///
/// Made by the `with_handle()` of a layer. All its clones, the services they make and the handle share one
/// state.
#[derive(Clone, Debug)]
pub struct Configured<L>(L);

/// A layer that gives each service it makes a state of its own.
///
/// Made by the `per_service()` of a layer. The clones of one service share its state; a handle comes from
/// the service.
#[derive(Clone, Debug)]
pub struct PerService<L>(L);

/// A layer that can start over: the same configuration, and a new state.
#[doc(hidden)]
pub trait Fresh {
    /// A layer like this one that shares nothing with it.
    #[must_use]
    fn fresh(&self) -> Self;
}

/// A service whose clones can be called. Every `Clone` type is one.
///
/// The layers ask for this in place of `Clone`, so that the compiler can say what to write.
#[diagnostic::on_unimplemented(
    message = "a layer calls clones of the service inside it, and `{Self}` is not `Clone`",
    label = "this stack needs a service inside it that is `Clone`",
    note = "put `.buffer(n)`, which is tower's, into the `ServiceBuilder`, right above the service named here, which may be a layer such as tower's `rate_limit`: its handles are `Clone`",
    note = "or make the client `Clone`, for instance by an `Arc` around what it shares",
    note = "a limit, a rate limit or a breaker needs no clones with `.backpressure()`"
)]
pub trait Reusable: Clone {}

// === impl Reusable ===

#[diagnostic::do_not_recommend]
impl<T: Clone> Reusable for T {}

// === impl Configured ===

impl<L> Configured<L> {
    #[doc(hidden)]
    pub const fn new(layer: L) -> Self {
        Self(layer)
    }

    /// The same layer, whose services wait in `poll_ready` and not in their response futures. For a limit,
    /// a rate limit or a breaker.
    #[must_use]
    pub fn backpressure(self) -> BackpressureLayer<Self> {
        BackpressureLayer::new(self)
    }
}

impl<S, L: Layer<S>> Layer<S> for Configured<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> L::Service {
        self.0.layer(inner)
    }
}

// === impl PerService ===

impl<L> PerService<L> {
    #[doc(hidden)]
    pub const fn new(layer: L) -> Self {
        Self(layer)
    }

    /// The same layer, whose services wait in `poll_ready` and not in their response futures. For a limit,
    /// a rate limit or a breaker.
    #[must_use]
    pub fn backpressure(self) -> BackpressureLayer<Self> {
        BackpressureLayer::new(self)
    }
}

impl<S, L: Layer<S> + Fresh> Layer<S> for PerService<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> L::Service {
        self.0.fresh().layer(inner)
    }
}
