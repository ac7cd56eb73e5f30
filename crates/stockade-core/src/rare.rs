//! What a call seldom holds, kept apart from what it always holds.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

/// A box, or another pointer, that is dropped out of line.
///
/// The future of a call can hold what only slow calls need: a place in a queue, a clone of the service. The code
/// that drops these is large, and the compiler would put it where each call's future is dropped, or else make
/// that place a call of its own, layer by layer. Behind this pointer it is one branch that is not taken,
/// and what is left of dropping a finished future disappears into its caller.
///
/// # Example
///
/// ```
/// use stockade_core::Rare;
///
/// let mut waiting = Rare::new(Box::new(String::from("in line")));
/// waiting.push('!');
/// assert_eq!(*waiting.into_inner(), "in line!");
/// ```
pub struct Rare<P>(Option<P>);

const TAKEN: &str = "it is taken out only by value";

// === impl Rare ===

impl<P> Rare<P> {
    /// Keeps `pointer`.
    pub const fn new(pointer: P) -> Self {
        Self(Some(pointer))
    }

    /// The pointer.
    pub fn into_inner(mut self) -> P {
        self.0.take().expect(TAKEN)
    }
}

impl<P> Drop for Rare<P> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(pointer) = self.0.take() {
            drop_apart(pointer);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_apart<P>(pointer: P) {
    drop(pointer);
}

impl<P> Deref for Rare<P> {
    type Target = P;

    fn deref(&self) -> &P {
        self.0.as_ref().expect(TAKEN)
    }
}

impl<P> DerefMut for Rare<P> {
    fn deref_mut(&mut self) -> &mut P {
        self.0.as_mut().expect(TAKEN)
    }
}

impl<P: fmt::Debug> fmt::Debug for Rare<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rare").field(&self.0).finish()
    }
}
