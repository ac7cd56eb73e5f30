//! The layer and its setters.

use std::fmt;

use stockade_core::{ConfigError, Name, NoBypass, config};
use tower_layer::Layer;

use crate::{ByClone, Fallback, OnError, OnRequest};

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
/// # Example
///
/// The request is kept, as a clone, only where it is asked for:
///
/// ```
/// use stockade_core::Error;
/// use stockade_fallback::FallbackLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// type AppError = Error<std::io::Error>;
///
/// let guess = async |city: String, _: AppError| Ok(format!("{city}: as yesterday"));
/// let svc = ServiceBuilder::new()
///     .layer(FallbackLayer::with_request(guess))
///     .map_err(Error::Service)
///     .service_fn(async |_: String| Err::<String, _>(std::io::Error::other("no forecast")));
/// assert_eq!(svc.oneshot("Bern".into()).await.unwrap(), "Bern: as yesterday");
/// # }
/// ```
#[derive(Clone)]
pub struct FallbackLayer<H, O = Always, B = NoBypass> {
    handler: H,
    on: O,
    bypass: B,
    name: Option<&'static str>,
}

/// Says which errors the fallback answers. Closures `Fn(&E) -> bool` do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot tell which errors of the type `{E}` the fallback answers",
    label = "expected a closure `|error: &{E}| -> bool`"
)]
pub trait On<E> {
    /// Whether the fallback answers this error.
    fn answers(&self, error: &E) -> bool;
}

/// The default: every error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

// === impl FallbackLayer ===

impl<F> FallbackLayer<OnError<F>> {
    /// Answers with `answer`, an async function of the error.
    pub const fn new<E, Fut>(answer: F) -> Self
    where
        F: Fn(E) -> Fut,
    {
        Self { handler: OnError(answer), on: Always, bypass: NoBypass, name: None }
    }
}

impl<F> FallbackLayer<OnRequest<F>> {
    /// Answers with `answer`, an async function of the request and the error. Each request is cloned before it
    /// is sent; one that cannot be cloned goes with [`with_key`](Self::with_key).
    pub const fn with_request<Req, E, Fut>(answer: F) -> Self
    where
        F: Fn(Req, E) -> Fut,
    {
        let handler = OnRequest { answer, keep: ByClone };
        Self { handler, on: Always, bypass: NoBypass, name: None }
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
    pub const fn with_key<Req, Kept, E, Fut>(key: K, answer: F) -> Self
    where
        K: Fn(&Req) -> Kept,
        F: Fn(Kept, E) -> Fut,
    {
        let handler = OnRequest { answer, keep: key };
        Self { handler, on: Always, bypass: NoBypass, name: None }
    }
}

impl<H, O, B> FallbackLayer<H, O, B> {
    /// Answers only the errors for which `on` says so: [`is_refusal`](crate::is_refusal) for what a layer
    /// inside refused (not a timeout: the call may have run), or a closure that asks a classifier.
    ///
    /// It is asked once for each call that failed. If it panics, the caller gets the panic.
    #[must_use]
    pub fn on<E, P>(self, on: P) -> FallbackLayer<H, P, B>
    where
        P: Fn(&E) -> bool,
    {
        let Self { handler, bypass, name, .. } = self;
        FallbackLayer { handler, on, bypass, name }
    }

    /// Leaves the calls alone for which `passes_by` says so, as if the layer were not there: their errors reach the
    /// caller, and nothing of the request is kept.
    #[must_use]
    pub fn bypass<Req, F>(self, passes_by: F) -> FallbackLayer<H, O, F>
    where
        F: Fn(&Req) -> bool,
    {
        let Self { handler, on, name, .. } = self;
        FallbackLayer { handler, on, bypass: passes_by, name }
    }

    /// A name for events.
    ///
    /// # Panics
    ///
    /// If the name is owned and too long, or there are too many: see [`Name`].
    #[must_use]
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
        self.name = Some(name.into().check("FallbackLayer::name")?);
        Ok(self)
    }
}

impl<S, H: Clone, O: Clone, B: Clone> Layer<S> for FallbackLayer<H, O, B> {
    type Service = Fallback<S, H, O, B>;

    fn layer(&self, inner: S) -> Self::Service {
        let closures = (self.handler.clone(), self.on.clone(), self.bypass.clone());
        Fallback::new(inner, closures, self.name)
    }
}

/// Without the closures, which cannot be shown.
impl<H, O, B> fmt::Debug for FallbackLayer<H, O, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl On ===

impl<E> On<E> for Always {
    fn answers(&self, _: &E) -> bool {
        true
    }
}

impl<E, F: Fn(&E) -> bool> On<E> for F {
    fn answers(&self, error: &E) -> bool {
        self(error)
    }
}
