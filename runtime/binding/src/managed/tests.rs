#![allow(clippy::unwrap_used)]

use bulkhead_model::{ImageFacts, Refusal, Rule};

use super::*;
use crate::{Observed, VerifiedImage, bind, example};

const SNAPSHOTS: &str = "/var/lib/containerd/io.containerd.snapshotter.v1.erofs/snapshots";
const TARGETS: &str = "/run/containerd/io.containerd.mount-manager.v1.bolt/t/3";

fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Mount { kind: kind.to_owned(), source: source.to_owned(), target: PathBuf::new(), options }
}

fn erofs(number: u32) -> Mount {
    mount("erofs", &format!("{SNAPSHOTS}/{number}/layer.erofs"), &["ro", "loop"])
}

fn own() -> [String; 2] {
    [format!("workdir={SNAPSHOTS}/5/work"), format!("upperdir={SNAPSHOTS}/5/fs")]
}

/// What containerd 2.4.2 says of a container's snapshot on two layers.
fn snapshot() -> Vec<Mount> {
    let [work, upper] = own();
    let last =
        mount("format/mkdir/overlay", "overlay", &[&work, &upper, "lowerdir={{ overlay 0 1 }}", "index=off"]);
    vec![erofs(2), erofs(1), last]
}

/// What its shim is handed.
fn handed() -> Vec<Mount> {
    let [work, upper] = own();
    let lower = format!("lowerdir={TARGETS}/2:{TARGETS}/1");
    vec![mount("overlay", "overlay", &[&work, &upper, &lower, "index=off"])]
}

fn good() -> (ImageFacts, Observed) {
    let facts = example::facts("app");
    let observed = Observed { mounts: snapshot(), ..example::observed(&facts, "registry.example/app:1") };
    (facts, observed)
}

fn bound(mounts: Vec<Mount>, rootfs: &[Mount]) -> Result<VerifiedImage, Refusal> {
    let (facts, observed) = good();
    bind(&facts, &Observed { mounts, ..observed }, rootfs)
}

#[test]
fn layers_that_containerd_has_mounted_are_mapped_back_to_those_of_the_snapshots() {
    let image = bound(snapshot(), &handed()).unwrap();
    let [work, upper] = own();
    let lower = format!("lowerdir={SNAPSHOTS}/2/fs:{SNAPSHOTS}/1/fs");
    assert_eq!(image.rootfs(), [mount("overlay", "overlay", &[&work, &upper, &lower, "index=off"])]);
    assert_eq!(one_mount(&snapshot()).unwrap(), image.rootfs()[0]);
}

#[test]
fn what_lies_where_the_manager_mounts_is_not_what_is_shown() {
    let mut elsewhere = handed();
    elsewhere[0].options[2] = "lowerdir=/evil:/layers".to_owned();
    let image = bound(snapshot(), &elsewhere).unwrap();
    assert_eq!(image.rootfs(), bound(snapshot(), &handed()).unwrap().rootfs());
}

#[test]
fn request_that_differs_from_what_the_manager_makes_of_the_snapshot_is_refused() {
    let change: [fn(&mut Vec<Mount>); 9] = [
        |rootfs| rootfs[0].options[0] = "workdir=/evil".to_owned(),
        |rootfs| rootfs[0].options[1] = "upperdir=/evil".to_owned(),
        |rootfs| rootfs[0].options[2] = "lowerdir=/a:/b:/c".to_owned(),
        |rootfs| rootfs[0].options[2] = "lowerdir=a:b".to_owned(),
        |rootfs| rootfs[0].options.push("lowerdir=/evil".to_owned()),
        |rootfs| rootfs[0].options.push("userxattr".to_owned()),
        |rootfs| rootfs[0].kind = "bind".to_owned(),
        |rootfs| rootfs.clear(),
        |rootfs| *rootfs = snapshot(),
    ];
    for change in change {
        let mut rootfs = handed();
        change(&mut rootfs);
        assert_eq!(bound(snapshot(), &rootfs).unwrap_err().rule, Rule::Rootfs, "{rootfs:?}");
    }
}

#[test]
fn view_of_one_layer_leaves_a_shim_nothing_to_mount_and_is_bound_all_the_same() {
    let image = bound(vec![erofs(1)], &[]).unwrap();
    let lower = format!("lowerdir={SNAPSHOTS}/1/fs");
    assert_eq!(image.rootfs(), [mount("overlay", "overlay", &[&lower, "ro"])]);
    assert_eq!(bound(vec![erofs(1)], &handed()).unwrap_err().rule, Rule::Rootfs);
    assert_eq!(bound(vec![erofs(1)], &[erofs(1)]).unwrap_err().rule, Rule::Rootfs);
}

#[test]
fn label_of_the_spec_stays_on_what_is_mounted() {
    let (facts, observed) = good();
    let label = "context=\"system_u:object_r:container_file_t:s0\"";
    let mut rootfs = handed();
    rootfs[0].options.push(label.to_owned());
    assert!(bind(&facts, &observed, &rootfs).is_err());
    let mount_label = Some("system_u:object_r:container_file_t:s0".to_owned());
    let image = bind(&facts, &Observed { mount_label, ..observed }, &rootfs).unwrap();
    assert_eq!(image.rootfs()[0].options.last().unwrap(), label);
}

#[test]
fn whatever_else_the_manager_would_have_to_do_is_refused_by_what_it_is() {
    let image = "/s/5/rwlayer.img";
    let ext4 =
        mount("mkfs/ext4", image, &["X-containerd.mkfs.fs=ext4", "X-containerd.mkfs.size=64", "rw", "loop"]);
    let block = ["workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/upper", "lowerdir={{ overlay 1 2 }}"];
    let mkdir = ["X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "lowerdir={{ overlay 0 1 }}"];
    let of = |layers: &[Mount], kind: &str, options: &[&str]| {
        layers.iter().cloned().chain([mount(kind, "overlay", options)]).collect::<Vec<_>>()
    };
    let layer = |options: &[&str]| mount("erofs", &format!("{SNAPSHOTS}/1/layer.erofs"), options);
    let two = [erofs(2), erofs(1)];
    let overlay = "format/mkdir/overlay";
    for (mounts, why) in [
        (of(&[ext4, erofs(2), erofs(1)], overlay, &block), "in a file"),
        (of(&two, overlay, &mkdir), "X-containerd.mkdir.path"),
        (of(&two, overlay, &["lowerdir={{ overlay 1 0 }}"]), "in their order"),
        (of(&two, overlay, &["lowerdir={{ overlay 0 0 }}"]), "in their order"),
        (of(&two, overlay, &["lowerdir={{ mount 0 }}"]), "in their order"),
        (of(&two, overlay, &["lowerdir=/evil"]), "in their order"),
        (of(&two, overlay, &["lowerdir={{ overlay 0 1 }}", "lowerdir={{ overlay 0 1 }}"]), "once"),
        (of(&two, overlay, &["index=off"]), "once"),
        (of(&two, "format/bind", &["ro", "rbind"]), "format/bind"),
        (of(&two, "format/mkdir/mkdir/overlay", &["lowerdir={{ overlay 0 1 }}"]), "mkdir/mkdir"),
        (vec![layer(&["ro", "loop", "device=/s/2/layer.erofs"])], "merged"),
        (vec![layer(&["ro", "loop", "X-containerd.dmverity=/s/1/.dmverity"])], "dm-verity"),
        (vec![layer(&["ro", "offset=4096"])], "not known"),
        (vec![mount("erofs", "/var/cache/layers/sha256/1234", &["ro", "loop"])], "cache of layers"),
        (vec![mount("erofs", "/s/../1/layer.erofs", &["ro", "loop"])], "no layer.erofs"),
        (vec![mount("erofs", "/s:evil/1/layer.erofs", &["ro", "loop"])], "no layer.erofs"),
    ] {
        let refusal = bound(mounts.clone(), &handed()).unwrap_err();
        assert_eq!(refusal.rule, Rule::Rootfs);
        assert!(refusal.why.contains(why), "{mounts:?}: {}", refusal.why);
        assert!(one_mount(&mounts).is_err(), "{mounts:?}");
    }
}

#[test]
fn mounts_of_older_containerds_are_as_they_are() {
    for one in
        [mount("overlay", "overlay", &["lowerdir=/l2:/l1"]), mount("bind", "/s/1/fs", &["ro", "rbind"])]
    {
        assert_eq!(one_mount(std::slice::from_ref(&one)).unwrap(), one);
    }
    assert!(one_mount(&[handed(), handed()].concat()).is_err());
    assert!(one_mount(&[]).is_err());
}
