//! etcd, API server, scheduler and controller manager: on the node's own address, in its own network.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{Containerd, HarnessError, Result, run, until};
use serde_json::json;

use crate::{network::ADDRESS, program::Program};

/// How long it may take until the API server answers, on a loaded machine.
const READY: Duration = Duration::from_secs(180);

/// Controllers that a node's pods have to do with; the others cost processor time alone.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,job-controller,namespace-controller,\
    serviceaccount-controller,root-ca-certificate-publisher-controller,garbage-collector-controller,\
    pod-garbage-collector-controller,node-lifecycle-controller,taint-eviction-controller";

/// Image volumes are not on by default in every version that has them.
pub(crate) const FEATURES: &str = "ImageVolume=true";

/// What serves the API.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    programs: Vec<Program>,
    kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Starts it; what asks it is told where by [`Self::kubeconfig`].
    pub(crate) fn start(daemon: &Containerd) -> Result<Self> {
        let dir = daemon.dir().join("control-plane");
        fs::create_dir(&dir).map_err(HarnessError::at("create", &dir))?;
        let key = dir.join("accounts.key");
        let mut openssl = Command::new("openssl");
        openssl.args(["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out"]).arg(&key);
        run(&mut openssl, Duration::from_secs(20))?.success()?;
        let kubeconfig = dir.join("kubeconfig");
        let mut plane = Self { programs: Vec::new(), kubeconfig };
        plane.add(daemon, "etcd", &etcd(&dir))?;
        write(&dir.join("tokens"), &format!("{TOKEN},node,node,system:masters\n"))?;
        plane.add(daemon, "kube-apiserver", &api_server(&dir, &key))?;
        // It makes its own certificate, which is its own authority.
        let certificate = dir.join("apiserver.crt");
        until("the API server's certificate", READY, || plane.run().map(|()| certificate.exists()))?;
        write(&plane.kubeconfig, &kubeconfig_by(&certificate))?;
        Ok(plane)
    }

    /// Starts what watches the API, once that answers.
    pub(crate) fn start_controllers(&mut self, daemon: &Containerd) -> Result<()> {
        let dir = daemon.dir().join("control-plane");
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        let common = [&kubeconfig, "--leader-elect=false", "--secure-port=0"].map(str::to_owned);
        self.add(daemon, "kube-scheduler", &common)?;
        let own = [
            format!("--service-account-private-key-file={}", dir.join("accounts.key").display()),
            format!("--root-ca-file={}", dir.join("apiserver.crt").display()),
            format!("--controllers={CONTROLLERS}"),
        ];
        self.add(daemon, "kube-controller-manager", &[&common[..], &own].concat())
    }

    /// Whether all of it still runs.
    pub(crate) fn run(&mut self) -> Result<()> {
        self.programs.iter_mut().try_for_each(Program::runs)
    }

    /// Whom to ask, and as whom.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    fn add(&mut self, daemon: &Containerd, name: &str, words: &[String]) -> Result<()> {
        self.programs.push(Program::start(daemon, name, words)?);
        Ok(())
    }
}

/// Known to nobody outside of the node's network namespace.
const TOKEN: &str = "the-node-is-its-own-administrator";

fn etcd(dir: &Path) -> Vec<String> {
    let peer = "http://127.0.0.1:2380";
    let client = "http://127.0.0.1:2379";
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server(dir: &Path, key: &Path) -> Vec<String> {
    let key = key.display();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--bind-address={ADDRESS}"),
        format!("--advertise-address={ADDRESS}"),
        format!("--cert-dir={}", dir.display()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={key}"),
        format!("--service-account-signing-key-file={key}"),
        "--service-cluster-ip-range=10.251.0.0/24".to_owned(),
        format!("--token-auth-file={}", dir.join("tokens").display()),
        "--authorization-mode=RBAC".to_owned(),
        // What reaches the node is what is tested, not what the API server keeps from it.
        "--allow-privileged=true".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--kubelet-preferred-address-types=Hostname".to_owned(),
        format!("--feature-gates={FEATURES}"),
    ]
}

fn kubeconfig_by(certificate: &Path) -> String {
    let cluster =
        json!({ "server": format!("https://{ADDRESS}:6443"), "certificate-authority": certificate });
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "node", "cluster": cluster }],
        "users": [{ "name": "node", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "node", "context": { "cluster": "node", "user": "node" } }],
        "current-context": "node",
    })
    .to_string()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(HarnessError::at("write", path))
}
