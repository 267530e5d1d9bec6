//! User namespaces on this kernel: what it keeps runs, and what it lacks is refused by name. Linux 6.1 (Debian 12) has no
//! id-mapped mounts of tmpfs; that of 6.12 does.

#![allow(clippy::unwrap_used, missing_docs)]

mod guest;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use bulkhead_integration::{Output, UID};
use guest::{bench, kernel};

/// In memory, as a pod's tokens and its /dev/shm are.
const IN_MEMORY: &str = "/run/bulkhead-volume";

/// First kernel that mounts tmpfs with other owners.
const TMPFS_MAPPED: (u32, u32) = (6, 3);

/// Runs a command under a mode, with a directory as a volume.
fn run(mode: &str, dir: &Path) -> Output {
    let keys = format!(
        "exec = [\"*\"]\nuser_namespace = {mode:?}\nhost_paths = [{{ path = {dir:?}, access = \"read-write\" }}]"
    );
    bench().allow(&keys).unwrap();
    let mount = format!("type=bind,src={},dst=/data,options=rbind:rw", dir.display());
    let script = "id -u; echo x > /data/own && stat -c %u /data/own; cat /proc/self/uid_map";
    bench().run_with(mode, &["--mount", &mount], &["/bin/sh", "-c", script]).unwrap()
}

fn volume(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn shifted_and_root_only_show_a_volume_on_disk_by_the_containers_own_ids() {
    let dir = bench().daemon.dir().join("on-disk");
    volume(&dir);
    for mode in ["shifted", "root-only"] {
        let output = run(mode, &dir).success().unwrap();
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines[..2], [UID.to_string(), UID.to_string()], "{mode}: {output:?}");
        // Root of the container is not the node's.
        let map: Vec<u32> = lines[2].split_whitespace().map(|field| field.parse().unwrap()).collect();
        assert!(map[0] == 0 && map[1] != 0, "{mode}: {map:?}");
        fs::remove_file(dir.join("own")).unwrap();
    }
    bench().allow("exec = [\"*\"]").unwrap();
}

#[test]
fn volume_in_memory_is_shifted_where_the_kernel_can_and_refused_by_name_where_it_cannot() {
    let dir = Path::new(IN_MEMORY);
    volume(dir);
    run("root-only", dir).success().unwrap();
    fs::remove_file(dir.join("own")).unwrap();
    let shifted = run("shifted", dir);
    if kernel() >= TMPFS_MAPPED {
        assert!(shifted.success().unwrap().stdout.starts_with(&format!("{UID}\n{UID}\n")));
    } else {
        assert!(!shifted.ok());
        for word in [&format!("{IN_MEMORY} on /data"), "shifted owners", "root-only"] {
            assert!(shifted.stderr.contains(word), "{word}: {}", shifted.stderr);
        }
    }
    bench().allow("exec = [\"*\"]").unwrap();
}

#[test]
fn init_writes_the_strongest_that_this_kernel_keeps_for_pods() {
    let root = bench().daemon.dir().join("fresh");
    fs::create_dir_all(&root).unwrap();
    let program = bulkhead_integration::workspace().join("target/debug/bulkhead");
    let mut command = std::process::Command::new(program);
    command.arg("--root").arg(&root).arg("init");
    bulkhead_integration::run(&mut command, std::time::Duration::from_secs(60)).unwrap();
    let text = fs::read_to_string(root.join("etc/bulkhead/policy.toml")).unwrap();
    let wanted = if kernel() >= TMPFS_MAPPED { "shifted" } else { "root-only" };
    assert!(text.contains(&format!("\nuser_namespace = \"{wanted}\"\n")), "{text}");
}
