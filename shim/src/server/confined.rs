//! What the server itself is left with once it is set up.
//!
//! Invariant: before tokio and any thread, after the zygote: the zygote and its workers keep what a launch needs.
//! Never here: how a process is confined; that is `bulkhead_confine`.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use bulkhead_confine::{ServerAccess, ServerNeeds, confine_server};
use bulkhead_model::Layout;

use crate::{front::ServerConfig, stages::layout, task::chain};

/// Confines the server for good.
pub(super) fn confine(config: &ServerConfig, bundle: &Path) -> Result<(), String> {
    let layout = layout();
    let program = bulkhead_profiles::server_program().map_err(|error| chain(&error))?;
    let paths = paths(config, bundle, &layout).map_err(|error| error.to_string())?;
    confine_server(&ServerNeeds { paths, program }).map_err(|error| chain(&error))
}

fn paths(
    config: &ServerConfig,
    bundle: &Path,
    layout: &Layout,
) -> std::io::Result<Vec<(PathBuf, ServerAccess)>> {
    use ServerAccess::{Append, Change, Read, ReadExecute, Remove, Use};
    let mut paths = vec![
        (layout.config_dir(), Read),
        (made(layout.verdicts_dir())?, Change),
        (made(layout.trust_dir())?, Read),
        (made(layout.receipts_dir())?, Change),
        (made(layout.profiles_dir())?, Read),
        (made(layout.audit_dir())?, Append),
        (made(layout.run_dir())?, Change),
        ("/sys/fs/cgroup".into(), Change),
        ("/proc".into(), Read),
        ("/dev/null".into(), Use),
    ];
    // `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`: config.json of this and the pod's other containers.
    if let Some(tasks) = bundle.ancestors().nth(2).filter(|tasks| tasks.parent().is_some()) {
        paths.push((tasks.to_owned(), Read));
    }
    if let Some(dir) = config.socket_path.parent() {
        paths.push((dir.to_owned(), Remove));
    }
    // ABI 9 asks for the right to connect by path. The directory: containerd makes its socket anew when it starts.
    for address in [&config.grpc_address, &config.ttrpc_address] {
        let socket = Path::new(address.strip_prefix("unix://").unwrap_or(address));
        if let Some(dir) = socket.parent().filter(|dir| dir.parent().is_some()) {
            paths.push((dir.to_owned(), Read));
        }
    }
    if let Some(policy) = config.policy_file.as_deref().and_then(Path::parent) {
        if policy.parent().is_some() {
            paths.push((policy.to_owned(), Read));
        } else if let Some(file) = &config.policy_file {
            paths.push((file.clone(), Read));
        }
    }
    // The judge: its executable, and the directories of what this one is linked with.
    let own = fs::read_link("/proc/self/exe")?;
    paths.push((own.with_file_name("bulkhead"), ReadExecute));
    paths.extend(libraries(&fs::read_to_string("/proc/self/maps")?, &own).map(|dir| (dir, ReadExecute)));
    Ok(paths)
}

/// Directories of the shared libraries in a process's memory, its interpreter among them.
fn libraries(maps: &str, own: &Path) -> impl Iterator<Item = PathBuf> {
    let mut dirs: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.split_once('/').map(|(_, path)| PathBuf::from(format!("/{path}"))))
        .filter(|path| {
            path != own && path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"))
        })
        .filter_map(|path| path.parent().map(Path::to_owned))
        .filter(|dir| dir.parent().is_some())
        .collect();
    dirs.sort();
    dirs.dedup();
    dirs.into_iter()
}

/// One look where it is there already, as it is but for the first start: to try and fail takes the lock of the directory above.
fn made(dir: PathBuf) -> std::io::Result<PathBuf> {
    if dir.is_dir() {
        return Ok(dir);
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_libraries_are_taken_from_the_memory_map_and_that_of_the_executable_is_not() {
        let maps = "5-6 r-xp 0 08:01 1 /opt/bin/shim\n7-8 r-xp 0 08:01 2 /usr/lib/x/libc.so.6\n\
            7-8 r--p 0 08:01 2 /usr/lib/x/libc.so.6\n8-9 r-xp 0 08:01 3 /usr/lib/x/ld-linux-x86-64.so.2\n\
            9-a rw-p 0 00:00 0 [heap]\n";
        let dirs: Vec<_> = libraries(maps, Path::new("/opt/bin/shim")).collect();
        assert_eq!(dirs, [PathBuf::from("/usr/lib/x")]);
    }
}
