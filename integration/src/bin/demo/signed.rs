//! An image that policy admits by who signed it: refused while nobody has, admitted once its signature is kept, and
//! refused again when a file below it was changed.
//!
//! The signature is a sigstore bundle as `cosign sign --key` makes one where there is no log; `openssl` makes it here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bulkhead_integration::{BULKHEAD, Digests, Entry, HarnessError, Image, Layer, Output, bulkhead_dir, run};
use serde_json::json;

use crate::{Stage, wrong};

/// In a scope that wants a signature and lists no digest.
const SIGNED: &str = "registry.test/signed/app:1";

/// Source: DSSE envelope.md, in-toto Statement v1, sigstore bundle v0.3.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What `openssl` or `bulkhead` may take.
const COMMAND: Duration = Duration::from_secs(60);

pub(crate) fn show(stage: &Stage) -> Result<(), HarnessError> {
    let layer = Layer::of(&[Entry::File("etc/signed", 0o644, b"what was signed\n")])?;
    let image = stage.daemon.import(&Image::busybox(SIGNED, "")?.with(layer))?;
    println!("An image that no list has, in a scope that wants a signature:");
    refused(stage, "nobody signed it", "image-signature")?;

    let bundle = sign(stage, &image)?;
    bulkhead(stage, &["trust", "import", &bundle.to_string_lossy()])?.success()?;
    let id = stage.daemon.id("signed");
    let args = ["run", "--rm", "--runtime", BULKHEAD, SIGNED, &id, "/bin/probe", "true"];
    stage.daemon.ctr(&args)?.success()?;
    println!("- its signature is kept (bulkhead trust import)\n    it runs");

    let file = stage.layer_file("etc/signed", b"what was signed\n")?;
    fs::write(&file, "what was SIGNED\n").map_err(HarnessError::at("write", &file))?;
    refused(stage, "a file of its layer was changed on disk", "image-contents")?;
    println!();
    Ok(())
}

fn refused(stage: &Stage, title: &str, rule: &str) -> Result<(), HarnessError> {
    let refused = stage.run_image(SIGNED, &[])?;
    if refused.rule() != rule {
        return Err(wrong("a refusal by the rule it is about", format!("{title}: {}", refused.line())));
    }
    println!("- {title}\n    {}", refused.line());
    Ok(())
}

/// Makes a key pair, the public half of which policy names.
pub(crate) fn make_key(stage: &Stage) -> Result<(), HarnessError> {
    let keys = stage.daemon.bulkhead_root().join("etc/bulkhead/keys");
    fs::create_dir_all(&keys).map_err(HarnessError::at("create", &keys))?;
    let (key, public) = (stage.daemon.dir().join("demo.key"), keys.join("demo.pub"));
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"], &[&key])?;
    openssl(&["pkey", "-pubout", "-in"], &[&key, Path::new("-out"), &public])
}

/// A bundle with a signature of the image by the key of [`make_key`].
fn sign(stage: &Stage, image: &Digests) -> Result<PathBuf, HarnessError> {
    let payload = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "", "digest": { "sha256": image.target.trim_start_matches("sha256:") } }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
    })
    .to_string();
    let encoded = format!("DSSEv1 {} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len());
    let dir = stage.daemon.dir();
    let (key, text, signature) = (dir.join("demo.key"), dir.join("demo.pae"), dir.join("demo.signature"));
    fs::write(&text, encoded).map_err(HarnessError::at("write", &text))?;
    openssl(&["dgst", "-sha256", "-sign"], &[&key, Path::new("-out"), &signature, &text])?;
    let payload_file = dir.join("demo.payload");
    fs::write(&payload_file, &payload).map_err(HarnessError::at("write", &payload_file))?;
    let bundle = json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": { "publicKey": { "hint": "" }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": base64(&payload_file)?,
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{ "sig": base64(&signature)?, "keyid": "" }],
        },
    });
    let path = dir.join("demo.bundle.json");
    fs::write(&path, bundle.to_string()).map_err(HarnessError::at("write", &path))?;
    Ok(path)
}

fn base64(file: &Path) -> Result<String, HarnessError> {
    let mut command = Command::new("openssl");
    command.args(["base64", "-A", "-in"]).arg(file);
    Ok(run(&mut command, COMMAND)?.success()?.stdout.trim().to_owned())
}

fn openssl(words: &[&str], paths: &[&Path]) -> Result<(), HarnessError> {
    run(Command::new("openssl").args(words).args(paths), COMMAND)?.success().map(drop)
}

fn bulkhead(stage: &Stage, words: &[&str]) -> Result<Output, HarnessError> {
    let mut command = Command::new(bulkhead_dir()?.join("bulkhead"));
    command.arg("--root").arg(stage.daemon.bulkhead_root()).args(words);
    run(&mut command, COMMAND)
}

impl Stage {
    /// Where containerd has unpacked the file of a layer that has these bytes.
    fn layer_file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, HarnessError> {
        let snapshots = self.daemon.dir().join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
        let entries = fs::read_dir(&snapshots).map_err(HarnessError::at("list", &snapshots))?;
        entries
            .flatten()
            .map(|entry| entry.path().join("fs").join(name))
            .find(|file| fs::read(file).is_ok_and(|found| found == bytes))
            .ok_or_else(|| wrong("a layer with the file", name))
    }
}
