//! The gates, as a tenant of Kubernetes meets them: what is admitted, and how a refusal is told.

#![allow(clippy::unwrap_used)]

use std::{fs, thread, time::Duration};

use bulkhead_integration::{Answers, Refused};
use serde_json::{Value, json};

use crate::{
    kubectl::WAIT,
    node::{Admission, INFRA, LATER, Node, OF_NODE, TOOLS, Tenant, UNPINNED, WEB},
    pod::{PAUSE, container, mount, pod, script},
};

/// What people are told, its rule and its line.
fn refusal(description: &str) -> (String, String) {
    let refused = Refused::read(description).unwrap();
    (refused.rule().to_owned(), refused.line().replace('\\', ""))
}

pub(super) fn a_pod_of_the_runtime_class_is_confined_and_one_of_runc_is_not(node: &Node) {
    let tenant = Tenant::make(node, "runtime-class", Admission::Restricted).unwrap();
    let facts = |name: &str| {
        let mut pod = pod(name, TOOLS, &["/bin/probe", "facts"]);
        pod["spec"]["runtimeClassName"] = json!(name);
        Answers::read(&tenant.output_of(&pod).unwrap()).unwrap()
    };
    let (ours, theirs) = (facts("bulkhead"), facts("runc"));
    for facts in [&ours, &theirs] {
        assert_eq!((facts.get("Uid"), facts.get("NoNewPrivs")), ("65532 65532 65532 65532", "1"));
    }
    let root = |facts: &Answers| facts.get("mount /").split(' ').next().unwrap_or_default().to_owned();
    assert!(root(&ours).starts_with("ro,nosuid"), "{}", root(&ours));
    assert!(root(&theirs).starts_with("rw"), "{}", root(&theirs));
}

pub(super) fn an_unpinned_image_is_refused_in_the_description_and_does_not_hammer_the_node(node: &Node) {
    let tenant = Tenant::make(node, "unpinned", Admission::Restricted).unwrap();
    let mut unpinned = pod("unpinned", UNPINNED, &PAUSE);
    // As a Deployment's: the kubelet tries again and again.
    unpinned["spec"]["restartPolicy"] = json!("Always");
    let described = tenant.refusal_of(&unpinned).unwrap();
    let (rule, line) = refusal(&described);
    assert!(rule == "image-digest" && line.contains(UNPINNED.trim_end_matches(":2")), "{line}");
    // A line of the record for each launch that was judged: how often the kubelet tried.
    let record = node.daemon().bulkhead_root().join("var/lib/bulkhead/audit/verdicts.jsonl");
    let refused =
        |line: &&str| line.contains("\"tenant\":\"unpinned\"") && line.contains("\"verdict\":\"refuse\"");
    let tries = || fs::read_to_string(&record).unwrap().lines().filter(refused).count();
    let before = tries();
    thread::sleep(Duration::from_secs(60));
    let more = tries() - before;
    println!("tries of an unpinned image in a minute: {more}");
    assert!(before >= 1, "the first try is in the record");
    assert!(more <= 6, "{more} tries in a minute");
}

pub(super) fn two_namespaces_have_two_policies(node: &Node) {
    let narrow = "version = 1\n[image]\n\"registry.test/pause\" = {}\n\
        \"registry.test/team-a/tools\" = { confine = \"tools\" }\n\
        [confine.tools]\nexec = [\"/bin/probe true\"]\n";
    node.daemon().tenant_policy("narrow", narrow).unwrap();
    let wide = Tenant::make(node, "wide", Admission::Restricted).unwrap();
    let narrow = Tenant::make(node, "narrow", Admission::Restricted).unwrap();
    for tenant in [&wide, &narrow] {
        tenant.run(&pod("tools", TOOLS, &PAUSE)).unwrap();
        tenant.get(&["exec", "tools", "--", "/bin/probe", "true"]).unwrap();
    }
    assert_eq!(wide.get(&["exec", "tools", "--", "/bin/echo", "said"]).unwrap(), "said\n");
    let refused = narrow.ask(&["exec", "tools", "--", "/bin/echo", "said"]).unwrap();
    assert_eq!((refused.ok(), refusal(&refused.stderr).0), (false, "exec".to_owned()));

    wide.run(&pod("web", WEB, &PAUSE)).unwrap();
    let (rule, line) = refusal(&narrow.refusal_of(&pod("web", WEB, &PAUSE)).unwrap());
    assert!(rule == "image-scope" && line.contains("tenants/narrow.toml"), "{line}");
}

pub(super) fn a_command_that_policy_names_is_executed_and_another_is_refused_with_its_reason(node: &Node) {
    let tenant = Tenant::make(node, "exec", Admission::Restricted).unwrap();
    tenant.run(&pod("web", WEB, &PAUSE)).unwrap();
    tenant.get(&["exec", "web", "--", "/bin/probe", "true"]).unwrap();
    let refused = tenant.ask(&["exec", "web", "--", "/bin/sh", "-c", "id"]).unwrap();
    assert!(!refused.ok() && refused.stdout.is_empty(), "{refused:?}");
    let (rule, line) = refusal(&refused.stderr);
    assert!(rule == "exec" && line.contains("/bin/sh"), "{line}");
    tenant.run(&pod("tools", TOOLS, &PAUSE)).unwrap();
    let said = tenant.get_with("said\n", &["exec", "-i", "tools", "--", "/bin/cat"]).unwrap();
    assert_eq!(said, "said\n");
    let attached = tenant.ask(&["exec", "-i", "web", "--", "/bin/sh"]).unwrap();
    assert_eq!((attached.ok(), refusal(&attached.stderr).0), (false, "exec".to_owned()));
}

pub(super) fn a_probe_that_policy_does_not_name_leaves_the_pod_unready_and_says_why(node: &Node) {
    let tenant = Tenant::make(node, "probe", Admission::Restricted).unwrap();
    let mut probed = pod("probed", WEB, &PAUSE);
    let probe = |command: &[&str]| json!({ "exec": { "command": command }, "periodSeconds": 1 });
    probed["spec"]["containers"][0]["readinessProbe"] = probe(&["/bin/ls", "/"]);
    let (rule, line) = refusal(&tenant.refusal_of(&probed).unwrap());
    assert!(rule == "exec" && line.contains("/bin/ls"), "{line}");
    let ready = "jsonpath={.status.phase} {.status.containerStatuses[0].ready}";
    assert_eq!(tenant.get(&["get", "pod", "probed", "-o", ready]).unwrap(), "Running false");
    probed["metadata"]["name"] = json!("named");
    probed["spec"]["containers"][0]["readinessProbe"] = probe(&["/bin/probe", "true"]);
    tenant.run(&probed).unwrap();
}

pub(super) fn what_no_tenant_may_ask_for_is_refused_with_the_name_of_the_field(node: &Node) {
    // The API server lets all of it through: it is the node that refuses.
    let tenant = Tenant::make(node, "asks", Admission::Anything).unwrap();
    let asking = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut pod = script(name, TOOLS, "echo ran; sleep 600");
        edit(&mut pod);
        (name.to_owned(), pod)
    };
    let host_path = |path: &'static str| {
        move |pod: &mut Value| {
            mount(pod, "host", json!({ "hostPath": { "path": path } }), "/host", json!({ "readOnly": true }));
        }
    };
    let cases = [
        (
            asking("privileged", &|pod| {
                pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
            }),
            "devices",
            "privileged",
        ),
        (
            asking("root", &|pod| {
                pod["spec"]["securityContext"] = json!({ "runAsUser": 0 });
            }),
            "user",
            "uid 0",
        ),
        (
            asking("added", &|pod| {
                pod["spec"]["containers"][0]["securityContext"]["capabilities"] =
                    json!({ "add": ["SYS_ADMIN"] });
            }),
            "capabilities",
            "CAP_SYS_ADMIN",
        ),
        (asking("host-pid", &|pod| pod["spec"]["hostPID"] = json!(true)), "namespaces", "hostPID"),
        (asking("host-ipc", &|pod| pod["spec"]["hostIPC"] = json!(true)), "namespaces", "hostIPC"),
        (
            asking("host-network", &|pod| pod["spec"]["hostNetwork"] = json!(true)),
            "namespaces",
            "hostNetwork",
        ),
        (asking("host-path", &host_path("/etc")), "mounts", "/etc on /host"),
        (asking("host-socket", &host_path("/run/containerd")), "mounts", "/run/containerd on /host"),
        (
            asking("host-kubelet", &host_path("/var/lib/kubelet/pods")),
            "mounts",
            "/var/lib/kubelet/pods on /host",
        ),
    ];
    for ((_, pod), _, _) in &cases {
        tenant.create(pod).unwrap();
    }
    for ((name, _), expected, text) in &cases {
        let (rule, line) = refusal(&tenant.described(name, "bulkhead refused: ").unwrap());
        assert!(rule == *expected && line.contains(text), "{name}: {rule}: {line}");
        // A pod that was refused has run nothing.
        assert_eq!(tenant.ask(&["logs", name]).unwrap().stdout, "", "{name}");
    }
}

pub(super) fn a_container_that_is_added_to_a_pod_that_runs_is_judged_as_any_other(node: &Node) {
    let tenant = Tenant::make(node, "added", Admission::Restricted).unwrap();
    tenant.run(&pod("web", WEB, &PAUSE)).unwrap();
    // What `kubectl debug` sends.
    let add = |name: &str, image: &str| {
        let patch =
            json!({ "spec": { "ephemeralContainers": [container(name, image, &PAUSE)] } }).to_string();
        tenant.get(&["patch", "pod", "web", "--subresource=ephemeralcontainers", "-p", &patch]).unwrap();
    };
    add("unpinned", UNPINNED);
    let (rule, line) = refusal(&tenant.described("web", "bulkhead refused: ").unwrap());
    assert_eq!(rule, "image-digest", "{line}");
    add("named", TOOLS);
    let runs = "--for=jsonpath={.status.ephemeralContainerStatuses[?(@.name=='named')].state.running}";
    tenant.get(&["wait", runs, "pod/web", WAIT]).unwrap();
    assert_eq!(tenant.get(&["exec", "web", "-c", "named", "--", "/bin/echo", "here"]).unwrap(), "here\n");
}

pub(super) fn a_privileged_pod_of_the_nodes_own_runs_and_the_same_of_a_tenant_is_refused(node: &Node) {
    let mut agent = script("agent", INFRA, "id -u; ls -d /host/etc/passwd; grep CapEff /proc/self/status");
    agent["spec"]["hostNetwork"] = json!(true);
    agent["spec"]["hostPID"] = json!(true);
    agent["spec"]["securityContext"] = json!({ "runAsUser": 0 });
    agent["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    mount(&mut agent, "host", json!({ "hostPath": { "path": "/" } }), "/host", json!({}));
    let own = Tenant::make(node, OF_NODE, Admission::Anything).unwrap();
    let seen = own.output_of(&agent).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["0", "/host/etc/passwd"]);
    assert!(!lines[2].ends_with("0000000000000000"), "{seen}");
    let tenant = Tenant::make(node, "of-tenant", Admission::Anything).unwrap();
    let (rule, line) = refusal(&tenant.refusal_of(&agent).unwrap());
    assert!(rule == "namespaces" && line.contains("host"), "{rule}: {line}");
}

pub(super) fn what_a_refusal_says_to_add_lets_the_pod_run_that_was_refused(node: &mut Node) {
    let tenant = Tenant::make(node, "later", Admission::Restricted).unwrap();
    let mut later = pod("later", LATER, &PAUSE);
    later["spec"]["restartPolicy"] = json!("Always");
    let (rule, line) = refusal(&tenant.refusal_of(&later).unwrap());
    assert_eq!(rule, "image-scope", "{line}");
    let fix = line.split_once("fix: add ").and_then(|(_, fix)| fix.split_once(" below [image]")).unwrap().0;
    let policy = node.daemon().bulkhead_root().join("etc/bulkhead/policy.toml");
    let text = fs::read_to_string(policy).unwrap().replace("[image]\n", &format!("[image]\n{fix}\n"));
    node.daemon().policy(&text).unwrap();
    // Nobody touches the pod: the kubelet tries again.
    tenant.get(&["wait", "--for=condition=Ready", "pod/later", WAIT]).unwrap();
}
