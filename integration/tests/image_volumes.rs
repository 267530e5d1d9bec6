//! Images that a pod mounts as volumes: bound to their bytes as the container's own, whatever lies where containerd has
//! mounted them.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::{
    ALLOWED, Bench, ContainerOptions, Cri, Entry, Image, Layer, Pod, Pods, Refused, Release, UID,
};

/// Two layers: programs, and data on top of them.
const MODEL: &str = "registry.test/team-a/model:1";

/// What it holds.
const WEIGHTS: &str = "weights that were allowed\n";

/// A daemon with [`ALLOWED`] and [`MODEL`].
struct Node {
    bench: Bench,
    pods: Pods,
    model: String,
}

impl Node {
    fn start() -> Self {
        let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
        let model = bench.daemon.import_in("k8s.io", &image(MODEL, WEIGHTS)).unwrap().manifest;
        let pods = bench.daemon.pods().unwrap();
        let node = Self { bench, pods, model };
        node.allow("exec = [\"*\"]");
        node
    }

    /// Both images, confined so.
    fn allow(&self, lines: &str) {
        self.bench.allow_digests(&[&self.bench.digests.manifest, &self.model], lines).unwrap();
    }

    /// What a script writes that sees an image as `/model`.
    fn seen(&self, pod: &Pod, name: &str, script: &str) -> String {
        let id = self.pods.launch(pod, &with_volume(name, MODEL, script)).unwrap();
        assert_eq!(self.pods.wait(&id).unwrap(), 0);
        self.pods.output(pod, name).unwrap()
    }

    /// What a container with that image is refused by.
    fn refused(&self, pod: &Pod, image: &str) -> Refused {
        let container = with_volume("refused", image, "cat /model/data/weights");
        let id = self.pods.create(pod, &container).unwrap();
        let error = self.pods.start(&id).unwrap_err().to_string();
        self.pods.remove(&id).unwrap();
        Refused::read(&error).unwrap()
    }

    /// Where containerd has mounted the volumes of a pod, in containerd's own mount namespace.
    fn places(&self, pod: &Pod) -> PathBuf {
        let dir = self.bench.daemon.dir().join("state/io.containerd.grpc.v1.cri/image-volumes").join(&pod.id);
        let mut found = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let place = found.next().unwrap();
        assert!(found.next().is_none(), "one for all containers of a pod");
        place
    }

    /// The file of [`MODEL`]'s upper layer on the node.
    fn weights(&self) -> PathBuf {
        let snapshots = self.bench.daemon.dir().join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
        let mut files =
            fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().path().join("fs/data/weights"));
        files.find(|file| file.exists()).unwrap()
    }

    /// Runs a script where containerd's mounts are.
    fn inside(&self, script: &str) {
        let mut shell = self.bench.daemon.inside(Path::new("/bin/sh"));
        assert!(shell.args(["-ec", script]).status().unwrap().success(), "{script}");
    }

    fn end(self, pods: &[Pod]) {
        for pod in pods {
            self.pods.remove_pod(pod).unwrap();
        }
        self.bench.assert_nothing_left();
    }
}

fn image(name: &str, weights: &str) -> Image {
    let data = [Entry::Dir("data", 0o755), Entry::File("data/weights", 0o644, weights.as_bytes())];
    Image::busybox(name, &UID.to_string()).unwrap().with(Layer::of(&data).unwrap())
}

fn with_volume(name: &str, image: &str, script: &str) -> ContainerOptions {
    let mut options = ContainerOptions::restricted(name, ALLOWED, &["/bin/sh", "-c", script]);
    options.image_volumes.push((image.to_owned(), "/model".to_owned()));
    options
}

#[test]
fn image_volume_can_be_read_and_neither_written_nor_run_and_holds_at_the_compatible_level_too() {
    let node = Node::start();
    let script = "cat /model/data/weights; echo x >/model/data/new || echo not written; /model/bin/probe true || echo not run";
    let pod = node.pods.run("bulkhead", "team-a", "reads").unwrap();
    let expected = format!("{WEIGHTS}not written\nnot run\n");
    let output = |name: &str| {
        let text = node.seen(&pod, name, &format!("({script}) 2>/tmp/errors"));
        text.lines().map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(output("one"), expected);
    assert_eq!(output("two"), expected, "a second container of the pod");

    node.allow("level = \"compatible\"\nnamespaces = [\"*\"]");
    // As under runc: what is in the image can be run.
    assert_eq!(output("compatible"), format!("{WEIGHTS}not written\n"));
    node.end(&[pod]);
}

#[test]
fn image_of_a_single_layer_is_a_volume_too() {
    let node = Node::start();
    let pod = node.pods.run("bulkhead", "team-a", "single").unwrap();
    let mut options = with_volume("one", ALLOWED, "ls /model/bin/probe");
    options.image_volumes.push((MODEL.to_owned(), "/other".to_owned()));
    options.command =
        ["/bin/sh", "-c", "ls /model/bin/probe; cat /other/data/weights"].map(str::to_owned).to_vec();
    let id = node.pods.launch(&pod, &options).unwrap();
    assert_eq!(node.pods.wait(&id).unwrap(), 0);
    assert_eq!(node.pods.output(&pod, "one").unwrap(), format!("/model/bin/probe\n{WEIGHTS}"));
    node.end(&[pod]);
}

#[test]
fn image_volume_that_no_scope_names_or_whose_digest_is_another_is_refused_at_both_levels() {
    let node = Node::start();
    node.bench.daemon.import_in("k8s.io", &image("registry.test/team-b/model:1", "other\n")).unwrap();
    node.bench.daemon.import_in("k8s.io", &image("registry.test/team-a/other:1", "others\n")).unwrap();
    let pod = node.pods.run("bulkhead", "team-a", "names").unwrap();
    for lines in ["", "level = \"compatible\"\nnamespaces = [\"*\"]"] {
        node.allow(lines);
        assert_eq!(node.refused(&pod, "registry.test/team-b/model:1").rule(), "image-scope");
        assert_eq!(node.refused(&pod, "registry.test/team-a/other:1").rule(), "image-digest");
        assert_eq!(node.seen(&pod, &format!("named{}", lines.len()), "cat /model/data/weights"), WEIGHTS);
    }
    node.end(&[pod]);
}

/// What lies where containerd has mounted the image is what runc shows: the attack bites there.
#[test]
fn files_changed_and_mounts_made_where_containerd_has_mounted_an_image_are_not_seen() {
    let node = Node::start();
    node.allow("exec = [\"*\"]\nlevel = \"compatible\"\nnamespaces = [\"*\"]");
    let mut pods = Vec::new();
    for (handler, level) in [("runc", ""), ("bulkhead", "compatible"), ("bulkhead", "hardened")] {
        if level == "hardened" {
            node.allow("exec = [\"*\"]");
        }
        let pod = node.pods.run(handler, "team-a", &format!("{handler}{level}")).unwrap();
        let seen = node.pods.said(handler, &pod, |name| {
            let container =
                with_volume(name, MODEL, "cat /model/data/weights /model/data/new 2>/dev/null; true");
            let id = node.pods.create(&pod, &container)?;
            let place = node.places(&pod);
            let change = format!(
                "echo changed >{place}/data/weights; echo new >{place}/data/new; \
                 cp -r {place}/data {place}.data; mount --bind {place}.data {place}/data",
                place = place.display()
            );
            node.inside(&change);
            node.pods.start(&id)?;
            node.pods.wait(&id)?;
            node.inside(&format!("umount {place}/data; rm -r {place}.data", place = place.display()));
            Ok(id)
        });
        match handler {
            "runc" => assert_eq!(seen.unwrap(), "changed\nnew\n"),
            _ => assert_eq!(seen.unwrap(), WEIGHTS, "{level}"),
        }
        pods.push(pod);
    }
    node.end(&pods);
}

/// An update of the policy counts for an exec in a container that has the image already.
#[test]
fn exec_is_refused_where_the_image_of_a_volume_is_not_allowed_any_more() {
    let node = Node::start();
    let pod = node.pods.run("bulkhead", "team-a", "exec").unwrap();
    let id = node.pods.launch(&pod, &with_volume("one", MODEL, "exec /bin/probe pause")).unwrap();
    let read = ["cat", "/model/data/weights"];
    assert_eq!(node.pods.exec(&id, &read).unwrap().stdout, WEIGHTS);
    node.bench.allow("exec = [\"*\"]").unwrap();
    let error = node.pods.exec(&id, &read).unwrap_err().to_string();
    assert_eq!(Refused::read(&error).unwrap().rule(), "image-digest");
    node.end(&[pod]);
}

/// The same promise as of the image that runs: each file of its layers, and who signed it.
#[test]
fn files_and_signatures_of_an_image_volume_are_proven_as_its_own_scope_wants() {
    let node = Node::start();
    let policy = |model: &str| {
        let digests = &node.bench.digests.manifest;
        node.bench
            .daemon
            .policy(&format!(
                "version = 1\n[image]\n\"registry.test/team-a/busybox\" = {{ digests = [{digests:?}], confine = \"test\" }}\n\
                 \"registry.test/team-a/model\" = {{ {model} }}\n\"registry.test/pause\" = {{ digests = [{:?}] }}\n\
                 [confine.test]\nexec = [\"*\"]\n[rule.ci]\nkeys = [\"ci.pub\"]\n",
                node.bench.pause
            ))
            .unwrap();
    };
    let key = node.bench.daemon.bulkhead_root().join("etc/bulkhead/ci.pub");
    let mut command = std::process::Command::new("openssl");
    command
        .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
        .arg(key.with_extension("key"));
    assert!(command.status().unwrap().success());
    let mut command = std::process::Command::new("openssl");
    command.args(["ec", "-pubout", "-in"]).arg(key.with_extension("key")).arg("-out").arg(&key);
    assert!(command.status().unwrap().success());

    let listed = format!("digests = [{:?}]", node.model);
    policy(&listed);
    let pod = node.pods.run("bulkhead", "team-a", "proven").unwrap();
    for (name, contents) in [("first", "receipt"), ("again", "rehash"), ("known", "receipt")] {
        policy(&format!("{listed}, contents = {contents:?}"));
        assert_eq!(node.seen(&pod, name, "cat /model/data/weights"), WEIGHTS);
    }
    // The file below what containerd has mounted, with its mtime put back.
    let weights = node.weights();
    let modified = fs::metadata(&weights).unwrap().modified().unwrap();
    fs::write(&weights, "weights that were changed\n").unwrap();
    fs::File::options().write(true).open(&weights).unwrap().set_modified(modified).unwrap();
    for contents in ["receipt", "rehash"] {
        policy(&format!("{listed}, contents = {contents:?}"));
        let refused = node.refused(&pod, MODEL);
        assert_eq!(refused.rule(), "image-contents");
        let wanted = "file /data/weights of layer 3";
        assert!(refused.line().contains(wanted), "{}", refused.line());
    }
    policy(&listed);
    assert_eq!(node.seen(&pod, "chain", "cat /model/data/weights"), "weights that were changed\n");
    fs::write(&weights, WEIGHTS).unwrap();

    policy("require = [\"ci\"]");
    let refused = node.refused(&pod, MODEL);
    assert_eq!(refused.rule(), "image-signature");
    assert!(refused.line().contains("the volume on /model"), "{}", refused.line());
    node.end(&[pod]);
}
