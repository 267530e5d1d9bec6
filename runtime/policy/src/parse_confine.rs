//! One `[confine.*]` section from TOML.

use std::collections::BTreeSet;

use bulkhead_model::{
    Digest, ExecPattern, HostPath, IdentityRule, MemfdRule, MountAccess, PodSecurityRule, RootRule,
    SeccompRule, TcpRule, UserNamespaceRule, UserRule,
};
use toml::de::{DeTable, DeValue};

use crate::{
    confine::Section,
    exec,
    keys::Table,
    parse::Role,
    parse_level,
    read::{Value, number, path, paths, refuse_key, refuse_not_yet, refuse_value, table, word},
    source::Problems,
};

/// Directories of a container that the runtime fills itself.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Newest Landlock ABI that this version knows: Linux 6.15.
///
/// Source: landlock(7).
const LANDLOCK_ABI_MAX: u64 = 7;

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
            "writable" if value.get_ref().as_str() == Some("image-volumes") => refuse_not_yet(
                problems,
                value,
                name,
                "list the paths: writable = [\"/var/cache/app\"]; each is an empty tmpfs",
            ),
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
            "seccomp" => match value.get_ref().as_str() {
                Some("baseline") => read.seccomp = Some(SeccompRule::Baseline),
                Some("generated-when-ready") => read.seccomp = Some(SeccompRule::WhenReady),
                Some("generated") => read.seccomp = Some(SeccompRule::Generated),
                Some(pin) if pin.parse::<Digest>().is_ok() => {
                    read.seccomp = pin.parse().ok().map(|pin| SeccompRule::Pinned(BTreeSet::from([pin])));
                }
                _ => refuse_value(problems, value, IN, name),
            },
            "landlock" => landlock(problems, value, &mut read),
            "exec" => read.exec = patterns(problems, value),
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
            // What this version does anyway may be said.
            "capabilities" if value.get_ref().as_array().is_some_and(|list| list.is_empty()) => {}
            "init" if value.get_ref().as_bool() == Some(false) => {}
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

fn landlock(problems: &mut Problems<'_>, value: &Value<'_>, read: &mut Section) {
    const IN: Table = Table::Landlock;
    let Some(keys) = table(problems, value, Table::Confine, "landlock") else { return };
    for (key, value) in keys {
        match key.get_ref().as_ref() {
            name @ "floor_abi" => {
                let abi = number(problems, value, IN, name, 1..=LANDLOCK_ABI_MAX);
                read.floor_abi = abi.and_then(|abi| u8::try_from(abi).ok());
            }
            name @ "tcp_connect" => {
                let words = [("any", TcpRule::Any), ("none", TcpRule::None)];
                read.tcp_connect = word(problems, value, IN, name, &words);
            }
            other => refuse_key(problems, &key.span(), IN, other),
        }
    }
}

fn patterns(problems: &mut Problems<'_>, value: &Value<'_>) -> Option<Vec<ExecPattern>> {
    let Some(list) = value.get_ref().as_array() else {
        refuse_value(problems, value, Table::Confine, "exec");
        return None;
    };
    let mut patterns = Vec::new();
    for item in list.iter() {
        let pattern = match item.get_ref() {
            DeValue::String(text) => exec::from_text(text),
            DeValue::Array(words) => {
                let words: Option<Vec<String>> =
                    words.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect();
                let Some(words) = words else {
                    refuse_value(problems, item, Table::Confine, "exec");
                    continue;
                };
                exec::from_words(words)
            }
            _ => {
                refuse_value(problems, item, Table::Confine, "exec");
                continue;
            }
        };
        match pattern {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => problems.add(&item.span(), error.what, error.fix),
        }
    }
    Some(patterns)
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
