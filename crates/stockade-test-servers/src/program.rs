//! Finding the installed programs.

use std::{
    env,
    fs::read_dir,
    path::{Path, PathBuf},
};

use crate::ServerError;

/// Where Debian keeps the programs of each version of PostgreSQL, off the `PATH`.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Finds `program` of the Debian package `package`.
pub(crate) fn find(program: &'static str, package: &'static str) -> Result<PathBuf, ServerError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    folders.extend(versions(Path::new(VERSIONS)));
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|file| file.is_file());
    found.ok_or(ServerError::Missing { program, package })
}

/// The `bin` directories of all versions in `folder`, the newest first.
fn versions(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|&(version, _)| std::cmp::Reverse(version));
    found.into_iter().map(|(_, bin)| bin).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;

    use super::*;

    #[test]
    fn a_missing_program_is_reported_with_its_package() {
        let error = find("no-such-program", "some-package").unwrap_err().to_string();

        assert!(error.contains("`no-such-program`"), "{error}");
        assert!(error.contains("apt-get install some-package"), "{error}");
    }

    #[test]
    fn the_newest_installed_version_is_taken_first() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "13", "common"] {
            create_dir_all(folder.path().join(version).join("bin")).unwrap();
        }

        let found = versions(folder.path());

        let expected = ["15", "13", "9"].map(|v| folder.path().join(v).join("bin"));
        assert_eq!(found, expected);
    }
}
