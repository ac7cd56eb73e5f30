//! The runs that are kept: a file of JSON each.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    plan::Section,
    record::{FORM, Run},
    usage::Usage,
};

/// The folder of the runs.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// What the latest run is kept as, besides its own name.
pub const LAST: &str = "last";

// === impl Store ===

impl Store {
    /// In this folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where the report goes.
    pub fn report(&self) -> PathBuf {
        self.folder.join("report.html")
    }

    /// Whether a run can be kept under this name.
    ///
    /// # Errors
    ///
    /// Says what a name is made of.
    pub fn valid(name: &str) -> Result<()> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.is_empty() && !name.starts_with('.') && name != LAST && name.chars().all(good) {
            return Ok(());
        }
        Err(Usage(format!(
            "{name:?} cannot be the name of a run; take letters, digits, `-`, `_` and `.`, such as before-1; \
             {LAST:?} is always the latest run"
        ))
        .into())
    }

    /// Keeps a run under its name, and, unless it is of peers alone, as the latest one.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn save(&self, run: &Run) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let text = serde_json::to_string(run)?;
        // A run of peers alone has nothing to be compared with.
        let latest = run.plan.sections.contains(&Section::Overhead);
        for name in latest.then_some(LAST).into_iter().chain([run.name.as_str()]) {
            let path = self.path(name);
            fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(self.path(&run.name))
    }

    /// Reads a run.
    ///
    /// # Errors
    ///
    /// If there is none of this name: names those that there are.
    pub fn load(&self, name: &str) -> Result<Run> {
        let path = self.path(name);
        if !path.is_file() {
            let known = self.names();
            let known = if known.is_empty() {
                "there is none yet: `cargo xtask bench save NAME` makes one".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            return Err(
                Usage(format!("no run {name:?} in {}; {known}", self.folder.display())).into()
            );
        }
        read(&path)
    }

    /// The names of the runs.
    pub fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let name =
            |path: PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned());
        let mut names: Vec<_> = files.filter_map(|file| name(file.path())).collect();
        names.sort();
        names
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}

fn read(path: &Path) -> Result<Run> {
    let what = || format!("cannot read {}", path.display());
    let text = fs::read_to_string(path).with_context(what)?;
    let form = serde_json::from_str::<serde_json::Value>(&text).with_context(what)?["form"].clone();
    if form != FORM {
        return Err(Usage(format!(
            "{} has the form {form}, and this program reads {FORM}; measure anew",
            path.display()
        ))
        .into());
    }
    serde_json::from_str(&text).with_context(what)
}
