//! Control groups: limits, and what a container sees of them.

use std::fs;

use serde_json::json;

use crate::support::{OUTPUTS, PATIENCE, World, output_of};

pub(crate) fn cgroup_view(world: &mut World) {
    let mut view = String::new();
    let mut container = world.container(
        &["sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; ls /sys/fs/cgroup/pids/; touch /sys/fs/cgroup/pids/x; mount"],
        |_| {},
    );
    let mut spec = serde_json::to_value(&container.spec).unwrap();
    view.push_str(&bulkhead_launch::cgroup_view(&container.task_dir).display().to_string());
    spec["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/sys/fs/cgroup", "type": "bind", "source": view, "options": ["rbind", "ro", "nosuid", "nodev", "noexec"]}),
    );
    container.spec = serde_json::from_value(spec).unwrap();
    let (_, output) = world.run(&container).unwrap();
    if world.zygote.cgroups().version() == bulkhead_cgroup::Version::V2 {
        return;
    }
    assert!(output.starts_with("67108864\n"), "{output}");
    assert!(output.contains("tasks\n") && !output.contains("bulkhead-test"), "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
    for line in output.lines().filter(|line| line.contains(" type cgroup")) {
        assert!(line.contains("(ro,nosuid,nodev,noexec"), "{line}");
    }
}

pub(crate) fn cgroup_limits(world: &mut World) {
    let container = world.container(&["sleep", "100"], |_| {});
    let alive = world.start(&container);
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", alive.pid)).unwrap();
    for line in groups.lines().filter(|line| !line.starts_with("0::")) {
        assert!(line.ends_with(&container.cgroup.to_string()), "{line}");
    }
    let stats = world.cgroup(&container).stats().unwrap();
    assert_eq!(stats.memory.unwrap().memory.limit, Some(64 << 20));
    assert_eq!(stats.pids.unwrap().limit, Some(32));
    // Its worker is on its way out still, with a mount namespace to take down.
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.cgroup(&container).procs().unwrap() != [alive.pid] {
        world.reap();
        assert!(std::time::Instant::now() < deadline, "{:?}", world.cgroup(&container).procs());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    world.stop(&container, alive);
}

/// On the version 2 hierarchy of a hybrid host, which has no controllers but everything else.
pub(crate) fn version_2(_: &mut World) {
    let unified = std::path::Path::new("/sys/fs/cgroup/unified");
    if !unified.exists() {
        println!("skipped: needs a hybrid host; on one with cgroup v2 the other tests are about it");
        return;
    }
    let host = bulkhead_cgroup::Host::below(unified).unwrap();
    let mut world = World::on(bulkhead_launch::Zygote::fork_on(host).unwrap());
    let mut container = world.container(&["sh", "-c", "ls /sys/fs/cgroup; sleep 100"], |_| {});
    let resources = json!({ "devices": container.resources.devices() });
    container.resources = serde_json::from_value(resources).unwrap();
    let mut spec = serde_json::to_value(&container.spec).unwrap();
    let view = bulkhead_launch::cgroup_view(&container.task_dir).display().to_string();
    spec["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/sys/fs/cgroup", "type": "bind", "source": view, "options": ["rbind", "ro", "nosuid", "nodev", "noexec"]}),
    );
    container.spec = serde_json::from_value(spec).unwrap();
    let created = world.create(&container, &OUTPUTS).unwrap();
    let alive = crate::support::Alive { pid: created.pid, pidfd: created.pidfd };
    created.gate.release().unwrap().wait(PATIENCE).unwrap();
    assert!(world.cgroup(&container).procs().unwrap().contains(&alive.pid));
    let (code, output) = world.exec(&mut container, &alive, &["grep", "^0::", "/proc/self/cgroup"]).unwrap();
    assert_eq!((code, output.trim()), (0, format!("0::{}", container.cgroup).as_str()));
    world.stop(&container, alive);
    assert!(output_of(created.kept).contains("cgroup.procs\n"));
    let pid = world.zygote.pid();
    drop(world.zygote);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid as i32), None).unwrap();
}
