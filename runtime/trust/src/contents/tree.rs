//! What a layer's directory should hold: a tree of names, and the inodes that they name.

use std::collections::BTreeMap;

use bulkhead_layers::LAYER_ENTRIES_MAX;
use bulkhead_model::Digest;

use super::flaw::TarFlaw;

/// Longest name, in bytes.
///
/// Source: `NAME_MAX`, include/uapi/linux/limits.h.
const NAME_BYTES_MAX: usize = 255;

/// Most bytes of names, links' targets and extended attributes together: those of a million names, and air. Two layers at
/// a time fit the memory of the judge's control group.
const TEXT_BYTES_MAX: usize = 128 << 20;

/// A name's place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(u32);

/// An inode's place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct InodeId(u32);

/// The layer's own directory.
pub(super) const TOP: NodeId = NodeId(0);

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

#[derive(Debug)]
struct Node {
    parent: NodeId,
    name: Box<[u8]>,
    inode: InodeId,
    children: BTreeMap<Box<[u8]>, NodeId>,
    /// Whether an entry of the tar has made it, and nothing else.
    own: bool,
}

/// What something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File { size: u64, content: Content },
    Symlink(Box<[u8]>),
    Fifo,
    Character(u32, u32),
    Block(u32, u32),
}

/// What is known of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// They are those of this inode on disk.
    SameAs(u64),
    /// They hash to this; what is on disk was other, or not there.
    Hash(Digest),
}

/// One inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) xattrs: Xattrs,
    /// How many names it has.
    pub(super) links: u32,
    /// A directory that no entry speaks of: it gets what the layers below say of it, or 0755 and root.
    pub(super) implied: bool,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    inodes: Vec<Inode>,
    /// How many names there are now.
    names: usize,
    /// Bytes of names, targets and attributes so far, of those that are gone again as well.
    text: usize,
}

impl Tree {
    /// The empty directory that a snapshotter makes.
    pub(super) fn new() -> Self {
        let top = Inode {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            xattrs: Xattrs::new(),
            links: 1,
            implied: false,
        };
        let node = Node {
            parent: TOP,
            name: Box::default(),
            inode: InodeId(0),
            children: BTreeMap::new(),
            own: true,
        };
        Self { nodes: vec![node], inodes: vec![top], names: 0, text: 0 }
    }

    /// How many names there are, the top not counted.
    pub(super) fn len(&self) -> usize {
        self.names
    }

    pub(super) fn child(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        self.node(dir).children.get(name).copied()
    }

    pub(super) fn children(&self, dir: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        self.node(dir).children.iter().map(|(name, node)| (&**name, *node))
    }

    pub(super) fn parent(&self, node: NodeId) -> NodeId {
        self.node(node).parent
    }

    pub(super) fn inode_of(&self, node: NodeId) -> InodeId {
        self.node(node).inode
    }

    pub(super) fn inode(&self, node: NodeId) -> &Inode {
        &self.inodes[self.node(node).inode.0 as usize]
    }

    pub(super) fn inode_mut(&mut self, node: NodeId) -> &mut Inode {
        let inode = self.node(node).inode;
        &mut self.inodes[inode.0 as usize]
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        self.inode(node).kind == Kind::Directory
    }

    /// Whether an entry of the tar stands for the name itself.
    pub(super) fn is_own(&self, node: NodeId) -> bool {
        self.node(node).own
    }

    pub(super) fn set_own(&mut self, node: NodeId) {
        self.nodes[node.0 as usize].own = true;
    }

    /// Counts what is kept of an entry.
    pub(super) fn keep(&mut self, bytes: usize) -> Result<(), TarFlaw> {
        self.text = self.text.saturating_add(bytes);
        if self.text > TEXT_BYTES_MAX { Err(TarFlaw::Text(TEXT_BYTES_MAX)) } else { Ok(()) }
    }

    /// A new name of a new inode.
    pub(super) fn add(&mut self, dir: NodeId, name: &[u8], inode: Inode) -> Result<NodeId, TarFlaw> {
        let id = InodeId(u32::try_from(self.inodes.len()).map_err(|_| TarFlaw::Entries)?);
        self.inodes.push(inode);
        self.name(dir, name, id)
    }

    /// A new name of an inode that is there.
    pub(super) fn link(&mut self, dir: NodeId, name: &[u8], target: NodeId) -> Result<NodeId, TarFlaw> {
        let inode = self.inode_of(target);
        self.inodes[inode.0 as usize].links += 1;
        self.name(dir, name, inode)
    }

    fn name(&mut self, dir: NodeId, name: &[u8], inode: InodeId) -> Result<NodeId, TarFlaw> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(&0) {
            return Err(TarFlaw::Path);
        }
        // Those that were removed since still take their place here.
        if self.nodes.len() > LAYER_ENTRIES_MAX {
            return Err(TarFlaw::Entries);
        }
        self.keep(2 * name.len())?;
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| TarFlaw::Entries)?);
        self.nodes.push(Node {
            parent: dir,
            name: name.into(),
            inode,
            children: BTreeMap::new(),
            own: false,
        });
        self.nodes[dir.0 as usize].children.insert(name.into(), id);
        self.names += 1;
        Ok(id)
    }

    /// Takes a name away, with all below it. Gives the sizes of the files that had no other name.
    pub(super) fn remove(&mut self, node: NodeId) -> u64 {
        let Node { parent, name, .. } = self.node(node);
        let (parent, name) = (*parent, name.clone());
        self.nodes[parent.0 as usize].children.remove(&name);
        let (mut open, mut bytes) = (vec![node], 0);
        while let Some(id) = open.pop() {
            let node = &mut self.nodes[id.0 as usize];
            open.extend(std::mem::take(&mut node.children).into_values());
            let inode = &mut self.inodes[node.inode.0 as usize];
            inode.links -= 1;
            if let (0, Kind::File { size, .. }) = (inode.links, &inode.kind) {
                bytes += size;
            }
            self.names -= 1;
        }
        bytes
    }

    /// The path from the layer on.
    pub(super) fn path(&self, node: NodeId) -> Vec<u8> {
        let (mut names, mut at) = (Vec::new(), node);
        while at != TOP {
            names.push(&*self.node(at).name);
            at = self.node(at).parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_that_take_too_much_memory_are_a_flaw_although_they_are_not_too_many() {
        let mut tree = Tree::new();
        let inode = tree.inode(TOP).clone();
        let mut add = |number: usize| tree.add(TOP, format!("{number:0>255}").as_bytes(), inode.clone());
        let flaw = (0..LAYER_ENTRIES_MAX).find_map(|number| add(number).err());
        assert_eq!(flaw.unwrap(), TarFlaw::Text(TEXT_BYTES_MAX));
    }
}
