//! What runs is the image that policy allowed: each yes beside its no, each attack first under runc.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    os::unix::net::UnixListener,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, EVIL, Image, Platforms, RUNC, Refused, RootMount, UID, heard,
    on_each_containerd,
};

const CAT_EVIL: &[&str] = &["/bin/cat", "/etc/evil"];

on_each_containerd! {
    fn an_image_whose_digest_policy_lists_runs_and_another_digest_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        bench.run("yes", &["/bin/true"]).unwrap().success().unwrap();
        bench.allow_digests(&[&format!("sha256:{}", "0".repeat(64))], "").unwrap();
        let refused = Refused::of(bench.run("no", &["/bin/true"]).unwrap()).unwrap();
        assert_eq!(refused.rule(), "image-digest");
        assert!(refused.line().contains(&bench.digests.manifest), "{}", refused.line());
        bench.assert_nothing_left();
    }

    fn an_image_of_several_platforms_runs_by_its_index_or_its_own_manifest_and_not_by_another_platforms(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let mut image = Image::busybox("registry.test/team-a/multi:1", &UID.to_string()).unwrap();
        image.platforms = Platforms::Two;
        let digests = bench.daemon.import(&image).unwrap();
        assert_ne!(digests.target, digests.manifest);
        let run = |name: &str| {
            let id = bench.daemon.id(name);
            bench.daemon.ctr(&["run", "--rm", "--runtime", BULKHEAD, &image.name, &id, "/bin/true"]).unwrap()
        };
        for (name, digest) in [("index", &digests.target), ("manifest", &digests.manifest)] {
            bench.allow_digests(&[digest], "").unwrap();
            run(name).success().unwrap();
        }
        for digest in [&digests.foreign, &digests.config, &digests.chain_id()] {
            bench.allow_digests(&[digest], "").unwrap();
            assert_eq!(Refused::of(run("no")).unwrap().rule(), "image-digest");
        }
        bench.assert_nothing_left();
    }

    fn a_tag_that_was_poisoned_before_create_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let evil = bench.import_evil(ALLOWED).unwrap();
        assert_eq!(bench.says_under(RUNC, "runc", CAT_EVIL).unwrap(), EVIL);
        let refused = Refused::of(bench.run("no", CAT_EVIL).unwrap()).unwrap();
        assert_eq!(refused.rule(), "image-digest");
        assert!(refused.line().contains(&evil.manifest), "{}", refused.line());
        bench.daemon.import(&Image::busybox(ALLOWED, &UID.to_string()).unwrap()).unwrap();
        bench.run("yes", &["/bin/true"]).unwrap().success().unwrap();
        bench.assert_nothing_left();
    }

    fn a_container_whose_tag_moved_after_create_is_refused_and_one_whose_tag_stayed_starts(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let evil = bench.import_evil("registry.test/team-a/evil:1").unwrap();
        // Both digests are allowed, so that binding alone has to see the difference.
        bench.allow_digests(&[&bench.digests.manifest, &evil.manifest], "").unwrap();
        let stays = bench.create_container(BULKHEAD, ALLOWED, "stays", &["/bin/true"]).unwrap();
        bench.start_container(&stays).unwrap().success().unwrap();
        let moves = bench.create_container(BULKHEAD, ALLOWED, "moves", &["/bin/true"]).unwrap();
        let tag = ["images", "tag", "--force", "registry.test/team-a/evil:1", ALLOWED];
        bench.daemon.ctr(&tag).unwrap().success().unwrap();
        let refused = Refused::of(bench.start_container(&moves).unwrap()).unwrap();
        assert_eq!(refused.rule(), "snapshot-chain");
        bench.daemon.ctr(&["task", "delete", &stays]).unwrap();
        bench.assert_nothing_left();
    }

    fn a_directory_instead_of_an_image_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let root = bench.daemon.dir().join("rootfs");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy("/bin/busybox", root.join("bin/true")).unwrap();
        let root = root.display().to_string();
        let run = |runtime: &str| {
            let id = bench.daemon.id("rootfs");
            bench.daemon.ctr(&["run", "--rm", "--runtime", runtime, "--rootfs", &root, &id, "/bin/true"]).unwrap()
        };
        run(RUNC).success().unwrap();
        let refused = Refused::of(run(BULKHEAD)).unwrap();
        assert_eq!(refused.rule(), "image-missing");
        bench.assert_nothing_left();
    }

    fn a_request_with_the_snapshots_own_mounts_starts_and_one_with_other_mounts_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let evil = bench.import_evil("registry.test/team-a/evil:1").unwrap();

        let id = bench.create_container(BULKHEAD, ALLOWED, "own", &["/bin/true"]).unwrap();
        let own = tasks.mounts(&id).unwrap();
        tasks.create(&id, own.clone()).unwrap();
        tasks.start(&id).unwrap();
        assert_eq!(tasks.wait(&id).unwrap(), 0);
        assert_eq!(tasks.delete(&id).unwrap(), 0);

        let other = tasks.prepare("other", &evil.chain_id()).unwrap();
        let bind = |source: &str| RootMount {
            r#type: "bind".to_owned(),
            source: source.to_owned(),
            options: vec!["rbind".to_owned(), "rw".to_owned()],
            ..RootMount::default()
        };
        let mut one_more = own.clone();
        one_more.push(RootMount { target: "etc".to_owned(), ..bind("/etc") });
        let mut other_upper = own.clone();
        for option in other_upper.iter_mut().flat_map(|mount| &mut mount.options) {
            if option.starts_with("upperdir=") {
                *option = format!("upperdir={}", bench.daemon.dir().join("elsewhere").display());
            }
        }
        let root = bench.daemon.dir().display().to_string();
        for (name, rootfs) in
            [("other", other), ("none", Vec::new()), ("bind", vec![bind(&root)]), ("more", one_more), ("upper", other_upper)]
        {
            let id = bench.create_container(BULKHEAD, ALLOWED, name, CAT_EVIL).unwrap();
            // The mounts above are of the first container; to this one they are as foreign.
            let error = tasks.create(&id, rootfs).expect_err(name);
            assert_eq!(Refused::read(&error.to_string()).unwrap().rule(), "rootfs", "{name}: {error}");
        }
        bench.assert_nothing_left();
    }

    fn a_snapshot_of_another_image_under_the_containers_key_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        let evil = bench.import_evil("registry.test/team-a/evil:1").unwrap();
        let swap = |runtime: &str, name: &str| {
            let id = bench.create_container(runtime, ALLOWED, name, CAT_EVIL).unwrap();
            tasks.remove_snapshot(&id).unwrap();
            tasks.prepare(&id, &evil.chain_id()).unwrap();
            id
        };
        let runs = swap(RUNC, "runc");
        assert_eq!(heard(RUNC, || bench.says_again(&runs)).unwrap(), EVIL);
        let refused = Refused::of(bench.start_container(&swap(BULKHEAD, "no")).unwrap()).unwrap();
        assert_eq!(refused.rule(), "snapshot-chain");
        bench.assert_nothing_left();
    }

    /// A snapshot committed under an allowed image's chain ID before its first unpack: import then says "done".
    fn a_chain_id_squatted_on_other_parents_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        squat(&bench, "");
        assert_eq!(bench.says_under(RUNC, "runc", CAT_EVIL).unwrap(), EVIL);
        let refused = Refused::of(bench.run("no", CAT_EVIL).unwrap()).unwrap();
        assert_eq!(refused.rule(), "snapshot-chain");
        bench.assert_nothing_left();
    }

    /// With the right parents below, names prove nothing any more: only a comparison of contents can tell.
    fn a_chain_id_squatted_on_the_right_parents_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let parent = bench.digests.diff_ids[0].clone();
        squat(&bench, &parent);
        assert_eq!(bench.says_under(RUNC, "runc", CAT_EVIL).unwrap(), EVIL);
        let digest = &bench.digests.manifest;
        for contents in ["receipt", "rehash"] {
            let scope = format!("{{ digests = [{digest:?}], contents = {contents:?} }}");
            bench.daemon.policy(&format!("version = 1\n[image]\n\"registry.test/team-a/*\" = {scope}\n")).unwrap();
            let refused = Refused::of(bench.run("no", CAT_EVIL).unwrap()).unwrap();
            assert_eq!(refused.rule(), "image-contents");
            assert!(refused.line().contains("of layer 2"), "{}", refused.line());
        }
        bench.assert_nothing_left();
    }

    fn a_blob_whose_bytes_are_not_its_digest_is_refused(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let blob = bench.daemon.blob(&bench.digests.config);
        let bytes = fs::read(&blob).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        // The container exists before: ctr itself reads the config to make one.
        let id = bench.create_container(BULKHEAD, ALLOWED, "no", &["/bin/true"]).unwrap();
        fs::write(&blob, text.replace("65532", "65533")).unwrap();
        let output = bench.start_container(&id).unwrap();
        fs::write(&blob, bytes).unwrap();
        assert_eq!(Refused::of(output).unwrap().rule(), "image-contents");
        bench.start_container(&id).unwrap().success().unwrap();
        bench.daemon.ctr(&["task", "delete", &id]).unwrap();
        bench.assert_nothing_left();
    }

    fn where_containerds_api_is_absent_or_does_not_answer_nothing_runs_and_the_wait_is_short(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let silent = bench.daemon.dir().join("silent.sock");
        // Takes connections into its backlog and never reads.
        let _listener = UnixListener::bind(&silent).unwrap();
        let absent = bench.daemon.dir().join("absent.sock");
        for (name, socket) in [("absent", absent), ("silent", silent)] {
            let runtime = bench.daemon.runtime_with_api_at(name, &socket).unwrap();
            let started = Instant::now();
            let output = bench.run_under(&runtime, name, &[], &["/bin/echo", "ran"]).unwrap();
            assert!(!output.ok() && !output.stdout.contains("ran"), "{name}: {output:?}");
            assert!(started.elapsed() < Duration::from_secs(45), "{name}: {:?}", started.elapsed());
            bench.assert_nothing_left();
        }
        let same = bench.daemon.runtime_with_api_at("same", &bench.daemon.socket()).unwrap();
        bench.run_under(&same, "same", &[], &["/bin/true"]).unwrap().success().unwrap();
        bench.assert_nothing_left();
    }
}

/// Takes the top layer's snapshot away and puts another under its name, on `parent`; then imports the image again.
fn squat(bench: &Bench, parent: &str) {
    let tasks = bench.daemon.tasks().unwrap();
    let (chain, target) = (bench.digests.chain_id(), "squatter");
    // In this order: the squatter keeps its parent, which nothing else would.
    let mounts = tasks.prepare(target, parent).unwrap();
    tasks.remove_snapshot(&chain).unwrap();
    let upper = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir="));
    let dir = std::path::PathBuf::from(upper.unwrap_or(&mounts[0].source));
    for name in ["bin", "etc"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::write(dir.join("etc/evil"), EVIL).unwrap();
    for name in ["cat", "true"] {
        fs::copy("/bin/busybox", dir.join("bin").join(name)).unwrap();
    }
    tasks.commit(&chain, target).unwrap();
    bench.daemon.import(&Image::busybox(ALLOWED, &UID.to_string()).unwrap()).unwrap();
}
