//! Layers that containerd's EROFS snapshotter keeps as images: bound, compared and mounted from their files; by containerd
//! 2.1, which mounts them where it keeps them, and by 2.4, whose mount manager mounts them for each task.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "contents/shapes.rs"]
mod shapes;

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Digests, Entry, Image, Layer, Output, RUNC, Refused, Release, UID, heard,
};

const CONTENT: &[u8] = b"a file of the image that nobody has changed since it was unpacked\n";

struct Node {
    bench: Bench,
    image: Image,
    digests: Digests,
}

impl Node {
    fn start(release: Release, image: Image) -> Self {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let digests = bench.daemon.import(&image).unwrap();
        Self { bench, image, digests }
    }

    fn allow(&self, contents: &str) {
        self.bench
            .daemon
            .policy(&format!(
                "version = 1\n[image]\n\"registry.test/team-a/*\" = {{ digests = [{:?}], contents = {contents:?} }}\n",
                self.digests.manifest
            ))
            .unwrap();
    }

    fn run(&self, runtime: &str, name: &str, command: &[&str]) -> Output {
        self.run_as(&["--rm"], runtime, name, command)
    }

    fn run_as(&self, how: &[&str], runtime: &str, name: &str, command: &[&str]) -> Output {
        let id = self.bench.daemon.id(name);
        let mut args = vec!["run", "--snapshotter", "erofs", "--runtime", runtime];
        args.extend(how);
        args.extend([self.image.name.as_str(), &id]);
        args.extend(command);
        self.bench.daemon.ctr(&args).unwrap()
    }

    fn refused(&self) -> Refused {
        let refused = Refused::of(self.run(BULKHEAD, "no", &["/bin/cat", "/data/file"])).unwrap();
        assert_eq!(refused.rule(), "image-contents", "{}", refused.line());
        refused
    }

    /// containerd 2.1's own mounts stay as long as its snapshots do.
    fn end(&self) {
        for image in self.images().iter().filter(|_| self.bench.daemon.version() < (2, 2)) {
            self.inside(&format!("umount {}", image.with_file_name("fs").display()));
        }
        self.bench.assert_nothing_left();
    }

    /// Runs a script where containerd's mounts are.
    fn inside(&self, script: &str) {
        let mut shell = self.bench.daemon.inside(Path::new("/bin/sh"));
        assert!(shell.args(["-ec", script]).status().unwrap().success(), "{script}");
    }

    /// The images of the layers, by size.
    fn images(&self) -> Vec<PathBuf> {
        let dir = self.bench.daemon.dir().join("root/io.containerd.snapshotter.v1.erofs/snapshots");
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().join("layer.erofs"));
        let mut images: Vec<PathBuf> = files.filter(|file| file.exists()).collect();
        images.sort_by_key(|file| file.metadata().unwrap().size());
        images
    }
}

fn image() -> Image {
    let data = [Entry::Dir("data", 0o755), Entry::File("data/file", 0o644, CONTENT)];
    Image::busybox(ALLOWED, &UID.to_string()).unwrap().with(Layer::of(&data).unwrap())
}

/// Where the file's bytes lie in an image without compression.
fn place_of_content(image: &Path) -> u64 {
    let bytes = fs::read(image).unwrap();
    let at = bytes.windows(CONTENT.len()).position(|window| window == CONTENT).unwrap();
    at as u64
}

/// One test for each way in which containerd mounts them; 2.4 is built first.
macro_rules! on_each_erofs {
    ($($(#[$meta:meta])* fn $name:ident($release:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            fn body($release: Release) $body

            #[test]
            fn on_2_1() {
                body(Release::V2_1);
            }

            #[test]
            #[ignore = "long"]
            fn on_2_4() {
                body(Release::V2_4);
            }
        }
    )*};
}

on_each_erofs! {

fn what_containerd_keeps_in_erofs_is_found_to_be_the_same_whatever_its_shape(release) {
    let node = Node::start(release, shapes::image("registry.test/team-a/shapes:1"));
    for contents in ["chain", "receipt", "receipt", "rehash"] {
        node.allow(contents);
        node.run(BULKHEAD, contents, &["/bin/true"]).success().unwrap();
    }
    assert_eq!(node.images().len(), node.image.layers.len());
    node.end();
}

/// The mtime is put back; the ctime tells. Under runc the attack bites.
fn a_file_that_was_changed_inside_of_a_layers_image_is_refused_by_its_path(release) {
    let node = Node::start(release, image());
    node.allow("receipt");
    let cat = ["/bin/cat", "/data/file"];
    assert_eq!(node.run(BULKHEAD, "before", &cat).stdout.as_bytes(), CONTENT);
    let image = node.images().into_iter().next().unwrap();
    let modified = fs::metadata(&image).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&image).unwrap();
    let place = place_of_content(&image);
    file.write_all_at(b"A", place).unwrap();
    file.set_modified(modified).unwrap();
    for contents in ["receipt", "rehash"] {
        node.allow(contents);
        let refused = node.refused();
        assert!(refused.line().contains("file /data/file of layer"), "{}", refused.line());
        assert!(refused.line().contains("other bytes"), "{}", refused.line());
    }
    file.write_all_at(&CONTENT[..1], place).unwrap();
    node.allow("receipt");
    assert_eq!(node.run(BULKHEAD, "after", &cat).stdout.as_bytes(), CONTENT);
    node.end();
}

/// An image of one layer, which is seen by a container that writes nothing: containerd 2.4 leaves its shims nothing to
/// mount of it.
fn image_of_a_single_layer_runs_read_only_and_not(release) {
    let mut image = Image::busybox(ALLOWED, &UID.to_string()).unwrap();
    image.layers.truncate(1);
    let node = Node::start(release, image);
    node.allow("receipt");
    node.run(BULKHEAD, "written", &["/bin/true"]).success().unwrap();
    node.run_as(&["--rm", "--read-only"], BULKHEAD, "read", &["/bin/true"]).success().unwrap();
    node.end();
}

/// The root is an overlay of the snapshots' own places, wherever containerd has mounted them.
fn root_is_made_of_the_layers_that_the_snapshots_have(release) {
    let node = Node::start(release, image());
    node.allow("receipt");
    let shown = node.run(BULKHEAD, "root", &["/bin/cat", "/proc/self/mountinfo"]).success().unwrap().stdout;
    let root = shown.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    let snapshots = node.bench.daemon.dir().join("root/io.containerd.snapshotter.v1.erofs/snapshots");
    let lower = root.split([',', ' ']).filter_map(|option| {
        option.strip_prefix("lowerdir+=").or_else(|| option.strip_prefix("lowerdir="))
    });
    let lower: Vec<&str> = lower.flat_map(|layers| layers.split(':')).collect();
    assert_eq!(lower.len(), node.image.layers.len(), "{root}");
    assert!(lower.iter().all(|layer| Path::new(layer).starts_with(&snapshots)), "{root}");
    node.end();
}

}

/// What is mounted where containerd mounts a layer is what runc shows; Bulkhead mounts the layer's own image.
#[test]
fn what_is_mounted_over_a_layers_place_is_not_seen() {
    let node = Node::start(Release::V2_1, image());
    node.allow("receipt");
    let cat = ["/bin/cat", "/data/file"];
    node.run(BULKHEAD, "first", &cat).success().unwrap();
    let image = node.images().into_iter().next().unwrap();
    let place = image.with_file_name("fs");
    let other = node.bench.daemon.dir().join("other");
    fs::create_dir_all(other.join("data")).unwrap();
    fs::write(other.join("data/file"), "another file\n").unwrap();
    let script = format!(
        "mkfs.erofs -q {0}.erofs {0} 2>/dev/null >&2 || mkfs.erofs --quiet {0}.erofs {0}; mount -t erofs -o loop,ro {0}.erofs {1}",
        other.display(),
        place.display()
    );
    node.inside(&script);
    let runc = heard(RUNC, || Ok(node.run(RUNC, "runc", &cat).success()?.stdout));
    let seen = (runc, node.run(BULKHEAD, "bulkhead", &cat));
    node.inside(&format!("umount {}", place.display()));
    assert_eq!(seen.0.unwrap(), "another file\n");
    assert_eq!(seen.1.stdout.as_bytes(), CONTENT, "{:?}", seen.1);
    node.end();
}
