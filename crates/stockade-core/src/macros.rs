//! What is written the same for many types: the accessors of services, and the spellings of plain enums.

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
