//! A Landlock domain cannot be read back; a file outside of it can be tried.

use std::{fs::File, io, path::Path};

use crate::ConfineError;

/// Before Landlock: it opens, so that EACCES afterwards is Landlock's doing.
pub(crate) fn opens(path: &Path) -> Result<(), ConfineError> {
    match File::open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(ConfineError::CanaryMissing { path: path.to_owned(), source }),
    }
}

/// Under Landlock: EACCES, and nothing else.
pub(crate) fn is_out_of_reach(path: &Path) -> Result<(), ConfineError> {
    let found = match File::open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Ok(()),
        Err(error) => io::Error::to_string(&error),
        Ok(_) => "a file".to_owned(),
    };
    Err(ConfineError::CanaryReached { path: path.to_owned(), found })
}
