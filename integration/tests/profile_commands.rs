//! `bulkhead profile`, asked as people ask: of images of a real containerd.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use bulkhead_integration::{
    BULKHEAD, Bench, Cri, Digests, Entry, Image, Layer, Output, Release, bulkhead_dir, run, until,
};
use serde_json::Value;

const NAME: &str = "registry.test/team-a/debian:1";
const CAT: &[&str] = &["/bin/cat", "/proc/self/status"];

/// A userland whose command is an escape sequence's file.
fn import(bench: &Bench, command: &[&str]) -> Digests {
    let files = Layer::of(&[
        Entry::Dir("opt", 0o755),
        Entry::File("opt/\u{1b}[2Jx", 0o755, b"#!/bin/cat\n"),
        // Of a layer of its own: found only where layers are put together.
        Entry::File("opt/up", 0o755, b"#!/bin/cat\n"),
    ]);
    let mut image = Image::userland(NAME).unwrap().with(files.unwrap());
    image.command = command.iter().map(|word| (*word).to_owned()).collect();
    bench.daemon.import(&image).unwrap()
}

/// `bulkhead profile WORDS… [--options of containerd's] [-- COMMAND…]`.
fn bulkhead(bench: &Bench, words: &[&str]) -> Command {
    let mut command = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
    command.arg("--root").arg(bench.daemon.bulkhead_root()).arg("profile").args(words);
    command
}

fn generate(bench: &Bench, words: &[&str], argv: &[&str]) -> Command {
    let mut command = bulkhead(bench, &["generate", "-n", bench.daemon.tag()]);
    command.arg("--address").arg(bench.daemon.socket()).args(words);
    if !argv.is_empty() {
        command.arg("--").args(argv);
    }
    command
}

fn done(mut command: Command) -> Output {
    run(&mut command, Duration::from_secs(300)).unwrap()
}

fn profile(command: Command) -> Value {
    let text = done(command).success().unwrap().stdout;
    serde_json::from_str::<Value>(&text).unwrap()["profile"].clone()
}

fn calls(profile: &Value) -> BTreeSet<String> {
    profile["rows"].as_object().unwrap().keys().cloned().collect()
}

fn kept(bench: &Bench) -> Vec<PathBuf> {
    let dir = bench.daemon.bulkhead_root().join("var/lib/bulkhead/profiles/enforced");
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|line| line.contains("/run/bulkhead/generator")).map(str::to_owned).collect()
}

#[test]
fn image_by_name_and_by_digest_has_the_profile_that_its_launch_has_and_its_hash_can_be_pinned() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let digests = import(&bench, CAT);
    let by_name = profile(generate(&bench, &["--json", NAME], &[]));
    let by_digest = profile(generate(&bench, &["--json", &digests.target], CAT));
    assert_eq!(by_name, by_digest);
    assert_eq!(by_name["key"]["image"], digests.target.as_str());
    assert_eq!(by_name["widened"], Value::Null);
    assert_eq!(kept(&bench).len(), 0, "a person's question is no launch's");
    assert_eq!(mounts(), Vec::<String>::new());

    // What it prints, policy takes, and the shim finds the same.
    let text = done(generate(&bench, &[NAME], &[])).success().unwrap().stdout;
    let hash = |word: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("{text}"));
        line.trim().to_owned()
    };
    bench
        .daemon
        .policy(&format!(
            "version = 1\nmode = \"enforce\"\n[image]\n\"registry.test/team-a/*\" = {{ digests = [{:?}] }}\n\
             [confine.default]\nseccomp = {:?}\nlandlock = {{ files = {:?} }}\n",
            digests.manifest,
            hash("seccomp "),
            hash("files ")
        ))
        .unwrap();
    let id = bench.daemon.id("pinned");
    let mut args = vec!["run", "--rm", "--runtime", BULKHEAD, NAME, &id];
    args.extend(CAT);
    let mut last = None;
    until("its profile is ready", Duration::from_secs(180), || {
        let output = bench.daemon.ctr(&args)?;
        let busy = output.stderr.contains("is being worked out");
        last = Some(output);
        Ok(!busy)
    })
    .unwrap();
    last.unwrap().success().unwrap();
    let launched: Value = serde_json::from_str(&fs::read_to_string(&kept(&bench)[0]).unwrap()).unwrap();
    let of_launch: BTreeSet<String> =
        launched["calls"].as_array().unwrap().iter().map(|call| call.as_str().unwrap().to_owned()).collect();
    assert_eq!(of_launch, calls(&by_name));
    bench.assert_nothing_left();
}

#[test]
fn names_that_a_tenant_chose_are_printed_without_their_escapes_and_what_is_not_there_is_refused() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    import(&bench, &["/opt/\u{1b}[2Jx"]);
    let output = done(generate(&bench, &[NAME], &[])).success().unwrap();
    assert!(!output.stdout.contains('\u{1b}'), "{:?}", output.stdout);
    assert!(output.stdout.contains("/opt/?[2Jx"), "{}", output.stdout);
    // Of the upper layer, run by an interpreter of the lower one.
    let both = profile(generate(&bench, &["--json", NAME], &["/opt/up"]));
    let members = both["members"].as_array().unwrap();
    assert!(members.iter().any(|member| member["path"] == "/opt/up"), "{members:?}");
    assert!(members.len() > 1 && both["widened"] == Value::Null, "{members:?}");
    let output = done(generate(&bench, &["registry.test/team-a/other:1"], &["/bin/cat"]));
    assert_eq!(output.code(), 1, "{}", output.stderr);
    assert!(output.stdout.contains("#image-missing"), "{}", output.stdout);
    assert_eq!(mounts(), Vec::<String>::new());
    bench.assert_nothing_left();
}

/// The bytes of an image are a stranger's: they are read by a process that has nothing else.
#[test]
fn files_of_an_image_are_read_by_a_locked_down_process_of_its_own_uid() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    import(&bench, &["/usr/bin/python3", "-V"]);
    let mut command = generate(&bench, &["--no-cache", NAME], &[]);
    let mut asked = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut seen = None;
    until("a child of the generator's uid, or the end", Duration::from_secs(300), || {
        let list = fs::read_to_string(format!("/proc/{0}/task/{0}/children", asked.id())).unwrap_or_default();
        seen = list.split_whitespace().find_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            (status.contains("Uid:\t61009\t61009\t61009\t61009") && status.contains("Seccomp:\t2"))
                .then_some(status)
        });
        Ok(seen.is_some() || asked.try_wait().unwrap().is_some())
    })
    .unwrap();
    let seen = seen.expect("nobody of that uid was seen");
    assert!(seen.contains("NoNewPrivs:\t1"), "{seen}");
    assert!(asked.wait().unwrap().success());
    bench.assert_nothing_left();
}
