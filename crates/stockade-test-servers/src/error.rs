//! What can go wrong when a server starts.

use std::{error::Error, fmt, io};

/// A server could not be started. `Debug` prints the message too, because that is what `unwrap` in a test shows.
#[non_exhaustive]
pub enum ServerError {
    /// The program is not installed.
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The system refused a file, a directory or a process.
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The program ended, or did not answer in time.
    Failed {
        /// The program.
        program: &'static str,
        /// The last lines that it wrote.
        said: String,
    },
}

// === impl ServerError ===

impl ServerError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program, package } => write!(
                f,
                "`{program}` is not installed: `apt-get install {package}` on Debian, or put it on the PATH"
            ),
            Self::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
            Self::Failed { program, said } => write!(f, "`{program}` did not start: {said}"),
        }
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ServerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Missing { .. } | Self::Failed { .. } => None,
        }
    }
}
