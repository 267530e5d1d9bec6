//! Files that are made in the place of a container's root: where mounts are id-mapped, the node's root is nobody, and the
//! kernel lets it make nothing there.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::LaunchError;

/// For as long as it is there, what this process makes belongs to somebody else. It keeps its capabilities.
pub(crate) struct Owner {
    /// User and group of before.
    before: Option<(u32, u32)>,
}

impl Owner {
    /// Of that user and group of the node's; of this process's own if there is none.
    pub(crate) fn become_one(ids: Option<(u32, u32)>) -> Result<Self, LaunchError> {
        let Some(ids) = ids else { return Ok(Self { before: None }) };
        let owner = Self { before: Some(set(ids.0, ids.1)) };
        // A change from root takes the capabilities for files away.
        let all = caps::read(None, caps::CapSet::Permitted).map_err(|error| failed(&error))?;
        caps::set(None, caps::CapSet::Effective, &all).map_err(|error| failed(&error))?;
        // These calls tell of no failure.
        let nobody = u32::MAX;
        match (setfsuid(Uid::from_raw(nobody)).as_raw(), setfsgid(Gid::from_raw(nobody)).as_raw()) {
            found if found == ids => Ok(owner),
            _ => Err(LaunchError::Plan("setfsuid(2) or setfsgid(2) did nothing")),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some((uid, gid)) = self.before {
            set(uid, gid);
        }
    }
}

/// Says what they were.
fn set(uid: u32, gid: u32) -> (u32, u32) {
    let gid = setfsgid(Gid::from_raw(gid));
    (setfsuid(Uid::from_raw(uid)).as_raw(), gid.as_raw())
}

fn failed(error: &caps::errors::CapsError) -> LaunchError {
    LaunchError::Failed(format!("capset(2): {error}"))
}
