//! What a container wrote, and what it has mounted: asked of containerd and of the kernel. What they do not say is left out,
//! and the answer says so.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use bulkhead_containerd::{CALL_TIMEOUT, Containerd, Failure};
use bulkhead_model::{ContainerId, MountedPlace, Namespace};

use super::places::{TABLE_BYTES_MAX, of_mountinfo};
use crate::answer::Trouble;

/// Most bytes of an output that are read: its end.
const OUTPUT_BYTES_MAX: u64 = 256 << 10;

/// What is known of a container that CRI made, or that lives.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) output: Option<String>,
    pub(super) places: Option<Vec<MountedPlace>>,
}

/// Asks containerd where the container's log is and whether it lives.
pub(super) fn ask(socket: &Path, namespace: &Namespace, container: &ContainerId) -> Result<Known, Trouble> {
    let (log, pid) = crate::verify::event_loop()?.block_on(async {
        let containerd = Containerd::connect(socket, namespace, CALL_TIMEOUT).await?;
        let log = containerd.log_path(container).await?;
        Ok::<_, Failure>((log, containerd.pid(container).await?))
    })?;
    let output = match log {
        None => None,
        Some(path) => match file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            text => Some(without_prefixes(&text.map_err(|source| Trouble::File {
                call: "read(2)",
                path,
                source,
            })?)),
        },
    };
    Ok(Known { output, places: pid.and_then(places) })
}

/// The mounts of a process; it may have ended meanwhile.
fn places(pid: u32) -> Option<Vec<MountedPlace>> {
    let mut table = String::new();
    let file = File::open(format!("/proc/{pid}/mountinfo")).ok()?;
    file.take(TABLE_BYTES_MAX).read_to_string(&mut table).ok()?;
    Some(of_mountinfo(&table)).filter(|places| !places.is_empty())
}

/// The end of a file, or of standard input where it is called `-`.
pub(super) fn file(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    } else {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES_MAX)))?;
        file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines of a log as CRI writes them: time, stream, tag, text.
///
/// Source: Kubernetes, CRI logging format: `2016-10-06T00:17:09.669794202Z stdout F text`.
fn without_prefixes(log: &str) -> String {
    let text = |line: &'_ str| {
        let mut fields = line.splitn(4, ' ');
        let of_cri = fields.next().is_some_and(|time| time.contains('T'))
            && fields.next().is_some_and(|stream| matches!(stream, "stdout" | "stderr"))
            && fields.next().is_some_and(|tag| tag.starts_with(['F', 'P']));
        format!("{}\n", if of_cri { fields.next().unwrap_or_default() } else { line })
    };
    log.lines().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cris_log_lose_their_prefix_and_others_stay() {
        let log =
            "2026-11-21T05:00:00.0Z stderr F open /a: read-only file system\nplain line of four words\n";
        assert_eq!(without_prefixes(log), "open /a: read-only file system\nplain line of four words\n");
    }
}
