//! Annotations that runc reads as part of the request.
//!
//! Where systemd makes the control group, runc sets `org.systemd.property.NAME` of a spec as properties of the scope. Here
//! the scope has what the plan has, and nothing else: such an annotation is refused, not left out. With the cgroupfs driver
//! runc does not look at them either.

use std::path::Path;

use bulkhead_model::{Refusal, Rule};
use oci_spec::runtime::Spec;

use crate::refuse::{refuse, short};

/// Source: `initSystemdProps`, runc libcontainer/specconv/spec_linux.go.
const PROPERTY: &str = "org.systemd.property.";

/// Refuses what systemd would be told beside the plan.
pub(super) fn judge(asked: &Spec, cgroup: Option<&Path>) -> Result<(), Refusal> {
    if !cgroup.is_some_and(is_systemds) {
        return Ok(());
    }
    let mut properties =
        asked.annotations().iter().flatten().map(|(name, _)| name).filter(|name| name.starts_with(PROPERTY));
    match properties.next() {
        None => Ok(()),
        Some(name) => Err(refuse(
            Rule::Spec,
            "annotations",
            format!("{:?}", short(name)),
            "properties of systemd's scope are those of linux.resources alone",
            "leave the annotation out, and say the limit in linux.resources",
        )),
    }
}

/// `slice:prefix:name`.
fn is_systemds(path: &Path) -> bool {
    !path.is_absolute() && path.to_string_lossy().split(':').count() == 3
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn annotated(name: &str, cgroup: &str) -> Result<(), Refusal> {
        let mut spec = Spec::default();
        spec.set_annotations(Some([(name.to_owned(), "uint64 5".to_owned())].into()));
        judge(&spec, Some(Path::new(cgroup)))
    }

    #[test]
    fn property_of_a_scope_is_refused_by_its_name_and_another_annotation_is_not() {
        let name = "org.systemd.property.TimeoutStopUSec";
        let refusal = annotated(name, "system.slice:ctr:c1").unwrap_err();
        assert!(refusal.what.contains(name), "{refusal}");
        assert!(annotated("run.oci.systemd", "system.slice:ctr:c1").is_ok());
    }

    #[test]
    fn property_is_nothing_to_a_group_that_systemd_does_not_make() {
        assert!(annotated("org.systemd.property.TimeoutStopUSec", "/default/c1").is_ok());
        assert!(judge(&Spec::default(), None).is_ok());
    }
}
