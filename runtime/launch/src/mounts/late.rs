//! Mounts that must not be there while the container's root is made, at the compatible level: attached in its mount namespace
//! when the container's process waits for Start.
//!
//! - A bind on `/dev`: devices and links would be made in the node's own directory. It gets a substitute.
//! - One that shares with the node what is mounted below it: each mount that is there before is made a slave.
//!
//! What the request mounts below such a place comes after it, in the request's order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns},
};

use super::{Links, Mounts, Options, Planned, Root, Trees, What, When};
use crate::LaunchError;

const DEV: &str = "/dev";

/// Where a terminal is shown.
pub(super) const CONSOLE: &str = "/dev/console";

/// Sorts out which these are, and puts the substitute of `/dev` before it.
pub(super) fn sort_out(list: &mut Vec<Planned>, covered: &BTreeSet<PathBuf>) -> Result<(), LaunchError> {
    let mut late: Vec<PathBuf> = Vec::new();
    for mount in list.iter_mut() {
        let dev = mount.destination == Path::new(DEV);
        let is_bind = !matches!(mount.what, What::FileSystem { .. });
        if is_bind && (dev || Options::read(&mount.options).shared()) {
            mount.when = When::Late;
            late.push(mount.destination.clone());
        } else if late.iter().any(|above| mount.destination.starts_with(above)) {
            // What is not cloned yet is made by the container's first process, in its namespaces; and terminals must be
            // there when one is made.
            let cloned = matches!(&mount.what, What::Bind { links: Links::Node, .. });
            mount.when = if cloned { When::Late } else { When::Both };
        }
    }
    let masked = covered.iter().find(|path| late.iter().any(|above| path.starts_with(above)));
    if let Some(masked) = masked {
        return Err(LaunchError::Failed(format!(
            "{} is to be masked or read-only below a mount on /dev or one that shares with the node: drop one of the two",
            masked.display()
        )));
    }
    let dev = list.iter().position(|mount| mount.when == When::Late && mount.destination == Path::new(DEV));
    if let Some(index) = dev {
        let options = ["nosuid", "strictatime", "mode=755", "size=65536k"].map(str::to_owned).to_vec();
        let what = What::FileSystem { kind: "tmpfs".to_owned(), source: "tmpfs".to_owned() };
        list.insert(
            index,
            Planned { destination: DEV.into(), what, options, copy_up: None, ids: None, when: When::First },
        );
    }
    Ok(())
}

/// Attaches them in the mount namespace of `pid`, where this process stays.
pub(super) fn attach(
    mounts: &Mounts,
    pid: i32,
    mut trees: Trees,
    landed: &BTreeMap<usize, PathBuf>,
) -> Result<(), LaunchError> {
    let late = || mounts.list.iter().enumerate().filter(|(_, mount)| mount.when != When::First);
    if late().next().is_none() && !mounts.shared_root {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = File::open(&path).map_err(LaunchError::io("open(2)", path.clone()))?;
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS).map_err(LaunchError::io("setns(2)", path))?;
    let root = Root::open(Path::new("/"))?;
    for (index, _) in late().filter(|(_, mount)| mount.when == When::Both) {
        let at = landed.get(&index).ok_or(LaunchError::Plan("a mount has not landed"))?;
        trees.insert(index, root.clone_of(at)?);
    }
    let mut console = None;
    if late().any(|(_, mount)| mount.destination == Path::new(DEV)) {
        if mounts.console {
            console = Some(root.clone_of(Path::new(CONSOLE))?);
        }
        umount2(DEV, MntFlags::MNT_DETACH).map_err(LaunchError::io("umount2(2)", DEV))?;
    }
    for (index, mount) in late() {
        let tree = trees.remove(&index).ok_or(LaunchError::Plan("a late mount is missing"))?;
        root.attach(&tree, &mount.destination, |_| Ok(()))?;
    }
    if let Some(console) = console {
        root.attach(&console, Path::new(CONSOLE), |_| Ok(()))?;
    }
    if mounts.shared_root {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED, None::<&str>)
            .map_err(LaunchError::io("mount(2)", "/ as shared"))?;
    }
    Ok(())
}
