//! SELinux contexts of a request: given to init and exec as runc gives them, at each level, or nothing runs.
//!
//! The policy is a small one of our own (vm/guest/selinux.conf), loaded here, and nothing is enforced: what is asked is
//! which context the kernel says that a process and a mount have.

#![allow(clippy::unwrap_used, missing_docs)]

mod guest;

use std::{fs, path::Path, process::Command, sync::LazyLock};

use bulkhead_integration::{ALLOWED, BULKHEAD, RUNC, run};
use guest::{Container, PATIENCE, bench};
use serde_json::Value;

const PROCESS: &str = "system_u:system_r:container_t";
const FILES: &str = "system_u:object_r:container_file_t";

/// Each level's section of the policy.
const LEVELS: [&str; 2] = ["exec = [\"*\"]", "level = \"compatible\"\nnamespaces = [\"*\"]\nexec = [\"*\"]"];

static LOADED: LazyLock<()> = LazyLock::new(|| {
    if !Path::new("/sys/fs/selinux/load").exists() {
        let mount = ["-t", "selinuxfs", "selinuxfs", "/sys/fs/selinux"];
        run(Command::new("mount").args(mount), PATIENCE).unwrap().success().unwrap();
    }
    // One write: the kernel takes a policy as a whole.
    fs::write("/sys/fs/selinux/load", fs::read("/etc/selinux.policy").unwrap()).unwrap();
});

fn labelled(process: &'static str, files: &'static str) -> impl Fn(&mut Value) {
    LazyLock::force(&LOADED);
    move |spec| {
        spec["process"]["selinuxLabel"] = process.into();
        spec["linux"]["mountLabel"] = files.into();
    }
}

fn context_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    text.trim_end_matches(['\0', '\n']).to_owned()
}

#[test]
fn contexts_are_those_of_the_request_for_init_exec_and_mounts_and_without_them_the_shims_own() {
    for level in LEVELS {
        bench().allow(level).unwrap();
        let container = Container::sleeping(labelled(PROCESS, FILES));
        assert_eq!(context_of(container.pid), PROCESS, "{level}");
        let exec = container.exec(&["/bin/cat", "/proc/self/attr/current"]).success().unwrap();
        assert_eq!(exec.stdout.trim_end_matches(['\0', '\n']), PROCESS, "{level}");
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", container.pid)).unwrap();
        let shm = mounts.lines().find(|line| line.contains(" /dev/shm ")).unwrap();
        assert!(shm.contains(&format!("context={FILES}")), "{level}: {shm}");

        let container = Container::sleeping(|_| {});
        assert_eq!(context_of(container.pid), context_of(std::process::id()), "{level}");
    }
    bench().allow(LEVELS[0]).unwrap();
}

#[test]
fn a_context_that_the_policy_does_not_know_runs_nothing_as_under_runc() {
    let edit = labelled("system_u:system_r:absent_t", FILES);
    for (level, runtime) in [(LEVELS[0], RUNC), (LEVELS[0], BULKHEAD), (LEVELS[1], BULKHEAD)] {
        bench().allow(level).unwrap();
        let id = bench().create_container(runtime, ALLOWED, "absent", &["/bin/true"]).unwrap();
        bench().daemon.edit_spec(&id, &edit).unwrap();
        let output = bench().start_container(&id).unwrap();
        assert!(!output.ok() && output.stderr.contains("attr"), "{runtime}: {output:?}");
        bench().daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    }
    bench().allow(LEVELS[0]).unwrap();
}
