//! What a comparison tells of a value, what a call hands on of it, and what a store may have written: each function is
//! written in the processor's own words, and makes a call of its own where the way there is gone.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, process::Command as Process};

use bulkhead_profiles::syscall_number;
use tempfile::TempDir;

/// A function of a frame of its own.
fn function(name: &str, code: &str) -> String {
    format!(
        ".type {name},@function\n{name}: .cfi_startproc\n{code}\n.cfi_endproc\n.size {name}, . - {name}\n"
    )
}

/// Makes a call and goes on.
fn call(name: &str) -> String {
    format!("mov ${}, %eax\nsyscall\n", syscall_number(name).unwrap())
}

/// The calls of a static program, without names where `strip`, of these functions.
fn calls(functions: &[String], strip: bool) -> BTreeSet<String> {
    let root = TempDir::new().unwrap();
    let source = root.path().join("source.s");
    let text = format!(".text\n.globl _start\n{}", functions.concat());
    fs::write(&source, text).unwrap();
    let program = root.path().join("program");
    let mut cc = Process::new("cc");
    cc.args(["-nostdlib", "-static", "-no-pie"]).args(strip.then_some("-s"));
    let out = cc.arg("-o").arg(&program).arg(&source).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let profile = support::profile(root.path(), &["/program"], &[]);
    assert_eq!(profile.widened, None);
    profile.rows.into_keys().collect()
}

/// Whether the way to `sysinfo` of `_start` is followed, which has the label 1 after it.
fn is_followed(code: &str, others: &[String]) -> bool {
    let start = function("_start", &format!("{code}\n{}1: {}hlt", call("sysinfo"), call("exit")));
    let made = calls(&[&[start][..], others].concat(), false);
    assert!(made.contains("exit"), "{made:?}");
    made.contains("sysinfo")
}

#[test]
fn comparison_of_a_part_of_a_register_says_nothing_of_the_rest() {
    let get = [function("get", "mov 8(%rdi), %rax\nret")];
    for code in [
        "call get\ncmp $1, %eax\njne 1f\nshr $32, %rax\ncmp $2, %eax\njb 1f",
        "call get\ncmp $3, %eax\nja 1f\nshr $32, %rax\ncmp $2, %eax\njb 1f",
        "mov (%rdi), %eax\ncmp $3, %al\nja 1f\nshr $29, %eax\ncmp $5, %eax\njne 1f",
        "movzwl (%rdi), %eax\ncmp $3, %ah\nja 1f\ncmp $5, %eax\njne 1f",
        "call get\ncmp $1, %eax\njne 1f\ncmp $1, %rax\nje 1f",
    ] {
        assert!(is_followed(code, &get), "{code}");
    }
}

#[test]
fn comparison_of_a_part_of_a_register_is_known_of_that_part() {
    let get = [function("get", "mov 8(%rdi), %rax\nret")];
    for code in [
        "call get\ncmp $1, %eax\njne 1f\ncmp $2, %eax\njne 1f",
        "call get\ncmp $1, %eax\njne 1f\nmov %eax, %edi\ncmp $1, %rdi\nje 1f",
        "call get\ncmp $3, %al\nja 1f\nmovzbl %al, %eax\nshr $2, %eax\ncmp $1, %eax\nje 1f",
    ] {
        // The last has what nothing contradicts, for a number that it can be.
        let possible = code.contains("shr");
        assert_eq!(is_followed(code, &get), possible, "{code}");
    }
}

#[test]
fn int_that_is_made_a_long_is_handed_on_with_its_sign_and_without() {
    let handed = |how: &str, condition: &str| {
        let other = [
            function("wait_for", &format!("{how}\njmp poll_for")),
            function("poll_for", &format!("{condition} 1f\n{}1: ret", call("sysinfo"))),
        ];
        let start = function("_start", &format!("mov $-1, %edi\ncall wait_for\n{}hlt", call("exit")));
        calls(&[&[start][..], &other].concat(), false).contains("sysinfo")
    };
    assert!(handed("movslq %edi, %rdi", "test %rdi, %rdi\njns"));
    assert!(handed("movslq %edi, %rdi", "cmp $-1, %rdi\njne"));
    assert!(handed("mov %edi, %eax\ncltq\nmov %rax, %rdi", "cmp $-1, %rdi\njne"));
    assert!(handed("mov %edi, %edi", "test %rdi, %rdi\njs"));
    assert!(!handed("movslq %edi, %rdi", "cmp $5, %rdi\njne"));
    assert!(!handed("movslq %edi, %rdi", "cmp $5, %edi\njne"));
}

#[test]
fn int_that_was_made_a_long_without_its_sign_is_not_below_zero() {
    for code in ["mov %edi, %eax\ntest %rax, %rax\njs 1f", "mov %edi, %eax\ncmp $5, %rax\njle 1f"] {
        let other = [function("other", &format!("{code}\n{}1: ret", call("sysinfo")))];
        let start = function("_start", &format!("mov $-1, %edi\ncall other\n{}hlt", call("exit")));
        assert!(calls(&[&[start][..], &other].concat(), false).contains("sysinfo"), "{code}");
    }
}

#[test]
fn what_is_on_the_stack_is_not_known_where_a_call_comes_back_twice() {
    let work = function("work", "mov 8(%rdi), %rax\nret");
    let saves = "mov %rbx, (%rdi)\nmov %rbp, %rax\nmov %r12, 16(%rdi)\nmov %r13, 24(%rdi)\nmov %r14, 32(%rdi)\n\
                 mov %r15, 40(%rdi)\nxor %eax, %eax\nret";
    let forks = format!("pop %rdx\n{}push %rdx\nret", call("vfork"));
    let code = |called: &str| {
        format!(
            "sub $24, %rsp\nmovl $0, 12(%rsp)\ncall {called}\ntest %eax, %eax\nje 1f\ncmpl $1, 12(%rsp)\njne 1f"
        )
    };
    for (name, body, shaped) in
        [("_setjmp", "xor %eax, %eax\nret", false), ("x", saves, true), ("y", &forks, true)]
    {
        let functions = [function(name, body), work.clone()];
        assert!(is_followed(&code(name), &functions), "{name}");
        let start = function("_start", &format!("{}\n{}1: {}hlt", code(name), call("sysinfo"), call("exit")));
        let made = calls(&[&[start][..], &functions].concat(), true);
        assert_eq!(made.contains("sysinfo"), shaped, "{name}: {made:?}");
    }
    assert!(!is_followed(&code("work"), &[work]));
}

#[test]
fn what_a_second_return_of_the_kernel_finds_on_the_stack_is_not_known() {
    let code = |number: &str| {
        format!(
            "sub $24, %rsp\nmovl $0, 12(%rsp)\nmov ${}, %eax\nsyscall\ntest %eax, %eax\nje 1f\n\
             cmpl $1, 12(%rsp)\njne 1f",
            syscall_number(number).unwrap()
        )
    };
    assert!(is_followed(&code("vfork"), &[]));
    assert!(!is_followed(&code("getpid"), &[]));
}

#[test]
fn element_of_an_array_of_the_frame_may_be_any_of_it() {
    for store in [
        "movq $99, (%rsp,%rdi,8)",
        "movups %xmm0, (%rsp,%rdi,8)",
        "lea (%rsp,%rdi,8), %rax\nmovq $99, (%rax)",
        "mov %rsp, %rbp\nmov %rdi, %rax\nadd %rbp, %rax\nmovq $99, (%rax)",
        "mov %rsp, %rbp\nadd %rdi, %rbp\nmovq $99, (%rbp)",
        "incq (%rsp,%rdi,8)",
    ] {
        let code = |store: &str| {
            format!(
                "sub $24, %rsp\nmov (%rsi), %rdi\nmovq $95, (%rsp)\nmovq $95, 8(%rsp)\nand $1, %edi\n{store}\ncmpq $95, 8(%rsp)\nje 1f"
            )
        };
        assert!(is_followed(&code(store), &[]), "{store}");
        assert!(!is_followed(&code("mov %rdi, (%rsi,%rdx,8)"), &[]));
    }
}

/// Two addresses in one vector register are how a compiler stores a structure of pointers.
#[test]
fn what_is_on_the_stack_is_not_known_once_its_address_went_through_a_vector_or_a_conditional_move() {
    let set = [function("set", "mov 8(%rdi), %rax\nmovl $1, (%rax)\nret")];
    let code = |moved: &str| {
        format!(
            "sub $40, %rsp\nmovl $0, (%rsp)\nlea 16(%rsp), %rdi\n{moved}\ncall set\ncmpl $0, (%rsp)\nje 1f"
        )
    };
    for moved in [
        "movq %rsp, %xmm0\npunpcklqdq %xmm0, %xmm0\nmovups %xmm0, 16(%rsp)",
        "xor %eax, %eax\ntest %rdi, %rdi\ncmovne %rsp, %rax\nmov %rax, 24(%rsp)",
    ] {
        assert!(is_followed(&code(moved), &set), "{moved}");
    }
    assert!(!is_followed(&code("movq %rbx, %xmm0\nmovups %xmm0, 16(%rsp)"), &set));
}

#[test]
fn error_of_a_swift_function_comes_back_in_a_register_that_others_keep() {
    let fails = function("fails", "mov $1, %r12d\nret");
    let of_swift = format!("{fails}.section swift5_types,\"a\"\n.long 0\n.text\n");
    let code = "xor %r12d, %r12d\ncall fails\ntest %r12, %r12\nje 1f";
    assert!(is_followed(code, &[of_swift]));
    assert!(!is_followed(code, &[fails]));
}

#[test]
fn function_that_goes_on_in_the_next_one_comes_back() {
    let head = function("head", "mov $1, %eax");
    let code = "call head\njmp 2f\n2:";
    assert!(is_followed(code, &[head, function("tail", "ret")]));
    assert!(!is_followed(code, &[function("head", "ud2"), function("tail", "ret")]));
}
