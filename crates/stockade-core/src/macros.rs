//! The accessors that every service has.

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
    ($service:ident<$s:ident $(, $other:ident)*>) => {
        impl<$s $(, $other)*> $service<$s $(, $other)*> {
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
