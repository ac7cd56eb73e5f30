//! A tower layer that bounds the number of calls in flight, with a bounded FIFO queue.
