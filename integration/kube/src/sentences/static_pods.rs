//! Pods that no API server has admitted: files on the node.

#![allow(clippy::unwrap_used)]

use std::fs;

use bulkhead_integration::{Answers, Refused};
use serde_json::{Value, json};

use crate::{
    kubectl::WAIT,
    kubelet::{self, NODE},
    node::{Admission, Node, TOOLS, Tenant, UNPINNED},
    pod::{PAUSE, pod},
};

pub(super) fn a_static_pod_without_runtime_class_meets_the_policy_of_the_node(node: &Node) {
    // Its pods are mirrored here, for people to see.
    let tenant = Tenant::make(node, "static", Admission::Anything).unwrap();
    let put = |mut pod: Value| {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        pod["metadata"]["namespace"] = json!("static");
        pod["spec"].as_object_mut().unwrap().remove("runtimeClassName");
        let path = kubelet::static_pods(node.daemon()).join(format!("{name}.json"));
        fs::write(&path, pod.to_string()).unwrap();
        (path, format!("{name}-{NODE}"))
    };
    let mut privileged = pod("privileged", TOOLS, &PAUSE);
    privileged["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
    let mut fine = pod("fine", TOOLS, &["/bin/probe", "facts"]);
    fine["spec"]["restartPolicy"] = json!("Never");
    let put = [put(fine), put(pod("unpinned", UNPINNED, &PAUSE)), put(privileged)];
    let [(_, fine), (_, unpinned), (_, privileged)] = &put;

    let mirrored = format!("pod/{fine}");
    tenant.get(&["wait", "--for=create", &mirrored, WAIT]).unwrap();
    tenant.get(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &mirrored, WAIT]).unwrap();
    let facts = Answers::read(&tenant.get(&["logs", fine]).unwrap()).unwrap();
    assert!(facts.get("mount /").starts_with("ro,nosuid"), "{}", facts.get("mount /"));
    for (name, rule) in [(unpinned, "image-digest"), (privileged, "devices")] {
        tenant.get(&["wait", "--for=create", &format!("pod/{name}"), WAIT]).unwrap();
        let described = tenant.described(name, "bulkhead refused: ").unwrap();
        assert_eq!(Refused::read(&described).unwrap().rule(), rule, "{described}");
    }
    for (path, name) in &put {
        fs::remove_file(path).unwrap();
        tenant.get(&["wait", "--for=delete", &format!("pod/{name}"), WAIT]).unwrap();
    }
}
