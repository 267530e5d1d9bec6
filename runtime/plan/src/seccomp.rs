//! `linux.seccomp`: the baseline holds; a request's own section makes it stricter.

use bulkhead_model::{MemfdRule, Refusal, Rule};
use oci_spec::runtime::LinuxSeccomp;

use crate::change::{Changes, Section};

/// The programs to load.
pub(crate) fn programs(
    memfd: MemfdRule,
    section: Option<&LinuxSeccomp>,
    changes: &mut Changes,
) -> Result<Vec<Vec<u64>>, Refusal> {
    let (what, reason) = match section {
        None => ("baseline", "an unconfined process does not exist here"),
        Some(_) => ("baseline and the request's own profile", "the stricter of the two holds for every call"),
    };
    changes.record(Section::Seccomp, what, reason);
    let program = bulkhead_profiles::program(memfd, section).map_err(|error| {
        Refusal::new(
            Rule::Seccomp,
            "linux.seccomp cannot be enforced exactly",
            error.to_string(),
            "correct the profile, or leave it out: the baseline holds (pod: seccompProfile RuntimeDefault)",
        )
    })?;
    Ok(vec![program])
}
