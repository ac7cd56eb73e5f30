//! What some tests and examples need installed beside the Rust toolchain: to add a program, add a line to [`NEEDS`].
//!
//! A package says in its manifest which of its targets need what, by their names:
//!
//! ```toml
//! [package.metadata.needs]
//! servers = ["postgres", "redis"]
//! ```
//!
//! `cargo xtask test` leaves such a target out where something is missing, and says so; `cargo xtask ci` installs
//! what is missing, and fails where it cannot.

use std::{collections::BTreeMap, env, fmt, fs::read_dir, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use cargo_metadata::Package;
use serde_json::Value;

use crate::run;

/// Something that has to be installed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// What manifests call it.
    name: &'static str,
    /// The programs that show that it is there; any of them will do.
    programs: &'static [&'static str],
    /// A directory whose subdirectories may each have the programs in their `bin`, beside the `PATH`.
    versions: Option<&'static str>,
    /// The Debian package to install.
    package: &'static str,
}

/// A target that needs something. It prints as what to say when it is left out.
#[derive(Debug)]
pub(crate) struct Needy {
    pub(crate) package: String,
    pub(crate) target: String,
    needs: Vec<&'static Need>,
}

pub(crate) const NEEDS: &[Need] = &[
    Need {
        name: "postgres",
        programs: &["postgres"],
        versions: Some("/usr/lib/postgresql"),
        package: "postgresql",
    },
    Need { name: "redis", programs: &["redis-server"], versions: None, package: "redis-server" },
    Need {
        name: "chromium",
        programs: &["chromium", "chromium-browser", "google-chrome"],
        versions: None,
        package: "chromium",
    },
    Need { name: "valgrind", programs: &["valgrind"], versions: None, package: "valgrind" },
];

// === impl Need ===

impl Need {
    fn is_installed(&self) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        let versions = self.versions.and_then(|folder| read_dir(folder).ok()).into_iter().flatten();
        let bins = versions.flatten().map(|version| version.path().join("bin"));
        let mut folders = env::split_paths(&path).chain(bins);
        folders.any(|folder: PathBuf| self.programs.iter().any(|p| folder.join(p).is_file()))
    }

    /// Installs it with `apt-get`.
    fn install(&self) -> Result<()> {
        println!("{} is not installed: installing {}", self.name, self.package);
        let package = ["install", "--yes", "--no-install-recommends", self.package];
        let installed = run::command(apt().args(package)).or_else(|_| {
            // A new machine may not have the lists of packages yet.
            run::command(apt().arg("update"))?;
            run::command(apt().args(package))
        });
        installed.with_context(|| format!("cannot install {}", self.package))?;
        ensure!(self.is_installed(), "{} was installed, and has no {}", self.package, self.name);
        Ok(())
    }
}

// === impl Needy ===

impl Needy {
    /// Whether something of what it needs is missing.
    pub(crate) fn is_left_out(&self) -> bool {
        self.needs.iter().any(|need| !need.is_installed())
    }
}

impl fmt::Display for Needy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |of: fn(&Need) -> &str, by| {
            self.needs.iter().map(|need| of(need)).collect::<Vec<_>>().join(by)
        };
        let (names, packages) = (list(|n| n.name, " and "), list(|n| n.package, " "));
        let Self { target, package, .. } = self;
        write!(f, "left out: {target} of {package} needs {names}: apt-get install {packages}")
    }
}

/// Installs what is missing of what `needy` need.
///
/// # Errors
///
/// When something cannot be installed.
pub(crate) fn provide(needy: &[Needy]) -> Result<()> {
    for need in NEEDS {
        let asked = needy.iter().any(|n| n.needs.contains(&need));
        if asked && !need.is_installed() {
            need.install()?;
        }
    }
    Ok(())
}

/// Installs what is called `name`, where it is missing.
///
/// # Errors
///
/// When it cannot be installed.
pub(crate) fn provide_one(name: &str) -> Result<()> {
    let need = known(name)?;
    if need.is_installed() { Ok(()) } else { need.install() }
}

/// The targets of `package` that need something.
///
/// # Errors
///
/// When its table of needs is malformed, or names a target or a need that is not there.
pub(crate) fn of(package: &Package) -> Result<Vec<Needy>> {
    let targets = package.targets.iter().map(|t| t.name.as_str());
    read(&package.name, targets, &package.metadata["needs"])
        .with_context(|| format!("[package.metadata.needs] of {}", package.name))
}

fn read<'a>(
    package: &str,
    targets: impl Iterator<Item = &'a str>,
    table: &Value,
) -> Result<Vec<Needy>> {
    let table: BTreeMap<String, Vec<String>> =
        serde_json::from_value::<Option<_>>(table.clone())?.unwrap_or_default();
    let targets: Vec<_> = targets.collect();
    let needy = |(target, names): (String, Vec<String>)| {
        ensure!(targets.contains(&target.as_str()), "no such target: {target}");
        let needs = names.iter().map(|name| known(name)).collect::<Result<_>>()?;
        Ok(Needy { package: package.to_owned(), target, needs })
    };
    table.into_iter().map(needy).collect()
}

fn known(name: &str) -> Result<&'static Need> {
    NEEDS.iter().find(|need| need.name == name).with_context(|| {
        let known = NEEDS.iter().map(|need| need.name).collect::<Vec<_>>().join(", ");
        format!("no such need: {name}; there are: {known}")
    })
}

/// `apt-get` with nobody to ask, as root.
fn apt() -> Command {
    let mut apt = if is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        sudo
    };
    apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    apt
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn needs(table: &Value) -> Result<Vec<Needy>> {
        read("stockade-test-servers", ["servers", "suite"].into_iter(), table)
    }

    #[test]
    fn a_target_gets_its_needs_by_name() {
        let needy = needs(&json!({ "servers": ["postgres", "redis"] })).unwrap();

        assert_eq!(needy.len(), 1);
        assert_eq!(needy[0].needs, [&NEEDS[0], &NEEDS[1]]);
        assert_eq!(
            needy[0].to_string(),
            "left out: servers of stockade-test-servers needs postgres and redis: \
             apt-get install postgresql redis-server"
        );
    }

    #[test]
    fn a_need_that_nobody_knows_is_answered_with_the_known_ones() {
        let error = needs(&json!({ "servers": ["oracle"] })).unwrap_err().to_string();

        assert!(error.contains("oracle") && error.contains("postgres, redis"), "{error}");
    }

    #[test]
    fn a_need_of_a_target_that_is_gone_is_an_error() {
        let error = needs(&json!({ "gone": ["redis"] })).unwrap_err();

        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[test]
    fn a_program_that_is_nowhere_is_not_installed() {
        let need =
            Need { name: "none", programs: &["no-such-program"], versions: None, package: "none" };

        assert!(!need.is_installed());
    }
}
