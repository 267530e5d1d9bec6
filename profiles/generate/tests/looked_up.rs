//! What nothing calls by name and runs all the same: what dlsym(3) finds, and what the loader runs of its own accord.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/image.rs"]
mod image;

use std::{collections::BTreeMap, fs};

use bulkhead_profiles::syscall_number;
use image::{Image, assert_allows};

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
