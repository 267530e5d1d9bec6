//! The files of an image, as a container would see them, and nothing outside of them.
//!
//! ```text
//! Layer (a directory fd)   top ─┐
//! Layer                         ├─► Root: one tree, links followed inside of it, everything counted
//! Layer (the lowest)     bottom ─┘
//! ```
//! Invariant: a path is looked up component by component, and the kernel is never asked to follow a link
//! (`RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`): what the image says cannot lead out of it.
//! Never here: what a file means.

mod layer;
mod root;

pub use layer::Layer;
pub use root::{Found, Root};

use std::{io, path::PathBuf};

/// What is at a path, itself not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular {
        /// Its length.
        bytes: u64,
        /// Whether any execute bit is set.
        executable: bool,
    },
    /// A symbolic link, and what it says.
    Link(PathBuf),
    /// A device, a socket, a FIFO.
    Other,
}

/// Why an image could not be read to the end.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The machine broke.
    #[error("{call} on {} of the image", .path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// The path in the image.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A bound of [`crate::Limits`] is reached.
    #[error("the image has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many are looked at.
        limit: u64,
    },
}
