//! Why a layer could not be walked.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::LAYER_ENTRIES_MAX;

/// A call failed, or the directory is none that can be walked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// A system call.
    #[error("{call} {}: {errno}", .path.display())]
    Call {
        /// Which.
        call: &'static str,
        /// On which path; below the layer where it is relative.
        path: PathBuf,
        /// What it gave.
        errno: Errno,
    },
    /// Not what containerd's overlayfs snapshotter makes.
    #[error("{} is no layer of the overlayfs snapshotter: {why}", .path.display())]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// What is odd about it.
        why: &'static str,
    },
    /// Too many names.
    #[error("has more than {LAYER_ENTRIES_MAX} files")]
    Entries,
}
