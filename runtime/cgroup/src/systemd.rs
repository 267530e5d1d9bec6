//! systemd's driver: a container's group is a transient scope of systemd's, delegated to us.
//!
//! ```text
//! create   StartTransientUnit(scope, slice, Delegate, PIDs = the worker, limits) ─► job done ─► our own writes
//! update   SetUnitProperties(scope, limits) ─► our own writes
//! delete   processes killed ─► StopUnit ─► job done ─► ResetFailedUnit ─► what is left is removed
//! ```
//! systemd is told each limit that it knows, so that its own writes (at a reload, at a change of a neighbour) repeat
//! ours; our writes, which follow, cover what it does not know.
//!
//! Invariant: once `start` has returned the caller is in the scope. systemd believes only callers with CAP_SYS_ADMIN.
//!
//! Source of names and order: opencontainers/cgroups systemd/{v1,v2,common}.go.

mod bus;
mod message;
mod properties;

use std::{fs, path::Path};

use oci_spec::runtime::LinuxResources;

use self::{
    bus::{Bus, BusError},
    message::{Argument, Value},
};
use crate::{CgroupError, Version, path::Unit, v2::InForce};

/// Made by systemd when it runs the host.
///
/// Source: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Whether systemd runs this host.
#[must_use]
pub fn systemd_runs() -> bool {
    Path::new(BOOTED).is_dir()
}

fn failed(call: &'static str, unit: &Unit) -> impl FnOnce(BusError) -> CgroupError {
    let unit = unit.name.clone();
    move |error| CgroupError::Systemd { call, unit, error: error.to_string() }
}

fn connect(unit: &Unit) -> Result<Bus, CgroupError> {
    if !systemd_runs() {
        return Err(CgroupError::NoSystemd);
    }
    Bus::connect().map_err(failed("connect", unit))
}

/// Has systemd make the scope, with the calling process in it.
pub(crate) fn start(unit: &Unit, version: Version, resources: &LinuxResources) -> Result<(), CgroupError> {
    let mut properties = vec![
        ("Description", Value::Text(format!("bulkhead container {}", unit.name))),
        ("Slice", Value::Text(unit.slice.clone())),
        ("Delegate", Value::Flag(true)),
        ("PIDs", Value::Pids(vec![std::process::id()])),
        ("MemoryAccounting", Value::Flag(true)),
        ("CPUAccounting", Value::Flag(true)),
        ("IOAccounting", Value::Flag(true)),
        ("TasksAccounting", Value::Flag(true)),
        ("DefaultDependencies", Value::Flag(false)),
    ];
    properties.extend(properties::devices(resources, version)?);
    properties.extend(properties::limits(resources, version, InForce::default())?);
    let arguments = [
        Argument::Text(&unit.name),
        Argument::Text("replace"),
        Argument::Properties(&properties),
        Argument::NoUnits,
    ];
    let call = "StartTransientUnit";
    let mut bus = connect(unit)?;
    let result = match bus.run(call, &arguments) {
        // One of that name that failed stays until it is reset.
        Err(error) if error.is("UnitExists") => {
            reset(&mut bus, unit)?;
            bus.run(call, &arguments)
        }
        other => other,
    };
    match result.map_err(failed(call, unit))?.as_str() {
        "done" => is_inside(unit),
        other => {
            let error =
                format!("its job ended {other:?}; see systemctl status and journalctl -u {}", unit.name);
            Err(CgroupError::Systemd { call, unit: unit.name.clone(), error })
        }
    }
}

/// systemd may itself be in a group of its own (a container that runs systemd): what it makes is then not where we
/// would look for it.
fn is_inside(unit: &Unit) -> Result<(), CgroupError> {
    let path = "/proc/self/cgroup";
    let text = fs::read_to_string(path).map_err(crate::file::failed("read(2)", Path::new(path)))?;
    if is_named(&text, unit) {
        return Ok(());
    }
    let error = format!("systemd says done, and {path} does not show it: {:?}", text.trim());
    Err(CgroupError::Systemd { call: "StartTransientUnit", unit: unit.name.clone(), error })
}

/// Rows of `1:name=systemd:/system.slice/a.scope`; v2's is `0::/…`.
fn is_named(rows: &str, unit: &Unit) -> bool {
    rows.lines().any(|row| {
        let mut parts = row.splitn(3, ':');
        let of_systemd =
            matches!((parts.next(), parts.next()), (Some("0"), Some("")) | (_, Some("name=systemd")));
        of_systemd && parts.next().is_some_and(|path| path.rsplit('/').next() == Some(&unit.name))
    })
}

/// Has systemd repeat new limits from now on.
pub(crate) fn update(
    unit: &Unit,
    version: Version,
    resources: &LinuxResources,
    in_force: InForce,
) -> Result<(), CgroupError> {
    let mut properties = properties::limits(resources, version, in_force)?;
    if resources.devices().is_some() {
        properties.extend(properties::devices(resources, version)?);
    }
    if properties.is_empty() {
        return Ok(());
    }
    let arguments = [Argument::Text(&unit.name), Argument::Flag(true), Argument::Properties(&properties)];
    let call = "SetUnitProperties";
    connect(unit)?.ask(call, &arguments).map(drop).map_err(failed(call, unit))
}

/// Has systemd forget the scope. One that is not there is forgotten already.
pub(crate) fn stop(unit: &Unit) -> Result<(), CgroupError> {
    if !systemd_runs() {
        return Ok(());
    }
    let call = "StopUnit";
    let mut bus = connect(unit)?;
    match bus.run(call, &[Argument::Text(&unit.name), Argument::Text("replace")]) {
        Err(error) if error.is("NoSuchUnit") => return Ok(()),
        other => drop(other.map_err(failed(call, unit))?),
    }
    reset(&mut bus, unit)
}

fn reset(bus: &mut Bus, unit: &Unit) -> Result<(), CgroupError> {
    let call = "ResetFailedUnit";
    match bus.ask(call, &[Argument::Text(&unit.name)]) {
        Err(error) if error.is("NoSuchUnit") => Ok(()),
        other => other.map(drop).map_err(failed(call, unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_looked_for_where_systemd_keeps_its_own() {
        let unit = Unit { name: "a.scope".to_owned(), slice: "system.slice".to_owned() };
        assert!(is_named("0::/system.slice/a.scope\n", &unit));
        assert!(is_named("5:cpu:/\n1:name=systemd:/system.slice/a.scope\n0::/\n", &unit));
        assert!(!is_named("5:cpu:/system.slice/a.scope\n1:name=systemd:/init.scope\n0::/\n", &unit));
        assert!(!is_named("0::/system.slice/ba.scope\n", &unit));
    }
}
