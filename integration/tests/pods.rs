//! Pods through CRI, under Bulkhead.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    cell::Cell,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bulkhead_integration::{
    ALLOWED, Answers, Bench, ContainerOptions, Cri, Image, PAUSE, Refused, Release, UID, heard, namespaces,
    on_each_cri, parent_of, runcs, until,
};

on_each_cri! {
    fn a_pod_of_two_containers_lives_and_leaves_nothing(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "one").unwrap();
        // Not counted by processes: a worker that has answered may be there for a moment more.
        let tasks = bench.daemon.tasks_in("k8s.io").unwrap();
        let server_of = |id: &str| parent_of(tasks.state(id, "").unwrap().pid).unwrap();

        let sleeper = ContainerOptions::restricted("sleeper", ALLOWED, &["/bin/probe", "pause"]);
        let sleeper = pods.launch(&pod, &sleeper).unwrap();
        let teller = ContainerOptions::restricted("teller", ALLOWED, &["/bin/probe", "facts"]);
        let teller = pods.launch(&pod, &teller).unwrap();
        assert_eq!(server_of(&sleeper), server_of(&pod.id), "one server serves the whole pod");
        let another = pods.launch(&pod, &ContainerOptions::restricted("another", ALLOWED, &["/bin/probe", "pause"]));
        assert_eq!(server_of(&another.unwrap()), server_of(&pod.id), "also after the first");
        assert_eq!(pods.wait(&teller).unwrap(), 0);

        let facts = Answers::read(&pods.output(&pod, "teller").unwrap()).unwrap();
        assert_eq!(facts.get("Uid"), "65532 65532 65532 65532");
        assert_eq!((facts.get("NoNewPrivs"), facts.get("Seccomp")), ("1", "2"));

        let executed = pods.exec(&sleeper, &["/bin/sh", "-c", "echo in; exit 3"]).unwrap();
        assert_eq!((executed.stdout.as_str(), executed.code), ("in\n", 3));
        let memory = pods.stats(&sleeper).unwrap().memory.unwrap_or_default();
        assert!(memory.working_set_bytes.is_some_and(|bytes| bytes.value > 0), "{memory:?}");

        pods.stop(&sleeper, 5).unwrap();
        // The probe ends with 0 on SIGTERM; 137 would say that it had to be killed.
        assert_eq!(pods.exit_code(&sleeper).unwrap(), Some(0));
        pods.remove(&sleeper).unwrap();
        pods.remove(&teller).unwrap();
        pods.remove_pod(&pod).unwrap();
        assert_eq!(pods.count().unwrap(), 0);
        bench.assert_nothing_left();
    }

    fn two_containers_of_a_pod_share_its_network_and_not_its_processes(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "net").unwrap();
        // One writes what it was sent; the other sends it over the loopback that they share. A server without input would hang
        // up at once, on which busybox's nc ends, whether or not it has sent what it was given.
        let server = ["/bin/sh", "-c", "sleep 600 | { nc -l -p 8080; kill -PIPE -1; }"];
        let server = pods.launch(&pod, &ContainerOptions::restricted("server", ALLOWED, &server)).unwrap();
        let client = ["/bin/sh", "-c", "until echo over | nc -w 2 127.0.0.1 8080; do sleep 0.1; done; ps"];
        let client = pods.launch(&pod, &ContainerOptions::restricted("client", ALLOWED, &client)).unwrap();
        assert_eq!(pods.wait(&client).unwrap(), 0);
        assert_eq!(pods.wait(&server).unwrap(), 0);
        assert_eq!(pods.output(&pod, "server").unwrap(), "over\n");
        let seen = pods.output(&pod, "client").unwrap();
        assert!(seen.contains("sh -c") && !seen.contains("-l -p 8080"), "{seen}");
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn a_command_that_policy_does_not_name_is_refused_and_one_that_it_names_runs(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        bench.allow("exec = [\"/bin/probe true\"]").unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "exec").unwrap();
        let one = ContainerOptions::restricted("one", ALLOWED, &["/bin/probe", "pause"]);
        let one = pods.launch(&pod, &one).unwrap();
        assert_eq!(pods.exec(&one, &["/bin/probe", "true"]).unwrap().code, 0);
        let error = pods.exec(&one, &["/bin/sh", "-c", "true"]).unwrap_err().to_string();
        assert_eq!(Refused::read(&error).unwrap().rule(), "exec");
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn a_tenant_file_of_the_pods_namespace_narrows_and_another_namespace_is_untouched(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        bench.daemon.tenant_policy("team-b", "version = 1\n[image]\n").unwrap();
        let pods = bench.daemon.pods().unwrap();
        let error = pods.run("bulkhead", "team-b", "two").unwrap_err().to_string();
        assert_eq!(Refused::read(&error).unwrap().rule(), "image-scope");
        bench.assert_nothing_left();
        let pod = pods.run("bulkhead", "team-a", "one").unwrap();
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn a_privileged_container_and_a_host_path_are_refused_and_the_pod_goes_on(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "priv").unwrap();
        let mut mounts = ContainerOptions::restricted("mounts", ALLOWED, &["/bin/probe", "true"]);
        mounts.mounts.push(("/etc".into(), "/host".to_owned(), true));
        let mounts = pods.create(&pod, &mounts).and_then(|id| pods.start(&id)).unwrap_err().to_string();
        assert_eq!(Refused::read(&mounts).unwrap().rule(), "mounts");
        let mut added = ContainerOptions::restricted("added", ALLOWED, &["/bin/probe", "true"]);
        added.security.capabilities = Some(k8s_cri::v1::Capability {
            add_capabilities: vec!["SYS_ADMIN".to_owned()],
            ..Default::default()
        });
        let added = pods.create(&pod, &added).and_then(|id| pods.start(&id)).unwrap_err().to_string();
        assert_eq!(Refused::read(&added).unwrap().rule(), "capabilities");
        let fine = ContainerOptions::restricted("fine", ALLOWED, &["/bin/probe", "true"]);
        let fine = pods.launch(&pod, &fine).unwrap();
        assert_eq!(pods.wait(&fine).unwrap(), 0);
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn a_pod_at_the_compatible_level_has_what_runc_gives_it_and_that_of_another_tenant_is_refused(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        bench.allow("level = \"compatible\"\nnamespaces = [\"team-a\"]\nexec = [\"*\"]").unwrap();
        let pods = bench.daemon.pods().unwrap();
        let mut driver = ContainerOptions::restricted("driver", ALLOWED, &["/bin/probe", "pause"]);
        driver.mounts.push(("/etc".into(), "/host/etc".to_owned(), true));
        driver.security.no_new_privs = false;
        driver.security.run_as_user = Some(k8s_cri::v1::Int64Value { value: 0 });
        driver.security.capabilities = Some(k8s_cri::v1::Capability {
            add_capabilities: vec!["SYS_ADMIN".to_owned()],
            ..Default::default()
        });
        let script = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status; \
                      touch /root-is-writable /host/etc/x; ls -d /host/etc/hosts /root-is-writable; echo $?";
        let granted = |handler: &str| {
            let pod = pods.run(handler, "team-a", handler).unwrap();
            let id = pods.launch(&pod, &driver).unwrap();
            let executed = pods.exec(&id, &["/bin/sh", "-c", script]).unwrap();
            pods.remove_pod(&pod).unwrap();
            executed
        };
        let ours = granted("bulkhead");
        assert_eq!(runcs(&ours, || granted("runc")), ours);
        assert!(ours.stdout.contains("Uid:\t0\t") && ours.stdout.ends_with("0\n"), "{ours:?}");
        let pod = pods.run("bulkhead", "team-b", "other").unwrap();
        let error = pods.create(&pod, &driver).and_then(|id| pods.start(&id)).unwrap_err().to_string();
        Refused::read(&error).unwrap();
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn the_policy_that_init_writes_runs_the_nodes_own_pause_image_and_no_other(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        fs::remove_file(bench.daemon.bulkhead_root().join("etc/bulkhead/policy.toml")).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let error = pods.run("bulkhead", "team-a", "before").unwrap_err().to_string();
        assert_eq!(Refused::read(&error).unwrap().rule(), "policy");
        let output = bench.daemon.bulkhead(&["init"]).unwrap().success().unwrap();
        assert!(output.stdout.contains(PAUSE), "{output:?}");
        let pod = pods.run("bulkhead", "team-a", "after").unwrap();
        let other = ContainerOptions::restricted("other", ALLOWED, &["/bin/probe", "true"]);
        let error = pods.create(&pod, &other).and_then(|id| pods.start(&id)).unwrap_err().to_string();
        assert_eq!(Refused::read(&error).unwrap().rule(), "image-scope");
        pods.remove_pod(&pod).unwrap();
        bench.assert_nothing_left();
    }

    fn volumes_of_the_pod_itself_work_and_hold_no_code_and_those_of_another_pod_are_refused(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let other = pods.run("bulkhead", "team-b", "other").unwrap();
        let (_, secret) = bench.daemon.kubelet_dir(&other, "volumes/kubernetes.io~secret/key").unwrap();
        for handler in ["runc", "bulkhead"] {
            let pod = pods.run(handler, "team-a", handler).unwrap();
            let dir = |below: &str| bench.daemon.kubelet_dir(&pod, below).unwrap();
            let (empty_here, empty) = dir("volumes/kubernetes.io~empty-dir/work");
            let (token_here, token) = dir("volumes/kubernetes.io~projected/token");
            let (log_here, log) = dir("containers/app");
            fs::set_permissions(&empty_here, fs::Permissions::from_mode(0o777)).unwrap();
            fs::write(token_here.join("token"), "t").unwrap();
            fs::write(log_here.join("0a1b2c3d"), "").unwrap();
            fs::set_permissions(log_here.join("0a1b2c3d"), fs::Permissions::from_mode(0o666)).unwrap();
            let attempts = ["write:/work/f", "run-dropped:/work/d", "read:/token/token", "create:/token/x", "write:/dev/termination-log"];
            let mut command = vec!["/bin/probe", "try"];
            command.extend(attempts);
            let said = pods.said(handler, &pod, |name| {
                let mut app = ContainerOptions::restricted(name, ALLOWED, &command);
                app.mounts.push((empty.clone(), "/work".to_owned(), false));
                app.mounts.push((token.clone(), "/token".to_owned(), true));
                app.mounts.push((log.join("0a1b2c3d"), "/dev/termination-log".to_owned(), false));
                pods.launch(&pod, &app)
            });
            let answers = Answers::read(&said.unwrap()).unwrap();
            let dropped = if handler == "runc" { "done" } else { "EACCES" };
            let expected = ["done", dropped, "done", "EROFS", "done"];
            assert_eq!(attempts.map(|name| answers.get(name)), expected, "{handler}");

            let mut thief = ContainerOptions::restricted("thief", ALLOWED, &["/bin/probe", "true"]);
            thief.mounts.push((secret.clone(), "/stolen".to_owned(), true));
            let stolen = pods.create(&pod, &thief).and_then(|id| pods.start(&id));
            match handler {
                "runc" => stolen.unwrap(),
                _ => assert_eq!(Refused::read(&stolen.unwrap_err().to_string()).unwrap().rule(), "mounts"),
            }
            pods.remove_pod(&pod).unwrap();
        }
        pods.remove_pod(&other).unwrap();
        bench.assert_nothing_left();
    }

    fn a_volume_of_the_image_can_be_written_and_holds_no_code(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let mut image = Image::busybox("registry.test/team-a/volume:1", &UID.to_string()).unwrap();
        image.volumes = vec!["/open".to_owned()];
        let digests = bench.daemon.import_in("k8s.io", &image).unwrap();
        bench.allow_digests(&[&digests.manifest], "").unwrap();
        let pods = bench.daemon.pods().unwrap();
        for (handler, dropped) in [("runc", "done"), ("bulkhead", "EACCES")] {
            let pod = pods.run(handler, "team-a", handler).unwrap();
            let command = ["/bin/probe", "try", "write:/open/f", "run-dropped:/open/d"];
            let said = pods.said(handler, &pod, |name| {
                pods.launch(&pod, &ContainerOptions::restricted(name, &image.name, &command))
            });
            let answers = Answers::read(&said.unwrap()).unwrap();
            let found = (answers.get("write:/open/f"), answers.get("run-dropped:/open/d"));
            assert_eq!(found, ("done", dropped), "{handler}");
            pods.remove_pod(&pod).unwrap();
        }
        bench.assert_nothing_left();
    }
}

/// What a container finds of another whose processes it shares: its files, its environment, its memory.
///
/// `kill` is Kubernetes' own promise to such pods, and stays.
const REACH_OVER: &str = "exec 2>&1; for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" = sleep ] && q=$p; done; echo found ${q##*/}; \
     cat $q/root/tmp/secret; tr '\\0' '\\n' <$q/environ | grep TOKEN; head -c 0 $q/mem && echo memory; echo end";

#[test]
fn containers_that_share_their_processes_share_neither_files_nor_environment_nor_memory() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let mut shared = namespaces();
    shared.pid = k8s_cri::v1::NamespaceMode::Pod.into();
    for handler in ["runc", "bulkhead"] {
        let pod = pods.run_in(handler, "team-a", handler, shared.clone()).unwrap();
        let container = |name: &str, script: &str| {
            let mut options = ContainerOptions::restricted(name, ALLOWED, &["/bin/sh", "-c", script]);
            options.security.namespace_options = Some(shared.clone());
            pods.launch(&pod, &options)
        };
        let victim = container("victim", "echo of another >/tmp/secret; export TOKEN=1; exec sleep 600");
        let victim = victim.unwrap();
        until("the secret", Duration::from_secs(60), || {
            Ok(pods.exec(&victim, &["/bin/cat", "/tmp/secret"])?.code == 0)
        })
        .unwrap();
        let said = pods.said(handler, &pod, |name| container(name, REACH_OVER)).unwrap();
        assert!(said.ends_with("end\n") && said.contains("found ") && !said.contains("found \n"), "{said}");
        let got = ["of another", "TOKEN=1", "\nmemory"].map(|what| said.contains(what));
        match handler {
            "runc" => assert!(got.contains(&true), "{said}"),
            _ => assert_eq!(got, [false; 3], "{said}"),
        }
        let alive = heard(handler, || Ok(pods.exec(&victim, &["/bin/echo", "alive"])?.stdout));
        assert_eq!(alive.unwrap(), "alive\n", "{handler}");
        pods.remove_pod(&pod).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn a_part_of_a_volume_that_becomes_a_link_while_it_is_mounted_shows_nothing_of_the_node() {
    let bench = Bench::start(Release::V2_1, Cri::On).unwrap();
    let pods = bench.daemon.pods().unwrap();
    let secret = bench.daemon.dir().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "of the node\n").unwrap();
    for handler in ["runc", "bulkhead"] {
        let pod = pods.run(handler, "team-a", handler).unwrap();
        let (here, there) = bench.daemon.kubelet_dir(&pod, "volumes/kubernetes.io~empty-dir/work").unwrap();
        let (part, other) = (here.join("part"), here.join("other"));
        fs::create_dir(&part).unwrap();
        fs::write(part.join("key"), "of the pod\n").unwrap();
        symlink(&secret, &other).unwrap();
        let swap = || {
            let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
            nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &part, nix::fcntl::AT_FDCWD, &other, flags).unwrap();
        };
        let try_once = |name: &str| {
            let mut options = ContainerOptions::restricted(name, ALLOWED, &["/bin/cat", "/part/key"]);
            options.mounts.push((there.join("part"), "/part".to_owned(), true));
            let started = pods.create(&pod, &options).and_then(|id| pods.start(&id).map(|()| id));
            // Refused, or not found: it was the link, or in between.
            let Ok(id) = started else { return String::new() };
            pods.wait(&id).unwrap();
            pods.output(&pod, name).unwrap()
        };
        // As often as it takes runc to be heard, each time under another name.
        let made = Cell::new(0);
        let heard_once = |name: &str| {
            let again = || {
                made.set(made.get() + 1);
                Ok(try_once(&format!("{name}{}", made.get())))
            };
            heard(handler, again).unwrap()
        };
        assert_eq!(heard_once("before"), "of the pod\n", "{handler}");
        if handler == "runc" {
            // CRI itself may follow it; what counts is that the link would lead there.
            swap();
            assert_eq!(heard_once("link"), "of the node\n");
        } else {
            let done = AtomicBool::new(false);
            let said: Vec<String> = thread::scope(|scope| {
                scope.spawn(|| {
                    // Bounded: a launch that fails the test must not leave it to go on for ever.
                    for _ in 0..100_000 {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        swap();
                        thread::sleep(Duration::from_micros(300));
                    }
                });
                let said = (0..12).map(|round| try_once(&format!("raced-{round}"))).collect();
                done.store(true, Ordering::Relaxed);
                said
            });
            assert!(said.iter().all(|text| text.is_empty() || text == "of the pod\n"), "{said:?}");
        }
        pods.remove_pod(&pod).unwrap();
    }
    bench.assert_nothing_left();
}
