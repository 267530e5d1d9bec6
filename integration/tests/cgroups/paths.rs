//! Where a group is: paths of every form, and scopes of systemd's.

use std::{fs, path::Path};

use bulkhead_integration::{BULKHEAD, Bench, Cri, Release, until};
use serde_json::json;

use super::{WITHIN, create, groups, limits, resources, start};

#[test]
fn cgroup_paths_of_every_form_are_used_or_refused_by_name() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let tag = bench.daemon.tag();
    let at = |name: &str, path: &str| {
        let path = path.to_owned();
        create(&bench, BULKHEAD, name, &["/bin/sleep", "600"], move |spec| {
            spec["linux"]["cgroupsPath"] = json!(path)
        })
    };
    for (name, path, wanted) in [
        ("empty", String::new(), format!("{tag}/{tag}-empty-b")),
        ("deep", format!("/{tag}/a.slice/b/c"), format!("{tag}/a.slice/b/c")),
    ] {
        let (tasks, id) = at(name, &path);
        tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
        tasks.start(&id).unwrap();
        let groups = groups(&bench, &id);
        let dir = groups.get("pids").or(groups.get("")).unwrap();
        assert!(dir.ends_with(&wanted), "{}", dir.display());
        bench.remove(&id).unwrap();
        // Those above it were made with it, and are nobody's.
        for dir in groups.values() {
            for above in dir.ancestors().skip(1).take_while(|dir| !dir.ends_with(tag)) {
                fs::remove_dir(above).unwrap_or_default();
            }
        }
    }
    for (name, path) in [
        ("dots", format!("/{tag}/../x")),
        ("up", "../x".to_owned()),
        ("root", "/".to_owned()),
        ("slice", "a:b:c".to_owned()),
    ] {
        let (tasks, id) = at(name, &path);
        let error = tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap_err().to_string();
        assert!(error.contains("cgroup"), "{path}: {error}");
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    }
    bench.assert_nothing_left();
}

/// Where systemd runs the host it makes the group, keeps it and forgets it; elsewhere the create says what to do.
#[test]
fn systemds_form_of_a_path_is_a_scope_of_systemds_or_a_refusal_where_there_is_none() {
    let bench = Bench::start(Release::System, Cri::Off).unwrap();
    let asked = json!({
        "memory": { "limit": 64 << 20, "swap": 96 << 20 },
        "cpu": { "shares": 2048, "quota": 50_000, "period": 100_000 },
        "pids": { "limit": 77 },
    });
    let (slice, prefix) = (format!("{0}-{0}x.slice", bench.daemon.tag()), "bulkhead-test");
    let (tasks, id) = create(&bench, BULKHEAD, "scope", &["/bin/sleep", "600"], |spec| {
        resources(spec, &asked);
        spec["linux"]["cgroupsPath"] = json!(format!("{slice}:{prefix}:one"));
    });
    let created = tasks.create(&id, tasks.mounts(&id).unwrap());
    if !Path::new("/run/systemd/system").is_dir() {
        let error = created.unwrap_err().to_string();
        assert!(error.contains("does not run systemd") && error.contains("fix: "), "{error}");
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        bench.assert_nothing_left();
        return;
    }
    created.unwrap();
    tasks.start(&id).unwrap();
    let unit = format!("{prefix}-one.scope");
    let show = |property: &str| {
        let output =
            std::process::Command::new("systemctl").args(["show", "--value", "-p", property, &unit]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_eq!(
        (show("ActiveState").as_str(), show("Slice"), show("Delegate").as_str()),
        ("active", slice, "yes")
    );
    assert_eq!((show("TasksMax").as_str(), show("DevicePolicy").as_str()), ("77", "strict"));
    let (before, groups) = (limits(&bench, &id), groups(&bench, &id));
    // systemd writes its own again: nothing of ours is undone.
    let reload =
        || assert!(std::process::Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    reload();
    assert_eq!(limits(&bench, &id), before);
    assert!(bench.exec(&id, &["/bin/sh", "-c", "head -c1 /dev/zero >/dev/null"]).unwrap().ok());

    tasks
        .update(&id, &json!({ "memory": { "limit": 48 << 20, "swap": 48 << 20 }, "pids": { "limit": 55 } }))
        .unwrap();
    assert_eq!(show("TasksMax"), "55");
    let updated = limits(&bench, &id);
    assert_ne!(updated, before);
    reload();
    assert_eq!(limits(&bench, &id), updated);
    tasks.pause(&id).unwrap();
    tasks.resume(&id).unwrap();
    bench.remove(&id).unwrap();
    // systemd forgets a unit after it has ended it, on its own time.
    let state = || (show("ActiveState"), show("LoadState"));
    let forgotten = || Ok(state() == ("inactive".to_owned(), "not-found".to_owned()));
    until("the unit is forgotten", WITHIN, forgotten)
        .unwrap_or_else(|error| panic!("{error}: {:?}", state()));
    // The slices are systemd's own, made on demand: as a rule the kubelet's. On v1 systemd does not look after all
    // hierarchies; the kubelet does.
    let top = format!("{}.slice", bench.daemon.tag());
    assert!(std::process::Command::new("systemctl").args(["stop", &top]).status().unwrap().success());
    for dir in groups.values() {
        for above in dir.ancestors().skip(1).take_while(|dir| dir.to_string_lossy().contains(&top)) {
            fs::remove_dir(above).unwrap_or_default();
        }
    }
    bench.assert_nothing_left();

    // Once more under the same name.
    let id = start(&bench, BULKHEAD, "again", &["/bin/sleep", "600"], |spec| {
        spec["linux"]["cgroupsPath"] = json!(format!(":{prefix}:one"));
    });
    assert_eq!(show("Slice"), "system.slice");
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}
