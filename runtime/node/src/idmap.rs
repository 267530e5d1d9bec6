//! What this kernel mounts with other owners than the files have: tried on detached mounts, which nobody else sees.

use std::{
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    process::{Child, Command, Stdio},
};

use crate::sys;

/// What is tried: the file system that images are on, and memory.
pub(crate) const KINDS: [&str; 2] = ["/var/lib", "tmpfs"];

/// Which of [`KINDS`] can be id-mapped.
///
/// Source: mount_setattr(2), `MOUNT_ATTR_IDMAP`: Linux 5.12, file system by file system; tmpfs with 6.3.
pub(crate) fn possible() -> io::Result<Vec<&'static str>> {
    let namespace = UserNamespace::new()?;
    let mut found = Vec::new();
    for (kind, tree) in KINDS.into_iter().zip([sys::copy_of_mount(c"/var/lib")?, sys::tmpfs()?]) {
        match sys::id_map(tree.as_fd(), namespace.fd.as_fd()) {
            Ok(()) => found.push(kind),
            // The file system cannot, or the call is not there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// A user namespace with one id, held by a process that waits for the end of its input.
struct UserNamespace {
    fd: OwnedFd,
    holder: Child,
}

impl UserNamespace {
    fn new() -> io::Result<Self> {
        let mut command = Command::new("cat");
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut holder = sys::in_user_namespace(&mut command).spawn()?;
        let pid = holder.id();
        let opened = ["uid_map", "gid_map"]
            .into_iter()
            .try_for_each(|map| fs::write(format!("/proc/{pid}/{map}"), "0 65532 1"))
            .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")));
        match opened {
            Ok(file) => Ok(Self { fd: file.into(), holder }),
            Err(error) => {
                holder.kill()?;
                holder.wait()?;
                Err(error)
            }
        }
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        // It ends with its input at the latest, which this process holds; nothing is to be done about an error.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}
