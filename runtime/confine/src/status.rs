//! `/proc/<pid>/status`: what the kernel says of a process, against what was planned.
//!
//! Invariant: pure. A field that is missing or unreadable is a [`Difference`], like one that is wrong.

use bulkhead_model::{CapabilitySets, CompatibleSpec, ConfineSpec, Credentials, Ids};

/// A field of the process that is not what the spec says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}, not {wanted}")]
pub struct Difference {
    /// The field, in the kernel's spelling where it has one.
    pub field: &'static str,
    /// What the spec says.
    pub wanted: String,
    /// What there is.
    pub found: String,
}

impl Difference {
    pub(crate) fn new(field: &'static str, wanted: impl ToString, found: impl ToString) -> Self {
        Self { field, wanted: wanted.to_string(), found: found.to_string() }
    }
}

/// The lines of `/proc/<pid>/status` that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Real, effective, saved, file-system.
    pub uids: [u32; 4],
    /// Real, effective, saved, file-system.
    pub gids: [u32; 4],
    /// Additional groups, sorted.
    pub groups: Vec<u32>,
    /// How many threads.
    pub threads: u32,
    /// Inheritable, permitted, effective, bounding, ambient.
    pub capabilities: [u64; 5],
    /// 1 when set.
    pub no_new_privs: u32,
    /// 2 with a filter.
    pub seccomp: u32,
    /// How many filters (Linux 5.9).
    pub seccomp_filters: u32,
}

/// Names of the capability lines, in the order of [`Status::capabilities`].
const CAPABILITIES: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// Reads the text of `/proc/<pid>/status`.
///
/// # Errors
/// A line that matters is missing, or is not what the kernel writes.
pub fn parse_status(text: &str) -> Result<Status, Difference> {
    let mut groups = numbers(text, "Groups")?;
    groups.sort_unstable();
    let mut capabilities = [0; 5];
    for (set, field) in capabilities.iter_mut().zip(CAPABILITIES) {
        let hex = line(text, field)?;
        *set = u64::from_str_radix(hex, 16).map_err(|_| Difference::new(field, "a hexadecimal set", hex))?;
    }
    Ok(Status {
        uids: four(text, "Uid")?,
        gids: four(text, "Gid")?,
        groups,
        threads: one(text, "Threads")?,
        capabilities,
        no_new_privs: one(text, "NoNewPrivs")?,
        seccomp: one(text, "Seccomp")?,
        seccomp_filters: one(text, "Seccomp_filters")?,
    })
}

/// Whether the process that `text` (its `/proc/<pid>/status`) is about is confined as `spec` says: ids, capability
/// sets (none at the hardened level), no_new_privs, seccomp filters, one thread. For the server, between "confined"
/// and "go".
///
/// The ids are the node's, in whose user namespace the reader is.
///
/// # Errors
/// The first field that is not as it should be.
pub fn check_status(spec: &ConfineSpec, text: &str) -> Result<(), Difference> {
    let status = parse_status(text)?;
    match spec {
        ConfineSpec::Hardened(_) => check(&status, &on_node(spec)?)?,
        ConfineSpec::Compatible(compatible) => check_compatible(&status, compatible, &on_node(spec)?)?,
    }
    let (wanted, found) = (spec.seccomp_programs(), status.seccomp_filters);
    if u32::try_from(wanted).is_ok_and(|wanted| found >= wanted) {
        Ok(())
    } else {
        Err(Difference::new("Seccomp_filters", format!("{wanted} or more"), found))
    }
}

fn on_node(spec: &ConfineSpec) -> Result<Credentials, Difference> {
    spec.credentials_on_node()
        .ok_or_else(|| Difference::new("Uid", "one that is mapped", spec.credentials().uid))
}

/// Whether the process whose `/proc/<pid>/uid_map` and `gid_map` these are is in the user namespace that the spec says:
/// as the node's own user namespace sees them.
///
/// # Errors
/// The first map that is not as it should be.
pub fn check_maps(spec: &ConfineSpec, uid_map: &str, gid_map: &str) -> Result<(), Difference> {
    let Some(namespace) = spec.user_namespace() else { return Ok(()) };
    for (field, which, text) in [("uid_map", Ids::Users, uid_map), ("gid_map", Ids::Groups, gid_map)] {
        if !namespace.is_map(which, text) {
            return Err(Difference::new(field, format!("{:?}", namespace.map(which)), format!("{text:?}")));
        }
    }
    Ok(())
}

/// All but how many filters there are.
pub(crate) fn check(status: &Status, credentials: &Credentials) -> Result<(), Difference> {
    check_unfiltered(status, credentials)?;
    is("Seccomp", 2, status.seccomp)
}

/// All that holds before the filters as well: ids, one thread, no capability, no_new_privs.
pub(crate) fn check_unfiltered(status: &Status, credentials: &Credentials) -> Result<(), Difference> {
    let Status { uids, gids, groups, threads, capabilities, no_new_privs, seccomp: _, seccomp_filters: _ } =
        status;
    check_ids(*uids, *gids, groups, credentials)?;
    is("Threads", 1, *threads)?;
    for (set, field) in capabilities.iter().zip(CAPABILITIES) {
        if *set != 0 {
            return Err(Difference::new(field, 0, format!("{set:#x}")));
        }
    }
    is("NoNewPrivs", 1, *no_new_privs)
}

/// What a request asks for at the compatible level, no more and no less, but how many filters there are.
/// `credentials` are the ids as who reads the status counts them.
pub(crate) fn check_compatible(
    status: &Status,
    spec: &CompatibleSpec,
    credentials: &Credentials,
) -> Result<(), Difference> {
    let CompatibleSpec {
        credentials: _,
        capabilities,
        no_new_privileges,
        seccomp,
        selinux_label: _,
        user_namespace: _,
    } = spec;
    let CapabilitySets { bounding, permitted, inheritable, effective, ambient } = *capabilities;
    check_ids(status.uids, status.gids, &status.groups, credentials)?;
    is("Threads", 1, status.threads)?;
    let wanted = [inheritable, permitted, effective, bounding, ambient];
    for ((found, wanted), field) in status.capabilities.iter().zip(wanted).zip(CAPABILITIES) {
        if *found != wanted {
            return Err(Difference::new(field, format!("{wanted:#x}"), format!("{found:#x}")));
        }
    }
    is("NoNewPrivs", u32::from(*no_new_privileges), status.no_new_privs)?;
    match seccomp {
        Some(_) => is("Seccomp", 2, status.seccomp),
        // A filter that the node put on containerd itself stays on.
        None => Ok(()),
    }
}

fn check_ids(uids: [u32; 4], gids: [u32; 4], groups: &[u32], wanted: &Credentials) -> Result<(), Difference> {
    if uids != [wanted.uid; 4] {
        return Err(Difference::new("Uid", wanted.uid, format!("{uids:?}")));
    }
    if gids != [wanted.gid; 4] {
        return Err(Difference::new("Gid", wanted.gid, format!("{gids:?}")));
    }
    // A plan may name the primary group among the additional ones or not; the kernel keeps what was set.
    let mut wanted_groups = wanted.groups.clone();
    wanted_groups.sort_unstable();
    if groups != wanted_groups {
        return Err(Difference::new("Groups", format!("{wanted_groups:?}"), format!("{groups:?}")));
    }
    Ok(())
}

fn is(field: &'static str, wanted: u32, found: u32) -> Result<(), Difference> {
    if found == wanted { Ok(()) } else { Err(Difference::new(field, wanted, found)) }
}

/// The value of the only line that starts with `field:`.
fn line<'a>(text: &'a str, field: &'static str) -> Result<&'a str, Difference> {
    // The process chooses its name, but the kernel escapes line ends in it.
    let mut values =
        text.lines().filter_map(|line| line.strip_prefix(field).and_then(|rest| rest.strip_prefix(':')));
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.trim()),
        (None, _) => Err(Difference::new(field, "a line of the status", "missing")),
        (Some(_), Some(_)) => Err(Difference::new(field, "one line of the status", "two")),
    }
}

fn numbers(text: &str, field: &'static str) -> Result<Vec<u32>, Difference> {
    let value = line(text, field)?;
    let wrong = |_| Difference::new(field, "numbers", value);
    value.split_whitespace().map(|word| word.parse().map_err(wrong)).collect()
}

fn four(text: &str, field: &'static str) -> Result<[u32; 4], Difference> {
    let found = numbers(text, field)?;
    <[u32; 4]>::try_from(found).map_err(|found| Difference::new(field, "four numbers", format!("{found:?}")))
}

fn one(text: &str, field: &'static str) -> Result<u32, Difference> {
    match numbers(text, field)?.as_slice() {
        [one] => Ok(*one),
        found => Err(Difference::new(field, "one number", format!("{found:?}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use bulkhead_model::{
        DeniedCalls, HardenedSpec, ImageAccess, LandlockSpec, PathAccess, SeccompFilter, TcpRule,
    };

    const GOOD: &str = "Name:\tsh\nUmask:\t0022\nState:\tS (sleeping)\nUid:\t65532\t65532\t65532\t65532\n\
        Gid:\t65532\t65532\t65532\t65532\nFDSize:\t64\nGroups:\t2000 1000 \nThreads:\t1\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    fn spec() -> ConfineSpec {
        ConfineSpec::Hardened(HardenedSpec {
            credentials: Credentials { uid: 65532, gid: 65532, groups: vec![1000, 2000] },
            root_read_only: true,
            landlock: LandlockSpec {
                floor_abi: 1,
                image: ImageAccess::Whole(PathAccess::ReadExecute),
                paths: Vec::new(),
                tcp_bind: TcpRule::Any,
                tcp_connect: TcpRule::Any,
                scope: Default::default(),
                canary: "/canary".into(),
            },
            seccomp: vec![vec![6]],
            denied_calls: DeniedCalls::Unseen,
            selinux_label: None,
            user_namespace: None,
        })
    }

    /// What `GOOD` would have to be with one capability in each set.
    fn compatible() -> (ConfineSpec, String) {
        let capabilities =
            CapabilitySets { inheritable: 1, permitted: 2, effective: 4, bounding: 8, ambient: 16 };
        let spec = ConfineSpec::Compatible(CompatibleSpec {
            credentials: Credentials { uid: 65532, gid: 65532, groups: vec![1000, 2000] },
            capabilities,
            no_new_privileges: false,
            seccomp: Some(SeccompFilter { program: vec![6], flags: 0 }),
            selinux_label: None,
            user_namespace: None,
        });
        let mut text = GOOD.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0");
        for (field, set) in CAPABILITIES.iter().zip([1_u64, 2, 4, 8, 16]) {
            text = text.replace(&format!("{field}:\t{:016x}", 0), &format!("{field}:\t{set:016x}"));
        }
        (spec, text)
    }

    #[test]
    fn compatible_process_has_what_was_asked_for_and_not_one_capability_more_or_less() {
        let (spec, good) = compatible();
        assert_eq!(check_status(&spec, &good), Ok(()));
        for (field, good_line, bad) in [
            ("CapInh", "CapInh:\t0000000000000001", "CapInh:\t0000000000000003"),
            ("CapPrm", "CapPrm:\t0000000000000002", "CapPrm:\t0000000000000000"),
            ("CapEff", "CapEff:\t0000000000000004", "CapEff:\t000001ffffffffff"),
            ("CapBnd", "CapBnd:\t0000000000000008", "CapBnd:\t000001ffffffffff"),
            ("CapAmb", "CapAmb:\t0000000000000010", "CapAmb:\t0000000000000000"),
            ("NoNewPrivs", "NoNewPrivs:\t0", "NoNewPrivs:\t1"),
            ("Seccomp", "Seccomp:\t2", "Seccomp:\t0"),
            ("Seccomp_filters", "Seccomp_filters:\t1", "Seccomp_filters:\t0"),
            ("Uid", "Uid:\t65532\t65532\t65532\t65532", "Uid:\t0\t0\t0\t0"),
        ] {
            assert!(good.contains(good_line), "{good_line}");
            let difference = check_status(&spec, &good.replace(good_line, bad)).unwrap_err();
            assert_eq!(difference.field, field, "{difference}");
        }
    }

    #[test]
    fn status_as_planned_is_accepted() {
        assert_eq!(check_status(&spec(), GOOD), Ok(()));
    }

    #[test]
    fn every_field_that_differs_or_is_missing_is_named() {
        for (field, good, bad) in [
            ("Uid", "Uid:\t65532\t65532\t65532\t65532", "Uid:\t65532\t65532\t0\t65532"),
            ("Uid", "Uid:\t65532\t65532\t65532\t65532", "Uid:\t65532\t65532\t65532"),
            ("Gid", "Gid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t0"),
            ("Groups", "Groups:\t2000 1000 ", "Groups:\t0 2000 1000 "),
            ("Groups", "Groups:\t2000 1000 ", "Groups:\t2000 "),
            ("Groups", "Groups:\t2000 1000 ", ""),
            ("Threads", "Threads:\t1", "Threads:\t2"),
            ("CapInh", "CapInh:\t0000000000000000", "CapInh:\t0000000000000400"),
            ("CapPrm", "CapPrm:\t0000000000000000", "CapPrm:\t0000000000000001"),
            ("CapEff", "CapEff:\t0000000000000000", "CapEff:\t"),
            ("CapBnd", "CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"),
            ("CapAmb", "CapAmb:\t0000000000000000", "CapAmb:\t8000000000000000"),
            ("NoNewPrivs", "NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp", "Seccomp:\t2", "Seccomp:\t0"),
            ("Seccomp", "Seccomp:\t2", "Seccomp:\t1"),
            ("Seccomp_filters", "Seccomp_filters:\t1", "Seccomp_filters:\t0"),
            ("Seccomp_filters", "Seccomp_filters:\t1", ""),
            ("NoNewPrivs", "NoNewPrivs:\t1", "NoNewPrivs:\t1\nNoNewPrivs:\t0"),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let difference = check_status(&spec(), &GOOD.replace(good, bad)).unwrap_err();
            assert_eq!(difference.field, field, "{difference}");
        }
    }

    #[test]
    fn own_status_of_this_kernel_can_be_read() {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let status = parse_status(&text).unwrap();
        assert!(status.threads >= 1);
        assert!(check_status(&spec(), &text).is_err());
    }
}
