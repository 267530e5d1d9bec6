//! The program by itself, not as process 1: it ends as what it runs, and says why it cannot run it.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Mutex,
};

/// Nothing is started while a program is written: who inherited it open for writing would make its execve(2) ETXTBSY.
static ONE: Mutex<()> = Mutex::new(());

/// The program as a file, which is gone with this.
struct Init(PathBuf);

impl Init {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("bulkhead-init-{name}-{}", std::process::id()));
        let _one = ONE.lock().unwrap();
        fs::write(&path, bulkhead_init::PROGRAM).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(&self.0);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = {
            let _one = ONE.lock().unwrap();
            command.spawn().unwrap()
        };
        started.wait_with_output().unwrap()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[test]
fn it_ends_as_its_program_ends() {
    let init = Init::new("ends");
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $PPID; exec sleep 60", 143)] {
        let output = init.run(&["/bin/sh", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(code), "{script}: {output:?}");
    }
    let output = init.run(&["/bin/sh", "a name", "-c", "echo $0; echo \"$@\"", "0", "b c"]);
    assert_eq!(output.stdout, b"0\nb c\n");
}

#[test]
fn what_it_cannot_run_it_names() {
    let init = Init::new("names");
    for (words, code, said) in [
        (&["/no/such", "x"][..], 127, "exec /no/such: errno 2"),
        (&["/etc/passwd", "x"], 126, "exec /etc/passwd: errno 13"),
        (&[], 125, "no program was named"),
    ] {
        let output = init.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
}

#[test]
fn it_is_small_static_and_has_nothing_that_can_be_written() {
    assert!(bulkhead_init::PROGRAM.len() < 16 << 10, "{}", bulkhead_init::PROGRAM.len());
    let file = bulkhead_init::PROGRAM;
    let at = |from: usize, to: usize| {
        file[from..to].iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    // e_phoff, e_phentsize and e_phnum; then p_type and p_flags. Source: elf(5).
    let (table, size, count) = (at(32, 40), at(54, 56), at(56, 58));
    for header in (0..count).map(|index| table + index * size) {
        let (kind, flags) = (at(header, header + 4), at(header + 4, header + 8));
        assert!(![2, 3].contains(&kind), "no loader and nothing to link");
        assert!(kind != 1 || flags & 2 == 0, "no segment that can be written");
    }
}
