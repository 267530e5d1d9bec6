//! One `[confine.*]` section from TOML.

use std::collections::BTreeSet;

use bulkhead_model::{
    HostPath, IdentityRule, InitRule, MemfdRule, MountAccess, PodSecurityRule, ProfileRule, RootRule,
    UserNamespaceRule, UserRule, VolumesRule,
};
use toml::de::{DeTable, DeValue};

use crate::{
    confine::Section,
    keys::Table,
    parse::Role,
    parse_exec, parse_landlock, parse_level,
    read::{Value, flag, number, path, paths, refuse_key, refuse_value, table, word},
    source::Problems,
};

/// Directories of a container that the runtime fills itself.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Smallest tmpfs: one page. 0 would mean "no limit" to the kernel.
///
/// Source: tmpfs(5), option `size`.
const TMPFS_BYTES_MIN: u64 = 4096;

/// Largest number of processes that the kernel can count.
///
/// Source: `PID_MAX_LIMIT`, include/linux/threads.h.
const PIDS_LIMIT: u64 = 4 * 1024 * 1024;

/// Largest uid and gid: the one above means "no change" to the kernel.
const ID_MAX: u64 = u32::MAX as u64 - 1;

pub(crate) fn section(problems: &mut Problems<'_>, keys: &DeTable<'_>, section: &str, role: Role) -> Section {
    const IN: Table = Table::Confine;
    let mut read = parse_level::read(problems, keys, section, role);
    for (key, value) in keys {
        let name = key.get_ref().as_ref();
        match name {
            "level" | "namespaces" => {}
            "user" => read.user = user(problems, value),
            "user_namespace" => {
                let words = [
                    ("shifted", UserNamespaceRule::Shifted),
                    ("root-only", UserNamespaceRule::RootOnly),
                    ("request", UserNamespaceRule::Request),
                ];
                read.user_namespace = word(problems, value, IN, name, &words);
            }
            "root" => {
                let words = [("read-only", RootRule::ReadOnly), ("writable", RootRule::Writable)];
                read.root = word(problems, value, IN, name, &words);
            }
            "tmpfs" => read.tmpfs = paths(problems, value, name, &RESERVED),
            "writable" => read.writable = paths(problems, value, name, &RESERVED),
            "tmpfs_bytes_max" => {
                read.tmpfs_bytes_max = number(problems, value, IN, name, TMPFS_BYTES_MIN..=i64::MAX as u64);
            }
            "tmpfs_inodes_max" => {
                read.tmpfs_inodes_max = number(problems, value, IN, name, 1..=i64::MAX as u64);
            }
            "memfd" => {
                let words = [("denied", MemfdRule::Denied), ("allowed", MemfdRule::Allowed)];
                read.memfd = word(problems, value, IN, name, &words);
            }
            "seccomp" => read.seccomp = profile(problems, value, IN, name),
            "landlock" => read.landlock = parse_landlock::read(problems, value),
            "exec" => read.exec = parse_exec::patterns(problems, value),
            "host_paths" => read.host_paths = host_paths(problems, value),
            "hooks" => read.hooks = paths(problems, value, name, &[]),
            "pids_max" => {
                let pids = number(problems, value, IN, name, 1..=PIDS_LIMIT);
                read.pids_max = pids.and_then(|pids| u32::try_from(pids).ok());
            }
            "pod_security" => {
                let words =
                    [("tightened", PodSecurityRule::Tightened), ("restricted", PodSecurityRule::Restricted)];
                read.pod_security = word(problems, value, IN, name, &words);
            }
            "executable" => read.executable = paths(problems, value, name, &RESERVED),
            "identity" => {
                let words = [("filled-in", IdentityRule::FilledIn), ("as-is", IdentityRule::AsIs)];
                read.identity = word(problems, value, IN, name, &words);
            }
            "init" => {
                read.init = flag(problems, value, IN, name)
                    .map(|init| if init { InitRule::Small } else { InitRule::Program });
            }
            "volumes" => {
                let words = [("tmpfs", VolumesRule::Tmpfs), ("read-only", VolumesRule::AsTheyAre)];
                read.volumes = word(problems, value, IN, name, &words);
            }
            // What this version does anyway may be said.
            "capabilities" if value.get_ref().as_array().is_some_and(|list| list.is_empty()) => {}
            "isolation" if value.get_ref().as_str() == Some("shared-kernel") => {}
            other => refuse_key(problems, &key.span(), IN, other),
        }
    }
    read
}

fn user(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<UserRule> {
    if value.get_ref().as_str() == Some("non-root") {
        return Some(UserRule::NonRoot);
    }
    let force =
        value.get_ref().as_table().filter(|table| table.len() == 1).and_then(|table| table.get("force"));
    let Some(force) = force else {
        refuse_value(problems, value, Table::Confine, "user");
        return None;
    };
    if matches!(force.get_ref(), DeValue::Integer(number) if number.as_str() == "0") {
        problems.add(&force.span(), "`user` forces uid 0, which is root", "name an id from 1, such as 65532");
        return None;
    }
    let id = number(problems, force, Table::Confine, "user", 1..=ID_MAX)?;
    u32::try_from(id).ok().map(UserRule::Force)
}

/// Which profile holds: a word, or the hash of one.
pub(crate) fn profile(
    problems: &mut Problems<'_>,
    value: &Value<'_>,
    table: Table,
    name: &str,
) -> Option<ProfileRule> {
    match value.get_ref().as_str() {
        Some("baseline") => return Some(ProfileRule::Baseline),
        Some("generated-when-ready") => return Some(ProfileRule::WhenReady),
        Some("generated") => return Some(ProfileRule::Generated),
        Some(pin) => {
            if let Ok(pin) = pin.parse() {
                return Some(ProfileRule::Pinned(BTreeSet::from([pin])));
            }
        }
        None => {}
    }
    refuse_value(problems, value, table, name);
    None
}

fn host_paths(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<BTreeSet<HostPath>> {
    let Some(list) = value.get_ref().as_array() else {
        refuse_value(problems, value, Table::Confine, "host_paths");
        return None;
    };
    Some(list.iter().filter_map(|item| host_path(problems, item)).collect())
}

fn host_path(problems: &mut Problems<'_>, item: &Value<'_>) -> Option<HostPath> {
    const IN: Table = Table::HostPath;
    let keys = table(problems, item, Table::Confine, "host_paths")?;
    let mut named = None;
    let mut access = Some(MountAccess::ReadOnly);
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            "path" => named = path(problems, value, "host_paths", &[]),
            name @ "access" => {
                let words = [("read-only", MountAccess::ReadOnly), ("read-write", MountAccess::ReadWrite)];
                access = word(problems, value, IN, name, &words);
            }
            other => refuse_key(problems, &key.span(), IN, other),
        }
    }
    if !keys.contains_key("path") {
        problems.add(
            &item.span(),
            "an entry of `host_paths` has no `path`",
            "write { path = \"/a/directory\", access = \"read-only\" }",
        );
    }
    Some(HostPath { path: named?, access: access? })
}
