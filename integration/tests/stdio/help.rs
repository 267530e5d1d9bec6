//! What the suites of standard streams begin with.

#![allow(dead_code)]

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use bulkhead_integration::{ALLOWED, Bench, Stdio, Tasks, program};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A container whose task is not there yet.
pub(crate) fn container(bench: &Bench, runtime: &str, name: &str, command: &[&str]) -> (Tasks, String) {
    let name = format!("{name}-{}", runtime.split('.').nth(2).unwrap());
    let id = bench.daemon.id(&name);
    // `--`: ctr 1.6 takes a command's options for its own.
    let mut args = vec!["container", "create", "--runtime", runtime, "--", ALLOWED, &id];
    args.extend(command);
    bench.daemon.ctr(&args).unwrap().success().unwrap();
    (bench.daemon.tasks().unwrap(), id)
}

/// Runs its task to its end, and removes both; the exit status.
pub(crate) fn run_task(bench: &Bench, tasks: &Tasks, id: &str, stdio: &Stdio) -> u32 {
    tasks.create_with(id, tasks.mounts(id).unwrap(), stdio).unwrap();
    tasks.start(id).unwrap();
    let status = tasks.wait(id).unwrap();
    tasks.delete(id).unwrap();
    bench.daemon.ctr(&["container", "delete", id]).unwrap().success().unwrap();
    status
}

/// Runs an exec to its end; its exit status.
pub(crate) fn run_exec(tasks: &Tasks, id: &str, exec: &str, command: &[&str], stdio: &Stdio) -> u32 {
    tasks.add_exec_with(id, exec, command, stdio).unwrap();
    tasks.start_exec(id, exec).unwrap();
    let status = tasks.wait_exec(id, exec).unwrap();
    tasks.delete_exec(id, exec).unwrap();
    status
}

pub(crate) fn shell(script: &str) -> [&str; 3] {
    ["/bin/sh", "-c", script]
}

/// Reads a FIFO to its end, from now on: it is open when this returns, so that no writer can be gone before.
pub(crate) fn reader(path: &str) -> JoinHandle<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut fifo =
        fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).unwrap();
    thread::spawn(move || {
        let mut found = Vec::new();
        loop {
            // Of a FIFO that nobody has written to yet there is nothing to be told: poll(2) waits for the first writer.
            poll(&mut [PollFd::new(fifo.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
            match fifo.read_to_end(&mut found) {
                Ok(_) => return found,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
        }
    })
}

pub(crate) fn text(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8(reader.join().unwrap()).unwrap()
}

/// Reads one line from a FIFO that is open for both.
pub(crate) fn line(fifo: &mut File) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    loop {
        fifo.read_exact(&mut byte).unwrap();
        match byte[0] {
            b'\n' => return String::from_utf8(line).unwrap().trim_end_matches('\r').to_owned(),
            byte => line.push(byte),
        }
    }
}

/// A logging program, and the directory that it is given to write to.
pub(crate) fn logger(bench: &Bench, name: &str, script: &str) -> (PathBuf, PathBuf) {
    let path = bench.daemon.dir().join(format!("{name}.sh"));
    program(&path, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    let dir = bench.daemon.dir().join(name);
    fs::create_dir(&dir).unwrap();
    (path, dir)
}

pub(crate) fn logged_by(scheme: &str, program: &Path, dir: &Path) -> Stdio {
    let address = format!("{scheme}://{}?dir={}", program.display(), dir.display());
    Stdio { stdout: address.clone(), stderr: address, ..Stdio::default() }
}

/// Takes what it is given until its end. `$2` is its directory.
pub(crate) const GOOD_LOGGER: &str = r#"trap '' TERM
printf '%s|%s\n' "$1" "$CONTAINER_NAMESPACE" > "$2/who"
printf '%s\n' "$CONTAINER_ID" > "$2/id"
printf x >&5; exec 5>&-
cat <&4 > "$2/err" & cat <&3 > "$2/out"; wait; touch "$2/done""#;
