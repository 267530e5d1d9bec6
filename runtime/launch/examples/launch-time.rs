//! Wall time of create → start → exit → removal of `true`, beside `runc run` of the same bundle on the same
//! overlay: `cargo run --release -p bulkhead-launch --example launch-time [ROUNDS]`, as root.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::mount::{MsFlags, mount, umount};
use support::{NO_STDIO, PATIENCE, World};

fn main() {
    let rounds = std::env::args().nth(1).map_or(30, |n| n.parse().unwrap());
    let only_ours = std::env::args().nth(2).is_some();
    let mut world = World::new();
    let mut times: Vec<(&str, Vec<Duration>)> =
        ["create", "start", "exit", "removal", "all", "runc, overlay mounted", "runc and mounts", "exec"]
            .map(|name| (name, Vec::new()))
            .into();
    for round in 0..rounds {
        let container = world.container(&["true"], |_| {});
        let begin = Instant::now();
        let created = world.create(&container, &NO_STDIO).unwrap();
        let create = begin.elapsed();
        let pid = created.pid;
        created.gate.release().unwrap().wait(PATIENCE).unwrap();
        let start = begin.elapsed();
        world.exit_of_now(pid);
        let exit = begin.elapsed();
        world.clean(&container);
        let all = begin.elapsed();
        for (at, time) in [create, start - create, exit - start, all - exit, all].into_iter().enumerate() {
            times[at].1.push(time);
        }
        if !only_ours {
            let (runc, with_mounts) = runc(&mut world, round);
            times[5].1.push(runc);
            times[6].1.push(with_mounts);
        }
    }
    let mut container = world.container(&["sleep", "1000"], |_| {});
    let alive = world.start(&container);
    for _ in 0..rounds {
        let begin = Instant::now();
        let running = world.exec_start(&mut container, &alive, &["true"], &NO_STDIO).unwrap();
        world.exit_of_now(running.pid);
        times[7].1.push(begin.elapsed());
    }
    let memory = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", world.zygote.pid())).unwrap();
    println!("zygote: {}", memory.lines().find(|line| line.starts_with("Pss:")).unwrap());
    world.stop(&container, alive);
    support::remove_parents();
    for (name, mut list) in times {
        list.sort();
        if let Some(median) = list.get(list.len() / 2) {
            println!("{name:24} median {:6.2} ms, least {:6.2} ms", ms(*median), ms(list[0]));
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn runc(world: &mut World, round: usize) -> (Duration, Duration) {
    let container = world.container(&["true"], |spec| {
        spec["linux"]["cgroupsPath"] = format!("/bulkhead-test-{}/runc-{round}", std::process::id()).into();
    });
    let bundle = world.dir.path().join(format!("runc-{round}"));
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    let mut spec = serde_json::to_value(&container.spec).unwrap();
    let none: [&str; 0] = [];
    spec["process"]["capabilities"] =
        serde_json::json!({ "bounding": none, "effective": none, "permitted": none });
    fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
    let begin = Instant::now();
    let data = container.rootfs[0].options.join(",");
    mount(Some("overlay"), &bundle.join("rootfs"), Some("overlay"), MsFlags::empty(), Some(data.as_str()))
        .unwrap();
    let mounted = begin.elapsed();
    let status = Command::new("runc")
        .args(["--root", "/run/bulkhead-test-runc", "run", "--bundle"])
        .arg(&bundle)
        .arg(format!("bulkhead-test-{round}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status();
    let ran = begin.elapsed();
    umount(&bundle.join("rootfs")).unwrap();
    let all = begin.elapsed();
    // The test's server reaps everything, and may have been faster than Command.
    if let Ok(status) = status {
        assert!(status.success());
    }
    fs::remove_dir_all(&bundle).unwrap();
    fs::remove_dir_all(&container.layer).unwrap();
    (ran - mounted, all)
}
