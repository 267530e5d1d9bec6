//! TIOCSTI types into a terminal that somebody else reads: exec sessions among them.
//!
//! Source: CVE-2017-5226, CVE-2023-28339, ioctl_tty(2).

use crate::{
    Stop, Technique,
    sys::{self, call},
};
use std::{fs::OpenOptions, os::fd::AsRawFd as _};

pub(crate) const THIS: Technique =
    Technique { source: "CVE-2017-5226", tries: "TIOCSTI on a terminal of its own", attempt, alone: false };

fn attempt() -> Result<String, Stop> {
    let primary =
        OpenOptions::new().read(true).write(true).open("/dev/ptmx").map_err(Stop::at("/dev/ptmx"))?;
    let (fd, mut number, unlock) = (i64::from(primary.as_raw_fd()), 0i32, 0i32);
    call("TIOCSPTLCK", libc::SYS_ioctl, [fd, libc::TIOCSPTLCK as i64, &raw const unlock as i64, 0, 0, 0])?;
    call("TIOCGPTN", libc::SYS_ioctl, [fd, libc::TIOCGPTN as i64, &raw mut number as i64, 0, 0, 0])?;
    // A session leader that opens a terminal gets it as its controlling one.
    let child = sys::fork().map_err(Stop::at("fork"))?;
    if child == 0 {
        sys::exit(push(number));
    }
    match sys::wait(child) >> 8 {
        0 => Ok("a character was typed by TIOCSTI".to_owned()),
        errno => Err(Stop::at("TIOCSTI")(std::io::Error::from_raw_os_error(errno))),
    }
}

/// 0, or the errno.
fn push(number: i32) -> i32 {
    let typed = (|| {
        // The child leads a process group: a new session wants one that does not.
        let path = format!("/dev/pts/{number}");
        let inner = sys::fork()?;
        if inner != 0 {
            return Ok(sys::wait(inner) >> 8);
        }
        sys::leave_group();
        sys::raw(libc::SYS_setsid, [0; 6])?;
        let secondary = OpenOptions::new().read(true).write(true).open(path)?;
        let character = b'x';
        let at =
            [i64::from(secondary.as_raw_fd()), libc::TIOCSTI as i64, &raw const character as i64, 0, 0, 0];
        sys::exit(sys::raw(libc::SYS_ioctl, at).err().and_then(|error| error.raw_os_error()).unwrap_or(0))
    })();
    typed.unwrap_or_else(|error: std::io::Error| error.raw_os_error().unwrap_or(255))
}
