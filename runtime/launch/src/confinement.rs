//! `bulkhead_confine`, with its errors as text: they cross a socket next.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use bulkhead_confine::check_status as check;
use bulkhead_model::{ConfineSpec, MountRoots};

use crate::error::chain;

/// A confinement of which everything that can fail is done.
pub(crate) struct Prepared(bulkhead_confine::Prepared);

impl Prepared {
    pub(crate) fn new(spec: &ConfineSpec, roots: &MountRoots) -> Result<Self, String> {
        bulkhead_confine::Prepared::new(spec, roots).map(Self).map_err(|error| chain(&error))
    }

    pub(crate) fn take_pins(&mut self) -> Vec<OwnedFd> {
        self.0.take_pins()
    }

    pub(crate) fn enforce(
        self,
        hand_over: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<(), String> {
        self.0.enforce(hand_over).map_err(|error| chain(&error))
    }
}

/// What the server reads of the process, against what was planned.
pub(crate) fn check_status(status: &str, spec: &ConfineSpec) -> Result<(), String> {
    check(spec, status).map_err(|error| error.to_string())
}

/// The maps of its user namespace, against what was planned.
pub(crate) fn check_maps(uid_map: &str, gid_map: &str, spec: &ConfineSpec) -> Result<(), String> {
    bulkhead_confine::check_maps(spec, uid_map, gid_map).map_err(|error| error.to_string())
}
