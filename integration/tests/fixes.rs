//! What a refusal tells an operator to do is done here, by its own words, and the same request runs.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use bulkhead_integration::{ALLOWED, BULKHEAD, Bench, Cri, Output, Refused, Release};
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
