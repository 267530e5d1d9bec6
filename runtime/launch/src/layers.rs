//! Layers are opened here: the server, which has confined itself, reaches none of their directories.
//!
//! ```text
//! walk     open each layer ─► receipts ─► one line
//! compare  open layers and blobs, read extended attributes ─► descriptors in their places ─► execve(2) of the judge
//! ```
//! No image's bytes are read here: names, what stat(2) says of them, and extended attributes.

use std::{
    ffi::CString,
    fs::File,
    io::Write as _,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use bulkhead_cgroup::Host;
use bulkhead_layers::{LayerError, Receipt, foreign_in, open_layer, xattrs};
use bulkhead_model::{
    CONTENTS_QUESTION_BYTES_MAX, CONTENTS_VERSION, CompareTask, ContentsLine, ContentsQuestion, LayersJob,
    LayersTask, WalkLine,
};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::memfd::{MFdFlags, memfd_create},
};
use serde::Serialize;

use crate::{
    LaunchError,
    error::chain,
    sys,
    wire::{JudgeGroup, Layers},
    worker,
};

/// Does the job. What it finds goes to the one descriptor that came with it; a judge takes this process's place.
pub(crate) fn look(job: Layers, fds: Vec<OwnedFd>, host: &Host, server: u32) -> Result<(), LaunchError> {
    let Layers { job: LayersJob { dirs, own, task }, group } = job;
    let output = fds.into_iter().next().ok_or(LaunchError::Plan("layers without a place for the answer"))?;
    let open = || -> Result<Vec<OwnedFd>, LayerError> { dirs.iter().map(|dir| open_layer(dir)).collect() };
    match task {
        LayersTask::Walk => {
            let line = match open().and_then(|layers| walk(&layers, own.as_deref())) {
                Ok(line) => line,
                Err(error @ LayerError::Foreign { .. }) => WalkLine::Foreign(chain(&error)),
                Err(error) => WalkLine::Failed(chain(&error)),
            };
            say(output, &line)
        }
        LayersTask::Compare(task) => {
            let group = group.ok_or(LaunchError::Plan("a judge without a control group"))?;
            let layers = match open() {
                Ok(layers) => layers,
                Err(error) => return say(output, &ContentsLine::Failed(chain(&error))),
            };
            match prepare(&task, &layers) {
                Ok((question, blobs)) => {
                    let error =
                        become_judge(&task, &layers, &question, &blobs, &output, &group, (host, server));
                    say(output, &ContentsLine::Failed(chain(&error)))
                }
                Err(Unready::Missing(layer)) => say(output, &ContentsLine::Missing(layer)),
                Err(Unready::Failed(why)) => say(output, &ContentsLine::Failed(why)),
            }
        }
    }
}

fn walk(layers: &[OwnedFd], own: Option<&Path>) -> Result<WalkLine, LayerError> {
    let receipts = layers.iter().map(|layer| Receipt::of(layer.as_fd())).collect::<Result<_, _>>()?;
    let foreign = match own {
        None => None,
        Some(own) => foreign_in(open_layer(own)?.as_fd(), layers)?,
    };
    Ok(WalkLine::Walked {
        receipts,
        foreign: foreign.map(|path| Path::new("/").join(path).display().to_string()),
    })
}

enum Unready {
    Missing(u32),
    Failed(String),
}

impl<E: std::error::Error + 'static> From<E> for Unready {
    fn from(error: E) -> Self {
        Self::Failed(chain(&error))
    }
}

/// The question, and the blobs that it is about.
fn prepare(task: &CompareTask, layers: &[OwnedFd]) -> Result<(OwnedFd, Vec<OwnedFd>), Unready> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    let dir = openat2(AT_FDCWD, &task.blobs, how)
        .map_err(LaunchError::io("openat2(2)", task.blobs.display().to_string()))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let mut blobs = Vec::new();
    for layer in &task.layers {
        match openat2(&dir, layer.blob.hex().as_str(), how) {
            Ok(blob) => blobs.push(blob),
            Err(Errno::ENOENT) => return Err(Unready::Missing(layer.layer)),
            Err(error) => return Err(LaunchError::io("openat2(2)", layer.blob.to_string())(error).into()),
        }
    }
    let mut found = Vec::new();
    for (number, layer) in (0..).zip(layers) {
        xattrs(layer.as_fd(), number, &mut found)?;
    }
    let question =
        ContentsQuestion { version: CONTENTS_VERSION, compare: task.layers.clone(), xattrs: found };
    let text = serde_json::to_vec(&question)?;
    if text.len() as u64 > CONTENTS_QUESTION_BYTES_MAX {
        return Err(Unready::Failed("the layers have too many extended attributes".to_owned()));
    }
    let memfd = memfd_create("bulkhead-question", MFdFlags::MFD_CLOEXEC)
        .map_err(LaunchError::io("memfd_create(2)", "bulkhead-question"))?;
    let mut file = File::from(memfd);
    file.write_all(&text)?;
    std::io::Seek::rewind(&mut file)?;
    Ok((file.into(), blobs))
}

/// Returns only to say why not.
fn become_judge(
    task: &CompareTask,
    layers: &[OwnedFd],
    question: &OwnedFd,
    blobs: &[OwnedFd],
    output: &OwnedFd,
    group: &JudgeGroup,
    (host, server): (&Host, u32),
) -> LaunchError {
    let prepared = || -> Result<(CString, Vec<CString>, OwnedFd, OwnedFd), LaunchError> {
        let cgroup = host.cgroup(&group.cgroup);
        cgroup.create(&group.resources).map_err(|error| LaunchError::Failed(chain(&error)))?;
        worker::enter(&cgroup, server)?;
        let text =
            |bytes: &[u8]| CString::new(bytes).map_err(|_| LaunchError::Plan("a path holds a zero byte"));
        let program = text(task.program.as_os_str().as_bytes())?;
        let counts = [layers.len().to_string(), blobs.len().to_string()];
        let argv = ["bulkhead", "judge", "contents", &counts[0], &counts[1]];
        let argv = argv.iter().map(|argument| text(argument.as_bytes())).collect::<Result<_, _>>()?;
        let null =
            File::options().write(true).open("/dev/null").map_err(LaunchError::io("open(2)", "/dev/null"))?;
        // A second one: the first stays where it can be told why the judge did not start.
        let output = output.try_clone().map_err(LaunchError::io("dup(2)", "answer"))?;
        Ok((program, argv, null.into(), output))
    };
    let (program, argv, null, answers) = match prepared() {
        Ok(prepared) => prepared,
        Err(error) => return error,
    };
    let fds: Vec<BorrowedFd<'_>> = [question.as_fd(), answers.as_fd(), null.as_fd()]
        .into_iter()
        .chain(layers.iter().chain(blobs).map(AsFd::as_fd))
        .collect();
    if let Err(error) = sys::arrange(&fds) {
        return LaunchError::io("dup2(2)", "judge")(error);
    }
    let error = sys::execve(&program, &argv, &[]);
    // What was owned by number is gone: the answer's place is stdout now, and no destructor may run.
    let line = ContentsLine::Failed(format!("execve(2) {}: {error}", task.program.display()));
    if let Ok(mut text) = serde_json::to_vec(&line) {
        text.push(b'\n');
        if std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()).is_err() {
            sys::exit_now(1);
        }
    }
    sys::exit_now(0)
}

fn say(output: OwnedFd, line: &impl Serialize) -> Result<(), LaunchError> {
    let mut text = serde_json::to_vec(line).map_err(LaunchError::Encode)?;
    text.push(b'\n');
    File::from(output).write_all(&text).map_err(LaunchError::io("write(2)", "answer"))
}
