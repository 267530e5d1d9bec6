//! Layers of an image layout as files, for as long as this process lives.
//!
//! ```text
//! blob ─hashed─► bulkhead judge unpack (own uid, no path) ─entries─► tmpfs in a mount namespace of this process
//! ```
//! The tar is read by the child; here each entry is a name that is opened below the tmpfs by openat2(2), links leading where
//! they lead within it, and bytes. Files are nobody's but root's; there are no devices, owners, attributes or times.
//!
//! Invariant: nothing outside of the tmpfs is made, changed or followed. It has room for [`BYTES_MAX`] and so many inodes, and
//! goes with the process, however that ends.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bulkhead_gather::{Blobs as _, OciLayout};
use bulkhead_layers::LAYER_ENTRIES_MAX;
use bulkhead_model::{Digest, ImageFacts, Layout, Refusal, Rule};
use bulkhead_trust::LayerLine;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::linkat,
};

use crate::answer::Trouble;

/// Room for all files, in bytes.
const BYTES_MAX: u64 = 4 << 30;

/// Largest blob of a layer, in bytes: it is in memory while it is read.
const BLOB_BYTES_MAX: u64 = 1 << 30;

/// Longest line of the child, in bytes: two paths as lists of numbers.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// How long a layer may take.
const LAYER_MAX: Duration = Duration::from_secs(300);

/// How long the child may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Why a layer is not unpacked.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// The layer is none, or none that has room: the image's fault.
    #[error("{0}")]
    Layer(String),
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl From<Errno> for Stopped {
    fn from(errno: Errno) -> Self {
        Self::from_call(errno.into())
    }
}

impl Stopped {
    /// What a name or its bytes came to: all that an entry can do is to be one that cannot be made.
    fn from_call(error: io::Error) -> Self {
        Self::Layer(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC) => "has more files, or bytes, than there is room for".to_owned(),
            _ => format!("has an entry that cannot be made: {error}"),
        })
    }
}

/// Unpacks all layers into one directory, or refuses the image.
pub(super) fn unpack(
    layout: &Layout,
    facts: &ImageFacts,
    blobs: &mut OciLayout,
    place: &str,
) -> Result<Result<PathBuf, Refusal>, Trouble> {
    let at = tmpfs(layout).map_err(|error| Trouble::Kernel("make room for the layers", error))?;
    let root: OwnedFd =
        File::open(&at).map_err(|source| Trouble::File { call: "open(2)", path: at.clone(), source })?.into();
    let mut tree = Tree { root, of_layer: BTreeSet::new(), left: BYTES_MAX };
    for (layer, diff_id) in facts.layers.iter().zip(&facts.diff_ids) {
        let blob = blobs.blob(layer, BLOB_BYTES_MAX)?;
        let why = match one(&mut tree, blob) {
            Ok(found) if found == *diff_id => continue,
            Ok(found) => format!("its tar hashes to {found}, and the config says {diff_id}"),
            Err(Stopped::Layer(why)) => format!("it {why}"),
            Err(Stopped::Failed(error)) => return Err(Trouble::Kernel("unpack a layer", error)),
        };
        return Ok(Err(Refusal::new(
            Rule::ImageContents,
            format!("layer {layer} of layout {place} cannot be unpacked"),
            why,
            "build the image anew, or import it into containerd and name it there",
        )));
    }
    Ok(Ok(at))
}

/// A tmpfs that nobody else sees, and that goes with this process.
fn tmpfs(layout: &Layout) -> io::Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let at = layout.run_dir().join("generator");
    DirBuilder::new().recursive(true).mode(0o700).create(&at)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=0700,size={BYTES_MAX},nr_inodes={}", 2 * LAYER_ENTRIES_MAX);
    mount(Some("tmpfs"), &at, Some("tmpfs"), flags, Some(options.as_str()))?;
    Ok(at)
}

/// Unpacks one layer on top of those below; what its tar hashes to.
fn one(tree: &mut Tree, blob: Vec<u8>) -> Result<Digest, Stopped> {
    tree.of_layer.clear();
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(SILENCE_MAX))?;
    let mut child = Command::new("/proc/self/exe")
        .args(["judge", "unpack"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()?;
    let mut to = child.stdin.take().ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    // A child that wants no more of it has said why.
    let feeding = thread::spawn(move || to.write_all(&blob).unwrap_or_default());
    let heard = hear(tree, BufReader::with_capacity(256 * 1024, ours));
    // It has ended, or is not wanted any more; one that has ended is not there to be killed.
    child.kill()?;
    let status = child.wait()?;
    feeding.join().map_err(|_| io::Error::other("the thread that feeds the child panicked"))?;
    match heard {
        Err(Stopped::Failed(error)) => Err(io::Error::other(format!("{error} ({status})")).into()),
        other => other,
    }
}

fn hear(tree: &mut Tree, mut from: BufReader<UnixStream>) -> Result<Digest, Stopped> {
    let until = Instant::now() + LAYER_MAX;
    let mut entries = 0;
    loop {
        let mut line = Vec::new();
        (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        entries += 1;
        if entries > LAYER_ENTRIES_MAX || Instant::now() > until {
            return Err(Stopped::Layer("has too many entries, or takes too long".to_owned()));
        }
        match serde_json::from_slice(&line).map_err(io::Error::from)? {
            LayerLine::End(diff_id) => return Ok(diff_id),
            LayerLine::Flaw(why) => {
                return Err(Stopped::Layer(why.chars().filter(|c| !c.is_control()).take(300).collect()));
            }
            LayerLine::Directory { name, mode } => tree.directory(&name, mode)?,
            LayerLine::File { name, mode, bytes } => tree.file(&name, mode, &mut from, bytes)?,
            LayerLine::Symlink { name, to } => {
                let (parent, base) = tree.cleared(&name)?;
                symlink(OsStr::from_bytes(&to), below(&parent, base)).map_err(Stopped::from_call)?;
            }
            LayerLine::Link { name, to } => tree.link(&name, &to)?,
            LayerLine::Gone(name) => tree.gone(&name)?,
            LayerLine::Opaque(name) => tree.opaque(&name)?,
        }
    }
}

/// What is unpacked.
struct Tree {
    root: OwnedFd,
    /// Names that the layer at hand has made.
    of_layer: BTreeSet<Vec<u8>>,
    /// Bytes of files that may still come.
    left: u64,
}

impl Tree {
    fn directory(&mut self, name: &[u8], mode: u32) -> Result<(), Stopped> {
        let (parent, base) = self.parent(name, Missing::Make)?;
        let path = below(&parent, base);
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            remove(&path)?;
            fs::create_dir(&path).map_err(Stopped::from_call)?;
        }
        fs::set_permissions(&path, Permissions::from_mode(mode & 0o777 | 0o700)).map_err(Stopped::from_call)
    }

    fn file(&mut self, name: &[u8], mode: u32, from: &mut impl io::Read, bytes: u64) -> Result<(), Stopped> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| Stopped::from_call(Errno::ENOSPC.into()))?;
        let (parent, base) = self.cleared(name)?;
        let mut file = File::create_new(below(&parent, base)).map_err(Stopped::from_call)?;
        let mut part = vec![0; 128 * 1024];
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left.min(part.len() as u64)).map_err(io::Error::other)?;
            let part = part.get_mut(..length).unwrap_or_default();
            from.read_exact(part)?;
            file.write_all(part).map_err(Stopped::from_call)?;
            left -= length as u64;
        }
        file.set_permissions(Permissions::from_mode(mode & 0o777 | 0o400)).map_err(Stopped::from_call)
    }

    fn link(&mut self, name: &[u8], to: &[u8]) -> Result<(), Stopped> {
        let (other, other_base) = self.parent(to, Missing::Error)?;
        let (parent, base) = self.cleared(name)?;
        Ok(linkat(other.as_fd(), other_base, parent.as_fd(), base, AtFlags::empty())?)
    }

    /// A whiteout: of what is not there, nothing is left to do.
    fn gone(&mut self, name: &[u8]) -> Result<(), Stopped> {
        match self.parent(name, Missing::Error) {
            Ok((parent, base)) if !self.of_layer.contains(name) => remove(&below(&parent, base)),
            Ok(_) | Err(Stopped::Layer(_)) => Ok(()),
            Err(failed) => Err(failed),
        }
    }

    /// What the layer at hand has made there stays.
    fn opaque(&mut self, name: &[u8]) -> Result<(), Stopped> {
        let dir = match self.open(name) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for entry in fs::read_dir(own(&dir)).map_err(Stopped::from_call)? {
            let base = entry.map_err(Stopped::from_call)?.file_name();
            let separator: &[u8] = if name.is_empty() { b"" } else { b"/" };
            let below_it = [name, separator, base.as_bytes()].concat();
            let inside = [below_it.as_slice(), b"/"].concat();
            let next = self.of_layer.range(inside.clone()..).next();
            if !self.of_layer.contains(&below_it) && next.is_none_or(|next| !next.starts_with(&inside)) {
                remove(&below(&dir, &base))?;
            }
        }
        Ok(())
    }

    /// The parent of a name, with nothing there yet.
    fn cleared<'n>(&mut self, name: &'n [u8]) -> Result<(OwnedFd, &'n OsStr), Stopped> {
        let (parent, base) = self.parent(name, Missing::Make)?;
        remove(&below(&parent, base))?;
        Ok((parent, base))
    }

    fn parent<'n>(&mut self, name: &'n [u8], missing: Missing) -> Result<(OwnedFd, &'n OsStr), Stopped> {
        let at = name.iter().rposition(|byte| *byte == b'/');
        let (dir, base) = at.map_or((&[][..], name), |at| (&name[..at], &name[at + 1..]));
        // A child that lies says what is no name.
        if matches!(base, b"" | b"." | b"..") || base.contains(&0) {
            return Err(Stopped::Layer("has an entry without a name".to_owned()));
        }
        let base = OsStr::from_bytes(base);
        if let Missing::Make = missing {
            self.of_layer.insert(name.to_vec());
        }
        match (self.open(dir), missing) {
            (Err(Errno::ENOENT), Missing::Make) => {}
            (other, _) => return Ok((other?, base)),
        }
        let ends = dir.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut parent = self.open(b"")?;
        for end in ends.chain([dir.len()]) {
            let part = &dir[..end];
            let start = part.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            parent = match self.open(part) {
                Err(Errno::ENOENT) => {
                    let path = below(&parent, OsStr::from_bytes(&part[start..]));
                    DirBuilder::new().mode(0o755).create(path).map_err(Stopped::from_call)?;
                    self.open(part)?
                }
                other => other?,
            };
        }
        Ok((parent, base))
    }

    /// A directory, links leading where they lead within the tree.
    fn open(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let name = if name.is_empty() { b".".as_slice() } else { name };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(self.root.as_fd(), OsStr::from_bytes(name), how)
    }
}

/// What becomes of a directory that is not there.
#[derive(Clone, Copy)]
enum Missing {
    Make,
    Error,
}

/// An open directory as a path.
fn own(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}

/// A name in an open directory, of which nothing is followed but the way there.
fn below(dir: &OwnedFd, base: &OsStr) -> PathBuf {
    own(dir).join(base)
}

/// Removes what is there, if anything is; links are not followed.
fn remove(path: &Path) -> Result<(), Stopped> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Stopped::from_call(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
