//! tmpfs: policy's, the image's VOLUMEs, and those that a request brings. All limited in bytes and inodes, none executable.

use std::path::{Path, PathBuf};

use bulkhead_model::{ContainerKind, PathAccess, Refusal, Rule, VolumesRule};

use super::{Asked, Context, Mounts, make, options::bytes, record};
use crate::{
    change::Changes,
    limits::{MOUNTS_MAX, at_most},
    refuse::{refuse, short},
};

const EXECUTABLE: &str = "policy names it in `executable`";

/// Who may write to a tmpfs of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Everybody, each what is theirs: /tmp.
    All,
    /// The container's user: a data directory.
    User,
}

/// Adds policy's tmpfs, except where the request mounts something itself; gives back what is left of the request.
pub(super) fn take_ours(
    asked: Vec<Asked>,
    context: &Context<'_>,
    mounts: &mut Mounts,
    changes: &mut Changes,
) -> Result<Vec<Asked>, Refusal> {
    let confinement = context.confinement;
    if context.request.kind == ContainerKind::Sandbox {
        // pause sleeps: nothing in it writes.
        return Ok(asked);
    }
    let mut ours: Vec<(&PathBuf, Owner)> = confinement.tmpfs.iter().map(|path| (path, Owner::All)).collect();
    ours.extend(confinement.writable.iter().map(|path| (path, Owner::User)));
    let volumes = declared(context, changes)?;
    ours.extend(volumes.iter().map(|path| (path, Owner::User)));
    ours.sort_by_key(|(path, _)| *path); // outer directories first
    ours.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same && later.1 == Owner::User {
            earlier.1 = Owner::User;
        }
        same
    });

    let mut rest = asked;
    for (path, owner) in ours {
        let path = valid(path)?;
        let covering = rest.iter().position(|mount| path.starts_with(&mount.destination));
        let limits = match covering {
            // ctr's own /run is root's: nobody else could write there.
            Some(index) if is_writable_tmpfs(&rest[index]) && rest[index].destination == path => {
                let theirs = rest.remove(index);
                record(changes, &path, "writable, limited", "policy's tmpfs in place of root's");
                Some(theirs)
            }
            Some(index) => {
                let at = rest[index].destination.clone();
                if at != path {
                    record(changes, &path, "no tmpfs", "the request mounts a directory above it");
                }
                continue;
            }
            None => {
                record(
                    changes,
                    &path,
                    "tmpfs added",
                    "policy: small, not executable, gone with the container",
                );
                None
            }
        };
        let (size, inodes) = limits_of(limits.as_ref(), context);
        let owner = match owner {
            Owner::All => vec!["mode=1777".to_owned()],
            Owner::User => {
                vec!["mode=0755".to_owned(), format!("uid={}", context.uid), format!("gid={}", context.gid)]
            }
        };
        let executable = context.confinement.executable.contains(&path);
        let mut options = vec!["nosuid", "nodev"];
        match executable {
            true => record(changes, &path, "executable", EXECUTABLE),
            false => options.push("noexec"),
        }
        options.extend(owner.iter().map(String::as_str));
        options.extend([size.as_str(), inodes.as_str()]);
        mounts.copied_up.insert(path.clone());
        mounts.add(make(&path, "tmpfs", Path::new("tmpfs"), &options)?, read_write(executable));
    }
    Ok(rest)
}

/// VOLUMEs of the image that can be places of a tmpfs. The others are the image's own mistakes, or worse: they get nothing.
fn declared(context: &Context<'_>, changes: &mut Changes) -> Result<Vec<PathBuf>, Refusal> {
    let volumes = &context.host.volumes;
    match context.confinement.volumes {
        VolumesRule::AsTheyAre => return Ok(Vec::new()),
        VolumesRule::Tmpfs => at_most("the image's VOLUMEs", volumes.len(), MOUNTS_MAX, "places")?,
    }
    let places = volumes.iter().filter_map(|text| {
        let place = valid(Path::new(text)).ok();
        if place.is_none() {
            let what = "no tmpfs for this VOLUME of the image";
            record(changes, Path::new(&short(text)), what, "it is no place for one");
        }
        place
    });
    Ok(places.collect())
}

/// Adds a tmpfs of the request, limited.
pub(super) fn add(
    asked: &Asked,
    context: &Context<'_>,
    mounts: &mut Mounts,
    changes: &mut Changes,
) -> Result<(), Refusal> {
    asked.options.only(&asked.field, &["mode", "size", "nr_inodes", "uid", "gid"])?;
    let (size, inodes) = limits_of(Some(asked), context);
    let mut parameters = Vec::new();
    if let Some(mode) = asked.options.parameter("mode") {
        match u32::from_str_radix(mode, 8) {
            // No set-uid and set-gid bits; sticky stays.
            Ok(mode) => parameters.push(format!("mode={:04o}", mode & 0o1777)),
            Err(_) => return Err(bad_value(asked, "mode", mode)),
        }
    }
    for key in ["uid", "gid"] {
        match asked.options.parameter(key) {
            None => {}
            Some(id) if id.parse::<u32>().is_ok() => parameters.push(format!("{key}={id}")),
            Some(id) => return Err(bad_value(asked, key, id)),
        }
    }
    parameters.extend([size, inodes]);
    let executable = context.confinement.executable.contains(&asked.destination) && !asked.options.no_exec;
    let mut options = vec!["nosuid", "nodev"];
    match executable {
        true => record(changes, &asked.destination, "executable", EXECUTABLE),
        false => options.push("noexec"),
    }
    if asked.options.read_only {
        options.push("ro");
    }
    options.extend(parameters.iter().map(String::as_str));
    let what = if executable { "nosuid, nodev, limited" } else { "nosuid, nodev, noexec, limited" };
    record(changes, &asked.destination, what, "so is all that can be written");
    let access = match (asked.options.read_only, executable) {
        (true, false) => PathAccess::Read,
        (true, true) => PathAccess::ReadExecute,
        (false, _) => read_write(executable),
    };
    mounts.add(make(&asked.destination, "tmpfs", Path::new("tmpfs"), &options)?, access);
    Ok(())
}

fn read_write(executable: bool) -> PathAccess {
    if executable { PathAccess::ReadWriteExecute } else { PathAccess::ReadWrite }
}

/// Size and inodes: what was asked for, but at most policy's.
fn limits_of(asked: Option<&Asked>, context: &Context<'_>) -> (String, String) {
    let (bytes_max, inodes_max) = (context.confinement.tmpfs_bytes_max, context.confinement.tmpfs_inodes_max);
    let parameter = |key| asked.and_then(|asked| asked.options.parameter(key)).and_then(bytes);
    // Zero would mean "no limit".
    let size = parameter("size").filter(|size| *size > 0).map_or(bytes_max, |size| size.min(bytes_max));
    let inodes = parameter("nr_inodes").filter(|n| *n > 0).map_or(inodes_max, |n| n.min(inodes_max));
    (format!("size={}", size.max(1)), format!("nr_inodes={}", inodes.max(1)))
}

fn is_writable_tmpfs(asked: &Asked) -> bool {
    !asked.options.bind && asked.kind == "tmpfs" && !asked.options.read_only
}

/// Policy's parser accepts no other paths; this crate does not rely on that.
fn valid(path: &Path) -> Result<PathBuf, Refusal> {
    let kernels = ["/proc", "/sys", "/dev"].iter().any(|at| path.starts_with(at));
    match super::path::normal(path) {
        Some(normal) if normal.parent().is_some() && !kernels => Ok(normal),
        Some(_) | None => Err(refuse(
            Rule::Policy,
            "policy",
            format!("a tmpfs on {:?}", short(&path.to_string_lossy())),
            "a path is absolute, without \"..\", not the root, and not below /proc, /sys or /dev",
            "correct tmpfs or writable in the policy",
        )),
    }
}

fn bad_value(asked: &Asked, key: &str, value: &str) -> Refusal {
    refuse(
        Rule::Mounts,
        &format!("{}.options", asked.field),
        format!("{key}={}", short(value)),
        "that is no value which this option may have",
        "correct the option",
    )
}
