//! The path of a control group, as config.json names it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::CgroupError;

/// Longest path accepted, in bytes: with the mount point before it and a file name behind it it stays below
/// `PATH_MAX`.
///
/// Source: `PATH_MAX`, include/uapi/linux/limits.h, less 256.
const PATH_BYTES_MAX: usize = 3840;

/// An absolute path below the hierarchies' roots, such as `/kubepods/burstable/podX/id`: plain names only,
/// never the root itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The path without its leading slash: to be joined to a mount point.
    #[must_use]
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }
}

impl FromStr for CgroupPath {
    type Err = CgroupError;

    fn from_str(text: &str) -> Result<Self, CgroupError> {
        let wrong = || CgroupError::Path(text.chars().take(200).collect());
        if !text.starts_with('/') && text.matches(':').count() == 2 {
            return Err(CgroupError::SystemdPath(text.chars().take(200).collect()));
        }
        // A relative path is below the root as well: runc and containerd treat `a/b` as `/a/b`.
        let names: Vec<&str> = text.trim_start_matches('/').trim_end_matches('/').split('/').collect();
        let plain = |name: &&str| {
            !name.is_empty() && *name != "." && *name != ".." && name.bytes().all(|b| b > b' ' && b != 0x7f)
        };
        if text.len() > PATH_BYTES_MAX || !names.iter().all(plain) {
            return Err(wrong());
        }
        Ok(Self(format!("/{}", names.join("/"))))
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
        path.0
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
        ] {
            assert_eq!(text.parse::<CgroupPath>().unwrap().to_string(), path);
        }
    }

    #[test]
    fn root_dots_blanks_and_empty_names_are_errors() {
        for text in ["", "/", "//", "/..", "/a/../b", "/a/./b", "/a//b", "/a b", "/a\n", "/a\0", ".."] {
            assert!(matches!(text.parse::<CgroupPath>(), Err(CgroupError::Path(_))), "{text:?} was accepted");
        }
    }

    #[test]
    fn systemd_form_is_refused_by_name() {
        let error = "system.slice:cri-containerd:abc".parse::<CgroupPath>().unwrap_err();
        assert!(matches!(error, CgroupError::SystemdPath(_)), "{error}");
    }
}
