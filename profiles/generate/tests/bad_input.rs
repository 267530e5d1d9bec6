//! What images that lie, loop or are too much get: the baseline or less, with the reason; never a crash.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use bulkhead_generate::{Command, Layer, Limits, NoCache, Profile, Root, generate};
use tempfile::TempDir;

/// Small ELF programs and libraries of the machine.
const TRUE: &str = "/usr/bin/true";
const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

fn command(argv: &[&str]) -> Command {
    Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        path: vec!["/bin".to_owned()],
        cwd: "/".to_owned(),
        loader_environment: BTreeMap::new(),
        exec: Vec::new(),
    }
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn of(root: &Path, argv: &[&str], limits: &Limits) -> Profile {
    let root = Root::of(Layer::open(root).unwrap(), limits);
    generate(&root, None, &command(argv), &NoCache, limits).unwrap()
}

fn baseline() -> BTreeSet<String> {
    let allowed = bulkhead_profiles::rows().iter().filter(|row| row.then.runs() && !row.needs_memfd);
    allowed.map(|row| row.syscall.to_owned()).collect()
}

fn assert_within_baseline(profile: &Profile) {
    let baseline = baseline();
    for name in profile.rows.keys() {
        assert!(baseline.contains(name), "{name} is allowed, and the baseline denies it");
    }
}

fn image_of_true() -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in [LIBC, LOADER] {
        put(dir.path(), file.trim_start_matches('/'), &fs::read(file).unwrap());
    }
    put(dir.path(), "bin/true", &fs::read(TRUE).unwrap());
    dir
}

#[test]
fn a_real_program_gets_its_own_calls_and_no_more() {
    let image = image_of_true();
    let profile = of(image.path(), &["true"], &Limits::everyday());
    assert_eq!(profile.widened, None, "{:?}", profile.unresolved);
    for name in ["execve", "mmap", "openat", "exit_group", "write"] {
        assert!(profile.rows.contains_key(name), "{name}");
    }
    for name in ["epoll_wait", "timer_create", "capset", "semget"] {
        assert!(!profile.rows.contains_key(name), "{name}: {:?}", profile.rows.get(name));
    }
    assert!(
        profile.rows["mmap"]
            .reasons
            .iter()
            .any(|site| site.file.ends_with("ld-linux-x86-64.so.2") || site.at != 0)
    );
    assert_within_baseline(&profile);
}

#[test]
fn the_same_image_and_command_get_the_same_profile() {
    let image = image_of_true();
    let limits = Limits::everyday();
    assert_eq!(of(image.path(), &["true"], &limits), of(image.path(), &["true"], &limits));
}

#[test]
fn bytes_changed_at_random_never_crash_and_never_widen_beyond_the_baseline() {
    let original = fs::read(TRUE).unwrap();
    let image = TempDir::new().unwrap();
    // A fixed sequence: what fails once fails always.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..150 {
        let mut bytes = original.clone();
        match round % 3 {
            // Headers, where the lies are.
            0 => (0..4).for_each(|_| bytes[4 + next(0x3c0)] = next(256) as u8),
            1 => (0..64).for_each(|_| {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }),
            _ => bytes.truncate(next(original.len())),
        }
        // Without an interpreter it is not static: it cannot run, and that is said.
        put(image.path(), "bin/p", &bytes);
        assert_within_baseline(&of(image.path(), &["p"], &Limits::everyday()));
    }
}

#[test]
fn a_c_library_changed_at_random_is_no_more_than_the_baseline() {
    let original = fs::read(LIBC).unwrap();
    let image = image_of_true();
    for round in 0usize..3 {
        let mut bytes = original.clone();
        for at in 0..200usize {
            let place = (at * 7919 * (round + 1)) % bytes.len();
            bytes[place] ^= (at % 255) as u8 + 1;
        }
        put(image.path(), LIBC.trim_start_matches('/'), &bytes);
        assert_within_baseline(&of(image.path(), &["true"], &Limits::everyday()));
    }
}

#[test]
fn a_program_that_is_not_there_gets_the_baseline_with_the_reason() {
    let image = TempDir::new().unwrap();
    let profile = of(image.path(), &["nosuch"], &Limits::everyday());
    assert_eq!(profile.widened.as_deref(), Some("nosuch is not a program of the image"));
    assert_eq!(profile.rows.keys().cloned().collect::<BTreeSet<_>>(), baseline());
}

/// As mono's assemblies are, which the kernel may run through binfmt_misc.
#[test]
fn program_that_is_neither_elf_nor_a_script_is_read_without_an_error() {
    let image = image_of_true();
    put(image.path(), "bin/odd", b"MZ\x90\0true\0 /bin/tr\0ue\n exec x\0y");
    let profile = of(image.path(), &["/bin/odd"], &Limits::everyday());
    assert!(profile.widened.is_some(), "{:?}", profile.notes);
    assert_within_baseline(&profile);
}

#[test]
fn links_that_loop_and_links_to_the_host_lead_nowhere() {
    let image = TempDir::new().unwrap();
    fs::create_dir(image.path().join("bin")).unwrap();
    symlink("b", image.path().join("bin/a")).unwrap();
    symlink("a", image.path().join("bin/b")).unwrap();
    symlink("../../../../../../usr/bin/true", image.path().join("bin/out")).unwrap();
    symlink("/usr/bin/true", image.path().join("bin/absolute")).unwrap();
    for name in ["a", "out", "absolute"] {
        let profile = of(image.path(), &[name], &Limits::everyday());
        assert_eq!(profile.widened, Some(format!("{name} is not a program of the image")));
    }
    // The same links, where the image has what they name.
    put(image.path(), "usr/bin/true", b"#!/bin/nosuch\n");
    let profile = of(image.path(), &["out"], &Limits::everyday());
    assert!(profile.members.iter().any(|member| member.path == Path::new("/usr/bin/true")));
}

#[test]
fn an_interpreter_outside_of_the_image_and_one_of_itself_are_told() {
    let image = TempDir::new().unwrap();
    put(image.path(), "bin/script", b"#!/bin/nosuch\n");
    put(image.path(), "bin/itself", b"#!/bin/itself\n");
    let profile = of(image.path(), &["script"], &Limits::everyday());
    assert!(
        profile.notes.iter().any(|note| note.contains("/bin/nosuch is not in the image")),
        "{:?}",
        profile.notes
    );
    assert!(profile.widened.is_some());
    let profile = of(image.path(), &["itself"], &Limits::everyday());
    assert!(profile.notes.iter().any(|note| note.contains("too many interpreters")), "{:?}", profile.notes);
}

#[test]
fn an_image_with_too_much_gets_the_baseline_with_the_reason() {
    let image = image_of_true();
    for (limits, what) in [
        (Limits { files_max: 5, ..Limits::everyday() }, "files to look at"),
        (Limits { names_max: 5, ..Limits::everyday() }, "names to go over"),
        (Limits { bytes_max: 100_000, ..Limits::everyday() }, "bytes to read"),
        (Limits { file_bytes_max: 100_000, ..Limits::everyday() }, "bytes in one file"),
        (Limits { members_max: 1, ..Limits::everyday() }, "programs and libraries"),
        (Limits { instructions_max: 1000, ..Limits::everyday() }, "takes too long to follow"),
        (Limits { visits_max: 10, ..Limits::everyday() }, "takes too long to link"),
    ] {
        let profile = of(image.path(), &["true"], &limits);
        assert!(
            profile.widened.as_deref().is_some_and(|why| why.contains(what)),
            "{what}: {:?}",
            profile.widened
        );
        assert_eq!(profile.rows.keys().cloned().collect::<BTreeSet<_>>(), baseline());
    }
}

#[test]
fn an_upper_layer_hides_a_lower_one_and_lets_the_rest_through() {
    let (upper, lower) = (TempDir::new().unwrap(), image_of_true());
    put(upper.path(), "bin/true", b"#!/bin/nosuch\n");
    let limits = Limits::everyday();
    let layers = || vec![Layer::open(upper.path()).unwrap(), Layer::open(lower.path()).unwrap()];
    let hidden =
        generate(&Root::overlay(layers(), &limits), None, &command(&["true"]), &NoCache, &limits).unwrap();
    assert!(hidden.notes.iter().any(|note| note.contains("/bin/nosuch")));
    fs::remove_file(upper.path().join("bin/true")).unwrap();
    let through =
        generate(&Root::overlay(layers(), &limits), None, &command(&["true"]), &NoCache, &limits).unwrap();
    assert_eq!(through.widened, None);
}

#[test]
fn a_command_that_may_be_execd_is_in_the_closure() {
    let image = image_of_true();
    put(image.path(), "bin/probe", b"#!/bin/sh\nexec other \"$@\"\n");
    put(image.path(), "bin/sh", &fs::read(TRUE).unwrap());
    put(image.path(), "bin/other", &fs::read(TRUE).unwrap());
    let limits = Limits::everyday();
    let root = Root::of(Layer::open(image.path()).unwrap(), &limits);
    let has = |exec: Vec<Vec<String>>| {
        let command = Command { exec, ..command(&["true"]) };
        let profile = generate(&root, None, &command, &NoCache, &limits).unwrap();
        profile.members.iter().any(|member| member.path == Path::new("/bin/other"))
    };
    assert!(has(vec![vec!["probe".to_owned()]]));
    assert!(!has(Vec::new()));
}

/// Offset of a program header's field, of the `at`th PT_LOAD. Source: `Elf64_Phdr`, include/uapi/linux/elf.h.
fn field_of_load(bytes: &[u8], at: usize, field: usize) -> usize {
    let word = |at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0usize, |value, byte| value << 8 | usize::from(*byte))
    };
    let (start, count) = (word(32, 8), word(56, 2));
    let headers = (0..count).map(|header| start + header * 56);
    headers.filter(|header| word(*header, 4) == 1).nth(at).unwrap() + field
}

#[test]
fn segments_that_overlap_are_huge_or_lie_outside_of_the_file_are_told() {
    let original = fs::read(TRUE).unwrap();
    let (address, in_file, in_memory) = (16, 32, 40);
    let image = TempDir::new().unwrap();
    for (at, field, value, what) in [
        (1, address, 0u64, "two segments overlap"),
        (0, in_memory, 1 << 40, "two segments overlap"),
        (0, in_file, u64::MAX, "outside of the file"),
        (3, in_memory, u64::MAX, "outside of the file"),
    ] {
        let mut bytes = original.clone();
        let at = field_of_load(&bytes, at, field);
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(image.path(), "bin/p", &bytes);
        let profile = of(image.path(), &["p"], &Limits::everyday());
        assert!(profile.widened.is_some());
        assert!(profile.notes.iter().any(|note| note.contains(what)), "{what}: {:?}", profile.notes);
        assert_within_baseline(&profile);
    }
}

#[test]
fn code_that_can_be_changed_and_a_packed_program_get_the_baseline_with_the_reason() {
    let image = image_of_true();
    let original = fs::read(TRUE).unwrap();
    let mut writable = original.clone();
    let flags = field_of_load(&writable, 1, 4);
    assert_eq!(writable[flags], 5, "the second segment is that of the code");
    writable[flags] = 7;
    let mut packed = original;
    packed[0x400..0x404].copy_from_slice(b"UPX!");
    for (bytes, what) in [(writable, "both writable and executable"), (packed, "packed")] {
        put(image.path(), "bin/true", &bytes);
        let profile = of(image.path(), &["true"], &Limits::everyday());
        assert!(profile.widened.as_deref().is_some_and(|why| why.contains(what)), "{:?}", profile.widened);
        assert_eq!(profile.rows.keys().cloned().collect::<BTreeSet<_>>(), baseline());
    }
}

#[test]
fn libraries_that_need_each_other_are_each_taken_in_once() {
    let image = image_of_true();
    let lib = image.path().join("lib");
    let cc = |to: &str, flags: &[&str]| {
        let mut cc = std::process::Command::new("cc");
        cc.args(["-x", "c", "-shared", "-nostdlib", "-Wl,--no-as-needed", "-o"])
            .arg(lib.join(to))
            .arg("/dev/null");
        let out = cc.args(["-x", "none", "-L"]).arg(&lib).args(flags).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    cc("liba.so", &[]);
    cc("libb.so", &["-la"]);
    cc("liba.so", &["-lb"]);
    let limits = Limits::everyday();
    let root = Root::of(Layer::open(image.path()).unwrap(), &limits);
    let environment = BTreeMap::from([("LD_PRELOAD".to_owned(), "/lib/liba.so".to_owned())]);
    let command = Command { loader_environment: environment, ..command(&["true"]) };
    let profile = generate(&root, None, &command, &NoCache, &limits).unwrap();
    assert_eq!(profile.widened, None);
    for name in ["/lib/liba.so", "/lib/libb.so"] {
        assert_eq!(profile.members.iter().filter(|member| member.path == Path::new(name)).count(), 1);
    }
}

#[test]
#[ignore = "long"]
fn an_image_of_100_000_files_is_read_no_further_than_its_program_needs() {
    let image = image_of_true();
    for at in 0..100_000 {
        let dir = image.path().join(format!("srv/{}", at / 1000));
        if at % 1000 == 0 {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(dir.join(at.to_string()), b"x").unwrap();
    }
    let profile = of(image.path(), &["true"], &Limits::everyday());
    assert_eq!(profile.widened, None);
    assert_within_baseline(&profile);
}

/// As above, for longer: the program, its C library and its loader, each changed in headers, tables and code.
#[test]
#[ignore = "long"]
fn thousands_of_changed_programs_and_libraries_are_never_more_than_the_baseline() {
    let image = image_of_true();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for (file, place, rounds) in
        [(TRUE, "bin/true", 3000), (LOADER, &LOADER[1..], 300), (LIBC, &LIBC[1..], 30)]
    {
        let original = fs::read(file).unwrap();
        for round in 0..rounds {
            let mut bytes = original.clone();
            let changes = 1 + next(200);
            for _ in 0..changes {
                let end = if round % 2 == 0 { 0x1000 } else { bytes.len() };
                let at = 4 + next(end - 4);
                bytes[at] = next(256) as u8;
            }
            put(image.path(), place, &bytes);
            assert_within_baseline(&of(image.path(), &["true"], &Limits::everyday()));
        }
        put(image.path(), place, &original);
    }
}
