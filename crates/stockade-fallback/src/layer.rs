//! The layer and its setters.

use std::sync::Arc;

use stockade_core::{ConfigError, Configured, Name, NoBypass, Only, config};
use tower_layer::Layer;

use crate::{ByClone, Fallback, FallbackHandle, OnError, OnRequest, handle::Shared};

/// Answers in place of calls that fail.
///
/// The function gets the error and gives the answer, or an error: the same, or another one of the same type.
/// It is an async closure or function, cloned for each call, so let it capture handles and not data. It runs
/// inside the response future, under the deadline that is set outside of this layer.
///
/// | setter | default |
/// |---|---|
/// | [`on`](Self::on) | every error |
/// | [`bypass`](Self::bypass) | no call passes by |
/// | [`name`](Self::name) | none |
///
/// All clones of the layer, and the services they make, share one switch: that of its [handle](Self::with_handle).
///
/// # Example
///
/// A stale answer is better than none. The request is kept, as a clone, only where it is asked for:
///
/// ```
/// use std::{collections::HashMap, io, sync::{Arc, Mutex}};
/// use stockade_core::Error;
/// use stockade_fallback::FallbackLayer;
/// use tower::{Service, ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// type AppError = Error<io::Error>;
///
/// let cache = Arc::new(Mutex::new(HashMap::new()));
/// let known = Arc::clone(&cache);
/// let stale = move |city: String, error: AppError| {
///     let forecast = known.lock().unwrap().get(&city).copied();
///     async move { forecast.ok_or(error) }
/// };
/// let mut svc = ServiceBuilder::new()
///     .layer(FallbackLayer::with_request(stale))
///     .map_err(Error::Service)
///     .service_fn(move |city: String| {
///         // It answers once for each city, and what it answers is kept.
///         let is_first = cache.lock().unwrap().insert(city, "rain").is_none();
///         async move { if is_first { Ok("rain") } else { Err(io::Error::other("down")) } }
///     });
/// for _ in 0..3 {
///     assert_eq!(svc.ready().await.unwrap().call("Bern".into()).await.unwrap(), "rain");
/// }
/// # }
/// ```
#[must_use = "a layer does nothing until a service is made with it"]
#[derive(Clone)]
pub struct FallbackLayer<H, O = NoBypass, B = NoBypass> {
    pub(crate) handler: H,
    pub(crate) on: O,
    pub(crate) bypass: B,
    pub(crate) shared: Arc<Shared>,
}

stockade_core::shown!(FallbackLayer<H, O, B>: shared);

// === impl FallbackLayer ===

impl<H> FallbackLayer<H> {
    fn of(handler: H) -> Self {
        Self { handler, on: NoBypass, bypass: NoBypass, shared: Shared::named(None) }
    }
}

impl<F> FallbackLayer<OnError<F>> {
    /// Answers with `answer`, an async function of the error.
    pub fn new<E, Fut>(answer: F) -> Self
    where
        F: Fn(E) -> Fut,
    {
        Self::of(OnError(answer))
    }
}

impl<F> FallbackLayer<OnRequest<F>> {
    /// Answers with `answer`, an async function of the request and the error. Each request is cloned before it
    /// is sent; one that cannot be cloned goes with [`with_key`](Self::with_key).
    pub fn with_request<Req, E, Fut>(answer: F) -> Self
    where
        F: Fn(Req, E) -> Fut,
    {
        Self::of(OnRequest { answer, keep: ByClone })
    }
}

impl<F, K> FallbackLayer<OnRequest<F, K>> {
    /// Answers with `answer`, an async function of what `key` keeps of the request, and of the error. For requests that
    /// cannot be cloned, such as those of reqwest, or of which a part is enough: its URL, or an id.
    ///
    /// ```
    /// use stockade_core::Error;
    /// use stockade_fallback::FallbackLayer;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// struct Order { id: u32 } // not `Clone`
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let saved = async |id: u32, _: Error<std::io::Error>| Ok(format!("order {id}, as saved"));
    /// let svc = ServiceBuilder::new()
    ///     .layer(FallbackLayer::with_key(|order: &Order| order.id, saved))
    ///     .map_err(Error::Service)
    ///     .service_fn(async |_: Order| Err::<String, _>(std::io::Error::other("away")));
    /// assert_eq!(svc.oneshot(Order { id: 7 }).await.unwrap(), "order 7, as saved");
    /// # }
    /// ```
    pub fn with_key<Req, Kept, E, Fut>(key: K, answer: F) -> Self
    where
        K: Fn(&Req) -> Kept,
        F: Fn(Kept, E) -> Fut,
    {
        Self::of(OnRequest { answer, keep: key })
    }
}

impl<H, O, B> FallbackLayer<H, O, B> {
    /// Answers only the errors for which `on` says so: [`is_refusal`](crate::is_refusal) for what a layer
    /// inside refused (not a timeout: the call may have run), or a closure that asks a classifier.
    ///
    /// It is asked once for each call that failed. If it panics, the caller gets the panic.
    pub fn on<E, P>(self, on: P) -> FallbackLayer<H, Only<P>, B>
    where
        P: Fn(&E) -> bool,
    {
        let shared = Shared::named(self.shared.name);
        FallbackLayer { handler: self.handler, on: Only(on), bypass: self.bypass, shared }
    }

    /// Leaves the calls alone for which `passes_by` says so, as if the layer were not there: their errors reach the
    /// caller, and nothing of the request is kept.
    pub fn bypass<Req, F>(self, passes_by: F) -> FallbackLayer<H, O, F>
    where
        F: Fn(&Req) -> bool,
    {
        let shared = Shared::named(self.shared.name);
        FallbackLayer { handler: self.handler, on: self.on, bypass: passes_by, shared }
    }

    /// A name for events.
    ///
    /// # Panics
    ///
    /// If the name is owned and too long, or there are too many: see [`Name`].
    #[track_caller]
    pub fn name(self, name: impl Into<Name>) -> Self {
        config::checked(self.try_name(name))
    }

    /// The same, with an error in place of the panic.
    ///
    /// # Errors
    ///
    /// Where [`name`](Self::name) would panic.
    pub fn try_name(mut self, name: impl Into<Name>) -> Result<Self, ConfigError> {
        self.shared = Shared::named(Some(name.into().check("FallbackLayer::name")?));
        Ok(self)
    }

    /// Ends the setters, and gives a handle that switches all services of the layer off and on.
    pub fn with_handle(self) -> (Configured<Self>, FallbackHandle) {
        let handle = FallbackHandle(Arc::clone(&self.shared));
        (Configured::new(self), handle)
    }
}

impl<S, H: Clone, O: Clone, B: Clone> Layer<S> for FallbackLayer<H, O, B> {
    type Service = Fallback<S, H, O, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback { inner, layer: self.clone() }
    }
}
