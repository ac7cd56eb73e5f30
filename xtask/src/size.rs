//! How much code there is, beside the budget of each crate.

use std::{fs, path::Path};

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
    let mut over = Vec::new();
    let mut line = |name: &str, lines: usize, budget: Option<usize>| {
        let above = budget.map_or(0, |budget| lines.saturating_sub(budget));
        let budget = budget.map(|budget| budget.to_string()).unwrap_or_default();
        let mark = if above > 0 { format!("{above} over") } else { String::new() };
        println!("{name:<22} {lines:>6} {budget:>7} {mark:>10}");
        if above > 0 {
            over.push(name.to_owned());
        }
    };
    println!("{:<22} {:>6} {:>7}", "package", "lines", "budget");
    let (mut together, mut long) = (0, Vec::new());
    for package in workspace.all_packages() {
        let mut lines = 0;
        let folder = package.manifest_path.with_file_name("");
        each_file(folder.as_std_path(), &mut |file, text| {
            let shown = file.strip_prefix(workspace.root()).unwrap_or(file).display();
            let code: Vec<_> = code(text).collect();
            lines += code.len();
            if code.len() > LONG.0 {
                long.push(format!("{shown}: {} lines", code.len()));
            }
            let functions = functions(&code).into_iter().filter(|&(_, lines)| lines > LONG.1);
            long.extend(
                functions.map(|(name, lines)| format!("{shown}: fn {name}: {lines} lines")),
            );
        })?;
        let place = BUDGETS.iter().position(|&(name, _)| name == *package.name);
        if place.is_some_and(|place| place < TOGETHER.0) {
            together += lines;
        }
        line(&package.name, lines, place.map(|place| BUDGETS[place].1));
    }
    line("core, layers, pool", together, Some(TOGETHER.1));
    println!("\nfiles over {} and functions over {} lines: {}", LONG.0, LONG.1, long.len());
    long.iter().for_each(|long| println!("  {long}"));
    ensure!(!check || over.is_empty(), "over budget: {}", over.join(", "));
    Ok(())
}

/// Hands `see` every source file of the package in `folder`, without its tests and without packages inside it.
fn each_file(folder: &Path, see: &mut dyn FnMut(&Path, &str)) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            let skipped = name == "tests" || name == "target" || path.join("Cargo.toml").exists();
            if !skipped {
                each_file(&path, see)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs")
            && name != "tests.rs"
            && name != "model.rs"
        {
            see(&path, &fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The lines of `text` before its tests that are neither blank nor a comment.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let is_test =
        |line: &&str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
    let lines = text.lines().take_while(move |line| !is_test(line));
    lines.filter(|line| !line.trim().is_empty() && !line.trim().starts_with("//"))
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

        assert_eq!(code(text).count(), 3);
    }

    #[test]
    fn a_function_ends_at_its_own_brace() {
        let text = "impl A {\n    pub fn a(\n        x: u8,\n    ) -> u8 {\n        if x { y } else { z }\n    }\n\n    fn b() {}\n}\n";
        let code: Vec<_> = code(text).collect();

        assert_eq!(functions(&code), [("a", 5), ("b", 1)]);
    }

    #[test]
    fn a_function_without_a_body_ends_at_its_semicolon() {
        let text = "trait A {\n    fn a(\n        x: u8,\n    ) -> u8;\n    fn b() {\n        c();\n    }\n}\n";
        let code: Vec<_> = code(text).collect();

        assert_eq!(functions(&code), [("a", 3), ("b", 3)]);
    }
}
