//! An overlay mounted by an unprivileged user.
//!
//! Source: CVE-2023-0386, CVE-2023-2640 (GameOver(lay)).

use crate::{
    Stop, Technique,
    sys::{self, call},
};

pub(crate) const THIS: Technique = Technique {
    source: "CVE-2023-0386",
    tries: "mount an overlay in a user namespace of one's own",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    sys::become_root_in_a_user_namespace(libc::CLONE_NEWNS)?;
    let (kind, at) = (c"tmpfs".as_ptr() as i64, c"/tmp".as_ptr() as i64);
    call("mount tmpfs", libc::SYS_mount, [kind, at, kind, 0, 0, 0])?;
    for name in ["/tmp/u", "/tmp/w", "/tmp/m"] {
        std::fs::create_dir(name).map_err(Stop::at(name))?;
    }
    let (kind, at) = (c"overlay".as_ptr() as i64, c"/tmp/m".as_ptr() as i64);
    let options = c"lowerdir=/bin,upperdir=/tmp/u,workdir=/tmp/w".as_ptr() as i64;
    call("mount overlay", libc::SYS_mount, [kind, at, kind, 0, options, 0])?;
    Ok("overlay mounted over /bin".to_owned())
}
