//! Reads a file that may be anything.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use crate::Error;

/// The text of a file of at most `max_size` bytes. What is larger, or no file, is not opened.
pub(crate) fn read(path: &Path, max_size: u64) -> Result<String, Error> {
    let cannot = |error| Error::new("", format!("it cannot be read: {error}")).in_file(path);
    let wrong = |reason: String| Err(Error::new("", reason).in_file(path));
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return wrong("it is not a file".to_owned());
    }
    let too_large = |size| format!("{size} bytes are not allowed, it has to be up to {max_size}");
    if metadata.len() > max_size {
        return wrong(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(max_size.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > max_size {
        return wrong(too_large(bytes.len() as u64));
    }
    String::from_utf8(bytes).or_else(|_| wrong("it is not UTF-8 text".to_owned()))
}
