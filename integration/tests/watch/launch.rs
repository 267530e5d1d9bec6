//! Launches that lack a signature and, where policy lets them, ask its registry.

use std::{
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;

/// What the last fetch for a launch of this image came to.
fn outcome(daemon: &Containerd, target: &str) -> Option<Value> {
    let fetched = fs::read_dir(daemon.bulkhead_root().join("var/lib/bulkhead/trust/fetched"));
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read(entry.unwrap().path()).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    };
    fetched.into_iter().flatten().filter_map(read).find(|outcome| outcome["target"] == target)
}

/// Forgets that anybody was asked, and what was found.
fn forget(daemon: &Containerd) {
    let trust = daemon.bulkhead_root().join("var/lib/bulkhead/trust");
    for dir in ["fetched", "sha256"] {
        let path = trust.join(dir);
        if path.exists() {
            fs::remove_dir_all(path).unwrap();
        }
    }
}

#[test]
fn a_launch_fetches_what_it_lacks_from_a_registry_that_a_scope_names_and_from_no_other() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let registry =
        Registry::start(RegistryKind::Docker, RegistryDoor::Open, &daemon.dir().join("registry")).unwrap();
    let name = format!("{}/team-a/signed:1", registry.address());
    let image = push(daemon, ALLOWED, &name, &bench.digests.target);
    let ci = Cosign::new(3, &daemon.dir().join("ci"));
    ci.sign(&image);
    daemon.ctr(&["images", "tag", ALLOWED, &name]).unwrap().success().unwrap();
    let scope = format!("{}/team-a/*", registry.address());
    let refused = |id: &str| Refused::of(run(daemon, &name, id)).unwrap();
    for (fetch, scope) in
        [("never", scope.as_str()), ("watch", &scope), ("launch", "*/team-a/*"), ("launch", "**")]
    {
        policy(daemon, &ci, &[scope], fetch);
        assert_eq!(refused("no").rule(), "image-signature", "{fetch} {scope}");
        assert_eq!(outcome(daemon, &bench.digests.target), None, "{fetch} {scope}");
    }
    policy(daemon, &ci, &[&scope], "launch");
    run(daemon, &name, "yes").success().unwrap();
    assert_eq!(recorded(daemon)["signed_by"][0]["rule"], "ci");
    assert_eq!(outcome(daemon, &bench.digests.target).unwrap()["found"]["Ok"], 1);
    // What was fetched stays good without the registry.
    drop(registry);
    run(daemon, &name, "cut-off").success().unwrap();
    assert_eq!(recorded(daemon)["judges"], 0);
    // Without it and without the signature there is nobody to ask, which the refusal says.
    forget(daemon);
    let line = refused("gone").line().to_owned();
    assert!(line.contains("was asked within the last minute: "), "{line}");
    nothing_left(&daemon.bulkhead_root().join("run/bulkhead/judge"));
    bench.assert_nothing_left();
}

#[test]
fn an_image_that_nobody_signed_is_refused_and_its_registry_asked_once() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let registry =
        Registry::start(RegistryKind::Referrers, RegistryDoor::Open, &daemon.dir().join("registry")).unwrap();
    let name = format!("{}/team-a/unsigned:1", registry.address());
    push(daemon, ALLOWED, &name, &bench.digests.target);
    daemon.ctr(&["images", "tag", ALLOWED, &name]).unwrap().success().unwrap();
    let ci = Cosign::new(2, &daemon.dir().join("ci"));
    policy(daemon, &ci, &[&format!("{}/team-a/*", registry.address())], "launch");
    let mut asked = Vec::new();
    for id in ["first", "second"] {
        let line = Refused::of(run(daemon, &name, id)).unwrap().line().to_owned();
        assert!(line.contains("was asked within the last minute and has 0"), "{line}");
        asked.push(outcome(daemon, &bench.digests.target).unwrap());
    }
    assert_eq!(asked[0], asked[1]);
}

#[test]
#[ignore = "long"]
fn launches_wait_together_for_a_registry_that_hangs_and_are_told_to_try_again() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let daemon = &bench.daemon;
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hung.local_addr().unwrap();
    let name = format!("{address}/team-a/hung:1");
    daemon.ctr(&["images", "tag", ALLOWED, &name]).unwrap().success().unwrap();
    let ci = Cosign::new(2, &daemon.dir().join("ci"));
    policy(daemon, &ci, &[&format!("{address}/team-a/*")], "launch");
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&at_once), Arc::clone(&most));
    // Keeps every connection until its other end goes.
    thread::spawn(move || {
        for connection in hung.incoming() {
            let Ok(mut connection) = connection else { return };
            let (at_once, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
            thread::spawn(move || {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let mut byte = [0; 1024];
                while connection.read(&mut byte).is_ok_and(|read| read > 0) {}
                at_once.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    thread::scope(|scope| {
        let launches: Vec<_> = (0..3)
            .map(|number| {
                let name = &name;
                scope.spawn(move || run(daemon, name, &format!("waits-{number}")))
            })
            .collect();
        for launch in launches {
            let output = launch.join().unwrap();
            assert!(!output.ok(), "{output:?}");
            assert!(output.stderr.contains("try again: the fetch goes on"), "{output:?}");
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 1, "one fetch serves all");
    // It ends by itself.
    until("the end of the fetch", SAID, || Ok(outcome(daemon, &bench.digests.target).is_some())).unwrap();
    let outcome = outcome(daemon, &bench.digests.target).unwrap();
    assert!(outcome["found"]["Err"].is_string(), "{outcome}");
    bench.assert_nothing_left();
}
