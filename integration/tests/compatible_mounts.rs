//! Mounts of the compatible level, side by side with runc: what is made, what follows the node and shares with it, and what
//! of the node stays as it is.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use bulkhead_integration::{
    BULKHEAD, COMPATIBLE, Infra, RUNC, Release, bind, heard, on_each_containerd, push, same, until,
};
use serde_json::{Value, json};

/// Kind, options and propagation of every mount, in order; what differs from run to run is left out, and the root,
/// which no mount of the node's is above here.
const MOUNTS: &str = "sed -E 's/^[0-9]+ [0-9]+ [0-9:]+ //; s/(shared|master):[0-9]+/\\1/g; s#^/[^ ]* #X #; \
    s/sysfs sysfs r[ow]/sysfs/' /proc/self/mountinfo | grep -vE ' (/|/dev/console) ' | sort";

on_each_containerd! {
    fn mounts_are_made_as_asked_and_follow_or_share_as_under_runc(release) {
        let infra = Infra::start(release);
        infra.allow(COMPATIBLE);
        let dir = infra.bench.daemon.dir().join("volume");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "text\n").unwrap();
        let edits: [&dyn Fn(&mut Value); 7] = [
            &|spec| bind(spec, &dir, "/data", &["rbind", "rprivate", "ro"]),
            &|spec| bind(spec, &dir.join("file"), "/etc/one", &["bind", "rslave", "nosuid", "noexec"]),
            &|spec| {
                bind(spec, &dir, "/data", &["rbind", "rshared"]);
                spec["linux"]["rootfsPropagation"] = json!("rshared");
            },
            &|spec| bind(spec, &dir, "/data", &["rbind", "rslave"]),
            &|spec| push(spec, "/mounts", json!({ "type": "tmpfs", "source": "tmpfs", "destination": "/t",
                "options": ["nosuid", "size=1m", "mode=0711", "uid=5"] })),
            &|spec| push(spec, "/mounts", json!({ "type": "cgroup", "source": "cgroup", "destination": "/sys/fs/cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] })),
            &|spec| bind(spec, &dir, "/data", &["rbind", "runbindable"]),
        ];
        for (number, edit) in edits.iter().enumerate() {
            let script = if number == 5 { "ls /sys/fs/cgroup | sort | grep -E '^(memory|pids|cpu)$'; touch /sys/fs/cgroup/memory/tasks 2>&1; true" } else { MOUNTS };
            let found = same(&infra, script, |spec| {
                edit(spec);
                // Which of runc's own devices are mounts differs from version to version.
                spec["linux"]["maskedPaths"] = json!([]);
            });
            assert!(number == 5 || found.contains("/data") || found.contains("/etc/one") || found.contains(" /t "), "{found}");
        }
        infra.bench.assert_nothing_left();
    }
}

#[test]
fn mounts_of_the_node_appear_in_a_container_that_follows_and_a_containers_on_a_node_that_shares() {
    let infra = Infra::start(Release::System);
    infra.allow(COMPATIBLE);
    for runtime in [RUNC, BULKHEAD] {
        for (propagation, follows, shares) in
            [("rprivate", false, false), ("rslave", true, false), ("rshared", true, true)]
        {
            let dir = infra.bench.daemon.dir().join(format!("volume-{propagation}-{}", runtime.len()));
            fs::create_dir_all(dir.join("down")).unwrap();
            fs::create_dir_all(dir.join("up")).unwrap();
            let script =
                "mount -t tmpfs tmpfs /data/up && touch /data/up/made && echo ready > /data/ready; sleep 600";
            let id = infra.background(runtime, "propagation", script, |spec| {
                spec["linux"]["maskedPaths"] = json!([]);
                bind(spec, &dir, "/data", &["rbind", propagation]);
                spec["linux"]["rootfsPropagation"] =
                    json!(if propagation == "rprivate" { "rslave" } else { propagation });
                for set in ["bounding", "permitted", "effective"] {
                    push(spec, &format!("/process/capabilities/{set}"), json!("CAP_SYS_ADMIN"));
                }
            });
            // Session keyring of the container's own, named as runc names it; an exec joins the same.
            until("the container's mount", Duration::from_secs(60), || Ok(dir.join("ready").exists()))
                .unwrap();
            let down = dir.join("down").display().to_string();
            infra.on_node(&["mount", "-t", "tmpfs", "tmpfs", &down]).success().unwrap();
            infra.on_node(&["touch", &format!("{down}/made")]).success().unwrap();
            let said = |command: &[&str]| {
                let said = || Ok(infra.bench.exec(&id, command)?.success()?.stdout);
                heard(runtime, said).unwrap()
            };
            let seen = said(&["/bin/sh", "-c", "echo seen; ls /data/down"]);
            assert_eq!(seen.contains("made"), follows, "{runtime} {propagation}");
            let keys = said(&["/bin/cat", "/proc/keys"]);
            assert!(keys.contains(&format!("_ses.{id}: ")), "{runtime}: {keys}");
            let up = dir.join("up/made").display().to_string();
            assert_eq!(infra.on_node(&["ls", &up]).ok(), shares, "{runtime} {propagation}");
            infra.bench.remove(&id).unwrap();
            infra.on_node(&["umount", &down]).success().unwrap();
            if shares {
                infra.on_node(&["umount", &dir.join("up").display().to_string()]).success().unwrap();
            }
        }
    }
    infra.bench.assert_nothing_left();
}

/// Found by integration/attacks (a mount below a shared volume), which left mounts on the node.
#[test]
fn what_a_request_mounts_below_a_volume_is_the_containers_alone_and_what_it_writes_there_is_the_volumes() {
    let infra = Infra::start(Release::System);
    infra.allow(COMPATIBLE);
    for (runtime, options) in
        [(RUNC, ["rbind", "rw"]), (BULKHEAD, ["rbind", "rw"]), (BULKHEAD, ["rbind", "private"])]
    {
        let (volume, below) =
            (infra.bench.daemon.dir().join("volume"), infra.bench.daemon.dir().join("below"));
        fs::create_dir_all(volume.join("below")).unwrap();
        fs::create_dir_all(&below).unwrap();
        let script = "echo text > /data/below/file && echo ready > /data/ready; sleep 600";
        let id = infra.background(runtime, "below", script, |spec| {
            bind(spec, &volume, "/data", &options);
            bind(spec, &below, "/data/below", &options);
        });
        until("the container's files", Duration::from_secs(60), || Ok(volume.join("ready").exists()))
            .unwrap();
        let seen = |path: &Path| infra.on_node(&["ls", &path.display().to_string()]).ok();
        assert!(seen(&below.join("file")), "{runtime} {options:?}");
        assert!(
            !seen(&volume.join("below/file")),
            "{runtime} {options:?}: the node has the container's mount"
        );
        infra.bench.remove(&id).unwrap();
        for file in [below.join("file"), volume.join("ready")] {
            fs::remove_file(file).unwrap();
        }
    }
    infra.bench.assert_nothing_left();
}

#[test]
fn node_root_dev_and_sys_are_seen_with_what_is_mounted_below_and_the_node_keeps_its_own() {
    let infra = Infra::start(Release::System);
    infra.allow(COMPATIBLE);
    let dir = infra.bench.daemon.dir().join("volume");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "text\n").unwrap();
    let before = node();
    let script = "cat /host/mnt/file; ls /dev | sort | md5sum; ls -d /sys/fs/cgroup/pids/tasks /host/sys/fs/cgroup/pids/tasks; \
        ls /dev/shm/file; for at in /host /host/mnt /dev /dev/shm /sys /sys/fs/cgroup/pids; do \
        grep -q \" $at \" /proc/self/mountinfo && echo $at; done; echo text > /dev/null && cat /etc/hostname; ls /sys/firmware | wc -l";
    let edit = |spec: &mut Value| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !["/dev", "/sys"].iter().any(|at| mount["destination"] == *at));
        bind(spec, Path::new("/"), "/host", &["rbind", "rslave", "ro"]);
        bind(spec, &dir, "/host/mnt", &["rbind", "rprivate"]);
        bind(spec, Path::new("/sys"), "/sys", &["rbind", "rprivate"]);
        bind(spec, Path::new("/dev"), "/dev", &["rbind", "rprivate"]);
        bind(spec, &dir, "/dev/shm", &["bind", "rprivate"]);
        spec["linux"]["maskedPaths"] = json!(["/sys/firmware"]);
        spec["root"]["readonly"] = json!(true);
    };
    println!("{}", same(&infra, script, edit));
    assert_eq!(node(), before);
    infra.bench.assert_nothing_left();
}

/// What libcontainer would have changed of the node: its own links and devices in /dev, groups of its own naming.
///
/// Which inode it is, and not its mtime: the kernel sets that of /dev/ptmx and of the console when anybody writes to a
/// terminal.
fn node() -> Vec<String> {
    let groups = fs::read_dir("/sys/fs/cgroup/pids").into_iter().flatten().flatten();
    let groups = groups.map(|group| group.file_name().to_string_lossy().into_owned());
    let made = ["ptmx", "fd", "core", "kcore", "null", "console"].map(|name| {
        let found = fs::symlink_metadata(format!("/dev/{name}"));
        let known = |found: fs::Metadata| (found.ino(), found.mode(), found.uid(), found.gid(), found.rdev());
        format!("{name} {:?}", found.map(known).ok())
    });
    made.into_iter().chain(groups.filter(|name| name.starts_with(":youki:"))).collect()
}
