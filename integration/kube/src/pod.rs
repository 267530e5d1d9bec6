//! Pods and what is in them, as manifests: each meets Pod Security "restricted" unless a sentence changes it.

use bulkhead_integration::UID;
use serde_json::{Value, json};

/// A container that never ends.
pub(crate) const PAUSE: [&str; 2] = ["/bin/probe", "pause"];

/// What Pod Security "restricted" asks of a container.
///
/// Source: Kubernetes, Pod Security Standards, "Restricted".
pub(crate) fn container(name: &str, image: &str, command: &[&str]) -> Value {
    json!({
        "name": name,
        "image": image,
        // There is nowhere to pull from.
        "imagePullPolicy": "Never",
        "command": command,
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    })
}

/// What a pod of these containers is.
pub(crate) fn spec(containers: &[Value]) -> Value {
    json!({
        "runtimeClassName": "bulkhead",
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": UID, "runAsGroup": UID, "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": containers,
    })
}

/// A pod of one container.
pub(crate) fn pod(name: &str, image: &str, command: &[&str]) -> Value {
    let mut spec = spec(&[container("app", image, command)]);
    spec["restartPolicy"] = json!("Never");
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec })
}

/// A pod of one container that says what a script finds.
pub(crate) fn script(name: &str, image: &str, script: &str) -> Value {
    pod(name, image, &["/bin/sh", "-c", &format!("exec 2>&1; {script}")])
}

/// Adds a volume to a pod, and mounts it in its first container with more words of the mount.
pub(crate) fn mount(pod: &mut Value, name: &str, volume: Value, at: &str, more: Value) {
    let mut named = volume;
    named["name"] = json!(name);
    let mut mount = more;
    mount["name"] = json!(name);
    mount["mountPath"] = json!(at);
    push(&mut pod["spec"]["containers"][0]["volumeMounts"], mount);
    let volumes = &mut pod["spec"]["volumes"];
    if !volumes.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name)) {
        push(volumes, named);
    }
}

/// Adds to a list that may not be there.
pub(crate) fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}

/// A configmap with one file.
pub(crate) fn config_map(name: &str, file: &str, text: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { file: text } })
}

/// A secret with one file.
pub(crate) fn secret(name: &str, file: &str, text: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { file: text } })
}
