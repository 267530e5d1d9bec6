//! containerd is killed while the server is at a step of a call.

use std::{
    thread,
    time::{Duration, Instant},
};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Fault, Victim, on_each_containerd, parent_of, until,
};
use serde_json::json;

use super::range::{BOUND, CLEAN, During, NO_STREAMS, note, signal};

/// The server stands still at a step; containerd is killed; the server goes on, and containerd is started again.
fn kill_containerd(bench: &mut Bench, during: During, call: &str) {
    let name = format!("{during:?}").to_lowercase();
    let step = format!("{name}: containerd while the server is at {call} 1");
    let fault = Fault::stop(Victim::Server, call, 1);
    let tasks = bench.daemon.tasks().unwrap();
    let runtime = match during {
        During::Create => bench.daemon.runtime_with_fault(&name, &fault).unwrap(),
        _ => BULKHEAD.to_owned(),
    };
    let id = bench.create_container(&runtime, ALLOWED, &name, &["/bin/sleep", "600"]).unwrap();
    let rootfs = tasks.mounts(&id).unwrap();
    let mut tracer = None;
    if during != During::Create {
        let server = parent_of(tasks.create(&id, rootfs.clone()).unwrap()).unwrap();
        if during != During::Start {
            tasks.start(&id).unwrap();
        }
        if during == During::Exec {
            tasks.add_exec(&id, "e", &["/bin/true"], NO_STREAMS).unwrap();
        }
        if during == During::Delete {
            tasks.kill(&id, 9, false).unwrap();
            tasks.wait(&id).unwrap();
        }
        tracer = Some((bench.daemon.attach(&name, server, &fault).unwrap(), server));
    }
    let began = Instant::now();
    let call = thread::spawn({
        let id = id.clone();
        move || match during {
            During::Create => tasks.create(&id, rootfs).map(drop),
            During::Start => tasks.start(&id),
            During::Exec => tasks.start_exec(&id, "e").map(drop),
            During::Kill => tasks.kill(&id, 9, false),
            During::Delete => tasks.delete(&id).map(drop),
        }
    });
    until("the server to stand still", Duration::from_secs(60), || {
        Ok(tracer
            .as_ref()
            .map_or_else(|| bench.daemon.fault_happened(&name), |(tracer, _)| tracer.happened()))
    })
    .unwrap();
    let server =
        tracer.as_ref().map_or_else(|| bench.daemon.fault_pid(&name).unwrap(), |(_, server)| *server);
    bench.daemon.restart_after(|| signal(server, "-CONT")).unwrap();
    // The call ended with its connection.
    assert!(call.join().unwrap().is_err(), "{step}");
    assert!(began.elapsed() < BOUND, "{step}: {:?}", began.elapsed());
    drop(tracer);
    let tasks = bench.daemon.tasks().unwrap();
    let state = tasks.state(&id, "").map(|seen| seen.status);
    match during {
        // Taken back, or there and never started; or under way, and found a moment later.
        During::Create | During::Start | During::Delete => {}
        During::Exec => assert_eq!(state.as_deref().unwrap_or("none"), "RUNNING", "{step}"),
        // containerd 1.7 and later remove a task without processes when they start, as runc's.
        During::Kill => match tasks.wait(&id) {
            Ok(status) => assert_eq!(status, 137, "{step}"),
            Err(error) => assert!(error.to_string().contains("not found"), "{step}: {error}"),
        },
    }
    until("the end of a task whose containerd was killed", CLEAN, || {
        bench.daemon.ctr(&["task", "delete", "-f", &id])?;
        Ok(!bench.daemon.ctr(&["task", "ls"])?.stdout.contains(&id))
    })
    .unwrap();
    bench.daemon.ctr(&["container", "delete", &id]).unwrap().success().unwrap();
    let left = bench.daemon.leftovers_after(Duration::from_secs(60)).unwrap();
    let state = state.unwrap_or_else(|error| error.to_string());
    println!("{step:<60} leaks {} then {state:.60}", left.count());
    note(json!({
        "fault": "containerd killed", "step": step, "leaks": left.count(), "happened": true, "answer": state,
        "containerd": format!("{:?}", bench.daemon.version()),
    }));
    assert!(left.none(), "{step} leaves behind: {left}");
}

on_each_containerd! {
    fn a_containerd_that_is_killed_in_a_call_finds_its_tasks_again_and_can_remove_them(release) {
        let mut bench = Bench::start(release, Cri::Off).unwrap();
        for (during, call) in [
            (During::Create, "memfd_create"),
            (During::Start, "sendmsg"),
            (During::Exec, "memfd_create"),
            (During::Kill, "pidfd_send_signal"),
            (During::Delete, "rmdir"),
        ] {
            kill_containerd(&mut bench, during, call);
        }
        bench.assert_nothing_left();
    }
}
