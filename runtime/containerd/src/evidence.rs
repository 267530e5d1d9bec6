//! Who signed an image: the signatures that this node has stored, judged once for each set of signatures, keys and roots.
//!
//! ```text
//! trust/sha256/SUBJECT/ ─ names are hashes ─┐
//! keys and roots of the policy ─────────────┼─ question ─hash─► facts, stored and checked ─► SignatureFacts
//! version of the judge ─────────────────────┘                └─ none: lock, `bulkhead judge`, store
//! ```
//! Invariant: nothing of the network, and nothing of containerd. Invariant: facts are believed only for exactly the
//! signatures, keys, roots and judge that they were made with; a policy that says something else of the same keys needs
//! no new judge.
//! Never here: what a signature means.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bulkhead_model::{
    Digest, ImageFacts, JUDGE_LINE_BYTES_MAX, JUDGE_VERSION, Layout, SIGNATURE_FILES_MAX, SignatureFacts,
    SignatureFormat, SignatureQuestion, StoredSignature, TrustMaterial,
};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::{Failure, Judge, VerifyError, content::Blob, store};

/// How long facts count that reject a signature. A log or timestamp authority whose clock is ahead of this node's makes
/// signatures that are "in the future": they must not be rejected for ever.
const REJECTED_FOR: Duration = Duration::from_secs(600);

/// Most sets of keys and signatures whose facts are kept for one image.
const KEPT_MAX: usize = 16;

/// Most names that are read of one directory.
const NAMES_MAX: usize = 4 * SIGNATURE_FILES_MAX;

/// Who signed the image of these facts, as far as this node's store can tell.
///
/// # Errors
/// What failed; never facts that a judge did not find.
pub async fn signature_facts(
    layout: &Layout,
    judge: &Judge,
    image: &ImageFacts,
    material: &TrustMaterial,
) -> Result<SignatureFacts, VerifyError> {
    let question = question(layout, image, material)?;
    if question.files.is_empty() {
        return Ok(SignatureFacts::default());
    }
    let place = Place::new(layout, image, &question)?;
    if let Some(facts) = place.load()? {
        return Ok(facts);
    }
    let _lock = store::lock(layout, &place.lock, judge.wait_max).await?;
    // Another launch may have been waiting for a judge that is done by now.
    if let Some(facts) = place.load()? {
        return Ok(facts);
    }
    let roots = material.roots.values().map(|root| (root.digest, Source::Bytes(root.bytes.clone())));
    let files = question
        .files
        .iter()
        .map(|file| (file.blob, Source::File(layout.signature_file(&file.subject, &file.blob, file.format))));
    let stored = Stored(files.chain(roots).collect());
    let facts = judge.ask_signatures(&image.target, &question, &stored).await?;
    place.save(&facts)?;
    Ok(facts)
}

/// The hashes of all files that a judge has found to be signatures by a key or a certificate of the policy, whatever image
/// they are of. For who has to choose which files stay.
///
/// # Errors
/// Facts that are not root's alone, or that cannot be read.
pub fn proven_signatures(layout: &Layout) -> Result<BTreeSet<Digest>, Failure> {
    let all = layout.verdicts_dir().join("signatures");
    let mut proven = BTreeSet::new();
    for dir in names_in(&all)? {
        for path in names_in(&dir)? {
            let failed = |call, error| Failure::File { call, path: path.clone(), error };
            let Ok(file) = open(&path) else { continue };
            store::check(&path, &file.metadata().map_err(|error| failed("fstat(2)", error))?)?;
            let mut text = Vec::new();
            file.take(JUDGE_LINE_BYTES_MAX as u64 + 4096)
                .read_to_end(&mut text)
                .map_err(|error| failed("read(2)", error))?;
            let stored: Option<StoredFacts> = serde_json::from_slice(&text).ok();
            let found = stored.into_iter().filter(|stored| stored.version == JUDGE_VERSION);
            proven.extend(found.flat_map(|stored| stored.facts.signatures).map(|signature| signature.blob));
        }
    }
    Ok(proven)
}

/// Paths of what is in a directory; nothing where there is none.
fn names_in(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |call| move |error| Failure::File { call, path: dir.to_owned(), error };
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(failed("opendir(3)"))?,
    };
    entries.map(|entry| Ok(entry.map_err(failed("readdir(3)"))?.path())).collect()
}

/// What a judge would be asked about the image now.
fn question(
    layout: &Layout,
    image: &ImageFacts,
    material: &TrustMaterial,
) -> Result<SignatureQuestion, Failure> {
    let mut files = stored_about(layout, &image.target)?;
    if image.manifest != image.target {
        files.extend(stored_about(layout, &image.manifest)?);
    }
    files.sort();
    let mut keys: Vec<String> = material.keys.values().map(bulkhead_model::PublicKey::to_base64).collect();
    let mut roots: Vec<Digest> = material.roots.values().map(|root| root.digest).collect();
    keys.sort();
    keys.dedup();
    roots.sort();
    roots.dedup();
    Ok(SignatureQuestion { files, keys, roots })
}

/// The signature files about `subject`. What has another name than theirs is none of them.
fn stored_about(layout: &Layout, subject: &Digest) -> Result<Vec<StoredSignature>, Failure> {
    let dir = layout.subject_dir(subject);
    let failed = |call, error| Failure::File { call, path: dir.clone(), error };
    let names = match fs::read_dir(&dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("opendir(3)", error)),
    };
    store::check(&dir, &fs::symlink_metadata(&dir).map_err(|error| failed("lstat(2)", error))?)?;
    let mut files = Vec::new();
    for (count, name) in names.enumerate() {
        let name = name.map_err(|error| failed("readdir(3)", error))?.file_name();
        let file = name.to_str().and_then(|name| signature(subject, name));
        files.extend(file);
        if files.len() > SIGNATURE_FILES_MAX || count > NAMES_MAX {
            return Err(Failure::SignatureFiles(dir));
        }
    }
    Ok(files)
}

fn signature(subject: &Digest, name: &str) -> Option<StoredSignature> {
    SignatureFormat::ALL.into_iter().find_map(|format| {
        let blob = format!("sha256:{}", name.strip_suffix(format.suffix())?).parse().ok()?;
        Some(StoredSignature { subject: *subject, blob, format })
    })
}

/// What a judge may ask for: files of the store, and the roots.
pub(crate) struct Stored(BTreeMap<Digest, Source>);

enum Source {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Stored {
    pub(crate) fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Blob, Failure> {
        let path = match self.0.get(digest) {
            None => return Ok(Blob::Spoilt(*digest)),
            Some(Source::Bytes(bytes)) if bytes.len() as u64 > bytes_max => return Ok(Blob::TooLarge),
            Some(Source::Bytes(bytes)) => return Ok(Blob::Bytes(bytes.clone())),
            Some(Source::File(path)) => path,
        };
        let failed = |call, error| Failure::File { call, path: path.clone(), error };
        let file = open(path).map_err(|error| failed("open(2)", error))?;
        store::check(path, &file.metadata().map_err(|error| failed("fstat(2)", error))?)?;
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| failed("read(2)", error))?;
        Ok(if bytes.len() as u64 > bytes_max { Blob::TooLarge } else { Blob::Bytes(bytes) })
    }
}

/// Without following a symlink, and without waiting for the other end of a FIFO.
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Where the facts for one question are kept.
struct Place {
    dir: PathBuf,
    path: PathBuf,
    target: Digest,
    key: Digest,
    /// Held by whoever judges any signatures of this target: the directory is his alone.
    lock: Digest,
    question: SignatureQuestion,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFacts {
    version: u32,
    key: Digest,
    facts: SignatureFacts,
}

impl Place {
    fn new(layout: &Layout, image: &ImageFacts, question: &SignatureQuestion) -> Result<Self, Failure> {
        let dir = layout.signature_facts_dir(&image.target);
        let failed = |error: serde_json::Error| Failure::File {
            call: "encode the key of",
            path: dir.clone(),
            error: error.into(),
        };
        let text =
            serde_json::to_vec(&(JUDGE_VERSION, image.target, image.manifest, question)).map_err(failed)?;
        let key = Digest::of(&text);
        Ok(Self {
            path: dir.join(format!("{}.json", key.hex())),
            dir,
            target: image.target,
            key,
            lock: store::signatures_key(&image.target),
            question: question.clone(),
        })
    }

    /// The facts that are stored, if they are to be believed.
    fn load(&self) -> Result<Option<SignatureFacts>, Failure> {
        let failed = |call, error| Failure::File { call, path: self.path.clone(), error };
        let file = match open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open(2)", error)),
        };
        let metadata = file.metadata().map_err(|error| failed("fstat(2)", error))?;
        store::check(&self.path, &metadata)?;
        let dir = fs::symlink_metadata(&self.dir);
        store::check(&self.dir, &dir.map_err(|error| failed("lstat(2) of the directory of", error))?)?;
        let mut text = Vec::new();
        file.take(JUDGE_LINE_BYTES_MAX as u64 + 4096)
            .read_to_end(&mut text)
            .map_err(|error| failed("read(2)", error))?;
        let Ok(StoredFacts { version, key, facts }) = serde_json::from_slice(&text) else { return Ok(None) };
        if version != JUDGE_VERSION || key != self.key || facts.check(&self.question).is_err() {
            return Ok(None);
        }
        let written = metadata.modified().map_err(|error| failed("fstat(2)", error))?;
        let fresh = SystemTime::now().duration_since(written).is_ok_and(|age| age < REJECTED_FOR);
        Ok((facts.rejected.is_empty() || fresh).then_some(facts))
    }

    /// Writes facts beside their place and moves them there; the oldest of too many go.
    fn save(&self, facts: &SignatureFacts) -> Result<(), Failure> {
        store::make_parent(&self.path)?;
        self.make_room();
        let stored = StoredFacts { version: JUDGE_VERSION, key: self.key, facts: facts.clone() };
        let text = serde_json::to_vec(&stored).map_err(|error| Failure::File {
            call: "encode",
            path: self.path.clone(),
            error: error.into(),
        })?;
        store::write_whole(&self.path, &text)
    }

    /// The directory is a cache: what cannot be removed is said, and in nobody's way.
    fn make_room(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut files: Vec<_> =
            entries.filter_map(|entry| Some((entry.metadata().ok()?.mtime(), entry.path()))).collect();
        files.sort();
        let too_many = (files.len() + 1).saturating_sub(KEPT_MAX);
        for (_, path) in files.iter().take(too_many) {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), target = %self.target, %error, "unlink(2) of old facts");
            }
        }
    }
}

#[cfg(test)]
mod tests;
