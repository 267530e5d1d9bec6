//! `process.capabilities`: none, in any of the five sets.
//!
//! Invariant: every set is there and empty. libcontainer keeps all capabilities where the section is absent.

use bulkhead_model::{Refusal, Rule};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use crate::{
    change::{Changes, Section},
    refuse::{nothing_left, refuse},
};

/// What containerd grants when nobody asks for anything.
///
/// Source: `defaultUnixCaps`, containerd oci/spec.go.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

const ABSENT: &str = "what is absent would be kept whole by libcontainer";

/// What a request grants that a sysctl can give without a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// CAP_NET_BIND_SERVICE: ports below 1024.
    pub(crate) low_ports: bool,
    /// CAP_NET_RAW, of which ping is the harmless part.
    pub(crate) ping: bool,
}

/// Judges what was asked for; the sets that run are [`none`].
pub(crate) fn judge(
    capabilities: Option<&LinuxCapabilities>,
    changes: &mut Changes,
) -> Result<Asked, Refusal> {
    let Some(asked) = capabilities else {
        changes.record(Section::Capabilities, "five empty sets", ABSENT);
        return Ok(Asked { low_ports: false, ping: false });
    };
    let sets = [
        ("bounding", asked.bounding()),
        ("effective", asked.effective()),
        ("inheritable", asked.inheritable()),
        ("permitted", asked.permitted()),
    ];
    for (name, set) in sets {
        let beyond = set.iter().flatten().filter(|capability| !DEFAULT.contains(capability));
        refuse_any(name, beyond)?;
    }
    refuse_any("ambient", asked.ambient().iter().flatten())?;
    nothing_left("process.capabilities", &every_set(asked.clone(), None), "{}")?;

    let all = [asked.bounding(), asked.effective(), asked.inheritable(), asked.permitted(), asked.ambient()];
    let dropped = asked.bounding().as_ref().map_or(0, Capabilities::len);
    if all.iter().any(|set| set.as_ref().is_some_and(|set| !set.is_empty())) {
        let reason = "nothing runs with a capability; what asked for containerd's defaults asked for nothing";
        changes.record(Section::Capabilities, format!("{dropped} of the bounding set dropped"), reason);
    } else if all.iter().any(|set| set.is_none()) {
        changes.record(Section::Capabilities, "five empty sets", ABSENT);
    }
    let holds = |wanted| asked.bounding().iter().flatten().any(|capability| *capability == wanted);
    Ok(Asked { low_ports: holds(Capability::NetBindService), ping: holds(Capability::NetRaw) })
}

/// Five empty sets.
pub(crate) fn none() -> LinuxCapabilities {
    every_set(LinuxCapabilities::default(), Some(&Capabilities::new()))
}

fn every_set(mut capabilities: LinuxCapabilities, set: Option<&Capabilities>) -> LinuxCapabilities {
    capabilities
        .set_bounding(set.cloned())
        .set_effective(set.cloned())
        .set_inheritable(set.cloned())
        .set_permitted(set.cloned())
        .set_ambient(set.cloned());
    capabilities
}

fn refuse_any<'a>(set: &str, beyond: impl Iterator<Item = &'a Capability>) -> Result<(), Refusal> {
    let mut names: Vec<String> = beyond.map(|capability| format!("CAP_{capability}")).collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable();
    Err(refuse(
        Rule::Capabilities,
        &format!("process.capabilities.{set}"),
        names.join(", "),
        "that goes beyond what containerd grants by default, and no capability is granted here",
        "drop securityContext.privileged and capabilities.add (ctr: --privileged, --cap-add)",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sets(capabilities: &[Capability]) -> LinuxCapabilities {
        every_set(LinuxCapabilities::default(), Some(&capabilities.iter().copied().collect()))
    }

    #[test]
    fn containerds_default_is_dropped_and_recorded() {
        let mut asked = sets(&DEFAULT);
        asked.set_ambient(None).set_inheritable(None);
        let mut changes = Changes::default();
        assert!(judge(Some(&asked), &mut changes).unwrap().low_ports);
        assert_eq!(changes.into_vec()[0].what, "14 of the bounding set dropped");
    }

    #[test]
    fn capability_beyond_the_default_is_refused_in_every_set() {
        type Set = fn(&mut LinuxCapabilities, Option<Capabilities>) -> &mut LinuxCapabilities;
        let setters: [(&str, Set); 5] = [
            ("bounding", LinuxCapabilities::set_bounding),
            ("effective", LinuxCapabilities::set_effective),
            ("inheritable", LinuxCapabilities::set_inheritable),
            ("permitted", LinuxCapabilities::set_permitted),
            ("ambient", LinuxCapabilities::set_ambient),
        ];
        for (name, set) in setters {
            let mut asked = sets(&[]);
            set(&mut asked, Some([Capability::SysAdmin].into()));
            let refusal = judge(Some(&asked), &mut Changes::default()).map(|_| ()).unwrap_err();
            assert_eq!(refusal.what, format!("process.capabilities.{name} asks for CAP_SYS_ADMIN"));
        }
    }

    #[test]
    fn default_capability_in_the_ambient_set_is_refused() {
        let mut asked = sets(&[]);
        asked.set_ambient(Some([Capability::NetBindService].into()));
        assert!(judge(Some(&asked), &mut Changes::default()).is_err());
    }

    #[test]
    fn absent_and_empty_sections_come_to_five_empty_sets() {
        assert!(judge(None, &mut Changes::default()).is_ok());
        let mut changes = Changes::default();
        assert!(!judge(Some(&none()), &mut changes).unwrap().low_ports);
        assert!(changes.into_vec().is_empty(), "nothing was changed");
        let none = none();
        assert_eq!(serde_json::to_value(&none).unwrap().as_object().unwrap().len(), 5, "a sixth set");
        for set in [none.bounding(), none.effective(), none.inheritable(), none.permitted(), none.ambient()] {
            assert_eq!(set.as_ref().map(Capabilities::len), Some(0));
        }
    }
}
