//! Calls that a container is denied: answered with their errno, and told. Beside them, how it ended, if badly.
//!
//! ```text
//! denied call ─► listener ─► errno of the program that denied it ─► the process goes on
//!                              └► row: program, call, errno, value that was denied, how often, last pid and arguments
//!                                  └► a file, once a second
//!                                  └► a new row ─► an event of containerd's (`denied/event.rs`)
//! ```
//! The process waits for the answer, so a flood waits: no more than [`BATCH`] answers in [`WINDOW_MS`] for each process
//! that was started. The rows of a container are few ([`ROWS_MAX`]), and so are its events; what has no room is counted.
//!
//! Invariant: no call is let through here. A listener that nobody holds any more (this process is gone) is answered by the
//! kernel with ENOSYS.

mod event;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bulkhead_model::DENIED_ROWS_MAX as ROWS_MAX;
use bulkhead_model::{DeniedCall, DeniedFile, EndedBadly};
use bulkhead_profiles::{Call, narrowings, syscall_name, told_errno};
use tokio::{
    io::Interest,
    time::{Instant, sleep_until, timeout},
};

use self::event::News;
pub(crate) use self::event::Teller;
use crate::sys::{self, Told};

/// Answers in one window, for each process that was started and its children.
const BATCH: u32 = 20;

/// Length of a window, in milliseconds: 2,000 answers a second cost this process some hundredths of a core.
const WINDOW_MS: u64 = 10;

/// How often the file is written at most.
const WRITE_MS: u64 = 1_000;

/// Files kept of one namespace: those of containers that are gone go first.
const FILES_MAX: usize = 256;

/// What is denied that the program does not say: its listener is another's.
const ENOSYS: u16 = 38;

/// What one container was denied.
pub(crate) struct Denied {
    file: PathBuf,
    /// Directories of the containers of its namespace that live, on whatever server.
    tasks: PathBuf,
    rows: Mutex<Rows>,
}

/// Program, number of the call, errno, and the values that a profile compares: one that it denies is not to hide behind another.
type Kind = (String, u32, u16, Vec<u32>);

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Kind, DeniedCall>,
    more: u64,
    ended: Option<EndedBadly>,
    changed: bool,
}

impl Denied {
    /// Nothing yet, of the container with that directory.
    pub(crate) fn new(file: PathBuf, task_dir: &Path) -> Self {
        let tasks = task_dir.parent().unwrap_or(task_dir).to_owned();
        Self { file, tasks, rows: Mutex::default() }
    }

    /// Answers what comes from `listener` until its last process is gone. `program` is the one that it belongs to.
    pub(crate) fn serve(self: &Arc<Self>, listener: OwnedFd, program: Vec<u64>, teller: Teller) {
        let denied = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = denied.answer(listener, &program, &teller).await {
                tracing::warn!(%error, file = %denied.file.display(), "denied calls are told no more");
            }
            denied.write();
        });
    }

    /// Writes down how the container ended and what it could do where: for whoever asks why.
    pub(crate) fn ended_badly(&self, ended: EndedBadly) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.ended = Some(ended);
        rows.changed = true;
        drop(rows);
        self.write();
    }

    async fn answer(&self, listener: OwnedFd, program: &[u64], teller: &Teller) -> io::Result<()> {
        let listener = sys::watch(fs::File::from(listener), Interest::READABLE)?;
        let (mut window, mut answers) = (Instant::now(), 0);
        let mut written = Instant::now();
        loop {
            match sys::told_ready(listener.get_ref())? {
                Told::Gone => return Ok(()),
                Told::Nothing => {
                    let ready = timeout(Duration::from_millis(WRITE_MS), listener.readable()).await;
                    if let Ok(ready) = ready {
                        ready?.clear_ready();
                    }
                }
                Told::Call => {
                    if let Some((id, pid, call)) = sys::told_receive(listener.get_ref())? {
                        let errno = told_errno(program, &call).unwrap_or(ENOSYS);
                        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                        sys::told_answer(listener.get_ref(), id, errno)?;
                        if let Some(news) = self.note(comm.trim_end(), pid, &call, errno) {
                            teller.tell(&news);
                        }
                        answers += 1;
                    }
                }
            }
            if answers >= BATCH {
                sleep_until(window + Duration::from_millis(WINDOW_MS)).await;
                (window, answers) = (Instant::now(), 0);
            }
            if written.elapsed() >= Duration::from_millis(WRITE_MS) {
                self.write();
                written = Instant::now();
            }
        }
    }

    /// What nobody was told yet, if it is.
    fn note(&self, program: &str, pid: u32, call: &Call, errno: u16) -> Option<News> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let program: String = program.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.changed = true;
        let syscall = syscall_name(call.number).map_or_else(|| format!("#{}", call.number), str::to_owned);
        let key = (program, call.number, errno, compared(&syscall, errno, &call.args));
        if let Some(row) = rows.rows.get_mut(&key) {
            row.count += 1;
            (row.pid, row.args, row.last_unix) = (pid, call.args, now);
            return None;
        }
        if rows.rows.len() >= ROWS_MAX {
            rows.more += 1;
            return (rows.more == 1).then_some(News::NoRoom);
        }
        tracing::warn!(program = key.0, syscall, pid, errno, "a call is denied");
        let row = DeniedCall {
            program: key.0.clone(),
            syscall,
            args: call.args,
            errno,
            pid,
            count: 1,
            first_unix: now,
            last_unix: now,
        };
        rows.rows.insert(key, row.clone());
        Some(News::Call(row))
    }

    fn write(&self) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if !rows.changed {
            return;
        }
        rows.changed = false;
        let calls = rows.rows.values().cloned().collect();
        let file = DeniedFile { calls, more: rows.more, ended: rows.ended.clone() };
        drop(rows);
        if let Err(error) = write_whole(&self.file, &file, &self.tasks) {
            // Tried again with the next.
            self.rows.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
            tracing::warn!(%error, file = %self.file.display(), "what was denied is not written down");
        }
    }
}

/// What a profile compares of such a call, if that is what it answers so.
fn compared(syscall: &str, errno: u16, args: &[u64; 6]) -> Vec<u32> {
    let known = narrowings().iter().filter(|known| known.syscall == syscall && known.errno == errno);
    // The kernel reads the lower half of these.
    known.map(|known| args[usize::from(known.arg)] as u32 & known.mask).collect()
}

fn write_whole(path: &Path, file: &DeniedFile, tasks: &Path) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    if !path.exists() {
        make_room(dir, tasks)?;
    }
    let beside = path.with_extension("tmp");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    out.write_all(&serde_json::to_vec(file)?)?;
    fs::rename(&beside, path)
}

/// Removes the oldest files of containers that are gone. Other servers write and remove here, too.
fn make_room(dir: &Path, tasks: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // What is being written is named otherwise.
        if path.extension().is_none_or(|kind| kind != "json") {
            continue;
        }
        match fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            modified => files.push((modified?, path)),
        }
    }
    files.sort();
    let lives = |path: &Path| path.file_stem().is_none_or(|id| tasks.join(id).exists());
    let too_many = (files.len() + 1).saturating_sub(FILES_MAX);
    for (_, path) in files.iter().filter(|(_, path)| !lives(path)).take(too_many) {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
