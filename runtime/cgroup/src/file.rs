//! The few system calls that control groups need, each with its file in the error.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
};

use crate::CgroupError;

/// Longest file that is read, in bytes: memory.stat has under 8 KiB, cgroup.procs 8 bytes for each process.
const FILE_BYTES_MAX: u64 = 4 << 20;

pub(crate) fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { call, path, source }
}

/// Opens a file for writes, each of which the kernel takes as one value.
pub(crate) fn open(path: &Path) -> Result<File, CgroupError> {
    OpenOptions::new().write(true).open(path).map_err(failed("open(2)", path))
}

/// One value to one file: three system calls.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    open(path)?.write_all(value.as_bytes()).map_err(failed("write(2)", path))
}

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(failed("read(2)", path))?;
    Ok(text)
}

/// Reads a file that some kernels or settings do not have.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, CgroupError> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        // EOPNOTSUPP: memory.kmem.* of newer kernels.
        Err(error) if error.is_not_found() || is(&error, nix::libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn is(error: &CgroupError, errno: i32) -> bool {
    matches!(error, CgroupError::Io { source, .. } if source.raw_os_error() == Some(errno))
}

pub(crate) fn number(path: &Path, text: &str) -> Result<u64, CgroupError> {
    text.trim().parse().map_err(|_| CgroupError::Parse {
        path: path.to_owned(),
        text: text.chars().take(80).collect(),
        wanted: "number",
    })
}

/// A number, `max` being the largest.
pub(crate) fn number_or_max(path: &Path, text: &str) -> Result<u64, CgroupError> {
    if text.trim() == "max" { Ok(u64::MAX) } else { number(path, text) }
}

pub(crate) fn read_number(path: &Path) -> Result<u64, CgroupError> {
    number(path, &read(path)?)
}

pub(crate) fn read_number_if_there(path: &Path) -> Result<Option<u64>, CgroupError> {
    read_if_there(path)?.map(|text| number_or_max(path, &text)).transpose()
}

/// Rows of `name value`.
pub(crate) fn rows(path: &Path, text: &str) -> Result<Vec<(String, u64)>, CgroupError> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| Ok((name.to_owned(), number(path, value)?)))
        .collect()
}

pub(crate) fn row(rows: &[(String, u64)], name: &str) -> Option<u64> {
    rows.iter().find(|(row, _)| row == name).map(|(_, value)| *value)
}
