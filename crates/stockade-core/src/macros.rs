//! What is written the same for many types: the accessors of services, what can be shown of a type with closures in it,
//! the switch of a handle, and the spellings of plain enums.

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
