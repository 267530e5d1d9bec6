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
    BULKHEAD, Bench, Cri, Digests, Entry, Image, Layer, Output, RUNC, Release, bulkhead_dir, heard, run,
    until,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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

/// Of this node's: another test makes its own meanwhile.
fn mounts(bench: &Bench) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = bench.daemon.bulkhead_root().join("run/bulkhead/generator").display().to_string();
    text.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect()
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
    assert_eq!(mounts(&bench), Vec::<String>::new());

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
    assert_eq!(mounts(&bench), Vec::<String>::new());
    bench.assert_nothing_left();
}

/// The bytes of an image are a stranger's: they are read by a process that has nothing else.
#[test]
fn files_of_an_image_are_read_by_a_locked_down_process_of_its_own_uid() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    import(&bench, &["/usr/bin/python3", "-V"]);
    // It may be over before a busy machine lets anybody look at it: then the same is asked again.
    let seen = (0..5).find_map(|_| {
        let mut command = generate(&bench, &["--no-cache", NAME], &[]);
        let mut asked = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut seen = None;
        until("a child of the generator's uid, or the end", Duration::from_secs(300), || {
            let list =
                fs::read_to_string(format!("/proc/{0}/task/{0}/children", asked.id())).unwrap_or_default();
            seen = list.split_whitespace().find_map(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
                (status.contains("Uid:\t61009\t61009\t61009\t61009") && status.contains("Seccomp:\t2"))
                    .then_some(status)
            });
            Ok(seen.is_some() || asked.try_wait().unwrap().is_some())
        })
        .unwrap();
        assert!(asked.wait().unwrap().success());
        seen
    });
    let seen = seen.expect("nobody of that uid was seen");
    assert!(seen.contains("NoNewPrivs:\t1"), "{seen}");
    bench.assert_nothing_left();
}

/// A SeccompProfile, and nothing that its definition does not have: the API server drops other fields.
///
/// Source: api/seccompprofile/v1beta1/seccompprofile_types.go of the Security Profiles Operator.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeccompProfile {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

/// What the operator writes to a node as it is.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    default_action: Act,
    architectures: Vec<String>,
    syscalls: Vec<Syscall>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Syscall {
    names: Vec<String>,
    action: Act,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Arg>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arg {
    index: u32,
    #[serde(default)]
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Op,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
enum Act {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
}

#[derive(Deserialize, Serialize)]
enum Op {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// What the operator installs of a resource.
fn installed(text: &str) -> String {
    let SeccompProfile { api_version, kind, metadata, spec } = serde_saphyr::from_str(text).unwrap();
    assert_eq!(api_version, "security-profiles-operator.x-k8s.io/v1beta1");
    assert_eq!((kind.as_str(), metadata.name.as_str()), ("SeccompProfile", "web.1"));
    assert_eq!(
        (spec.default_action, &spec.architectures[..]),
        (Act::Errno, &["SCMP_ARCH_X86_64".to_owned()][..])
    );
    let mut one_answer = BTreeSet::new();
    for rule in spec.syscalls.iter().filter(|rule| rule.args.is_empty()) {
        assert!(rule.names.iter().all(|name| one_answer.insert(name.clone())), "{:?}", rule.names);
    }
    serde_json::to_string(&spec).unwrap()
}

/// As containerd reads a file for runc: `ctr run --seccomp-profile`.
#[test]
fn program_runs_under_each_exported_form_with_runc_and_a_call_outside_of_it_is_no_such_call() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    import(&bench, CAT);
    let file = bench.daemon.dir().join("profile.json");
    let path = file.to_str().unwrap();
    done(generate(&bench, &["-o", path, NAME], &[])).success().unwrap();
    let profile: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert!(!calls(&profile).contains("symlinkat"), "{profile:#}");
    let run = |name: &str, seccomp: Option<&str>, command: &[&str]| {
        let id = bench.daemon.id(name);
        let mut args = vec!["run", "--rm", "--runtime", RUNC];
        if let Some(file) = seccomp {
            args.extend(["--seccomp", "--seccomp-profile", file]);
        }
        args.extend([NAME, &id]);
        args.extend(command);
        bench.daemon.ctr(&args).unwrap()
    };
    let link = ["/bin/ln", "-s", "/x", "/tmp/made"];
    run("free", None, &link).success().unwrap();
    for format in ["oci", "docker", "spo"] {
        let words = ["export", path, "--format", format, "--name", "web.1"];
        let exported = done(bulkhead(&bench, &words)).success().unwrap().stdout;
        let section = if format == "spo" { installed(&exported) } else { exported };
        let form = bench.daemon.dir().join(format!("{format}.json"));
        fs::write(&form, section).unwrap();
        let form = form.to_str().unwrap();
        let yes =
            heard(RUNC, || Ok(run(&format!("{format}-yes"), Some(form), CAT).success()?.stdout)).unwrap();
        assert!(yes.contains("Seccomp:\t2"), "{format}: {yes}");
        let no = || {
            let no = run(&format!("{format}-no"), Some(form), &link);
            assert_ne!(no.code(), 0, "{format}");
            Ok(no.stderr)
        };
        let no = heard(RUNC, no).unwrap();
        assert!(no.contains("Function not implemented"), "{format}: {no}");

        // What was exported comes back, with what runc needs besides.
        if format != "spo" {
            let back = done(bulkhead(&bench, &["--json", "import", form])).success().unwrap();
            let back: Value = serde_json::from_str(&back.stdout).unwrap();
            assert!(calls(&back["profile"]).is_superset(&calls(&profile)), "{format}");
            assert_eq!(back["taken"], json!([]), "{format}");
        }
    }
    let bad = done(bulkhead(&bench, &["export", path, "--format", "spo", "--name", "a\nb: c"]));
    assert_eq!(bad.code(), 2, "{}", bad.stdout);
    bench.assert_nothing_left();
}

/// nginx has pairs of streams alone; python, which runs under its profile, may ask for others.
#[test]
fn value_that_the_profile_lacks_is_denied_by_runc_under_the_exported_form_and_one_that_it_has_is_not() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    import(&bench, CAT);
    let (made, form) = (bench.daemon.dir().join("profile.json"), bench.daemon.dir().join("oci.json"));
    let (path, form) = (made.to_str().unwrap(), form.to_str().unwrap());
    let exec = "/usr/bin/curl -sf http://x/";
    done(generate(&bench, &["-o", path, "--exec", exec, NAME], &["/usr/sbin/nginx"])).success().unwrap();
    let exported = done(bulkhead(&bench, &["export", path, "--format", "oci"])).success().unwrap();
    assert!(!exported.stderr.contains("socketpair"), "it says all of them: {}", exported.stderr);
    fs::write(form, exported.stdout).unwrap();
    let pair = |name: &str, kind: &str| {
        let (id, python) = (bench.daemon.id(name), format!("import _socket; _socket.socketpair(1, {kind})"));
        let args = ["run", "--rm", "--runtime", RUNC, "--seccomp", "--seccomp-profile", form, NAME, &id];
        bench.daemon.ctr(&[&args[..], &["/usr/bin/python3", "-c", &python]].concat()).unwrap()
    };
    pair("stream", "1").success().unwrap();
    let other = heard(RUNC, || {
        let other = pair("datagram", "2");
        assert_ne!(other.code(), 0);
        Ok(other.stderr)
    });
    assert!(other.unwrap().contains("[Errno 38]"));
    bench.assert_nothing_left();
}

#[test]
fn file_of_docker_becomes_a_profile_without_what_the_baseline_denies_and_one_that_says_more_is_refused_by_name()
 {
    let dir = tempfile::tempdir().unwrap();
    let (given, kept) = (dir.path().join("docker.json"), dir.path().join("kept.json"));
    let (given, kept) = (given.to_str().unwrap(), kept.to_str().unwrap());
    let ask = |words: &[&str]| {
        let mut command = Command::new(bulkhead_dir().unwrap().join("bulkhead"));
        done({
            command.arg("profile").args(words);
            command
        })
    };
    let write = |args: Value| {
        let file = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{ "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"] }],
            "syscalls": [
                { "names": ["read", "write", "bpf", "clone"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": args },
            ],
        });
        fs::write(given, file.to_string()).unwrap();
    };
    write(json!([{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }]));
    let said = ask(&["import", given, "-o", kept]).success().unwrap().stdout;
    assert!(said.contains("taken away  bpf (the baseline denies them)"), "{said}");
    assert!(said.contains("narrowed    clone socket ("), "{said}");
    assert!(said.contains("seccomp     sha256:"), "{said}");
    assert_eq!(ask(&["why", "read", kept]).code(), 0);
    for denied in ["bpf", "mkdir"] {
        assert_eq!(ask(&["why", denied, kept]).code(), 1, "{denied}");
    }
    assert_eq!(ask(&["diff", kept, kept]).success().unwrap().stdout, "no difference\n");

    // A value of an argument that profiles name is kept, and other comparisons of it are not.
    write(json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]));
    let said = ask(&["import", given, "-o", kept]).success().unwrap().stdout;
    assert!(said.contains("only        socket argument 0: 0x1\n"), "{said}");
    let why = ask(&["why", "socket", kept]).success().unwrap().stdout;
    assert!(why.contains("only socket argument 0: 0x1: EAFNOSUPPORT otherwise"), "{why}");

    let wide = dir.path().join("wide.json");
    write(json!(null));
    ask(&["import", given, "-o", wide.to_str().unwrap()]).success().unwrap();
    let diff = ask(&["diff", wide.to_str().unwrap(), kept]).success().unwrap().stdout;
    assert_eq!(diff, "+ socket argument 0: 0x1\n- socket argument 0: any\n");

    fs::remove_file(kept).unwrap();
    write(json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_GT" }]));
    let refused = ask(&["import", given, "-o", kept]);
    assert_eq!(refused.code(), 1, "{}", refused.stderr);
    assert!(refused.stdout.contains("socket is allowed for some arguments only"), "{}", refused.stdout);
    assert!(!std::path::Path::new(kept).exists());
    fs::write(given, "{").unwrap();
    assert_eq!(ask(&["import", given]).code(), 3);
}
