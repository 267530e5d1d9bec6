//! Asks the kernel to load a module.
//!
//! Source: init_module(2).

use crate::{Stop, Technique, sys};

pub(crate) const THIS: Technique = Technique {
    source: "init_module(2)",
    tries: "init_module with bytes that are none",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    let bytes = [0u8; 64];
    match sys::raw(libc::SYS_init_module, [bytes.as_ptr() as i64, 64, c"".as_ptr() as i64, 0, 0, 0]) {
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            Ok("the module loader read our bytes".to_owned())
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Err(Stop::absent("modules", &error)),
        Err(error) => Err(Stop::at("init_module")(error)),
        Ok(_) => Ok("a module is loaded".to_owned()),
    }
}
