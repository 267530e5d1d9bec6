//! What a refusal tells an operator to do is done here, by its own words, and the same request runs.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "trust/cosign.rs"]
mod cosign;

use std::{fs, time::Duration};

use bulkhead_integration::{
    ALLOWED, BULKHEAD, Bench, Cri, Entry, Image, Layer, Output, Refused, Registry, RegistryDoor,
    RegistryKind, Release, UID, until,
};
use cosign::Cosign;
use serde_json::{Value, json};

/// What stands between two texts of a line.
fn between<'a>(line: &'a str, before: &str, after: &str) -> &'a str {
    let rest = line.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {line}")).1;
    rest.split_once(after).unwrap_or_else(|| panic!("no {after:?} in {line}")).0
}

fn fix(output: Output, rule: &str) -> String {
    let refused = Refused::of(output).unwrap();
    assert_eq!(refused.rule(), rule, "{}", refused.line());
    between(refused.line(), "; fix: ", "; see: ").to_owned()
}

#[test]
fn line_that_a_refusal_says_to_add_to_the_policy_makes_the_same_request_run() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let run = |name: &str, options: &[&str]| bench.run_with(name, options, &["/bin/true"]).unwrap();
    let zeros = format!("sha256:{}", "0".repeat(64));

    let other = format!("version = 1\n[image]\n\"registry.test/other\" = {{ digests = [\"{zeros}\"] }}\n");
    bench.daemon.policy(&other).unwrap();
    let fixed = fix(run("scope", &[]), "image-scope");
    bench.daemon.policy(&format!("{other}{}\n", between(&fixed, "add ", " below [image]"))).unwrap();
    run("scope", &[]).success().unwrap();

    bench.allow_digests(&[&zeros], "").unwrap();
    let fixed = fix(run("digest", &[]), "image-digest");
    bench.allow_digests(&[&zeros, between(&fixed, "add \"", "\" to the digests")], "").unwrap();
    run("digest", &[]).success().unwrap();

    let root = ["--user", "0:0"];
    let fixed = fix(run("user", &root), "user");
    bench.allow(between(&format!("{fixed};"), "or policy: ", ";")).unwrap();
    run("user", &root).success().unwrap();

    let data = bench.daemon.dir().join("data");
    fs::create_dir_all(&data).unwrap();
    let bind = format!("type=bind,src={},dst=/data,options=rbind:ro", data.display());
    bench.allow("").unwrap();
    let fixed = fix(run("mount", &["--mount", &bind]), "mounts");
    assert!(fixed.contains("name the directory in host_paths of the image's [confine.*]"), "{fixed}");
    bench.allow(&format!("host_paths = [{{ path = {data:?} }}]")).unwrap();
    run("mount", &["--mount", &bind]).success().unwrap();

    let id = bench.start_task("exec", &["/bin/probe", "pause"]).unwrap();
    bench.allow("").unwrap();
    let command = ["/bin/echo", "yes it is"];
    let fixed = fix(bench.exec(&id, &command).unwrap(), "exec");
    bench.allow(&format!("exec = [{}]", between(&fixed, "add ", " to exec"))).unwrap();
    assert_eq!(bench.exec(&id, &command).unwrap().success().unwrap().stdout, "yes it is\n");
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

#[test]
fn what_a_refusal_says_to_leave_out_of_the_request_makes_the_rest_of_it_run() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    type Edit = fn(&mut Value);
    let trespasses: [(&str, &str, Edit); 9] = [
        ("capabilities", "drop", |spec| {
            spec["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
        }),
        ("namespaces", "drop hostNetwork", |spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != "network");
        }),
        ("devices", "drop the device", |spec| {
            spec["linux"]["devices"] = json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]);
        }),
        ("sysctl", "drop it from securityContext.sysctls", |spec| {
            spec["linux"]["sysctl"] = json!({ "kernel.core_pattern": "|/x" });
        }),
        ("hooks", "drop the hook", |spec| {
            spec["hooks"] = json!({ "prestart": [{ "path": "/opt/hook" }] });
        }),
        ("seccomp", "leave it out", |spec| {
            spec["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x" });
        }),
        ("spec", "set another working directory", |spec| spec["process"]["cwd"] = json!("/proc/self/fd/7")),
        ("mounts", "drop mountPropagation: Bidirectional", |spec| {
            spec["linux"]["rootfsPropagation"] = json!("rshared");
        }),
        ("user", "set fsGroup and supplementalGroups to other groups", |spec| {
            spec["process"]["user"]["additionalGids"] = json!([0]);
        }),
    ];
    for (rule, wanted, trespass) in trespasses {
        let id = bench.create_container(BULKHEAD, ALLOWED, rule, &["/bin/true"]).unwrap();
        let mut asked = Value::Null;
        bench
            .daemon
            .edit_spec(&id, |spec| {
                asked = spec.clone();
                trespass(spec);
            })
            .unwrap();
        let fixed = fix(bench.start_container(&id).unwrap(), rule);
        assert!(fixed.contains(wanted), "{rule}: {fixed}");
        // Without it, the request is as it was.
        bench.daemon.edit_spec(&id, |spec| *spec = asked.clone()).unwrap();
        bench.start_container(&id).unwrap().success().unwrap_or_else(|error| panic!("{rule}: {error}"));
        bench.remove(&id).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn policy_that_a_refusal_says_how_to_correct_is_understood_again() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let run = || bench.run("policy", &["/bin/true"]).unwrap();
    bench.allow("conifne = 1").unwrap();
    let fixed = fix(run(), "policy");
    assert!(fixed.starts_with("remove it"), "{fixed}");
    bench.allow("").unwrap();
    run().success().unwrap();

    // There is none: `init` makes one, and what it does not admit yet is refused with the line for it.
    let file = bench.daemon.bulkhead_root().join("etc/bulkhead/policy.toml");
    fs::remove_file(&file).unwrap();
    assert!(fix(run(), "policy").contains("bulkhead init"));
    bench.daemon.bulkhead(&["init"]).unwrap().success().unwrap();
    let fixed = fix(run(), "image-scope");
    let text = fs::read_to_string(&file).unwrap();
    let line = format!("[image]\n{}\n", between(&fixed, "add ", " below [image]"));
    bench.daemon.policy(&text.replacen("[image]\n", &line, 1)).unwrap();
    run().success().unwrap();
    bench.assert_nothing_left();
}

#[test]
fn image_that_a_refusal_says_to_sign_runs_when_it_is_signed_and_the_signature_imported() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let dir = bench.daemon.dir();
    let registry = Registry::start(RegistryKind::Docker, RegistryDoor::Open, &dir.join("registry")).unwrap();
    let name = format!("{}/team-a/busybox", registry.address());
    let push = ["images", "push", "--plain-http", &format!("{name}:1"), ALLOWED];
    bench.daemon.ctr(&push).unwrap().success().unwrap();
    let signer = Cosign::new(2, &dir.join("cosign"));
    let root = bench.daemon.bulkhead_root();
    fs::create_dir_all(root.join("etc/bulkhead/keys")).unwrap();
    fs::write(root.join("etc/bulkhead/keys/a.pub"), signer.public_key()).unwrap();
    let policy = "version = 1\n[image]\n\"registry.test/team-a/*\" = { require = [\"ci\"] }\n[rule.ci]\nkeys = [\"keys/a.pub\"]\n";
    bench.daemon.policy(policy).unwrap();

    let run = || bench.run("signed", &["/bin/true"]).unwrap();
    let fixed = fix(run(), "image-signature");
    assert!(fixed.contains("sign this digest with keys/a.pub and import the signature"), "{fixed}");
    let image = format!("{name}@{}", bench.digests.target);
    signer.sign(&image);
    signer.save(&image, &dir.join("saved"));
    let saved = dir.join("saved").display().to_string();
    let program = bulkhead_integration::bulkhead_dir().unwrap().join("bulkhead");
    let mut import = std::process::Command::new(program);
    import.arg("--root").arg(&root).args(["trust", "import", &saved]);
    bulkhead_integration::run(&mut import, Duration::from_secs(60)).unwrap().success().unwrap();
    run().success().unwrap();
    bench.assert_nothing_left();
}

#[test]
fn image_that_a_refusal_says_to_build_import_or_pull_again_runs_then() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    let tasks = bench.daemon.tasks().unwrap();
    let allowed = || Image::busybox(ALLOWED, &UID.to_string()).unwrap();

    // A directory has no digest: its files in an image do.
    let root = bench.daemon.dir().join("rootfs");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/true")).unwrap();
    let id = bench.daemon.id("rootfs");
    let directory =
        ["run", "--rm", "--runtime", BULKHEAD, "--rootfs", root.to_str().unwrap(), &id, "/bin/true"];
    let fixed = fix(bench.daemon.ctr(&directory).unwrap(), "image-missing");
    assert!(fixed.contains("build and import an image of this root file system"), "{fixed}");
    let program = fs::read(root.join("bin/true")).unwrap();
    let layer = Layer::of(&[Entry::Dir("bin", 0o755), Entry::File("bin/true", 0o755, &program)]).unwrap();
    let config = json!({ "User": format!("{UID}:{UID}") });
    let config = json!({ "config": config }).as_object().unwrap().clone();
    let built = Image::of_config("registry.test/team-a/built:1", vec![layer], config);
    let digests = bench.daemon.import(&built).unwrap();
    bench.allow_digests(&[&digests.manifest, &bench.digests.manifest], "").unwrap();
    let id = bench.daemon.id("built");
    let user = format!("{UID}:{UID}");
    let run = ["run", "--rm", "--user", &user, "--runtime", BULKHEAD, &built.name, &id, "/bin/true"];
    bench.daemon.ctr(&run).unwrap().success().unwrap();

    // Bytes that are no longer those of their name.
    let blob = bench.daemon.blob(&bench.digests.config);
    let text = fs::read_to_string(&blob).unwrap();
    let id = bench.create_container(BULKHEAD, ALLOWED, "damaged", &["/bin/true"]).unwrap();
    fs::write(&blob, text.replace("65532", "65533")).unwrap();
    let fixed = fix(bench.start_container(&id).unwrap(), "image-contents");
    assert!(fixed.contains("remove the image with its content (ctr content rm)"), "{fixed}");
    bench.remove(&id).unwrap();
    bench.daemon.ctr(&["images", "rm", "--sync", ALLOWED]).unwrap().success().unwrap();
    // It may be collected with its image already.
    bench.daemon.ctr(&["content", "rm", &bench.digests.config]).unwrap();
    bench.daemon.import(&allowed()).unwrap();
    bench.run("pulled", &["/bin/true"]).unwrap().success().unwrap();

    // A name that was moved to another image after the container was created.
    let evil = bench.import_evil("registry.test/team-a/evil:1").unwrap();
    bench.allow_digests(&[&bench.digests.manifest, &evil.manifest], "").unwrap();
    let id = bench.create_container(BULKHEAD, ALLOWED, "moved", &["/bin/true"]).unwrap();
    let tag = ["images", "tag", "--force", "registry.test/team-a/evil:1", ALLOWED];
    bench.daemon.ctr(&tag).unwrap().success().unwrap();
    let fixed = fix(bench.start_container(&id).unwrap(), "snapshot-chain");
    assert!(
        fixed.contains("remove the container, pull the image again, and create the container anew"),
        "{fixed}"
    );
    bench.remove(&id).unwrap();
    bench.daemon.import(&allowed()).unwrap();
    let id = bench.create_container(BULKHEAD, ALLOWED, "moved", &["/bin/true"]).unwrap();
    bench.start_container(&id).unwrap().success().unwrap();
    bench.remove(&id).unwrap();

    // A root that a client has put together.
    let id = bench.create_container(BULKHEAD, ALLOWED, "root", &["/bin/true"]).unwrap();
    let own = tasks.mounts(&id).unwrap();
    let error = tasks.create(&id, Vec::new()).unwrap_err().to_string();
    let refused = Refused::read(&error).unwrap();
    assert_eq!(refused.rule(), "rootfs", "{error}");
    assert!(
        refused.line().contains("let containerd make the root from the container's own snapshot"),
        "{error}"
    );
    tasks.create(&id, own).unwrap();
    tasks.start(&id).unwrap();
    assert_eq!(tasks.wait(&id).unwrap(), 0);
    bench.remove(&id).unwrap();
    bench.assert_nothing_left();
}

/// A rule without a test above is one whose fix nobody has tried.
#[test]
fn every_rule_of_the_list_of_refusals_has_its_fix_applied_here() {
    let (page, tests) = (include_str!("../../docs/refusals.md"), include_str!("fixes.rs"));
    let rules: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert!(rules.len() >= 18, "{rules:?}");
    for rule in rules {
        let applied = tests.contains(&format!("), \"{rule}\")"))
            || tests.contains(&format!("(\"{rule}\", \""))
            || tests.contains(&format!("rule(), \"{rule}\""));
        assert!(applied, "{rule}: its fix is applied by no test");
    }
}

#[test]
fn files_that_nobody_can_tell_one_by_one_are_taken_whole_as_a_refusal_says() {
    let bench = Bench::start(Release::V2_1, Cri::Off).unwrap();
    bench.allow("exec = [\"sh *\"]\nlandlock = { files = \"generated\" }").unwrap();
    let mut output = None;
    until("the profile is worked out", Duration::from_secs(180), || {
        let answer = bench.run("files", &["/bin/true"])?;
        let ready = !answer.stderr.contains("is being worked out");
        output = ready.then_some(answer);
        Ok(ready)
    })
    .unwrap();
    let fixed = fix(output.unwrap(), "landlock");
    assert!(fixed.contains("landlock.files = \"generated-when-ready\""), "{fixed}");
    bench.allow("exec = [\"sh *\"]\nlandlock = { files = \"generated-when-ready\" }").unwrap();
    bench.run("files", &["/bin/true"]).unwrap().success().unwrap();
    bench.assert_nothing_left();
}
