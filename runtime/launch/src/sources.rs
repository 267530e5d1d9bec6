//! Sources of bind mounts: opened once, without following a link that a tenant could have made, and handed to
//! libcontainer as mounts of the worker's own, so that what was looked at is what is mounted.
//!
//! ```text
//! /srv/data/a/b   root /srv/data: the node's, links and all   a/b: tenants may write there, no link is followed
//! ```

use std::{
    fs::{self, DirBuilder, File},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::{LaunchError, blind::c_path, sys};

/// One bind mount of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    /// Which of the plan's mounts.
    pub(crate) index: usize,
    /// What is mounted.
    path: PathBuf,
    /// The directory of the node's that it lies below; none for what the runtime made itself.
    root: Option<PathBuf>,
    /// With the mounts below it.
    recursive: bool,
}

/// The bind mounts of a spec, each with the deepest of `roots` that it lies below.
pub(crate) fn of(spec: &Spec, roots: &[PathBuf]) -> Vec<Source> {
    let binds = spec.mounts().iter().flatten().enumerate().filter_map(|(index, mount)| {
        let options = mount.options().as_deref().unwrap_or_default();
        let recursive = options.iter().any(|option| option == "rbind");
        let bind = recursive || options.iter().any(|option| option == "bind");
        let path = mount.source().clone().filter(|_| bind)?;
        let above = roots.iter().filter(|root| path.starts_with(root));
        let root = above.max_by_key(|root| root.components().count()).cloned();
        Some(Source { index, path, root, recursive })
    });
    binds.collect()
}

/// Where the worker puts the source of the mount of that index.
pub(crate) fn pinned(task_dir: &Path, index: usize) -> PathBuf {
    dir(task_dir).join(index.to_string())
}

fn dir(task_dir: &Path) -> PathBuf {
    task_dir.join("binds")
}

/// Opens every source and mounts it at its [`pinned`] place, in the worker's mount namespace.
pub(crate) fn pin(sources: &[Source], task_dir: &Path) -> Result<(), LaunchError> {
    let made = dir(task_dir);
    DirBuilder::new()
        .mode(0o700)
        .create(&made)
        .map_err(LaunchError::io("mkdir(2)", made.display().to_string()))?;
    for source in sources {
        let found = open(source)?;
        let target = pinned(task_dir, source.index);
        let shown = || target.display().to_string();
        let file = File::from(found);
        let is_dir = file.metadata().map_err(LaunchError::io("fstat(2)", shown()))?.is_dir();
        match is_dir {
            true => fs::create_dir(&target).map_err(LaunchError::io("mkdir(2)", shown()))?,
            false => File::create_new(&target).map(drop).map_err(LaunchError::io("open(2)", shown()))?,
        }
        let tree = sys::open_tree_of(file.as_fd(), source.recursive)
            .map_err(LaunchError::io("open_tree(2)", source.path.display().to_string()))?;
        sys::move_mount(tree.as_fd(), &c_path(&target)?)
            .map_err(LaunchError::io("move_mount(2)", shown()))?;
    }
    Ok(())
}

fn open(source: &Source) -> Result<OwnedFd, LaunchError> {
    let Source { index: _, path, root, recursive: _ } = source;
    let shown = || path.display().to_string();
    let how = |resolve| OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let above = root.as_deref().unwrap_or(path);
    let found = openat2(AT_FDCWD, above, how(ResolveFlag::RESOLVE_NO_MAGICLINKS))
        .map_err(LaunchError::io("openat2(2)", above.display().to_string()))?;
    let below = path.strip_prefix(above).map_err(|_| LaunchError::Plan("a source is not below its root"))?;
    if below.as_os_str().is_empty() {
        return Ok(found);
    }
    let strict =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(&found, below, how(strict)).map_err(|errno| match errno {
        Errno::ELOOP | Errno::EXDEV => LaunchError::Failed(format!(
            "the source {} of a mount leads through a symbolic link below {}: whoever can write there would choose \
             what is mounted; name the directory itself",
            shown(),
            above.display()
        )),
        errno => LaunchError::io("openat2(2)", shown())(errno),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn link_below_the_root_is_refused_and_one_above_it_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("real/a")).unwrap();
        symlink("real", dir.path().join("node")).unwrap();
        symlink("/", dir.path().join("real/out")).unwrap();
        symlink("a", dir.path().join("real/in")).unwrap();
        let root = dir.path().join("node");
        let source = |below: &str| Source {
            index: 0,
            path: root.join(below),
            root: Some(root.clone()),
            recursive: true,
        };
        open(&source("a")).unwrap();
        open(&source("")).unwrap();
        for link in ["out", "out/etc", "in"] {
            let error = open(&source(link)).unwrap_err().to_string();
            assert!(error.contains("symbolic link"), "{error}");
        }
    }

    #[test]
    fn source_belongs_to_the_deepest_root_above_it() {
        let mut spec = Spec::default();
        let mount = &mut spec.mounts_mut().as_mut().unwrap()[0];
        mount.set_source(Some("/srv/data/x".into())).set_options(Some(vec!["rbind".to_owned()]));
        let found = of(&spec, &["/srv".into(), "/srv/data".into(), "/srv/dat".into()]);
        assert_eq!((found.len(), found[0].root.as_deref()), (1, Some(Path::new("/srv/data"))));
    }
}
