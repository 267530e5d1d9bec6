//! What a C library does only for who asked it to: the machine's own glibc, and programs that ask or do not.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command as Process,
};

use bulkhead_generate::{Command, Layer, Limits, NoCache, Profile, Root, generate};
use tempfile::TempDir;

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// The calls of a program of C.
fn calls(main: &str) -> BTreeSet<String> {
    calls_of(main, &[])
}

fn calls_of(main: &str, flags: &[&str]) -> BTreeSet<String> {
    let profile = profile_of(main, flags);
    assert_eq!(profile.widened, None);
    assert!(profile.unresolved.is_empty(), "{:?}", profile.unresolved);
    profile.rows.into_keys().collect()
}

fn profile_of(main: &str, flags: &[&str]) -> Profile {
    let image = TempDir::new().unwrap();
    let root = image.path();
    let source = root.join("source.c");
    fs::write(&source, format!("#include <pthread.h>\n#include <string.h>\n{main}")).unwrap();
    fs::create_dir_all(root.join("lib64")).unwrap();
    let program = root.join("program");
    let mut cc = Process::new("cc");
    let out = cc
        .args(["-O1", "-w", "-D_GNU_SOURCE"])
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found = Process::new("cc").arg("-print-file-name=libc.so.6").output().unwrap();
    let libc = fs::canonicalize(String::from_utf8(found.stdout).unwrap().trim()).unwrap();
    for (from, to) in [(libc.to_str().unwrap(), "lib64/libc.so.6"), (LOADER, &LOADER[1..])] {
        fs::copy(from, root.join(to)).unwrap();
        fs::set_permissions(root.join(to), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let limits = Limits::everyday();
    let root = Root::of(Layer::open(root).unwrap(), &limits);
    let command = Command {
        argv: vec!["/program".to_owned()],
        path: Vec::new(),
        cwd: "/".to_owned(),
        loader_environment: BTreeMap::from([("LD_LIBRARY_PATH".to_owned(), "/lib64".to_owned())]),
        exec: Vec::new(),
    };
    generate(&root, None, &command, &NoCache, &limits).unwrap()
}

#[test]
fn ceiling_that_is_asked_for_and_default_that_is_set_bring_the_range_of_priorities() {
    let range = ["sched_get_priority_min", "sched_get_priority_max"];
    let locks = calls(
        "int main(int c, char **v) { pthread_mutex_t m; pthread_mutex_init(&m, (void *)v); return pthread_mutex_lock(&m); }",
    );
    assert!(range.iter().all(|call| !locks.contains(*call)), "{locks:?}");
    let asked = calls(
        "int main(void) { pthread_mutexattr_t a; int c; pthread_mutexattr_init(&a); return pthread_mutexattr_getprioceiling(&a, &c); }",
    );
    assert!(range.iter().all(|call| asked.contains(*call)), "{asked:?}");
    let set = calls(
        "int main(void) { pthread_attr_t a; pthread_getattr_default_np(&a); return pthread_setattr_default_np(&a); }",
    );
    assert!(range.iter().all(|call| set.contains(*call)), "{set:?}");
}

#[test]
fn static_program_without_names_has_those_changes_of_ids_that_its_functions_make() {
    let threads = "void *run(void *a) { return a; }\n\
        int main(int c, char **v) { pthread_t t; pthread_create(&t, 0, run, 0);";
    let none = calls_of(&format!("{threads} return c; }}"), &["-static-pie", "-s"]);
    assert!(none.contains("clone") && !none.contains("setuid") && !none.contains("setresgid"), "{none:?}");
    let one =
        calls_of(&format!("#include <unistd.h>\n{threads} return setegid(c); }}"), &["-static-pie", "-s"]);
    assert!(one.contains("setresgid") && !one.contains("setuid"), "{one:?}");
}

/// A struct that hands a call to a worker, laid out as glibc's own: with a change of ids of the program's own beside it.
#[test]
fn call_that_a_static_program_takes_from_a_struct_of_its_own_is_unresolved() {
    let main = |last: &str| {
        format!(
            "#include <unistd.h>\nstruct job {{ int number; long a[3]; }}; struct job job = {{ 39 }};\n\
             __asm__(\".text\\n.globl run\\n.type run,@function\\nrun: .cfi_startproc\\nmov %rdi, %rcx\\n\
             mov 8(%rcx), %rdi\\nmov 16(%rcx), %rsi\\nmov 24(%rcx), %rdx\\nmov (%rcx), %eax\\nsyscall\\nret\\n.cfi_endproc\\n\");\n\
             int main(int c, char **v) {{ {last} return run(&job); }}"
        )
    };
    for last in ["", "setuid(c);"] {
        let profile = profile_of(&main(last), &["-static-pie", "-s"]);
        assert_eq!(profile.unresolved.len(), 1, "{last}: {:?}", profile.unresolved);
    }
}
