//! `bulkhead profile generate oci:…` of layouts that are made to harm: beside each no, what a layout may have.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{Bench, Cri, Entry, Image, Layer, Output, Release, bulkhead_dir, run};
use serde_json::Value;

const NAME: &str = "registry.test/team-a/debian:1";

const COMMAND: &str = "/bin/true";

/// `bulkhead profile generate SOURCE`.
fn generate(bench: &Bench, words: &[&str], source: &str) -> Output {
    let mut command = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
    command.arg("--root").arg(bench.daemon.bulkhead_root()).args(["profile", "generate"]);
    command.args(["-n", bench.daemon.tag(), "--address"]).arg(bench.daemon.socket()).args(words).arg(source);
    run(&mut command, Duration::from_secs(300)).unwrap()
}

fn ask(bench: &Bench, layout: &Path) -> Output {
    generate(bench, &[], &format!("oci:{}", layout.display()))
}

/// What is left of this node's unpacked layers.
fn left(bench: &Bench) -> usize {
    let place = bench.daemon.bulkhead_root().join("run/bulkhead/generator");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(&place.display().to_string())).count();
    mounts + fs::read_dir(place).map_or(0, Iterator::count)
}

fn unpack(tar: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    let mut command = Command::new("tar");
    command.arg("-xf").arg(tar).arg("-C").arg(to);
    run(&mut command, Duration::from_secs(120)).unwrap().success().unwrap();
}

/// A layout in a file, of these layers on top of a program that can be told.
fn layout(bench: &Bench, name: &str, layers: Vec<Layer>) -> PathBuf {
    let mut image = Image::userland(NAME).unwrap();
    image.command = vec![COMMAND.to_owned()];
    let image = layers.into_iter().fold(image, Image::with);
    let path = bench.daemon.dir().join(name);
    image.write(&path).unwrap();
    path
}

#[test]
fn layout_as_a_directory_and_as_a_tarball_has_the_profile_that_the_image_in_containerd_has() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    // A layer above, which replaces, hides and links what lies below.
    let above = || {
        Layer::of(&[
            Entry::Dir("opt", 0o755),
            Entry::File("opt/up", 0o755, b"#!/bin/true\n"),
            Entry::Link("opt/up2", "opt/up"),
            Entry::File("usr/bin/.wh.factor", 0o644, b""),
        ])
        .unwrap()
    };
    let packed = layout(&bench, "layout.tar", vec![above()]);
    let mut image = Image::userland(NAME).unwrap();
    image.command = vec![COMMAND.to_owned()];
    bench.daemon.import(&image.with(above())).unwrap();
    let unpacked = bench.daemon.dir().join("layout");
    unpack(&packed, &unpacked);
    let profile = |source: &str| {
        let text = generate(&bench, &["--json"], source).success().unwrap().stdout;
        serde_json::from_str::<Value>(&text).unwrap()["profile"].clone()
    };
    let of_containerd = profile(NAME);
    assert_eq!(of_containerd["widened"], Value::Null);
    assert!(!of_containerd["landlock"]["rules"].as_array().unwrap().is_empty(), "{of_containerd}");
    for place in [format!("oci:{}", unpacked.display()), format!("oci:{}:1", packed.display())] {
        assert_eq!(profile(&place), of_containerd, "{place}");
    }
    let none = generate(&bench, &[], &format!("oci:{}:2", packed.display()));
    assert_eq!(none.code(), 1, "{none:?}");
    assert_eq!(left(&bench), 0);
    bench.assert_nothing_left();
}

#[test]
fn layout_that_is_hostile_is_refused_or_stays_within_itself_and_leaves_nothing() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let outside = bench.daemon.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    let out = outside.display().to_string();
    let ask = |path: &Path| ask(&bench, path);
    // Names and links that lead out, and whiteouts through them.
    let (up, through) = ("srv/up", "srv/up/kept");
    let traversal = vec![
        Layer::of(&[Entry::Dir("srv", 0o755), Entry::Symlink(up, &out), Entry::Symlink("srv/etc", "/etc")])
            .unwrap(),
        Layer::of(&[Entry::File("srv/etc/new", 0o644, b"x"), Entry::File("srv/up/.wh.kept", 0o644, b"")])
            .unwrap(),
    ];
    let output = ask(&layout(&bench, "traversal.tar", traversal));
    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept", "{output:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{output:?}");
    assert!(!Path::new("/etc/new").exists());
    output.success().unwrap();
    let refused = layout(
        &bench,
        "through.tar",
        vec![
            Layer::of(&[Entry::Dir("srv", 0o755), Entry::Symlink(up, &out)]).unwrap(),
            Layer::of(&[Entry::File(through, 0o644, b"x")]).unwrap(),
        ],
    );
    // Within the image the link leads to nothing.
    let output = ask(&refused);
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stdout.contains("#image-contents"), "{}", output.stdout);
    assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");

    // A layer that is no tar, and one that hashes to another diff ID than the config says.
    let output = ask(&layout(&bench, "rubbish.tar", vec![Layer::of_tar(b"no tar at all".repeat(200))]));
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stdout.contains("damaged header"), "{}", output.stdout);
    let other = Layer::of(&[Entry::Dir("srv", 0o755)]).unwrap();
    let other = other.with_diff_id(&format!("sha256:{}", "1".repeat(64)));
    let output = ask(&layout(&bench, "diff.tar", vec![other]));
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stdout.contains("and the config says sha256:1111"), "{}", output.stdout);

    // A blob whose bytes are others than its name says.
    let dir = bench.daemon.dir().join("spoilt");
    unpack(&bench.daemon.dir().join("diff.tar"), &dir);
    let blobs = fs::read_dir(dir.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let largest = blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    fs::write(largest, "another layer").unwrap();
    let output = ask(&dir);
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stdout.contains("hashes to"), "{}", output.stdout);
    assert_eq!(left(&bench), 0);
    bench.assert_nothing_left();
}
