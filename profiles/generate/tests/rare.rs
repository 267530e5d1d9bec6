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
    profile_with(main, flags, None)
}

/// `library`: its name, its text.
fn profile_with(main: &str, flags: &[&str], library: Option<(&str, &str)>) -> Profile {
    let image = TempDir::new().unwrap();
    let root = image.path();
    let source = root.join("source.c");
    fs::write(&source, format!("#include <pthread.h>\n#include <string.h>\n{main}")).unwrap();
    fs::create_dir_all(root.join("lib64")).unwrap();
    let cc = |to: &str, from: &[&str]| {
        let mut cc = Process::new("cc");
        cc.current_dir(root).args(["-O1", "-w", "-D_GNU_SOURCE"]).args(from).arg("-o").arg(to);
        let out = cc.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let to = library.map(|(name, text)| {
        let (to, soname) = (format!("lib64/{name}"), format!("-Wl,-soname,{name}"));
        fs::write(root.join("library.c"), text).unwrap();
        cc(&to, &["-shared", "-fPIC", &soname, "library.c"]);
        to
    });
    cc("program", &[flags, &["source.c"], to.as_deref().as_slice()].concat());
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

#[test]
fn a_loader_sets_the_timer_of_profiles_for_no_program_that_does_not_set_one_itself() {
    let none = calls("int main(void) { return 0; }");
    assert!(!none.contains("setitimer"), "{none:?}");
    let sets = calls(
        "#include <sys/time.h>\nint main(void) { struct itimerval v = { 0 }; return setitimer(0, &v, 0); }",
    );
    assert!(sets.contains("setitimer"), "{sets:?}");
}

/// libcap's table of wrappers, as its source has it.
const LIBCAP: &str = "#include <sys/syscall.h>\n#include <sys/prctl.h>\n#include <unistd.h>\n#include <grp.h>\n\
    int capset(void *, void *); static int overrode = 1;\n\
    static long three(long n, long a, long b, long c) { return syscall(n, a, b, c); }\n\
    static struct { long (*three)(long, long, long, long); } table = { three };\n\
    __attribute__((weak)) void psx_load_syscalls(void *at) { overrode = 0; }\n\
    void cap_set_syscall(void *new) { if (new) table.three = new; else psx_load_syscalls(&table); }\n\
    __attribute__((constructor)) static void initialise(void) { cap_set_syscall(0); }\n\
    int cap_set_proc(void *h, void *d) { return overrode ? table.three(SYS_capset, (long)h, (long)d, 0) : capset(h, d); }\n\
    int cap_setuid(int id) { return overrode ? table.three(SYS_setuid, id, 0, 0) : setuid(id); }\n\
    int cap_setgroups(int n, gid_t *g) { return overrode ? table.three(SYS_setgroups, n, (long)g, 0) : setgroups(n, g); }\n\
    int cap_drop_bound(int c) { return overrode ? table.three(SYS_prctl, 24, c, 0) : prctl(24, c, 0, 0, 0); }\n";

#[test]
fn numbers_of_libcaps_table_are_of_programs_that_put_something_there() {
    let calls = |main: &str| {
        let profile = profile_with(main, &["-rdynamic"], Some(("libcap.so.2", LIBCAP)));
        assert_eq!(profile.widened, None);
        profile.rows.into_keys().collect::<BTreeSet<String>>()
    };
    let sets = "int cap_set_proc(void *, void *); int main(void) { return cap_set_proc(0, 0); }";
    let by_libc = calls(sets);
    assert!(by_libc.contains("capset") && !by_libc.contains("capget"), "{by_libc:?}");
    for other in [
        "void psx_load_syscalls(void *at) {}",
        "void cap_set_syscall(void *); void *by(void) { return cap_set_syscall; }",
    ] {
        let by_table = calls(&format!("{other}\n{sets}"));
        assert!(by_table.contains("capset") && by_table.contains("capget"), "{other}: {by_table:?}");
    }
}

/// libcrypto's wait for a kernel of before 4.8, alone and grown into a function that does something else, too.
#[test]
fn what_waits_for_a_kernel_that_seeded_nothing_does_not_run() {
    let calls = |more: &str| {
        let text = format!(
            "#include <sys/shm.h>\n#include <sys/select.h>\n#include <sys/sysinfo.h>\n#include <fcntl.h>\n\
             static __attribute__((noinline)) int wait_random_seeded(void) {{ fd_set set; {more}\n\
             if (shmget(114, 1, 0) != -1) return 1; return select(open(\"/dev/random\", 0), &set, 0, 0, 0); }}\n\
             int RAND_bytes(void) {{ return wait_random_seeded(); }}"
        );
        let main = "int RAND_bytes(void); int main(void) { return RAND_bytes(); }";
        let profile = profile_with(main, &[], Some(("libcrypto.so.3", &text)));
        assert_eq!(profile.widened, None);
        profile.rows.into_keys().collect::<BTreeSet<String>>()
    };
    let selects = |calls: &BTreeSet<String>| calls.contains("pselect6") || calls.contains("select");
    let alone = calls("");
    assert!(!selects(&alone), "{alone:?}");
    let grown = calls("struct sysinfo info; sysinfo(&info);");
    assert!(selects(&grown) && grown.contains("sysinfo"), "{grown:?}");
}
