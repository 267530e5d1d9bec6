//! AppArmor profiles of a request: applied to init and exec as runc does, at each level, or nothing runs.

#![allow(clippy::unwrap_used, missing_docs)]

mod guest;

use std::{fs, process::Command, sync::LazyLock};

use bulkhead_integration::{ALLOWED, BULKHEAD, RUNC, run};
use guest::{Container, PATIENCE, bench};
use serde_json::Value;

const PROFILE: &str = "bulkhead-test";
const OTHER: &str = "bulkhead-test-other";

/// Each level's section of the policy.
const LEVELS: [&str; 2] = ["exec = [\"*\"]", "level = \"compatible\"\nnamespaces = [\"*\"]\nexec = [\"*\"]"];

/// Loads profiles that allow all but one file of the image, each another.
static LOADED: LazyLock<()> = LazyLock::new(|| {
    let file = bench().daemon.dir().join("profiles");
    let profile = |name: &str, denied: &str| {
        format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  network,\n  capability,\n  \
             signal,\n  unix,\n  mount,\n  ptrace,\n  deny {denied} r,\n}}\n"
        )
    };
    fs::write(&file, profile(PROFILE, "/etc/passwd") + &profile(OTHER, "/etc/group")).unwrap();
    run(Command::new("/sbin/apparmor_parser").arg("--replace").arg(&file), PATIENCE)
        .unwrap()
        .success()
        .unwrap();
});

fn under(profile: &'static str) -> impl Fn(&mut Value) {
    LazyLock::force(&LOADED);
    move |spec| spec["process"]["apparmorProfile"] = profile.into()
}

/// What the kernel says that a process is confined by.
fn confined_by(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap().trim().to_owned()
}

/// Says which of two files can be read, and by what the reader is confined.
const READ: &str = "for f in passwd group; do cat /etc/$f >/dev/null 2>&1 && echo $f; done; cat /proc/self/attr/apparmor/current";

#[test]
fn a_profile_confines_init_and_exec_and_without_one_nothing_is_denied() {
    let exec = |container: &Container| container.exec(&["/bin/sh", "-c", READ]).success().unwrap().stdout;
    for level in LEVELS {
        bench().allow(level).unwrap();
        let container = Container::sleeping(under(PROFILE));
        assert_eq!(confined_by(container.pid), "bulkhead-test (enforce)", "{level}");
        assert_eq!(exec(&container), "group\nbulkhead-test (enforce)\n", "{level}");
        // Another profile denies another file; and so it does to init.
        let init = ["/bin/sh", "-c", "cat /etc/passwd >/dev/null && ! cat /etc/group"];
        let init = Container::start(under(OTHER), &init).unwrap();
        assert_eq!(bench().daemon.tasks().unwrap().wait(&init.id).unwrap(), 0, "{level}");

        let container = Container::sleeping(|_| {});
        assert_eq!(confined_by(container.pid), "unconfined", "{level}");
        assert_eq!(exec(&container), "passwd\ngroup\nunconfined\n", "{level}");
    }
    bench().allow(LEVELS[0]).unwrap();
}

#[test]
fn a_profile_that_is_not_loaded_runs_nothing_as_under_runc() {
    let edit = under("bulkhead-test-not-loaded");
    for (level, runtime) in [(LEVELS[0], RUNC), (LEVELS[0], BULKHEAD), (LEVELS[1], BULKHEAD)] {
        bench().allow(level).unwrap();
        let id = bench().create_container(runtime, ALLOWED, "absent", &["/bin/true"]).unwrap();
        bench().daemon.edit_spec(&id, &edit).unwrap();
        let output = bench().start_container(&id).unwrap();
        assert!(!output.ok(), "{runtime}");
        let said = output.stderr.to_lowercase();
        assert!(said.contains("apply apparmor profile"), "{runtime}: {said}");
        bench().daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    }
    bench().allow(LEVELS[0]).unwrap();
}

#[test]
fn a_name_that_could_be_more_than_a_name_is_refused() {
    for level in LEVELS {
        bench().allow(level).unwrap();
        let error =
            Container::start(under("bulkhead-test //& unconfined"), &["/bin/true"]).unwrap_err().to_string();
        assert!(error.contains("refused: ") && error.contains("apparmorProfile"), "{error}");
    }
    bench().allow(LEVELS[0]).unwrap();
}
