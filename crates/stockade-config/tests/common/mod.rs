//! What the tests share.

use stockade_config::{StackConfig, toml};

/// A file with all layers.
pub(crate) const FULL: &str = r#"
[timeout]
limit = "2s"
[retry]
max_attempts = 3
backoff = { exponential = { base = "10ms", cap = "1s", jitter = "none" } }
budget = "unlimited"
max_elapsed = "30s"
seed = 7
[breaker]
window = { calls = 100 }
probes = 3
name = "search"
[rate]
calls = 1000
per = "1s"
[limit]
max = 4
queue = 8
[attempt_timeout]
limit = "200ms"
[pool]
workers = 2
"#;

pub(crate) fn config(text: &str) -> StackConfig {
    toml(text).unwrap()
}
