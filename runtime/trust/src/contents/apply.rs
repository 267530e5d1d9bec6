//! What containerd makes of one entry: its archive applier, done on a [`Tree`].
//!
//! Source: containerd pkg/archive/tar.go (`applyNaive`, `createTarFile`, `mkparent`), tar_opts_linux.go
//! (`OverlayConvertWhiteout`); continuity fs/path.go (`RootPath`). The same in containerd 1.6 to 2.4 as far as it
//! matters here.

use super::{
    flaw::TarFlaw,
    reader::Entry,
    tree::{Content, Inode, Kind, NodeId, TOP, Tree, Xattrs},
};

/// Most symbolic links of one path.
///
/// Source: continuity fs/path.go, `walkLink`.
const LINKS_MAX: u32 = 255;

/// Longest path, in bytes.
///
/// Source: `PATH_MAX`, include/uapi/linux/limits.h.
const PATH_BYTES_MAX: usize = 4095;

/// Longest name and value of an extended attribute, in bytes.
///
/// Source: `XATTR_NAME_MAX` and `XATTR_SIZE_MAX`, include/uapi/linux/limits.h.
const XATTR_NAME_BYTES_MAX: usize = 255;
const XATTR_BYTES_MAX: usize = 65_536;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What overlayfs takes for "nothing of the layers below is seen here".
pub(super) const OPAQUE_XATTR: &[u8] = b"trusted.overlay.opaque";

/// How a layer tells what the layers below have and it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// The lowest layer is unpacked into a bare directory: what it takes away was its own.
    Remove,
    /// The others as overlayfs wants them: device 0:0, and an attribute on directories.
    Overlay,
}

/// What is to be done about an entry, once its parents are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is done.
    Done,
    /// The name in this directory stands for the entry.
    Name(NodeId),
}

/// Finds the place of an entry, makes its parents, and does what whiteouts say. Gives the last part of its name.
pub(super) fn place<'e>(
    tree: &mut Tree,
    entry: &'e Entry,
    whiteouts: Whiteouts,
    removed: &mut u64,
) -> Result<(Place, &'e [u8]), TarFlaw> {
    // As Go's filepath.Clean and Split, so that `..` at the front stays and ends in the top.
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in entry.name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if entry.name.len() > PATH_BYTES_MAX || entry.name.contains(&0) {
        return Err(TarFlaw::Path);
    }
    // What resolves to the layer itself is passed over.
    let Some(base) = parts.pop() else { return Ok((Place::Done, b"")) };
    let resolved = resolve(tree, &parts)?;
    let dir = make_parents(tree, &resolved)?;
    if base == OPAQUE {
        match whiteouts {
            Whiteouts::Overlay => {
                tree.inode_mut(dir).xattrs.insert(OPAQUE_XATTR.into(), b"y".as_slice().into());
            }
            Whiteouts::Remove => *removed += clear(tree, dir),
        }
        return Ok((Place::Done, base));
    }
    if let Some(original) = base.strip_prefix(WHITEOUT) {
        if matches!(original, b"" | b"." | b"..") {
            return Err(TarFlaw::Whiteout);
        }
        match (whiteouts, tree.child(dir, original)) {
            (Whiteouts::Remove, None) => {}
            (Whiteouts::Remove, Some(node)) => *removed += tree.remove(node),
            (Whiteouts::Overlay, Some(_)) => return Err(TarFlaw::WhiteoutOfOwn),
            (Whiteouts::Overlay, None) => {
                let inode = inode(Kind::Character(0, 0), 0, entry);
                tree.add(dir, original, inode)?;
            }
        }
        return Ok((Place::Done, base));
    }
    Ok((Place::Name(dir), base))
}

/// Puts the entry where [`place`] said. `content` is what was found about a file's bytes.
pub(super) fn put(
    tree: &mut Tree,
    dir: NodeId,
    name: &[u8],
    entry: &Entry,
    content: Option<Content>,
    removed: &mut u64,
) -> Result<(), TarFlaw> {
    let there = tree.child(dir, name);
    let kept = there.filter(|node| entry.kind == b'5' && tree.is_directory(*node));
    if let (Some(node), None) = (there, kept) {
        *removed += tree.remove(node);
    }
    let kind = match entry.kind {
        b'0' => Kind::File { size: entry.size, content: content.ok_or(TarFlaw::Header)? },
        b'1' => {
            let target = hard_link_target(tree, &entry.link)?;
            let node = tree.link(dir, name, target)?;
            tree.set_own(node);
            own(tree, node, entry)?;
            return Ok(());
        }
        b'2' if entry.link.len() > PATH_BYTES_MAX => return Err(TarFlaw::Path),
        b'2' => {
            tree.keep(entry.link.len())?;
            Kind::Symlink(entry.link.as_slice().into())
        }
        b'3' => Kind::Character(entry.device.0, entry.device.1),
        b'4' => Kind::Block(entry.device.0, entry.device.1),
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'g' => return Ok(()),
        other => return Err(TarFlaw::Kind(other)),
    };
    let node = match kept {
        Some(node) => node,
        None => tree.add(dir, name, inode(kind, entry.mode, entry))?,
    };
    tree.set_own(node);
    own(tree, node, entry)
}

/// chown, setxattr and chmod, in this order.
fn own(tree: &mut Tree, node: NodeId, entry: &Entry) -> Result<(), TarFlaw> {
    for (name, value) in &entry.xattrs {
        if name.len() > XATTR_NAME_BYTES_MAX || value.len() > XATTR_BYTES_MAX {
            return Err(TarFlaw::Attribute);
        }
        tree.keep(name.len() + value.len())?;
    }
    let inode = tree.inode_mut(node);
    inode.implied = false;
    (inode.uid, inode.gid) = (entry.uid, entry.gid);
    let is_directory = inode.kind == Kind::Directory;
    let is_symlink = matches!(inode.kind, Kind::Symlink(_));
    if !is_directory {
        // The kernel takes capabilities away with every chown of a file.
        inode.xattrs.remove(b"security.capability".as_slice());
    }
    let takes_user = is_directory || matches!(inode.kind, Kind::File { .. });
    for (name, value) in &entry.xattrs {
        // containerd sets none of these; of the second kind the kernel takes none but on files and directories.
        if name.starts_with(b"trusted.") || (name.starts_with(b"user.") && !takes_user) {
            continue;
        }
        inode.xattrs.insert(name.as_slice().into(), value.as_slice().into());
    }
    inode.mode = if is_symlink { 0o777 } else { entry.mode };
    Ok(())
}

fn inode(kind: Kind, mode: u32, entry: &Entry) -> Inode {
    Inode { kind, mode, uid: entry.uid, gid: entry.gid, xattrs: Xattrs::new(), links: 1, implied: false }
}

/// Symbolic links in a path lead where they lead within this layer; what is not there yet is taken as it is written.
fn resolve(tree: &Tree, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>, TarFlaw> {
    let mut todo: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
    let mut done: Vec<(Vec<u8>, Option<NodeId>)> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        let dir = done.last().map_or(Some(TOP), |(_, node)| *node);
        let node = dir.and_then(|dir| tree.child(dir, &part));
        if let Some(Kind::Symlink(target)) = node.map(|node| &tree.inode(node).kind) {
            links += 1;
            if links > LINKS_MAX {
                return Err(TarFlaw::Links);
            }
            if target.starts_with(b"/") {
                done.clear();
            }
            todo.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            if todo.len() > PATH_BYTES_MAX {
                return Err(TarFlaw::Path);
            }
            continue;
        }
        done.push((part, node));
    }
    Ok(done.into_iter().map(|(part, _)| part).collect())
}

fn make_parents(tree: &mut Tree, parts: &[Vec<u8>]) -> Result<NodeId, TarFlaw> {
    let mut dir = TOP;
    for part in parts {
        dir = match tree.child(dir, part) {
            Some(node) if tree.is_directory(node) => node,
            Some(_) => return Err(TarFlaw::NoDirectory),
            None => {
                let implied = Inode {
                    kind: Kind::Directory,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    xattrs: Xattrs::new(),
                    links: 1,
                    implied: true,
                };
                tree.add(dir, part, implied)?
            }
        };
    }
    Ok(dir)
}

/// Removes everything below a directory that no entry has made.
fn clear(tree: &mut Tree, dir: NodeId) -> u64 {
    let (mut open, mut gone) = (vec![dir], Vec::new());
    while let Some(dir) = open.pop() {
        for (_, node) in tree.children(dir) {
            match tree.is_own(node) {
                true => open.push(node),
                false => gone.push(node),
            }
        }
    }
    gone.into_iter().map(|node| tree.remove(node)).sum()
}

/// Links of the directory lead within the layer; the last part is taken as it is.
fn hard_link_target(tree: &Tree, link: &[u8]) -> Result<NodeId, TarFlaw> {
    let at = link.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (dir, base) = link.split_at(at);
    let parts: Vec<&[u8]> = dir.split(|byte| *byte == b'/').collect();
    let mut node = TOP;
    for part in resolve(tree, &parts)? {
        node = tree.child(node, &part).ok_or(TarFlaw::HardLink)?;
    }
    node = match base {
        b"" | b"." => node,
        b".." => tree.parent(node),
        base => tree.child(node, base).ok_or(TarFlaw::HardLink)?,
    };
    if tree.is_directory(node) { Err(TarFlaw::HardLink) } else { Ok(node) }
}
