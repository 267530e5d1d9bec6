//! Bytes by digest, from a directory or a tarball in the form of an OCI image layout.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bulkhead_model::{Digest, DigestOf};
use rustix::fs::OFlags;

use crate::GatherError;

/// Most entries of a tarball, or blobs of a directory, that are looked at.
const ENTRIES_MAX: usize = 100_000;

/// How many bytes are hashed at a time.
const PART_BYTES: usize = 256 * 1024;

/// Whatever has blobs.
pub trait Blobs {
    /// The bytes with this digest, hashed again, of at most `bytes_max`.
    ///
    /// # Errors
    /// They are not there, too many, others than their name says, or cannot be read.
    fn blob(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, GatherError>;
}

/// An OCI image layout.
///
/// Source: OCI image specification, image-layout.md.
#[derive(Debug)]
pub struct Layout(Kind);

#[derive(Debug)]
enum Kind {
    Directory(PathBuf),
    Tarball { path: PathBuf, file: File, entries: BTreeMap<String, (u64, u64)> },
}

impl Layout {
    /// A directory with `index.json` in it, or a tarball of one.
    ///
    /// # Errors
    /// It is neither.
    pub fn open(path: &Path) -> Result<Self, GatherError> {
        let metadata = std::fs::metadata(path).map_err(GatherError::file("stat(2)", path))?;
        if metadata.is_dir() {
            return Ok(Self(Kind::Directory(path.to_owned())));
        }
        let file = open(path)?;
        let entries = entries(path, &file)?;
        if !entries.contains_key("index.json") {
            return Err(GatherError::Kind {
                path: path.to_owned(),
                found: "a file without an index.json in it".to_owned(),
            });
        }
        Ok(Self(Kind::Tarball { path: path.to_owned(), file, entries }))
    }

    /// The layout's `index.json`.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub fn index(&mut self, bytes_max: u64) -> Result<Vec<u8>, GatherError> {
        self.read("index.json", bytes_max)
    }

    /// Hashes the blob with this digest, however large; its size, or what it hashes to in its place.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn hash_blob(&mut self, digest: &Digest) -> Result<Result<u64, Digest>, GatherError> {
        let (what, file, size) = self.open_entry(&format!("blobs/sha256/{}", digest.hex()))?;
        let (mut file, mut hash) = (file.take(size), DigestOf::new());
        let (mut part, mut total) = (vec![0; PART_BYTES], 0);
        loop {
            match file.read(&mut part) {
                Ok(0) => break,
                Ok(read) => {
                    hash.add(part.get(..read).unwrap_or_default());
                    total += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(GatherError::file("read(2)", what)(error)),
            }
        }
        let found = hash.finish();
        Ok(if found == *digest { Ok(total) } else { Err(found) })
    }

    /// The names of its blobs, listed in an index or not; none where there is no such directory.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn blobs(&self) -> Result<Vec<Digest>, GatherError> {
        let digest = |name: &str| format!("sha256:{name}").parse().ok();
        match &self.0 {
            Kind::Directory(dir) => {
                let dir = dir.join("blobs/sha256");
                let failed = |error| GatherError::file("getdents64(2)", &dir)(error);
                let entries = match std::fs::read_dir(&dir) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                    other => other.map_err(failed)?,
                };
                let mut found = Vec::new();
                for entry in entries.take(ENTRIES_MAX) {
                    found.extend(entry.map_err(failed)?.file_name().to_str().and_then(digest));
                }
                Ok(found)
            }
            Kind::Tarball { entries, .. } => {
                Ok(entries.keys().filter_map(|name| digest(name.strip_prefix("blobs/sha256/")?)).collect())
            }
        }
    }

    fn read(&mut self, name: &str, bytes_max: u64) -> Result<Vec<u8>, GatherError> {
        let (what, file, size) = self.open_entry(name)?;
        let too_large = || GatherError::TooLarge { what: what.clone(), bytes_max };
        let mut bytes = Vec::new();
        file.take(size.min(bytes_max.saturating_add(1)))
            .read_to_end(&mut bytes)
            .map_err(GatherError::file("read(2)", &what))?;
        if bytes.len() as u64 > bytes_max { Err(too_large()) } else { Ok(bytes) }
    }

    /// A file of the layout, and how many of its bytes count.
    fn open_entry(&mut self, name: &str) -> Result<(String, File, u64), GatherError> {
        Ok(match &mut self.0 {
            Kind::Directory(dir) => {
                let path = dir.join(name);
                let file = match open(&path) {
                    Err(GatherError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(GatherError::Missing(path.display().to_string()));
                    }
                    other => other?,
                };
                (path.display().to_string(), file, u64::MAX)
            }
            Kind::Tarball { path, file, entries } => {
                let what = format!("{name} of {}", path.display());
                let Some((position, size)) = entries.get(name) else {
                    return Err(GatherError::Missing(what));
                };
                file.seek(SeekFrom::Start(*position)).map_err(GatherError::file("lseek(2)", &*path))?;
                (what, file.try_clone().map_err(GatherError::file("dup(2)", &*path))?, *size)
            }
        })
    }
}

impl Blobs for Layout {
    fn blob(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, GatherError> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let bytes = self.read(&name, bytes_max)?;
        hashed(&name, digest, bytes)
    }
}

/// The bytes, if they hash to their name.
pub(crate) fn hashed(what: &str, wanted: &Digest, bytes: Vec<u8>) -> Result<Vec<u8>, GatherError> {
    let found = Digest::of(&bytes);
    if found == *wanted {
        Ok(bytes)
    } else {
        Err(GatherError::Digest { what: what.to_owned(), wanted: *wanted, found })
    }
}

/// Opens a regular file. A FIFO or a device in its place holds nobody up.
pub(crate) fn open(path: &Path) -> Result<File, GatherError> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(GatherError::file("open(2)", path))?;
    let metadata = file.metadata().map_err(GatherError::file("fstat(2)", path))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(GatherError::Kind { path: path.to_owned(), found: "no regular file".to_owned() })
    }
}

/// Where each file of a tarball begins, and its size. Nothing is unpacked, so no name leads anywhere.
fn entries(path: &Path, file: &File) -> Result<BTreeMap<String, (u64, u64)>, GatherError> {
    let failed = |error: io::Error| GatherError::document(path.display().to_string(), "tarball", error);
    let length = file.metadata().map_err(GatherError::file("fstat(2)", path))?.len();
    let mut archive = tar::Archive::new(file);
    let mut found = BTreeMap::new();
    for (number, entry) in archive.entries_with_seek().map_err(failed)?.enumerate() {
        if number >= ENTRIES_MAX {
            let why = format!("it has more than {ENTRIES_MAX} entries");
            return Err(GatherError::document(path.display().to_string(), "tarball of a layout", why));
        }
        let entry = entry.map_err(failed)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(failed)?;
        let name = name.strip_prefix("./").unwrap_or(&name).to_string_lossy().into_owned();
        let (position, size) = (entry.raw_file_position(), entry.size());
        if position.checked_add(size).is_none_or(|end| end > length) {
            return Err(GatherError::document(path.display().to_string(), "tarball", "it is cut short"));
        }
        // The first of two of a name counts: bytes are hashed in any case.
        found.entry(name).or_insert((position, size));
    }
    Ok(found)
}
