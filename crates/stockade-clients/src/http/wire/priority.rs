//! The priority in a header.

use http::{HeaderMap, HeaderName, HeaderValue};
use stockade_core::priority::Priority;

/// The header unless another one is chosen.
pub(super) const HEADER: &str = "x-request-priority";

/// The priority in `headers`, if there is one that has a name: of several the lowest, since a client may have added one.
pub(super) fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Priority> {
    let named = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
    headers.get_all(name).into_iter().filter_map(named).min()
}

/// Writes `priority`. The one that a request without the header has is not written.
pub(super) fn write(headers: &mut HeaderMap, name: &HeaderName, priority: Priority) {
    if priority == Priority::default() {
        headers.remove(name);
    } else {
        headers.insert(name, HeaderValue::from_static(priority.as_str()));
    }
}
