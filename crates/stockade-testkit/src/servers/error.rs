//! Why there is no server.

use std::{error::Error, fmt, io};

/// Why a server could not be started, and what to do. For debugging it prints the same, because that is what a test
/// shows that fails for it.
#[non_exhaustive]
pub enum ServerError {
    /// The program is not installed.
    Missing {
        /// The program that was looked for.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file, a directory or a process could not be made.
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it could not be.
        source: io::Error,
    },
    /// The program ended, or did not answer in time.
    Failed {
        /// The program.
        program: &'static str,
        /// The end of what it wrote.
        said: String,
    },
}

// === impl ServerError ===

impl ServerError {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
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
