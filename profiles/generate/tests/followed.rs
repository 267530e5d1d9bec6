//! Which way a function goes: what branches, jumps through tables, calls and numbers tell of it.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/image.rs"]
mod image;

use std::collections::BTreeSet;

use bulkhead_profiles::syscall_number;
use image::{Image, assert_allows};

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

/// Two parts of code that `chooses` may come to, of which only what it jumps to tells.
fn chosen(chooses: &str, table: &str, besides: &str) -> BTreeSet<String> {
    let entering = |name| format!("mov ${}, %eax\\nsyscall\\nret\\n", syscall_number(name).unwrap());
    let (sync, umask) = (entering("sync"), entering("umask"));
    let library = format!(
        "__asm__(\".text\\n{besides}\"\n\
         \".globl chooses\\n.type chooses, @function\\nchooses: .cfi_startproc\\n{chooses}.cfi_endproc\\n\"\n\
         \".size chooses, .-chooses\\n.section .rodata\\n{table}\\n.text\");"
    );
    let library = library.replace("SYNC", &sync).replace("UMASK", &umask);
    let image = Image::new();
    image.library("lib/liby.so", "void enters(void) { call(SYS_getcwd); }", &[]);
    image.library("lib/libx.so", &library, &["-ly"]);
    image.program("void chooses(int); void _start(int n) { chooses(n); call(SYS_exit); }", &["-lx", "-ly"]);
    image.calls()
}

const THROUGH: &str = "cmp $MOST, %edi\\nja 1f\\nmov %edi, %edi\\nlea 2f(%rip), %rdx\\nmovslq (%rdx,%rdi,4), %rax\\n\
     add %rdx, %rax\\njmp *%rax\\n";

#[test]
fn code_that_no_unwind_table_lists_runs_where_a_table_of_jumps_leads_there() {
    let through = THROUGH.replace("MOST", "1") + "1: ret\\n";
    let part = ".Lpart: SYNC";
    assert_allows(&chosen(&through, "2: .long 1b - 2b, .Lpart - 2b", part), &["sync"], &["umask"]);
    assert_allows(&chosen(&through, "2: .long 1b - 2b, 1b - 2b", part), &[], &["sync", "umask"]);
}

#[test]
fn entries_of_a_table_of_jumps_are_followed_however_long_it_is() {
    let through = THROUGH.replace("MOST", "599") + "1: ret\\n";
    let parts = "part: .cfi_startproc\\n.La: SYNC.Lb: UMASK.cfi_endproc\\n";
    let table = |last: &str| {
        let mut table = vec!["1b - 2b"; 600];
        (table[530], table[560]) = (".La - 2b", last);
        format!("2: .long {}", table.join(", "))
    };
    assert_allows(&chosen(&through, &table(".Lb - 2b"), parts), &["sync", "umask"], &["getcwd"]);
}

/// The bytes before it begin a longer instruction where they are read in order.
#[test]
fn instruction_that_only_a_table_of_jumps_tells_runs() {
    let through = |most: &str| {
        THROUGH.replace("MOST", most)
            + "2: .long 1f - 2b, 3f - 2b\\n.byte 0x48, 0xb8\\n3: call part\\nret\\nnop\\nnop\\nnop\\nnop\\n1: ret\\n"
    };
    let part = "part: .cfi_startproc\\nSYNC.cfi_endproc\\n\
                .globl quiet\\n.type quiet, @function\\nquiet: .cfi_startproc\\ncall part\\nUMASK.cfi_endproc\\n.size quiet, .-quiet\\n";
    assert_allows(&chosen(&through("1"), "", part), &["sync"], &["umask"]);
}

#[test]
fn way_into_the_middle_of_another_function_leads_to_what_is_there() {
    let other = ".globl other\\n.type other, @function\\nother: .cfi_startproc\\nxor %eax, %eax\\nret\\n.Lmid: sub $8, %rsp\\n\
                 call enters@PLT\\nadd $8, %rsp\\nret\\n.cfi_endproc\\n.size other, .-other\\n";
    assert_allows(&chosen("test %edi, %edi\\njne .Lmid\\nret\\n", "", other), &["getcwd"], &["sync"]);
    assert_allows(&chosen("test %edi, %edi\\njne other\\nret\\n", "", other), &[], &["getcwd"]);
}
