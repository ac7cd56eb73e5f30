//! What is wrong with a scenario, and where.

use std::{fmt, ops::Range};

/// A mistake in a scenario: the place, the line itself, and what would have been right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    path: String,
    place: Option<Place>,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    /// How many characters are marked.
    width: usize,
    text: String,
}

// === impl Fault ===

impl Fault {
    /// A mistake in the bytes `span` of `text`, which is that of the file `path`.
    pub fn new(path: &str, text: &str, span: Option<Range<usize>>, message: &str) -> Self {
        // What is missing has no place but the whole file.
        let whole = |span: &Range<usize>| span.start == 0 && span.end >= text.trim_end().len();
        let place = span.filter(|span| !whole(span)).map(|span| Place::new(text, &span));
        Self { path: path.to_owned(), place, message: message.trim_end().to_owned() }
    }

    /// The number of the line, from 1, if it is one line that is wrong.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.line)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, place, message } = self;
        let Some(Place { line, column, width, text }) = place else {
            return write!(f, "{path}: {message}");
        };
        let number = line.to_string();
        let (margin, before) = (" ".repeat(number.len()), " ".repeat(column - 1));
        writeln!(f, "{path}:{line}:{column}: {message}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
        write!(f, "{margin} | {before}{}", "^".repeat(*width))
    }
}

impl std::error::Error for Fault {}

// === impl Place ===

impl Place {
    fn new(text: &str, span: &Range<usize>) -> Self {
        let start = span.start.min(text.len());
        let start = (0..=start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let begin = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let marked =
            text[start..end].char_indices().take_while(|(n, _)| start + n < span.end).count();
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[begin..start].chars().count() + 1,
            width: marked.max(1),
            text: text[begin..end].trim_end().to_owned(),
        }
    }
}
