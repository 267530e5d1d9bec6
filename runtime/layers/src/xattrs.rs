//! Extended attributes of a layer's files, for who may see all of them: `trusted.` ones are hidden from everybody
//! without CAP_SYS_ADMIN.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use bulkhead_model::{FileXattr, Hex};
use rustix::{
    fs::{lgetxattr, llistxattr},
    io::Errno,
};

use crate::{LayerError, walk};

/// Longest list of names and longest value, in bytes.
///
/// Source: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`, include/uapi/linux/limits.h.
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// Most bytes that all attributes of an image may have: a tenth of what a question may hold, in hexadecimal.
const ALL_BYTES_MAX: usize = 3 << 20;

/// All attributes below the layer, but for labels of security modules, which are the node's.
///
/// # Errors
/// What could not be read.
pub fn xattrs(layer: BorrowedFd<'_>, number: u32, found: &mut Vec<FileXattr>) -> Result<(), LayerError> {
    let mut buffer = vec![0; XATTR_BYTES_MAX];
    let mut bytes: usize = found.iter().map(weight).sum();
    walk(layer, &mut |dir, path, _| {
        let failed = |call| move |errno| LayerError::Call { call, path: path.to_owned(), errno };
        // There is no call that takes a directory and a name; the descriptor's link leads to the directory itself.
        let below = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        let at = below.join(path.file_name().map_or(Path::new("."), Path::new));
        let length = match llistxattr(&at, &mut buffer) {
            Ok(length) => length,
            // A file system without attributes.
            Err(Errno::OPNOTSUPP) => 0,
            Err(errno) => return Err(failed("llistxattr(2)")(errno)),
        };
        if length == 0 {
            return Ok(());
        }
        let names: Vec<Vec<u8>> = buffer[..length].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        let counts =
            |name: &&Vec<u8>| !name.starts_with(b"security.") || name.as_slice() == b"security.capability";
        for name in names.iter().filter(|name| !name.is_empty()).filter(counts) {
            let key = CString::new(name.as_slice()).map_err(|_| failed("llistxattr(2)")(Errno::INVAL))?;
            let length = lgetxattr(&at, &key, &mut buffer).map_err(failed("lgetxattr(2)"))?;
            let xattr = FileXattr {
                layer: number,
                path: Hex(path.as_os_str().as_bytes().to_vec()),
                name: Hex(name.clone()),
                value: Hex(buffer[..length].to_vec()),
            };
            bytes += weight(&xattr);
            if bytes > ALL_BYTES_MAX {
                let why = "its files have more than 3 MiB of extended attributes";
                return Err(LayerError::Foreign { path: PathBuf::from("/"), why });
            }
            found.push(xattr);
        }
        Ok(())
    })
}

/// With what JSON adds.
fn weight(xattr: &FileXattr) -> usize {
    let FileXattr { layer: _, path, name, value } = xattr;
    path.0.len() + name.0.len() + value.0.len() + 40
}
