//! The pages of the guide: none is left out of the documentation, and the code of each is compiled in one place. And the
//! READMEs, which say what the documentation says.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Where pages are compiled whose code needs crates that the facade does not have.
const ELSEWHERE: [&str; 2] = ["../../examples/servers/lib.rs", "../../benches/src/lib.rs"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The pages in a folder and in those inside it.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { pages(&path) } else { vec![path] }).collect()
}

/// What the compiler says, and what to write: the rows of the table in this text, without links.
fn advice(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_start_matches("//! "));
    let rows = lines.skip_while(|line| !line.starts_with("| the compiler says")).skip(2);
    rows.take_while(|line| line.starts_with('|')).map(without_links).collect()
}

/// With `text` in place of `[text](address)` and of `[text]`.
fn without_links(line: &str) -> String {
    let mut parts = line.split("](");
    let mut plain = parts.next().unwrap_or_default().replace(['[', ']'], "");
    for part in parts {
        plain += &part.split_once(')').unwrap().1.replace(['[', ']'], "");
    }
    plain
}

/// What the README of a crate begins with, by the documentation in its `lib.rs`: what stands there before the first list
/// or heading, and the first example, with the lines that documentation hides.
fn beginning(name: &str, library: &str) -> String {
    let docs = library.lines().map_while(|line| line.strip_prefix("//!"));
    let docs: Vec<_> = docs.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let is_text =
        |line: &&&str| !["- ", "| ", "# ", "```"].iter().any(|start| line.starts_with(start));
    let text: Vec<_> = docs.iter().take_while(is_text).copied().collect();
    let text = without_links(&text.join("\n"));
    let mut code = String::new();
    let mut depth = 0;
    let example = docs.iter().skip_while(|line| !line.starts_with("```")).skip(1);
    for line in example.take_while(|line| !line.starts_with("```")) {
        let hidden = line.strip_prefix("# ");
        if hidden.is_some_and(|line| line.starts_with("#[cfg(") || line == "fn main() {}") {
            continue;
        }
        depth -= usize::from(hidden == Some("}"));
        let indent = if line.is_empty() { "" } else { &"        "[..4 * depth] };
        writeln!(code, "{indent}{}", hidden.unwrap_or(line)).unwrap();
        depth += usize::from(hidden.is_some_and(|line| line.ends_with('{')));
    }
    format!("# {name}\n\n{}\n\n```rust\n{code}```\n", text.trim_end())
}

#[test]
fn each_readme_begins_with_the_first_words_and_the_first_example_of_its_crate() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let overwrite = env::var_os("READMES").is_some_and(|value| value == "overwrite");
    let mut compared = 0;
    for folder in fs::read_dir(crates).unwrap().map(|entry| entry.unwrap().path()) {
        let path = folder.join("README.md");
        let Ok(readme) = fs::read_to_string(&path) else { continue };
        let library = fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let expected = beginning(name, &library);
        if overwrite {
            let (_, rest) = readme.rsplit_once("```\n").unwrap();
            fs::write(&path, expected + rest).unwrap();
            continue;
        }
        assert!(
            readme.starts_with(&expected),
            "{} should begin like this; `READMES=overwrite` with this test writes it:\n{expected}",
            path.display(),
        );
        compared += 1;
    }
    assert!(overwrite || compared > 10, "{compared}");
}

#[test]
fn the_readme_and_the_documentation_say_the_same_about_what_the_compiler_says() {
    let [readme, check] = ["../../README.md", "src/check.rs"].map(|path| advice(&read(path)));
    assert!(readme.len() > 9, "{readme:#?}");
    assert_eq!(readme, check);
}

#[test]
fn each_page_of_the_guide_has_a_heading_and_is_shown_and_its_code_is_compiled_in_one_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (guide, elsewhere) = (read("src/guide.rs"), ELSEWHERE.map(read));
    let pages = pages(&source.join("guide"));
    assert!(!pages.is_empty());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("# "), "{} has no heading", page.display());
        let left_out = text.lines().find(|line| line.starts_with("```rust") && *line != "```rust");
        assert_eq!(left_out, None, "{} has code that is not compiled or not run", page.display());
        let page = page.strip_prefix(&source).unwrap().to_str().unwrap();
        let file = format!("/{page}\")]");
        let compiled = elsewhere.iter().filter(|library| library.contains(&file)).count();
        let only_shown = format!("#[cfg_attr(not(doctest), doc = include_str!(\"{page}\"))]");
        let shown = format!("#[doc = include_str!(\"{page}\")]");
        match compiled {
            0 => assert!(guide.contains(&shown), "{page} is not shown, or compiled nowhere"),
            1 => assert!(guide.contains(&only_shown), "{page} is not shown, or compiled twice"),
            _ => panic!("{page} is compiled {compiled} times outside of the facade"),
        }
    }
}
