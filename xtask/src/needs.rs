//! The programs that some tests and examples need beside the Rust toolchain. To add a program, add a line to [`NEEDS`].
//!
//! A package lists in its manifest which of its targets need which programs:
//!
//! ```toml
//! [package.metadata.needs]
//! servers = ["postgres", "redis"]
//! ```
//!
//! `cargo xtask test` leaves such a target out where a program is missing, and prints its name. `cargo xtask ci`
//! installs what is missing, and fails if it cannot.

use std::{env, fmt, fs::read_dir, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use cargo_metadata::Package;

use crate::{run, workspace::table};

/// A program that has to be installed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Its name in manifests.
    name: &'static str,
    /// The files that show that it is installed; any of them will do.
    programs: &'static [&'static str],
    /// The Debian package to install.
    package: &'static str,
}

/// A target that needs programs. `Display` says why it is left out.
#[derive(Debug)]
pub(crate) struct Needy {
    package: String,
    pub(crate) target: String,
    needs: Vec<&'static Need>,
}

const NEEDS: &[Need] = &[
    Need { name: "postgres", programs: &["postgres"], package: "postgresql" },
    Need { name: "redis", programs: &["redis-server"], package: "redis-server" },
    Need { name: "chromium", programs: &["chromium", "google-chrome"], package: "chromium" },
    Need { name: "promtool", programs: &["promtool"], package: "prometheus" },
    Need { name: "valgrind", programs: &["valgrind"], package: "valgrind" },
];

/// Where Debian keeps the programs of each version of PostgreSQL, off the `PATH`.
const VERSIONS: &str = "/usr/lib/postgresql";

// === impl Need ===

impl Need {
    fn is_installed(&self) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        let versions = read_dir(VERSIONS).into_iter().flatten().flatten();
        let bins = versions.map(|version| version.path().join("bin"));
        let mut folders = env::split_paths(&path).chain(bins);
        folders.any(|folder: PathBuf| self.programs.iter().any(|p| folder.join(p).is_file()))
    }

    /// Installs it with `apt-get`, where it is missing.
    fn provide(&self) -> Result<()> {
        if self.is_installed() {
            return Ok(());
        }
        let Self { name, package, .. } = self;
        println!("{name} is not installed: installing {package}");
        let install = ["install", "--yes", "--no-install-recommends", package];
        let installed = run::command(apt().args(install)).or_else(|_| {
            // A new machine may not have the lists of packages yet.
            run::command(apt().arg("update"))?;
            run::command(apt().args(install))
        });
        installed.with_context(|| format!("cannot install {package}"))?;
        ensure!(self.is_installed(), "{package} was installed, but {name} is still missing");
        Ok(())
    }
}

// === impl Needy ===

impl Needy {
    /// Whether a program that it needs is missing.
    pub(crate) fn is_left_out(&self) -> bool {
        self.needs.iter().any(|need| !need.is_installed())
    }
}

impl fmt::Display for Needy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |of: fn(&Need) -> &str, by| {
            self.needs.iter().map(|need| of(need)).collect::<Vec<_>>().join(by)
        };
        let (names, packages) = (join(|n| n.name, " and "), join(|n| n.package, " "));
        let Self { target, package, .. } = self;
        write!(f, "left out: {target} of {package} needs {names}: apt-get install {packages}")
    }
}

/// Installs the programs that `needy` need, where they are missing.
///
/// # Errors
///
/// If one cannot be installed.
pub(crate) fn provide(needy: &[Needy]) -> Result<()> {
    needy.iter().flat_map(|n| &n.needs).try_for_each(|need| need.provide())
}

/// Installs the program called `name`, where it is missing.
///
/// # Errors
///
/// If it cannot be installed.
pub(crate) fn provide_one(name: &str) -> Result<()> {
    known(name)?.provide()
}

/// The targets of `package` that need programs.
///
/// # Errors
///
/// If its table of needs is malformed, or names a target or a need that does not exist.
pub(crate) fn of(package: &Package) -> Result<Vec<Needy>> {
    let needy = |(target, names): (String, Vec<String>)| {
        let needs = names.iter().map(|name| known(name)).collect::<Result<_>>()?;
        Ok(Needy { package: package.name.to_string(), target, needs })
    };
    table(package, "needs")?.into_iter().map(needy).collect()
}

fn known(name: &str) -> Result<&'static Need> {
    NEEDS.iter().find(|need| need.name == name).with_context(|| {
        let known = NEEDS.iter().map(|need| need.name).collect::<Vec<_>>().join(", ");
        format!("no such need: {name}; there are: {known}")
    })
}

/// `apt-get` as root, without questions.
fn apt() -> Command {
    let user = Command::new("id").arg("-u").output();
    let is_root = user.is_ok_and(|id| id.stdout.trim_ascii() == b"0");
    let mut apt = Command::new(if is_root { "env" } else { "sudo" });
    if !is_root {
        apt.arg("--non-interactive");
    }
    apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_left_out_says_what_to_install() {
        let needs = vec![known("postgres").unwrap(), known("redis").unwrap()];
        let package = "stockade-test-servers".to_owned();
        let needy = Needy { package, target: "servers".to_owned(), needs };

        assert_eq!(
            needy.to_string(),
            "left out: servers of stockade-test-servers needs postgres and redis: \
             apt-get install postgresql redis-server"
        );
    }

    #[test]
    fn an_unknown_need_is_answered_with_the_known_ones() {
        let error = known("oracle").unwrap_err().to_string();

        assert!(error.contains("oracle") && error.contains("postgres, redis"), "{error}");
    }

    #[test]
    fn a_program_that_is_in_no_folder_is_not_installed() {
        let need = Need { name: "none", programs: &["no-such-program"], package: "none" };

        assert!(!need.is_installed());
    }
}
