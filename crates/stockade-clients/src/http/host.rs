//! The host that a request goes to, as a key.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use http::{Request, Uri, header::HOST, uri::Authority};
use stockade_core::KeyOf;

/// Reads the host that an `http::Request` goes to, for the key of a `KeyedLayer`: a breaker and a limit for each host.
///
/// That is the scheme, the host and the port of its URI; if it has none, as in a server, the host of the header `Host`.
/// A request with neither has an empty host. Looking a host up allocates nothing.
///
/// The header is whatever the client writes. In a server, bound the number of keys accordingly.
///
/// # Example
///
/// ```
/// use http::Request;
/// use stockade_clients::http::ByHost;
/// use stockade_core::KeyOf;
///
/// let request = Request::get("https://Example.com/a").body(()).unwrap();
/// let host = ByHost.key_of(&request).to_key();
/// assert_eq!((host.scheme(), host.host(), host.port()), ("https", "example.com", 443));
/// assert_eq!(host.to_string(), "https://example.com:443");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ByHost;

/// A scheme, a host and a port: where requests go to.
///
/// Scheme and host are in lower case. Without a port it is that of `http` or `https`, else zero.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Both in one piece of memory: most keys are of this kind, and there may be many.
    scheme_and_host: Box<str>,
    scheme_ends: u8,
    port: u16,
}

/// A [`HostKey`] that is in a request. It has the same hash, whatever its case.
#[derive(Clone, Copy, Debug)]
pub struct HostRef<'a> {
    scheme: &'a str,
    host: &'a str,
    port: u16,
}

/// The longest scheme that the `http` crate lets through is 64 bytes long.
const LONGEST_SCHEME: usize = u8::MAX as usize;

// === impl ByHost ===

impl<B> KeyOf<Request<B>> for ByHost {
    type Key = HostKey;
    type Found<'a>
        = HostRef<'a>
    where
        Request<B>: 'a;

    fn key_of<'a>(&self, request: &'a Request<B>) -> HostRef<'a> {
        let scheme = request.uri().scheme_str().unwrap_or("");
        if let Some(authority) = request.uri().authority() {
            let (host, port) = (authority.host(), authority.port_u16());
            return HostRef::new(scheme, host, port);
        }
        let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let (host, port) = header.map_or(("", None), split);
        HostRef::new(scheme, host, port)
    }
}

/// Host and port of a `Host` header.
fn split(header: &str) -> (&str, Option<u16>) {
    let colon = header.rfind(':').filter(|colon| !header[*colon..].contains(']'));
    let Some(colon) = colon else { return (header, None) };
    match header[colon + 1..].parse() {
        Ok(port) => (&header[..colon], Some(port)),
        Err(_) => (header, None),
    }
}

// === impl HostRef ===

impl<'a> HostRef<'a> {
    /// A port that is not given is that of the scheme.
    pub(crate) fn new(scheme: &'a str, host: &'a str, port: Option<u16>) -> Self {
        let scheme = if scheme.len() > LONGEST_SCHEME { "" } else { scheme };
        let port = port.unwrap_or_else(|| {
            if scheme.eq_ignore_ascii_case("https") {
                443
            } else if scheme.eq_ignore_ascii_case("http") {
                80
            } else {
                0
            }
        });
        Self { scheme, host, port }
    }

    /// The same, to keep.
    pub fn to_key(&self) -> HostKey {
        let mut scheme_and_host = String::with_capacity(self.scheme.len() + self.host.len());
        scheme_and_host.push_str(self.scheme);
        scheme_and_host.push_str(self.host);
        scheme_and_host.make_ascii_lowercase();
        let scheme_ends = u8::try_from(self.scheme.len()).unwrap_or(0);
        HostKey { scheme_and_host: scheme_and_host.into(), scheme_ends, port: self.port }
    }
}

impl Hash for HostRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(self.scheme, state);
        hash(self.host, state);
        state.write_u16(self.port);
    }
}

/// Hashes a text in lower case.
fn hash(text: &str, state: &mut impl Hasher) {
    let mut lower = [0; 32];
    for chunk in text.as_bytes().chunks(lower.len()) {
        let lower = &mut lower[..chunk.len()];
        lower.copy_from_slice(chunk);
        lower.make_ascii_lowercase();
        state.write(lower);
    }
    // So that no two pairs of texts are one.
    state.write_u8(0xff);
}

impl PartialEq<HostKey> for HostRef<'_> {
    fn eq(&self, key: &HostKey) -> bool {
        self.port == key.port
            && self.scheme.eq_ignore_ascii_case(key.scheme())
            && self.host.eq_ignore_ascii_case(key.host())
    }
}

impl From<HostRef<'_>> for HostKey {
    fn from(host: HostRef<'_>) -> Self {
        host.to_key()
    }
}

// === impl HostKey ===

impl HostKey {
    /// The key of requests to this URI, to look it up with a handle.
    pub fn of(uri: &Uri) -> Self {
        let host = uri.authority().map_or("", Authority::host);
        HostRef::new(uri.scheme_str().unwrap_or(""), host, uri.port_u16()).to_key()
    }

    /// The scheme, such as `https`; empty if the request says none.
    pub fn scheme(&self) -> &str {
        &self.scheme_and_host[..usize::from(self.scheme_ends)]
    }

    /// The host: a name, or an address.
    pub fn host(&self) -> &str {
        &self.scheme_and_host[usize::from(self.scheme_ends)..]
    }

    /// The port; zero if it is not known.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn borrowed(&self) -> HostRef<'_> {
        HostRef { scheme: self.scheme(), host: self.host(), port: self.port }
    }
}

impl Hash for HostKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme().is_empty() {
            write!(f, "{}://", self.scheme())?;
        }
        f.write_str(self.host())?;
        if self.port == 0 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    fn key(uri: &str) -> HostKey {
        ByHost.key_of(&Request::get(uri).body(()).unwrap()).to_key()
    }

    #[test]
    fn a_host_is_scheme_host_and_port_whatever_the_case_and_the_rest() {
        for (uri, text) in [
            ("https://a.example/b?c", "https://a.example:443"),
            ("HTTP://user:word@A.Example", "http://a.example:80"),
            ("http://a.example:8080", "http://a.example:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("grpc://a.example", "grpc://a.example"),
            ("/path", ""),
        ] {
            assert_eq!(key(uri).to_string(), text);
        }
        assert_eq!(key("https://A.example/x"), HostKey::of(&Uri::from_static("https://a.example")));
        assert_ne!(key("https://a.example"), key("http://a.example:443"));
    }

    #[test]
    fn a_request_to_a_server_has_the_host_of_its_header() {
        for (header, host, port) in [
            ("a.example", "a.example", 0),
            ("A.example:81", "a.example", 81),
            ("[::1]", "[::1]", 0),
            ("[::1]:81", "[::1]", 81),
            ("a:b", "a:b", 0),
        ] {
            let request = Request::get("/").header(HOST, header).body(()).unwrap();
            let key = ByHost.key_of(&request).to_key();
            assert_eq!((key.scheme(), key.host(), key.port()), ("", host, port));
        }
    }

    proptest! {
        #[test]
        fn what_is_equal_has_the_same_hash(
            scheme in "[a-zA-Z]{0,3}",
            host in "[a-cA-C.]{0,70}",
            port in proptest::option::of(79..82_u16),
            upper in any::<bool>(),
        ) {
            let (other_scheme, other_host) = if upper {
                (scheme.to_uppercase(), host.to_uppercase())
            } else {
                (scheme.clone(), host.clone())
            };
            let found = HostRef::new(&scheme, &host, port);
            let key = HostRef::new(&other_scheme, &other_host, port).to_key();
            let hasher = RandomState::new();
            prop_assert!(found == key);
            prop_assert_eq!(hasher.hash_one(found), hasher.hash_one(&key));
        }
    }
}
