//! The container's root file system, mounted in the worker's mount namespace: the host never sees it, and it is
//! gone with the last process of the container.

use std::{
    ffi::{CStr, CString},
    fs::DirBuilder,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
};

use bulkhead_layers::{mount_images, refuse_image_beside};
use bulkhead_model::Mount;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{
    LaunchError,
    blind::c_path,
    owner::Owner,
    sys::{self, FsParameter, trees::Reach},
    user_namespace::Inside,
};

// Source: include/uapi/linux/mount.h.
pub(crate) const MOUNT_ATTR_RDONLY: u64 = 0x01;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 0x02;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 0x04;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 0x08;
const MOUNT_ATTR_NOATIME: u64 = 0x10;

/// Gives the worker a mount namespace of its own. Unmounts of the host still reach it, so that it pins nothing;
/// nothing that is mounted here reaches the host.
pub(crate) fn private_namespace() -> Result<(), LaunchError> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(LaunchError::io("unshare(2)", "mount namespace"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(LaunchError::io("mount(2)", "/ as slave"))
}

/// What the root file system of a hardened container is mounted with besides what is asked for: no set-uid program,
/// file capability or device node of the image counts.
pub(crate) const HARDENED: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

/// Mounts `mounts`, lowest first, at `target`, each with `attributes` as well. Where owners are shifted, layers are
/// mounted once more below `dir`; an empty layer that an overlay wants is made there.
pub(crate) fn mount_all(
    mounts: &[Mount],
    target: &Path,
    attributes: u64,
    inside: Option<&Inside>,
    dir: &Path,
) -> Result<(), LaunchError> {
    let inside = inside.filter(|inside| inside.maps_all() || inside.has_namespaces());
    if mounts.is_empty() {
        return Err(LaunchError::Plan("the root file system is not given as mounts"));
    }
    // Layers that are images of EROFS are mounted here, from the files that their receipts are of.
    let lower = mounts.iter().flat_map(|mount| &mount.options).filter_map(|o| o.strip_prefix("lowerdir="));
    let lower: Vec<PathBuf> = lower.flat_map(|layers| layers.split(':')).map(PathBuf::from).collect();
    mount_images(&lower).map_err(|error| LaunchError::Failed(error.to_string()))?;
    for (index, entry) in mounts.iter().enumerate() {
        let entry = &with_two_layers(entry, dir)?;
        // Those that the request maps by itself come with what they are for: a snapshot's have the snapshotter's word.
        let inside = inside.filter(|inside| inside.maps_all() || is_mapped(entry));
        let shifted =
            inside.map(|inside| inside.layers(entry, &dir.join(format!("layers-{index}")))).transpose()?;
        let entry = shifted.as_ref().unwrap_or(entry);
        // An overlay works as who has mounted it.
        let _owner = Owner::become_one(inside.filter(|inside| inside.maps_all()).and_then(Inside::owner))?;
        let at = match entry.target.as_os_str().is_empty() || entry.target == Path::new("/") {
            true => target.to_owned(),
            false => return Err(LaunchError::Plan("a mount of the root file system has a target below it")),
        };
        let options = Options::parse(&entry.options)?;
        let attributes = options.attributes | attributes;
        let tree = match options.bind {
            true => {
                refuse_image_beside(Path::new(&entry.source))
                    .map_err(|error| LaunchError::Failed(error.to_string()))?;
                let tree = bind(&entry.source, attributes)?;
                inside.map_or(Ok(()), |inside| inside.map_one(tree.as_fd(), Reach::Top, &entry.source))?;
                tree
            }
            false => match make(&entry.kind, &entry.source, &options.parameters, attributes)? {
                Some(tree) => tree,
                None => {
                    make_at_once(&entry.kind, &entry.source, &options.parameters, attributes, &at).map_err(
                        |error| if inside.is_some() { without_mapped_layers(error) } else { error },
                    )?;
                    continue;
                }
            },
        };
        sys::move_mount(tree.as_fd(), &c_path(&at)?)
            .map_err(LaunchError::io("move_mount(2)", at.display().to_string()))?;
    }
    Ok(())
}

/// Whether containerd says of a snapshot that it is to show the ids of a user namespace.
fn is_mapped(mount: &Mount) -> bool {
    mount.options.iter().any(|option| option.starts_with("uidmap=") || option.starts_with("gidmap="))
}

/// An overlay that nothing is written to wants two layers at least: an empty one goes below a single one.
///
/// Source: `ovl_get_lowerstack`, fs/overlayfs/super.c.
fn with_two_layers(mount: &Mount, dir: &Path) -> Result<Mount, LaunchError> {
    let mut mount = mount.clone();
    if mount.kind != "overlay" || mount.options.iter().any(|option| option.starts_with("upperdir=")) {
        return Ok(mount);
    }
    for option in &mut mount.options {
        if option.strip_prefix("lowerdir=").is_some_and(|names| !names.contains(':')) {
            let empty = dir.join("empty");
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&empty)
                .map_err(LaunchError::io("mkdir(2)", empty.display().to_string()))?;
            option.push(':');
            option.push_str(&empty.display().to_string());
        }
    }
    Ok(mount)
}

/// fstab options, sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    bind: bool,
    attributes: u64,
    parameters: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Sorts options as mount(8) would; what it does not know is the file system's.
    fn parse(options: &'a [String]) -> Result<Self, LaunchError> {
        let mut parsed = Self::default();
        for option in options {
            match option.as_str() {
                "bind" | "rbind" => parsed.bind = true,
                "ro" => parsed.attributes |= MOUNT_ATTR_RDONLY,
                "rw" => parsed.attributes &= !MOUNT_ATTR_RDONLY,
                "nosuid" => parsed.attributes |= MOUNT_ATTR_NOSUID,
                "nodev" => parsed.attributes |= MOUNT_ATTR_NODEV,
                "noexec" => parsed.attributes |= MOUNT_ATTR_NOEXEC,
                "noatime" => parsed.attributes |= MOUNT_ATTR_NOATIME,
                "defaults" | "relatime" | "async" | "exec" | "suid" | "dev" => {}
                // containerd's mount manager resolves these before a shim sees them; taken at their word they
                // would change what is mounted.
                loose if loose == "loop" || loose.starts_with("uidmap=") || loose.starts_with("gidmap=") => {
                    return Err(LaunchError::Plan("a mount option of the root file system is not supported"));
                }
                other => parsed.parameters.push(other),
            }
        }
        if parsed.bind && !parsed.parameters.is_empty() {
            return Err(LaunchError::Plan("a bind mount of the root file system has file system options"));
        }
        Ok(parsed)
    }
}

fn bind(source: &str, attributes: u64) -> Result<OwnedFd, LaunchError> {
    let tree = sys::open_tree_clone(&text(source)?).map_err(LaunchError::io("open_tree(2)", source))?;
    sys::set_mount_attributes(tree.as_fd(), attributes)
        .map_err(LaunchError::io("mount_setattr(2)", source))?;
    Ok(tree)
}

/// Makes a file system with one call for each option: mount(2) would take all of them in one page, too small for
/// an overlay of many layers. None: this kernel cannot (`lowerdir+` came with 6.5), or a value is too long.
fn make(
    kind: &str,
    source: &str,
    parameters: &[&str],
    attributes: u64,
) -> Result<Option<OwnedFd>, LaunchError> {
    if parameters
        .iter()
        .flat_map(|p| p.split(':'))
        .any(|part| part.len() >= VALUE_BYTES_MAX || part.contains('\\'))
    {
        return Ok(None);
    }
    let context = sys::fsopen(&text(kind)?).map_err(LaunchError::io("fsopen(2)", kind))?;
    let set = |key: &CStr, value: &str| -> Result<io::Result<()>, LaunchError> {
        Ok(sys::fsconfig(context.as_fd(), &FsParameter::Text(key, &text(value)?)))
    };
    let named = |what: &str| format!("{kind} {what}");
    for parameter in parameters {
        match parameter.split_once('=') {
            Some(("lowerdir", layers)) if kind == "overlay" => {
                for layer in layers.split(':') {
                    match set(c"lowerdir+", layer)? {
                        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
                        other => other.map_err(LaunchError::io("fsconfig(2)", named(layer)))?,
                    }
                }
            }
            Some((key, value)) => {
                // containerd quotes an SELinux context, as mount(2) takes it; fsconfig(2) takes it as it is.
                let value =
                    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                set(&text(key)?, value)?.map_err(LaunchError::io("fsconfig(2)", named(parameter)))?;
            }
            None => sys::fsconfig(context.as_fd(), &FsParameter::Flag(&text(parameter)?))
                .map_err(LaunchError::io("fsconfig(2)", named(parameter)))?,
        }
    }
    let source = if source.is_empty() { kind } else { source };
    set(c"source", source)?.map_err(LaunchError::io("fsconfig(2)", named(source)))?;
    match sys::fsconfig(context.as_fd(), &FsParameter::Create) {
        Err(error) if kind == "overlay" && error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
        other => other.map_err(LaunchError::io("fsconfig(2)", named("create")))?,
    }
    sys::fsmount(context.as_fd(), attributes).map(Some).map_err(LaunchError::io("fsmount(2)", kind))
}

/// Longest value that fsconfig(2) takes, in bytes, its zero included.
///
/// Source: `strndup_user(_value, 256)`, fs/fsopen.c.
const VALUE_BYTES_MAX: usize = 256;

/// Longest option text that mount(2) takes, in bytes, its zero included: one page.
///
/// Source: mount(2).
const DATA_BYTES_MAX: usize = 4096;

/// Makes a file system by mount(2). Layers of an overlay are named relative to the directory that they share,
/// as containerd does, when their full names do not fit: the worker's working directory is nobody else's.
fn make_at_once(
    kind: &str,
    source: &str,
    parameters: &[&str],
    attributes: u64,
    target: &Path,
) -> Result<(), LaunchError> {
    let mut data = parameters.join(",");
    if data.len() >= DATA_BYTES_MAX {
        let layers = parameters.iter().find_map(|p| p.strip_prefix("lowerdir=")).unwrap_or_default();
        let shared = shared_directory(layers);
        std::env::set_current_dir(&shared).map_err(LaunchError::io("chdir(2)", shared.clone()))?;
        let relative: Vec<&str> =
            layers.split(':').map(|layer| layer[shared.len()..].trim_start_matches('/')).collect();
        let relative = format!("lowerdir={}", relative.join(":"));
        let others = parameters.iter().filter(|p| !p.starts_with("lowerdir=")).copied();
        data = others.chain([relative.as_str()]).collect::<Vec<_>>().join(",");
    }
    if data.len() >= DATA_BYTES_MAX {
        return Err(LaunchError::Plan("the root file system has more layers than this kernel can mount"));
    }
    // MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC are 1, 2, 4 and 8, as the attributes are.
    let mut flags = MsFlags::from_bits_truncate(attributes & 0xf);
    flags.set(MsFlags::MS_NOATIME, attributes & MOUNT_ATTR_NOATIME != 0);
    mount(Some(source), target, Some(kind), flags, Some(data.as_str()))
        .map_err(LaunchError::io("mount(2)", format!("{kind} at {}", target.display())))
}

/// Says what an overlay of id-mapped layers needs, where the kernel takes them for an invalid argument.
///
/// Source: "idmapped layers are currently not supported", fs/overlayfs/super.c before Linux 5.19.
fn without_mapped_layers(error: LaunchError) -> LaunchError {
    match error {
        LaunchError::Io { call, subject, source } if source.raw_os_error() == Some(libc::EINVAL) => {
            LaunchError::Failed(format!(
                "{call} {subject}: {source}; layers with shifted owners need Linux 5.19: boot a newer kernel, or have \
                 policy say user_namespace = \"root-only\""
            ))
        }
        other => other,
    }
}

/// The deepest directory that all layers are below.
pub(crate) fn shared_directory(layers: &str) -> String {
    let mut layers = layers.split(':').map(|layer| layer.rsplit_once('/').map_or("", |(dir, _)| dir));
    let first = layers.next().unwrap_or_default().to_owned();
    let shared = layers.fold(first, |shared, dir| {
        let names: Vec<&str> =
            shared.split('/').zip(dir.split('/')).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        names.join("/")
    });
    if shared.is_empty() { "/".to_owned() } else { shared }
}

fn text(text: &str) -> Result<CString, LaunchError> {
    CString::new(text).map_err(|_| LaunchError::Plan("a mount holds a zero byte"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn options_of_overlay_go_to_the_file_system_and_flags_do_not() {
        let options = strings(&["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/l1:/l2", "ro"]);
        let parsed = Options::parse(&options).unwrap();
        assert_eq!(parsed.parameters, ["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/l1:/l2"]);
        assert_eq!((parsed.bind, parsed.attributes), (false, MOUNT_ATTR_RDONLY));
    }

    #[test]
    fn single_layer_that_is_only_read_gets_an_empty_one_below_it_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = |options: &[&str]| Mount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            target: PathBuf::new(),
            options: strings(options),
        };
        let empty = dir.path().join("empty");
        for whole in [&["lowerdir=/l2:/l1", "ro"][..], &["lowerdir=/l", "upperdir=/u", "workdir=/w"]] {
            assert_eq!(with_two_layers(&overlay(whole), dir.path()).unwrap(), overlay(whole));
        }
        assert!(!empty.exists());
        let one = with_two_layers(&overlay(&["lowerdir=/l", "ro"]), dir.path()).unwrap();
        assert_eq!(one.options[0], format!("lowerdir=/l:{}", empty.display()));
        assert!(std::fs::read_dir(empty).unwrap().next().is_none());
    }

    #[test]
    fn layers_share_the_directory_above_their_own() {
        assert_eq!(shared_directory("/var/s/1/fs:/var/s/22/fs"), "/var/s");
        assert_eq!(shared_directory("/var/s/1/fs"), "/var/s/1");
        assert_eq!(shared_directory("/a/x:/b/y"), "/");
    }

    #[test]
    fn bind_is_bind_with_rbind_too_and_takes_no_parameters() {
        let options = strings(&["rbind", "ro"]);
        assert!(Options::parse(&options).unwrap().bind);
        let options = strings(&["rbind", "size=1"]);
        assert!(matches!(Options::parse(&options), Err(LaunchError::Plan(_))));
    }

    #[test]
    fn options_that_would_change_what_is_mounted_are_errors() {
        for option in ["loop", "uidmap=0:1:1", "gidmap=0:1:1"] {
            assert!(Options::parse(&strings(&[option])).is_err(), "{option} was accepted");
        }
    }
}
