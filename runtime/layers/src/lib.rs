//! Layer directories as stat(2) sees them: how one is opened and walked, and what it comes to as a receipt.
//!
//! ```text
//! lowerdir ─open─► descriptor ─walk─► (path, inode, size, mode, owner, mtime, ctime) … ─Receipt─► one digest
//! ```
//! Two processes walk: a worker, which makes receipts, and the judge, which looks for what a layer's tar does not have.
//!
//! Invariant: nothing below a layer is reached through a symbolic link or a mount; what would be is an error. A walk
//! gives names in one order, whatever order the file system keeps them in.
//! Invariant: bounded. Not more than [`LAYER_ENTRIES_MAX`] names, not longer paths than the kernel takes.
//! Never here: a file's bytes; an image's format; what a difference means.

#![forbid(unsafe_code)]

mod erofs;
mod error;
mod job;
mod open;
mod own;
mod receipt;
mod walk;
mod xattrs;

pub use erofs::{mount_images, refuse_image_beside};
pub use error::LayerError;
pub use job::{Comparison, open_layers, prepare_comparison, walk_layers};
pub use open::{Layer, open_layer};
pub use own::foreign_in;
pub use receipt::{Receipt, Seen};
pub use walk::{LAYER_ENTRIES_MAX, Stat, open_below, open_in_root, read_link, stat_of, walk};
pub use xattrs::xattrs;
