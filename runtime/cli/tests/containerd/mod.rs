//! A containerd of this test's own: root, state, socket and configuration in a temporary directory.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bulkhead_model::Digest;
use serde_json::json;

/// What its configuration calls a pod's own image.
pub(crate) const PAUSE: &str = "registry.example/pause:3";

/// Stopped and removed when dropped.
pub(crate) struct Containerd {
    process: Child,
    dir: tempfile::TempDir,
}

impl Containerd {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             [grpc]\naddress = {:?}\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {PAUSE:?}\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {:?}\nconf_dir = {:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            at("root"),
            at("state"),
            at("containerd.sock"),
            at("cni"),
            at("cni"),
            at("opt"),
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let process = Command::new("containerd")
            .arg("--config")
            .arg(dir.path().join("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd is installed (integration/scripts/deps.sh)");
        let daemon = Self { process, dir };
        let deadline = Instant::now() + Duration::from_secs(60);
        while UnixStream::connect(daemon.dir().join("containerd.sock")).is_err() {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(daemon.dir().join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("config.toml")
    }

    /// Imports an image of one layer that holds one file, and gives its manifest's digest.
    pub(crate) fn import(&self, namespace: &str, name: &str, content: &str) -> Digest {
        let dir = self.dir().join(content);
        let blobs = dir.join("layout/blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(dir.join("file"), content).unwrap();
        let blob = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(blobs.join(digest.hex()), bytes).unwrap();
            (digest, bytes.len())
        };
        let tar = |arguments: &[&str]| {
            let output = Command::new("tar").arg("-C").arg(&dir).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let (layer, layer_bytes) = blob(&tar(&["-c", "file"]));
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "User": "65532" },
            "rootfs": { "type": "layers", "diff_ids": [layer] },
        });
        let (config, config_bytes) = blob(config.to_string().as_bytes());
        let kind = "application/vnd.oci.image";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
            "config": { "mediaType": format!("{kind}.config.v1+json"), "digest": config, "size": config_bytes },
            "layers": [{ "mediaType": format!("{kind}.layer.v1.tar"), "digest": layer, "size": layer_bytes }],
        });
        let (manifest, manifest_bytes) = blob(manifest.to_string().as_bytes());
        let index = json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": format!("{kind}.manifest.v1+json"), "digest": manifest, "size": manifest_bytes,
                "platform": { "architecture": "amd64", "os": "linux" },
                "annotations": { "io.containerd.image.name": name },
            }],
        });
        let layout = dir.join("layout");
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let archive = dir.join("image.tar");
        fs::write(&archive, tar(&["-c", "-C", "layout", "blobs", "index.json", "oci-layout"])).unwrap();
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.dir().join("containerd.sock"))
            .args(["--namespace", namespace, "images", "import"])
            .arg(&archive)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        manifest
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Nothing is left to do about an error here: the process is our own child and gone either way.
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}
