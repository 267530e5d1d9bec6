//! More of the task API, call by call: what is asked too early, too late, twice, of the wrong one or in a bad form gets
//! the same answer under Bulkhead as under runc's shim.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "behaviour/alike.rs"]
mod alike;

use std::{fs, process::Command, thread, time::Duration};

use alike::{answer, container, remove_container, same_under_both};
use bulkhead_integration::{
    Bench, Cri, RUNC, Release, StreamPaths, Tasks, on_each_containerd, parent_of, run, until,
};
use serde_json::{Value, json};

const NO_STREAMS: StreamPaths<'_> = StreamPaths { stdin: "", stdout: "" };

on_each_containerd! {
    fn calls_for_what_is_not_there_are_answered_alike(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "none", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            say("start", answer(tasks.start(id)));
            say("kill", answer(tasks.kill(id, 9, false)));
            say("wait", answer(tasks.wait(id)));
            say("delete", answer(tasks.delete(id)));
            say("pause", answer(tasks.pause(id)));
            say("resume", answer(tasks.resume(id)));
            say("pids", answer(tasks.pids(id)));
            say("metrics", answer(tasks.metrics(id)));
            say("update", answer(tasks.update(id, &json!({}))));
            say("exec", answer(tasks.add_exec(id, "e", &["/bin/true"], NO_STREAMS)));
            say("start exec", answer(tasks.start_exec(id, "e").map(drop)));
            say("resize", answer(tasks.resize(id, "")));
            say("close input", answer(tasks.close_stdin(id, "")));
            say("checkpoint", answer(tasks.checkpoint(id)));
            say("state of an exec", answer(tasks.state(id, "e").map(drop)));
            remove_container(bench, id);
        });
        bench.assert_nothing_left();
    }

    fn execs_of_one_container_do_not_touch_each_other(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "many", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            tasks.create(id, tasks.mounts(id).unwrap()).unwrap();
            tasks.start(id).unwrap();
            for code in ["0", "1", "126", "127", "255"] {
                say("add", answer(tasks.add_exec(id, code, &["/bin/probe", "exit", code], NO_STREAMS)));
            }
            for code in ["255", "127", "0", "126", "1"] {
                say("start in another order", answer(tasks.start_exec(id, code).map(drop)));
                say("wait", answer(tasks.wait_exec(id, code)));
            }
            for code in ["0", "255", "1", "127", "126"] {
                say("delete in a third", answer(tasks.delete_exec(id, code)));
            }
            for (name, signal) in [("term", 15), ("kill", 9), ("hangup", 1), ("usr1", 10), ("abort", 6)] {
                say(name, answer(tasks.add_exec(id, name, &["/bin/sleep", "600"], NO_STREAMS)));
                tasks.start_exec(id, name).unwrap();
                let waiters: Vec<_> = (0..3)
                    .map(|_| {
                        let (tasks, id) = (bench.daemon.tasks().unwrap(), id.to_owned());
                        thread::spawn(move || answer(tasks.wait_exec(&id, name)))
                    })
                    .collect();
                say("signal", answer(tasks.kill_exec(id, name, signal)));
                for waiter in waiters {
                    say("wait, three at once", waiter.join().unwrap());
                }
                say("signal 0", answer(tasks.kill_exec(id, name, 0)));
                say("delete", answer(tasks.delete_exec(id, name)));
                say("state", answer(tasks.state(id, name).map(drop)));
            }
            say("an exec with the container's id", answer(tasks.add_exec(id, id, &["/bin/true"], NO_STREAMS)));
            say("start", answer(tasks.start_exec(id, id).map(drop)));
            say("wait", answer(tasks.wait_exec(id, id)));
            say("delete", answer(tasks.delete_exec(id, id)));
            for exec in ["..", "a b", "-a", "a..b", &"x".repeat(77)] {
                say("id that is none", answer(tasks.add_exec(id, exec, &["/bin/true"], NO_STREAMS)));
            }
            say("signal 65 to an exec", answer(tasks.add_exec(id, "late", &["/bin/sleep", "600"], NO_STREAMS)));
            tasks.start_exec(id, "late").unwrap();
            say("state of init", answer(tasks.state(id, "").map(|seen| seen.status)));
            tasks.kill(id, 9, false).unwrap();
            say("wait for init", answer(tasks.wait(id)));
            say("wait for the exec", answer(tasks.wait_exec(id, "late")));
            say("signal to the exec", answer(tasks.kill_exec(id, "late", 9)));
            say("delete of init before its exec", answer(tasks.delete(id)));
            say("state of the exec", answer(tasks.state(id, "late").map(drop)));
            remove_container(bench, id);
        });
        bench.assert_nothing_left();
    }

    // containerd tells the end of every task whose shim goes away, also of one whose end that shim had told (its
    // `cleanupAfterDeadShim`): no shim can keep it from that.
    fn a_server_that_dies_between_exit_and_delete_has_the_exit_told_again_alike(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let events = bench.daemon.events().unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "orphan", &["/bin/probe", "exit", "3"]);
            let (tasks, id) = (&tasks, id.as_str());
            let pid = tasks.create(id, tasks.mounts(id).unwrap()).unwrap();
            let server = parent_of(pid).unwrap();
            tasks.start(id).unwrap();
            say("wait", answer(tasks.wait(id)));
            events.wait_for(id, "exit").unwrap();
            let killed = run(Command::new("kill").args(["-9", &server.to_string()]), Duration::from_secs(60));
            killed.unwrap().success().unwrap();
            events.wait_for(id, "delete").unwrap();
            let told: Vec<_> = events.all().into_iter().filter(|event| event.container == id).collect();
            for event in told {
                say(event.what, event.status.to_string());
            }
            say("state", answer(tasks.state(id, "").map(drop)));
            remove_container(bench, id);
            // runc's shim leaves its socket.
            if runtime == RUNC {
                bench.daemon.leftovers().unwrap().sockets.iter().for_each(|path| fs::remove_file(path).unwrap());
            }
        });
        bench.assert_nothing_left();
    }

    fn processes_in_a_bad_form_are_refused_alike_and_the_container_goes_on(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "bad", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            tasks.create(id, tasks.mounts(id).unwrap()).unwrap();
            tasks.start(id).unwrap();
            let with = |field: &str, value: Value| {
                let mut process = Tasks::process(&["/bin/true"]);
                process[field] = value;
                process
            };
            let bad = [
                ("no args", with("args", json!([]))),
                ("args that are a number", with("args", json!(7))),
                ("an empty program", with("args", json!([""]))),
                ("a directory as program", with("args", json!(["/etc"]))),
                ("a relative cwd", with("cwd", json!("tmp"))),
                ("no cwd", with("cwd", json!(""))),
                ("a negative uid", with("user", json!({ "uid": -1, "gid": 0 }))),
                ("an unknown rlimit", with("rlimits", json!([{ "type": "RLIMIT_X", "soft": 1, "hard": 1 }]))),
                ("null", Value::Null),
            ];
            for (number, (what, process)) in bad.iter().enumerate() {
                // Whether at once or at its start: it does not run, and leaves no exec that cannot be deleted.
                let exec = format!("bad{number}");
                let done = tasks.add_exec_of(id, &exec, process, NO_STREAMS);
                let done = done.and_then(|()| tasks.start_exec(id, &exec));
                say(what, if done.is_ok() { "runs" } else { "does not run" }.to_owned());
                // runc's shim keeps none that failed to be added.
                if let Err(error) = tasks.delete_exec(id, &exec) {
                    assert!(error.status().is_some_and(|status| status.code() == tonic::Code::NotFound), "{error}");
                }
            }
            say("init", answer(tasks.state(id, "").map(|seen| seen.status)));
            say("a good one after them", answer(tasks.add_exec(id, "good", &["/bin/true"], NO_STREAMS)));
            say("start", answer(tasks.start_exec(id, "good").map(drop)));
            say("wait", answer(tasks.wait_exec(id, "good")));
            say("checkpoint without criu", answer(tasks.checkpoint(id)));
            for (what, resources) in [
                ("memory below what is used", json!({ "memory": { "limit": 1 } })),
                ("a negative limit that means nothing", json!({ "memory": { "limit": -7 } })),
                ("cpus that are not there", json!({ "cpu": { "cpus": "4000" } })),
                ("cpus that are no list", json!({ "cpu": { "cpus": "x" } })),
                ("a period too long", json!({ "cpu": { "quota": 1000, "period": 999_999_999_999_u64 } })),
                ("a list", json!([])),
                ("unknown fields", json!({ "nothing": 1 })),
            ] {
                say(what, answer(tasks.update(id, &resources)));
            }
            say("init", answer(tasks.state(id, "").map(|seen| seen.status)));
            say("kill", answer(tasks.kill(id, 9, false)));
            say("wait", answer(tasks.wait(id)));
            say("update what has ended", answer(tasks.update(id, &json!({ "pids": { "limit": 9 } }))));
            say("metrics of what has ended", answer(tasks.metrics(id)));
            say("resize what has ended", answer(tasks.resize(id, "")));
            say("close input of what has ended", answer(tasks.close_stdin(id, "")));
            say("checkpoint what has ended", answer(tasks.checkpoint(id)));
            say("delete", answer(tasks.delete(id)));
            remove_container(bench, id);
        });
        bench.assert_nothing_left();
    }

    fn stops_continues_and_freezes_are_seen_alike(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let (tasks, id) = container(bench, runtime, "freeze", &["/bin/probe", "pause"]);
            let (tasks, id) = (&tasks, id.as_str());
            let state = || answer(tasks.state(id, "").map(|seen| seen.status));
            tasks.create(id, tasks.mounts(id).unwrap()).unwrap();
            say("exec before start", answer(tasks.add_exec(id, "early", &["/bin/true"], NO_STREAMS)));
            say("delete it", answer(tasks.delete_exec(id, "early").map(drop)));
            say("start", answer(tasks.start(id)));
            say("stop", answer(tasks.kill(id, 19, false)));
            say("state when stopped", state());
            say("continue", answer(tasks.kill(id, 18, false)));
            tasks.add_exec(id, "e", &["/bin/sleep", "600"], NO_STREAMS).unwrap();
            tasks.start_exec(id, "e").unwrap();
            say("pause", answer(tasks.pause(id)));
            say("state", state());
            say("state of its exec", answer(tasks.state(id, "e").map(|seen| seen.status)));
            say("update while paused", answer(tasks.update(id, &json!({ "cpu": { "shares": 512 } }))));
            say("resume", answer(tasks.resume(id)));
            say("resume again", answer(tasks.resume(id)));
            say("state of its exec", answer(tasks.state(id, "e").map(|seen| seen.status)));
            say("kill the exec", answer(tasks.kill_exec(id, "e", 9)));
            say("wait for it", answer(tasks.wait_exec(id, "e")));
            say("pause", answer(tasks.pause(id)));
            say("kill while paused", answer(tasks.kill(id, 9, false)));
            say("resume", answer(tasks.resume(id)));
            say("wait", answer(tasks.wait(id)));
            say("state", state());
            say("delete with its exec", answer(tasks.delete(id)));
            remove_container(bench, id);
        });
        bench.assert_nothing_left();
    }

    fn exit_of_init_is_told_alike_however_it_ends(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        same_under_both(&bench, |bench, runtime, say| {
            let ways: [(&str, &[&str]); 5] = [
                ("0", &["/bin/true"]),
                ("7", &["/bin/probe", "exit", "7"]),
                ("255", &["/bin/probe", "exit", "255"]),
                ("a child that outlives it", &["/bin/sh", "-c", "sleep 600 & exit 3"]),
                ("a fault", &["/bin/sh", "-c", "kill -SEGV $$; exit 4"]),
            ];
            for (number, (what, command)) in ways.iter().enumerate() {
                let (tasks, id) = container(bench, runtime, &format!("end{number}"), command);
                tasks.create(&id, tasks.mounts(&id).unwrap()).unwrap();
                let waiter = thread::spawn({
                    let (tasks, id) = (bench.daemon.tasks().unwrap(), id.clone());
                    move || answer(tasks.wait(&id))
                });
                say(what, answer(tasks.start(&id)));
                say("wait since before start", waiter.join().unwrap());
                say("wait after the end", answer(tasks.wait(&id)));
                say("state", answer(tasks.state(&id, "").map(|seen| (seen.status, seen.exit_status))));
                say("pids", answer(tasks.pids(&id)));
                say("delete", answer(tasks.delete(&id)));
                remove_container(bench, &id);
            }
        });
        bench.assert_nothing_left();
    }
}

#[test]
fn terminal_is_resized_and_its_input_closed_alike() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    same_under_both(&bench, |bench, runtime, say| {
        let id = bench.daemon.id(&format!("tty-{}", runtime.split('.').nth(2).unwrap()));
        let line = [
            "run",
            "-t",
            "--rm",
            "--runtime",
            runtime,
            bulkhead_integration::ALLOWED,
            &id,
            "/bin/sleep",
            "600",
        ];
        let tasks = bench.daemon.tasks().unwrap();
        thread::scope(|scope| {
            let run = scope.spawn(|| bench.daemon.ctr_on_terminal(&line).unwrap().code());
            until("the task", std::time::Duration::from_secs(60), || {
                Ok(tasks.state(&id, "").is_ok_and(|seen| seen.status == "RUNNING"))
            })
            .unwrap();
            say("resize", answer(tasks.resize(&id, "")));
            say("resize of an exec that is not there", answer(tasks.resize(&id, "none")));
            say("close input", answer(tasks.close_stdin(&id, "")));
            say("close input again", answer(tasks.close_stdin(&id, "")));
            say("state", answer(tasks.state(&id, "").map(|seen| seen.status)));
            say("kill", answer(tasks.kill(&id, 9, false)));
            say("exit of ctr", run.join().unwrap().to_string());
        });
    });
    bench.assert_nothing_left();
}
