//! `bulkhead judge profile`: works a profile out and keeps it. Two processes:
//!
//! ```text
//! keeper   root: mounts the layers as the container will see them, read-only, in a mount namespace of its own; reads and
//!  │       writes the store; parses nothing that came from the image
//!  └ child own uid, Landlock: reading below that root, seccomp, limits: parses the image's files (`generator/child.rs`)
//! ```
//! The child's words are bounded, its calls are names of the baseline or dropped, and its rules are paths below the root. A
//! child that dies gives a profile that is the baseline's, with the reason, for ten minutes. What it can gain at most is a profile as wide as the baseline, for
//! its own image, and for files of other images that it has never seen the same as: their analysis is shared by hash.
//!
//! Invariant: one child at a time on a node: its memory is bounded once.

mod child;
mod hear;

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File},
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt as _, net::UnixStream, process::ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use bulkhead_containerd::{Lock, keep_analysis_small, keep_profile, stored_profile, try_lock};
use bulkhead_generate::{Cache, DirectoryCache, NoCache};
use bulkhead_layers::mount_images;
use bulkhead_model::{
    CallArguments, Digest, FileRules, Layout, PROFILE_VERSION, ProfileQuestion, ProfileTask, StoredProfile,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
};
use serde::{Deserialize, Serialize};

use crate::answer::Trouble;

pub(crate) use child::child_main;

/// Longest question, in bytes.
const QUESTION_BYTES_MAX: u64 = 8 << 20;

/// Longest line of a child, in bytes.
const LINE_BYTES_MAX: u64 = 128 << 10;

/// Longest reasons of a profile, in bytes.
const REASONS_BYTES_MAX: u64 = 8 << 20;

/// How long a keeper waits for the one that is at work: that one may be about to end. The next launch starts another.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a person waits for that.
const PERSON_WAITS_MAX: Duration = Duration::from_secs(60);

/// How long a child that said nothing may take to end. One that is killed for its memory has that to give back first.
const ENDS_MAX: Duration = Duration::from_secs(10);

/// What a child says, a line each; bytes follow where it says how many.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Line {
    /// It wants the analysis of a file, by its hash: answered with its length as 8 bytes, and the bytes; all ones if there
    /// is none.
    Get(String),
    /// It has made one.
    Put { hash: String, bytes: u64 },
    /// The end: the calls, values of their arguments, and why they are the baseline's; rules for files, and why there are none; the reasons follow.
    Profile {
        calls: BTreeSet<String>,
        arguments: CallArguments,
        widened: Option<String>,
        files: FileRules,
        files_widened: Option<String>,
        bytes: u64,
    },
    /// The end: the machine broke.
    Failed(String),
}

/// Length that stands for none.
pub(crate) const NONE: u64 = u64::MAX;

/// The keeper, as it is started by a worker: the task is its input, and nobody reads what it says.
#[must_use]
pub(crate) fn keeper_main() -> ExitCode {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(QUESTION_BYTES_MAX).read_to_end(&mut text);
    let task = read.ok().and_then(|_| serde_json::from_slice::<ProfileTask>(&text).ok());
    let Some(ProfileTask { program: _, root, question }) = task else { return ExitCode::from(2) };
    match keep(&Layout::below(root), &question) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("failed: {}", crate::answer::full(&trouble));
            ExitCode::from(3)
        }
    }
}

/// Works the profile of `question` out and keeps it, unless it is kept already or somebody else is at it.
pub(crate) fn keep(layout: &Layout, question: &ProfileQuestion) -> Result<(), Trouble> {
    let key =
        question.key().ok_or(Trouble::Kernel("hash the question", io::ErrorKind::InvalidData.into()))?;
    let Some(_mine) = try_lock(&layout.judge_lock(&key))? else { return Ok(()) };
    let Some(only) = only(layout, WAIT_MAX)? else { return Ok(()) };
    keep_locked(layout, question, key, &only)
}

/// Works the profile of `question` out for a person: by the same child as for a launch. Nothing is kept but the analysis of
/// ELF files, and that only with `keep_analysis`. Without reasons of that many bytes there is nothing to show.
pub(crate) fn show(
    layout: &Layout,
    question: &ProfileQuestion,
    keep_analysis: bool,
) -> Result<(StoredProfile, Vec<u8>), Trouble> {
    let key =
        question.key().ok_or(Trouble::Kernel("hash the question", io::ErrorKind::InvalidData.into()))?;
    let busy = || {
        Trouble::Kernel("wait for another profile that is being worked out", io::ErrorKind::TimedOut.into())
    };
    let only = only(layout, PERSON_WAITS_MAX)?.ok_or_else(busy)?;
    let worked = if keep_analysis {
        let directory = layout.analysis_dir();
        let cache = DirectoryCache::open(&directory).map_err(|source| Trouble::File {
            call: "mkdir(2)",
            path: directory,
            source,
        })?;
        work_out(layout, question, &cache, &only)
    } else {
        work_out(layout, question, &NoCache, &only)
    };
    let hear::Worked { calls, arguments, widened, files, files_widened, reasons } =
        worked.map_err(|error| Trouble::Kernel("work the profile out", error))?;
    if keep_analysis {
        keep_analysis_small(layout)?;
    }
    let version = PROFILE_VERSION;
    let stored =
        StoredProfile { version, key, calls, arguments, widened, files, files_widened, passing: false };
    Ok((stored, reasons))
}

/// The lock of the only keeper of the node, unless another has it for longer than `wait`.
fn only(layout: &Layout, wait: Duration) -> Result<Option<Lock>, Trouble> {
    let path = layout.judge_dir().join("generator.lock");
    let until = Instant::now() + wait;
    loop {
        if let Some(lock) = try_lock(&path)? {
            return Ok(Some(lock));
        }
        if Instant::now() > until {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn keep_locked(layout: &Layout, question: &ProfileQuestion, key: Digest, only: &Lock) -> Result<(), Trouble> {
    if stored_profile(layout, &key)?.is_some() {
        return Ok(());
    }
    let cache = DirectoryCache::open(&layout.analysis_dir());
    let (stored, reasons) = match cache.and_then(|cache| work_out(layout, question, &cache, only)) {
        Ok(hear::Worked { calls, arguments, widened, files, files_widened, reasons }) => {
            let (version, passing) = (PROFILE_VERSION, false);
            let stored =
                StoredProfile { version, key, calls, arguments, widened, files, files_widened, passing };
            (stored, reasons)
        }
        Err(error) => (failed(key, format!("the generator failed: {error}")), Vec::new()),
    };
    keep_profile(layout, &stored, &reasons)?;
    Ok(keep_analysis_small(layout)?)
}

/// What is kept of a failure: no narrower than the baseline, for some minutes.
fn failed(key: Digest, why: String) -> StoredProfile {
    StoredProfile {
        version: PROFILE_VERSION,
        key,
        calls: baseline_calls(),
        arguments: CallArguments::new(),
        widened: Some(why.clone()),
        files: FileRules::default(),
        files_widened: Some(why),
        passing: true,
    }
}

/// Names of all calls that the baseline allows.
pub(crate) fn baseline_calls() -> BTreeSet<String> {
    let allowed = bulkhead_profiles::rows().iter().filter(|row| row.then.runs() && !row.needs_memfd);
    allowed.map(|row| row.syscall.to_owned()).collect()
}

fn work_out(
    layout: &Layout,
    question: &ProfileQuestion,
    cache: &impl Cache,
    only: &Lock,
) -> io::Result<hear::Worked> {
    let root = root_of(layout, &question.layers)?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new("/proc/self/exe")
        .args(["judge", "profile", "child"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(root))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        // It is the only one for as long as it lives, even if this process does not. No file can grow there.
        .stderr(Stdio::from(only.file()?))
        .spawn()?;
    let heard = hear::hear(ours, question, cache, Instant::now() + hear::TIME_MAX);
    let Err(error) = heard else {
        child.wait()?;
        return heard;
    };
    // What has closed its end is about to end; anything else may still be at work.
    let ended = if error.kind() == io::ErrorKind::UnexpectedEof { ended(&mut child)? } else { None };
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Err(match ended {
        Some(status) if status.signal() == Some(Signal::SIGKILL as i32) => io::Error::other(
            "it was killed, as it is where it needs more memory than a generator is given (1 GiB)",
        ),
        Some(status) => io::Error::other(format!("{error} ({status})")),
        None => error,
    })
}

/// How a child ended, if it does within [`ENDS_MAX`].
fn ended(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let until = Instant::now() + ENDS_MAX;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() > until {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The root that the layers make, read-only: one layer's directory, or an overlay, in a mount namespace of this process.
fn root_of(layout: &Layout, layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let (Some(top), Some(above)) = (layers.last(), layers.first().and_then(|layer| common(layer, layers)))
    else {
        return Err(io::Error::other("an image without layers"));
    };
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // As a container sees them: of the EROFS snapshotter the images themselves.
    mount_images(layers).map_err(io::Error::other)?;
    if layers.len() == 1 {
        return Ok(File::open(top)?.into());
    }
    let at = layout.run_dir().join("generator");
    DirBuilder::new().recursive(true).mode(0o700).create(&at)?;
    // Names from here on: a page of options has room for some 500 layers then.
    std::env::set_current_dir(&above)?;
    let mut options = "lowerdir=".to_owned();
    for (number, layer) in layers.iter().rev().enumerate() {
        let name = layer.strip_prefix(&above).map_err(io::Error::other)?.to_string_lossy().into_owned();
        if name.contains([':', ',', '\\']) {
            return Err(io::Error::other(format!("a layer's directory is called {name:?}")));
        }
        options.push_str(if number == 0 { "" } else { ":" });
        options.push_str(&name);
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("overlay"), &at, Some("overlay"), flags, Some(options.as_str()))?;
    std::env::set_current_dir("/")?;
    Ok(File::open(&at)?.into())
}

/// The directory that all of `layers` are below.
fn common(first: &Path, layers: &[PathBuf]) -> Option<PathBuf> {
    first
        .ancestors()
        .skip(1)
        .find(|above| layers.iter().all(|layer| layer.starts_with(above)))
        .map(Path::to_owned)
}
