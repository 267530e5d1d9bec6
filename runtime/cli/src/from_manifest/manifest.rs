//! The pods of a manifest: what of Kubernetes' objects decides about a container.
//!
//! Fields that decide nothing here are not read; of those that are, a value of another type is an error.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Kinds that have pods.
const KINDS: &str = "Pod, Deployment, StatefulSet, DaemonSet, Job, CronJob";

/// A pod, and what it is made by.
pub(super) struct Pod {
    /// `Deployment web`.
    pub(super) origin: String,
    pub(super) name: String,
    pub(super) spec: PodSpec,
}

#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Object<Spec> {
    spec: Spec,
}

/// Of a Deployment, StatefulSet, DaemonSet and Job; of a CronJob one level below.
#[derive(Deserialize)]
struct Workload {
    template: Object<PodSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schedule {
    job_template: Object<Workload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    #[serde(default)]
    pub(super) containers: Vec<Container>,
    #[serde(default)]
    pub(super) init_containers: Vec<Container>,
    #[serde(default)]
    pub(super) volumes: Vec<Volume>,
    #[serde(default)]
    pub(super) security_context: SecurityContext,
    #[serde(default)]
    pub(super) host_network: bool,
    #[serde(default, rename = "hostPID")]
    pub(super) host_pid: bool,
    #[serde(default, rename = "hostIPC")]
    pub(super) host_ipc: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    #[serde(default)]
    pub(super) env: Vec<Variable>,
    #[serde(default)]
    pub(super) ports: Vec<Port>,
    #[serde(default)]
    pub(super) volume_mounts: Vec<VolumeMount>,
    pub(super) liveness_probe: Option<Handler>,
    pub(super) readiness_probe: Option<Handler>,
    pub(super) startup_probe: Option<Handler>,
    #[serde(default)]
    pub(super) lifecycle: Lifecycle,
    #[serde(default)]
    pub(super) security_context: SecurityContext,
}

#[derive(Deserialize)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) container_port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeMount {
    pub(super) name: String,
    pub(super) mount_path: String,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) host_path: Option<HostPath>,
}

#[derive(Deserialize)]
pub(super) struct HostPath {
    pub(super) path: String,
}

/// A probe, or a hook.
#[derive(Deserialize)]
pub(super) struct Handler {
    pub(super) exec: Option<Exec>,
}

#[derive(Deserialize)]
pub(super) struct Exec {
    #[serde(default)]
    pub(super) command: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lifecycle {
    pub(super) post_start: Option<Handler>,
    pub(super) pre_stop: Option<Handler>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SecurityContext {
    pub(super) run_as_user: Option<i64>,
    #[serde(default)]
    pub(super) privileged: bool,
    #[serde(default)]
    pub(super) read_only_root_filesystem: bool,
    #[serde(default)]
    pub(super) capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
pub(super) struct Capabilities {
    #[serde(default)]
    pub(super) add: Vec<String>,
}

/// The pods of every document.
pub(super) fn pods(text: &str) -> Result<Vec<Pod>, String> {
    // Its limits on aliases and depth are the crate's own: a manifest is a tenant's.
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("no YAML: {error}"))?;
    let pods: Vec<Pod> = documents
        .into_iter()
        .enumerate()
        .filter(|(_, document)| !document.is_null())
        .map(|(index, document)| pod(index + 1, document))
        .collect::<Result<_, _>>()?;
    if pods.is_empty() {
        return Err(format!("it has no document of a kind that has pods: {KINDS}"));
    }
    Ok(pods)
}

fn pod(number: usize, document: serde_json::Value) -> Result<Pod, String> {
    fn typed<T: serde::de::DeserializeOwned>(what: &str, value: serde_json::Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|error| format!("{what}: {error}"))
    }
    let place = format!("document {number}");
    let Head { kind, metadata } = typed(&place, document.clone())?;
    let kind = kind.ok_or_else(|| format!("{place} has no kind"))?;
    let name = metadata.name.ok_or_else(|| format!("{place}: {kind} has no metadata.name"))?;
    let origin = format!("{kind} {name}");
    let spec = match kind.as_str() {
        "Pod" => typed::<Object<PodSpec>>(&origin, document)?.spec,
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => {
            typed::<Object<Workload>>(&origin, document)?.spec.template.spec
        }
        "CronJob" => typed::<Object<Schedule>>(&origin, document)?.spec.job_template.spec.template.spec,
        other => {
            return Err(format!(
                "{place} is of kind {other}, which has no pods that are known here: {KINDS}"
            ));
        }
    };
    if spec.containers.is_empty() {
        return Err(format!("{origin} has no containers"));
    }
    Ok(Pod { origin, name, spec })
}

/// Variables by which programs are told where to write.
///
/// Source: environ(7) and POSIX for TMPDIR, Python's tempfile for TMP and TEMP, the XDG Base Directory Specification.
const WRITTEN: [&str; 6] = ["TMPDIR", "TMP", "TEMP", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"];

impl Container {
    /// Directories that its environment tells it to write to.
    pub(super) fn written(&self) -> impl Iterator<Item = &str> {
        let written = self.env.iter().filter(|variable| WRITTEN.contains(&variable.name.as_str()));
        written.filter_map(|variable| variable.value.as_deref())
    }

    /// The commands that the kubelet runs in it, each with what runs it.
    ///
    /// Source: kubernetes pkg/kubelet/prober/prober.go expands `$(NAME)` in a probe's command by what `env` says as it stands;
    /// pkg/kubelet/lifecycle/handlers.go runs a hook's as it is.
    pub(super) fn commands(&self) -> Vec<(&'static str, Vec<String>)> {
        let known: BTreeMap<&str, &str> = self
            .env
            .iter()
            .filter_map(|variable| Some((variable.name.as_str(), variable.value.as_deref()?)))
            .collect();
        let probes = [
            ("livenessProbe", &self.liveness_probe),
            ("readinessProbe", &self.readiness_probe),
            ("startupProbe", &self.startup_probe),
        ];
        let hooks = [("postStart", &self.lifecycle.post_start), ("preStop", &self.lifecycle.pre_stop)];
        let command = |handler: &Option<Handler>| Some(handler.as_ref()?.exec.as_ref()?.command.clone());
        let expanded = |words: Vec<String>| words.iter().map(|word| expand(word, &known)).collect();
        let probes = probes.into_iter().filter_map(|(by, handler)| Some((by, expanded(command(handler)?))));
        let hooks = hooks.into_iter().filter_map(|(by, handler)| Some((by, command(handler)?)));
        probes.chain(hooks).filter(|(_, words)| !words.is_empty()).collect()
    }
}

/// `$(NAME)` where it is known, `$$` for `$`; everything else as it is.
///
/// Source: kubernetes third_party/forked/golang/expansion.
fn expand(word: &str, known: &BTreeMap<&str, &str>) -> String {
    let mut expanded = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            match known.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}
