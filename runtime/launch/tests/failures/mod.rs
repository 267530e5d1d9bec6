//! What cannot be, or comes to nothing: said in words, and nothing runs.

use std::fs;

use bulkhead_launch::{LaunchError, StartError};
use nix::{fcntl::OFlag, unistd::pipe2};
use serde_json::json;

use crate::support::{NO_STDIO, OUTPUTS, PATIENCE, World, output_of, read_all, write_all};

pub(crate) fn missing_program(world: &mut World) {
    let container = world.container(&["no-such"], |_| {});
    let error = world.run(&container).unwrap_err();
    assert_eq!(error, "create: exec: \"no-such\": executable file not found in $PATH");
    let container = world.container(&["/no/such"], |_| {});
    let error = world.run(&container).unwrap_err();
    assert_eq!(error, "create: exec: \"/no/such\": stat /no/such: no such file or directory");
}

pub(crate) fn missing_program_of_exec(world: &mut World) {
    let mut container = world.container(&["sleep", "100"], |_| {});
    let alive = world.start(&container);
    let error = world.exec(&mut container, &alive, &["no-such"]).unwrap_err();
    assert_eq!(error, "exec: \"no-such\": executable file not found in $PATH");
    world.stop(&container, alive);
}

pub(crate) fn no_program(world: &mut World) {
    let container = world.container(&["garbage"], |_| {});
    let created = world.create(&container, &NO_STDIO).unwrap();
    let pid = created.pid;
    match created.gate.release().unwrap().wait(PATIENCE) {
        Err(StartError::Exec { errno: Some(libc::ENOEXEC), message }) => {
            assert_eq!(message, "exec /bin/garbage: exec format error");
        }
        other => panic!("{other:?}"),
    }
    world.exit_of(pid);
    world.clean(&container);
}

pub(crate) fn bad_mount(world: &mut World) {
    let container = world.container(&["true"], |spec| {
        spec["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/tmp/x", "type": "bind", "source": "/no/such/source", "options": ["bind"]}),
        );
    });
    let error = world.run(&container).unwrap_err();
    assert!(error.starts_with("create: openat2(2) /no/such/source: "), "{error}");
}

pub(crate) fn broken_rootfs(world: &mut World) {
    let mut container = world.container(&["true"], |_| {});
    container.rootfs[0].options.retain(|option| !option.starts_with("lowerdir"));
    let error = world.run(&container).unwrap_err();
    assert!(error.contains("overlay"), "{error}");
    let mut container = world.container(&["true"], |_| {});
    container.rootfs.clear();
    assert!(world.run(&container).unwrap_err().contains("root file system"));
}

pub(crate) fn root_is_refused(world: &mut World) {
    let container = world.container(&["true"], |spec| spec["process"]["user"]["uid"] = json!(0));
    assert!(matches!(world.create(&container, &NO_STDIO), Err(LaunchError::Plan(_))));
    fs::remove_dir_all(&container.layer).unwrap();
}

pub(crate) fn not_as_planned(world: &mut World) {
    let mut container = world.container(&["sh", "-c", "echo RAN"], |_| {});
    container.confine.credentials.uid = 1234;
    let error = world.run(&container).unwrap_err();
    assert!(error.starts_with("start: ") && error.contains("Uid"), "{error}");
    let mut container =
        world.container(&["sh", "-c", "echo RAN"], |spec| spec["root"]["readonly"] = json!(false));
    let error = world.run(&container).unwrap_err();
    assert!(error.contains("mount flags of /"), "{error}");
    container = world.container(&["sh", "-c", "echo RAN"], |spec| spec["root"]["readonly"] = json!(false));
    container.confine.root_read_only = false;
    assert_eq!(world.run(&container).unwrap().1, "RAN\n");
}

pub(crate) fn exec_in_dead(world: &mut World) {
    let mut container = world.container(&["sleep", "100"], |_| {});
    let alive = world.start(&container);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(alive.pid as i32), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    world.exit_of(alive.pid);
    let error = world.exec(&mut container, &alive, &["true"]).unwrap_err();
    assert!(error.contains("ENOENT") || error.contains("No such") || error.contains("has ended"), "{error}");
    world.clean(&container);
}

pub(crate) fn dropped_start(world: &mut World) {
    let container = world.container(&["sh", "-c", "echo RAN"], |_| {});
    let created = world.create(&container, &OUTPUTS).unwrap();
    let pid = created.pid;
    drop(created.gate.release().unwrap());
    assert_ne!(world.exit_of(pid), 0);
    assert_eq!(output_of(created.kept), "");
    world.clean(&container);
}

pub(crate) fn dead_worker(world: &mut World) {
    // Its cgroup has no room for the worker itself to fork: libcontainer fails, the reply says so.
    let mut container = world.container(&["true"], |_| {});
    let resources = json!({ "devices": [{ "allow": false, "access": "rwm" }], "pids": { "limit": 1 } });
    container.resources = serde_json::from_value(resources).unwrap();
    assert!(world.run(&container).unwrap_err().starts_with("create: "));
    // Killed outright: a limit of memory that nothing fits in.
    let mut container = world.container(&["true"], |_| {});
    let resources = json!({ "devices": [{ "allow": false, "access": "rwm" }], "memory": { "limit": 65536 } });
    container.resources = serde_json::from_value(resources).unwrap();
    let error = world.run(&container).unwrap_err();
    assert!(error.starts_with("create: "), "{error}");
}

pub(crate) fn server_dies(world: &mut World) {
    let container = world.container(&["sleep", "100"], |_| {});
    // SAFETY note: the test process has no thread; the child makes a server of its own and dies.
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    #[allow(unsafe_code)]
    // SAFETY: this process has one thread, so the child may do what it likes.
    let child = match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let zygote = bulkhead_launch::Zygote::fork().unwrap();
            let created =
                zygote.create(&container.job(&container.plan(), &NO_STDIO)).unwrap().wait(PATIENCE).unwrap();
            write_all(&write, &format!("{} {}", zygote.pid(), created.pid));
            std::mem::forget(created);
            std::mem::forget(zygote);
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
            unreachable!()
        }
        nix::unistd::ForkResult::Parent { child } => child,
    };
    drop(write);
    let pids = read_all(read);
    world.exit_of(child.as_raw() as u32);
    // Both fall to this subreaper, which must see them end.
    let (zygote, init) = pids.split_once(' ').unwrap();
    // By the end of its socket or by the death signal, whichever is first.
    assert!(matches!(world.exit_of(zygote.parse().unwrap()), 0 | 137));
    assert_eq!(world.exit_of(init.parse().unwrap()), 137);
    world.clean(&container);
}
