//! What whoever may open layers does with a job: walks them, or opens what a judge of contents is to compare.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bulkhead_model::{CONTENTS_VERSION, CompareTask, ContentsLine, ContentsQuestion, WalkLine};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags, open, openat2},
    io::Errno,
};

use crate::{Layer, LayerError, Seen, foreign_in, open_layer, stat_of, xattrs};

/// How long after its last change a layer is looked at before what was seen can tell of the next one: the kernel's clock
/// for files ticks every 1 to 10 ms, and two changes within a tick have one ctime.
///
/// Source: `current_time`, fs/inode.c; CONFIG_HZ of 100 to 1000.
const TICKS: Duration = Duration::from_millis(20);

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
        let began = SystemTime::now();
        let layers = open_layers(dirs)?;
        let (mut receipts, mut settled) = (Vec::new(), Vec::new());
        for layer in &layers {
            let seen = layer.receipt()?;
            receipts.push(seen.receipt);
            settled.push(is_settled(&seen, began) && layer.tells_of_writes()?);
        }
        let foreign = match own {
            None => None,
            Some(own) => foreign_in(open_layer(own)?.as_fd(), &layers)?,
        };
        let foreign = foreign.map(|path| Path::new("/").join(path).display().to_string());
        Ok(WalkLine::Walked { receipts, settled, foreign })
    };
    walk().unwrap_or_else(|error| match error {
        LayerError::Foreign { .. } => WalkLine::Foreign(error.to_string()),
        LayerError::Call { .. } | LayerError::Entries => WalkLine::Failed(error.to_string()),
    })
}

fn is_settled(seen: &Seen, began: SystemTime) -> bool {
    let (seconds, nanoseconds) = seen.changed;
    let changed = u64::try_from(seconds)
        .ok()
        .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)));
    changed.and_then(|changed| changed.checked_add(TICKS)).is_some_and(|settled| settled <= began)
}

/// Writes back each file system that layers are on, once.
fn write_back(layers: &[Layer]) -> Result<(), LayerError> {
    let mut done = BTreeSet::new();
    for layer in layers {
        let failed = |errno| LayerError::Call { call: "statx(2)", path: ".".into(), errno };
        if done.insert(stat_of(layer.seen()).map_err(failed)?.device) {
            layer.write_back()?;
        }
    }
    Ok(())
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

/// Opens layers and blobs, and reads the extended attributes, which a judge has no right to see. What is written to the
/// layers from now on changes a ctime, by whatever way it is written.
///
/// # Errors
/// The line that says why there is nothing to compare.
pub fn prepare_comparison(dirs: &[PathBuf], task: &CompareTask) -> Result<Comparison, ContentsLine> {
    let failed = |error: LayerError| ContentsLine::Failed(error.to_string());
    let call = |call, path: &Path, errno| failed(LayerError::Call { call, path: path.to_owned(), errno });
    let layers = open_layers(dirs).map_err(failed)?;
    write_back(&layers).map_err(failed)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = open(&task.blobs, flags, Mode::empty()).map_err(|errno| call("open(2)", &task.blobs, errno))?;
    // Without O_NONBLOCK the open of a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut blobs = Vec::with_capacity(task.layers.len());
    for layer in &task.layers {
        let name = layer.blob.hex();
        match openat2(&dir, &name, flags, Mode::empty(), resolve) {
            Ok(blob) => {
                let stat = stat_of(&blob).map_err(|errno| call("statx(2)", Path::new(&name), errno))?;
                if stat.mode & 0o170_000 != 0o100_000 {
                    return Err(ContentsLine::Failed(format!("the blob {name} is no file")));
                }
                blobs.push(blob);
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, time::Instant};

    use bulkhead_model::Digest;

    use super::*;

    /// Whether a look that comes long enough after the last change says that it tells of the next one.
    fn settles(layer: &Path) -> bool {
        let dirs = [layer.to_owned()];
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            std::thread::sleep(2 * TICKS);
            let WalkLine::Walked { settled, .. } = walk_layers(&dirs, None) else { panic!() };
            if settled[0] || layer.starts_with("/dev/shm") {
                return settled[0];
            }
            assert!(Instant::now() < deadline, "{}", layer.display());
        }
    }

    #[test]
    fn layer_in_memory_never_settles_and_one_on_disk_does() {
        for (parent, expected) in [(std::env::temp_dir(), true), ("/dev/shm".into(), false)] {
            let dir = tempfile::tempdir_in(parent).unwrap();
            let layer = dir.path().join("1/fs");
            fs::create_dir_all(&layer).unwrap();
            fs::write(layer.join("file"), "bytes").unwrap();
            assert_eq!(settles(&layer), expected, "{}", layer.display());
        }
    }

    #[test]
    fn blob_that_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let blob = Digest::of(b"blob");
        let place = dir.path().join(blob.hex());
        rustix::fs::mknodat(rustix::fs::CWD, place, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let task = CompareTask {
            program: PathBuf::new(),
            blobs: dir.path().to_owned(),
            layers: vec![bulkhead_model::LayerQuestion { layer: 0, blob, diff_id: blob }],
        };
        assert!(matches!(prepare_comparison(&[], &task), Err(ContentsLine::Failed(_))));
    }

    #[test]
    fn layer_that_was_changed_within_ticks_of_the_look_or_after_it_is_not_settled() {
        let at = |nanoseconds| Seen { receipt: Digest::of(b""), changed: (100, nanoseconds) };
        let began = SystemTime::UNIX_EPOCH + Duration::new(100, 50_000_000);
        assert!(is_settled(&at(30_000_000), began));
        assert!(!is_settled(&at(30_000_001), began));
        assert!(!is_settled(&at(900_000_000), began), "of the future");
        assert!(!is_settled(&Seen { changed: (-1, 0), ..at(0) }, began), "of no time");
    }
}
