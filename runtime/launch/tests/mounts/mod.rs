//! Where mounts land, and what they are: of a real container on a real kernel.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use bulkhead_model::{PathAccess, PathRule};
use serde_json::{Value, json};

use crate::support::{Container, World};

fn bind(source: &PathBuf, at: &str) -> Value {
    let options = ["bind", "private", "nosuid", "nodev", "noexec"];
    json!({ "destination": at, "type": "bind", "source": source, "options": options })
}

fn tmpfs(at: &str) -> Value {
    let options = ["nosuid", "nodev", "noexec", "mode=0777", "size=64k"];
    json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options })
}

/// A container with more mounts, which it may look at.
fn container(world: &mut World, args: &[&str], mounts: &[Value]) -> Container {
    let mut container =
        world.container(args, |spec| spec["mounts"].as_array_mut().unwrap().extend_from_slice(mounts));
    let rules = mounts.iter().map(|mount| PathRule {
        path: mount["destination"].as_str().unwrap().into(),
        access: PathAccess::ReadWrite,
    });
    container.confine.landlock.paths.extend(rules);
    container
}

/// A directory of the node that everybody may write to.
fn volume(world: &World, name: &str) -> PathBuf {
    let dir = world.dir.path().join(name);
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// Mount points, with their attributes.
const TABLE: [&str; 3] =
    ["sh", "-c", "cat /proc/self/mountinfo | while read a b c d at o rest; do echo $at $o; done"];

pub(crate) fn land(world: &mut World) {
    let (data, inner) = (volume(world, "data"), volume(world, "inner"));
    fs::create_dir(data.join("sub")).unwrap();
    fs::write(world.dir.path().join("file"), "").unwrap();
    let file = world.dir.path().join("file");
    let mounts = [
        bind(&data, "/data"),
        bind(&inner, "/data/sub"),
        tmpfs("/data/sub/made/there"),
        tmpfs("/outer"),
        bind(&inner, "/outer/a"),
        bind(&file, "/etc/passwd"),
        bind(&file, "/outer/b/file"),
        tmpfs("/link/a"),
    ];
    let container = container(world, &TABLE, &mounts);
    let image = container.layer.join("upper");
    fs::create_dir_all(image.join("run/deep")).unwrap();
    symlink("/run/deep", image.join("link")).unwrap();
    let (code, output) = world.run(&container).unwrap();
    assert_eq!(code, 0, "{output}");
    for at in [
        "/data",
        "/data/sub",
        "/data/sub/made/there",
        "/outer",
        "/outer/a",
        "/etc/passwd",
        "/outer/b/file",
        "/run/deep/a",
    ] {
        let lines: Vec<&str> = output.lines().filter(|line| line.starts_with(&format!("{at} "))).collect();
        assert_eq!(lines.len(), 1, "{at}: {output}");
        assert!(lines[0].contains("nosuid,nodev,noexec"), "{output}");
    }
    for dir in [data, inner] {
        fs::remove_dir_all(dir).unwrap();
    }
}

/// What a plan never has, and what a launch refuses all the same.
pub(crate) fn refused(world: &mut World) {
    let data = volume(world, "data");
    symlink("/etc", data.join("link")).unwrap();
    fs::write(data.join("file"), "").unwrap();
    for (mounts, why) in [
        (vec![tmpfs("/run/../etc")], "\"..\""),
        (vec![tmpfs("/dev/x"), tmpfs("/dev/x")], "a second mount at /dev/x"),
        (vec![tmpfs("/etc/passwd")], "over a file"),
        (vec![bind(&data.join("file"), "/run")], "over a directory"),
        (vec![bind(&data, "/data"), tmpfs("/data/link")], "a volume has a symbolic link"),
        (vec![bind(&data, "/data"), tmpfs("/data/link/x")], "a volume has a symbolic link"),
        (vec![bind(&data, "/data"), tmpfs("/data/file/x")], "something else than a directory"),
    ] {
        let container = container(world, &["true"], &mounts);
        let error = world.run(&container).unwrap_err();
        assert!(error.starts_with("create: ") && error.contains(why), "{mounts:?}: {error}");
    }
    for place in ["dev", "proc", "sys"] {
        let container = container(world, &["true"], &[]);
        let image = container.layer.join("upper");
        symlink("/run", image.join(place)).unwrap();
        let error = world.run(&container).unwrap_err();
        assert!(error.contains("symbolic link") && error.contains(place), "{error}");
    }
    // The positive control of all of them; and a link of the image at /etc is the image's own business.
    let plain = container(world, &TABLE, &[bind(&data, "/data"), tmpfs("/data/dir"), tmpfs("/etc/x")]);
    let image = plain.layer.join("upper");
    fs::create_dir_all(image.join("usr/etc")).unwrap();
    symlink("/usr/etc", image.join("etc")).unwrap();
    let (_, output) = world.run(&plain).unwrap();
    assert!(output.contains("/data/dir ") && output.contains("/usr/etc/x "), "{output}");
    fs::remove_dir_all(data).unwrap();
}

/// A tenant that turns a directory of its volume into a link and back, as fast as it can, while others mount below it.
pub(crate) fn raced(world: &mut World) {
    let data = volume(world, "data");
    let attack = "cd /data; mkdir a; while true; do mv a b; ln -s /etc a; rm a; mv b a; done 2>/dev/null";
    let tenant = container(world, &["sh", "-c", attack], &[bind(&data, "/data")]);
    let alive = world.start(&tenant);
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..40 {
        let victim = container(world, &TABLE, &[bind(&data, "/data"), tmpfs("/data/a/m")]);
        match world.run(&victim) {
            Ok((_, output)) => {
                // The tenant may move the directory, with the mount in it, within its volume: nowhere else.
                let places = output.lines().filter_map(|line| line.split(' ').next());
                let places: Vec<&str> = places.filter(|at| at.ends_with("/m")).collect();
                assert!(matches!(places[..], ["/data/a/m" | "/data/b/m"]), "{output}");
                assert!(!output.contains("/etc"), "{output}");
                ran += 1;
            }
            Err(error) => {
                assert!(error.starts_with("create: "), "{error}");
                refused += 1;
            }
        }
    }
    world.stop(&tenant, alive);
    assert_eq!(ran + refused, 40);
    // Without the attack every one of them runs.
    fs::remove_dir_all(&data).unwrap();
    let data = volume(world, "data");
    let calm = container(world, &TABLE, &[bind(&data, "/data"), tmpfs("/data/a/m")]);
    assert!(world.run(&calm).unwrap().1.contains("/data/a/m "));
    fs::remove_dir_all(&data).unwrap();
}

/// A tenant that has a link where a mount of its was, when somebody execs into its container: the rule that the mount has is
/// for the mount.
pub(crate) fn rule_stays_with_its_mount(world: &mut World) {
    let (data, inner, secret) = (volume(world, "data"), volume(world, "inner"), volume(world, "secret"));
    fs::write(secret.join("file"), "secret\n").unwrap();
    fs::write(inner.join("file"), "inner").unwrap();
    let mounts = [bind(&data, "/data"), bind(&inner, "/link/a/b"), bind(&secret, "/secret")];
    let mut container = container(world, &["sh", "-c", "sleep 900"], &mounts);
    // Through a link of the image; and one of the mounts has no rule.
    symlink("/data", container.layer.join("upper/link")).unwrap();
    container.confine.landlock.paths.retain(|rule| rule.path != Path::new("/secret"));
    // The rule of the volume above would do for what is nested in it.
    for rule in &mut container.confine.landlock.paths {
        if rule.path == Path::new("/data") {
            rule.access = PathAccess::Read;
        }
    }
    let alive = world.start(&container);
    let own = "echo x > /data/a/b/own && cat /data/a/b/file; cat /secret/file";
    let (_, before) = world.exec(&mut container, &alive, &["sh", "-c", own]).unwrap();
    assert!(before.contains("inner") && !before.contains("secret\n"), "{before}");
    assert!(inner.join("own").exists(), "its rule is the mount's, wherever the image's link led");

    // What the tenant can do in its own volume.
    for target in ["/secret", "/data", "/data/moved/b"] {
        fs::rename(data.join("a"), data.join("moved")).unwrap();
        fs::create_dir(data.join("a")).unwrap();
        symlink(target, data.join("a/b")).unwrap();
        let attack = "cat /secret/file; echo x > /data/new; echo x > /data/moved/b/new";
        let (_, after) = world.exec(&mut container, &alive, &["sh", "-c", attack]).unwrap();
        assert!(
            !after.contains("secret\n") && after.matches("ermission denied").count() == 3,
            "{target}: {after}"
        );
        fs::remove_dir_all(data.join("a")).unwrap();
        fs::rename(data.join("moved"), data.join("a")).unwrap();
    }
    // Put back as it was, it is the mount again.
    let (_, again) = world.exec(&mut container, &alive, &["sh", "-c", "echo x > /data/a/b/again"]).unwrap();
    assert!(inner.join("again").exists(), "{again}");
    world.stop(&container, alive);
    for dir in [data, inner, secret] {
        fs::remove_dir_all(dir).unwrap();
    }
}
