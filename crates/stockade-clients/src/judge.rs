//! The frame in which every classifier judges an error.

use std::{error::Error as StdError, io, iter, sync::Arc};

use stockade_core::{Class, Classify, DefaultClassify, Error, Rejected};

use crate::Cause;

/// The class of `error`.
///
/// A refusal comes first, wherever it is in the chain of sources: the call never reached the server. After it
/// `own` is asked for the error and each of its sources, outermost first: where a layer inside the client ended
/// an attempt, as a timeout of its connector does, the client's error knows whether anything was sent. What
/// `own` does not know is judged by the default.
pub(crate) fn error<E: Cause>(
    error: &E,
    own: impl Fn(&(dyn StdError + 'static)) -> Option<Class>,
) -> Class {
    let causes = || chain(error.cause());
    let rejected = error.rejected().or_else(|| causes().find_map(refusal)).copied();
    match rejected {
        Some(rejected) if rejected.is_refusal() => default(Error::Rejected(rejected)),
        _ => causes()
            .find_map(own)
            .unwrap_or_else(|| default(rejected.map_or(Error::Service(()), Error::Rejected))),
    }
}

fn default(error: Error<()>) -> Class {
    DefaultClassify.classify(Err::<&(), _>(&error))
}

pub(crate) fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Rejected> {
    error.downcast_ref()
}

/// What every client can meet: nobody listens at the address, so nothing was sent.
pub(crate) fn refused(error: &(dyn StdError + 'static)) -> Option<Class> {
    let io: &io::Error = find(error)?;
    (io.kind() == io::ErrorKind::ConnectionRefused).then_some(Class::NoEffect { after: None })
}

/// What every client over hyper can meet: its connection was closed before the request was sent. It is known by its text,
/// as below.
#[cfg(any(feature = "http", feature = "tonic"))]
pub(crate) fn never_sent(error: &(dyn StdError + 'static)) -> Option<Class> {
    let is_canceled = error.to_string().starts_with("operation was canceled");
    is_canceled.then_some(Class::NoEffect { after: None })
}

/// What every HTTP/2 client can meet: the server refused the stream before any application logic saw it (RFC
/// 9113, section 8.7), or it ends the connection, for whatever reason, and this stream is beyond the last one that it
/// has begun (section 6.8); or it finds that the client asks for too much (`ENHANCE_YOUR_CALM`).
///
/// All are known by their text, which spares all users of this crate a dependency on `h2`; tests with servers
/// that do so hold it.
#[cfg(any(feature = "http", feature = "tonic"))]
pub(crate) fn sent_back(error: &(dyn StdError + 'static)) -> Option<Class> {
    const REFUSED: &str = "refused stream before processing any application logic";
    // `h2` says this to no stream that the server may have begun.
    const GOING_AWAY: &str = "connection error received: ";
    const TOO_MUCH: &str = "error received: detected excessive load generating behavior";
    if error.source().is_some() {
        return None;
    }
    let text = error.to_string();
    let not_begun = text.contains(REFUSED) || text.contains(GOING_AWAY);
    if text.contains(TOO_MUCH) {
        Some(Class::Overload { after: None, processed: !not_begun })
    } else {
        not_begun.then_some(Class::NoEffect { after: None })
    }
}

/// Whether the other side showed a certificate that is not trusted: it would be the same again. It is known by the text of
/// the innermost error, by that of rustls and that of OpenSSL, which spares all users of this crate a dependency on them;
/// tests with real servers hold the first. So `error` must not be what a server has said.
pub(crate) fn is_about_a_certificate(error: &(dyn StdError + 'static)) -> bool {
    let text = chain(Some(error)).last().unwrap_or(error).to_string();
    text.contains("invalid peer certificate") || text.contains("certificate verify failed")
}

/// `error` as a client's error, also one in a `Box` or an `Arc`: they print as what they hold, and so leave it out of
/// their sources.
pub(crate) fn find<'a, X: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a X> {
    let boxed = || held::<Box<X>>(error).map(|boxed| &**boxed);
    let shared = || held::<Arc<X>>(error).map(|shared| &**shared);
    held(error).or_else(boxed).or_else(shared)
}

/// `error` as an `X`, which may be the error of a stack that was put into a box as a whole.
fn held<'a, X: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a X> {
    // A stack's error prints as the one that it holds, and so leaves it out of its sources.
    match error.downcast_ref() {
        Some(Error::Service(error)) => Some(error),
        Some(Error::Rejected(_)) => None,
        None => error.downcast_ref(),
    }
}

/// `error` and its sources, outermost first.
pub(crate) fn chain<'a>(
    error: Option<&'a (dyn StdError + 'static)>,
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(error, |&error| match find::<io::Error>(error) {
        // An `io::Error` prints as the error that it holds, and so leaves it out of its sources.
        Some(io) => io.get_ref().map(|held| held as &(dyn StdError + 'static)),
        None => error.source(),
    })
}
