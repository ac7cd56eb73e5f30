//! The frame in which every classifier judges an error.

use std::{error::Error as StdError, io, iter};

use stockade_core::{Class, Classify, DefaultClassify, Error, Rejected};

use crate::Cause;

/// The class of `error`: by what `own` says of it or of the first of its sources that it knows, and
/// otherwise by the default, which also judges the refusals of layers inside.
///
/// A refusal may be in the client's error too, if the client has layers inside that it does not know of.
pub(crate) fn error<E: Cause>(
    error: &E,
    own: impl Fn(&(dyn StdError + 'static)) -> Option<Class>,
) -> Class {
    let causes = || chain(error.cause());
    match error.rejected().or_else(|| causes().find_map(refusal)) {
        Some(&rejected) => default(Error::Rejected(rejected)),
        None => causes().find_map(own).unwrap_or_else(|| default(Error::Service(()))),
    }
}

fn default(error: Error<()>) -> Class {
    DefaultClassify.classify(Err::<&(), _>(&error))
}

fn refusal<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Rejected> {
    error.downcast_ref()
}

/// What every client can meet: nobody listens at the address, so nothing was sent.
pub(crate) fn refused(error: &(dyn StdError + 'static)) -> Option<Class> {
    let io: &io::Error = find(error)?;
    (io.kind() == io::ErrorKind::ConnectionRefused).then_some(Class::NoEffect { after: None })
}

/// `error` as a client's error, which may be that of a stack that was put into a box as a whole.
pub(crate) fn find<'a, X: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a X> {
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
