//! The harness itself, with runc as the runtime: what it counts is there while it is there, and gone afterwards.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{panic, time::Duration};

use bulkhead_integration::{
    ALLOWED, Answers, Bench, ContainerOptions, Containerd, Cri, Image, RUNC, heard, on_each_containerd,
    on_each_cri,
};

const IMAGE: &str = "registry.test/busybox:1";

on_each_containerd! {
    fn what_runc_runs_is_counted_while_it_runs_and_nothing_is_left_after(release) {
        let daemon = Containerd::start(release, Cri::Off).unwrap();
        daemon.import(&Image::busybox(IMAGE, "65532").unwrap()).unwrap();
        assert!(daemon.leftovers_after(Duration::from_secs(60)).unwrap().none());
        let id = daemon.id("a");
        daemon.ctr(&["run", "-d", "--runtime", RUNC, IMAGE, &id, "/bin/probe", "pause"]).unwrap().success().unwrap();
        let there = daemon.leftovers().unwrap();
        assert!(!there.mounts.is_empty() && !there.cgroups.is_empty(), "{there}");
        assert!(there.processes.len() >= 2 && !there.sockets.is_empty() && there.directories.len() >= 2, "{there}");
        daemon.remove(&id).unwrap();
        let left = daemon.leftovers_after(Duration::from_secs(60)).unwrap();
        assert!(left.none(), "{left}");
    }

    fn standard_input_ends_under_runc(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.daemon.id("stdin");
        let args = ["run", "--rm", "--runtime", RUNC, ALLOWED, &id, "/bin/cat"];
        let said = || Ok(bench.ctr_with_input(&id, &args, "one\ntwo\n")?.success()?.stdout);
        assert_eq!(heard(RUNC, said).unwrap(), "one\ntwo\n");
    }

    fn a_panic_in_the_middle_leaves_nothing(release) {
        let (mut tag, mut pid) = (String::new(), 0);
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            let daemon = Containerd::start(release, Cri::Off).unwrap();
            daemon.import(&Image::busybox(IMAGE, "65532").unwrap()).unwrap();
            daemon.ctr(&["run", "-d", "--runtime", RUNC, IMAGE, &daemon.id("a"), "/bin/probe", "pause"]).unwrap();
            assert!(daemon.leftovers().unwrap().count() > 3);
            (tag, pid) = (daemon.tag().to_owned(), daemon.pid());
            panic!("on purpose");
        }));
        assert!(result.is_err() && pid != 0);
        assert!(!std::path::Path::new("/proc").join(pid.to_string()).exists());
        assert!(!std::path::Path::new("/var/lib/bulkhead-test").join(tag).exists());
    }
}

on_each_cri! {
    fn a_pod_of_two_containers_runs_under_runc(release) {
        let daemon = Containerd::start(release, Cri::On).unwrap();
        daemon.import_in("k8s.io", &Image::busybox(IMAGE, "65532").unwrap()).unwrap();
        let pods = daemon.pods().unwrap();
        let pod = pods.run("runc", "team-a", "one").unwrap();
        let sleeper = ContainerOptions::restricted("sleeper", IMAGE, &["/bin/probe", "pause"]);
        let sleeper = pods.launch(&pod, &sleeper).unwrap();
        let said = pods.said("runc", &pod, |name| {
            pods.launch(&pod, &ContainerOptions::restricted(name, IMAGE, &["/bin/probe", "facts"]))
        });
        let facts = Answers::read(&said.unwrap()).unwrap();
        assert_eq!(facts.get("Uid"), "65532 65532 65532 65532");
        assert_eq!(pods.exec(&sleeper, &["/bin/probe", "exit", "7"]).unwrap().code, 7);
        assert!(pods.stats(&sleeper).unwrap().memory.is_some());
        pods.remove_pod(&pod).unwrap();
        let left = daemon.leftovers_after(Duration::from_secs(60)).unwrap();
        assert!(left.none(), "{left}");
    }
}
