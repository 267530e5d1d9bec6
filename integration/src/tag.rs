//! A tag per daemon that everything it starts carries: found again after a panic, and counted.
//!
//! The tag is in the environment of the daemon and of every shim, in the ids of containers, in the names of control
//! groups and in the path of the daemon's directory. It holds the pid of the harness, so that a later run can tell
//! whose leftovers may go.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{HarnessError, Result, run::run};

/// The environment variable that carries the tag.
pub(crate) const VARIABLE: &str = "BULKHEAD_TEST_TAG";

/// Where directories of daemons are. Not below /tmp: Bulkhead takes no policy from where others can write.
const BASE: &str = "/var/lib/bulkhead-test";

/// How long what was killed may take to be gone, on a machine that does more.
const GONE: Duration = Duration::from_secs(60);

/// Whether a process is ours, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    /// In the environment or in the path of a control group.
    pub(crate) marks: String,
}

/// A tag that no other daemon of this machine has.
pub fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Of one width: names are looked for by their tag, and no tag may be the beginning of another.
    format!("bh{}x{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The directory of the daemon with this tag.
pub fn directory(tag: &str) -> PathBuf {
    Path::new(BASE).join(tag)
}

/// Every process whose environment or control group carries `tag`, but `except`.
pub(crate) fn processes(tag: &str, except: &[u32]) -> Vec<Process> {
    let in_environment = format!("{VARIABLE}={tag}\0");
    let own = std::process::id();
    pids()
        .filter(|pid| *pid != own && !except.contains(pid))
        .filter_map(|pid| {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            // A process that ended meanwhile is none.
            let environment = fs::read(proc.join("environ")).unwrap_or_default();
            let groups = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
            let marked = contains(&environment, in_environment.as_bytes()) || groups.contains(tag);
            if !marked || state(&proc) == Some('Z') {
                return None;
            }
            let name = fs::read_to_string(proc.join("comm")).unwrap_or_default().trim().to_owned();
            let marks = fs::read(proc.join("cmdline")).unwrap_or_default();
            let marks = String::from_utf8_lossy(&marks).replace('\0', " ").chars().take(120).collect();
            Some(Process { pid, name, marks })
        })
        .collect()
}

/// Control groups whose path has a directory named with `tag`, deepest first.
pub(crate) fn cgroups(tag: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), false)];
    while let Some((dir, marked)) = open.pop() {
        if marked {
            found.push(dir.clone());
        }
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let named = entry.file_name().to_string_lossy().contains(tag);
                open.push((entry.path(), marked || named));
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}

/// Ends every process of `tag` and removes its control groups and its directory.
pub fn clean(tag: &str) -> Result<()> {
    let deadline = Instant::now() + GONE;
    loop {
        let left = processes(tag, &[]);
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            let what = format!("the end of {left:?}");
            return Err(HarnessError::Timeout { what, within: GONE });
        }
        thaw(tag);
        let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
        // One that has just ended makes kill fail: the loop asks again.
        run(Command::new("/bin/kill").arg("-KILL").args(pids), GONE)?;
        thread::sleep(Duration::from_millis(20));
    }
    let dir = directory(tag);
    for mount in mounts_below(&dir) {
        run(Command::new("umount").arg("-l").arg(mount), GONE)?.success()?;
    }
    for group in cgroups(tag) {
        // A process that has just died is out of it a moment later.
        while let Err(error) = fs::remove_dir(&group) {
            if !group.exists() {
                break;
            }
            if Instant::now() > deadline {
                return Err(HarnessError::at("rmdir", group)(error));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    match fs::remove_dir_all(&dir) {
        Err(error) if dir.exists() => Err(HarnessError::at("remove", dir)(error)),
        _ => Ok(()),
    }
}

/// Removes what runs that died left behind: tags whose harness is gone.
pub fn sweep() -> Result<Vec<String>> {
    // One at a time: two tests that begin together would unmount and remove the same, and one of them fail.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut swept = Vec::new();
    for entry in fs::read_dir(BASE).into_iter().flatten().flatten() {
        let tag = entry.file_name().to_string_lossy().into_owned();
        let owner = tag.strip_prefix("bh").and_then(|rest| rest.split('x').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another program's test may be at the same: what is left then is no verdict on this one.
            match clean(&tag) {
                Ok(()) => swept.push(tag),
                Err(error) => eprintln!("harness: sweep {tag}: {error}"),
            }
        }
    }
    Ok(swept)
}

/// Mount points at or below `dir` in the harness's own mount namespace, deepest first.
pub(crate) fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    below.reverse();
    below
}

/// Frozen processes do not die on cgroup v1 until they are thawed.
fn thaw(tag: &str) {
    for group in cgroups(tag) {
        let (v1, v2) = (group.join("freezer.state"), group.join("cgroup.freeze"));
        for (file, word) in [(v1, "THAWED"), (v2, "0")] {
            if file.exists() && fs::write(&file, word).is_err() {
                eprintln!("harness: cannot thaw {}", file.display());
            }
        }
    }
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn state(proc: &Path) -> Option<char> {
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether the harness may do its work at all.
pub fn need_root() -> Result<()> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(HarnessError::at("read", "/proc/self/status"))?;
    if status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        return Ok(());
    }
    let what = format!("root ({} starts a containerd)", env::args().next().unwrap_or_default());
    Err(HarnessError::Missing { what, fix: "run it with sudo, or in a container of your own" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::Stdio;

    use super::*;

    #[test]
    fn no_tag_is_the_beginning_of_another() {
        let tags: Vec<String> = (0..30).map(|_| fresh()).collect();
        for tag in &tags {
            assert_eq!(tags.iter().filter(|other| other.contains(tag.as_str())).count(), 1, "{tag}");
        }
    }

    #[test]
    fn a_process_that_carries_the_tag_is_found_and_ended_and_another_is_not() {
        let (tag, other) = (fresh(), fresh());
        let start = |tag: &str| {
            let mut command = Command::new("sleep");
            command.arg("600").env(VARIABLE, tag).stdout(Stdio::null()).spawn().unwrap()
        };
        let (mut ours, mut theirs) = (start(&tag), start(&other));
        assert_eq!(processes(&tag, &[]).iter().map(|p| p.pid).collect::<Vec<_>>(), [ours.id()]);
        assert_eq!(processes(&tag, &[ours.id()]), []);
        clean(&tag).unwrap();
        assert!(!ours.wait().unwrap().success());
        assert_eq!(theirs.try_wait().unwrap(), None);
        theirs.kill().unwrap();
        theirs.wait().unwrap();
    }
}
