//! How much code there is, beside the budget of each crate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use crate::workspace::Workspace;

/// The most code lines of a package. A change that needs more raises its budget here, and says why.
const BUDGETS: &[(&str, usize)] = &[
    ("stockade-core", 1_250),
    ("stockade-limit", 960),
    ("stockade-rate", 900),
    ("stockade-timeout", 260),
    ("stockade-retry", 860),
    ("stockade-breaker", 1_230),
    ("stockade-pool", 3_040),
    ("stockade-fleet", 1_950),
    ("stockade-benches", 4_000),
    ("xtask", 600),
];

/// How many of [`BUDGETS`] are the core, the layers and the pool, and the most that these have together.
const TOGETHER: (usize, usize) = (7, 8_500);

/// The most code lines of a file and of a function without a comment that says why.
const LONG: (usize, usize) = (300, 60);

/// Prints the code lines of each package, and what is long.
///
/// # Errors
///
/// With `check`, if a package is over its budget.
pub(crate) fn print(workspace: &Workspace, check: bool) -> Result<()> {
    let (mut sizes, mut long) = (Vec::new(), Vec::new());
    for package in workspace.all_packages() {
        let mut size = 0;
        for file in sources(package.manifest_path.with_file_name("").as_std_path())? {
            let text = fs::read_to_string(&file)?;
            let (code, file) = (code(&text), file.strip_prefix(workspace.root())?.display());
            size += code.len();
            let functions = functions(&code).into_iter().filter(|&(_, lines)| lines > LONG.1);
            long.extend((code.len() > LONG.0).then(|| format!("{file}: {} lines", code.len())));
            long.extend(functions.map(|(name, lines)| format!("{file}: fn {name}: {lines} lines")));
        }
        sizes.push((package.name.as_str(), size));
    }
    let together = BUDGETS[..TOGETHER.0].iter().map(|(name, _)| name);
    let size_of = |name: &&str| sizes.iter().find(|(n, _)| n == name).map_or(0, |(_, size)| *size);
    let together = ("core, layers, pool", together.map(size_of).sum());
    let mut over = Vec::new();
    println!("{:<24} {:>6} {:>6}", "code lines of", "now", "budget");
    for (name, size) in sizes.iter().copied().chain([together]) {
        let budgets = BUDGETS.iter().chain([&("core, layers, pool", TOGETHER.1)]);
        let budget = budgets.into_iter().find(|(n, _)| *n == name).map(|(_, budget)| *budget);
        let above = size.saturating_sub(budget.unwrap_or(size));
        let shown = budget.map(|budget| budget.to_string()).unwrap_or_default();
        let mark = if above > 0 { format!("{above} over") } else { String::new() };
        println!("{name:<24} {size:>6} {shown:>6} {mark:>10}");
        over.extend((above > 0).then_some(name));
    }
    println!("\nfiles over {} and functions over {} lines: {}", LONG.0, LONG.1, long.len());
    long.iter().for_each(|long| println!("  {long}"));
    ensure!(!check || over.is_empty(), "over budget: {}", over.join(", "));
    Ok(())
}

/// The source files in `folder`, without tests and without packages inside it.
fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_package = name == "target" || path.join("Cargo.toml").exists();
        if path.is_dir() && name != "tests" && !is_package {
            files.extend(sources(&path)?);
        } else if path.extension() == Some("rs".as_ref())
            && name != "tests.rs"
            && name != "model.rs"
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The lines of `text` before its tests that are neither blank nor a comment.
fn code(text: &str) -> Vec<&str> {
    let is_test =
        |line: &&str| ["#[cfg(test)]", "#[cfg(all(test"].iter().any(|t| line.starts_with(t));
    let lines = text.lines().take_while(|line| !is_test(line));
    lines.filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//")).collect()
}

/// The functions in formatted code, with their numbers of lines: one ends where its indentation comes back.
fn functions<'a>(code: &[&'a str]) -> Vec<(&'a str, usize)> {
    let mut found = Vec::new();
    for (start, line) in code.iter().enumerate() {
        let Some((before, after)) = line.split_once("fn ") else { continue };
        let is_qualifier =
            |word: &str| word.starts_with("pub") || matches!(word, "const" | "async");
        if !before.split_whitespace().all(is_qualifier) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let is_end = |line: &&str| {
            line.len() - line.trim_start().len() == indent && line.ends_with(['}', ';'])
        };
        let lines = code[start..].iter().position(is_end).map_or(1, |end| end + 1);
        found.push((after.split(['(', '<']).next().unwrap_or_default(), lines));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_comments_and_tests_do_not_count() {
        let text = "//! What it is.\n\nfn one() {\n    // Why.\n    two(); // how\n}\n\n#[cfg(test)]\nmod t {}\n";

        assert_eq!(code(text).len(), 3);
    }

    #[test]
    fn a_function_ends_at_its_own_brace() {
        let text = "impl A {\n    pub fn a(\n        x: u8,\n    ) -> u8 {\n        if x { y } else { z }\n    }\n\n    fn b() {}\n}\n";
        assert_eq!(functions(&code(text)), [("a", 5), ("b", 1)]);
    }

    #[test]
    fn a_function_without_a_body_ends_at_its_semicolon() {
        let text = "trait A {\n    fn a(\n        x: u8,\n    ) -> u8;\n    fn b() {\n        c();\n    }\n}\n";
        assert_eq!(functions(&code(text)), [("a", 3), ("b", 3)]);
    }
}
