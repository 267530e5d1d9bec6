//! Layers are opened here: the server, which has confined itself, reaches none of their directories.
//!
//! ```text
//! walk     open each layer ─► receipts ─► one line
//! compare  open layers and blobs, read extended attributes ─► descriptors in their places ─► execve(2) of the judge
//! profile  execve(2) of the generator, with the question as its input
//! fetch    execve(2) of the fetcher of signatures, likewise
//! ```
//! No image's bytes are read here: names, what stat(2) says of them, and extended attributes.

use std::{
    ffi::CString,
    fs::File,
    io::{Seek as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use bulkhead_cgroup::{CgroupError, Host};
use bulkhead_layers::{Comparison, prepare_comparison, walk_layers};
use bulkhead_model::{CONTENTS_QUESTION_BYTES_MAX, CompareTask, ContentsLine, LayersJob, LayersTask};
use nix::sys::memfd::{MFdFlags, memfd_create};
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
    match task {
        LayersTask::Walk => say(output, &walk_layers(&dirs, own.as_deref())),
        LayersTask::Compare(task) => {
            let group = group.ok_or(LaunchError::Plan("a judge without a control group"))?;
            let Comparison { question, layers, blobs } = match prepare_comparison(&dirs, &task) {
                Ok(prepared) => prepared,
                Err(line) => return say(output, &line),
            };
            let error = match question_file(&question) {
                Ok(question) => {
                    become_judge(&task, &layers, &question, &blobs, &output, &group, (host, server))
                }
                Err(error) => error,
            };
            say(output, &ContentsLine::Failed(chain(&error)))
        }
        LayersTask::Profile(task) => {
            let group = group.ok_or(LaunchError::Plan("a generator without a control group"))?;
            Err(become_helper((&task.program, "profile"), &task, &group, (host, server)))
        }
        LayersTask::Fetch(task) => {
            let group = group.ok_or(LaunchError::Plan("a fetcher without a control group"))?;
            Err(become_helper((&task.program, "fetch"), &task, &group, (host, server)))
        }
    }
}

/// The question as a file to read from its start.
fn question_file(question: &impl Serialize) -> Result<OwnedFd, LaunchError> {
    let text = serde_json::to_vec(question).map_err(LaunchError::Encode)?;
    if text.len() as u64 > CONTENTS_QUESTION_BYTES_MAX {
        return Err(LaunchError::Failed("the layers have too many extended attributes".to_owned()));
    }
    let memfd = memfd_create("bulkhead-question", MFdFlags::MFD_CLOEXEC)
        .map_err(LaunchError::io("memfd_create(2)", "bulkhead-question"))?;
    let mut file = File::from(memfd);
    file.write_all(&text)
        .and_then(|()| file.rewind())
        .map_err(LaunchError::io("write(2)", "bulkhead-question"))?;
    Ok(file.into())
}

/// `PROGRAM judge WORD` with the task for its input. Returns only to say why not. It outlives its server: what it works
/// out is for the next launch as well.
fn become_helper(
    (path, word): (&Path, &'static str),
    task: &impl Serialize,
    group: &JudgeGroup,
    (host, server): (&Host, u32),
) -> LaunchError {
    let start = || -> Result<(), LaunchError> {
        let cgroup = host.cgroup(&group.cgroup);
        let made = match cgroup.create(&group.resources) {
            // All of a kind share one group of the node, and so its limits.
            Err(CgroupError::Busy { .. }) => cgroup.update(&group.resources),
            made => made,
        };
        made.map_err(|error| LaunchError::Failed(chain(&error)))?;
        worker::enter(&cgroup, server)?;
        let text =
            |bytes: &[u8]| CString::new(bytes).map_err(|_| LaunchError::Plan("a path holds a zero byte"));
        let program = text(path.as_os_str().as_bytes())?;
        let argv = ["bulkhead", "judge", word].map(|word| text(word.as_bytes()));
        let argv = argv.into_iter().collect::<Result<Vec<_>, _>>()?;
        let question = question_file(task)?;
        let null =
            File::options().write(true).open("/dev/null").map_err(LaunchError::io("open(2)", "/dev/null"))?;
        sys::prctl(libc::PR_SET_PDEATHSIG, 0).map_err(LaunchError::io("prctl(2)", word))?;
        nix::unistd::setsid().map_err(LaunchError::io("setsid(2)", word))?;
        sys::arrange(&[question.as_fd(), null.as_fd(), null.as_fd()])
            .map_err(LaunchError::io("dup2(2)", word))?;
        Err(LaunchError::io("execve(2)", path.display().to_string())(sys::execve(&program, &argv, &[])))
    };
    match start() {
        Ok(()) => LaunchError::Plan("a helper that did not start"),
        Err(error) => error,
    }
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
