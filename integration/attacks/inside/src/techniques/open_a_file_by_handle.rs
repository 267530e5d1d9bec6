//! open_by_handle_at reaches every file of the file system, whatever is mounted where.
//!
//! Source: Shocker (2014), CAP_DAC_READ_SEARCH.

use crate::{Stop, Technique, sys::call};

pub(crate) const THIS: Technique = Technique {
    source: "Shocker, 2014",
    tries: "open_by_handle_at of a file's inode",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // struct file_handle with room for 128 bytes: a file of the volume stands for any.
    let mut handle = [0u8; 136];
    handle[0] = 128;
    let (at, path, mut mount) = (i64::from(libc::AT_FDCWD), c"/data".as_ptr() as i64, 0i32);
    let (handle, mount) = (handle.as_mut_ptr() as i64, &raw mut mount as i64);
    call("name_to_handle_at", libc::SYS_name_to_handle_at, [at, path, handle, mount, 0, 0])?;
    let below = call("open /data", libc::SYS_open, [path, 0, 0, 0, 0, 0])?;
    call("open_by_handle_at", libc::SYS_open_by_handle_at, [below, handle, 0, 0, 0, 0])?;
    Ok("a file opened by its inode number".to_owned())
}
