//! Signatures of the real cosign, from real registries, into the node's store.

#![allow(clippy::unwrap_used)]

#[path = "trust/cosign.rs"]
mod cosign;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, time::Duration};

use bulkhead_integration::{
    ALLOWED, Bench, Cri, Output, REGISTRY_USER, Refused, Registry, RegistryDoor, RegistryKind, Release,
    bulkhead_dir, run,
};
use cosign::Cosign;
use serde_json::Value;

/// `bulkhead --root ROOT --json WORDS`, with docker's configuration of nobody.
fn bulkhead(root: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
    command.arg("--root").arg(root).arg("--json").args(words).env("DOCKER_CONFIG", root.join("none"));
    run(&mut command, Duration::from_secs(60)).unwrap()
}

fn answered(output: &Output, status: i32) -> Value {
    assert_eq!(output.code(), status, "{output:?}");
    serde_json::from_str(&output.stdout).unwrap()
}

/// Pushes the allowed image under another name; by digest.
fn pushed(bench: &Bench, registry: &Registry, options: &[&str]) -> String {
    let name = format!("{}/team-a/busybox", registry.address());
    let tagged = format!("{name}:1");
    let words = [&["images", "push"], options, &[tagged.as_str(), ALLOWED]].concat();
    bench.daemon.ctr(&words).unwrap().success().unwrap();
    format!("{name}@{}", bench.digests.target)
}

fn kept(root: &Path) -> Vec<(String, String)> {
    let list = answered(&bulkhead(root, &["trust", "list"]), 0);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (text(&file["subject"]), text(&file["format"])))
        .collect()
}

#[test]
fn signatures_of_cosign_2_and_3_are_fetched_from_both_kinds_of_registry() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let dir = bench.daemon.dir();
    for kind in RegistryKind::ALL {
        let registry = Registry::start(kind, RegistryDoor::Open, &dir.join(format!("{kind:?}"))).unwrap();
        let image = pushed(&bench, &registry, &["--plain-http"]);
        let root = dir.join(format!("root-{kind:?}"));
        let none = answered(&bulkhead(&root, &["trust", "fetch", &image]), 1);
        assert_eq!(none["new"], 0, "{none}");

        for version in [2, 3] {
            Cosign::new(version, &dir.join(format!("cosign-{kind:?}-{version}"))).sign(&image);
        }
        let found = answered(&bulkhead(&root, &["trust", "fetch", &image]), 0);
        assert_eq!((&found["new"], &found["skipped"]), (&2.into(), &Value::Array(vec![])), "{found}");
        let mut list = kept(&root);
        list.sort();
        let target = bench.digests.target.clone();
        let both = ["bundle", "simple-signing"].map(|format| (target.clone(), format.to_owned()));
        assert_eq!(list, both, "{kind:?}");
        // The same again adds nothing; what is removed is gone.
        assert_eq!(answered(&bulkhead(&root, &["trust", "fetch", &image]), 0)["known"], 2);
        assert_eq!(answered(&bulkhead(&root, &["trust", "remove", &target]), 0)["removed"], 2);
        answered(&bulkhead(&root, &["trust", "remove", &target]), 1);
        assert_eq!(kept(&root), []);
    }
}

#[test]
fn registry_with_tls_and_a_password_is_asked_by_the_nodes_configuration_and_not_without_it() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let dir = bench.daemon.dir();
    for kind in RegistryKind::ALL {
        let registry = Registry::start(kind, RegistryDoor::Guarded, &dir.join(format!("{kind:?}"))).unwrap();
        let image = pushed(&bench, &registry, &["--local", "--skip-verify", "--user", REGISTRY_USER]);
        let root = dir.join(format!("root-{kind:?}"));
        let hosts = dir.join(format!("certs-{kind:?}"));
        let host = hosts.join(registry.address());
        fs::create_dir_all(&host).unwrap();
        let certs = |text: &str| fs::write(host.join("hosts.toml"), text).unwrap();
        let address = format!("https://{}", registry.address());
        let trusting = format!("server = \"{address}\"\nca = {:?}\n", registry.authority());
        let config = dir.join(format!("docker-{kind:?}.json"));
        let (user, password) = REGISTRY_USER.split_once(':').unwrap();
        let auths = |password: &str| {
            let text = serde_json::json!({ "auths": { registry.address(): { "username": user, "password": password } } });
            fs::write(&config, text.to_string()).unwrap();
        };
        let fetch = || {
            let options =
                ["--hosts-dir", hosts.to_str().unwrap(), "--docker-config", config.to_str().unwrap()];
            bulkhead(&root, &[&["trust", "fetch", image.as_str()], options.as_slice()].concat())
        };
        certs(&trusting);
        auths(password);
        answered(&fetch(), 1);
        auths("wrong");
        answered(&fetch(), 3);
        auths(password);
        certs(&format!("server = \"{address}\"\n"));
        let failed = answered(&fetch(), 3);
        assert!(failed["failed"].as_str().unwrap().contains("ertificate"), "{failed}");
        certs(&format!("server = \"{address}\"\nskip_verify = true\n"));
        answered(&fetch(), 1);
    }
}

#[test]
fn what_cosign_saved_is_imported_as_directory_tarball_and_bundle_file() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let dir = bench.daemon.dir();
    let registry = Registry::start(RegistryKind::Docker, RegistryDoor::Open, &dir.join("registry")).unwrap();
    let image = pushed(&bench, &registry, &["--plain-http"]);
    let cosign = Cosign::new(2, &dir.join("cosign-2"));
    cosign.sign(&image);
    let saved = dir.join("saved");
    cosign.save(&image, &saved);
    let tarball = dir.join("saved.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&tarball).arg("-C").arg(&saved).arg(".");
    run(&mut tar, Duration::from_secs(60)).unwrap().success().unwrap();
    for (name, path) in [("directory", &saved), ("tarball", &tarball)] {
        let root = dir.join(format!("root-{name}"));
        let found = answered(&bulkhead(&root, &["trust", "import", path.to_str().unwrap()]), 0);
        assert_eq!(found["new"], 1, "{name}: {found}");
        assert_eq!(kept(&root), [(bench.digests.target.clone(), "simple-signing".to_owned())]);
    }

    // cosign 3 saves its bundle beside the image, listed nowhere.
    let cosign = Cosign::new(3, &dir.join("cosign-3"));
    cosign.sign(&image);
    let saved = dir.join("saved-3");
    cosign.save(&image, &saved);
    let root = dir.join("root-saved-3");
    answered(&bulkhead(&root, &["trust", "import", saved.to_str().unwrap()]), 0);
    assert!(kept(&root).contains(&(bench.digests.target.clone(), "bundle".to_owned())));

    // A bundle as a file: one that was fetched, taken out of the store.
    let fetched = dir.join("root-fetched");
    answered(&bulkhead(&fetched, &["trust", "fetch", &image]), 0);
    let hex = bench.digests.target.trim_start_matches("sha256:").to_owned();
    let files = fs::read_dir(fetched.join("var/lib/bulkhead/trust/sha256").join(hex)).unwrap();
    let bundle = files
        .map(|file| file.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".bundle.json"))
        .unwrap();
    let root = dir.join("root-file");
    answered(&bulkhead(&root, &["trust", "import", bundle.to_str().unwrap()]), 0);
    assert_eq!(kept(&root), [(bench.digests.target.clone(), "bundle".to_owned())]);

    // What is nothing of the kind is not taken for it.
    let cut = dir.join("cut.json");
    let bytes = fs::read(&bundle).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let short = dir.join("short.tar");
    let bytes = fs::read(&tarball).unwrap();
    fs::write(&short, &bytes[..bytes.len() / 3]).unwrap();
    for path in [&cut, &short, &dir.join("nowhere"), &dir.join("config.toml"), Path::new("/dev/zero")] {
        answered(&bulkhead(&dir.join("root-none"), &["trust", "import", path.to_str().unwrap()]), 3);
    }
    assert_eq!(kept(&dir.join("root-none")), []);
}

/// A policy that wants a signature by the key of `cosign`, for images of `scope`.
fn require_signature(bench: &Bench, cosign: &Cosign, scope: &str) {
    bench
        .daemon
        .policy(&format!(
            "version = 1\n[image]\n\"{scope}\" = {{ require = [\"signed-by-ci\"] }}\n[rule.signed-by-ci]\nkeys = [\"keys/ci.pub\"]\n"
        ))
        .unwrap();
    let keys = bench.daemon.bulkhead_root().join("etc/bulkhead/keys");
    fs::create_dir_all(&keys).unwrap();
    fs::write(keys.join("ci.pub"), cosign.public_key()).unwrap();
}

fn run_on_disk(mut command: Command) {
    run(&mut command, Duration::from_secs(60)).unwrap().success().unwrap();
}

#[test]
fn verify_names_signers_and_what_to_do_and_the_launch_says_the_same() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let dir = bench.daemon.dir();
    let registry = Registry::start(RegistryKind::Docker, RegistryDoor::Open, &dir.join("registry")).unwrap();
    let image = pushed(&bench, &registry, &["--plain-http"]);
    let (ci, stranger) = (Cosign::new(3, &dir.join("ci")), Cosign::new(2, &dir.join("stranger")));
    require_signature(&bench, &ci, "registry.test/team-a/*");
    let root = bench.daemon.bulkhead_root();
    let verify = |image: &str, status: i32| {
        let words = ["--json", "verify", image, "--namespace", bench.daemon.tag()];
        answered(&bench.daemon.bulkhead(&words).unwrap(), status)
    };
    let refused = verify(ALLOWED, 1);
    let run = || bench.run("c", &["/bin/true"]).unwrap();
    let rule = refused["verdict"]["refused"]["rule"].as_str().unwrap().to_owned();
    assert_eq!(Refused::of(run()).unwrap().rule(), rule);

    // Signed by somebody, and by nobody that policy names.
    stranger.sign(&image);
    answered(&bulkhead(&root, &["trust", "fetch", &image]), 0);
    let refused = verify(ALLOWED, 1);
    assert_eq!(refused["signatures"]["rejected"].as_array().unwrap().len(), 1, "{refused}");
    Refused::of(run()).unwrap();

    ci.sign(&image);
    answered(&bulkhead(&root, &["trust", "fetch", &image]), 0);
    let admitted = verify(ALLOWED, 0);
    assert_eq!(admitted["verdict"]["admitted"]["rules"][0]["rule"], "signed-by-ci", "{admitted}");
    assert_eq!(admitted["signatures"]["signatures"].as_array().unwrap().len(), 1, "{admitted}");
    run().success().unwrap();
    let record = fs::read_to_string(root.join("var/lib/bulkhead/audit/verdicts.jsonl")).unwrap();
    let last: Value = serde_json::from_str(record.lines().last().unwrap()).unwrap();
    assert_eq!((&last["verdict"], &last["signed_by"][0]["rule"]), (&"allow".into(), &"signed-by-ci".into()));

    // The same image by its digest, and as a layout that containerd never saw.
    assert_eq!(verify(&bench.digests.target, 0)["facts"], admitted["facts"]);
    let layout = dir.join("layout.tar");
    bulkhead_integration::Image::busybox(ALLOWED, &bulkhead_integration::UID.to_string())
        .unwrap()
        .write(&layout)
        .unwrap();
    assert_eq!(verify(&format!("oci:{}:1", layout.display()), 0)["facts"], admitted["facts"]);
    verify(&format!("oci:{}:2", layout.display()), 1);
    let text = bench.daemon.bulkhead(&["verify", &format!("oci:{}:1", layout.display())]).unwrap().stdout;
    assert!(text.contains("index.json of") && text.contains("snapshots not in containerd"), "{text}");
    // A layer whose bytes are others than its name says, in a layout.
    let unpacked = dir.join("layout");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xf").arg(&layout).arg("-C").arg(&unpacked);
    run_on_disk(tar);
    let place = format!("oci:{}:1", unpacked.display());
    verify(&place, 0);
    let layer = admitted["facts"]["layers"][0].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    fs::write(unpacked.join("blobs/sha256").join(layer), "another layer").unwrap();
    assert_eq!(verify(&place, 1)["verdict"]["refused"]["rule"], "image-contents");
    // For people: who signed, and why the other one counts for nothing.
    let words = ["verify", ALLOWED, "--namespace", bench.daemon.tag()];
    let text = bench.daemon.bulkhead(&words).unwrap().stdout;
    assert!(text.contains("rule      [rule.signed-by-ci] is passed by key sha256:"), "{text}");
    assert!(text.contains("rejected  sha256:"), "{text}");
    // Every link with what proves it, down to the files.
    let links: Vec<&str> =
        admitted["links"].as_array().unwrap().iter().map(|link| link["link"].as_str().unwrap()).collect();
    assert_eq!(
        links,
        [["target", "manifest", "config"], ["layer 1", "diff", "chain"], ["layer 2", "diff", "chain"]]
            .concat(),
        "{admitted}"
    );
    let overlayfs = &admitted["unpacked"][0];
    assert_eq!(
        (&overlayfs["chain"], &overlayfs["contents"]),
        (&"closed".into(), &"receipt".into()),
        "{admitted}"
    );
    for said in [
        "containerd's image of that name points to it",
        "named by the manifest; its bytes hash to this",
        "bytes in the content store",
        "snapshots overlayfs: 2 committed, named by the chain IDs",
        "contents  overlayfs: each file is as it was when it was compared",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    let snapshots = dir.join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let mut layers =
        fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().path().join("fs/bin/busybox"));
    let file = layers.find(|file| file.exists()).unwrap();
    let (size, file) =
        (fs::metadata(&file).unwrap().len(), fs::File::options().append(true).open(file).unwrap());
    std::io::Write::write_all(&mut &file, b"changed").unwrap();
    let changed = verify(ALLOWED, 1);
    assert_eq!(changed["verdict"]["refused"]["rule"], "image-contents", "{changed}");
    let text = bench.daemon.bulkhead(&words).unwrap().stdout;
    assert!(text.contains("NOT PROVEN: file /bin/"), "{text}");
    file.set_len(size).unwrap();
    verify(ALLOWED, 0);
    // What is removed counts no more.
    answered(&bulkhead(&root, &["trust", "remove", &bench.digests.target]), 0);
    verify(ALLOWED, 1);
    Refused::of(run()).unwrap();
}

#[test]
fn pull_of_an_unsigned_image_is_refused_before_it_begins_and_of_a_signed_one_is_not() {
    let mut bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let dir = bench.daemon.dir().to_owned();
    let registry = Registry::start(RegistryKind::Docker, RegistryDoor::Open, &dir.join("registry")).unwrap();
    let image = pushed(&bench, &registry, &["--plain-http"]);
    let ci = Cosign::new(3, &dir.join("ci"));
    require_signature(&bench, &ci, &format!("{}/team-a/*", registry.address()));
    let root = bench.daemon.bulkhead_root();

    let verifiers = dir.join("verifiers");
    fs::create_dir(&verifiers).unwrap();
    let program = bulkhead_dir().unwrap().join("bulkhead");
    let script = format!(
        "#!/bin/sh\nBULKHEAD_ROOT={} exec {} image-verifier \"$@\"\n",
        root.display(),
        program.display()
    );
    fs::write(verifiers.join("bulkhead"), script).unwrap();
    fs::set_permissions(verifiers.join("bulkhead"), fs::Permissions::from_mode(0o755)).unwrap();
    let config = dir.join("config.toml");
    let mut text = fs::read_to_string(&config).unwrap();
    let plugin = "io.containerd.image-verifier.v1.bindir";
    text.push_str(&format!("[plugins.{plugin:?}]\n  bin_dir = {verifiers:?}\n"));
    fs::write(&config, text).unwrap();
    bench.daemon.restart().unwrap();

    let pull = || bench.daemon.ctr(&["images", "pull", "--plain-http", &image]).unwrap();
    let refused = pull();
    assert!(!refused.ok() && refused.stderr.contains("bulkhead refused"), "{refused:?}");
    ci.sign(&image);
    answered(&bulkhead(&root, &["trust", "fetch", &image]), 0);
    pull().success().unwrap();
    // Names that no scope knows are refused whoever signed them.
    bench.daemon.policy("version = 1\n[image]\n").unwrap();
    bench.daemon.ctr(&["images", "rm", &image]).unwrap().success().unwrap();
    assert!(!pull().ok());
}
