//! A setuid program of root, left where another container or the host finds it.
//!
//! Source: ATT&CK T1548.001.

use crate::{Stop, Technique, attempt};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

pub(crate) const THIS: Technique = Technique {
    source: "ATT&CK T1548.001",
    tries: "leave a setuid program owned by root in a volume",
    attempt,
    alone: false,
};

fn attempt() -> Result<String, Stop> {
    attempt::drop_copy("/data/setuid")?;
    let mode = std::fs::Permissions::from_mode(0o4755);
    let set = std::fs::set_permissions("/data/setuid", mode).map_err(Stop::at("chmod 4755"));
    let data = std::fs::metadata("/data/setuid").map_err(Stop::at("stat"));
    std::fs::remove_file("/data/setuid").map_err(Stop::at("unlink"))?;
    set?;
    let data = data?;
    match (data.mode() & 0o4000 != 0, data.uid()) {
        (true, 0) => Ok("a setuid program of root is in the volume".to_owned()),
        (true, user) => Err(Stop::because(format!("it belongs to {user}, not to root"))),
        (false, _) => Err(Stop::because("the bit was not set")),
    }
}
