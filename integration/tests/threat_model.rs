//! docs/threat-model.md lists the privileged lines of our own code that a tenant's bytes reach: the list is kept true here.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::workspace;

/// A row: the files, and how many lines they are said to have at most.
struct Row {
    files: Vec<String>,
    lines_max: usize,
}

/// The rows below the heading: `| who | reads | files | lines |`.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(workspace().join("docs/threat-model.md")).unwrap();
    let (_, section) = text.split_once("## Privileged code that a tenant's bytes reach").unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [_, _, files, lines] = cells.as_slice() else { panic!("not four cells: {line}") };
            Row {
                files: files.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
                lines_max: lines.parse().unwrap(),
            }
        })
        .collect()
}

/// Every Rust file of a path but those of tests.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let below = entries.flatten().map(|entry| entry.path());
    let of_tests = |path: &PathBuf| path.is_dir() && path.ends_with("tests") || path.ends_with("tests.rs");
    let found =
        below.filter(|path| !of_tests(path)).filter(|path| path.is_dir() || path.extension().is_some());
    found.flat_map(|path| sources(&path)).collect()
}

/// Lines that are neither empty nor comments, up to a file's own tests.
fn code(text: &str) -> usize {
    let lines = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn lines_of_code_are_counted_without_comments_and_tests() {
    assert_eq!(code("//! a\n\nfn f() {\n    // why\n    g();\n}\n#[cfg(test)]\nmod tests {}\n"), 3);
}

#[test]
fn every_file_of_the_list_exists_and_has_about_as_many_lines_as_it_says() {
    let rows = rows();
    assert!(rows.len() >= 6, "{} rows", rows.len());
    for Row { files, lines_max } in rows {
        assert!(!files.is_empty());
        let paths: Vec<PathBuf> = files
            .iter()
            .flat_map(|file| {
                let found = sources(&workspace().join(file));
                assert!(!found.is_empty(), "{file} holds no code");
                found
            })
            .collect();
        let found: usize = paths.iter().map(|path| code(&fs::read_to_string(path).unwrap())).sum();
        // Rounded up, with room for small changes: a list that is far too long is as stale as one too short.
        assert!(
            found <= lines_max && lines_max <= found + found / 3 + 60,
            "docs/threat-model.md says {lines_max} lines of {files:?}, and there are {found}: correct the list"
        );
    }
}
