//! Composable tower layers for resilient worker pools: concurrency limit, rate limit, timeout, retry, circuit breaker and a pool.
