//! A private containerd in a temporary directory, an image that is made on the spot, and what containerd would send.
//!
//! Tiny on purpose: the harness with pods, registries and several versions is `bulkhead-integration`.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use bulkhead_containerd::{Containerd, Judge};
use bulkhead_model::{ContainerKind, CreateRequest, Digest, Layout, Mount, Namespace, Tenant};
use containerd_client::services::v1::{
    Container, CreateContainerRequest, GetContainerRequest,
    containers_client::ContainersClient,
    snapshots::{MountsRequest, snapshots_client::SnapshotsClient},
};
use serde_json::{Value, json};
use tonic::{Request, transport::Channel};

pub const NAME: &str = "registry.example/team/app:1";

/// containerd 1.6 of this machine with its own root, state and socket; stopped by its own pid.
pub struct Node {
    containerd: Option<Child>,
    pub dir: tempfile::TempDir,
    pub namespace: Namespace,
}

impl Node {
    pub fn start() -> Self {
        Self::start_in("default")
    }

    pub fn start_in(namespace: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("bulkhead-containerd-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("grpc.sock"),
            at("ttrpc.sock")
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = fs::File::create(dir.path().join("containerd.log")).unwrap();
        let child = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let node = Self { containerd: Some(child), dir, namespace: namespace.parse().unwrap() };
        let started = Instant::now();
        while !node.try_ctr(&["version"]).status.success() {
            let log = node.dir.path().join("containerd.log");
            assert!(started.elapsed() < Duration::from_secs(60), "{}", fs::read_to_string(log).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        node
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.containerd.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("grpc.sock")
    }

    pub fn layout(&self) -> Layout {
        Layout::below(self.dir.path().join("bulkhead"))
    }

    fn try_ctr(&self, arguments: &[&str]) -> Output {
        let socket = self.socket();
        let head = ["--address", socket.to_str().unwrap(), "--namespace", self.namespace.as_str()];
        Command::new("ctr").args(head).args(arguments).output().unwrap()
    }

    pub fn ctr(&self, arguments: &[&str]) -> String {
        let output = self.try_ctr(arguments);
        assert!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub async fn client(&self) -> Containerd {
        Containerd::connect(&self.socket(), &self.namespace, Duration::from_secs(30)).await.unwrap()
    }

    pub async fn channel(&self) -> Channel {
        let socket = self.socket();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        });
        tonic::transport::Endpoint::from_static("http://test")
            .connect_with_connector(connector)
            .await
            .unwrap()
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.as_str().parse().unwrap());
        request
    }

    /// What containerd's client would send to create the task of a container: its snapshot's mounts.
    pub async fn create_request(&self, id: &str) -> CreateRequest {
        let channel = self.channel().await;
        let get = self.request(GetContainerRequest { id: id.to_owned() });
        let container = ContainersClient::new(channel.clone()).get(get).await.unwrap();
        let container = container.into_inner().container.unwrap();
        let mut rootfs = Vec::new();
        if !container.snapshot_key.is_empty() {
            let request = MountsRequest { snapshotter: container.snapshotter, key: container.snapshot_key };
            let mounts = SnapshotsClient::new(channel).mounts(self.request(request)).await.unwrap();
            rootfs = mounts.into_inner().mounts.into_iter().map(mount).collect();
        }
        CreateRequest {
            id: id.parse().unwrap(),
            tenant: Tenant {
                containerd_namespace: self.namespace.clone(),
                namespace: self.namespace.clone(),
            },
            kind: ContainerKind::Plain,
            bundle: "/nonexistent".into(),
            spec: serde_json::from_slice(&container.spec.unwrap().value).unwrap(),
            rootfs,
        }
    }

    /// Makes container `id` from the record of another one, changed as a client of the API could.
    pub async fn copy_container(&self, from: &str, id: &str, change: impl FnOnce(&mut Container)) {
        let mut client = ContainersClient::new(self.channel().await);
        let get = self.request(GetContainerRequest { id: from.to_owned() });
        let mut container = client.get(get).await.unwrap().into_inner().container.unwrap();
        container.id = id.to_owned();
        change(&mut container);
        let create = CreateContainerRequest { container: Some(container) };
        client.create(self.request(create)).await.unwrap();
    }

    /// Imports an image under a name.
    pub fn import(&self, image: &Image, name: &str) {
        let tar = image.archive(self.dir.path(), name);
        self.ctr(&["image", "import", "--no-unpack", tar.to_str().unwrap()]);
    }

    /// A file in the content store.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join("root/io.containerd.content.v1.content/blobs/sha256").join(digest.hex())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

fn mount(mount: containerd_client::types::Mount) -> Mount {
    Mount { kind: mount.r#type, source: mount.source, target: mount.target.into(), options: mount.options }
}

/// This crate's example: the judge as `bulkhead judge` runs it. `cargo test -p bulkhead-containerd` builds it anew,
/// `--test NAME` does not.
pub fn judge() -> Judge {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().parent().unwrap().join("examples/judge");
    assert!(program.exists(), "{}: cargo test builds it", program.display());
    Judge::at(program)
}

/// An image of linux/amd64, built in memory.
pub struct Image {
    pub manifest: Digest,
    pub config: Digest,
    pub diff_ids: Vec<Digest>,
    blobs: Vec<Vec<u8>>,
    media_type: &'static str,
}

impl Image {
    /// An image with one layer per text, each holding one file of its own.
    pub fn new(layers: &[&str]) -> Self {
        let layers: Vec<Vec<u8>> = layers.iter().map(|text| tar(&[(*text, text.as_bytes())])).collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config =
            json!({"os": "linux", "architecture": "amd64", "config": {"User": "65532", "Cmd": ["/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}})
            .to_string()
            .into_bytes();
        let layers_said: Vec<Value> =
            layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config), "layers": layers_said})
        .to_string()
        .into_bytes();
        let (manifest_digest, config_digest) = (Digest::of(&manifest), Digest::of(&config));
        let blobs = layers.into_iter().chain([config, manifest]).collect();
        Self { manifest: manifest_digest, config: config_digest, diff_ids, blobs, media_type: MANIFEST }
    }

    /// The same image, but by an index that lists it.
    pub fn in_index(&self) -> Self {
        let mut entry = descriptor(MANIFEST, self.blobs.last().unwrap());
        entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        let mut blobs = self.blobs.clone();
        blobs.push(index.into_bytes());
        Self { blobs, media_type: INDEX, diff_ids: self.diff_ids.clone(), ..*self }
    }

    /// An OCI layout as one tar file.
    fn archive(&self, dir: &Path, name: &str) -> PathBuf {
        let manifest = self.blobs.last().unwrap();
        let mut entry = descriptor(self.media_type, manifest);
        entry["annotations"] = json!({"io.containerd.image.name": name});
        if self.media_type == MANIFEST {
            entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
        }
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let names: Vec<String> =
            self.blobs.iter().map(|blob| format!("blobs/sha256/{}", Digest::of(blob).hex())).collect();
        let mut files: Vec<(&str, &[u8])> =
            vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", index.as_bytes())];
        files.extend(names.iter().map(String::as_str).zip(self.blobs.iter().map(Vec::as_slice)));
        let path = dir.join("image.tar");
        fs::write(&path, tar(&files)).unwrap();
        path
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// A ustar archive of plain files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000755\0");
        put(108, "0000000\0");
        put(116, "0000000\0");
        put(124, &format!("{:011o}\0", bytes.len()));
        put(136, "00000000000\0");
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}
