//! Kernel file systems: /proc, /dev and what is below, /sys. Always there, always the same, whatever was asked for.

use std::path::Path;

use bulkhead_model::{PathAccess, Refusal, Rule};

use super::{Asked, Context, Mounts, make, options::bytes, record};
use crate::{
    CANARY, INIT,
    change::Changes,
    refuse::{refuse, short},
};

/// Size of /dev, in bytes, and of /dev/shm where nobody says: containerd's own.
///
/// Source: `populateDefaultUnixSpec`, containerd oci/spec.go: size=65536k.
const DEFAULT_BYTES: u64 = 64 << 20;

/// Files of /dev: 6 devices, 7 links, console, 3 directories, a termination log, the canary, the small init.
const DEV_INODES: u64 = 64;

/// The one place of each file system.
struct Place {
    destination: &'static str,
    kinds: &'static [&'static str],
    parameters: &'static [&'static str],
}

const PLACES: [Place; 7] = [
    Place { destination: "/proc", kinds: &["proc"], parameters: &["hidepid", "subset"] },
    Place { destination: "/dev", kinds: &["tmpfs"], parameters: &["mode", "size", "nr_inodes"] },
    Place {
        destination: "/dev/pts",
        kinds: &["devpts"],
        parameters: &["newinstance", "ptmxmode", "mode", "gid", "max"],
    },
    Place { destination: "/dev/shm", kinds: &["tmpfs"], parameters: &["mode", "size", "nr_inodes"] },
    Place { destination: "/dev/mqueue", kinds: &["mqueue"], parameters: &[] },
    Place { destination: "/sys", kinds: &["sysfs"], parameters: &[] },
    Place { destination: CGROUP, kinds: &["cgroup", "cgroup2"], parameters: &[] },
];

const CGROUP: &str = "/sys/fs/cgroup";

/// Destinations below /dev at which a request may bind.
const BINDS_IN_DEV: [&str; 2] = ["/dev/shm", "/dev/termination-log"];

/// Takes the kernel's file systems out of the request, puts ours into the plan, and gives back the rest.
pub(super) fn take(
    asked: Vec<Asked>,
    context: &Context<'_>,
    mounts: &mut Mounts,
    changes: &mut Changes,
) -> Result<Vec<Asked>, Refusal> {
    let (mut kernel, mut rest) = (Vec::new(), Vec::new());
    for mount in asked {
        if is_ours(&mount, context) {
            kernel.push(mount);
        } else if let Some(place) = PLACES.iter().find(|place| is_at(&mount, place)) {
            mount.options.only(&mount.field, place.parameters)?;
            kernel.push(mount);
        } else {
            judge_destination(&mount)?;
            rest.push(mount);
        }
    }
    let find = |destination: &str| kernel.iter().find(|mount| mount.destination == Path::new(destination));
    let shm_is_bound = rest.iter().any(|mount| mount.destination == Path::new("/dev/shm"));
    proc(find("/proc"), mounts)?;
    dev(find("/dev"), mounts)?;
    pts(find("/dev/pts"), mounts)?;
    if !shm_is_bound {
        shm(find("/dev/shm"), context, mounts)?;
    }
    if let Some(mqueue) = find("/dev/mqueue") {
        let mount = make(&mqueue.destination, "mqueue", Path::new("mqueue"), &["nosuid", "noexec", "nodev"])?;
        mounts.add(mount, PathAccess::ReadWrite);
    }
    let sys = make(Path::new("/sys"), "sysfs", Path::new("sysfs"), &["nosuid", "noexec", "nodev", "ro"])?;
    mounts.add(sys, PathAccess::Read);
    if find(CGROUP).is_some() {
        cgroup(context, mounts, changes)?;
    }

    for needed in ["/proc", "/dev", "/dev/pts", "/sys"] {
        if find(needed).is_none() {
            record(changes, Path::new(needed), "added", "nothing of the image takes its place");
        }
    }
    for mount in kernel.iter().filter(|mount| mount.options.loosened) {
        record(changes, &mount.destination, "suid, dev or exec left out", "nothing here needs them");
    }
    for mount in
        kernel.iter().filter(|mount| mount.destination.starts_with("/sys") && !mount.options.read_only)
    {
        record(changes, &mount.destination, "read-only", "nobody changes the kernel from inside");
    }
    Ok(rest)
}

/// What an earlier plan put there: the cgroup view, the canary and the small init.
fn is_ours(mount: &Asked, context: &Context<'_>) -> bool {
    let is = |destination: &str, source: Option<&Path>| {
        mount.options.bind
            && mount.destination == Path::new(destination)
            && source.is_some()
            && mount.source.as_deref() == source
    };
    is(CANARY, Some(&context.host.canary_source))
        || is(INIT, Some(&context.host.init_source))
        || is(CGROUP, context.host.cgroup_view.as_deref())
}

fn is_at(mount: &Asked, place: &Place) -> bool {
    !mount.options.bind
        && mount.destination == Path::new(place.destination)
        && place.kinds.contains(&mount.kind.as_str())
}

/// Refuses the destinations that are the kernel's, and file systems that are not a request's business.
fn judge_destination(mount: &Asked) -> Result<(), Refusal> {
    let at = &mount.destination;
    let text = short(&at.to_string_lossy());
    let in_dev = at.starts_with("/dev") && !BINDS_IN_DEV.iter().any(|allowed| at == Path::new(allowed));
    if at.starts_with("/proc") || at.starts_with("/sys") || in_dev {
        let found = format!("{:?} on {text}", short(&mount.kind));
        let why = "/proc, /sys and /dev hold the kernel's own file systems and nothing else";
        return Err(refuse(Rule::Mounts, &mount.field, found, why, "mount it elsewhere"));
    }
    if mount.options.bind || mount.kind == "tmpfs" {
        return Ok(());
    }
    Err(refuse(
        Rule::Mounts,
        &mount.field,
        format!("a file system of type {:?} on {text}", short(&mount.kind)),
        "only proc, sysfs, devpts, mqueue, cgroup in their places, tmpfs and bind mounts are made",
        "leave the mount out",
    ))
}

fn proc(asked: Option<&Asked>, mounts: &mut Mounts) -> Result<(), Refusal> {
    let mut options = vec!["nosuid".to_owned(), "noexec".to_owned(), "nodev".to_owned()];
    for (key, values) in
        [("hidepid", &["1", "2", "4", "noaccess", "invisible", "ptraceable"][..]), ("subset", &["pid"])]
    {
        match asked.and_then(|asked| Some((asked, asked.options.parameter(key)?))) {
            None => {}
            Some((_, value)) if values.contains(&value) => options.push(format!("{key}={value}")),
            Some((asked, value)) => return Err(bad_value(asked, key, value)),
        }
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    mounts.add(make(Path::new("/proc"), "proc", Path::new("proc"), &options)?, PathAccess::Read);
    Ok(())
}

/// Without a rule of its own: each device has one, and the canary below it must not be covered.
fn dev(asked: Option<&Asked>, mounts: &mut Mounts) -> Result<(), Refusal> {
    let size = format!("size={}", size(asked, DEFAULT_BYTES)?);
    let inodes = format!("nr_inodes={DEV_INODES}");
    let options = ["nosuid", "noexec", "strictatime", "mode=755", &size, &inodes];
    mounts.list.push(make(Path::new("/dev"), "tmpfs", Path::new("tmpfs"), &options)?);
    Ok(())
}

fn pts(asked: Option<&Asked>, mounts: &mut Mounts) -> Result<(), Refusal> {
    let gid = asked.and_then(|asked| Some((asked, asked.options.parameter("gid")?)));
    let gid = match gid {
        None => None,
        Some((_, gid)) if gid.parse::<u32>().is_ok_and(|gid| gid != 0) => Some(format!("gid={gid}")),
        Some((asked, gid)) => return Err(bad_value(asked, "gid", gid)),
    };
    let mut options = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    options.extend(gid.as_deref());
    mounts.add(make(Path::new("/dev/pts"), "devpts", Path::new("devpts"), &options)?, PathAccess::Device);
    Ok(())
}

fn shm(asked: Option<&Asked>, context: &Context<'_>, mounts: &mut Mounts) -> Result<(), Refusal> {
    let size = format!("size={}", size(asked, context.confinement.tmpfs_bytes_max.max(DEFAULT_BYTES))?);
    let inodes = format!("nr_inodes={}", context.confinement.tmpfs_inodes_max);
    let options = ["nosuid", "noexec", "nodev", "mode=1777", &size, &inodes];
    mounts.add(make(Path::new("/dev/shm"), "tmpfs", Path::new("shm"), &options)?, PathAccess::ReadWrite);
    Ok(())
}

fn cgroup(context: &Context<'_>, mounts: &mut Mounts, changes: &mut Changes) -> Result<(), Refusal> {
    let at = Path::new(CGROUP);
    let Some(view) = &context.host.cgroup_view else {
        record(
            changes,
            at,
            "left out",
            "there is no view of the container's own control groups on this host",
        );
        return Ok(());
    };
    record(changes, at, "the container's own control groups, read-only", "the host's are nobody's business");
    let options =
        ["rbind", "rprivate", "nosuid", "nodev", "noexec", "ro", "rnosuid", "rnodev", "rnoexec", "rro"];
    mounts.add(make(at, "bind", view, &options)?, PathAccess::Read);
    Ok(())
}

/// The size asked for, but at most `most`, in bytes.
fn size(asked: Option<&Asked>, most: u64) -> Result<u64, Refusal> {
    match asked.and_then(|asked| asked.options.parameter("size")) {
        None => Ok(most.min(DEFAULT_BYTES)),
        Some(text) => Ok(bytes(text).filter(|size| *size > 0).map_or(most, |size| size.min(most))),
    }
}

fn bad_value(asked: &Asked, key: &str, value: &str) -> Refusal {
    refuse(
        Rule::Mounts,
        &format!("{}.options", asked.field),
        format!("{key}={}", short(value)),
        "that is no value which this option may have",
        "leave the option out",
    )
}
