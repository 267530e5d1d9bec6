//! What the kernel has, and what Bulkhead needs of it: facts first, then a verdict on each.
//!
//! Invariant: [`KernelFacts::findings`] is a function of the facts alone, so that every kernel is a test case here.

use std::{collections::BTreeSet, fs, io, path::Path};

use serde::Serialize;

use bulkhead_model::UserNamespaceRule;

use crate::{idmap, landlock, sys};

/// Oldest kernel: the first with Landlock.
///
/// Source: landlock(7), "ABI 1 = Linux 5.13".
const KERNEL_MIN: (u32, u32) = (5, 13);

/// First kernel whose overlay takes id-mapped layers.
///
/// Source: overlayfs, "idmapped layers are currently not supported" until Linux 5.19.
const MAPPED_LAYERS_MIN: (u32, u32) = (5, 19);

/// Controllers that a container's limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// What was found about this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFacts {
    /// `uname -r`.
    pub release: String,
    /// The Landlock ABI, or why there is none.
    pub landlock_abi: Result<u8, String>,
    /// Actions that a seccomp filter may answer; empty without seccomp.
    pub seccomp_actions: BTreeSet<String>,
    /// Control groups.
    pub cgroups: CgroupFacts,
    /// Most user namespaces that may be made; `None` without them.
    pub user_namespaces_max: Option<u64>,
    /// What mounts can be id-mapped of, or why that cannot be tried.
    pub id_mapped: Result<Vec<&'static str>, String>,
    /// Whether overlay is among the file systems.
    pub overlay: bool,
    /// Whether pidfd_open(2) answers.
    pub pidfd: bool,
    /// Whether `/dev/kvm` opens.
    pub kvm: Kvm,
    /// Whether `vm.memfd_noexec` is there.
    pub memfd_noexec: bool,
}

/// What control groups are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupFacts {
    /// Controllers of version 1 hierarchies.
    pub v1: BTreeSet<String>,
    /// Whether a version 2 hierarchy is mounted.
    pub v2: bool,
    /// Controllers of version 2.
    pub v2_controllers: BTreeSet<String>,
}

/// Whether `/dev/kvm` opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kvm {
    /// `/dev/kvm` opens, which is not yet a machine that boots.
    Opens,
    /// It does not, and why.
    Fails(String),
}

/// What a finding means for running containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// As needed.
    Good,
    /// Containers run without it.
    Optional,
    /// Nothing runs without it.
    Missing,
}

/// One line of `bulkhead doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// What is there.
    pub found: String,
    /// What is needed.
    pub needed: String,
    /// What that means.
    pub standing: Standing,
    /// What to do about it; empty when good.
    pub fix: String,
}

impl Finding {
    /// A finding; the fix counts only where something is missing.
    #[must_use]
    pub fn new(name: &str, found: impl Into<String>, needed: &str, standing: Standing, fix: &str) -> Self {
        let fix = if standing == Standing::Good { "" } else { fix };
        Self {
            name: name.to_owned(),
            found: found.into(),
            needed: needed.to_owned(),
            standing,
            fix: fix.to_owned(),
        }
    }
}

impl KernelFacts {
    /// Asks this kernel.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn read() -> io::Result<Self> {
        let word_set = |text: String| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        let optional = |path: &str| match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
        let cgroup_text = fs::read_to_string("/proc/self/mountinfo")?;
        let namespaces = optional("/proc/sys/user/max_user_namespaces")?;
        Ok(Self {
            release,
            landlock_abi: sys::landlock_abi().map_err(|error| error.to_string()),
            seccomp_actions: word_set(
                optional("/proc/sys/kernel/seccomp/actions_avail")?.unwrap_or_default(),
            ),
            cgroups: CgroupFacts::read(&cgroup_text)?,
            user_namespaces_max: namespaces.and_then(|text| text.trim().parse().ok()),
            id_mapped: idmap::possible().map_err(|error| error.to_string()),
            overlay: fs::read_to_string("/proc/filesystems")?
                .lines()
                .any(|line| line.split_whitespace().next_back() == Some("overlay")),
            pidfd: sys::pidfd_open().is_ok(),
            kvm: match fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
                Ok(_) => Kvm::Opens,
                Err(error) => Kvm::Fails(error.to_string()),
            },
            memfd_noexec: Path::new("/proc/sys/vm/memfd_noexec").exists(),
        })
    }

    /// A verdict on each fact.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let Self {
            release,
            landlock_abi,
            seccomp_actions,
            cgroups,
            user_namespaces_max,
            id_mapped,
            overlay,
            pidfd,
            kvm,
            memfd_noexec,
        } = self;
        let required = |good: bool| if good { Standing::Good } else { Standing::Missing };
        let optional = |good: bool| if good { Standing::Good } else { Standing::Optional };
        let has = |good: bool| if good { "there" } else { "not there" };
        vec![
            Finding::new(
                "kernel",
                release.as_str(),
                "Linux 5.13 or newer",
                required(version(release).is_some_and(|version| version >= KERNEL_MIN)),
                "boot a newer kernel",
            ),
            Finding::new(
                "landlock",
                match landlock_abi {
                    Ok(abi) => format!("ABI {abi}"),
                    Err(error) => error.clone(),
                },
                "ABI 1 or newer",
                required(landlock_abi.as_ref().is_ok_and(|abi| *abi >= 1)),
                "build the kernel with CONFIG_SECURITY_LANDLOCK=y, and boot with landlock in lsm=",
            ),
            landlock::finding(landlock_abi),
            Finding::new(
                "seccomp",
                seccomp_actions.iter().cloned().collect::<Vec<_>>().join(" "),
                "filters that answer errno and kill_process",
                required(["errno", "kill_process"].iter().all(|action| seccomp_actions.contains(*action))),
                "build the kernel with CONFIG_SECCOMP_FILTER=y",
            ),
            cgroups.finding(),
            Finding::new(
                "overlayfs",
                has(*overlay),
                "in /proc/filesystems",
                required(*overlay),
                "modprobe overlay, and name it in /etc/modules-load.d/bulkhead.conf",
            ),
            Finding::new("pidfd", has(*pidfd), "pidfd_open(2)", required(*pidfd), "boot Linux 5.3 or newer"),
            Finding::new(
                "user namespaces",
                match user_namespaces_max {
                    Some(count) => format!("at most {count}"),
                    None => "not there".to_owned(),
                },
                "for user_namespace of the policy, and hostUsers: false",
                optional(user_namespaces_max.is_some_and(|count| count > 0)),
                "sysctl user.max_user_namespaces=15000",
            ),
            Finding::new(
                "id-mapped mounts",
                match id_mapped {
                    Ok(kinds) if kinds.is_empty() => "of nothing".to_owned(),
                    Ok(kinds) => format!("of {}", kinds.join(", ")),
                    Err(error) => format!("not tried: {error}"),
                },
                "for user_namespace = \"shifted\" and hostUsers: false; with Linux 5.19 or newer for layers",
                optional(maps_all(release, id_mapped)),
                "boot Linux 6.3 or newer (tmpfs), and ask as root; or write user_namespace = \"root-only\"",
            ),
            Finding::new(
                "vm.memfd_noexec",
                has(*memfd_noexec),
                "not used yet (memfd_create is denied)",
                optional(*memfd_noexec),
                "boot Linux 6.3 or newer",
            ),
            Finding::new(
                "kvm",
                match kvm {
                    Kvm::Opens => "/dev/kvm opens".to_owned(),
                    Kvm::Fails(why) => format!("/dev/kvm: {why}"),
                },
                "not used yet (microVMs)",
                optional(*kvm == Kvm::Opens),
                "enable virtualisation in the firmware, or nested virtualisation, and load kvm",
            ),
        ]
    }
}

/// Whether images, volumes and what is in memory can be shown with other owners.
fn maps_all(release: &str, id_mapped: &Result<Vec<&'static str>, String>) -> bool {
    id_mapped.as_ref().is_ok_and(|kinds| kinds.len() == idmap::KINDS.len())
        && version(release).is_some_and(|version| version >= MAPPED_LAYERS_MIN)
}

impl KernelFacts {
    /// The strongest `user_namespace` that this kernel keeps for pods: their /dev/shm and tokens are in memory.
    #[must_use]
    pub fn user_namespace(&self) -> UserNamespaceRule {
        if self.user_namespaces_max.is_none_or(|count| count == 0) {
            UserNamespaceRule::Request
        } else if maps_all(&self.release, &self.id_mapped) {
            UserNamespaceRule::Shifted
        } else {
            UserNamespaceRule::RootOnly
        }
    }
}

impl CgroupFacts {
    /// From mountinfo, and the controllers of version 2 where it is mounted.
    fn read(mountinfo: &str) -> io::Result<Self> {
        let (mut facts, mount) = Self::of_mountinfo(mountinfo);
        if let Some(mount) = mount {
            let text = fs::read_to_string(Path::new(&mount).join("cgroup.controllers"))?;
            facts.v2_controllers = text.split_whitespace().map(str::to_owned).collect();
        }
        Ok(facts)
    }

    /// What mountinfo says, and where version 2 is mounted.
    ///
    /// Source: proc_pid_mountinfo(5).
    fn of_mountinfo(text: &str) -> (Self, Option<String>) {
        let mut facts = Self::default();
        let mut v2_mount = None;
        for line in text.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut fields = after.split(' ');
            let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup") => facts.v1.extend(options.split(',').map(str::to_owned)),
                Some("cgroup2") => {
                    facts.v2 = true;
                    v2_mount = v2_mount.or_else(|| before.split(' ').nth(4).map(str::to_owned));
                }
                _ => {}
            }
        }
        (facts, v2_mount)
    }

    fn finding(&self) -> Finding {
        let Self { v1, v2, v2_controllers } = self;
        let there = |all: &BTreeSet<String>| -> Vec<&str> {
            CONTROLLERS.into_iter().filter(|name| all.contains(*name)).collect()
        };
        let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let (one, two) = (there(v1), there(v2_controllers));
        let found = match (*v2, one.is_empty()) {
            (true, true) => format!("v2 with {}", list(&two)),
            (true, false) => format!("hybrid: v1 with {}; v2 with {}", list(&one), list(&two)),
            (false, false) => format!("v1 with {}", list(&one)),
            (false, true) => "none mounted".to_owned(),
        };
        let missing = CONTROLLERS.iter().any(|name| !one.contains(name) && !two.contains(name));
        Finding::new(
            "cgroup",
            found,
            "cpu, memory and pids, in v1 or v2",
            if missing { Standing::Missing } else { Standing::Good },
            "mount cgroup2 on /sys/fs/cgroup, and boot with cgroup_enable=memory where memory is off",
        )
    }
}

/// Major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(text: &str) -> BTreeSet<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn good() -> KernelFacts {
        KernelFacts {
            release: "6.1.0-9-amd64".to_owned(),
            landlock_abi: Ok(6),
            seccomp_actions: words("kill_process kill_thread trap errno user_notif trace log allow"),
            cgroups: CgroupFacts { v1: [].into(), v2: true, v2_controllers: words("cpu memory pids io") },
            user_namespaces_max: Some(1000),
            id_mapped: Ok(idmap::KINDS.to_vec()),
            overlay: true,
            pidfd: true,
            kvm: Kvm::Opens,
            memfd_noexec: true,
        }
    }

    fn lacking(facts: &KernelFacts) -> Vec<(String, Standing)> {
        let bad = facts.findings().into_iter().filter(|finding| finding.standing != Standing::Good);
        bad.inspect(|finding| assert!(!finding.fix.is_empty()))
            .map(|finding| (finding.name, finding.standing))
            .collect()
    }

    #[test]
    fn kernel_with_everything_lacks_nothing() {
        assert_eq!(lacking(&good()), []);
    }

    #[test]
    fn each_needed_feature_that_is_not_there_is_missing_by_name() {
        type Break = fn(&mut KernelFacts);
        let cases: [(&str, Break); 6] = [
            ("kernel", |facts| facts.release = "5.12.19".to_owned()),
            ("landlock", |facts| facts.landlock_abi = Err("EOPNOTSUPP".to_owned())),
            ("seccomp", |facts| facts.seccomp_actions = [].into()),
            ("cgroup", |facts| facts.cgroups.v2_controllers = words("cpu memory")),
            ("overlayfs", |facts| facts.overlay = false),
            ("pidfd", |facts| facts.pidfd = false),
        ];
        for (name, spoil) in cases {
            let mut facts = good();
            spoil(&mut facts);
            let mut missing = lacking(&facts);
            missing.retain(|(_, standing)| *standing == Standing::Missing);
            assert_eq!(missing, [(name.to_owned(), Standing::Missing)]);
        }
    }

    #[test]
    fn features_that_nothing_needs_yet_are_optional() {
        let mut facts = good();
        facts.kvm = Kvm::Fails("ENOENT".to_owned());
        facts.memfd_noexec = false;
        facts.user_namespaces_max = Some(0);
        facts.id_mapped = Ok(vec!["/var/lib"]);
        let lacking = lacking(&facts);
        assert_eq!(lacking.len(), 4);
        assert!(lacking.iter().all(|(_, standing)| *standing == Standing::Optional));
    }

    #[test]
    fn strongest_user_namespace_is_the_one_that_the_kernel_keeps() {
        let mut facts = good();
        assert_eq!(facts.user_namespace(), UserNamespaceRule::Shifted);
        facts.id_mapped = Ok(vec!["/var/lib"]);
        assert_eq!(facts.user_namespace(), UserNamespaceRule::RootOnly);
        facts.id_mapped = Err("EPERM".to_owned());
        assert_eq!(facts.user_namespace(), UserNamespaceRule::RootOnly);
        facts.user_namespaces_max = None;
        assert_eq!(facts.user_namespace(), UserNamespaceRule::Request);
    }

    #[test]
    fn hybrid_hierarchies_count_together() {
        let text = "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
                    32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    33 30 0:29 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory\n";
        let (mut facts, mount) = CgroupFacts::of_mountinfo(text);
        assert_eq!(mount.as_deref(), Some("/sys/fs/cgroup/unified"));
        assert!(facts.v2 && facts.v1.contains("cpu") && facts.v1.contains("memory"));
        assert_eq!(facts.finding().standing, Standing::Missing);
        facts.v2_controllers = words("pids");
        assert_eq!(facts.finding().standing, Standing::Good);
        assert_eq!(CgroupFacts::default().finding().found, "none mounted");
    }

    #[test]
    fn release_is_compared_as_numbers() {
        assert_eq!(version("5.13.0-rc1"), Some((5, 13)));
        assert!(version("5.9") < version("5.13"));
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn this_kernel_answers() {
        let facts = KernelFacts::read().unwrap();
        let uname = std::process::Command::new("uname").arg("-r").output().unwrap();
        assert_eq!(facts.release, String::from_utf8(uname.stdout).unwrap().trim());
        assert_eq!(facts.findings().len(), 11);
    }
}
