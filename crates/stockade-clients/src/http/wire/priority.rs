//! The priority in a header.

use http::{HeaderMap, HeaderName, HeaderValue};
use stockade_core::priority::Priority;

/// The header unless another one is chosen.
pub(super) const HEADER: &str = "x-request-priority";

/// The priority in `headers`, if there is one that has a name.
pub(super) fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Priority> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Writes `priority`. The one that a request without the header has is not written.
pub(super) fn write(headers: &mut HeaderMap, name: &HeaderName, priority: Priority) {
    if priority == Priority::default() {
        headers.remove(name);
    } else {
        headers.insert(name, HeaderValue::from_static(priority.as_str()));
    }
}
