//! Where the number of a call comes from: Go's frames and variables, a register that is held over a loop, a table that
//! ends before what chooses from it does. Each program is of real code, and has a twin of which the number is not known.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command as Process};

use bulkhead_profiles::syscall_number;
use tempfile::TempDir;

fn run(command: &mut Process) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// The calls of `/program`, if the number of each is known.
fn known(root: &Path) -> Option<Vec<String>> {
    fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    let profile = support::profile(root, &["/program"], &[]);
    assert_eq!(profile.widened.is_some(), !profile.unresolved.is_empty(), "{:?}", profile.widened);
    profile.widened.is_none().then(|| profile.rows.into_keys().collect())
}

fn makes(calls: Option<Vec<String>>, wanted: &[&str]) {
    let calls = calls.expect("each number is known");
    for name in wanted {
        assert!(calls.iter().any(|call| call == name), "{name} of {calls:?}");
    }
}

/// A Go program, and functions of its package in the processor's own words.
fn go(text: &str, assembly: &str) -> Option<Vec<String>> {
    go_of("made", text, assembly, "")
}

/// The same, of a module of this name, whose package `unix` has other functions.
fn go_of(module: &str, text: &str, assembly: &str, unix: &str) -> Option<Vec<String>> {
    let (root, source) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fs::write(source.path().join("go.mod"), format!("module {module}\n\ngo 1.18\n")).unwrap();
    fs::create_dir(source.path().join("unix")).unwrap();
    fs::write(source.path().join("unix/unix.go"), format!("package unix\n{unix}")).unwrap();
    fs::write(source.path().join("main.go"), format!("package main\n{text}")).unwrap();
    // Go's own assembler does not assemble for programs with C code.
    let with_c = assembly.is_empty();
    if !with_c {
        let assembly = format!("#include \"textflag.h\"\n{assembly}");
        fs::write(source.path().join("calls_amd64.s"), assembly).unwrap();
    }
    let mut build = Process::new("go");
    let with_c = if with_c { "1" } else { "0" };
    build.current_dir(source.path()).env("CGO_ENABLED", with_c).env("GOTOOLCHAIN", "local");
    build.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(root.path().join("program"));
    run(&mut build);
    known(root.path())
}

/// By Go's first convention, with all arguments on the stack, as its raw calls are to Go 1.20.
const RAW: &str = "TEXT ·raw(SB),NOSPLIT,$0-8
    MOVQ n+0(FP), AX
    SYSCALL
    RET
TEXT ·framed(SB),$8-8
    MOVQ n+0(FP), AX
    MOVQ AX, 0(SP)
    CALL ·raw(SB)
    RET
";

#[test]
fn number_that_go_hands_on_through_a_frame_is_known() {
    let program = |number: &str| {
        format!(
            "import \"os\"\nfunc raw(n uintptr)\nfunc framed(n uintptr)\n\
             func main() {{ framed({}); framed(uintptr({number})); _ = os.Args }}",
            syscall_number("sysinfo").unwrap()
        )
    };
    let constant = syscall_number("getpgrp").unwrap().to_string();
    makes(go(&program(&constant), RAW), &["sysinfo", "getpgrp"]);
    assert_eq!(go(&program("len(os.Args)"), RAW), None);
}

/// Such a program begins in the C library's code, so that its entry point tells nothing of where Go's code begins.
#[test]
fn number_that_go_hands_on_in_a_program_with_c_code_is_known() {
    let program = |number: &str| {
        format!(
            "// int one(void) {{ return 1; }}\nimport \"C\"\nimport (\"os\"; \"os/exec\"; \"syscall\")\n\
             func main() {{ _ = os.Args; syscall.RawSyscall(uintptr({number}), uintptr(C.one()), 0, 0)\n\
             exec.Command(\"/x\").Run() }}"
        )
    };
    let constant = syscall_number("getpgrp").unwrap().to_string();
    makes(go(&program(&constant), ""), &["getpgrp", "clone", "execve"]);
    assert_eq!(go(&program("len(os.Args)"), ""), None);
}

#[test]
fn number_in_a_function_of_go_that_begins_again_after_one_that_never_returns_is_known() {
    let program = |number: &str| {
        format!(
            "import \"os\"\nfunc raw(n uintptr)\nfunc framed(n uintptr)\n\
             //go:noinline\nfunc fill(b []byte) {{ for i := range b {{ b[i] = byte(i) }} }}\n\
             //go:noinline\nfunc large(v any) string {{\n\
                 var b [4096]byte\n fill(b[:])\n raw(uintptr({number}))\n s := v.(string)\n return s + string(b[:9])\n}}\n\
             func main() {{ println(large(os.Args[0])) }}"
        )
    };
    let constant = syscall_number("sysinfo").unwrap().to_string();
    makes(go(&program(&constant), RAW), &["sysinfo"]);
    assert_eq!(go(&program("len(os.Args)"), RAW), None);
}

/// golang.org/x/sys/unix has such a variable.
#[test]
fn number_in_a_variable_that_nothing_of_a_go_program_writes_is_known() {
    let program = |reader: &str, besides: &str| {
        let package = format!(
            "import (\"os\"; \"syscall\")\nvar fcntl64Syscall uintptr = syscall.SYS_FCNTL\n\
             //go:noinline\nfunc set(n *uintptr) {{ *n = uintptr(len(os.Args)) }}\n\
             //go:noinline\nfunc {reader}(fd, cmd uintptr) {{ syscall.RawSyscall(fcntl64Syscall, fd, cmd, 0) }}\n\
             func Make() {{ {besides}; {reader}(0, 1) }}"
        );
        go_of(
            "golang.org/x/sys",
            "import \"golang.org/x/sys/unix\"\nfunc main() { unix.Make() }",
            "",
            &package,
        )
    };
    makes(program("fcntl", "_ = os.Args"), &["fcntl"]);
    assert_eq!(program("fcntl", "if len(os.Args) > 3 { fcntl64Syscall = 39 }"), None);
    assert_eq!(program("fcntl", "set(&fcntl64Syscall)"), None);
    assert_eq!(program("other", "_ = os.Args"), None);
}

#[test]
fn number_in_a_field_that_a_go_program_writes_where_its_structure_begins_is_not_known() {
    let program = |number: &str| {
        format!(
            "import (\"os\"; \"syscall\")\ntype pair struct {{ a, b uintptr }}\nvar with = pair{{1, 72}}\n\
             //go:noinline\nfunc set(p *pair, n uintptr) {{ p.b = n }}\n\
             func main() {{ set(&with, uintptr(len(os.Args))+94); syscall.RawSyscall({number}, 0, 0, 0) }}"
        )
    };
    makes(go(&program("99"), ""), &["sysinfo"]);
    assert_eq!(go(&program("with.b"), ""), None);
}

/// So many functions that one begins at whatever distance from the entry point.
#[test]
fn functions_of_a_large_go_program_are_where_its_entry_point_says() {
    let program = |number: &str| {
        format!(
            "import (\"net/http\"; _ \"net/http/pprof\"; \"os\")\nfunc raw(n uintptr)\nfunc framed(n uintptr)\n\
             func main() {{ framed({number}); http.ListenAndServe(os.Args[0], nil) }}"
        )
    };
    makes(go(&program("99"), RAW), &["sysinfo", "accept4", "sendfile"]);
    assert_eq!(go(&program("uintptr(len(os.Args))"), RAW), None);
}

/// A static program of functions in the processor's own words, each of a frame of its own.
fn assembled(functions: &[(&str, &str)], data: &str) -> Option<Vec<String>> {
    let root = TempDir::new().unwrap();
    let mut text = ".intel_syntax noprefix\n.text\n.globl _start\n".to_owned();
    for (name, code) in functions {
        text += &format!(
            ".type {name},@function\n{name}: .cfi_startproc\n{code}\n.cfi_endproc\n.size {name}, . - {name}\n"
        );
    }
    fs::write(root.path().join("source.s"), text + data).unwrap();
    let mut cc = Process::new("cc");
    cc.args(["-nostdlib", "-static", "-no-pie", "-o"]).arg(root.path().join("program"));
    run(cc.arg(root.path().join("source.s")));
    known(root.path())
}

#[test]
fn table_that_a_byte_chooses_from_ends_where_its_function_does() {
    // What was compared is a byte, and what chooses is a copy of it that was made before.
    let chooses = "movzx eax, dil\npush rax\ncmp dil, 1\nja 2f\npop rcx\nlea rdx, [rip + table]\n\
        movsxd rcx, dword ptr [rdx + rcx*4]\nadd rcx, rdx\njmp rcx\n1: mov eax, 99\nsyscall\n2: hlt";
    let other = "mov eax, 111\n.globl middle\nmiddle: syscall\nhlt";
    let table = |more: &str| {
        format!(".section .rodata\n.align 4\ntable: .long first - table, second - table\n{more}\n")
    };
    let chooses =
        chooses.replace("1: mov", ".globl first\nfirst: mov").replace("2: hlt", ".globl second\nsecond: hlt");
    let chooses = chooses.replace("ja 2f", "ja second");
    let functions = [("_start", chooses.as_str()), ("other", other)];
    // The next table is of another function.
    makes(assembled(&functions, &table(".long middle - table")), &["sysinfo"]);

    // One that is the function's own to its end is followed to its end.
    let whole = "movzx eax, dil\nlea rdx, [rip + table]\nmovsxd rcx, dword ptr [rdx + rax*4]\nadd rcx, rdx\n\
        jmp rcx\n.globl first\nfirst: hlt\n.globl second\nsecond: mov eax, 99\nsyscall\nhlt";
    let table =
        ".section .rodata\n.align 4\ntable: .rept 255\n.long first - table\n.endr\n.long second - table\n";
    makes(assembled(&[("_start", whole)], table), &["sysinfo"]);
}

/// A program with a library that makes any call, whose address a register has.
fn linked(start: &str) -> Option<Vec<String>> {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("lib")).unwrap();
    fs::write(
        at("any.s"),
        "first: ret\n.globl any\n.type any,@function\nany: mov %rdi, %rax\nsyscall\nret\n",
    )
    .unwrap();
    run(Process::new("cc").args(["-shared", "-nostdlib", "-o"]).arg(at("lib/libany.so")).arg(at("any.s")));
    fs::write(at("ld.s"), ".globl _start\n_start: hlt\n").unwrap();
    run(Process::new("cc").args(["-shared", "-nostdlib", "-o"]).arg(at("lib/ld.so")).arg(at("ld.s")));
    let text =
        format!(".intel_syntax noprefix\n.globl _start\n_start: .cfi_startproc\n{start}\n.cfi_endproc\n");
    fs::write(at("start.s"), text).unwrap();
    let mut cc = Process::new("cc");
    cc.args(["-nostdlib", "-pie", "-Wl,--dynamic-linker,/lib/ld.so", "-o"]).arg(at("program"));
    run(cc.arg(at("start.s")).arg("-L").arg(at("lib")).arg("-lany"));
    fs::set_permissions(at("lib/ld.so"), fs::Permissions::from_mode(0o755)).unwrap();
    known(root.path())
}

#[test]
fn function_whose_address_a_register_has_over_a_loop_is_called_with_what_is_handed_to_it_there() {
    let looped = |after: &str| {
        format!(
            "push r15\ntest edi, edi\njne 2f\nmov r15, [rip + any@GOTPCREL]\n\
             1: mov edi, 99\ncall r15\ntest eax, eax\njne 1b\n2: test ebx, ebx\nje 3f\n{after}\npop r15\nret\n\
             3: dec ebx\njne 3b\nud2"
        )
    };
    makes(linked(&looped("mov edi, 111")), &["sysinfo"]);
    // There it may still be in the register, and what it is handed is not known.
    assert_eq!(linked(&looped("mov edi, esi\ncall r15")), None);
}

/// A C program of one function that makes any call, with as many other arguments as it is called with.
fn compiled(calls: &str, data: &str, flags: &[&str]) -> Option<Vec<String>> {
    let root = TempDir::new().unwrap();
    let text = format!(
        "long n;\nvoid first(void) {{}}\n__attribute__((noinline, noclone)) void any(long number, long with) {{\n\
           long other = 99;\n\
           if (with == 7) __asm__ volatile(\"syscall\" : \"+a\"(other) :: \"rcx\", \"r11\", \"memory\");\n\
           __asm__ volatile(\"syscall\" : \"+a\"(number) : \"D\"(with) : \"rcx\", \"r11\", \"memory\");\n}}\n\
         {data}\nvoid _start(void) {{\n{calls}\nfor (;;);\n}}\n"
    );
    fs::write(root.path().join("source.c"), text).unwrap();
    let mut cc = Process::new("cc");
    cc.args(["-O1", "-w", "-nostdlib", "-fno-stack-protector"]).args(flags).arg("-o");
    run(cc.arg(root.path().join("program")).arg(root.path().join("source.c")));
    known(root.path())
}

#[test]
fn number_is_known_however_many_other_arguments_come_with_it() {
    let many: String = (0..700).map(|with| format!("any(111, {with});\n")).collect();
    makes(compiled(&many, "", &["-static"]), &["sysinfo", "getpgrp"]);
    assert_eq!(compiled(&(many + "any(n, 1);"), "", &["-static"]), None);
}

#[test]
fn address_in_the_table_of_symbols_is_read_by_the_loader_alone() {
    let flags = ["-no-pie", "-rdynamic", "-Wl,--dynamic-linker,/program", "-Wl,--hash-style=both"];
    makes(compiled("any(111, 1);", "", &flags), &["getpgrp"]);
    let pointed_to = "void (*volatile at)(long, long) = any;";
    assert_eq!(compiled("any(111, 1); at(n, 1);", pointed_to, &flags), None);
}

/// A program that asks dlsym for what it is told, with a library that makes any call and one with a table of names.
fn asks(library: &str, besides: &str) -> Option<Vec<String>> {
    let root = TempDir::new().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("lib")).unwrap();
    let shared = |name: &str, text: &str| {
        fs::write(
            at("source.c"),
            format!(
                "static void *kept = &kept; void **data_{}(void) {{ return &kept; }}\n{text}",
                name.len()
            ),
        )
        .unwrap();
        let mut cc = Process::new("cc");
        cc.args(["-O1", "-w", "-fno-stack-protector", "-nostdlib", "-shared", "-fPIC", "-o"]);
        run(cc.arg(at("lib").join(name)).arg(at("source.c")).arg(format!("-Wl,-soname,{name}")));
        fs::set_permissions(at("lib").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    shared("ld.so", "void _start(void) {}");
    shared(
        "libcalls.so",
        "long syscall(long n) { __asm__ volatile(\"syscall\" : \"+a\"(n) :: \"rcx\", \"r11\", \"memory\"); return n; }\n\
         void *dlsym(void *h, const char *name) { return 0; }",
    );
    shared(
        library,
        "const char *audit_syscall_to_name(int n) { return \"read\\0syscall\" + n; }\nvoid audit_open(void) {}",
    );
    let text = format!(
        "void *dlsym(void *, const char *); const char *audit_syscall_to_name(int); void audit_open(void);\n\
         long syscall(long); char name[9];\n\
         void _start(void) {{ audit_open(); syscall(99); {besides}; void (*f)(void) = dlsym(0, name); f(); for (;;); }}"
    );
    fs::write(at("program.c"), text).unwrap();
    let mut cc = Process::new("cc");
    cc.args([
        "-O1",
        "-w",
        "-fno-stack-protector",
        "-nostdlib",
        "-pie",
        "-fPIE",
        "-Wl,--dynamic-linker,/lib/ld.so",
        "-o",
    ]);
    cc.arg(at("program")).arg(at("program.c")).arg(at("lib/libcalls.so")).arg(at("lib").join(library));
    run(&mut cc);
    known(root.path())
}

#[test]
fn name_in_a_table_of_calls_is_one_that_dlsym_is_asked_for_where_somebody_asks_for_the_table() {
    makes(asks("libaudit.so.1", ""), &["sysinfo"]);
    assert_eq!(asks("libaudit.so.1", "name[0] = *audit_syscall_to_name(5)"), None);
    assert_eq!(asks("libother.so.1", ""), None);
}

/// 5 ms are 5000000, which in a program of Go's lies somewhere in its code.
#[test]
fn number_in_a_function_of_go_is_known_where_data_has_an_address_within_it() {
    let inside = format!(
        "{RAW}DATA ·inside+0(SB)/8, $·framed+8(SB)
GLOBL ·inside(SB), NOPTR, $8
"
    );
    let program = |number: &str| {
        format!(
            "import \"os\"\nvar inside uintptr\nfunc raw(n uintptr)\nfunc framed(n uintptr)\n\
             func main() {{ framed({number}); println(len(os.Args), inside) }}"
        )
    };
    makes(go(&program(&syscall_number("sysinfo").unwrap().to_string()), &inside), &["sysinfo"]);
    assert_eq!(go(&program("uintptr(len(os.Args))"), &inside), None);
}
