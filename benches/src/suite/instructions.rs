//! TODO
pub fn make_calls(_: &str, _: &str) {}
