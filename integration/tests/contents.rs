//! The files below a container's root are those of its image's tars: each yes beside its no.
//!
//! What containerd unpacks is the oracle: whatever it makes of a tar must be found to be the same.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "contents/edits.rs"]
mod edits;
#[path = "contents/shapes.rs"]
mod shapes;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Digests, EVIL, Image, Output, RUNC, Refused, UID, heard,
    on_each_containerd,
};

/// Lets these images run, their contents proven so.
fn allow(bench: &Bench, digests: &[&Digests], contents: &str) {
    let digests: Vec<&str> = digests.iter().map(|digests| digests.manifest.as_str()).collect();
    bench
        .daemon
        .policy(&format!(
            "version = 1\n[image]\n\"registry.test/team-a/*\" = {{ digests = {digests:?}, contents = {contents:?} }}\n"
        ))
        .unwrap();
}

fn run(bench: &Bench, image: &Image, name: &str) -> Output {
    let id = bench.daemon.id(name);
    bench.daemon.ctr(&["run", "--rm", "--runtime", BULKHEAD, &image.name, &id, "/bin/true"]).unwrap()
}

/// The directories of a container's layers, the lowest first.
fn layers(bench: &Bench, image: &Image) -> Vec<PathBuf> {
    let id = bench.create_container(BULKHEAD, &image.name, "layers", &["/bin/true"]).unwrap();
    let mounts = bench.daemon.tasks().unwrap().mounts(&id).unwrap();
    let lower = mounts[0].options.iter().find_map(|option| option.strip_prefix("lowerdir=")).unwrap();
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    lower.split(':').rev().map(PathBuf::from).collect()
}

/// The stored receipts: file and text.
fn receipts(bench: &Bench) -> Vec<(PathBuf, String)> {
    let dir = bench.daemon.bulkhead_root().join("var/lib/bulkhead/receipts");
    let mut found = Vec::new();
    for chain in fs::read_dir(dir).unwrap().flatten() {
        for file in fs::read_dir(chain.path()).unwrap().flatten() {
            found.push((file.path(), fs::read_to_string(file.path()).unwrap()));
        }
    }
    found.sort();
    found
}

/// How many judges were started for containers whose id has this word.
fn judges(bench: &Bench, word: &str) -> u64 {
    let record = bench.daemon.bulkhead_root().join("var/lib/bulkhead/audit/verdicts.jsonl");
    let text = fs::read_to_string(record).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mine = lines.filter(|line| line["container"].as_str().unwrap().contains(word));
    mine.map(|line| line["judges"].as_u64().unwrap_or_default()).sum()
}

on_each_containerd! {
    fn what_containerd_unpacks_is_found_to_be_the_same_whatever_its_shape(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let image = shapes::image("registry.test/team-a/shapes:1");
        let digests = bench.daemon.import(&image).unwrap();
        for contents in ["receipt", "receipt", "rehash"] {
            allow(&bench, &[&digests], contents);
            run(&bench, &image, contents).success().unwrap();
        }
        assert_eq!(receipts(&bench).len(), image.layers.len());
        bench.assert_nothing_left();
    }

    fn a_debian_userland_is_found_to_be_the_same(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let mut image = Image::userland("registry.test/team-a/userland:1").unwrap();
        image.layers = image.layers.into_iter().map(|layer| layer.in_gzip().unwrap()).collect();
        let digests = bench.daemon.import(&image).unwrap();
        allow(&bench, &[&digests], "receipt");
        run(&bench, &image, "yes").success().unwrap();
        assert_eq!(receipts(&bench).len(), 1);
        bench.assert_nothing_left();
    }

    /// Each edit is made, seen, and taken back; some leave the mtime as it was.
    fn whatever_is_changed_below_a_container_is_refused_by_its_path(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let image = shapes::image("registry.test/team-a/shapes:1");
        let digests = bench.daemon.import(&image).unwrap();
        allow(&bench, &[&digests], "receipt");
        run(&bench, &image, "before").success().unwrap();
        let layers = layers(&bench, &image);
        for edit in edits::all() {
            let layer = &layers[edit.layer];
            let kept = edits::Kept::of(layer);
            (edit.make)(layer);
            let refused = Refused::of(run(&bench, &image, "no")).unwrap_or_else(|error| panic!("{}: {error}", edit.what));
            assert_eq!(refused.rule(), "image-contents", "{}: {}", edit.what, refused.line());
            let wanted = format!("file {} of layer {}", edit.path, edit.layer + 1);
            assert!(refused.line().contains(&wanted), "{}: {}", edit.what, refused.line());
            assert!(refused.line().contains(edit.said), "{}: {}", edit.what, refused.line());
            kept.restore(layer);
        }
        run(&bench, &image, "after").success().unwrap();
        bench.assert_nothing_left();
    }

    /// Counted in the record of verdicts: each line says how many judges its request has started.
    fn launches_at_once_compare_once(release) {
        const LAUNCHES: usize = 16;
        let bench = Bench::start(release, Cri::Off).unwrap();
        let image = shapes::image("registry.test/team-a/shapes:1");
        let digests = bench.daemon.import(&image).unwrap();
        allow(&bench, &[&digests], "chain");
        run(&bench, &image, "facts").success().unwrap();
        assert_eq!(judges(&bench, "at-once"), 0);
        allow(&bench, &[&digests], "receipt");
        std::thread::scope(|scope| {
            let (bench, image) = (&bench, &image);
            let launches: Vec<_> =
                (0..LAUNCHES).map(|n| scope.spawn(move || run(bench, image, &format!("at-once-{n}")))).collect();
            for launch in launches {
                launch.join().unwrap().success().unwrap();
            }
        });
        assert_eq!(judges(&bench, "at-once"), 1);
        run(&bench, &image, "at-once-more").success().unwrap();
        assert_eq!(judges(&bench, "at-once"), 1);
        bench.assert_nothing_left();
    }

    /// What a client puts into the snapshot that it then has run.
    fn files_in_the_containers_own_layer_are_refused_before_its_first_process(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let evil = |name: &str, runtime: &str| {
            let id = bench.create_container(runtime, ALLOWED, name, &["/bin/cat", "/etc/evil"]).unwrap();
            let mounts = bench.daemon.tasks().unwrap().mounts(&id).unwrap();
            let own = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir=")).unwrap();
            fs::create_dir_all(Path::new(own).join("etc")).unwrap();
            fs::write(Path::new(own).join("etc/evil"), EVIL).unwrap();
            id
        };
        let runs = evil("runc", RUNC);
        assert_eq!(heard(RUNC, || bench.says_again(&runs)).unwrap(), EVIL);
        allow(&bench, &[&bench.digests], "receipt");
        let refused = Refused::of(bench.start_container(&evil("no", BULKHEAD)).unwrap()).unwrap();
        assert!(refused.line().contains("own layer has /etc/evil"), "{}", refused.line());
        // What a run itself leaves there, places for mounts, is no reason: the same container starts twice.
        let id = bench.create_container(BULKHEAD, ALLOWED, "twice", &["/bin/true"]).unwrap();
        for _ in 0..2 {
            bench.start_container(&id).unwrap().success().unwrap();
            bench.daemon.ctr(&["task", "delete", &id]).unwrap();
        }
        bench.assert_nothing_left();
    }

    fn a_layer_whose_blob_is_gone_is_refused_by_name_and_goes_on_by_its_receipt(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let image = Image::busybox(ALLOWED, &UID.to_string()).unwrap();
        let top = bench.digests.layers[1].clone();
        let blob = bench.daemon.blob(&top);
        let bytes = fs::read(&blob).unwrap();
        fs::remove_file(&blob).unwrap();
        allow(&bench, &[&bench.digests], "receipt");
        let refused = Refused::of(run(&bench, &image, "no")).unwrap();
        assert!(refused.line().contains(&format!("the blob of layer 2 ({top}) is not")), "{}", refused.line());
        fs::write(&blob, &bytes).unwrap();
        run(&bench, &image, "yes").success().unwrap();
        fs::remove_file(&blob).unwrap();
        run(&bench, &image, "receipt").success().unwrap();
        allow(&bench, &[&bench.digests], "rehash");
        assert_eq!(Refused::of(run(&bench, &image, "rehash")).unwrap().rule(), "image-contents");
        allow(&bench, &[&bench.digests], "chain");
        run(&bench, &image, "chain").success().unwrap();
        // Other bytes under its name.
        let mut spoilt = bytes.clone();
        *spoilt.last_mut().unwrap() ^= 1;
        fs::write(&blob, spoilt).unwrap();
        allow(&bench, &[&bench.digests], "rehash");
        let refused = Refused::of(run(&bench, &image, "spoilt")).unwrap();
        assert!(refused.line().contains("does not hash to its name"), "{}", refused.line());
        bench.assert_nothing_left();
    }
}
