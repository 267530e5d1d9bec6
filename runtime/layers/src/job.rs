//! What whoever may open layers does with a job: walks them, or opens what a judge of contents is to compare.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use bulkhead_model::{CONTENTS_VERSION, CompareTask, ContentsLine, ContentsQuestion, WalkLine};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
};

use crate::{Layer, LayerError, foreign_in, open_layer, xattrs};

/// Opens the directories of layers.
///
/// # Errors
/// One of them cannot be opened, or is none.
pub fn open_layers(dirs: &[PathBuf]) -> Result<Vec<Layer>, LayerError> {
    dirs.iter().map(|dir| open_layer(dir)).collect()
}

/// Takes a receipt of each layer, and looks for files of nobody's in the container's own.
#[must_use]
pub fn walk_layers(dirs: &[PathBuf], own: Option<&Path>) -> WalkLine {
    let walk = || -> Result<WalkLine, LayerError> {
        let layers = open_layers(dirs)?;
        let receipts = layers.iter().map(Layer::receipt).collect::<Result<_, _>>()?;
        let foreign = match own {
            None => None,
            Some(own) => foreign_in(open_layer(own)?.as_fd(), &layers)?,
        };
        let foreign = foreign.map(|path| Path::new("/").join(path).display().to_string());
        Ok(WalkLine::Walked { receipts, foreign })
    };
    walk().unwrap_or_else(|error| match error {
        LayerError::Foreign { .. } => WalkLine::Foreign(error.to_string()),
        LayerError::Call { .. } | LayerError::Entries => WalkLine::Failed(error.to_string()),
    })
}

/// What a judge of contents is asked and handed.
#[derive(Debug)]
pub struct Comparison {
    /// The question.
    pub question: ContentsQuestion,
    /// The layers' directories, the lowest first.
    pub layers: Vec<OwnedFd>,
    /// The blobs, in the order of the question.
    pub blobs: Vec<OwnedFd>,
}

/// Opens layers and blobs, and reads the extended attributes, which a judge has no right to see.
///
/// # Errors
/// The line that says why there is nothing to compare.
pub fn prepare_comparison(dirs: &[PathBuf], task: &CompareTask) -> Result<Comparison, ContentsLine> {
    let failed = |error: LayerError| ContentsLine::Failed(error.to_string());
    let call = |call, path: &Path, errno| failed(LayerError::Call { call, path: path.to_owned(), errno });
    let layers = open_layers(dirs).map_err(failed)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(&task.blobs, flags, Mode::empty()).map_err(|errno| call("open(2)", &task.blobs, errno))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut blobs = Vec::with_capacity(task.layers.len());
    for layer in &task.layers {
        let name = layer.blob.hex();
        match openat2(&dir, &name, flags, Mode::empty(), resolve) {
            Ok(blob) => blobs.push(blob),
            Err(Errno::NOENT) => return Err(ContentsLine::Missing(layer.layer)),
            Err(errno) => return Err(call("openat2(2)", Path::new(&name), errno)),
        }
    }
    let mut found = Vec::new();
    for (number, layer) in (0..).zip(&layers) {
        xattrs(layer.as_fd(), number, &mut found).map_err(failed)?;
    }
    let question =
        ContentsQuestion { version: CONTENTS_VERSION, compare: task.layers.clone(), xattrs: found };
    let layers = layers.into_iter().map(Layer::into_root).collect();
    Ok(Comparison { question, layers, blobs })
}
