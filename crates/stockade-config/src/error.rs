use std::{
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
};

use stockade_core::ConfigError;

/// Why settings were refused. All of them were, and those before stay in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    file: Option<PathBuf>,
    setting: String,
    reason: String,
    needs_restart: bool,
}

// === impl Error ===

impl Error {
    /// `setting` is where it is in the file, such as `limit.max`, or empty; `reason` says what is wrong with it.
    pub fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        let (setting, reason) = (setting.into(), reason.into());
        Self { file: None, setting, reason, needs_restart: false }
    }

    /// A change that can only be made by a restart, and the other settings of which that is true.
    pub(crate) fn restart(setting: &str, obstacle: &str, others: &[&str]) -> Self {
        let mut reason = format!("{obstacle} at run time; it needs a restart");
        if !others.is_empty() {
            reason += &format!("; the same holds for {}", others.join(", "));
        }
        Self { needs_restart: true, ..Self::new(setting, reason) }
    }

    /// The error of a section. What the field is called there is what comes last.
    pub(crate) fn of_section(section: &str, error: &ConfigError) -> Self {
        let field = error.setting().rsplit("::").next().unwrap_or_default();
        Self::new(format!("{section}.{field}"), error.reason())
    }

    pub(crate) fn in_file(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// The same where the setting is a part of another one; of the whole file if that is empty.
    pub(crate) fn within(self, outer: &str) -> Self {
        if outer.is_empty() {
            return self;
        }
        Self { setting: format!("{outer}.{}", self.setting), ..self }
    }

    /// The file, if it came from one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The setting, such as `limit.max`. Empty if the file as a whole is wrong.
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// What is wrong, with the value and what is allowed.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the settings as such are right, and hold after a restart.
    pub fn needs_restart(&self) -> bool {
        self.needs_restart
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if !self.setting.is_empty() {
            write!(f, "{}: ", self.setting)?;
        }
        f.write_str(&self.reason)
    }
}

impl StdError for Error {}
