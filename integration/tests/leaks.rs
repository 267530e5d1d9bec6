//! Nothing is left behind: not by many, not by many at once, not by what dies on the way.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{process::Command, thread, time::Duration};

use bulkhead_integration::{
    ALLOWED, Bench, ContainerOptions, Cri, Release, on_each_containerd, on_each_cri, parent_of, run, until,
};

on_each_containerd! {
    fn a_shim_that_is_killed_takes_its_container_with_it_and_leaves_nothing(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("killed", &["/bin/sleep", "600"]).unwrap();
        let mut processes = Vec::new();
        // The kernel lets an execve(2) be known before it shows the new arguments.
        until("the program", Duration::from_secs(60), || {
            processes = bench.daemon.leftovers()?.processes;
            Ok(processes.iter().any(|process| process.contains("sleep 600")))
        })
        .unwrap();
        let shims = processes.iter().filter(|process| process.contains("containerd-shim-bulkhead"));
        let pids: Vec<&str> = shims.filter_map(|process| process.split(' ').next()).collect();
        assert!(!pids.is_empty(), "{processes:?}");
        run(Command::new("kill").arg("-KILL").args(&pids), Duration::from_secs(60)).unwrap();
        // containerd sees the connection break, and has the shim's `delete` clean up.
        until("the end of the task", Duration::from_secs(60), || {
            bench.daemon.ctr(&["task", "delete", "-f", &id])?;
            Ok(!bench.daemon.ctr(&["task", "ls"])?.stdout.contains(&id))
        })
        .unwrap();
        bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
        bench.assert_nothing_left();
    }

    fn a_task_outlives_a_restart_of_containerd_and_can_then_be_used_and_removed(release) {
        let mut bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("lives", &["/bin/probe", "pause"]).unwrap();
        bench.daemon.restart().unwrap();
        let output = bench.exec(&id, &["/bin/echo", "still"]).unwrap().success().unwrap();
        assert_eq!(output.stdout, "still\n");
        // What ends while nobody listens is known afterwards.
        let gone = bench.start_task("ends", &["/bin/sleep", "0.2"]).unwrap();
        bench.daemon.restart().unwrap();
        until("the news of the end", Duration::from_secs(60), || {
            let list = bench.daemon.ctr(&["task", "ls"])?.stdout;
            // containerd 1.7 and later remove a task without processes when they start.
            Ok(!list.lines().any(|line| line.starts_with(&gone) && line.contains("RUNNING")))
        })
        .unwrap();
        for id in [&id, &gone] {
            bench.remove(id).unwrap();
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn a_server_that_dies_alone_is_cleaned_up_after_too() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("server", &["/bin/sleep", "600"]).unwrap();
    let status = bench.daemon.ctr(&["task", "ls"]).unwrap().stdout;
    let line = status.lines().find(|line| line.starts_with(&id)).unwrap();
    let init: u32 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    // The parent of a container's first process is the server.
    let stat = std::fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
    let server = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    run(Command::new("kill").args(["-KILL", &server]), Duration::from_secs(60)).unwrap().success().unwrap();
    until("the end of the task", Duration::from_secs(60), || {
        bench.daemon.ctr(&["task", "delete", "-f", &id])?;
        Ok(!bench.daemon.ctr(&["task", "ls"])?.stdout.contains(&id))
    })
    .unwrap();
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    bench.assert_nothing_left();
}

#[test]
fn twenty_runs_four_at_a_time_all_end_well_and_leave_nothing() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let bench = &bench;
                scope.spawn(move || {
                    for round in 0..5 {
                        let name = format!("w{worker}r{round}");
                        let output = bench.run(&name, &["/bin/echo", &name]).unwrap().success().unwrap();
                        assert_eq!(output.stdout, format!("{name}\n"));
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    bench.assert_nothing_left();
}

#[test]
fn a_refused_create_leaves_no_listening_shim_even_when_nobody_comes_back() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow_digests(&[&format!("sha256:{}", "0".repeat(64))], "").unwrap();
    for round in 0..5 {
        assert!(!bench.run(&format!("no{round}"), &["/bin/true"]).unwrap().ok());
    }
    bench.assert_nothing_left();
}

on_each_cri! {
    fn a_pod_whose_server_is_killed_is_found_ended_and_removed_without_a_trace(release) {
        let bench = Bench::start(release, Cri::On).unwrap();
        let pods = bench.daemon.pods().unwrap();
        let pod = pods.run("bulkhead", "team-a", "dies").unwrap();
        let sleep = |name: &str| ContainerOptions::restricted(name, ALLOWED, &["/bin/sleep", "600"]);
        let containers = ["one", "two"].map(|name| pods.launch(&pod, &sleep(name)).unwrap());
        // A neighbour has a server of its own.
        let other = pods.run("bulkhead", "team-a", "lives").unwrap();
        let neighbour = pods.launch(&other, &sleep("neighbour")).unwrap();

        let init = bench.daemon.tasks_in("k8s.io").unwrap().state(&containers[0], "").unwrap().pid;
        let server = parent_of(init).unwrap().to_string();
        run(Command::new("kill").args(["-KILL", &server]), Duration::from_secs(60)).unwrap().success().unwrap();
        // Whichever pod it was: its containers end, with what a kill leaves, and the other's run on.
        until("the end of the containers", Duration::from_secs(60), || {
            Ok(pods.exit_code(&containers[0])?.is_some() || pods.exit_code(&neighbour)?.is_some())
        })
        .unwrap();
        let (dead, alive) = match pods.exit_code(&neighbour).unwrap() {
            None => (containers.to_vec(), vec![neighbour]),
            Some(_) => (vec![neighbour], containers.to_vec()),
        };
        for container in &dead {
            // 255 is CRI's for a Wait that was cut off, 137 what `delete` says: whichever it hears first.
            assert!([137, 255].contains(&pods.wait(container).unwrap()));
        }
        for container in &alive {
            assert_eq!(pods.exec(container, &["/bin/echo", "still"]).unwrap().stdout, "still\n");
        }
        for pod in [&pod, &other] {
            pods.remove_pod(pod).unwrap();
        }
        assert_eq!(pods.count().unwrap(), 0);
        bench.assert_nothing_left();
    }
}
