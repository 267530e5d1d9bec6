//! The judge of contents as a process: a question on stdin, directories and blobs as descriptors, lines on stdout.
//!
//! ```text
//! bulkhead judge contents LAYERS BLOBS    0 the question, in a memfd · 1 lines · 3… the layers' directories, lowest first,
//!                                     then the blobs, in the order of the question
//! bulkhead judge layers                  0 a job: it opens what it names itself, then goes on as above
//! judge → {"same":3}  {"different":{"layer":4,…}}  …  {"done":null} | {"failed":"…"}
//! ```
//! Invariant: not a byte of stdin, of a directory or of a blob is read before the process has locked itself down.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bulkhead_layers::{Comparison, prepare_comparison, walk_layers};
use bulkhead_model::{
    CONTENTS_QUESTION_BYTES_MAX, CONTENTS_VERSION, ContentsLine, ContentsQuestion, IMAGE_LAYERS_MAX,
    LayerQuestion, LayersJob, LayersTask,
};
use serde::Serialize;

use super::{Compared, LayerToCompare, LayerXattrs, compare};
use crate::lockdown::{self, Handed};

/// Most layers that are compared at a time.
const LANES_MAX: usize = 4;

/// Longest job, in bytes: the paths of at most 127 layers.
const JOB_BYTES_MAX: u64 = 1 << 20;

/// Longest text of a line, in characters.
const TEXT_CHARS_MAX: usize = 300;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum ContentsError {
    #[error("bulkhead judge contents takes two numbers, 1 to {IMAGE_LAYERS_MAX}: it is started by the shim")]
    Usage,
    #[error(transparent)]
    LockDown(#[from] lockdown::LockdownError),
    #[error("read(2) of the question")]
    Read(#[source] io::Error),
    #[error("the question makes no sense: {0}")]
    Question(String),
    #[error("write(2) to stdout")]
    Write(#[source] io::Error),
}

/// `bulkhead judge contents LAYERS BLOBS`. 0: an answer was given; 3: none could be.
#[must_use]
pub fn contents_main(layers: &str, blobs: &str) -> ExitCode {
    let output = Mutex::new(io::stdout());
    end(&output, run(layers, blobs, &output))
}

/// `bulkhead judge layers`: a job on stdin, from `bulkhead watch`, which has no worker. It is walked, or layers and
/// blobs are opened here and the process locks itself down to them before it reads a byte of any.
#[must_use]
pub fn layers_main() -> ExitCode {
    let output = Mutex::new(io::stdout());
    let lanes = lanes();
    let LayersJob { dirs, own, task } = match job() {
        Ok(job) => job,
        Err(error) => return end(&output, Err(error)),
    };
    let task = match task {
        LayersTask::Walk => {
            let said = say(&output, &walk_layers(&dirs, own.as_deref()));
            return if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(3) };
        }
        LayersTask::Compare(task) => task,
        // The generator is a program of its own; this one reads no ELF file.
        LayersTask::Profile(_) => {
            let why = ContentsError::Question("it asks for a profile".to_owned());
            return end(&output, Err(why));
        }
        // No judge reaches the network.
        LayersTask::Fetch(_) => {
            let why = ContentsError::Question("it asks for signatures".to_owned());
            return end(&output, Err(why));
        }
    };
    let Comparison { question, layers, blobs } = match prepare_comparison(&dirs, &task) {
        Ok(comparison) => comparison,
        Err(line) => return if say(&output, &line).is_ok() { ExitCode::SUCCESS } else { ExitCode::from(3) },
    };
    let compared = lockdown::lock_down_holding(Handed { dirs: layers, blobs })
        .map_err(ContentsError::from)
        .and_then(|handed| compare_all(&question, handed, lanes, &output));
    end(&output, compared)
}

fn job() -> Result<LayersJob, ContentsError> {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(JOB_BYTES_MAX).read_to_end(&mut text);
    read.map_err(ContentsError::Read)?;
    serde_json::from_slice(&text).map_err(|error| ContentsError::Question(error.to_string()))
}

fn end(output: &Mutex<io::Stdout>, result: Result<(), ContentsError>) -> ExitCode {
    let last = match result {
        Ok(()) => ContentsLine::Done,
        Err(error) => ContentsLine::Failed(crate::process::full(&error)),
    };
    match say(output, &last) {
        Ok(()) if last == ContentsLine::Done => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::from(3),
    }
}

fn run(layers: &str, blobs: &str, output: &Mutex<io::Stdout>) -> Result<(), ContentsError> {
    let number = |text: &str| text.parse().ok().filter(|count| (1..=IMAGE_LAYERS_MAX).contains(count));
    let (Some(layers), Some(blobs)) = (number(layers), number(blobs)) else {
        return Err(ContentsError::Usage);
    };
    let lanes = lanes();
    let handed = lockdown::lock_down_to(layers, blobs)?;
    let question = question(handed.dirs.len(), handed.blobs.len())?;
    compare_all(&question, handed, lanes, output)
}

/// How many layers are compared at a time. Asked before the lockdown, which ends reading of it.
fn lanes() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(LANES_MAX))
}

fn compare_all(
    question: &ContentsQuestion,
    handed: Handed,
    lanes: usize,
    output: &Mutex<io::Stdout>,
) -> Result<(), ContentsError> {
    let Handed { dirs, blobs } = handed;
    let xattrs = xattrs(question, dirs.len())?;
    let blobs: Vec<File> = blobs.into_iter().map(File::from).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let lane = || -> Result<(), ContentsError> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let (Some(layer), Some(blob)) = (question.compare.get(index), blobs.get(index)) else {
                    return Ok(());
                };
                say(output, &one(layer, blob, &dirs, &xattrs))?;
            }
        };
        let others: Vec<_> = (1..lanes.min(blobs.len())).map(|_| scope.spawn(lane)).collect();
        let own = lane();
        others.into_iter().try_for_each(|other| {
            other.join().unwrap_or_else(|_| Err(ContentsError::Question("a lane panicked".to_owned())))
        })?;
        own
    })
}

fn one(question: &LayerQuestion, blob: &File, dirs: &[OwnedFd], xattrs: &[LayerXattrs]) -> ContentsLine {
    let LayerQuestion { layer, blob: digest, diff_id } = *question;
    let at = layer as usize;
    let (Some(dir), Some(own)) = (dirs.get(at), xattrs.get(at)) else {
        return ContentsLine::Failed(format!("there is no layer {layer}"));
    };
    let below: Vec<(BorrowedFd<'_>, &LayerXattrs)> =
        dirs.iter().map(AsFd::as_fd).zip(xattrs).take(at).rev().collect();
    match compare(&LayerToCompare { dir: dir.as_fd(), xattrs: own, below, blob, digest, diff_id }) {
        Ok(Compared::Same) => ContentsLine::Same(layer),
        Ok(Compared::Different { path, what }) => {
            ContentsLine::Different { layer, path: short(&path.to_string_lossy()), what: short(&what) }
        }
        Ok(Compared::Flaw(why)) => ContentsLine::Flaw { layer, why: short(&why) },
        Ok(Compared::Spoilt(found)) => ContentsLine::Spoilt { layer, found },
        Err(error) => ContentsLine::Failed(short(&crate::process::full(&error))),
    }
}

fn question(dirs: usize, blobs: usize) -> Result<ContentsQuestion, ContentsError> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .take(CONTENTS_QUESTION_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(ContentsError::Read)?;
    if text.len() as u64 > CONTENTS_QUESTION_BYTES_MAX {
        return Err(ContentsError::Question("it is too long".to_owned()));
    }
    let question: ContentsQuestion =
        serde_json::from_slice(&text).map_err(|error| ContentsError::Question(error.to_string()))?;
    let ContentsQuestion { version, compare, xattrs: _ } = &question;
    if *version != CONTENTS_VERSION {
        return Err(ContentsError::Question(format!("it has version {version}, not {CONTENTS_VERSION}")));
    }
    if compare.len() != blobs || compare.iter().any(|layer| layer.layer as usize >= dirs) {
        return Err(ContentsError::Question("layers and descriptors do not belong together".to_owned()));
    }
    Ok(question)
}

fn xattrs(question: &ContentsQuestion, dirs: usize) -> Result<Vec<LayerXattrs>, ContentsError> {
    let mut all = vec![LayerXattrs::new(); dirs];
    for xattr in &question.xattrs {
        let wrong = || ContentsError::Question("an extended attribute of no layer".to_owned());
        let layer = all.get_mut(xattr.layer as usize).ok_or_else(wrong)?;
        layer
            .entry(xattr.path.0.clone().into())
            .or_default()
            .insert(xattr.name.0.clone().into(), xattr.value.0.clone().into());
    }
    Ok(all)
}

fn say(output: &Mutex<io::Stdout>, line: &impl Serialize) -> Result<(), ContentsError> {
    let mut text = serde_json::to_vec(line).map_err(|error| ContentsError::Question(error.to_string()))?;
    text.push(b'\n');
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    output.write_all(&text).and_then(|()| output.flush()).map_err(ContentsError::Write)
}

/// Paths are an author's, and may be 4 KiB long.
fn short(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
