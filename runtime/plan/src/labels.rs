//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`: applied as runc does, at every level, or
//! refused where the kernel has not the module. A label is never left out silently.

use bulkhead_model::{Refusal, Rule};

use crate::{
    change::{Changes, Section},
    facts::SecurityModules,
    refuse::{refuse, short},
};

/// Longest label, in bytes.
///
/// Source: SELinux contexts with every category are below 4 kB, `SELINUX_MAX_CONTEXT`; AppArmor names are paths.
const LABEL_BYTES_MAX: usize = 4095;

/// A profile that the kernel has loaded, or `unconfined`; whether it has is seen when it is set.
pub(crate) fn apparmor(
    profile: Option<&str>,
    modules: SecurityModules,
    changes: &mut Changes,
) -> Result<Option<String>, Refusal> {
    const FIELD: &str = "process.apparmorProfile";
    match profile {
        None | Some("") => Ok(None),
        // What every process is where there is no AppArmor.
        Some("unconfined") if !modules.apparmor => {
            let reason = "the kernel has no AppArmor that would confine it";
            changes.record(Section::Process, "apparmorProfile: unconfined left out", reason);
            Ok(None)
        }
        Some(name) if !modules.apparmor => Err(absent(FIELD, name, "AppArmor", "apparmor_profile")),
        Some(name)
            if name.len() <= LABEL_BYTES_MAX
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:&@+".contains(&b)) =>
        {
            Ok(Some(name.to_owned()))
        }
        Some(name) => {
            let why = "a profile's name is letters, digits, dots, dashes and slashes";
            Err(refuse(Rule::Spec, FIELD, format!("{:?}", short(name)), why, "name a loaded profile"))
        }
    }
}

/// An SELinux context for processes or for mounts.
pub(crate) fn selinux(
    field: &str,
    label: Option<&str>,
    modules: SecurityModules,
) -> Result<Option<String>, Refusal> {
    match label {
        None | Some("") => Ok(None),
        Some(label) if !modules.selinux => Err(absent(field, label, "SELinux", "enable_selinux")),
        Some(label)
            if label.len() <= LABEL_BYTES_MAX
                && label.matches(':').count() >= 2
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b":._-,".contains(&b)) =>
        {
            Ok(Some(label.to_owned()))
        }
        Some(label) => {
            let why = "a context is user:role:type, with a level or without";
            Err(refuse(Rule::Spec, field, format!("{:?}", short(label)), why, "correct the context"))
        }
    }
}

fn absent(field: &str, label: &str, module: &str, option: &str) -> Refusal {
    refuse(
        Rule::Spec,
        field,
        format!("{:?}", short(label)),
        &format!("this kernel has not switched {module} on, and a label is not left out silently"),
        &format!("run the pod on a node with {module}, or leave the label out (containerd: {option})"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BOTH: SecurityModules = SecurityModules { apparmor: true, selinux: true };
    const NONE: SecurityModules = SecurityModules { apparmor: false, selinux: false };

    #[test]
    fn profile_is_kept_where_there_is_apparmor_and_refused_by_name_where_there_is_none() {
        let mut changes = Changes::default();
        for name in ["cri-containerd.apparmor.d", "unconfined", "snap.lxd//&:ns:profile"] {
            assert_eq!(apparmor(Some(name), BOTH, &mut changes).unwrap().as_deref(), Some(name));
        }
        let refusal = apparmor(Some("cri-containerd.apparmor.d"), NONE, &mut changes).unwrap_err();
        assert!(refusal.what.contains("apparmorProfile") && refusal.why.contains("AppArmor"), "{refusal}");
        assert!(changes.into_vec().is_empty());
        assert_eq!(apparmor(Some("unconfined"), NONE, &mut Changes::default()), Ok(None));
        assert_eq!(apparmor(Some(""), NONE, &mut Changes::default()), Ok(None));
        assert!(apparmor(Some("a\nexec b"), BOTH, &mut Changes::default()).is_err());
    }

    #[test]
    fn context_is_kept_where_there_is_selinux_and_refused_by_name_where_there_is_none() {
        let label = "system_u:system_r:container_t:s0:c4,c5";
        assert_eq!(selinux("process.selinuxLabel", Some(label), BOTH).unwrap().as_deref(), Some(label));
        let refusal = selinux("linux.mountLabel", Some(label), NONE).unwrap_err();
        assert!(refusal.what.contains("linux.mountLabel") && refusal.why.contains("SELinux"), "{refusal}");
        assert_eq!(selinux("process.selinuxLabel", Some(""), NONE), Ok(None));
        for label in ["container_t", "a:b:c\n", "a:b:c\"", "a:b:c d"] {
            assert!(selinux("process.selinuxLabel", Some(label), BOTH).is_err(), "{label:?}");
        }
    }
}
