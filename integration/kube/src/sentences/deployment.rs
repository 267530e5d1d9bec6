//! Deployments and jobs: what most pods are.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bulkhead_integration::until;
use serde_json::{Value, json};

use crate::{
    kubectl::WAIT,
    node::{Admission, Node, TOOLS, Tenant, WEB},
    pod::{PAUSE, config_map, container, pod, script, secret, spec},
};

/// Serves what its init container wrote, by way of a volume; answers probes of each kind.
const SERVER: &str = "trap 'exit 0' TERM; cat /config/greeting /secret/password; echo version $VERSION; \
    httpd -p 8080 -h /work; touch /work/ready; while :; do sleep 1; done";

/// A web server with an init container, a sidecar, two configurations, memory and disk of its own, and three probes.
fn deployment(version: &str) -> Value {
    let mounts = json!([
        { "name": "config", "mountPath": "/config" },
        { "name": "secret", "mountPath": "/secret", "readOnly": true },
        { "name": "work", "mountPath": "/work" },
        { "name": "memory", "mountPath": "/memory" },
    ]);
    let mut app = container("app", WEB, &["/bin/sh", "-c", SERVER]);
    app["env"] = json!([
        { "name": "VERSION", "value": version },
        { "name": "GREETING", "valueFrom": { "configMapKeyRef": { "name": "config", "key": "greeting" } } },
    ]);
    app["ports"] = json!([{ "containerPort": 8080 }]);
    app["resources"] =
        json!({ "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } });
    app["startupProbe"] =
        json!({ "tcpSocket": { "port": 8080 }, "periodSeconds": 1, "failureThreshold": 120 });
    app["readinessProbe"] = json!({ "exec": { "command": ["/bin/cat", "/work/ready"] }, "periodSeconds": 1, "timeoutSeconds": 30 });
    app["livenessProbe"] = json!({ "httpGet": { "port": 8080, "path": "/page" }, "periodSeconds": 5,
        "timeoutSeconds": 30, "failureThreshold": 10 });
    app["lifecycle"] = json!({ "preStop": { "exec": { "command": ["/bin/probe", "true"] } } });
    app["volumeMounts"] = mounts.clone();
    let mut init =
        container("init", WEB, &["/bin/sh", "-c", "cat /config/greeting > /work/page && echo > /memory/x"]);
    init["volumeMounts"] = mounts.clone();
    let mut sidecar = container("sidecar", WEB, &["/bin/sh", "-c", "echo beside; exec /bin/probe pause"]);
    sidecar["restartPolicy"] = json!("Always");
    let mut spec = spec(&[app]);
    spec["initContainers"] = json!([sidecar, init]);
    spec["volumes"] = json!([
        { "name": "config", "configMap": { "name": "config" } },
        { "name": "secret", "secret": { "secretName": "secret", "defaultMode": 0o444 } },
        { "name": "work", "emptyDir": {} },
        { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
    ]);
    let labels = json!({ "app": "web" });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": spec },
        },
    })
}

pub(super) fn a_deployment_is_probed_logs_scales_rolls_and_is_deleted(node: &Node) {
    let tenant = Tenant::make(node, "deployment", Admission::Restricted).unwrap();
    tenant.create(&config_map("config", "greeting", "hello\n")).unwrap();
    tenant.create(&secret("secret", "password", "secret\n")).unwrap();
    tenant.apply(&deployment("one")).unwrap();
    tenant.get(&["rollout", "status", "deployment/web", WAIT]).unwrap();
    tenant.logs(&["deployment/web", "-c", "app"], "hello\nsecret\nversion one\n").unwrap();
    tenant.logs(&["deployment/web", "-c", "sidecar"], "beside\n").unwrap();
    // Ready: the startup and the readiness probe have passed, and no restart: the liveness probe passes.
    let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    assert_eq!(tenant.get(&["get", "pods", "-o", restarts]).unwrap(), "0");

    tenant.get(&["scale", "deployment/web", "--replicas=2"]).unwrap();
    tenant.get(&["rollout", "status", "deployment/web", WAIT]).unwrap();
    let addresses = tenant.get(&["get", "pods", "-o", "jsonpath={.items[*].status.podIP}"]).unwrap();
    let addresses: Vec<&str> = addresses.split(' ').collect();
    assert_eq!(addresses.len(), 2);
    // Each serves its page to another pod, over the bridge.
    let asks = addresses.iter().map(|address| format!("wget -qO- http://{address}:8080/page; "));
    let client = script("client", TOOLS, &asks.collect::<String>());
    assert_eq!(tenant.output_of(&client).unwrap(), "hello\nhello\n");
    tenant.get(&["delete", "pod", "client", "--wait=false"]).unwrap();

    let mut rolled = deployment("two");
    rolled["spec"]["replicas"] = json!(2);
    tenant.apply(&rolled).unwrap();
    tenant.get(&["rollout", "status", "deployment/web", WAIT]).unwrap();
    until("the end of the pods of the first version", Duration::from_secs(180), || {
        let names = tenant.get(&["get", "pods", "-l", "app=web", "-o", "name"])?;
        Ok(names.lines().count() == 2)
    })
    .unwrap();
    tenant.logs(&["-l", "app=web", "-c", "app"], &"hello\nsecret\nversion two\n".repeat(2)).unwrap();

    tenant.get(&["delete", "deployment/web", "--cascade=foreground", WAIT]).unwrap();
    tenant.get(&["wait", "--for=delete", "pod", "-l", "app=web", WAIT]).unwrap();
    // preStop is a command that policy names: nobody was told that it is refused.
    let events = tenant.get(&["get", "events", "-o", "jsonpath={.items[*].message}"]).unwrap();
    assert!(!events.contains("bulkhead refused"), "{events}");
}

pub(super) fn a_job_ends_and_its_pod_tells_how(node: &Node) {
    let tenant = Tenant::make(node, "job", Admission::Restricted).unwrap();
    let job = |name: &str, command: &[&str]| {
        let mut spec = spec(&[container("app", WEB, command)]);
        spec["restartPolicy"] = json!("Never");
        spec["containers"][0]["resources"] = json!({ "limits": { "memory": "32Mi" } });
        json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
            "spec": { "backoffLimit": 0, "template": { "spec": spec } } })
    };
    tenant.create(&job("fine", &["/bin/echo", "done"])).unwrap();
    tenant.create(&job("broken", &["/bin/probe", "exit", "3"])).unwrap();
    // Keeps what may be the last line until that ends: never.
    tenant.create(&job("greedy", &["/bin/tail", "/dev/zero"])).unwrap();
    tenant.get(&["wait", "--for=condition=Complete", "job/fine", WAIT]).unwrap();
    tenant.logs(&["job/fine"], "done\n").unwrap();
    for (name, expected) in [("broken", "3 Error"), ("greedy", "137 OOMKilled")] {
        tenant.get(&["wait", "--for=condition=Failed", &format!("job/{name}"), WAIT]).unwrap();
        let how = "jsonpath={.items[0].status.containerStatuses[0].state.terminated['exitCode','reason']}";
        let label = format!("job-name={name}");
        assert_eq!(tenant.get(&["get", "pods", "-l", &label, "-o", how]).unwrap(), expected, "{name}");
    }
}

pub(super) fn containers_of_a_pod_share_its_processes_where_it_asks_and_its_network_always(node: &Node) {
    let tenant = Tenant::make(node, "shares", Admission::Restricted).unwrap();
    let seen = |name: &str, shared: bool| {
        let look = "until wget -qO- http://127.0.0.1:8080/one; do sleep 0.2; done; cat /proc/[0-9]*/comm | grep httpd | wc -l";
        let mut pod = script(name, TOOLS, look);
        pod["spec"]["shareProcessNamespace"] = json!(shared);
        let mut server = container("server", WEB, &["/bin/httpd", "-f", "-p", "8080", "-h", "/files"]);
        server["restartPolicy"] = json!("Always");
        pod["spec"]["initContainers"] = json!([server]);
        tenant.create(&pod).unwrap();
        let ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated.reason}=Completed";
        tenant.get(&["wait", ended, &format!("pod/{name}"), WAIT]).unwrap();
        tenant.get(&["logs", name, "-c", "app"]).unwrap().lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!((seen("apart", false).as_str(), seen("together", true).as_str()), ("0", "1"));
}

pub(super) fn a_container_is_resized_while_it_runs(node: &Node) {
    let tenant = Tenant::make(node, "resized", Admission::Restricted).unwrap();
    let mut pod = pod("resized", TOOLS, &PAUSE);
    let memory = |text: &str| json!({ "cpu": "50m", "memory": text });
    pod["spec"]["containers"][0]["resources"] =
        json!({ "requests": memory("32Mi"), "limits": { "cpu": "500m", "memory": "64Mi" } });
    tenant.run(&pod).unwrap();
    let more = json!({ "requests": memory("32Mi"), "limits": { "cpu": "500m", "memory": "96Mi" } });
    let patch = json!({ "spec": { "containers": [{ "name": "app", "resources": more }] } }).to_string();
    tenant.get(&["patch", "pod", "resized", "--subresource=resize", "-p", &patch]).unwrap();
    let seen = "jsonpath={.status.containerStatuses[0].resources.limits.memory}";
    tenant.get(&["wait", &format!("--for={seen}=96Mi"), "pod/resized", WAIT]).unwrap();
    let life = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(tenant.get(&["get", "pod", "resized", "-o", life]).unwrap(), "0");
}
