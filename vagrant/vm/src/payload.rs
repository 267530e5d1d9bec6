//! What is tested, on a disk image of its own: a change of the code needs no new machine.
//!
//! The image is mounted where the source tree is on the host, so that the harness finds everything where it looks.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{ALLOWED, HarnessError, Image, attacker, run, workspace};

use crate::disk::{Disk, Scratch};

/// Size of every payload, in MiB: a restored machine has seen the disk's size already. Unused, it costs nothing.
pub(crate) const SIZE_MIB: u32 = 512;

/// An image with binaries; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Payload {
    scratch: Scratch,
}

impl Payload {
    /// Shim, command, probe, and other programs, which are put beside the shim.
    pub(crate) fn of(disk: &Disk, programs: &[PathBuf]) -> Result<Self, HarnessError> {
        let scratch = disk.scratch()?;
        let tree = scratch.file("tree");
        write_tree(&tree, &workspace().join("target/debug"), programs)?;
        image(&scratch.file("payload.img"), Some(&tree))?;
        fs::remove_dir_all(&tree).map_err(HarnessError::at("remove", &tree))?;
        Ok(Self { scratch })
    }

    /// The image.
    pub(crate) fn path(&self) -> PathBuf {
        self.scratch.file("payload.img")
    }
}

/// Writes what a machine is given: the shim and the command from `bins`, the probe, the attacker, and `programs` beside
/// them.
pub(crate) fn write_tree(tree: &Path, bins: &Path, programs: &[PathBuf]) -> Result<(), HarnessError> {
    let own = ["containerd-shim-bulkhead-v2", "bulkhead"].map(|name| bins.join(name));
    for program in own.iter().chain([&attacker()?]).chain(programs) {
        let name = program.file_name().unwrap_or_default();
        strip(program, &tree.join("target/debug").join(name))?;
    }
    // The machines have no compiler: the probe of every image is built here, where it is not there yet.
    Image::busybox(ALLOWED, "65532")?;
    copy_tree("integration/probe", tree)?;
    copy_tree("target/deps/probe", tree)
}

/// Makes an ext4 image, of a directory or empty.
pub(crate) fn image(at: &Path, of: Option<&Path>) -> Result<(), HarnessError> {
    let mut command = Command::new("mke2fs");
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0"]);
    if let Some(tree) = of {
        command.arg("-d").arg(tree);
    }
    command.arg(at).arg(format!("{SIZE_MIB}M"));
    run(&mut command, Duration::from_secs(120))?.success().map(drop)
}

/// Copies a program without what only a debugger reads: nine tenths of it.
fn strip(from: &Path, to: &Path) -> Result<(), HarnessError> {
    if !from.exists() {
        let what = from.display().to_string();
        return Err(HarnessError::Missing { what, fix: "cargo build --workspace --bins" });
    }
    let dir = to.parent().unwrap_or(to);
    fs::create_dir_all(dir).map_err(HarnessError::at("create", dir))?;
    run(Command::new("strip").arg("-o").args([to, from]), Duration::from_secs(60))?.success().map(drop)
}

/// Copies a directory of files from the source tree to the same place below `tree`.
fn copy_tree(name: &str, tree: &Path) -> Result<(), HarnessError> {
    let (from, to) = (workspace().join(name), tree.join(name));
    fs::create_dir_all(&to).map_err(HarnessError::at("create", &to))?;
    let entries = fs::read_dir(&from).map_err(HarnessError::at("read", &from))?;
    for entry in entries.flatten() {
        let path = entry.path();
        fs::copy(&path, to.join(entry.file_name())).map_err(HarnessError::at("copy", &path))?;
    }
    Ok(())
}
