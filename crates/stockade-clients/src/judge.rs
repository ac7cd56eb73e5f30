//! The frame in which every classifier judges an error.

use std::{error::Error as StdError, io, iter};

use stockade_core::{Class, Classify, DefaultClassify};

use crate::Cause;

/// The class of `error`: by what `own` says of it or of the first of its sources that it knows, and
/// otherwise by the default, which also judges the refusals of layers inside.
pub(crate) fn error<E: Cause>(
    error: &E,
    own: impl Fn(&(dyn StdError + 'static)) -> Option<Class>,
) -> Class {
    if error.rejected().is_none()
        && let Some(class) = chain(error.cause()).find_map(own)
    {
        return class;
    }
    DefaultClassify.classify(Err::<&(), _>(error))
}

/// What every client can meet: nobody listens at the address, so nothing was sent.
pub(crate) fn refused(error: &(dyn StdError + 'static)) -> Option<Class> {
    let io: &io::Error = error.downcast_ref()?;
    (io.kind() == io::ErrorKind::ConnectionRefused).then_some(Class::Unsent { after: None })
}

/// `error` and its sources, outermost first.
pub(crate) fn chain<'a>(
    error: Option<&'a (dyn StdError + 'static)>,
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(error, |&error| match error.downcast_ref::<io::Error>() {
        // An `io::Error` prints as the error that it holds, and so leaves it out of its sources.
        Some(io) => io.get_ref().map(|held| held as &(dyn StdError + 'static)),
        None => error.source(),
    })
}
