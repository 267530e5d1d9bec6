//! A container stumbles over a path; `bulkhead explain` names it and a line; with the line in the policy the same container
//! runs. Denied calls are in profiles_enforced.rs.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use bulkhead_integration::{
    ALLOWED, Bench, ContainerOptions, Cri, Entry, Image, Layer, Pod, Pods, Release, UID, until,
};
use serde_json::Value;

/// Each stumble, the path that is named with it, and the line that is printed.
const STUMBLES: &[(&str, &str, &str, &str, &str)] = &[
    ("a directory of the image", "echo x >/srv/file", "EROFS", "/srv/file", "writable = [\"/srv\"]"),
    (
        "a program that was dropped into a tmpfs",
        "cp /bin/probe /tmp/tool; /tmp/tool true",
        "EACCES",
        "/tmp/tool",
        "executable = [\"/tmp\"]",
    ),
    ("a file of the image", "echo x >>/opt/app/log", "EACCES", "/opt/app/log", "writable = [\"/opt/app\"]"),
];

struct Node {
    bench: Bench,
    pods: Pods,
    digest: String,
}

impl Node {
    fn start() -> Self {
        let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
        let files = [
            Entry::Dir("opt", 0o755),
            Entry::Dir("opt/app", 0o755),
            Entry::File("opt/app/log", 0o644, b"image's\n"),
        ];
        let image = Image::busybox(ALLOWED, &UID.to_string()).unwrap().with(Layer::of(&files).unwrap());
        let digest = bench.daemon.import_in("k8s.io", &image).unwrap().manifest;
        let pods = bench.daemon.pods().unwrap();
        let node = Self { bench, pods, digest };
        node.allow("");
        node
    }

    fn allow(&self, lines: &str) {
        self.bench.allow_digests(&[&self.digest], lines).unwrap();
    }

    /// Runs a script to its end: its container, and its exit code.
    fn run(&self, pod: &Pod, name: &str, script: &str) -> (String, i32) {
        let options = ContainerOptions::restricted(name, ALLOWED, &["/bin/sh", "-c", script]);
        let id = self.pods.launch(pod, &options).unwrap();
        let code = self.pods.wait(&id).unwrap();
        (id, code)
    }

    /// What explain says of a container, once its log has reached the file.
    fn explain(&self, id: &str, wanted: &str) -> Value {
        let mut said = Value::Null;
        until("what the container said", Duration::from_secs(60), || {
            let output = self.bench.daemon.bulkhead(&["--json", "explain", "-n", "k8s.io", id])?.success()?;
            said = serde_json::from_str(&output.stdout).unwrap();
            Ok(said.to_string().contains(wanted))
        })
        .unwrap_or_else(|error| panic!("{error}: {said:#}"));
        said
    }
}

#[test]
fn path_that_a_container_stumbled_over_is_named_and_the_line_that_is_printed_lets_it_run() {
    let node = Node::start();
    let pod = node.pods.run("bulkhead", "team-a", "stumbles").unwrap();
    for (number, (what, script, errno, path, line)) in STUMBLES.iter().enumerate() {
        node.allow("");
        let (id, code) = node.run(&pod, &format!("before{number}"), script);
        assert_ne!(code, 0, "{what}");
        let said = node.explain(&id, path);
        let stumble = &said["stumbles"][0];
        assert_eq!(
            (stumble["errno"].as_str(), stumble["path"].as_str()),
            (Some(*errno), Some(*path)),
            "{said:#}"
        );
        let allow = said["allow"].as_array().unwrap();
        assert_eq!(allow.len(), 1, "{what}: {said:#}");
        assert_eq!(allow[0]["line"].as_str(), Some(*line), "{what}");
        assert!(allow[0]["cost"].as_str().unwrap().starts_with("costs "), "{said:#}");
        assert_eq!(said["ended"].as_i64(), Some(code.into()));

        node.allow(allow[0]["line"].as_str().unwrap());
        let (_, code) = node.run(&pod, &format!("after{number}"), script);
        assert_eq!(code, 0, "{what}, with {line}");
    }
    node.pods.remove_pod(&pod).unwrap();
    node.bench.assert_nothing_left();
}

#[test]
fn volume_that_the_pod_mounts_read_only_is_named_and_no_line_is_printed() {
    let node = Node::start();
    let pod = node.pods.run("bulkhead", "team-a", "volume").unwrap();
    let (_, volume) = node.bench.daemon.kubelet_dir(&pod, "volumes/kubernetes.io~empty-dir/data").unwrap();
    let mut options =
        ContainerOptions::restricted("reader", ALLOWED, &["/bin/sh", "-c", "echo x >/data/new"]);
    options.mounts.push((volume, "/data".to_owned(), true));
    let id = node.pods.launch(&pod, &options).unwrap();
    assert_ne!(node.pods.wait(&id).unwrap(), 0);
    let said = node.explain(&id, "/data/new");
    assert_eq!(said["allow"].as_array().unwrap().len(), 0, "{said:#}");
    assert!(
        said["stumbles"][0]["because"].as_str().unwrap().contains("/data is mounted read-only"),
        "{said:#}"
    );
    node.pods.remove_pod(&pod).unwrap();
    node.bench.assert_nothing_left();
}

#[test]
fn container_that_lives_on_is_explained_by_the_mounts_that_it_has() {
    let node = Node::start();
    node.allow("tmpfs = [\"/tmp\", \"/srv\"]");
    let pod = node.pods.run("bulkhead", "team-a", "lives").unwrap();
    // On a tmpfs that policy put there: nobody who guesses knows of it.
    let script = "cp /bin/probe /srv/tool; /srv/tool true; exec /bin/probe pause";
    let options = ContainerOptions::restricted("lives", ALLOWED, &["/bin/sh", "-c", script]);
    let id = node.pods.launch(&pod, &options).unwrap();
    let said = node.explain(&id, "/srv/tool");
    assert_eq!(said["allow"][0]["line"].as_str(), Some("executable = [\"/srv\"]"), "{said:#}");
    assert_eq!(said["ended"], Value::Null);
    node.pods.remove_pod(&pod).unwrap();
    node.bench.assert_nothing_left();
}

#[test]
fn output_that_is_handed_in_is_read_and_one_that_says_nothing_is_said_to() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.daemon.id("plain");
    let args =
        ["run", "--runtime", bulkhead_integration::BULKHEAD, ALLOWED, &id, "/bin/sh", "-c", "echo x >/srv/a"];
    let output = bench.daemon.ctr(&args).unwrap();
    assert_ne!(output.code(), 0);
    let file = bench.daemon.dir().join("output");
    let explain = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let path = file.display().to_string();
        let args = ["explain", "-n", bench.daemon.tag(), &id, "--output", &path];
        bench.daemon.bulkhead(&args).unwrap().success().unwrap().stdout
    };
    let said = explain(&output.stderr);
    assert!(said.contains("EROFS on /srv/a") && said.contains("writable = [\"/srv\"]"), "{said}");
    let said = explain("a program that says nothing of it\n");
    assert!(said.contains("names no path"), "{said}");
    let said = bench.daemon.bulkhead(&["explain", "-n", bench.daemon.tag(), &id]).unwrap().success().unwrap();
    assert!(said.stdout.contains("nothing is known"), "{}", said.stdout);
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}
