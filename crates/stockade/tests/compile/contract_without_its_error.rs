//! The layer turns the error of the probe into text.

use stockade::Error;
use stockade_testkit::{Fault, Probe, contract};
use tower::ServiceBuilder;

fn main() {
    let as_text = |error: Error<Fault>| error.to_string();
    let _ = contract(move |inner: Probe| ServiceBuilder::new().map_err(as_text).service(inner));
}
