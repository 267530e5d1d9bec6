//! The Landlock ruleset of a spec: every right that the kernel's ABI has is handled, what no rule gives is denied.
//!
//! Rules only ever add rights below a path, mounts included. So the image's directories get theirs one by one, and
//! a mount that must not have them (a writable one: the image's rights include execute) gets only its own rule:
//! ```text
//! /            READ_DIR alone, or `ls /` fails
//! ├── usr      image's rights
//! ├── tmp      a mount: its own rule, or nothing
//! └── var      READ_DIR alone, because a writable mount lies below it
//!     ├── lib  image's rights
//!     └── tmp  a mount: its own rule
//! ```
//! A directory is taken apart like this only while it has at most [`APART_ENTRIES_MAX`] entries and the image is
//! read-only; else the image's rights reach the mount too, and only its noexec flag stops execution.
//!
//! The rule of a mount is for what was mounted: it is opened where the mount has landed, without following a link, and is
//! added only if the root of that very mount was opened. The container may have moved a directory above it, or have a link in
//! its place; then there is no rule, and what is there has the rights of what is above it.
//!
//! Where the image's files are told one by one, each path is opened from `/` without following a link and without entering
//! a mount: the image chose neither, and what is mounted over a file of it is none of its files.

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use bulkhead_model::{
    FileRules, ImageAccess, LandlockSpec, MountRoots, PathAccess, PathRule, ScopeRule, TcpRule,
};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
};

use crate::{ConfineError, streams, sys};

/// Most entries of a directory that is taken apart: each costs an open and a rule, some 3 µs, at each start.
const APART_ENTRIES_MAX: usize = 128;

/// Most files with several names that have rules of their own: somebody holds each of them open.
pub const PINS_MAX: usize = 64;

/// The ABI of the running kernel: 0 without Landlock.
#[must_use]
pub fn landlock_abi() -> u8 {
    // ENOSYS and EOPNOTSUPP are the errors there are: not built in, not switched on.
    sys::landlock_version().map_or(0, |version| u8::try_from(version).unwrap_or(u8::MAX))
}

/// The newest ABI that kernel and landlock crate both know, if it reaches `floor`.
pub(crate) fn abi(floor: u8) -> Result<ABI, ConfineError> {
    let found = landlock_abi();
    let abi = ABI::from(i32::from(found));
    if found == 0 || found < floor || abi == ABI::Unsupported {
        return Err(ConfineError::LandlockAbi { found, needed: floor.max(1), what: "the policy's floor" });
    }
    Ok(abi)
}

/// Opens every path and adds every rule; nothing is enforced yet. Beside it, what somebody must hold open: see
/// [`Prepared::take_pins`](crate::Prepared::take_pins).
pub(crate) fn ruleset(
    spec: &LandlockSpec,
    roots: &MountRoots,
) -> Result<(RulesetCreated, Vec<OwnedFd>), ConfineError> {
    let LandlockSpec { floor_abi, image, paths, tcp_bind, tcp_connect, scope, canary } = spec;
    let abi = abi(*floor_abi)?;
    let failed = |step| move |source| ConfineError::Landlock { step, source: Box::new(source) };
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(failed("handling file access"))?;
    let directions =
        [(AccessNet::BindTcp, tcp_bind, "tcp_bind"), (AccessNet::ConnectTcp, tcp_connect, "tcp_connect")];
    for (access, rule, what) in directions {
        if *rule == TcpRule::Any {
            continue;
        }
        if abi < ABI::V4 {
            return Err(ConfineError::LandlockAbi { found: landlock_abi(), needed: 4, what });
        }
        ruleset = ruleset.handle_access(access).map_err(failed("handling TCP"))?;
    }
    for scope in scope {
        if abi < ABI::V6 {
            let what = "scope";
            return Err(ConfineError::LandlockAbi { found: landlock_abi(), needed: 6, what });
        }
        let scope = match scope {
            ScopeRule::Signals => Scope::Signal,
            ScopeRule::AbstractSockets => Scope::AbstractUnixSocket,
        };
        ruleset = ruleset.scope(scope).map_err(failed("scoping"))?;
    }
    let mut created = ruleset.create().map_err(failed("creating the ruleset"))?;
    if abi >= ABI::V7 {
        // Our own probe of the canary is no news for the audit log.
        created = created.log_same_exec(false).map_err(failed("keeping the probe out of the audit log"))?;
    }
    for (access, rule, _) in directions {
        let TcpRule::Ports(ports) = rule else { continue };
        for port in ports {
            let rule = NetPort::new(*port, access).set_compatibility(CompatLevel::HardRequirement);
            (&mut created).add_rule(rule).map_err(failed("allowing a TCP port"))?;
        }
    }
    let mut rules = Rules { abi, canary, created, roots, mounts: Vec::new(), pins: Vec::new() };
    let root = open_beneath(Path::new("/")).map_err(ConfineError::errno("openat2(2)", "/"))?;
    let root_node = sys::node(&root).map_err(ConfineError::call("statx(2)", "/"))?;
    for rule in paths {
        rules.add_path(rule, &root_node)?;
    }
    rules.add(root, Path::new("/"), AccessFs::ReadDir.into())?;
    match image {
        ImageAccess::Whole(access) => {
            rules.add_children(entries(Path::new("/"))?, rights(*access, abi))?;
        }
        ImageAccess::Files(FileRules { execute, read }) => {
            for (paths, access) in [(execute, PathAccess::ReadExecute), (read, PathAccess::Read)] {
                for path in paths {
                    rules.add_file(path, rights(access, abi))?;
                }
            }
        }
    }
    for (fifo, rights) in
        streams::named_fifos().map_err(ConfineError::call("fstat(2)", "standard streams"))?
    {
        rules.add(fifo, Path::new("standard stream"), rights)?;
    }
    Ok((rules.created, rules.pins))
}

/// Restricts this process, and demands that nothing was left out.
pub(crate) fn enforce(ruleset: RulesetCreated) -> Result<(), ConfineError> {
    let failed =
        |source| ConfineError::Landlock { step: "restricting the process", source: Box::new(source) };
    let RestrictionStatus { ruleset, no_new_privs, landlock, .. } =
        ruleset.restrict_self().map_err(failed)?;
    match ruleset {
        RulesetStatus::FullyEnforced if no_new_privs => Ok(()),
        other => Err(ConfineError::NotFullyEnforced(format!(
            "{other:?}, no_new_privs {no_new_privs}, kernel {landlock:?}"
        ))),
    }
}

struct Rules<'a> {
    abi: ABI,
    canary: &'a Path,
    created: RulesetCreated,
    /// Where the container's mounts are.
    roots: &'a MountRoots,
    /// Real paths of mounts that are directories, and what their own rules give.
    mounts: Vec<(PathBuf, BitFlags<AccessFs>)>,
    pins: Vec<OwnedFd>,
}

impl Rules<'_> {
    /// The rule of a mount, or of a device, which is none.
    fn add_path(&mut self, rule: &PathRule, root: &sys::Node) -> Result<(), ConfineError> {
        let PathRule { path, access } = rule;
        let mut rights = rights(*access, self.abi);
        let landed = self.roots.get(path);
        let at = landed.map_or(path, |landed| &landed.at);
        let shown = || at.display().to_string();
        let found = match open_beneath(at) {
            Ok(fd) => {
                let node = sys::node(&fd).map_err(ConfineError::call("statx(2)", shown()))?;
                Some((fd, node))
            }
            // This user cannot reach it, now or (without capabilities) ever; or something else is in its place. No rule is
            // the stricter choice.
            Err(Errno::EACCES | Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => None,
            Err(errno) => return Err(ConfineError::errno("openat2(2)", shown())(errno)),
        };
        if found.as_ref().is_some_and(|(_, node)| node.id == root.id) {
            return Err(ConfineError::RuleIsRoot(path.clone()));
        }
        let is_it = |node: &sys::Node| match landed {
            Some(landed) => node.mount_root && node.id == (landed.device, landed.inode),
            None => node.character_device,
        };
        let found = found.filter(|(_, node)| is_it(node));
        if landed.is_some() && found.as_ref().is_none_or(|(_, node)| node.directory) {
            self.mounts.push((at.clone(), rights));
        }
        let Some((fd, node)) = found else { return Ok(()) };
        if !node.directory {
            rights &= AccessFs::from_file(self.abi);
        }
        self.add(fd, path, rights)
    }

    /// These rights for a file or directory of the image, and for nothing that is mounted there.
    fn add_file(&mut self, path: &Path, rights: BitFlags<AccessFs>) -> Result<(), ConfineError> {
        let shown = || path.display().to_string();
        let fd = match open_of_image(path) {
            Ok(fd) => fd,
            // This user cannot reach it, now or ever.
            Err(Errno::EACCES) => return Ok(()),
            // What hides it is a mount, which has its own rule. A single file may be the runtime's own, without one: the
            // passwd with one line more.
            Err(Errno::EXDEV) if !rights.contains(AccessFs::Execute) => {
                return self.add_mounted_file(path, rights);
            }
            Err(Errno::EXDEV) => return Ok(()),
            Err(errno) => return Err(ConfineError::errno("openat2(2)", shown())(errno)),
        };
        let node = sys::node(&fd).map_err(ConfineError::call("statx(2)", shown()))?;
        match node.directory {
            true => self.add_directory(fd, path, rights),
            false => self.add_single(fd, path, &node, rights),
        }
    }

    /// Reading for a file that is mounted in the place of one of the image.
    fn add_mounted_file(&mut self, path: &Path, rights: BitFlags<AccessFs>) -> Result<(), ConfineError> {
        let shown = || path.display().to_string();
        let in_image = path.parent().map(open_of_image);
        if !matches!(in_image, Some(Ok(_))) {
            return Ok(());
        }
        let fd = match open_beneath(path) {
            Ok(fd) => fd,
            Err(Errno::EACCES) => return Ok(()),
            Err(errno) => return Err(ConfineError::errno("openat2(2)", shown())(errno)),
        };
        if sys::node(&fd).map_err(ConfineError::call("statx(2)", shown()))?.directory {
            return Ok(());
        }
        self.add(fd, path, rights & AccessFs::from_file(self.abi))
    }

    /// These rights for what lies in a directory of the image, mounts left out.
    fn add_children(
        &mut self,
        children: Vec<PathBuf>,
        rights: BitFlags<AccessFs>,
    ) -> Result<(), ConfineError> {
        for child in children {
            if child == self.canary {
                continue;
            }
            let shown = || child.display().to_string();
            let fd = match open_beneath(&child) {
                Ok(fd) => fd,
                Err(Errno::EACCES) => continue,
                Err(errno) => return Err(ConfineError::errno("openat2(2)", shown())(errno)),
            };
            let node = sys::node(&fd).map_err(ConfineError::call("statx(2)", shown()))?;
            if node.mount_root {
                continue;
            }
            match node.directory {
                true => self.add_directory(fd, &child, rights)?,
                false => self.add_single(fd, &child, &node, rights)?,
            }
        }
        Ok(())
    }

    /// These rights for one file of the image.
    ///
    /// A rule is for an inode. Overlay makes a new one of a file with several names whenever the last name that was looked
    /// up is forgotten, as memory gets short: the rule would be for a file that nobody can open any more. What is open is
    /// not forgotten.
    ///
    /// Source: `ovl_hash_bylower`, fs/overlayfs/inode.c: "No, if lower hardlink is or will be broken on copy up".
    fn add_single(
        &mut self,
        fd: OwnedFd,
        path: &Path,
        node: &sys::Node,
        rights: BitFlags<AccessFs>,
    ) -> Result<(), ConfineError> {
        if node.links > 1 {
            if self.pins.len() == PINS_MAX {
                return Err(ConfineError::Pins(path.to_owned()));
            }
            let pin = fd.try_clone().map_err(ConfineError::call("fcntl(2)", path.display().to_string()))?;
            self.pins.push(pin);
        }
        self.add(fd, path, rights & AccessFs::from_file(self.abi))
    }

    /// These rights for a directory, or one by one for what is in it.
    fn add_directory(
        &mut self,
        fd: OwnedFd,
        path: &Path,
        rights: BitFlags<AccessFs>,
    ) -> Result<(), ConfineError> {
        match self.inside_to_take_apart(path, rights) {
            None => self.add(fd, path, rights),
            Some(inside) => {
                self.add(fd, path, AccessFs::ReadDir.into())?;
                self.add_children(inside, rights)
            }
        }
    }

    /// What is in `directory`, if a mount below it must not get these rights.
    fn inside_to_take_apart(&self, directory: &Path, rights: BitFlags<AccessFs>) -> Option<Vec<PathBuf>> {
        let writable_image = rights.contains(AccessFs::WriteFile);
        let below = |(path, own): &(PathBuf, BitFlags<AccessFs>)| {
            path.starts_with(directory) && path != directory && !own.contains(rights)
        };
        if writable_image || !self.mounts.iter().any(below) {
            return None;
        }
        // One that this user cannot list, or that is too large, stays whole.
        entries(directory).ok().filter(|inside| inside.len() <= APART_ENTRIES_MAX)
    }

    fn add(&mut self, fd: OwnedFd, path: &Path, rights: BitFlags<AccessFs>) -> Result<(), ConfineError> {
        let failed = |source| ConfineError::Rule { path: path.to_owned(), source: Box::new(source) };
        let rule = PathBeneath::new(fd, rights).set_compatibility(CompatLevel::HardRequirement);
        (&mut self.created).add_rule(rule).map_err(failed)?;
        Ok(())
    }
}

/// The bits of `access` that `abi` has.
fn rights(access: PathAccess, abi: ABI) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::ResolveUnix;
    let write = AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::RemoveDir
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::MakeReg
        | AccessFs::MakeSock
        | AccessFs::MakeFifo
        | AccessFs::MakeSym
        | AccessFs::Refer;
    let all = match access {
        PathAccess::Read => read,
        PathAccess::ReadExecute => read | AccessFs::Execute,
        PathAccess::ReadWrite => read | write,
        PathAccess::ReadWriteExecute => read | write | AccessFs::Execute,
        PathAccess::Device => {
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::IoctlDev
        }
    };
    all & AccessFs::from_all(abi)
}

/// Directories and regular files in `directory`; links lead to what has its own rule.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, ConfineError> {
    let failed = || ConfineError::call("getdents(2)", directory.display().to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let kind = entry.file_type().map_err(failed())?;
        if kind.is_dir() || kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn open_beneath(path: &Path) -> Result<OwnedFd, Errno> {
    open_how(path, ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// A file of the image itself: no link on the way, and no mount.
fn open_of_image(path: &Path) -> Result<OwnedFd, Errno> {
    open_how(path, ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV)
}

fn open_how(path: &Path, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    openat2(AT_FDCWD, path, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve))
}
