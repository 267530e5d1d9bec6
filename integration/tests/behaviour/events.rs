//! The events of one container's life, as a subscriber of containerd's is told them.

use std::{fs::File, time::Duration};

use bulkhead_integration::{ALLOWED, Bench, until};

use crate::{NO_STREAMS, alike::remove_container};

/// Each event's topic, and of whom and with which exit status it is; none where the last was not told.
pub(crate) fn told_to_the_end(bench: &Bench, runtime: &str, life: usize) -> Option<Vec<(String, String)>> {
    let log = bench.daemon.dir().join(format!("events-{life}"));
    let mut events = bench.daemon.ctr_command(bench.daemon.tag(), &["events"]);
    let mut events = events.stdout(File::create(&log).unwrap()).spawn().unwrap();
    let text = || std::fs::read_to_string(&log).unwrap();
    // `ctr` does not say that it is subscribed: an event of another kind is made until it prints one.
    until("ctr events prints", Duration::from_secs(60), || {
        bench.daemon.ctr(&["images", "tag", "--force", ALLOWED, "registry.test/marker:1"])?.success()?;
        Ok(text().contains("/images/"))
    })
    .unwrap();
    let id = bench.daemon.id(&format!("events-{}-{life}", runtime.split('.').nth(2).unwrap()));
    live(bench, runtime, &id);
    let told = || of(&text(), &id);
    // Of init: an exec was deleted before. The shim tells it on its own time, maybe after the container has gone.
    let last = ("delete", "init");
    let whole = until("the last event", Duration::from_secs(30), || {
        Ok(told().iter().any(|(topic, what)| (topic.as_str(), what.split_once(' ').unwrap().0) == last))
    });
    events.kill().unwrap();
    events.wait().unwrap();
    whole.ok().map(|()| told())
}

/// A container that runs, has execs, is out of memory once, is paused and ends.
fn live(bench: &Bench, runtime: &str, id: &str) {
    let args =
        ["run", "-d", "--memory-limit", "16777216", "--runtime", runtime, ALLOWED, id, "/bin/probe", "pause"];
    bench.daemon.ctr(&args).unwrap().success().unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    assert_eq!(bench.exec(id, &["/bin/probe", "exit", "4"]).unwrap().code(), 4);
    let grow = "x=0123456789abcdef; while :; do x=$x$x; done";
    assert_eq!(bench.exec(id, &["/bin/sh", "-c", grow]).unwrap().code(), 137);
    tasks.add_exec(id, "long", &["/bin/sleep", "600"], NO_STREAMS).unwrap();
    tasks.start_exec(id, "long").unwrap();
    tasks.pause(id).unwrap();
    tasks.resume(id).unwrap();
    tasks.kill(id, 9, false).unwrap();
    tasks.wait(id).unwrap();
    tasks.delete(id).unwrap();
    remove_container(bench, id);
}

/// The events of a container's task in a log, its whole lines: the last may be half written.
fn of(text: &str, id: &str) -> Vec<(String, String)> {
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let tasks = lines.filter_map(|line| line.split_once("/tasks/")?.1.split_once(' '));
    let told = tasks.filter_map(|(topic, json)| {
        let json: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
        if json["container_id"] != id {
            return None;
        }
        let exec = json["exec_id"].as_str().or(json["id"].as_str()).unwrap_or("");
        let which = if exec == id || exec.is_empty() {
            "init"
        } else if exec == "long" {
            "long"
        } else {
            "exec"
        };
        Some((topic.to_owned(), format!("{which} {}", json["exit_status"])))
    });
    told.collect()
}
