//! A tower layer that bounds the rate of calls with a token bucket, on governor.
