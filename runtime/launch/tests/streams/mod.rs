//! Standard streams and terminals.

use std::fs;

use bulkhead_launch::{LaunchError, Stdio, Stream};
use serde_json::json;

use crate::support::{OUTPUTS, PATIENCE, TERMINAL, World, output_of, read_until, write_all};

pub(crate) fn stdin(world: &mut World) {
    let container = world.container(&["cat"], |_| {});
    let created = world.create(&container, &Stdio { stdin: Stream::Pipe, ..OUTPUTS }).unwrap();
    let (pid, mut kept) = (created.pid, created.kept);
    created.gate.release().unwrap().wait(PATIENCE).unwrap();
    let input = kept.stdin.writer.take().unwrap();
    write_all(&input, "through\n");
    drop(input);
    assert_eq!(output_of(kept), "through\n");
    assert_eq!(world.exit_of(pid), 0);
    world.clean(&container);
}

pub(crate) fn reopen_pipe(world: &mut World) {
    let container = world.container(&["sh", "-c", "echo again > /proc/self/fd/1"], |_| {});
    let (code, output) = world.run(&container).unwrap();
    assert_eq!((code, output.as_str()), (0, "again\n"));
}

pub(crate) fn terminal(world: &mut World) {
    let mut container =
        world.container(&["sh", "-c", "tty; stat -c %u $(tty); read x; echo got $x; sleep 100"], |spec| {
            spec["process"]["terminal"] = json!(true);
        });
    let created = world.create(&container, &TERMINAL).unwrap();
    let master = created.kept.terminal.unwrap();
    let alive = crate::support::Alive { pid: created.pid, pidfd: created.pidfd };
    created.gate.release().unwrap().wait(PATIENCE).unwrap();
    let shown = read_until(&master, "65532\r\n");
    assert!(shown.contains("/dev/"), "{shown}");
    write_all(&master, "this\n");
    read_until(&master, "got this");

    let running = world
        .exec_start(&mut container, &alive, &["sh", "-c", "tty; read x; echo $x; exit 5"], &TERMINAL)
        .unwrap();
    let exec_master = running.kept.terminal.unwrap();
    read_until(&exec_master, "/dev/pts/1");
    write_all(&exec_master, "that\n");
    read_until(&exec_master, "that\r\nthat");
    assert_eq!(world.exit_of(running.pid), 5);
    drop((master, exec_master, running.pidfd));
    world.stop(&container, alive);
}

/// Each of these is over in a millisecond: who makes the terminal its user's later makes some of them fail.
pub(crate) fn terminal_owner(world: &mut World) {
    let opens = "for f in /dev/stdout /dev/tty /proc/self/fd/1; do echo $f > $f || exit 1; done";
    let mut container = world.container(&["sh", "-c", &format!("{opens}; sleep 100")], |spec| {
        spec["process"]["terminal"] = json!(true);
    });
    let created = world.create(&container, &TERMINAL).unwrap();
    let master = created.kept.terminal.unwrap();
    let alive = crate::support::Alive { pid: created.pid, pidfd: created.pidfd };
    created.gate.release().unwrap().wait(PATIENCE).unwrap();
    read_until(&master, "/proc/self/fd/1\r\n");
    for _ in 0..20 {
        let running = world.exec_start(&mut container, &alive, &["sh", "-c", opens], &TERMINAL).unwrap();
        let exec_master = running.kept.terminal.unwrap();
        assert_eq!(world.exit_of(running.pid), 0, "{}", read_until(&exec_master, "denied"));
        read_until(&exec_master, "/proc/self/fd/1\r\n");
    }
    drop(master);
    world.stop(&container, alive);
}

pub(crate) fn terminal_mismatch(world: &mut World) {
    let container = world.container(&["true"], |_| {});
    assert!(matches!(world.create(&container, &TERMINAL), Err(LaunchError::Plan(_))));
    fs::remove_dir_all(&container.layer).unwrap();
}
