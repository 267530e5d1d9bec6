#![allow(clippy::unwrap_used)]

use super::*;

const DIGEST: &str = "sha256:ad46b1f1fcacc4e67cc8e4ba4a3c0e8f5c0e2fba74f7bd0f0b9b06e0ff6ef13f";

/// A workload of one container: `kind` with `spec` around the pod's.
fn of_kind(kind: &str) -> String {
    let pod = format!("{{ containers: [{{ name: app, image: \"example.com/a@{DIGEST}\" }}] }}");
    let spec = match kind {
        "Pod" => pod,
        "CronJob" => format!("{{ jobTemplate: {{ spec: {{ template: {{ spec: {pod} }} }} }} }}"),
        _ => format!("{{ replicas: 2, template: {{ metadata: {{}}, spec: {pod} }} }}"),
    };
    format!("kind: {kind}\nmetadata: {{ name: web }}\nspec: {spec}\n")
}

#[test]
fn each_kind_that_has_pods_is_read_and_any_other_is_an_error_by_name() {
    for kind in ["Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"] {
        let lines = lines(&of_kind(kind)).unwrap();
        let scope = format!("\"example.com/a\" = {{ digests = [\"{DIGEST}\"], confine = \"web-app\" }}");
        assert!(lines.contains(&scope) && lines.contains(&format!("# {kind} web, container app")), "{lines}");
    }
    for kind in ["Service", "ReplicaSet", "List"] {
        assert!(lines(&of_kind(kind)).unwrap_err().contains(&format!("of kind {kind}")));
    }
    assert!(lines("").unwrap_err().contains("no document"));
    assert!(lines("a: [").unwrap_err().contains("no YAML"));
    assert!(lines("kind: Pod\nmetadata: {name: x}\nspec: {containers: 7}\n").unwrap_err().contains("Pod x"));
    assert!(lines("kind: Pod\nmetadata: {name: x}\nspec: {}\n").unwrap_err().contains("no containers"));
}

#[test]
fn commands_of_probes_and_hooks_become_patterns_word_by_word() {
    let manifest = format!(
        r#"
kind: Deployment
metadata: {{ name: web }}
spec:
  template:
    spec:
      initContainers:
      - {{ name: prepare, image: "example.com/tools@{DIGEST}" }}
      containers:
      - name: app
        image: example.com/a:1@{DIGEST}
        env: [{{ name: PORT, value: "8080" }}]
        ports: [{{ containerPort: 80 }}, {{ containerPort: 9090 }}]
        livenessProbe: {{ exec: {{ command: [curl, "localhost:$(PORT)/$$x$(NO)"] }} }}
        readinessProbe: {{ httpGet: {{ path: /, port: 80 }} }}
        lifecycle:
          preStop: {{ exec: {{ command: [sh, -c, 'sleep 1; echo "$(PORT)"'] }} }}
          postStart: {{ exec: {{ command: [ls, "*"] }} }}
        volumeMounts: [{{ name: data, mountPath: /data }}, {{ name: logs, mountPath: /logs, readOnly: true }}]
      volumes:
      - {{ name: data, emptyDir: {{}} }}
      - {{ name: logs, hostPath: {{ path: /var/log/ }} }}
---
kind: Pod
metadata: {{ name: again }}
spec: {{ containers: [{{ name: a, image: nginx }}, {{ name: b, image: "example.com/a@{DIGEST}", startupProbe: {{ exec: {{ command: ["true"] }} }} }}] }}
"#
    );
    let lines = lines(&manifest).unwrap();
    for wanted in [
        r#"["curl", "localhost:8080/$x$(NO)"], # livenessProbe"#,
        r#"["sh", "-c", "sleep 1; echo \"$(PORT)\""], # preStop"#,
        r#"["true"], # startupProbe"#,
        r#"# its last word is a star, which a pattern takes for any rest; allow it only as that: ["ls", "*"]"#,
        r#"{ path = "/var/log", access = "read-only" },"#,
        "need no line: /data",
        "# ports need no line: 9090",
        "the pod's network namespace opens them: 80",
        "# nginx is named without a digest: `bulkhead verify nginx` says it",
        r#"# "docker.io/library/nginx" = { digests = ["sha256:…"], confine = "again-a" }"#,
        r#""example.com/tools" = { digests"#,
        "# Pod again, container b\n",
    ] {
        assert!(lines.contains(wanted), "{wanted}\n{lines}");
    }
    assert_eq!(lines.matches("\"example.com/a\" = ").count(), 1, "{lines}");
    assert!(!lines.contains("\n    [\"ls\", \"*\"]"), "{lines}");
}

#[test]
fn what_no_line_can_allow_is_said() {
    let manifest = format!(
        "kind: Pod\nmetadata: {{ name: p }}\nspec:\n  hostNetwork: true\n  hostPID: true\n  containers:\n  - name: p\n    image: x@{DIGEST}\n    \
         securityContext: {{ privileged: true, runAsUser: 0, capabilities: {{ add: [SYS_ADMIN, NET_BIND_SERVICE] }} }}\n"
    );
    let lines = lines(&manifest).unwrap();
    for refused in ["hostNetwork", "hostPID", "privileged", "capability SYS_ADMIN"] {
        let wanted =
            format!("# refused whatever is written here, but at level = \"compatible\": {refused}\n");
        assert!(lines.contains(&wanted), "{refused}\n{lines}");
    }
    assert!(lines.contains("# user = { force = 65532 }\n") && lines.contains("[confine.p]\n"), "{lines}");
    assert!(!lines.contains("NET_BIND_SERVICE"), "{lines}");
}

#[test]
fn text_of_a_manifest_cannot_write_a_line_of_policy() {
    let evil = "x\\n[confine.default]\\nexec = [[\\\"*\\\"]]\\n#";
    let manifest = format!(
        "kind: Pod\nmetadata: {{ name: \"{evil}\" }}\nspec:\n  containers:\n  - name: \"{evil}\"\n    image: x@{DIGEST}\n    \
         livenessProbe: {{ exec: {{ command: [\"{evil}\"] }} }}\n    volumeMounts: [{{ name: v, mountPath: \"{evil}\" }}]\n"
    );
    let lines = lines(&manifest).unwrap();
    assert!(!lines.lines().any(|line| line.starts_with("[confine.default]")), "{lines}");
    let image = format!(
        "kind: Pod\nmetadata: {{ name: p }}\nspec: {{ containers: [{{ name: p, image: \"{evil}\" }}] }}\n"
    );
    assert!(super::lines(&image).unwrap_err().contains("is no image"));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
    assert!(super::lines(bomb).is_err());
}

#[test]
fn places_that_the_environment_says_to_write_to_are_writable_unless_they_are_already() {
    let pod = |security: &str| {
        format!(
            "kind: Pod\nmetadata: {{ name: p }}\nspec:\n  containers:\n  - name: p\n    image: x@{DIGEST}\n    \
             securityContext: {{ {security} }}\n    volumeMounts: [{{ name: v, mountPath: /data/ }}]\n    env:\n    \
             - {{ name: TMPDIR, value: /var/scratch/ }}\n    - {{ name: XDG_CACHE_HOME, value: /data/cache }}\n    \
             - {{ name: TMP, value: /tmp/app }}\n    - {{ name: TEMP, value: /proc/x }}\n    - {{ name: HOME, value: /srv }}\n    \
             - {{ name: XDG_RUNTIME_DIR, value: /a/../b }}\n    - {{ name: XDG_STATE_HOME, value: /database }}\n"
        )
    };
    let lines = lines(&pod("readOnlyRootFilesystem: true")).unwrap();
    assert!(lines.contains("\nwritable = [\"/database\", \"/var/scratch\"]\n"), "{lines}");
    assert!(!lines.contains("read-only here"), "{lines}");
    assert!(super::lines(&pod("runAsUser: 1")).unwrap().contains("is read-only here"));
}
