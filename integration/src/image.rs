//! Container images made on the spot: OCI layout tars that every containerd imports.

use std::{
    collections::BTreeMap, fs, io::Write, path::Path, process::Command, sync::OnceLock, time::Duration,
};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{HarnessError, Result, probe, run::run, tools::workspace};

/// One layer: a tar, compressed or not.
#[derive(Clone, Debug)]
pub struct Layer {
    blob: Vec<u8>,
    digest: String,
    diff_id: String,
    media_type: &'static str,
}

/// What goes into a layer, in order.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// A directory with its mode.
    Dir(&'a str, u32),
    /// A directory with its mode, whose user and group have this id.
    Owned(&'a str, u32, u64),
    /// A file with its mode and content.
    File(&'a str, u32, &'a [u8]),
    /// A hard link to a file before it.
    Link(&'a str, &'a str),
    /// A symbolic link and what it says.
    Symlink(&'a str, &'a str),
}

impl Layer {
    /// Packs `entries`, owned by root unless they say otherwise.
    pub fn of(entries: &[Entry<'_>]) -> Result<Self> {
        let failed = HarnessError::at("write tar", "layer");
        let tar = pack(entries).map_err(failed)?;
        Ok(Self::of_tar(tar))
    }

    /// A tar as it is.
    #[must_use]
    pub fn of_tar(tar: Vec<u8>) -> Self {
        let digest = digest_of(&tar);
        Self {
            blob: tar,
            diff_id: digest.clone(),
            digest,
            media_type: "application/vnd.oci.image.layer.v1.tar",
        }
    }

    /// The same, of which the config says something else.
    #[must_use]
    pub fn with_diff_id(self, diff_id: &str) -> Self {
        Self { diff_id: diff_id.to_owned(), ..self }
    }

    /// The same layer, its tar in gzip.
    pub fn in_gzip(self) -> Result<Self> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        let blob = gzip.write_all(&self.blob).and_then(|()| gzip.finish());
        let blob = blob.map_err(HarnessError::at("compress", "layer"))?;
        Ok(self.compressed(blob, "application/vnd.oci.image.layer.v1.tar+gzip"))
    }

    /// The same layer, its tar in Zstandard.
    #[must_use]
    pub fn in_zstd(self) -> Self {
        let blob = ruzstd::encoding::compress_to_vec(
            self.blob.as_slice(),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        self.compressed(blob, "application/vnd.oci.image.layer.v1.tar+zstd")
    }

    /// The same layer in these bytes, whatever they are.
    #[must_use]
    pub fn compressed(self, blob: Vec<u8>, media_type: &'static str) -> Self {
        Self { digest: digest_of(&blob), blob, media_type, diff_id: self.diff_id }
    }

    /// The tar or what it is compressed to.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

/// An image and how it is run.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name, with tag.
    pub name: String,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// USER.
    pub user: String,
    /// CMD.
    pub command: Vec<String>,
    /// ENV beside PATH.
    pub env: Vec<String>,
    /// VOLUMEs.
    pub volumes: Vec<String>,
    /// What its name points to.
    pub platforms: Platforms,
    /// More of its config, in the specification's spelling, and in place of what the fields above say.
    pub more: Map<String, Value>,
}

/// What an image's name points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platforms {
    /// A manifest.
    One,
    /// An index of two: this machine's platform is the second.
    Two,
}

/// Digests of an image that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// What the name points to: the index of several platforms, else the manifest.
    pub target: String,
    /// The manifest of this machine's platform.
    pub manifest: String,
    /// The manifest of another platform; empty where there is no index.
    pub foreign: String,
    /// The image's config.
    pub config: String,
    /// Of each layer, lowest first.
    pub diff_ids: Vec<String>,
    /// Of each layer's blob.
    pub layers: Vec<String>,
}

impl Digests {
    /// The snapshot name of the top layer.
    #[must_use]
    pub fn chain_id(&self) -> String {
        let layers = self.diff_ids.iter().cloned();
        layers.reduce(|below, layer| digest_of(format!("{below} {layer}").as_bytes())).unwrap_or_default()
    }
}

/// The uid of images made here that are not root's.
pub const UID: u32 = 65532;

impl Image {
    /// busybox with its applets and the probe, run as `user`: two layers.
    pub fn busybox(name: &str, user: &str) -> Result<Self> {
        let layers = vec![busybox_layer()?, probe_layer()?];
        Ok(Self {
            name: name.to_owned(),
            layers,
            user: user.to_owned(),
            command: vec!["/bin/sh".to_owned()],
            env: Vec::new(),
            volumes: Vec::new(),
            platforms: Platforms::One,
            more: Map::new(),
        })
    }

    /// A Debian userland (nginx, bash, perl, Python, curl: all on a shared libc), as deps.sh packs it.
    pub fn userland(name: &str) -> Result<Self> {
        let path = workspace().join("target/deps/userland/userland.tar");
        let Ok(tar) = fs::read(&path) else {
            let what = path.display().to_string();
            return Err(HarnessError::Missing { what, fix: "integration/scripts/deps.sh" });
        };
        Ok(Self {
            name: name.to_owned(),
            layers: vec![Layer::of_tar(tar)],
            // With its group: containerd gives a uid that no passwd file names root's.
            user: format!("{UID}:{UID}"),
            command: vec!["/bin/bash".to_owned()],
            env: Vec::new(),
            volumes: Vec::new(),
            platforms: Platforms::One,
            more: Map::new(),
        })
    }

    /// A pause container: the probe alone.
    pub fn pause(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            layers: vec![probe_layer()?],
            user: format!("{UID}:{UID}"),
            command: vec!["/bin/probe".to_owned(), "pause".to_owned()],
            env: Vec::new(),
            volumes: Vec::new(),
            platforms: Platforms::One,
            more: Map::new(),
        })
    }

    /// An image of these layers with that config, in the specification's spelling.
    #[must_use]
    pub fn of_config(name: &str, layers: Vec<Layer>, config: Map<String, Value>) -> Self {
        Self {
            name: name.to_owned(),
            layers,
            user: String::new(),
            command: Vec::new(),
            env: Vec::new(),
            volumes: Vec::new(),
            platforms: Platforms::One,
            more: config,
        }
    }

    /// The same image with one more layer on top: same name, other content.
    pub fn with(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Writes the OCI layout as a tar.
    ///
    /// Source: OCI image spec, image-layout.md; the name's annotation is containerd's.
    pub fn write(&self, to: &Path) -> Result<Digests> {
        let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut add = |value: &Value| {
            let bytes = value.to_string().into_bytes();
            let described = json!({ "digest": digest_of(&bytes), "size": bytes.len() });
            blobs.insert(digest_of(&bytes), bytes);
            described
        };
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = add(&self.config("amd64", &diff_ids));
        let manifest = add(&self.manifest(&config));
        let mut foreign = Value::Null;
        let mut top = described(&manifest, MANIFEST, Some("amd64"));
        let mut target = manifest["digest"].clone();
        if self.platforms == Platforms::Two {
            let foreign_config = add(&self.config("arm64", &diff_ids));
            foreign = add(&self.manifest(&foreign_config));
            let both =
                [described(&foreign, MANIFEST, Some("arm64")), described(&manifest, MANIFEST, Some("amd64"))];
            let index = add(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": both }));
            target = index["digest"].clone();
            top = described(&index, INDEX, None);
        }
        top["annotations"] = json!({ "io.containerd.image.name": self.name });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top] });
        let failed = || HarnessError::at("write", to);
        let file = fs::File::create(to).map_err(failed())?;
        let mut tar = tar::Builder::new(std::io::BufWriter::new(file));
        let mut put = |name: &str, bytes: &[u8]| file_into(&mut tar, name, 0o644, bytes).map_err(failed());
        put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        put("index.json", index.to_string().as_bytes())?;
        let layers = self.layers.iter().map(|layer| (&layer.digest, &layer.blob));
        for (digest, bytes) in blobs.iter().chain(layers) {
            put(&format!("blobs/sha256/{}", digest.trim_start_matches("sha256:")), bytes)?;
        }
        tar.into_inner().and_then(|mut file| file.flush()).map_err(failed())?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Digests {
            target: text(&target),
            manifest: text(&manifest["digest"]),
            foreign: text(&foreign["digest"]),
            config: text(&config["digest"]),
            diff_ids,
            layers: self.layers.iter().map(|layer| layer.digest.clone()).collect(),
        })
    }

    fn manifest(&self, config: &Value) -> Value {
        let layers = self.layers.iter().map(|layer| {
            json!({
                "mediaType": layer.media_type,
                "digest": layer.digest,
                "size": layer.blob.len(),
            })
        });
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(config, "application/vnd.oci.image.config.v1+json", None),
            "layers": layers.collect::<Vec<_>>(),
        })
    }

    fn config(&self, architecture: &str, diff_ids: &[String]) -> Value {
        let mut env = vec!["PATH=/bin:/sbin:/usr/bin".to_owned()];
        env.extend(self.env.iter().cloned());
        let volumes: BTreeMap<&str, Value> =
            self.volumes.iter().map(|path| (path.as_str(), json!({}))).collect();
        let history: Vec<Value> =
            diff_ids.iter().map(|_| json!({ "created_by": "bulkhead-integration" })).collect();
        let mut config = json!({ "User": self.user, "Cmd": self.command, "Env": env, "Volumes": volumes, "WorkingDir": "/" });
        for (key, value) in &self.more {
            config[key] = value.clone();
        }
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        })
    }
}

/// A descriptor, from a blob's digest and size.
fn described(blob: &Value, media_type: &str, architecture: Option<&str>) -> Value {
    let mut descriptor = blob.clone();
    descriptor["mediaType"] = media_type.into();
    if let Some(architecture) = architecture {
        descriptor["platform"] = json!({ "architecture": architecture, "os": "linux" });
    }
    descriptor
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn busybox_layer() -> Result<Layer> {
    static MADE: OnceLock<Layer> = OnceLock::new();
    if let Some(layer) = MADE.get() {
        return Ok(layer.clone());
    }
    let found = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let path = found.ok_or_else(|| HarnessError::Missing {
        what: "a static busybox".to_owned(),
        fix: "integration/scripts/deps.sh",
    })?;
    let program = fs::read(path).map_err(HarnessError::at("read", path))?;
    let applets = run(Command::new(path).arg("--list"), Duration::from_secs(60))?.success()?.stdout;
    let dirs = [
        "bin", "sbin", "usr", "usr/bin", "etc", "proc", "sys", "dev", "root", "srv", "data", "mnt", "var",
        "run",
    ];
    let mut entries: Vec<Entry<'_>> = dirs.iter().map(|dir| Entry::Dir(dir, 0o755)).collect();
    entries.extend([Entry::Dir("tmp", 0o1777), Entry::Dir("var/tmp", 0o1777), Entry::Dir("open", 0o777)]);
    entries.push(Entry::File(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532::/tmp:/bin/sh\n",
    ));
    entries.push(Entry::File("etc/group", 0o644, b"root:x:0:\nnonroot:x:65532:\n"));
    entries.push(Entry::File("bin/busybox", 0o755, &program));
    let names: Vec<String> =
        applets.lines().filter(|name| *name != "busybox").map(|name| format!("bin/{name}")).collect();
    // Hard links: masked paths refuse symbolic ones.
    entries.extend(names.iter().map(|name| Entry::Link(name, "bin/busybox")));
    let layer = Layer::of(&entries)?;
    Ok(MADE.get_or_init(|| layer).clone())
}

fn probe_layer() -> Result<Layer> {
    static MADE: OnceLock<Layer> = OnceLock::new();
    if let Some(layer) = MADE.get() {
        return Ok(layer.clone());
    }
    let program = probe::program()?;
    let layer = Layer::of(&[Entry::Dir("bin", 0o755), Entry::File("bin/probe", 0o755, &program)])?;
    Ok(MADE.get_or_init(|| layer).clone())
}

fn pack(entries: &[Entry<'_>]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        let (name, mode, kind, target) = match *entry {
            Entry::Owned(name, mode, id) => {
                header.set_uid(id);
                header.set_gid(id);
                (name, mode, tar::EntryType::Directory, None)
            }
            Entry::File(name, mode, bytes) => {
                file_into(&mut tar, name, mode, bytes)?;
                continue;
            }
            Entry::Dir(name, mode) => (name, mode, tar::EntryType::Directory, None),
            Entry::Link(name, to) => (name, 0o755, tar::EntryType::Link, Some(to)),
            Entry::Symlink(name, to) => (name, 0o777, tar::EntryType::Symlink, Some(to)),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(0);
        match target {
            Some(target) => tar.append_link(&mut header, name, target)?,
            None => tar.append_data(&mut header, name, std::io::empty())?,
        }
    }
    tar.into_inner()
}

fn file_into<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes)
}

/// `sha256:<hex>` of `bytes`.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_same_image_has_the_same_digest_and_one_more_file_another() {
        let dir = std::env::temp_dir();
        let path = dir.join(format!("bulkhead-image-{}.tar", std::process::id()));
        let image = Image::busybox("registry.test/a:1", "65532").unwrap();
        let first = image.write(&path).unwrap();
        assert_eq!(image.write(&path).unwrap(), first);
        let other = image.with(Layer::of(&[Entry::File("evil", 0o644, b"")]).unwrap());
        let second = other.write(&path).unwrap();
        assert_ne!(second.manifest, first.manifest);
        assert_eq!(second.diff_ids[..2], first.diff_ids[..]);
        assert_ne!(second.chain_id(), first.chain_id());
        fs::remove_file(path).unwrap();
    }
}
