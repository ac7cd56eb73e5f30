//! A client's error, with a message that names the host and says what to do.

use std::{error::Error as StdError, fmt};

use crate::{
    advice::{advice, hint},
    judge::chain,
};

/// A client's error, whose message names the host, what is wrong and what to do about it, and no credentials.
///
/// Clients' own messages tend to say "error sending request" and leave the rest to their sources, or to show
/// the whole URL with the password in it. Wrap the error right above the client:
/// `Failure::of` takes reqwest's, which knows its URL, and [`Failure::at`] any other. Classifiers judge it
/// as they judge the error in it, which is its source.
///
/// # Example
///
/// ```
/// use std::io;
/// use stockade_clients::Failure;
///
/// let error = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let failure = Failure::at("https://me:hunter2@db.example:8443/orders?key=1", error);
/// assert_eq!(
///     failure.to_string(),
///     "db.example:8443: connection refused; check the port, and that the server runs",
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Failure<E> {
    host: Option<Box<str>>,
    error: E,
}

// === impl Failure ===

impl<E: StdError + 'static> Failure<E> {
    /// `error` of a call to the server at `address`, a URL or `host:port`, of which only that is kept.
    ///
    /// Where it cannot be told for sure what in it is the host and what a password, none is kept.
    pub fn at(address: &str, error: E) -> Self {
        Self { host: host(address).map(Box::from), error }
    }

    /// The server's host, and its port if the address has it.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The client's error.
    pub fn get_ref(&self) -> &E {
        &self.error
    }

    /// The client's error.
    pub fn into_inner(self) -> E {
        self.error
    }
}

#[cfg(feature = "reqwest")]
impl Failure<reqwest::Error> {
    /// `error`, which knows its URL, without the credentials, the query and the fragment of that. Where it cannot be told
    /// for sure what in the URL is the host and what a password, nothing of it is kept.
    pub fn of(mut error: reqwest::Error) -> Self {
        let host = error.url().and_then(|url| host(url.as_str())).map(Box::from);
        if host.is_none() {
            return Self { host, error: error.without_url() };
        }
        if let Some(url) = error.url_mut() {
            crate::reqwest::strip(url);
            url.set_query(None);
            url.set_fragment(None);
        }
        Self { host, error }
    }
}

impl<E: StdError + 'static> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}: ")?;
        }
        let errors = || chain(Some(&self.error));
        if let Some((what, todo)) = errors().find_map(advice) {
            return write!(f, "{what}; {todo}");
        }
        // The innermost one: what is around it only says that there is one.
        if let Some(root) = errors().last() {
            write!(f, "{root}")?;
        }
        match errors().find_map(hint) {
            Some(todo) => write!(f, "; {todo}"),
            None => Ok(()),
        }
    }
}

impl<E: StdError + 'static> StdError for Failure<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// `host:port` or `host` of a URL, or of an address that is no more than that.
fn host(address: &str) -> Option<&str> {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, beyond) = rest.split_at(end);
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => host,
        None => authority,
    };
    // With an `@` further on it may be the first part of a password that has a slash in it.
    let doubtful = beyond.contains('@') && authority.contains(['@', ':']);
    let port = host.rsplit_once(':').map(|(_, port)| port);
    let numeric =
        port.is_none_or(|port| port.ends_with(']') || port.bytes().all(|b| b.is_ascii_digit()));
    let plain = |c: char| c.is_alphanumeric() || "-._~:[]%".contains(c);
    (!host.is_empty() && host.chars().all(plain) && numeric && !doubtful).then_some(host)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn of_an_address_only_host_and_port_are_kept() {
        let rows = [
            ("http://example.org", Some("example.org")),
            ("http://example.org:80/a@b?c=d", None),
            ("http://example.org/a@b?c=d", Some("example.org")),
            ("https://me:pass@example.org:8443/x?key=1#f", Some("example.org:8443")),
            ("postgres://me:p@ss@db:5432/app", Some("db:5432")),
            ("postgres://me:p/ss@db:5432/app", None),
            ("postgres://me:p@ss/word@db:5432/app", None),
            ("redis://:pass@[::1]:6379/0", Some("[::1]:6379")),
            ("http://[::1]/", Some("[::1]")),
            ("localhost:6379", Some("localhost:6379")),
            ("host=db user=me password=pass", None),
            ("me:pass", None),
            ("sqlite:///tmp/a.db", None),
            ("", None),
        ];
        for (address, expected) in rows {
            assert_eq!(host(address), expected, "{address}");
        }
    }

    #[test]
    fn of_a_password_that_was_left_as_it_is_nothing_is_kept() {
        let special = || (' '..='~').filter(|c| !c.is_ascii_alphanumeric());
        for (a, b) in special().flat_map(|a| special().map(move |b| (a, b))) {
            for user in ["me", ""] {
                let address = format!("redis://{user}:x{a}y{b}z@db:6379/0");
                let kept = host(&address);
                assert!(matches!(kept, None | Some("db:6379")), "{kept:?} of {address}");
            }
        }
    }

    #[cfg(feature = "reqwest")]
    #[tokio::test]
    async fn of_a_url_that_may_have_a_password_where_its_path_is_nothing_is_kept() {
        for url in ["http://me:1/secret@127.0.0.1/", "http://me:a@b/secret@127.0.0.1/"] {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let mut request = reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
            *request.timeout_mut() = Some(std::time::Duration::from_millis(1));
            let failure = Failure::of(client.execute(request).await.unwrap_err());
            assert_eq!(failure.host(), None, "{url}");
            let said = format!("{failure} {failure:?} {}", failure.get_ref());
            assert!(!said.contains("secret") && !said.contains("me:"), "{said}");
        }
    }

    #[test]
    fn without_advice_the_innermost_error_speaks() {
        let error = io::Error::other(io::Error::other("the disk is on fire"));
        let failure = Failure::at("db:1", error);
        assert_eq!(failure.to_string(), "db:1: the disk is on fire");
        assert_eq!(failure.host(), Some("db:1"));
        assert_eq!(failure.get_ref().kind(), io::ErrorKind::Other);
    }

    #[test]
    fn the_error_is_the_source() {
        let failure = Failure::at("", io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(failure.source().is_some_and(|source| source.is::<io::Error>()));
        assert_eq!(failure.host(), None);
        assert_eq!(failure.into_inner().kind(), io::ErrorKind::ConnectionReset);
    }
}
