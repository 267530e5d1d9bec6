//! The container's root, from a tree of mounts to where its first process stands: devices, pivot_root, kernel parameters,
//! and what is covered of it.
//!
//! ```text
//! mounts attached ─► devices, links ─► (hooks) ─► enter: propagation · pivot_root · parameters · terminal ·
//!                                                  read-only root · read-only paths · masked paths
//! ```
//! All of it by descriptors, in the container's own mount namespace, as the node's root.
//!
//! Invariant: what is covered is what was looked at, and what covers it was made or proven here: no name is looked up twice.

mod covered;
mod devices;
mod parameters;

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, fchdir, pivot_root},
};
use oci_spec::runtime::Spec;

use crate::{
    LaunchError,
    rootfs::MOUNT_ATTR_RDONLY,
    sys::trees::{self, Change, Reach},
};

/// Makes `root` a mount of this mount namespace's own, where the namespace belongs to a user namespace: one that came from outside is
/// locked in its place (MNT_LOCKED), and cannot become the root. To be called before anything is mounted in it.
///
/// Source: mount_namespaces(7), "Restrictions on mount namespaces".
pub(crate) fn unlock(root: &Path) -> Result<(), LaunchError> {
    mount(Some(root), root, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(LaunchError::io("mount(2)", root.display().to_string()))
}

/// Makes devices and links in the `/dev` below `root`, which is no process's root yet.
pub(crate) fn fill(spec: &Spec, root: &Path) -> Result<(), LaunchError> {
    let asked = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref());
    devices::make(root, asked.unwrap_or_default())
}

/// Makes `root` this process's root, in a mount namespace that no other process is in, and covers what is to be covered of it.
/// `inside` is done before the root becomes read-only.
pub(crate) fn enter<T>(
    spec: &Spec,
    root: &Path,
    inside: impl FnOnce() -> Result<T, LaunchError>,
) -> Result<T, LaunchError> {
    let linux = spec.linux().as_ref().ok_or(LaunchError::Plan("no linux section"))?;
    let propagation = match linux.rootfs_propagation().as_deref() {
        Some("private") => MsFlags::MS_PRIVATE,
        // What the node mounts later may arrive, and nothing goes back.
        None => MsFlags::MS_SLAVE,
        Some(_) => return Err(LaunchError::Plan("a propagation of / that is not known here")),
    };
    mount(None::<&str>, root, None::<&str>, MsFlags::MS_REC | propagation, None::<&str>)
        .map_err(LaunchError::io("mount(2)", format!("root as {propagation:?}")))?;
    let new = pivot(root)?;
    parameters::set(linux.sysctl().as_ref())?;
    let done = inside()?;
    if spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false) {
        let read_only = Change { set: MOUNT_ATTR_RDONLY, ..Change::default() };
        trees::change(new.as_fd(), Reach::Top, &read_only)
            .map_err(LaunchError::io("mount_setattr(2)", "/"))?;
    }
    covered::read_only(linux.readonly_paths().as_deref().unwrap_or_default())?;
    covered::masked(linux.masked_paths().as_deref().unwrap_or_default(), linux.mount_label().as_deref())?;
    Ok(done)
}

/// The mount at `root` in place of the one that this process's root is on, which goes. Nothing is told to the node of it: in a
/// worker's mount namespace, and in copies of it, every mount is private or slave.
fn pivot(root: &Path) -> Result<OwnedFd, LaunchError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = |path: &Path| {
        openat2(AT_FDCWD, path, OpenHow::new().flags(flags))
            .map_err(LaunchError::io("openat2(2)", path.display().to_string()))
    };
    let (old, new) = (open(Path::new("/"))?, open(root)?);
    fchdir(&new).map_err(LaunchError::io("fchdir(2)", "new root"))?;
    // The old root comes to lie over the new one.
    pivot_root(".", ".").map_err(LaunchError::io("pivot_root(2)", root.display().to_string()))?;
    fchdir(&old).map_err(LaunchError::io("fchdir(2)", "old root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(LaunchError::io("umount2(2)", "old root"))?;
    chdir("/").map_err(LaunchError::io("chdir(2)", "/"))?;
    Ok(new)
}
