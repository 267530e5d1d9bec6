//! Functions whose address lies in data: which of them can run, and from when on.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/image.rs"]
mod image;

use std::fs;

use image::{Image, assert_allows};

/// Older linkers, and gold, map constants with the code.
#[test]
fn table_of_functions_among_constants_that_lie_with_the_code_is_data() {
    let image = Image::new();
    image.cc(
        "bin/program",
        "static void a(void) { call(SYS_getcwd); } static void b(void) { call(SYS_sysinfo); }\n\
         void never(void) { a(); b(); call(SYS_sync); }\n\
         static void (*const table[])(void) = {a, b};\n\
         void _start(int n) { table[n & 1](); }",
        &[
            "-static",
            "-no-pie",
            "-fno-pie",
            "-fno-inline",
            "-Wl,-z,noseparate-code",
            "-fno-asynchronous-unwind-tables",
        ],
    );
    assert_allows(&image.calls(), &["getcwd", "sysinfo"], &["sync"]);
}

/// A table of functions that `run` refers to, in some way, and `other` does not.
const TABLE: &str = "static void hidden(void) { call(SYS_sysinfo); }\n\
    void other(void) { call(SYS_umask); }\n";

#[test]
fn function_in_data_can_run_once_code_that_runs_refers_to_that_data_and_not_before() {
    let tables = [
        "static void (*const table[9])(void) = { hidden }; void run(int i) { table[i](); }",
        // Through the global offset table, and through a pointer in other data.
        "void (*const table[9])(void) = { hidden }; void run(int i) { table[i](); }",
        "static struct { void (*f)(void); } const table = { hidden }; void *at = &table;\n\
         void run(int i) { ((void (**)(void))at)[i](); }",
        // By a function of which nothing else is to be told.
        "static void (*const table[9])(void) = { hidden };\n\
         __attribute__((noinline)) static void *get(int i) { return table + i; }\n\
         void run(int i) { ((void (**)(void))get(i))[0](); }",
        // By 32-bit offsets from a table of constants, as clang writes a switch that chooses pointers.
        "__attribute__((used)) static void (*const table[9])(void) = { hidden };\n\
         __asm__(\".section .rodata\\n.balign 4\\noffsets: .long table - offsets, table + 8 - offsets\\n.text\\n\
         .globl run\\n.type run,@function\\nrun: lea offsets(%rip), %rcx\\nmovslq (%rcx,%rdi,4), %rax\\n\
         add %rcx, %rax\\njmp *(%rax)\\n\"); void run(int);",
        // By the address of what would lie far before the table, as an index has it that does not begin with nothing.
        "__attribute__((used)) static void (*const table[9])(void) = { hidden };\n\
         __asm__(\".globl run\\n.type run,@function\\nrun: lea table-32768(%rip), %rax\\njmp *(%rax,%rdi,8)\\n\"); void run(int);",
    ];
    for table in tables {
        let image = Image::new();
        image.library("lib/libtable.so", &format!("{TABLE}{table}"), &[]);
        image.program("void other(void); void _start(void) { other(); }", &["-ltable"]);
        assert_allows(&image.calls(), &["umask"], &["sysinfo"]);
        image.program("void run(int); void _start(void) { run(0); }", &["-ltable"]);
        assert_allows(&image.calls(), &["sysinfo"], &["umask"]);
    }
}

#[test]
fn function_in_data_can_run_where_another_file_names_that_data() {
    let image = Image::new();
    let text = format!("{TABLE}void (*const table[9])(void) = {{ hidden }};");
    image.library("lib/libtable.so", &text, &[]);
    for asks in [
        "extern void (*const table[9])(void); void _start(void) { table[0](); }",
        "void _start(void) { void (**f)(void) = dlsym(0, \"table\"); f[0](); }",
    ] {
        image.program(asks, &["-Wl,--no-as-needed", "-ltable", "-ldl"]);
        assert_allows(&image.calls(), &["sysinfo"], &["umask"]);
    }
    image.program("void _start(void) { call(SYS_sync); }", &["-Wl,--no-as-needed", "-ltable", "-ldl"]);
    assert_allows(&image.calls(), &["sync"], &["sysinfo", "umask"]);
}

#[test]
fn functions_in_data_can_run_from_the_start_where_section_headers_do_not_tell() {
    let image = Image::new();
    let table = "static void (*const table[9])(void) = { hidden }; void run(int i) { table[i](); }";
    image.library("lib/libtable.so", &format!("{TABLE}{table}"), &[]);
    let file = image.root().join("lib/libtable.so");
    let mut bytes = fs::read(&file).unwrap();
    // e_shoff, and e_shnum with e_shstrndx.
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    fs::write(&file, bytes).unwrap();
    image.program(
        "void _start(void) { call(SYS_umask); }",
        &["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", "-l:libtable.so"],
    );
    assert_allows(&image.calls(), &["sysinfo", "umask"], &[]);
}

#[test]
fn function_in_data_that_something_beyond_the_data_points_to_can_run_from_the_start() {
    let ops =
        "struct ops { void (*run)(void); long pad[999]; }; static const struct ops first = { hidden };\n";
    for points in [
        // What each thread has a copy of.
        "static __thread const struct ops *volatile current = &first; void run(void) { current->run(); }",
        // An operand that the loader writes into the code.
        "__attribute__((used)) static const struct ops *volatile unused = 0;\n\
         __asm__(\".text\\n.globl run\\n.type run,@function\\nrun: movabs $table, %rax\\njmp *(%rax)\\n\");\n\
         __attribute__((used, visibility(\"hidden\"))) const struct ops table = { hidden }; void run(void);",
    ] {
        let image = Image::new();
        let flags = ["-ftls-model=initial-exec", "-Wl,-z,notext"];
        image.library("lib/libops.so", &format!("{TABLE}{ops}{points}"), &flags);
        image.program("void run(void); void _start(void) { run(); }", &["-lops"]);
        assert_allows(&image.calls(), &["sysinfo"], &["umask"]);
    }
}

/// Data beyond what an operand reaches is named by its distance from the global offset table, and that by its distance from
/// the code.
#[test]
fn function_in_data_of_the_larger_code_models_can_run() {
    let table =
        "static void (*table[9000])(void) = { [0 ... 8999] = hidden }; void run(int i) { table[i](); }";
    for model in ["-mcmodel=medium", "-mcmodel=large"] {
        let image = Image::new();
        image.library("lib/libtable.so", &format!("{TABLE}{table}"), &[model, "-Wl,-z,lazy"]);
        image.program("void run(int); void _start(void) { run(0); }", &["-ltable"]);
        assert_allows(&image.calls(), &["sysinfo"], &["umask"]);
    }
}

/// Berkeley DB's shared memory is of environments, which its db_env_create makes.
#[test]
fn shared_memory_and_directories_of_an_environment_are_of_programs_that_make_one() {
    let image = Image::new();
    let system = "void shmget(void) { call(SYS_sysinfo); } void mkdir(void) { call(SYS_getpriority); }";
    image.library("lib/libsystem.so", system, &[]);
    let library = "void shmget(void); void __os_mkdir(void); void attach(void) { shmget(); __os_mkdir(); } void (*open)(void);\n\
        void mkdir(void); void __os_mkdir(void) { mkdir(); }\n\
        void db_create(void) { open = attach; call(SYS_umask); } void db_env_create(void) { db_create(); }";
    image.library("lib/libdb-5.3.so", library, &["-lsystem"]);
    let flags = ["-l:libdb-5.3.so", "-lsystem", "-ldl"];
    image.program("void db_create(void); void _start(void) { db_create(); }", &flags);
    assert_allows(&image.calls(), &["umask"], &["sysinfo", "getpriority"]);
    for asks in [
        "void db_env_create(void); void _start(void) { db_env_create(); }",
        "void db_create(void); void _start(void) { db_create(); ((void (*)(void))dlsym(0, \"db_env_create\"))(); }",
    ] {
        image.program(asks, &flags);
        assert_allows(&image.calls(), &["umask", "sysinfo", "getpriority"], &[]);
    }
}

/// Its place in the global offset table says which file's thread-local data is meant, and leads to no other data.
#[test]
fn function_in_data_cannot_run_for_the_address_that_thread_local_data_is_asked_by() {
    let table = "static void (*const table[9])(void) = { hidden }; void run(int i) { table[i](); }\n\
        static __thread int count; void *__tls_get_addr(void *at) { return 0; }\n\
        int counted(void) { return count++; }";
    let image = Image::new();
    image.library("lib/libtable.so", &format!("{TABLE}{table}"), &["-mtls-dialect=gnu"]);
    image.program("int counted(void); void _start(void) { if (counted()) call(SYS_sync); }", &["-ltable"]);
    assert_allows(&image.calls(), &["sync"], &["sysinfo", "umask"]);
    image.program("void run(int); void _start(void) { run(0); }", &["-ltable"]);
    assert_allows(&image.calls(), &["sysinfo"], &["umask"]);
}

#[test]
fn functions_in_data_can_run_from_the_start_where_the_table_of_frames_cannot_be_read() {
    let image = Image::new();
    let table = "static void (*const table[9])(void) = { hidden }; void run(int i) { table[i](); }";
    image.library("lib/libtable.so", &format!("{TABLE}{table}"), &[]);
    image.program("void other(void); void _start(void) { other(); }", &["-ltable"]);
    assert_allows(&image.calls(), &["umask"], &["sysinfo"]);
    let file = image.root().join("lib/libtable.so");
    let mut bytes = fs::read(&file).unwrap();
    let number = |bytes: &[u8], at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0usize, |number, byte| number << 8 | usize::from(*byte))
    };
    // e_phoff and e_phnum; PT_GNU_EH_FRAME and its p_offset, where the version is.
    let (headers, count) = (number(&bytes, 32, 8), number(&bytes, 56, 2));
    let mut headers = (0..count).map(|at| headers + at * 56);
    let header = headers.find(|at| number(&bytes, *at, 4) == 0x6474_e550).unwrap();
    let version = number(&bytes, header + 8, 8);
    bytes[version] = 9;
    fs::write(&file, bytes).unwrap();
    assert_allows(&image.calls(), &["umask", "sysinfo"], &[]);
}
