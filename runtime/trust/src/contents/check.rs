//! The tree that the tar comes to against the names on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use bulkhead_layers::{LayerError, Stat, open_in_root, read_link, stat_of, walk};

use super::{
    LayerXattrs, MODE_TYPE, matching,
    tree::{Content, Inode, InodeId, Kind, NodeId, TOP, Tree, Xattrs as FileXattrs},
};

/// Attributes that overlayfs itself writes, and that mean nothing in a lower layer: whence a copy came, and whether a
/// directory holds one.
///
/// Source: Documentation/filesystems/overlayfs.rst; fs/overlayfs/overlayfs.h.
const OF_OVERLAYFS: [&[u8]; 3] =
    [b"trusted.overlay.origin", b"trusted.overlay.impure", b"trusted.overlay.uuid"];

/// What a check came to that found no layer as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unlike {
    /// A path, and what is other there.
    #[error("{}: {what}", .path.display())]
    Difference { path: PathBuf, what: String },
    /// A file is not the one that its name was compared with: compare by hash.
    #[error("names were exchanged")]
    Exchanged,
    /// It could not be looked at.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// What the check needs beside the tree.
pub(super) struct Layer<'l> {
    pub(super) dir: BorrowedFd<'l>,
    /// Those below it, the next one first, with their attributes.
    pub(super) below: Vec<(BorrowedFd<'l>, &'l LayerXattrs)>,
    pub(super) xattrs: &'l LayerXattrs,
}

/// Compares every name.
pub(super) fn check(tree: &Tree, layer: &Layer<'_>) -> Result<(), Unlike> {
    let mut check = Check {
        tree,
        layer,
        dir: (PathBuf::new(), TOP),
        seen: BTreeSet::new(),
        on_disk: BTreeMap::new(),
        in_tar: BTreeMap::new(),
    };
    walk(layer.dir, &mut |dir, path, stat| check.name(dir, path, stat))?;
    let seen = check.seen;
    if seen.len() == tree.len() {
        return Ok(());
    }
    let mut open = vec![TOP];
    while let Some(dir) = open.pop() {
        for (_, node) in tree.children(dir) {
            if !seen.contains(&node) {
                return Err(difference(&path_of(tree, node), "is missing".to_owned()));
            }
            open.push(node);
        }
    }
    Ok(())
}

struct Check<'c, 'l> {
    tree: &'c Tree,
    layer: &'c Layer<'l>,
    /// The directory of the name before.
    dir: (PathBuf, NodeId),
    seen: BTreeSet<NodeId>,
    /// Files with several names: by their number on disk, and by their place in the tree.
    on_disk: BTreeMap<u64, InodeId>,
    in_tar: BTreeMap<InodeId, u64>,
}

impl Check<'_, '_> {
    fn name(&mut self, dir: BorrowedFd<'_>, path: &Path, stat: &Stat) -> Result<(), Unlike> {
        let Some(node) = self.find(path) else {
            return Err(difference(path, "is not in the image".to_owned()));
        };
        if node != TOP {
            self.seen.insert(node);
        }
        let inode = self.tree.inode(node);
        let name = Path::new(path.file_name().unwrap_or_default());
        if let Some(what) = unlike(inode, stat, dir, name)? {
            return Err(difference(path, what));
        }
        if let Some(what) = self.owner_differs(dir, path, inode, stat) {
            return Err(difference(path, what));
        }
        if inode.kind != Kind::Directory {
            self.links(path, node, stat)?;
        }
        if let Kind::File { size: 1.., content } = &inode.kind {
            self.bytes(path, content, stat)?;
        }
        Ok(())
    }

    /// The walk gives a directory's names one after the other.
    fn find(&mut self, path: &Path) -> Option<NodeId> {
        let Some(name) = path.file_name() else { return Some(TOP) };
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.dir.0 != parent {
            let mut node = TOP;
            for part in parent.iter() {
                node = self.tree.child(node, part.as_bytes())?;
            }
            self.dir = (parent.to_owned(), node);
        }
        self.tree.child(self.dir.1, name.as_bytes())
    }

    fn owner_differs(&self, dir: BorrowedFd<'_>, path: &Path, inode: &Inode, stat: &Stat) -> Option<String> {
        let found = Owner { mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
        let said = Owner { mode: inode.mode, uid: inode.uid, gid: inode.gid };
        let xattrs = xattrs_of(self.layer.xattrs, path);
        let differs = said.differs(&found).or_else(|| xattrs_differ(inode, &xattrs));
        if !inode.implied || differs.is_none() {
            return differs;
        }
        // Where the layers are unpacked one after the other, a directory that the tar does not speak of is as that of
        // the layer below.
        // A directory with the set-group-ID bit gives its group to what is made in it.
        let group = stat_of(dir).ok().filter(|parent| parent.mode & 0o2000 != 0).map(|parent| parent.gid);
        if group.is_some_and(|gid| Owner { gid, ..said }.differs(&found).is_none())
            && xattrs_differ(inode, &xattrs).is_none()
        {
            return None;
        }
        let (below, below_xattrs) = self.below(path);
        let copied = Inode {
            xattrs: inode
                .xattrs
                .iter()
                .chain(below_xattrs.iter().filter(|(name, _)| !name.starts_with(b"trusted.")))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            ..inode.clone()
        };
        below.differs(&found).or_else(|| xattrs_differ(&copied, &xattrs)).map(|_| differs.unwrap_or_default())
    }

    /// The owner and attributes of the directory that the layers below have there; the default where they have none.
    fn below(&self, path: &Path) -> (Owner, FileXattrs) {
        for (layer, xattrs) in &self.layer.below {
            let Ok(stat) = open_in_root(layer, path).and_then(stat_of) else { continue };
            if stat.mode & MODE_TYPE != 0o040_000 {
                break;
            }
            let owner = Owner { mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
            return (owner, xattrs_of(xattrs, path));
        }
        (Owner { mode: 0o755, uid: 0, gid: 0 }, FileXattrs::new())
    }

    fn links(&mut self, path: &Path, node: NodeId, stat: &Stat) -> Result<(), Unlike> {
        let inode = self.tree.inode(node);
        if inode.links != stat.links {
            let what = format!("has {} names (hard links), the image says {}", stat.links, inode.links);
            return Err(difference(path, what));
        }
        if inode.links == 1 {
            return Ok(());
        }
        let id = self.tree.inode_of(node);
        let same = *self.on_disk.entry(stat.inode).or_insert(id) == id
            && *self.in_tar.entry(id).or_insert(stat.inode) == stat.inode;
        if same {
            Ok(())
        } else {
            Err(difference(path, "is a hard link to another file than in the image".to_owned()))
        }
    }

    fn bytes(&self, path: &Path, content: &Content, stat: &Stat) -> Result<(), Unlike> {
        match content {
            Content::SameAs(inode) if *inode == stat.inode => Ok(()),
            Content::SameAs(_) => Err(Unlike::Exchanged),
            Content::Hash(digest) => match matching::hash(self.layer.dir, path, stat.size) {
                Ok(found) if found == *digest => Ok(()),
                Ok(_) => Err(difference(path, "has other bytes than in the image".to_owned())),
                Err(error) => Err(difference(path, format!("cannot be read: {error}"))),
            },
        }
    }
}

fn difference(path: &Path, what: String) -> Unlike {
    Unlike::Difference { path: Path::new("/").join(path), what }
}

fn path_of(tree: &Tree, node: NodeId) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(&tree.path(node)))
}

/// Type, size, target and numbers.
fn unlike(inode: &Inode, stat: &Stat, dir: BorrowedFd<'_>, name: &Path) -> Result<Option<String>, Unlike> {
    let kind = match &inode.kind {
        Kind::Directory => "a directory",
        Kind::File { .. } => "a file",
        Kind::Symlink(_) => "a symbolic link",
        Kind::Fifo => "a FIFO",
        Kind::Character(0, 0) => "a whiteout",
        Kind::Character(..) => "a character device",
        Kind::Block(..) => "a block device",
    };
    let found = match stat.mode & MODE_TYPE {
        0o040_000 => "a directory",
        0o100_000 => "a file",
        0o120_000 => "a symbolic link",
        0o010_000 => "a FIFO",
        0o020_000 if stat.special == (0, 0) => "a whiteout",
        0o020_000 => "a character device",
        0o060_000 => "a block device",
        _ => "a socket",
    };
    if kind != found {
        return Ok(Some(format!("is {found}, the image says {kind}")));
    }
    Ok(match &inode.kind {
        Kind::File { size, .. } if *size != stat.size => {
            Some(format!("has {} bytes, the image says {size}", stat.size))
        }
        Kind::Character(major, minor) | Kind::Block(major, minor) if (*major, *minor) != stat.special => {
            let (found_major, found_minor) = stat.special;
            Some(format!("is device {found_major}:{found_minor}, the image says {major}:{minor}"))
        }
        Kind::Symlink(target) => {
            let found = read_link(dir, name)?;
            (found != **target).then(|| {
                let text =
                    |target: &[u8]| String::from_utf8_lossy(target).chars().take(80).collect::<String>();
                format!("points to {:?}, the image says {:?}", text(&found), text(target))
            })
        }
        _ => None,
    })
}

#[derive(Clone, Copy)]
struct Owner {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Owner {
    fn differs(&self, found: &Self) -> Option<String> {
        let Self { mode, uid, gid } = *self;
        if mode != found.mode {
            return Some(format!("has mode {:04o}, the image says {mode:04o}", found.mode));
        }
        if (uid, gid) != (found.uid, found.gid) {
            return Some(format!("belongs to {}:{}, the image says {uid}:{gid}", found.uid, found.gid));
        }
        None
    }
}

fn xattrs_of(all: &LayerXattrs, path: &Path) -> FileXattrs {
    all.get(path.as_os_str().as_bytes()).cloned().unwrap_or_default()
}

fn xattrs_differ(inode: &Inode, found: &FileXattrs) -> Option<String> {
    let text = |name: &[u8]| String::from_utf8_lossy(name).chars().take(80).collect::<String>();
    // Labels of security modules are the node's.
    let counts = |name: &[u8]| !name.starts_with(b"security.") || name == b"security.capability";
    for (name, value) in found.iter().filter(|(name, _)| counts(name) && !OF_OVERLAYFS.contains(&&***name)) {
        match inode.xattrs.get(name) {
            None => {
                return Some(format!("has the extended attribute {}, which the image has not", text(name)));
            }
            Some(said) if said != value => {
                return Some(format!("has another value of the extended attribute {}", text(name)));
            }
            Some(_) => {}
        }
    }
    let missing = inode.xattrs.keys().find(|name| counts(name) && !found.contains_key(*name))?;
    Some(format!("lacks the extended attribute {}", text(missing)))
}
