//! The path of a control group, as config.json names it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::CgroupError;

/// Longest path accepted, in bytes: with the mount point before it and a file name behind it it stays below
/// `PATH_MAX`.
///
/// Source: `PATH_MAX`, include/uapi/linux/limits.h, less 256.
const PATH_BYTES_MAX: usize = 3840;

/// Longest name of a unit, in bytes.
///
/// Source: `UNIT_NAME_MAX`, systemd src/basic/unit-name.h, without its NUL.
const UNIT_BYTES_MAX: usize = 255;

/// Where systemd's driver puts a group whose slice is not named.
///
/// Source: runc libcontainer/cgroups/systemd.
const SLICE_DEFAULT: &str = "system.slice";

/// A group below the hierarchies' roots, never the root itself: an absolute path of plain names, such as
/// `/kubepods/burstable/podX/id`, or systemd's form of it, `kubepods-burstable-podX.slice:cri-containerd:id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath {
    text: String,
    relative: String,
    unit: Option<Unit>,
}

/// A scope of systemd's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unit {
    /// Its name, such as `cri-containerd-id.scope`.
    pub(crate) name: String,
    /// The slice that it is part of.
    pub(crate) slice: String,
}

impl CgroupPath {
    /// The path without its leading slash: to be joined to a mount point.
    #[must_use]
    pub fn relative(&self) -> &str {
        &self.relative
    }

    /// Whether it is in systemd's form.
    #[must_use]
    pub fn is_systemds(&self) -> bool {
        self.unit.is_some()
    }

    pub(crate) fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Source of the form: opencontainers/cgroups systemd/v2.go and runc's specconv; containerd's CRI sends it where
    /// the pod's group ends in `.slice`.
    fn of_systemd(text: &str) -> Result<Self, CgroupError> {
        let wrong = |why| CgroupError::SystemdPath { path: text.chars().take(200).collect(), why };
        let mut parts = text.splitn(3, ':');
        let (Some(slice), Some(prefix), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("it has not three parts"));
        };
        let slice = if slice.is_empty() { SLICE_DEFAULT } else { slice };
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.\\@".contains(&b));
        if !plain(slice) || !plain(prefix) || !plain(name) || name.is_empty() {
            return Err(wrong("letters, digits and -_.\\@ make the name of a unit"));
        }
        if name.ends_with(".slice") {
            return Err(wrong("a container is a scope of its own, never a slice"));
        }
        let unit = Unit { name: format!("{prefix}-{name}.scope"), slice: slice.to_owned() };
        if unit.name.len() > UNIT_BYTES_MAX || slice.len() > UNIT_BYTES_MAX {
            return Err(wrong("the name of a unit has at most 255 bytes"));
        }
        let above = expand_slice(slice).ok_or_else(|| wrong("the first part is the name of a slice"))?;
        Ok(Self { text: text.to_owned(), relative: format!("{above}{}", unit.name), unit: Some(unit) })
    }
}

/// Where a slice is: `a-b.slice` is `a.slice/a-b.slice/`, and `-.slice` the root.
fn expand_slice(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        prefix.push_str(part);
        path.push_str(&prefix);
        path.push_str(".slice/");
        prefix.push('-');
    }
    Some(path)
}

impl FromStr for CgroupPath {
    type Err = CgroupError;

    fn from_str(text: &str) -> Result<Self, CgroupError> {
        let wrong = || CgroupError::Path(text.chars().take(200).collect());
        if text.len() > PATH_BYTES_MAX {
            return Err(wrong());
        }
        if !text.starts_with('/') && text.matches(':').count() == 2 {
            return Self::of_systemd(text);
        }
        // A relative path is below the root as well: runc and containerd treat `a/b` as `/a/b`.
        let names: Vec<&str> = text.trim_start_matches('/').trim_end_matches('/').split('/').collect();
        let plain = |name: &&str| {
            !name.is_empty() && *name != "." && *name != ".." && name.bytes().all(|b| b > b' ' && b != 0x7f)
        };
        if !names.iter().all(plain) {
            return Err(wrong());
        }
        let relative = names.join("/");
        Ok(Self { text: format!("/{relative}"), relative, unit: None })
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = CgroupError;

    fn try_from(text: String) -> Result<Self, CgroupError> {
        text.parse()
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.text
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cgroupfs_paths_are_accepted_and_made_absolute() {
        for (text, path) in [
            ("/k8s.io/abc", "/k8s.io/abc"),
            ("default/x", "/default/x"),
            ("/kubepods/burstable/pod1_2/c0/", "/kubepods/burstable/pod1_2/c0"),
            ("/a:b/c", "/a:b/c"),
            ("/kubepods.slice/pod.slice/c", "/kubepods.slice/pod.slice/c"),
            ("/a:b:c", "/a:b:c"),
        ] {
            let parsed = text.parse::<CgroupPath>().unwrap();
            assert_eq!(parsed.to_string(), path);
            assert!(!parsed.is_systemds());
        }
    }

    #[test]
    fn root_dots_blanks_and_empty_names_are_errors() {
        for text in ["", "/", "//", "/..", "/a/../b", "/a/./b", "/a//b", "/a b", "/a\n", "/a\0", ".."] {
            assert!(matches!(text.parse::<CgroupPath>(), Err(CgroupError::Path(_))), "{text:?} was accepted");
        }
    }

    #[test]
    fn systemds_form_names_a_scope_below_its_slices() {
        for (text, relative) in [
            ("system.slice:cri-containerd:abc", "system.slice/cri-containerd-abc.scope"),
            (":runc:c1", "system.slice/runc-c1.scope"),
            ("-.slice:p:n", "p-n.scope"),
            (
                "kubepods-burstable-podX_1.slice:cri-containerd:0a",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX_1.slice/cri-containerd-0a.scope",
            ),
        ] {
            let path = text.parse::<CgroupPath>().unwrap();
            assert_eq!((path.relative(), path.to_string().as_str()), (relative, text));
            let again: CgroupPath = String::from(path.clone()).parse().unwrap();
            assert_eq!(again, path);
        }
    }

    #[test]
    fn what_is_no_slice_and_no_scope_is_refused_by_name() {
        let long = format!("system.slice:p:{}", "n".repeat(250));
        for text in [
            "system:p:n",
            "a--b.slice:p:n",
            "../x.slice:p:n",
            "a.slice:p/q:n",
            "a.slice:p:",
            "a.slice:p:n.slice",
            ".slice:p:n",
            "a.slice:p:n\n",
            &long,
        ] {
            let error = text.parse::<CgroupPath>().unwrap_err();
            assert!(matches!(error, CgroupError::SystemdPath { .. }), "{text}: {error}");
        }
    }
}
