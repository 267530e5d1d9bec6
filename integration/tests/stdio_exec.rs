//! Output of execs, which is copied from a pipe into the client's FIFO: whole, in order, and at an end when the exec is
//! deleted, whatever it has left behind.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "stdio/help.rs"]
mod help;

use std::thread;

use bulkhead_integration::{
    BULKHEAD, Bench, Cri, RUNC, Release, Stdio, digest_of, on_each_containerd, until,
};
use help::{PATIENCE, reader, run_exec, shell, text};

on_each_containerd! {
    fn output_that_an_orphan_keeps_open_ends_when_its_exec_is_deleted_as_under_runc(release) {
        let bench = Bench::start(release, Cri::Off).unwrap();
        let run = |runtime: &str, name: &str| {
            let id = bench.start_task_under(runtime, name, &["/bin/sleep", "1000"]).unwrap();
            let tasks = bench.daemon.tasks().unwrap();
            let ends = ["out", "err"].map(|end| bench.daemon.fifo(&format!("{name}-{end}")).unwrap());
            let readers = ends.clone().map(|path| reader(&path));
            let [stdout, stderr] = ends;
            let stdio = Stdio { stdout, stderr, ..Stdio::default() };
            let script = "echo out; echo err >&2; sleep 1000 & exit 7";
            assert_eq!(run_exec(&tasks, &id, "e", &shell(script), &stdio), 7);
            until("the end of the output", PATIENCE, || Ok(readers.iter().all(|reader| reader.is_finished()))).unwrap();
            let seen = readers.map(text);
            // The container goes on, and can be exec'd into.
            assert!(bench.exec(&id, &["/bin/true"]).unwrap().ok());
            bench.remove(&id).unwrap();
            seen
        };
        // Both wait for the orphan for a while.
        let (ours, runcs) = thread::scope(|scope| {
            let runcs = scope.spawn(|| run(RUNC, "runc"));
            (run(BULKHEAD, "bulkhead"), runcs.join().unwrap())
        });
        assert_eq!(ours, ["out\n", "err\n"]);
        assert_eq!(ours, runcs);
        bench.assert_nothing_left();
    }
}

#[test]
fn output_of_an_exec_arrives_whole_and_standard_error_apart() {
    const MIB: usize = 50;
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let id = bench.start_task("whole", &["/bin/sleep", "1000"]).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    let (stdout, stderr) = (bench.daemon.fifo("out").unwrap(), bench.daemon.fifo("err").unwrap());
    let (out, err) = (reader(&stdout), reader(&stderr));
    let script = format!("echo begin >&2; yes 0123456789abcdef | head -c {}; echo end >&2", MIB << 20);
    assert_eq!(run_exec(&tasks, &id, "e", &shell(&script), &Stdio { stdout, stderr, ..Stdio::default() }), 0);
    let expected: Vec<u8> = b"0123456789abcdef\n".iter().copied().cycle().take(MIB << 20).collect();
    assert_eq!(text(err), "begin\nend\n");
    assert_eq!(digest_of(&out.join().unwrap()), digest_of(&expected));
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}
