//! A node with all that Kubernetes needs: containerd with Bulkhead as its default runtime, the control plane, a kubelet.
//!
//! ```text
//! network ─► containerd, images, policy ─► etcd ─► API server ─► scheduler, controllers ─► kubelet ─► Ready
//! ```

use std::{fs, path::Path, process::Command, thread, time::Duration};

use bulkhead_integration::{
    Containerd, Cri, Digests, Entry, Image, Layer, PAUSE, Release, Result, Surroundings, UID, bulkhead_dir,
    run, until, workspace,
};
use serde_json::{Value, json};

use crate::{
    control_plane::ControlPlane,
    kubectl::{Kubectl, WAIT},
    kubelet,
    network::Network,
    program::Program,
};

/// How long the node may take to be there, on a loaded machine.
const READY: Duration = Duration::from_secs(180);

/// An image that policy names, in which a few commands may be exec'd.
pub(crate) const WEB: &str = "registry.test/team-a/web:1";

/// An image that policy names, in which any command may be exec'd.
pub(crate) const TOOLS: &str = "registry.test/team-a/tools:1";

/// An image that policy names, to be mounted as a volume.
pub(crate) const MODEL: &str = "registry.test/team-a/model:1";

/// An image of a repository that policy names, but not by this digest.
pub(crate) const UNPINNED: &str = "registry.test/team-a/web:2";

/// The handler that containerd 2.1 believes to have user namespaces: of runc's type, with Bulkhead's shim.
pub(crate) const WITH_USERS: &str = "bulkhead-with-users";

/// An image that no scope of policy matches, until somebody adds what its refusal says.
pub(crate) const LATER: &str = "registry.test/team-b/later:1";

/// An image of the node's own: root, where policy says so.
pub(crate) const INFRA: &str = "registry.test/node/agent:1";

/// The namespace of what runs the node.
pub(crate) const OF_NODE: &str = "of-node";

/// A whole node. Fields are ended from the first to the last.
#[derive(Debug)]
pub(crate) struct Node {
    kubelet: Option<Program>,
    plane: ControlPlane,
    kubectl: Kubectl,
    daemon: Containerd,
    _network: Network,
}

/// Whether the programs of Kubernetes are there, built from this source.
pub(crate) fn built() -> Result<bool> {
    let mut script = Command::new(workspace().join("integration/kube/build.sh"));
    Ok(run(script.arg("--there"), Duration::from_secs(20))?.ok())
}

/// Kubernetes is one module and its staging modules: all of the same version.
pub(crate) fn one_version() -> std::result::Result<(), String> {
    let path = workspace().join("integration/kube/go.mod");
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let pinned = text.lines().find_map(|line| line.split_once("k8s.io/kubernetes v1."));
    let (_, version) = pinned.ok_or("k8s.io/kubernetes is not pinned")?;
    let others: Vec<&str> = text.lines().filter(|line| line.contains(" => ")).collect();
    match others.iter().find(|line| !line.ends_with(&format!(" v0.{version}"))) {
        Some(line) => Err(format!("{} is not of version {version}", line.trim())),
        None if others.is_empty() => Err("no staging module is pinned".to_owned()),
        None => Ok(()),
    }
}

impl Node {
    /// Starts it and waits until a pod could be given to it.
    pub(crate) fn start() -> Result<Self> {
        let network = Network::make()?;
        let path = network.path();
        let shim = bulkhead_dir()?.join("containerd-shim-bulkhead-v2");
        let around = Surroundings {
            network: Some(&path),
            default_handler: Some("bulkhead"),
            shims: &[(WITH_USERS, &shim)],
            ..Surroundings::default()
        };
        let daemon = Containerd::start_in(Release::V2_1, Cri::On, &around)?;
        allow(&daemon)?;
        let plane = ControlPlane::start(&daemon)?;
        let kubectl = Kubectl::new(&path, plane.kubeconfig(), &daemon.dir().join("kubectl"))?;
        let mut node = Self { kubelet: None, plane, kubectl, daemon, _network: network };
        node.become_ready().inspect_err(|_| node.tell())?;
        Ok(node)
    }

    fn become_ready(&mut self) -> Result<()> {
        self.patiently("an answer of the API server", |node| {
            node.plane.run()?;
            Ok(node.kubectl.ask(&["get", "--raw", "/readyz"])?.ok())
        })?;
        self.plane.start_controllers(&self.daemon)?;
        self.start_kubelet()?;
        for handler in ["bulkhead", WITH_USERS, "runc"] {
            let class = json!({ "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
                "metadata": { "name": handler }, "handler": handler });
            self.kubectl.send("create", &class, &[])?;
        }
        let node = format!("node/{}", kubelet::NODE);
        self.patiently("a node that is ready", |this| {
            this.plane.run()?;
            this.kubelet.as_mut().map_or(Ok(()), Program::runs)?;
            let taints = ["get", &node, "-o", "jsonpath={.spec.taints}{.status.conditions[-1].status}"];
            let seen = this.kubectl.ask(&taints)?;
            Ok(seen.ok() && seen.stdout == "True")
        })
    }

    /// Asks once in a while: each question is a program of its own.
    fn patiently(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        until(what, READY, || {
            let ready = ready(self)?;
            if !ready {
                thread::sleep(Duration::from_millis(500));
            }
            Ok(ready)
        })
    }

    /// Starts the kubelet.
    pub(crate) fn start_kubelet(&mut self) -> Result<()> {
        self.kubelet = Some(kubelet::start(&self.daemon, self.plane.kubeconfig())?);
        Ok(())
    }

    /// Stops the kubelet, as systemd would.
    pub(crate) fn stop_kubelet(&mut self) -> Result<()> {
        self.kubelet.take().map_or(Ok(()), Program::stop)
    }

    /// The node's containerd.
    pub(crate) fn daemon(&self) -> &Containerd {
        &self.daemon
    }

    /// The node's containerd, to restart it.
    pub(crate) fn daemon_mut(&mut self) -> &mut Containerd {
        &mut self.daemon
    }

    /// Its API.
    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Pid of the kubelet.
    pub(crate) fn kubelet_pid(&self) -> Option<u32> {
        self.kubelet.as_ref().map(Program::pid)
    }

    /// What a person would look at after something went wrong.
    pub(crate) fn tell(&self) {
        let kubelet = self.kubelet.as_ref().map(Program::end_of_log).unwrap_or_default();
        eprintln!("--- end of the kubelet's log ---\n{kubelet}");
        for words in [["get", "pods", "-A", "-o", "wide"], ["get", "events", "-A", "--no-headers", "-o=wide"]]
        {
            match self.kubectl.ask(&words) {
                Ok(output) => {
                    eprintln!("--- kubectl {} ---\n{}{}", words.join(" "), output.stdout, output.stderr)
                }
                Err(error) => eprintln!("--- kubectl {}: {error}", words.join(" ")),
            }
        }
    }
}

/// Imports the images, and writes the node's policy for them.
fn allow(daemon: &Containerd) -> Result<()> {
    let import = |name: &str, marker: &str| -> Result<Digests> {
        let layer = Layer::of(&[
            Entry::Dir("srv", 0o755),
            Entry::File("srv/index.html", 0o644, marker.as_bytes()),
            Entry::Dir("files", 0o755),
            Entry::File("files/one", 0o644, marker.as_bytes()),
        ])?;
        daemon.import_in("k8s.io", &Image::busybox(name, &format!("{UID}:{UID}"))?.with(layer))
    };
    import(UNPINNED, "an image that nobody pinned\n")?;
    import(LATER, "an image that somebody pins later\n")?;
    let [web, tools, model, infra] =
        [WEB, TOOLS, MODEL, INFRA].map(|name| import(name, &format!("{name}\n")));
    let (web, tools, model, infra) = (web?.manifest, tools?.manifest, model?.manifest, infra?.manifest);
    let path = daemon.dir().join("pause.tar");
    let pause = Image::pause(PAUSE)?.write(&path)?.manifest;
    daemon.policy(&format!(
        "version = 1\nmode = \"enforce\"\n[image]\n\
         \"registry.test/pause\" = {{ digests = [{pause:?}], confine = \"node\" }}\n\
         \"registry.test/node/agent\" = {{ digests = [{infra:?}], confine = \"node\" }}\n\
         \"registry.test/team-a/web\" = {{ digests = [{web:?}], confine = \"web\" }}\n\
         \"registry.test/team-a/tools\" = {{ digests = [{tools:?}], confine = \"tools\" }}\n\
         \"registry.test/team-a/model\" = {{ digests = [{model:?}] }}\n\
         [confine.web]\nexec = [\"/bin/cat /work/ready\", \"/bin/probe true\"]\n\
         [confine.tools]\nexec = [\"*\"]\n\
         [confine.node]\nlevel = \"compatible\"\nnamespaces = [{OF_NODE:?}]\n"
    ))
}

/// A namespace of Kubernetes whose pods must meet Pod Security "restricted", or may ask for anything.
#[derive(Debug)]
pub(crate) struct Tenant<'a> {
    node: &'a Node,
    name: String,
}

/// What the API server lets through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Admission {
    /// Only what meets Pod Security "restricted": such pods run unchanged.
    Restricted,
    /// Anything: what is refused is refused by the node.
    Anything,
}

/// Makes a namespace that pods can be created in.
pub(crate) fn make_namespace(kubectl: &Kubectl, name: &str, admission: Admission) -> Result<()> {
    let level = match admission {
        Admission::Restricted => "restricted",
        Admission::Anything => "privileged",
    };
    let labels = json!({ "pod-security.kubernetes.io/enforce": level });
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": name, "labels": labels } });
    kubectl.send("create", &namespace, &[])?;
    // Pods are refused until it is there.
    kubectl.get(&["-n", name, "wait", "--for=create", "serviceaccount/default", WAIT]).map(drop)
}

impl<'a> Tenant<'a> {
    /// Makes it; dropped, it is deleted with all that is in it.
    pub(crate) fn make(node: &'a Node, name: &str, admission: Admission) -> Result<Self> {
        let tenant = Self { node, name: name.to_owned() };
        make_namespace(&node.kubectl, name, admission)?;
        Ok(tenant)
    }

    /// What kubectl prints, asked in this namespace.
    pub(crate) fn get(&self, words: &[&str]) -> Result<String> {
        self.node.kubectl.get(&[&["-n", &self.name][..], words].concat())
    }

    /// As [`Self::get`], whatever comes of it.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<bulkhead_integration::Output> {
        self.node.kubectl.ask(&[&["-n", &self.name][..], words].concat())
    }

    /// Creates an object here.
    pub(crate) fn create(&self, object: &Value) -> Result<()> {
        self.node.kubectl.send("create", object, &["-n", &self.name])
    }

    /// As [`Self::get`], where kubectl reads that input.
    pub(crate) fn get_with(&self, input: &str, words: &[&str]) -> Result<String> {
        self.node.kubectl.get_with(input, &[&["-n", &self.name][..], words].concat())
    }

    /// Changes an object here to this.
    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        self.node.kubectl.send("apply", object, &["-n", &self.name])
    }

    /// Creates a pod and waits until it has ended well; what it wrote.
    pub(crate) fn output_of(&self, pod: &Value) -> Result<String> {
        self.create(pod)?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        self.get(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &format!("pod/{name}"), WAIT])?;
        self.get(&["logs", name])
    }

    /// Waits until the log is this: the kubelet's log comes after what it tells of.
    pub(crate) fn logs(&self, words: &[&str], expected: &str) -> Result<()> {
        let mut log = String::new();
        until(&format!("the log of {words:?}"), READY, || {
            log = self.get(&[&["logs"][..], words].concat())?;
            if log != expected {
                thread::sleep(Duration::from_millis(500));
            }
            Ok(log == expected)
        })
        .inspect_err(|_| eprintln!("instead: {log}"))
    }

    /// Creates a pod and waits until it is ready.
    pub(crate) fn run(&self, pod: &Value) -> Result<()> {
        self.create(pod)?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        self.get(&["wait", "--for=condition=Ready", &format!("pod/{name}"), WAIT]).map(drop)
    }

    /// Creates a pod that the node refuses, and waits until `kubectl describe pod` says why; the description.
    pub(crate) fn refusal_of(&self, pod: &Value) -> Result<String> {
        self.create(pod)?;
        self.described(pod["metadata"]["name"].as_str().unwrap_or_default(), "bulkhead refused: ")
    }

    /// What `kubectl describe pod` prints, once it holds that text.
    pub(crate) fn described(&self, name: &str, text: &str) -> Result<String> {
        let mut described = String::new();
        until(&format!("a description of {name} with {text:?}"), READY, || {
            described = self.get(&["describe", "pod", name])?;
            let told = described.contains(text);
            if !told {
                thread::sleep(Duration::from_millis(500));
            }
            Ok(told)
        })
        .inspect_err(|_| eprintln!("{described}"))?;
        Ok(described)
    }
}

impl Drop for Tenant<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            match self.ask(&["describe", "pods"]) {
                Ok(output) => eprintln!("--- pods of {} ---\n{}{}", self.name, output.stdout, output.stderr),
                Err(error) => eprintln!("--- pods of {}: {error}", self.name),
            }
        }
        let deleted = self.node.kubectl.get(&["delete", "namespace", &self.name, "--wait=false"]);
        if let Err(error) = deleted {
            eprintln!("harness: {error}");
        }
    }
}

/// A directory that the harness sees and the node's containerd as well.
pub(crate) fn pods_of_kubelet(daemon: &Containerd) -> std::path::PathBuf {
    let inside = format!("/proc/{}/root/var/lib/kubelet/pods", daemon.pid());
    Path::new(&inside).to_owned()
}
