//! What nothing calls by name and runs all the same: what dlsym(3) finds, what the loader runs of its own accord, and what
//! lies in data.
//!
//! Each image is made of a few lines of C. Each function that may run makes a call of its own, which tells it apart.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command as Process,
};

use bulkhead_generate::{Command, Layer, Limits, NoCache, Profile, Root, generate};
use bulkhead_profiles::syscall_number;
use tempfile::TempDir;

const LOADER: &str = "/lib/ld.so";

/// `call(N)`, as no C library is there to make it.
const CALL: &str = "#define call(n) ({ long r = (n); __asm__ volatile(\"syscall\" : \"+a\"(r) :: \"rcx\", \"r11\", \"memory\"); r; })\n";

struct Image(TempDir);

impl Image {
    fn new() -> Self {
        let image = Self(TempDir::new().unwrap());
        image.library("lib/ld.so", "void _start(void) {}", &[]);
        image.library("lib/libdl.so", "void *dlopen(const char *n, int f) { return 0; }\nvoid *dlsym(void *h, const char *n) { return 0; }", &[]);
        image
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn cc(&self, to: &str, text: &str, flags: &[&str]) {
        let source = self.root().join("source.c");
        let mut head = CALL.to_owned();
        for name in ["getcwd", "sync", "umask", "sysinfo", "getpriority", "exit"] {
            head += &format!("#define SYS_{name} {}\n", syscall_number(name).unwrap());
        }
        head += "void *dlopen(const char *, int); void *dlsym(void *, const char *);\n";
        fs::write(&source, head + text).unwrap();
        let to = self.root().join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let mut cc = Process::new("cc");
        cc.args(["-x", "c", "-O1", "-w", "-fno-stack-protector", "-nostdlib", "-o"]).arg(&to).arg(&source);
        let out = cc.args(["-x", "none", "-L"]).arg(self.root().join("lib")).args(flags).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn library(&self, to: &str, text: &str, flags: &[&str]) {
        let name = Path::new(to).file_name().unwrap().to_str().unwrap();
        let soname = format!("-Wl,-soname,{name}");
        // As of every real library, some data of it has a relocation.
        let text = format!("static void *kept = &kept; void **data(void) {{ return &kept; }}\n{text}");
        self.cc(to, &text, &[&["-shared", "-fPIC", &soname], flags].concat());
    }

    /// `/bin/program`, loaded by the loader above.
    fn program(&self, text: &str, flags: &[&str]) {
        let loader = format!("-Wl,--dynamic-linker,{LOADER}");
        self.cc("bin/program", text, &[&["-pie", "-fPIE", &loader], flags].concat());
    }

    fn calls(&self) -> BTreeSet<String> {
        self.profile(BTreeMap::new()).rows.into_keys().collect()
    }

    fn profile(&self, loader_environment: BTreeMap<String, String>) -> Profile {
        let limits = Limits::everyday();
        let root = Root::of(Layer::open(self.root()).unwrap(), &limits);
        let command = Command {
            argv: vec!["/bin/program".to_owned()],
            path: Vec::new(),
            cwd: "/".to_owned(),
            loader_environment,
            exec: Vec::new(),
        };
        let profile = generate(&root, None, &command, &NoCache, &limits).unwrap();
        assert_eq!(profile.widened, None);
        assert!(profile.unresolved.is_empty(), "{:?}", profile.unresolved);
        profile
    }
}

fn assert_allows(calls: &BTreeSet<String>, yes: &[&str], no: &[&str]) {
    for name in yes {
        assert!(calls.contains(*name), "{name} of {calls:?}");
    }
    for name in no {
        assert!(!calls.contains(*name), "{name} of {calls:?}");
    }
}

#[test]
fn every_export_of_a_module_that_is_loaded_by_name_can_run_and_what_it_keeps_to_itself_cannot() {
    let image = Image::new();
    image.library(
        "lib/plugin.so",
        "void PyInit_x(void) { call(SYS_getcwd); }\n\
         __attribute__((visibility(\"hidden\"), noinline)) void own(void) { call(SYS_sync); }\n\
         static int never;\n\
         __attribute__((visibility(\"hidden\"))) void other(void) { own(); }",
        &["-fno-asynchronous-unwind-tables"],
    );
    image.program("void _start(void) { dlopen(\"plugin.so\", 1); call(SYS_exit); }", &["-ldl"]);
    assert_allows(&image.calls(), &["getcwd", "exit"], &["sync"]);
}

#[test]
fn what_a_module_needs_is_called_by_its_imports_and_not_by_all_that_it_exports() {
    let image = Image::new();
    image.library(
        "lib/libneeded.so",
        "void used(void) { call(SYS_getcwd); }\nvoid unused(void) { call(SYS_sync); }",
        &[],
    );
    image.library("lib/plugin.so", "void used(void); void entry(void) { used(); }", &["-lneeded"]);
    image.program("void _start(void) { dlopen(\"plugin.so\", 1); }", &["-ldl"]);
    assert_allows(&image.calls(), &["getcwd"], &["sync"]);
}

#[test]
fn every_export_of_a_preload_can_run() {
    let image = Image::new();
    image.library("lib/preload.so", "void hook(void) { call(SYS_getcwd); }", &[]);
    image.program("void _start(void) { call(SYS_exit); }", &[]);
    let calls = |environment: &[(&str, &str)]| {
        let of = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        image.profile(environment.iter().map(of).collect()).rows.into_keys().collect()
    };
    assert_allows(&calls(&[("LD_PRELOAD", "/lib/preload.so")]), &["getcwd"], &[]);
    assert_allows(&calls(&[]), &["exit"], &["getcwd"]);
}

/// Services of names are loaded by the C library, whatever the program imports.
#[test]
fn service_of_nsswitch_is_taken_in_where_only_the_c_library_loads() {
    let image = Image::new();
    image.library("lib/libc.so.6", "void lookup(void) {}", &[]);
    image.library("lib/libnss_own.so.2", "void _nss_own_get(void) { call(SYS_getcwd); }", &[]);
    image.program("void lookup(void); void _start(void) { lookup(); }", &["-l:libc.so.6"]);
    assert_allows(&image.calls(), &[], &["getcwd"]);
    fs::create_dir_all(image.root().join("etc")).unwrap();
    fs::write(image.root().join("etc/nsswitch.conf"), "passwd: files own\n").unwrap();
    assert_allows(&image.calls(), &["getcwd"], &[]);
}

#[test]
fn export_of_a_library_can_run_where_its_name_is_a_text_and_dlsym_can_run() {
    let library = "void found(void) { call(SYS_getcwd); }\n\
                   void inner(void) { call(SYS_sysinfo); }\n\
                   void silent(void) { call(SYS_sync); }";
    let texts = "const char *name(int n) { return n ? \"found\" : \"not found\"; }\n\
                 const char tail[] = \"an inner\"; const char *const inner = tail + 3;\n";
    let image = Image::new();
    image.library("lib/libx.so", library, &[]);
    let flags = ["-Wl,--no-as-needed", "-lx", "-ldl", "-O2"];
    image.program(&format!("{texts}void _start(int n) {{ dlsym(0, name(n)); dlsym(0, inner); }}"), &flags);
    assert_allows(&image.calls(), &["getcwd", "sysinfo"], &["sync"]);
    // The same texts without anybody who looks up.
    image.program(&format!("{texts}void _start(int n) {{ name(n); call(SYS_exit); }}"), &flags);
    assert_allows(&image.calls(), &["exit"], &["getcwd", "sysinfo", "sync"]);
}

#[test]
fn a_name_that_is_no_constant_is_noted() {
    let image = Image::new();
    let noted =
        || image.profile(BTreeMap::new()).notes.iter().any(|note| note.contains("looks functions up"));
    image.program("void _start(void) { dlsym(0, \"constant\"); }", &["-ldl"]);
    assert!(!noted());
    image.program("void _start(void) { char name[9]; dlsym(0, name); }", &["-ldl"]);
    assert!(noted());
}

/// An initialiser of assembly, within what the unwind tables call another function.
#[test]
fn initialisers_and_finalisers_run_wherever_they_begin() {
    let image = Image::new();
    let code = |name: &str, array: &str| {
        let number = syscall_number(name).unwrap();
        format!(
            "__asm__(\".pushsection .text\\n.cfi_startproc\\nnop\\nret\\n\
             .L{name}: mov ${number}, %eax\\nsyscall\\nret\\n.cfi_endproc\\n.popsection\\n\
             .pushsection {array},\\\"aw\\\"\\n.quad .L{name}\\n.popsection\");\n"
        )
    };
    let library = code("getcwd", ".init_array") + &code("sync", ".fini_array");
    image.library("lib/libx.so", &library, &[]);
    image.program("void _start(void) { call(SYS_exit); }", &["-Wl,--no-as-needed", "-lx"]);
    assert_allows(&image.calls(), &["getcwd", "sync", "exit"], &["umask"]);
}

/// The same in a table of the program's own: no C compiler writes it, an assembler does.
#[test]
fn address_within_a_function_that_no_jump_reaches_is_called() {
    let image = Image::new();
    let number = syscall_number("getcwd").unwrap();
    image.program(
        &format!(
            "__asm__(\".pushsection .text\\n.cfi_startproc\\nnop\\nret\\n\
             .Linner: mov ${number}, %eax\\nsyscall\\nret\\n.cfi_endproc\\n.popsection\\n\
             .pushsection .data.rel.ro,\\\"aw\\\"\\n.globl table\\ntable: .quad .Linner\\n.popsection\");\n\
             extern void (*table[])(void); void _start(int n) {{ table[n](); }}"
        ),
        &[],
    );
    assert_allows(&image.calls(), &["getcwd"], &["sync"]);
}

#[test]
fn resolver_runs_where_somebody_binds_to_it_with_none_of_the_callers_arguments() {
    let image = Image::new();
    let library = "void one(void) {}\n\
                   static void *choose(int n) { if (n == 7) return one; call(SYS_getcwd); return one; }\n\
                   void chosen(int) __attribute__((ifunc(\"choose\")));";
    image.library("lib/libx.so", library, &[]);
    image.program("void chosen(int); void _start(void) { chosen(7); }", &["-lx"]);
    assert_allows(&image.calls(), &["getcwd"], &["sync"]);
    image.program("void _start(void) { call(SYS_exit); }", &["-Wl,--no-as-needed", "-lx"]);
    assert_allows(&image.calls(), &["exit"], &["getcwd"]);
}

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

/// A buffer at the stack's top is handed on as a copy of the stack pointer.
#[test]
fn branch_on_what_the_kernel_or_a_callee_wrote_on_the_stack_is_followed() {
    let image = Image::new();
    image.program(
        "__attribute__((noinline)) void fill(long *n) { *n = (long)n & 64; }\n\
         __attribute__((noinline)) void one(void) { long n = 0; fill(&n); if (n) call(SYS_getcwd); }\n\
         __attribute__((noinline)) void two(void) {\n\
           struct { long n; long pad[4]; } s; long r = 0; s.n = 0;\n\
           __asm__ volatile(\"syscall\" : \"+a\"(r) : \"D\"(0), \"S\"(&s), \"d\"(8) : \"rcx\", \"r11\", \"memory\");\n\
           if (s.n) call(SYS_sysinfo); }\n\
         void _start(void) { one(); two(); }",
        &["-fno-ipa-ra"],
    );
    assert_allows(&image.calls(), &["getcwd", "sysinfo"], &["sync"]);
}

#[test]
fn function_of_the_programs_own_that_has_the_name_of_one_that_never_comes_back_does() {
    let image = Image::new();
    image.program(
        "int n; __attribute__((noinline)) int err(int by) { n += by; return n; }\n\
         void _start(void) { if (err(3)) call(SYS_getcwd); call(SYS_exit); }",
        &["-Wl,--export-dynamic"],
    );
    assert_allows(&image.calls(), &["getcwd", "exit"], &["sync"]);
}

#[test]
fn sign_of_a_number_that_is_widened_or_cut_is_that_of_the_processor() {
    let image = Image::new();
    let function = |name: &str, code: &str, call: &str| {
        let number = syscall_number(call).unwrap();
        format!(
            "__asm__(\".pushsection .text\\n.type {name},@function\\n.globl {name}\\n{name}: .cfi_startproc\\n\
             {code}\\nmov ${number}, %eax\\nsyscall\\n1: ret\\n.cfi_endproc\\n.popsection\");\n\
             void {name}(int);\n"
        )
    };
    let text = function("widened", "movslq %edi, %rax\\ncmp $-1, %rax\\njne 1f", "getcwd")
        + &function("reduced", "mov $-128, %eax\\nsub $-128, %eax\\njne 1f", "sysinfo")
        + &function("cut", "mov $128, %eax\\ntest %al, %al\\njns 1f", "getpriority")
        + &function("not", "mov $1, %eax\\ntest %al, %al\\njne 1f", "sync");
    let flags = &["-Wl,-Bsymbolic"];
    image.program(&format!("{text}void _start(void) {{ widened(-1); reduced(0); cut(0); not(0); }}"), flags);
    assert_allows(&image.calls(), &["getcwd", "sysinfo", "getpriority"], &["sync"]);
}

/// Text that nobody looks up is no name: dlsym can run, with a constant of its own and one that a caller hands on.
#[test]
fn constant_name_is_the_only_one_found_also_through_a_wrapper() {
    let library = "void found(void) { call(SYS_getcwd); }\n\
                   void wrapped(void) { call(SYS_sysinfo); }\n\
                   void silent(void) { call(SYS_sync); }";
    let image = Image::new();
    image.library("lib/libx.so", library, &[]);
    let flags = ["-Wl,--no-as-needed", "-lx", "-ldl", "-O2"];
    let program = |last: &str| {
        format!(
            "const char *text(void) {{ return \"silent\"; }}\n\
             __attribute__((noinline)) void *find(const char *name) {{ return dlsym(0, name); }}\n\
             void _start(int n) {{ text(); dlsym(0, \"found\"); find(\"wrapped\"); {last} }}"
        )
    };
    image.program(&program("call(SYS_exit);"), &flags);
    assert_allows(&image.calls(), &["getcwd", "sysinfo"], &["sync"]);
    // One name that is not known, and any text may be it.
    image.program(&program("find(n ? text() : (char *)(long)n);"), &flags);
    assert_allows(&image.calls(), &["getcwd", "sysinfo", "sync"], &[]);
}

/// Nothing is found by no name: where a call has one or none, it is that one.
#[test]
fn name_that_may_be_none_is_still_the_only_one_found() {
    let library = "void found(void) { call(SYS_getcwd); }\n\
                   void silent(void) { call(SYS_sync); }";
    let image = Image::new();
    image.library("lib/libx.so", library, &[]);
    let program = |other: &str| {
        format!(
            "const char *text(void) {{ return \"silent\"; }}\n\
             void _start(int n) {{ text(); dlsym(0, n ? \"found\" : {other}); call(SYS_exit); }}"
        )
    };
    let flags = ["-Wl,--no-as-needed", "-lx", "-ldl", "-O2"];
    image.program(&program("0"), &flags);
    assert_allows(&image.calls(), &["getcwd"], &["sync"]);
    // An address that is no text may be any.
    image.program(&program("(char *)1"), &flags);
    assert_allows(&image.calls(), &["getcwd", "sync"], &[]);
}

/// A part of a function that nothing but its table of jumps leads to runs where that function does, and only there.
#[test]
fn part_that_a_table_of_jumps_leads_to_runs_with_its_function() {
    let library = format!(
        "__asm__(\".text\\n\"\n\
         \".type part, @function\\npart: .cfi_startproc\\nmov ${}, %eax\\nsyscall\\nret\\n.cfi_endproc\\n\"\n\
         \".size part, .-part\\n.globl chooses\\n.type chooses, @function\\nchooses: .cfi_startproc\\n\"\n\
         \"lea 2f(%rip), %rdx\\nmovslq (%rdx,%rdi,4), %rax\\nadd %rdx, %rax\\njmp *%rax\\n1: ret\\n.cfi_endproc\\n\"\n\
         \".size chooses, .-chooses\\n.section .rodata\\n2: .long 1b - 2b, part - 2b\\n.text\");\n\
         void quiet(void) {{ call(SYS_umask); }}",
        syscall_number("sync").unwrap()
    );
    let image = Image::new();
    image.library("lib/libx.so", &library, &[]);
    let flags = ["-lx"];
    image.program("void chooses(int); void _start(int n) { chooses(n); call(SYS_exit); }", &flags);
    assert_allows(&image.calls(), &["sync", "exit"], &["umask"]);
    image.program("void quiet(void); void _start(int n) { quiet(); call(SYS_exit); }", &flags);
    assert_allows(&image.calls(), &["umask", "exit"], &["sync"]);
}

/// A function that only the file's own code calls through its global offset table is called with those arguments.
#[test]
fn number_of_a_call_through_the_global_offset_table_is_known() {
    let image = Image::new();
    let wrapper =
        "__attribute__((noinline, visibility(\"hidden\"))) long wrapper(long n) { return call(n); }\n";
    let through = "__asm__(\".text\\n.globl through\\nthrough: sub $8, %rsp\\n call *wrapper@GOTPCREL(%rip)\\n add $8, %rsp\\n ret\\n\");\n\
                   long through(long n);\n";
    let start = "void _start(void) { through(SYS_getcwd); }";
    image.program(&format!("{wrapper}{through}{start}"), &["-Wl,--no-relax", "-fcf-protection=none"]);
    assert_allows(&image.calls(), &["getcwd"], &["sync"]);
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

/// Each frame of a long chain jumps into the next; the last one jumps to where nothing tells.
#[test]
fn chain_of_a_hundred_thousand_frames_is_analysed() {
    let image = Image::new();
    image.program(
        "__asm__(\".text\\nchain:\\n.rept 100000\\n.cfi_startproc\\njmp 1f\\n.cfi_endproc\\n1:\\n.endr\\n\
         .cfi_startproc\\njmp *%rdi\\n.cfi_endproc\\n\"); void chain(void *);\n\
         void _start(void) { call(SYS_exit); }",
        &[],
    );
    assert_allows(&image.calls(), &["exit"], &["sync"]);
}
