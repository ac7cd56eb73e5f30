//! Headers that belong to one connection.

use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes the headers that belong to one connection and not to the message (RFC 9110, section 7.6.1): `Connection` and
/// what it names, `Keep-Alive`, `Proxy-Connection`, `TE`, `Trailer`, `Transfer-Encoding` and `Upgrade`.
///
/// For an answer that is read to its end and handed on: the `Transfer-Encoding` of the connection on which it came
/// contradicts the `Content-Length` that a server gives a body it knows, and the next client gets no answer.
///
/// # Example
///
/// ```
/// use http::{Response, header::TRANSFER_ENCODING};
/// use stockade_clients::http::remove_hop_by_hop;
///
/// let mut answer = Response::builder().header(TRANSFER_ENCODING, "chunked").body("whole").unwrap();
/// remove_hop_by_hop(answer.headers_mut());
/// assert!(answer.headers().is_empty());
/// ```
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim_matches([' ', '\t'])).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_belongs_to_the_connection_goes_and_all_else_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Mine"),
            ("connection", "\tx-other , , not a name"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x-checksum"),
            ("transfer-encoding", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("content-length", "5"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left, ["content-length", "x-kept", "x-kept"]);
    }
}
