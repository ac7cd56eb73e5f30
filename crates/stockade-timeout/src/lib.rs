//! A tower layer that ends a call which takes too long, and tells everything inside when that will be.
