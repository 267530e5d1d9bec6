//! Which files of an image its Landlock rules reach, and which not.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use bulkhead_generate::{Access, Landlock, RULES_AIM};
use tempfile::TempDir;

const TRUE: &str = "/usr/bin/true";
const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// A library that nothing in these images needs.
const OTHER: &str = "/lib/x86_64-linux-gnu/libm.so.6";

fn put(root: &Path, path: &str, bytes: &[u8], mode: u32) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// `true`, a shell and curl (by name), libraries and data.
fn image() -> TempDir {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    for (from, to) in [
        (TRUE, "usr/bin/true"),
        (TRUE, "usr/bin/curl"),
        (TRUE, "usr/bin/sh"),
        (LIBC, "usr/lib/x86_64-linux-gnu/libc.so.6"),
        (OTHER, "usr/lib/x86_64-linux-gnu/libm.so.6"),
        (LOADER, "usr/lib64/ld-linux-x86-64.so.2"),
    ] {
        put(root, to, &fs::read(from).unwrap(), 0o755);
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    put(root, "etc/app/config", b"a=1\n", 0o644);
    put(root, "usr/share/app/page.html", b"<p>", 0o644);
    put(root, "usr/share/app/tool.py", b"#!/usr/bin/python3\n", 0o755);
    dir
}

fn of(root: &Path, argv: &[&str]) -> Landlock {
    support::profile(root, argv, &[]).landlock
}

/// What the rules give on a path, as Landlock adds them up.
fn access(landlock: &Landlock, path: &str) -> Option<Access> {
    let above = landlock.rules.iter().filter(|rule| Path::new(path).starts_with(&rule.path));
    above.map(|rule| rule.access).max()
}

#[test]
fn programs_of_the_closure_are_executed_its_libraries_and_data_are_read() {
    let landlock = of(image().path(), &["true"]);
    assert_eq!(landlock.widened, None);
    assert_eq!(access(&landlock, "/usr/bin/true"), Some(Access::ReadExecute));
    assert_eq!(access(&landlock, "/usr/lib64/ld-linux-x86-64.so.2"), Some(Access::ReadExecute));
    for path in [
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/etc/app/config",
        "/usr/share/app/page.html",
        "/usr/share/app/tool.py",
    ] {
        assert_eq!(access(&landlock, path), Some(Access::Read), "{path}: {landlock:?}");
    }
}

#[test]
fn programs_and_libraries_outside_of_the_closure_are_neither_executed_nor_read() {
    let landlock = of(image().path(), &["true"]);
    for path in ["/usr/bin/curl", "/usr/bin/sh", "/usr/lib/x86_64-linux-gnu/libm.so.6"] {
        assert_eq!(access(&landlock, path), None, "{path}: {landlock:?}");
    }
    assert_eq!((landlock.programs_out, landlock.libraries_out, landlock.libraries_readable), (2, 1, 0));
}

#[test]
fn native_extensions_of_an_interpreter_are_read_and_of_another_program_they_are_not() {
    let image = image();
    let (program, library) = (fs::read(TRUE).unwrap(), fs::read(OTHER).unwrap());
    put(image.path(), "usr/bin/lua5.4", &program, 0o755);
    let extension = "/usr/lib/x86_64-linux-gnu/lua/5.4/socket/core.so";
    put(image.path(), &extension[1..], &library, 0o644);
    assert_eq!(access(&of(image.path(), &["lua5.4"]), extension), Some(Access::Read));
    assert_eq!(access(&of(image.path(), &["true"]), extension), None);
}

/// As `tini -- true` and `env A=1 true` do; a loop of arguments ends.
#[test]
fn a_program_that_an_argument_names_is_executed_and_one_that_is_part_of_an_argument_is_not() {
    let image = image();
    let landlock = of(image.path(), &["true", "--", "sh", "x=curl", "true"]);
    assert_eq!(access(&landlock, "/usr/bin/sh"), Some(Access::ReadExecute), "{landlock:?}");
    assert_eq!(access(&landlock, "/usr/bin/curl"), None, "{landlock:?}");
    put(image.path(), "usr/bin/again", b"#!/usr/bin/sh\n", 0o755);
    let landlock = of(image.path(), &["true", "again", "/usr/bin/again"]);
    assert_eq!(access(&landlock, "/usr/bin/sh"), Some(Access::ReadExecute), "{landlock:?}");
}

/// A program is one by what is in it: its mode and its name are the image's word.
#[test]
fn a_program_without_the_execute_bit_or_with_the_name_of_data_is_kept_out() {
    let image = image();
    let program = fs::read(TRUE).unwrap();
    put(image.path(), "etc/app/page.html", &program, 0o644);
    put(image.path(), "usr/share/app/libtrue.so.1", &program, 0o644);
    put(image.path(), "usr/share/app/short", &program[..40], 0o644);
    put(image.path(), "usr/bin/script", b"#!/bin/sh\n", 0o755);
    let landlock = of(image.path(), &["true"]);
    for path in
        ["/etc/app/page.html", "/usr/share/app/libtrue.so.1", "/usr/share/app/short", "/usr/bin/script"]
    {
        assert_eq!(access(&landlock, path), None, "{path}: {landlock:?}");
    }
    // What lies beside is still read.
    assert_eq!(access(&landlock, "/etc/app/config"), Some(Access::Read));
}

#[test]
fn a_directory_with_foreign_libraries_is_read_as_a_whole_where_that_saves_many_rules_and_never_with_a_program()
 {
    let image = image();
    for at in 0..200 {
        put(image.path(), &format!("usr/lib/plugins/{at}.conf"), b"x", 0o644);
        put(image.path(), &format!("srv/{at}.conf"), b"x", 0o644);
    }
    put(image.path(), "usr/lib/plugins/libx.so", &fs::read(OTHER).unwrap(), 0o644);
    let landlock = of(image.path(), &["true"]);
    assert!(landlock.rules.len() <= RULES_AIM, "{}", landlock.rules.len());
    assert_eq!(access(&landlock, "/usr/lib/plugins/libx.so"), Some(Access::Read));
    assert!(landlock.libraries_readable >= 1);
    assert_eq!(landlock.widened, None);
    put(image.path(), "srv/program", &fs::read(TRUE).unwrap(), 0o644);
    let landlock = of(image.path(), &["true"]);
    assert_eq!(access(&landlock, "/srv/program"), None);
    assert_eq!(access(&landlock, "/srv/7.conf"), Some(Access::Read));
}

#[test]
fn an_image_that_takes_too_many_rules_or_has_no_such_program_gets_none_with_the_reason() {
    let image = image();
    for at in 0..1100 {
        put(image.path(), &format!("srv/{at}.conf"), b"x", 0o644);
    }
    put(image.path(), "srv/program", &fs::read(TRUE).unwrap(), 0o755);
    let landlock = of(image.path(), &["true"]);
    assert!(landlock.rules.is_empty());
    assert!(landlock.widened.unwrap().contains("programs outside of the closure lie among data"));
    let landlock = of(image.path(), &["nosuch"]);
    assert_eq!(landlock.widened.as_deref(), Some("nosuch is not a program of the image"));
}
