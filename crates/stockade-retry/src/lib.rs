//! A tower layer that repeats failed calls, with backoff, jitter and a budget.
