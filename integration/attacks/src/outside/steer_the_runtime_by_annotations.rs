//! Annotations that runtimes listen to: other kernels, hooks, devices, or our own options.
//!
//! Source: CVE-2026-53488, crun run.oci.*, Kata io.katacontainers.*.

use bulkhead_integration::Result;
use serde_json::json;

use crate::{
    arena::Arena,
    column::{Column, Phase},
    image::reason,
    spec,
    technique::{Outcome, Outside},
};

pub(crate) const THIS: Outside = Outside {
    source: "CVE-2026-53488",
    tries: "set annotations that would loosen, and hold a capability",
    phases: &[Phase::Init],
    attempt,
};

fn attempt(arena: &Arena, column: Column, _: Phase) -> Result<Outcome> {
    let output = spec::run(arena, column, &["/bin/attacker", "run", "hold_a_capability", "run_a_program_dropped_in_tmp"], |spec| {
        spec["annotations"] = json!({
            "io.bulkhead.confine": "off", "io.bulkhead.policy.mode": "audit", "bulkhead/level": "compatible",
            "run.oci.seccomp_fail_unknown_syscall": "0", "run.oci.keep_original_groups": "1",
            "io.katacontainers.config.hypervisor.path": "/bin/sh", "io.kubernetes.cri.container-type": "container",
        });
    })?;
    Ok(if output.stdout.contains("\"succeeded\"") {
        Outcome::Succeeded(output.stdout.lines().next().unwrap_or_default().to_owned())
    } else {
        Outcome::Stopped(reason(&output))
    })
}
