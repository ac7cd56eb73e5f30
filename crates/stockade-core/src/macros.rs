//! What is written the same for many types: the setters of layers and what ends them, the accessors of services, what can
//! be shown of a type with closures in it, the switch of a handle, and the spellings of plain enums.

/// The setters of a layer, each of which sets one field of its `config`.
///
/// A method `changed` of the layer, which is called after each, checks the configuration and starts a new state.
///
/// ```
/// use stockade_core::config::allow;
///
/// struct Config {
///     queue: usize,
/// }
///
/// struct FunnelLayer {
///     config: Config,
/// }
///
/// stockade_core::setters! { FunnelLayer:
///     /// At most `n` calls wait.
///     queue(n: usize) => queue = n;
/// }
///
/// impl FunnelLayer {
///     #[track_caller]
///     fn changed(self) -> Self {
///         allow("FunnelLayer::queue", self.config.queue, 0..=9);
///         self
///     }
/// }
///
/// assert_eq!(FunnelLayer { config: Config { queue: 0 } }.queue(5).config.queue, 5);
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    (
        $layer:ident $(<$($param:ident $(: $bound:path)?),*>)?:
        $($(#[$doc:meta])* $setter:ident($($value:ident: $type:ty),*) => $field:ident = $set:expr;)+
    ) => {
        impl $(<$($param $(: $bound)?),*>)? $layer $(<$($param),*>)? {
            $(
                $(#[$doc])*
                #[track_caller]
                pub fn $setter(mut self $(, $value: $type)*) -> Self {
                    self.config.$field = $set;
                    self.changed()
                }
            )+
        }
    };
}

/// What ends the setters of a layer with a method `handle`, which returns the handle of its state.
#[doc(hidden)]
#[macro_export]
macro_rules! endings {
    ($layer:ident<$($param:ident $(: $bound:path)?),*> => $handle:ty) => {
        impl<$($param $(: $bound)?),*> $layer<$($param),*> {
            /// Ends the setters, and returns the handle of the state that the layer, its clones and their services share.
            pub fn with_handle(self) -> ($crate::Configured<Self>, $handle) {
                let handle = self.handle();
                ($crate::Configured::new(self), handle)
            }

            /// Gives each service that this layer makes a state of its own, which only the clones of that service share.
            /// Its handle comes from the service.
            #[must_use]
            pub fn per_service(self) -> $crate::PerService<Self> {
                $crate::PerService::new(self)
            }
        }
    };
}

/// `get_ref`, `get_mut` and `into_inner` for a service with a field `inner`.
///
/// ```
/// struct Passed<S> {
///     inner: S,
/// }
///
/// stockade_core::accessors!(Passed<S>);
///
/// assert_eq!(*Passed { inner: 7 }.get_ref(), 7);
/// ```
#[macro_export]
macro_rules! accessors {
    ($service:ident<$s:ident $(: $bound:path)? $(, $other:ident)*>) => {
        impl<$s $(: $bound)? $(, $other)*> $service<$s $(, $other)*> {
            /// The service inside.
            pub fn get_ref(&self) -> &$s {
                &self.inner
            }

            /// The service inside, mutably.
            pub fn get_mut(&mut self) -> &mut $s {
                &mut self.inner
            }

            /// The service inside, without the layer.
            pub fn into_inner(self) -> $s {
                self.inner
            }
        }
    };
}

/// `Debug` for a type with parts that cannot be shown, such as closures: the fields that are named, and that there are
/// more.
///
/// ```
/// struct Passed<S, F> {
///     inner: S,
///     closure: F,
/// }
///
/// stockade_core::shown!(Passed<S: std::fmt::Debug, F>: inner);
///
/// let passed = Passed { inner: 7, closure: || () };
/// assert_eq!(format!("{passed:?}"), "Passed { inner: 7, .. }");
/// # let _ = passed.closure;
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! shown {
    ($name:ident<$($generic:ident $(: $bound:path)?),*>: $($field:ident),+) => {
        impl<$($generic $(: $bound)?),*> ::std::fmt::Debug for $name<$($generic),*> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &self.$field))+
                    .finish_non_exhaustive()
            }
        }
    };
}

/// `set_enabled` and `is_enabled` for a handle around an `Arc` of a state with the field `enabled`.
///
/// ```
/// use std::sync::{Arc, atomic::AtomicBool};
///
/// struct Shared {
///     enabled: AtomicBool,
/// }
///
/// pub struct Handle(Arc<Shared>);
///
/// stockade_core::switch!(Handle);
///
/// let handle = Handle(Arc::new(Shared { enabled: AtomicBool::new(true) }));
/// handle.set_enabled(false);
/// assert!(!handle.is_enabled());
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! switch {
    ($handle:ident) => {
        impl $handle {
            /// Switches the layer off, or on again, for calls that begin from now on. While it is off, calls go
            /// straight to the service inside.
            pub fn set_enabled(&self, enabled: bool) {
                self.0.enabled.store(enabled, ::std::sync::atomic::Ordering::Relaxed);
            }

            /// Whether the layer is on.
            pub fn is_enabled(&self) -> bool {
                self.0.enabled.load(::std::sync::atomic::Ordering::Relaxed)
            }
        }
    };
}

/// How the variants of a plain enum are spelt: in messages, and as labels of metrics and events.
#[doc(hidden)]
#[macro_export]
macro_rules! spellings {
    ($name:ident: $($variant:ident $words:literal $label:literal,)+) => {
        impl $name {
            /// A few words in lower case, for messages: the same as its `Display`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)+
                }
            }

            /// The same as a label of metrics, and of the fields of events.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
