//! A user namespace by clone3, whose flags no seccomp filter can see.
//!
//! Source: clone(2); moby#42680.

use crate::{
    Stop, Technique,
    sys::{self, call},
};

pub(crate) const THIS: Technique = Technique {
    source: "clone3(2), moby#42680",
    tries: "clone3(CLONE_NEWUSER), whose flags are behind a pointer",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls.
    let arguments: [u64; 8] = [libc::CLONE_NEWUSER as u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    let size = size_of_val(&arguments) as i64;
    let child = call("clone3", libc::SYS_clone3, [arguments.as_ptr() as i64, size, 0, 0, 0, 0])?;
    if child == 0 {
        sys::exit(0);
    }
    sys::wait(child as i32);
    Ok("a child in a user namespace of its own".to_owned())
}
