//! The compatible level: what the request asks for, in runc's order, and the kernel asked back.
//!
//! ```text
//! no_new_privs asked for:   no_new_privs ─► capabilities ─► seccomp ─► status ─► Ok
//! not asked for:            seccomp (needs CAP_SYS_ADMIN) ─► capabilities ─► status ─► Ok
//! ```
//! Until [`Prepared::enforce`](crate::Prepared::enforce) the process holds no more than it was asked to have and what
//! the steps above need.
//!
//! Source: `Init` of linuxStandardInit, runc libcontainer/standard_init_linux.go.

use bulkhead_model::{CapabilitySets, CompatibleSpec, SeccompFilter};
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use seccompiler::BpfProgram;

use crate::{
    ConfineError, Difference,
    prepared::{no_new_privs, open_status, read_status},
    seccomp, status, sys,
};

/// A compatible confinement, prepared.
#[derive(Debug)]
pub struct Compatible {
    spec: CompatibleSpec,
    program: Option<BpfProgram>,
}

impl Compatible {
    pub(crate) fn new(spec: &CompatibleSpec) -> Result<Self, ConfineError> {
        let program = match &spec.seccomp {
            Some(filter) => seccomp::unpack(std::slice::from_ref(&filter.program))?.pop(),
            None => None,
        };
        // The rest goes at the gate already, where other processes of a shared namespace may see this one.
        let wanted = spec.capabilities;
        let held = bits(CapSet::Permitted)?;
        let needed = if spec.no_new_privileges || program.is_none() { SETPCAP } else { SETPCAP | SYS_ADMIN };
        let missing = (wanted.permitted | wanted.effective) & !held;
        if missing != 0 {
            return Err(Difference::new(
                "CapPrm",
                format!("{:#x}", wanted.permitted | wanted.effective),
                format!("{held:#x}, all that the runtime has"),
            )
            .into());
        }
        let keep = (wanted.permitted | wanted.effective | needed) & held;
        set(CapSet::Effective, keep)?;
        set(CapSet::Permitted, keep)?;
        Ok(Self { spec: spec.clone(), program })
    }

    pub(crate) fn enforce(self) -> Result<(), ConfineError> {
        let Self { spec, program } = self;
        let before = read_status(&open_status()?)?;
        let after = open_status()?;
        let filter = spec.seccomp.as_ref().zip(program.as_ref());
        if spec.no_new_privileges {
            no_new_privs()?;
            capabilities(&spec.capabilities)?;
            load(filter)?;
        } else {
            prctl::get_no_new_privs().map_err(ConfineError::errno("prctl(2)", "PR_GET_NO_NEW_PRIVS"))?;
            load(filter)?;
            capabilities(&spec.capabilities)?;
        }
        let found = read_status(&after)?;
        // As at the hardened level: close(2) may be more than the profile has.
        std::mem::forget(after);
        status::check_compatible(&found, &spec, &spec.credentials)?;
        let loaded = found.seccomp_filters.checked_sub(before.seccomp_filters);
        let wanted = u32::from(filter.is_some());
        if loaded == Some(wanted) {
            Ok(())
        } else {
            let wanted = format!("{wanted} more than {}", before.seccomp_filters);
            Err(Difference::new("Seccomp_filters", wanted, found.seccomp_filters).into())
        }
    }
}

fn load(filter: Option<(&SeccompFilter, &BpfProgram)>) -> Result<(), ConfineError> {
    match filter {
        Some((filter, program)) => sys::seccomp_set_filter(program, filter.flags)
            .map_err(ConfineError::call("seccomp(2)", "SECCOMP_SET_MODE_FILTER")),
        None => Ok(()),
    }
}

const SETPCAP: u64 = 1 << 8;
const SYS_ADMIN: u64 = 1 << 21;

/// Bounding first, while CAP_SETPCAP is there; ambient last, when the sets that it needs are there.
fn capabilities(sets: &CapabilitySets) -> Result<(), ConfineError> {
    let CapabilitySets { bounding, permitted, inheritable, effective, ambient } = *sets;
    for capability in capabilities_of(bits(CapSet::Bounding)? & !bounding) {
        caps::drop(None, CapSet::Bounding, capability).map_err(ConfineError::Capabilities)?;
    }
    // May only hold what is permitted or inheritable already: while the permitted set is still large.
    set(CapSet::Inheritable, inheritable)?;
    set(CapSet::Effective, effective)?;
    set(CapSet::Permitted, permitted)?;
    caps::clear(None, CapSet::Ambient).map_err(ConfineError::Capabilities)?;
    for capability in capabilities_of(ambient) {
        caps::raise(None, CapSet::Ambient, capability).map_err(ConfineError::Capabilities)?;
    }
    Ok(())
}

fn set(which: CapSet, wanted: u64) -> Result<(), ConfineError> {
    caps::set(None, which, &capabilities_of(wanted).collect::<CapsHashSet>())
        .map_err(ConfineError::Capabilities)
}

fn bits(which: CapSet) -> Result<u64, ConfineError> {
    let found = caps::read(None, which).map_err(ConfineError::Capabilities)?;
    Ok(found.iter().fold(0, |bits, capability| bits | capability.bitmask()))
}

fn capabilities_of(bits: u64) -> impl Iterator<Item = Capability> {
    caps::all().into_iter().filter(move |capability| bits & capability.bitmask() != 0)
}
