//! The documentation as docs.rs builds it, and the links in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsStr,
    fs,
    path::{Component, Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;

use crate::{run, workspace::Workspace};

/// Set for `rustdoc`, which is this program then: see [`rustdoc`].
const AS_RUSTDOC: &str = "STOCKADE_AS_RUSTDOC";

/// Builds the documentation with all features and with the cfg `docsrs`, looks at each link that stays here, and prints
/// how many pages each crate has.
///
/// # Errors
///
/// On a warning, on a link that leads nowhere, and if a page documents an item of another project.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let built = workspace.target_directory().join("doc");
    if built.exists() {
        // What was documented before must not be taken for what is linked now.
        fs::remove_dir_all(&built)?;
    }
    let mut cargo = workspace.cargo("doc");
    cargo.args(["--no-deps", "--all-features", "--lib"]);
    cargo.env("RUSTDOC", env::current_exe()?).env(AS_RUSTDOC, "1");
    run::command(cargo.env("RUSTDOCFLAGS", "--cfg docsrs -D warnings"))?;

    let pages = files(&built, "html")?;
    let foreign = foreign_crates(workspace)?;
    let (mut counts, mut faults) = (BTreeMap::new(), Vec::new());
    for page in &pages {
        let place = page.strip_prefix(&built)?;
        let Some(name) = place.iter().next().and_then(|name| name.to_str()) else { continue };
        if place.components().count() > 1 && name != "src" {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
        let is_foreign = |part: &OsStr| part.to_str().is_some_and(|part| foreign.contains(part));
        // Only the facade documents other crates; elsewhere, and in the guide, modules are called like what they are for.
        let is_guide = place.starts_with("stockade/guide");
        if name == "stockade" && !is_guide && place.iter().any(is_foreign) {
            faults.push(format!("{} documents an item of another project", place.display()));
        }
    }
    let markdown = files(workspace.root(), "md")?;
    for page in pages.iter().chain(&markdown) {
        faults.extend(broken_links(page)?);
    }
    for (name, count) in &counts {
        println!("{count:>5} pages  {name}");
    }
    println!("{:>5} pages in all, and {} files of text", pages.len(), markdown.len());
    ensure!(faults.is_empty(), "in the documentation:\n{}", faults.join("\n"));
    Ok(())
}

/// Whether this program was started as `rustdoc`. Then it starts the real one, which accepts the features that docs.rs
/// uses for what depends on a cfg. Set for all of cargo, that variable would build every dependency anew.
pub(crate) fn rustdoc() -> Option<Result<ExitCode>> {
    env::var_os(AS_RUSTDOC)?;
    let mut rustdoc = Command::new("rustdoc");
    rustdoc.args(env::args_os().skip(1)).env("RUSTC_BOOTSTRAP", "1").env_remove(AS_RUSTDOC);
    Some(run::hand_over(&mut rustdoc))
}

/// The crates that are not of this workspace, as they are called in paths.
fn foreign_crates(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let metadata = MetadataCommand::new().current_dir(workspace.root()).exec()?;
    let foreign = metadata.packages.iter().filter(|package| package.source.is_some());
    Ok(foreign.map(|package| package.name.replace('-', "_")).collect())
}

/// The files in `folder` with this extension, without what git ignores.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The links of a page that lead to no file, or to no place in one.
fn broken_links(page: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(page)?;
    let (begin, end) =
        if page.extension().is_some_and(|e| e == "md") { ("](", ')') } else { ("href=\"", '"') };
    let folder = page.parent().unwrap_or(page);
    let mut broken = BTreeSet::new();
    for link in
        text.split(begin).skip(1).filter_map(|rest| rest.split_once(end)).map(|(link, _)| link)
    {
        if is_elsewhere(link) {
            continue;
        }
        let (path, place) = link.split_once('#').unwrap_or((link, ""));
        let file = if path.is_empty() { page.to_owned() } else { normal(&folder.join(path)) };
        let is_there = file.exists() && (place.is_empty() || has_place(&file, place)?);
        if !is_there {
            broken.insert(format!("{}: the link {link:?} leads nowhere", page.display()));
        }
    }
    Ok(broken.into_iter().collect())
}

/// Whether a link leads to the network or into a script, or was not written here: rustdoc writes some that never lead
/// anywhere, and tracing and opentelemetry others, in the docs of traits that they implement for every type.
fn is_elsewhere(link: &str) -> bool {
    let beginnings = ["http", "data:", "javascript:"];
    let others =
        ["all.html", "./index.html", "dispatcher#setting-the-default-subscriber", "Context"];
    // In the text of a documentation page, the path of an item.
    let is_item = link.contains("::") || link.contains(['`', '(']);
    beginnings.iter().any(|b| link.starts_with(b))
        || others.contains(&link)
        || link.contains("${")
        || is_item
}

/// Whether the file has this place, or sends on to one that has it, as rustdoc's page at an item's private path does.
fn has_place(file: &Path, place: &str) -> Result<bool> {
    if file.extension().is_none_or(|e| e != "html") || !file.is_file() {
        return Ok(true);
    }
    let is_source = place.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    // What is hidden has no place.
    let may_be_hidden = place.starts_with("tymethod.") || place.starts_with("associatedtype.");
    if is_source || may_be_hidden {
        return Ok(true);
    }
    let text = fs::read_to_string(file)?;
    if let Some((onward, _)) = text.split_once("0;URL=").and_then(|(_, url)| url.split_once('"')) {
        let onward = normal(&file.parent().unwrap_or(file).join(onward));
        return Ok(onward != file && onward.is_file() && has_place(&onward, place)?);
    }
    Ok(text.contains(&format!("id=\"{place}\"")))
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(name: &str, text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("there")).unwrap();
        fs::write(folder.path().join("there/page.html"), "<h2 id=\"errors\">").unwrap();
        let onward = "<meta http-equiv=\"refresh\" content=\"0;URL=there/page.html\">";
        fs::write(folder.path().join("moved.html"), onward).unwrap();
        let page = folder.path().join("there").join(name);
        fs::write(&page, text).unwrap();
        broken_links(&page).unwrap()
    }

    #[test]
    fn a_link_to_a_file_or_a_place_that_is_not_there_is_found() {
        let links = [
            "page.html",
            "../there/page.html#errors",
            "../moved.html#errors",
            "https://docs.rs",
            "page.html#7-9",
        ];
        for link in links {
            assert!(broken("a.html", &format!("<a href=\"{link}\">")).is_empty(), "{link}");
            assert!(broken("a.md", &format!("[a]({link})")).is_empty(), "{link}");
        }
        for link in ["gone.html", "../page.html", "page.html#panics", "../moved.html#panics"] {
            let found = broken("a.html", &format!("<a href=\"{link}\">"));
            assert!(found.len() == 1 && found[0].contains(link), "{found:?}");
        }
    }
}
