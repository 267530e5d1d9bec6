//! Paths in a request: read once, in one spelling.

use std::path::{Component, Path, PathBuf};

use crate::limits::PATH_BYTES_MAX;

/// The path with single slashes and without `.`; none if it is relative, climbs, or holds control characters.
pub(super) fn normal(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || text.len() > PATH_BYTES_MAX || text.chars().any(char::is_control) {
        return None;
    }
    Some(path.components().collect())
}

/// The names below `base`, if `path` is below it.
pub(super) fn names_below<'a>(path: &'a Path, base: &Path) -> Option<Vec<&'a str>> {
    path.strip_prefix(base).ok()?.components().map(|part| part.as_os_str().to_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_is_left_of_every_path() {
        assert_eq!(normal(Path::new("//a/./b//")), Some(PathBuf::from("/a/b")));
        for path in ["", "a", "/a/../b", "/..", "/a\nb", "/a\0"] {
            assert_eq!(normal(Path::new(path)), None, "{path:?}");
        }
    }

    #[test]
    fn prefix_is_by_components() {
        assert_eq!(names_below(Path::new("/a/b/c"), Path::new("/a")), Some(vec!["b", "c"]));
        assert_eq!(names_below(Path::new("/ab/c"), Path::new("/a")), None);
    }
}
