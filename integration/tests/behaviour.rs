//! What a client of containerd sees of a task, call by call: the same under Bulkhead as under runc's shim.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "behaviour/alike.rs"]
mod alike;
#[path = "behaviour/events.rs"]
mod events;

use std::{thread, time::Duration};

use alike::{answer, container, remove_container, same_under_both, until_it_heeds_sigterm};
use bulkhead_integration::{Bench, Cri, RUNC, StreamPaths, on_each_containerd, until};
use events::told_to_the_end;

const NO_STREAMS: StreamPaths<'_> = StreamPaths { stdin: "", stdout: "" };

on_each_containerd! {
    fn calls_on_a_task_in_each_state_are_answered_alike(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "life", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            let rootfs = tasks.mounts(id).unwrap();
            let state = || answer(tasks.state(id, "").map(|seen| (seen.status, seen.exit_status)));
            say("state of none", state());
            say("create", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("create again", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("state", state());
            say("pids", answer(tasks.pids(id)));
            say("metrics", answer(tasks.metrics(id)));
            say("pause before start", answer(tasks.pause(id)));
            say("resume before start", answer(tasks.resume(id)));
            let waiter = thread::spawn({
                let (tasks, id) = (bench.daemon.tasks().unwrap(), id.to_owned());
                move || tasks.wait(&id)
            });
            thread::sleep(Duration::from_millis(50));
            say("start", answer(tasks.start(id)));
            until_it_heeds_sigterm(tasks, id);
            say("start again", answer(tasks.start(id)));
            say("state", state());
            say("delete while it runs", answer(tasks.delete(id)));
            say("resume what is not paused", answer(tasks.resume(id)));
            say("resize without a terminal", answer(tasks.resize(id, "")));
            say("close input that is not there", answer(tasks.close_stdin(id, "")));
            say("signal 0", answer(tasks.kill(id, 0, false)));
            say("signal 999", answer(tasks.kill(id, 999, false)));
            say("a signal to all", answer(tasks.kill(id, 28, true)));
            say("pause", answer(tasks.pause(id)));
            say("pause again", answer(tasks.pause(id)));
            say("state", state());
            say("exec while paused", answer(tasks.add_exec(id, "frozen", &["/bin/true"], NO_STREAMS)));
            say("pids while paused", answer(tasks.pids(id)));
            say("metrics while paused", answer(tasks.metrics(id)));
            say("delete while paused", answer(tasks.delete(id)));
            say("resume", answer(tasks.resume(id)));
            let update = |json: serde_json::Value| answer(tasks.update(id, &json));
            say("update memory", update(serde_json::json!({ "memory": { "limit": 67_108_864 } })));
            say("update cpu", update(serde_json::json!({ "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 } })));
            say("update pids", update(serde_json::json!({ "pids": { "limit": 50 } })));
            say("lift memory", update(serde_json::json!({ "memory": { "limit": -1 } })));
            say("update nothing", update(serde_json::json!({})));
            say("update nonsense", update(serde_json::json!({ "memory": { "limit": "x" } })));
            say("kill", answer(tasks.kill(id, 15, false)));
            say("wait since before start", answer(waiter.join().unwrap()));
            say("wait", answer(tasks.wait(id)));
            say("state", state());
            say("kill what has ended", answer(tasks.kill(id, 9, false)));
            say("start what has ended", answer(tasks.start(id)));
            say("pause what has ended", answer(tasks.pause(id)));
            say("exec in what has ended", answer(tasks.add_exec(id, "late", &["/bin/true"], NO_STREAMS)));
            say("pids of what has ended", answer(tasks.pids(id)));
            say("create over what has ended", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("delete", answer(tasks.delete(id)));
            say("delete again", answer(tasks.delete(id)));
            say("kill what is deleted", answer(tasks.kill(id, 9, false)));
            say("wait for what is deleted", answer(tasks.wait(id)));
            // runc's shim of 1.7 and later takes its socket away after it has answered: a start would find the one that ends.
            if runtime == RUNC {
                let ended = || Ok(bench.daemon.leftovers()?.sockets.is_empty());
                until("the end of runc's shim", Duration::from_secs(60), ended).unwrap();
            }
            say("create anew", answer(tasks.create(id, rootfs.clone()).map(drop)));
            say("kill before start", answer(tasks.kill(id, 9, false)));
            say("wait", answer(tasks.wait(id)));
            say("start what was killed", answer(tasks.start(id)));
            say("delete", answer(tasks.delete(id)));
            remove_container(bench, id);
        });
        bench.assert_nothing_left();
    }

    fn calls_on_an_exec_in_each_state_are_answered_alike(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "exec", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            tasks.create(id, tasks.mounts(id).unwrap()).unwrap();
            tasks.start(id).unwrap();
            let add = |exec: &str, command: &[&str]| answer(tasks.add_exec(id, exec, command, NO_STREAMS));
            let state = |exec: &str| answer(tasks.state(id, exec).map(|seen| (seen.status, seen.exit_status)));
            for (call, answer) in [
                ("start of none", answer(tasks.start_exec(id, "none").map(drop))),
                ("wait for none", answer(tasks.wait_exec(id, "none"))),
                ("kill of none", answer(tasks.kill_exec(id, "none", 9))),
                ("delete of none", answer(tasks.delete_exec(id, "none"))),
                ("resize of none", answer(tasks.resize(id, "none"))),
                ("close input of none", answer(tasks.close_stdin(id, "none"))),
            ] {
                say(call, answer);
            }
            say("add", add("e", &["/bin/probe", "exit", "4"]));
            say("add again", add("e", &["/bin/true"]));
            say("state", state("e"));
            say("kill before start", answer(tasks.kill_exec(id, "e", 9)));
            say("start", answer(tasks.start_exec(id, "e").map(drop)));
            say("wait", answer(tasks.wait_exec(id, "e")));
            say("state", state("e"));
            say("kill what has ended", answer(tasks.kill_exec(id, "e", 9)));
            say("wait again", answer(tasks.wait_exec(id, "e")));
            say("delete", answer(tasks.delete_exec(id, "e")));
            say("delete again", answer(tasks.delete_exec(id, "e")));
            say("the same id once more", add("e", &["/bin/sleep", "600"]));
            say("start", answer(tasks.start_exec(id, "e").map(drop)));
            say("delete while it runs", answer(tasks.delete_exec(id, "e")));
            say("pids", answer(tasks.pids(id)));
            say("kill", answer(tasks.kill_exec(id, "e", 15)));
            say("wait", answer(tasks.wait_exec(id, "e")));
            say("delete", answer(tasks.delete_exec(id, "e")));
            say("add and never start", add("idle", &["/bin/true"]));
            say("delete", answer(tasks.delete_exec(id, "idle")));
            say("id that is a path", add("a/b", &["/bin/true"]));
            say("add to the end", add("long", &["/bin/sleep", "600"]));
            say("start", answer(tasks.start_exec(id, "long").map(drop)));
            say("end of init", answer(tasks.kill(id, 9, false)));
            say("wait for init", answer(tasks.wait(id)));
            say("wait for the exec that it took along", answer(tasks.wait_exec(id, "long")));
            say("delete", answer(tasks.delete_exec(id, "long")));
            bench.remove(id).unwrap();
        });
        bench.assert_nothing_left();
    }

    // Not beside runc's: its shim of containerd 1.7 and 2.1 ends with the container after a start that failed.
    fn exec_that_cannot_start_is_stopped_and_its_container_goes_on(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("none", &["/bin/probe", "pause"]).unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        for (exec, program, why) in [("e1", "/bin/no", "no such file"), ("e2", "/etc/passwd", "permission denied")] {
            tasks.add_exec(&id, exec, &[program], NO_STREAMS).unwrap();
            let error = tasks.start_exec(&id, exec).unwrap_err().to_string();
            assert!(error.contains(program) && error.contains(why), "{error}");
            let seen = tasks.state(&id, exec).unwrap();
            assert_eq!((seen.status.as_str(), seen.exit_status), ("STOPPED", 255));
            assert_eq!(tasks.wait_exec(&id, exec).unwrap(), 255);
            assert_eq!(answer(tasks.start_exec(&id, exec)), "no");
            tasks.delete_exec(&id, exec).unwrap();
        }
        let output = bench.daemon.ctr(&["task", "exec", "--cwd", "/no", "--exec-id", "e3", &id, "/bin/true"]).unwrap();
        assert!(!output.ok() && output.stderr.contains("chdir to cwd (\"/no\")"), "{output:?}");
        assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
        until_it_heeds_sigterm(&tasks, &id);
        tasks.kill(&id, 15, false).unwrap();
        assert_eq!(tasks.wait(&id).unwrap(), 0);
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn events_of_a_life_have_the_same_order_and_content(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            // runc's shim ends with its container and may take an event along that it has not told yet.
            let lives = if runtime == RUNC { 10 } else { 1 };
            let told = (0..lives).find_map(|life| told_to_the_end(bench, runtime, life)).expect("the last event is told");
            // The kernel tells of it and of the death by two ways, and which is read first is nobody's promise.
            let (out_of_memory, others): (Vec<_>, Vec<_>) = told.into_iter().partition(|(topic, _)| topic == "oom");
            for (topic, what) in others {
                say(&topic, what);
            }
            assert!(!out_of_memory.is_empty());
            let whose: Vec<&str> = out_of_memory.iter().map(|(_, what)| what.split_once(' ').unwrap().0).collect();
            say("oom", whose.join(" "));
        });
        bench.assert_nothing_left();
    }

    fn fifo_is_taken_from_anywhere_and_what_is_none_is_an_error_that_names_it(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("fifo", &["/bin/probe", "pause"]).unwrap();
        let fifo = bench.daemon.dir().join("fifo").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let reader = thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read_to_string(fifo)
        });
        let tasks = bench.daemon.tasks().unwrap();
        let streams = StreamPaths { stdin: "", stdout: &fifo };
        tasks.add_exec(&id, "elsewhere", &["/bin/echo", "here"], streams).unwrap();
        tasks.start_exec(&id, "elsewhere").unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), "here\n");

        let plain = bench.daemon.dir().join("plain").display().to_string();
        std::fs::write(&plain, "").unwrap();
        let streams = StreamPaths { stdin: "", stdout: &plain };
        tasks.add_exec(&id, "plain", &["/bin/true"], streams).unwrap();
        let error = tasks.start_exec(&id, "plain").unwrap_err().to_string();
        assert!(error.contains(&plain) && error.contains("no FIFO"), "{error}");
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }

    fn exec_outlives_a_restart_of_containerd_and_its_output_goes_on(release) {
        let mut bench = Bench::start(release, Cri::Off).unwrap();
        let id = bench.start_task("restart", &["/bin/probe", "pause"]).unwrap();
        // Where containerd's Go client makes FIFOs when nobody names a directory.
        let dir = std::path::Path::new("/tmp").join(bench.daemon.id("fifos"));
        std::fs::create_dir(&dir).unwrap();
        let fifo = dir.join("stdout").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let reader = thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read_to_string(fifo)
        });
        let tasks = bench.daemon.tasks().unwrap();
        let script = "for n in 1 2 3 4 5 6 7 8 9; do echo $n; sleep 0.2; done; exit 6";
        let streams = StreamPaths { stdin: "", stdout: &fifo };
        tasks.add_exec(&id, "count", &["/bin/sh", "-c", script], streams).unwrap();
        tasks.start_exec(&id, "count").unwrap();
        bench.daemon.restart().unwrap();
        let tasks = bench.daemon.tasks().unwrap();
        assert_eq!(tasks.wait_exec(&id, "count").unwrap(), 6);
        assert_eq!(reader.join().unwrap().unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(tasks.delete_exec(&id, "count").unwrap(), 6);
        assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
        bench.remove(&id).unwrap();
        bench.assert_nothing_left();
    }
}
