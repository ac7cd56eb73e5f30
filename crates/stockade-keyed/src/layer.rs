//! The layer and its setters.

use std::{
    fmt,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    time::Duration,
};

use stockade_core::{
    Configured, Fresh, KeyOf, Name, PerService,
    config::{MAX_DURATION, MIN_DURATION, allow, checked},
};
use tower_layer::Layer;

use crate::{
    Keyed, KeyedHandle, WhenFull,
    config::{Config, IDLE},
    shared::{Make, Shared},
    stacks::Stacks,
};

/// Gives each key a stack of layers of its own.
///
/// | setter | default |
/// |---|---|
/// | [`idle`](Self::idle) | a key is dropped once it was not used for 5 minutes |
/// | [`when_full`](Self::when_full) | [`WhenFull::Share`] |
/// | [`name`](Self::name) | none |
///
/// All clones of the layer, the services they make and their clones share one table of keys, with the layers and the
/// handles of each, unless it is [`per_service`](Self::per_service). Each service has stacks of its own around its
/// client, made of the shared layers. So calls of one key that come through two services share a limit if the limit is
/// a layer whose services share one state, as those of stockade are.
///
/// The key of a call is read by a closure, or by any other [`KeyOf`].
pub struct KeyedLayer<Req, F, K, L, H = ()> {
    config: Config,
    key: F,
    layers: Make<K, H, L>,
    shared: Arc<OnceLock<Arc<Shared<K, H, L>>>>,
    requests: PhantomData<fn(&Req)>,
}

const MAX_KEYS: usize = 1 << 30;

// === impl KeyedLayer ===

impl<Req, F, K, L> KeyedLayer<Req, F, K, L>
where
    F: KeyOf<Req, Key = K>,
{
    /// Each of at most `max_keys` keys gets the stack that `layers` makes for it.
    ///
    /// All stacks are of one type, for instance a [`Stack`](https://docs.rs/tower-layer/latest/tower_layer/struct.Stack.html);
    /// what is set in them may depend on the key. `layers` is called when a key comes that is not there, and under no
    /// lock. If two calls with a new key come at once, it may be called for both, and one of the results is dropped
    /// unused.
    ///
    /// Give the layers no name that is made of the key: a process may have 4,096 owned names, and the setter panics for the
    /// next one, in the call of its key. [`KeyedHandle::top`] tells which keys are refused.
    ///
    /// # Panics
    ///
    /// If `max_keys` is not from 1 to 1,073,741,824.
    #[track_caller]
    pub fn new<M>(key: F, max_keys: usize, layers: M) -> Self
    where
        M: Fn(&K) -> L + Send + Sync + 'static,
    {
        let max_keys = allow("KeyedLayer::new, max_keys", max_keys, 1..=MAX_KEYS);
        Self::of(key, max_keys, move |key| (layers(key), ()))
    }
}

impl<Req, F, K, L, H> KeyedLayer<Req, F, K, L, H>
where
    F: KeyOf<Req, Key = K>,
{
    /// As [`new`](Self::new), with handles to the layers of each key: [`KeyedHandle::get`].
    ///
    /// # Panics
    ///
    /// If `max_keys` is not from 1 to 1,073,741,824.
    #[track_caller]
    pub fn with_handles<M>(key: F, max_keys: usize, layers: M) -> Self
    where
        M: Fn(&K) -> (L, H) + Send + Sync + 'static,
    {
        let max_keys = allow("KeyedLayer::with_handles, max_keys", max_keys, 1..=MAX_KEYS);
        Self::of(key, max_keys, layers)
    }

    fn of<M>(key: F, max_keys: usize, layers: M) -> Self
    where
        M: Fn(&K) -> (L, H) + Send + Sync + 'static,
    {
        let config = Config { max_keys, idle: IDLE, when_full: WhenFull::default(), name: None };
        let layers = Arc::new(layers);
        Self { config, key, layers, shared: Arc::default(), requests: PhantomData }
    }
}

impl<Req, F, K, L, H> KeyedLayer<Req, F, K, L, H> {
    /// A key is dropped, with its stack and all that its layers know, once it was not used for this long (default
    /// 5 minutes).
    ///
    /// A key that comes back later starts anew. So choose a time in which its layers would be as new anyway: longer than
    /// a rate limit takes to fill its bucket, and than a breaker stays open. An answer that holds a permit after its
    /// call has ended, as a body that streams may, does not keep its key in use.
    ///
    /// # Panics
    ///
    /// If it is not from a nanosecond to ten years.
    #[must_use]
    #[track_caller]
    pub fn idle(self, idle: Duration) -> Self {
        let idle = allow("KeyedLayer::idle", idle, MIN_DURATION..=MAX_DURATION);
        self.set(|config| config.idle = idle)
    }

    /// What happens to a new key while there are `max_keys`, and each of them was used within
    /// [`idle`](Self::idle): by default it shares a stack with others.
    ///
    /// There are 16 stacks for that, beyond `max_keys`. Which of them a key shares is decided by its hash, so a client
    /// that sends with one key harms a sixteenth of the others. Each is made by `layers` for the first key that comes to
    /// it, so it has that key's settings. A key that shares a stack gets one of its own when it comes and there is a place.
    #[must_use]
    pub fn when_full(self, when_full: WhenFull) -> Self {
        self.set(|config| config.when_full = when_full)
    }

    /// A name for refusals and events.
    ///
    /// # Panics
    ///
    /// If the name is owned and too long, or there are too many: see [`Name`].
    #[must_use]
    #[track_caller]
    pub fn name(self, name: impl Into<Name>) -> Self {
        let name = checked(name.into().check("KeyedLayer::name"));
        self.set(|config| config.name = Some(name))
    }

    /// Gives each service that the layer makes a table of keys of its own. Ends the setters.
    #[must_use]
    pub fn per_service(self) -> PerService<Self> {
        PerService::new(self)
    }

    /// Ends the setters, and gives a handle to the keys of all services of the layer.
    pub fn with_handle(self) -> (Configured<Self>, KeyedHandle<K, H>)
    where
        K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
        H: Clone + Send + Sync + 'static,
        L: Send + Sync + 'static,
    {
        let handle = KeyedHandle::new(self.shared() as _);
        (Configured::new(self), handle)
    }

    fn set(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(&mut self.config);
        self.shared = Arc::default();
        self
    }

    fn shared(&self) -> Arc<Shared<K, H, L>> {
        let new = || Arc::new(Shared::new(self.config.clone(), Arc::clone(&self.layers)));
        Arc::clone(self.shared.get_or_init(new))
    }
}

impl<Req, F: Clone, K, L, H> Fresh for KeyedLayer<Req, F, K, L, H> {
    fn fresh(&self) -> Self {
        self.clone().set(|_| {})
    }
}

impl<Req, F: Clone, K, L, H> Clone for KeyedLayer<Req, F, K, L, H> {
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            key: self.key.clone(),
            layers: Arc::clone(&self.layers),
            shared: Arc::clone(&self.shared),
            requests: PhantomData,
        }
    }
}

impl<S, Req, F, K, L, H> Layer<S> for KeyedLayer<Req, F, K, L, H>
where
    S: Send + Sync + 'static,
    F: Clone,
    K: Send + Sync + 'static,
    H: Send + Sync + 'static,
    L: Layer<S> + Send + Sync + 'static,
    L::Service: Send + Sync + 'static,
{
    type Service = Keyed<S, Req, F, K, L, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Keyed::new(Stacks::new(inner, self.shared()), self.key.clone())
    }
}

/// Without the functions, which cannot be shown.
impl<Req, F, K, L, H> fmt::Debug for KeyedLayer<Req, F, K, L, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLayer").field("config", &self.config).finish_non_exhaustive()
    }
}
