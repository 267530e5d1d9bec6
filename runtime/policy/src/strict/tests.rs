use bulkhead_model::Digest;
use proptest::{prelude::*, sample::select};

use bulkhead_model::{InitRule, Interaction, MountOwners, VolumesRule};

use super::*;

fn paths() -> impl Strategy<Value = BTreeSet<PathBuf>> {
    prop::collection::btree_set(select(vec!["/a", "/a/b", "/c"]).prop_map(PathBuf::from), 0..4)
}

fn patterns() -> impl Strategy<Value = Vec<ExecPattern>> {
    let one = (argv(), any::<bool>(), select(INTERACTIONS.to_vec()))
        .prop_filter("a pattern has a word or an open end", |(words, open_end, _)| {
            *open_end || !words.is_empty()
        })
        .prop_map(|(words, open_end, interaction)| ExecPattern { words, open_end, interaction });
    prop::collection::vec(one, 0..4).prop_map(|patterns| exec::canonical(&patterns))
}

const INTERACTIONS: [Interaction; 4] = [
    Interaction { stdin: false, tty: false },
    Interaction { stdin: true, tty: false },
    Interaction { stdin: false, tty: true },
    Interaction::ALL,
];

fn argv() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(select(vec!["a", "b"]).prop_map(str::to_owned), 0..4)
}

fn access() -> impl Strategy<Value = MountAccess> {
    select(vec![MountAccess::ReadOnly, MountAccess::ReadWrite])
}

fn host_paths() -> impl Strategy<Value = BTreeSet<HostPath>> {
    let one = (select(vec!["/a", "/a/b", "/a/b/c", "/d"]), access())
        .prop_map(|(path, access)| HostPath { path: PathBuf::from(path), access });
    prop::collection::btree_set(one, 0..4).prop_map(|paths| canonical_host_paths(&paths))
}

fn landlock() -> impl Strategy<Value = LandlockRule> {
    let scope =
        prop::collection::btree_set(select(vec![ScopeRule::Signals, ScopeRule::AbstractSockets]), 0..3);
    (1..8_u8, profile(), any::<bool>(), tcp(), tcp(), scope).prop_map(
        |(floor_abi, files, exposed, ports, tcp_connect, scope)| {
            let tcp_bind = BindRule { exposed, ports };
            let rule = LandlockRule { floor_abi, files, tcp_bind, tcp_connect, scope };
            rule.stricter(&rule)
        },
    )
}

fn tcp() -> impl Strategy<Value = TcpRule> {
    let ports = prop::collection::btree_set(1..4_u16, 0..4).prop_map(TcpRule::Ports);
    prop_oneof![Just(TcpRule::Any), ports]
}

fn lets(rule: &TcpRule, port: u16) -> bool {
    match rule {
        TcpRule::Any => true,
        TcpRule::Ports(ports) => ports.contains(&port),
    }
}

/// Whether a port may be bound of an image that EXPOSEs 1 and 2.
fn binds(rule: &BindRule, port: u16) -> bool {
    lets(&rule.ports, port) && (!rule.exposed || port < 3)
}

fn profile() -> impl Strategy<Value = ProfileRule> {
    let pins = |pins: &[u8]| ProfileRule::Pinned(pins.iter().map(|pin| Digest::of(&[*pin])).collect());
    select(vec![
        ProfileRule::Baseline,
        ProfileRule::WhenReady,
        ProfileRule::Generated,
        pins(&[1]),
        pins(&[2]),
        pins(&[1, 2]),
        pins(&[]),
    ])
}

/// Whether a command may run whose profile is not ready, or has this hash and is widened to the baseline or not; and
/// whether it is then held by a profile narrower than the baseline.
fn takes(rule: &ProfileRule, profile: Option<(u8, bool)>) -> Option<bool> {
    match (rule, profile) {
        (ProfileRule::Baseline, _) | (ProfileRule::WhenReady, None | Some((_, true))) => Some(false),
        (ProfileRule::WhenReady | ProfileRule::Generated, Some((_, false))) => Some(true),
        (ProfileRule::Generated | ProfileRule::Pinned(_), None | Some((_, true))) => None,
        (ProfileRule::Pinned(pins), Some((hash, false))) => {
            pins.contains(&Digest::of(&[hash])).then_some(true)
        }
    }
}

fn confinement() -> impl Strategy<Value = Confinement> {
    let users = vec![UserRule::NonRoot, UserRule::Force(1), UserRule::Force(2)];
    (
        (select(users), select(vec![RootRule::ReadOnly, RootRule::Writable]), paths(), paths()),
        (
            4096..4099_u64,
            1..4_u64,
            select(vec![MemfdRule::Denied, MemfdRule::Allowed]),
            landlock(),
            profile(),
        ),
        (patterns(), host_paths(), paths(), 1..4_u32, select(vec![Level::Hardened, Level::Compatible])),
        (
            select(vec![PodSecurityRule::Tightened, PodSecurityRule::Restricted]),
            paths(),
            select(vec![IdentityRule::FilledIn, IdentityRule::AsIs]),
            select(NAMESPACES.to_vec()),
            (
                select(vec![InitRule::Program, InitRule::Small]),
                select(vec![VolumesRule::Tmpfs, VolumesRule::AsTheyAre]),
            ),
        ),
    )
        .prop_map(
            |(
                (user, root, tmpfs, writable),
                (bytes, inodes, memfd, landlock, seccomp),
                (exec, host, hooks, pids, level),
                (pod_security, executable, identity, user_namespace, (init, volumes)),
            )| {
                Confinement {
                    level,
                    user,
                    user_namespace,
                    root,
                    tmpfs,
                    writable,
                    tmpfs_bytes_max: bytes,
                    tmpfs_inodes_max: inodes,
                    memfd,
                    seccomp,
                    landlock,
                    exec,
                    host_paths: host,
                    hooks,
                    pids_max: pids,
                    pod_security,
                    executable,
                    identity,
                    init,
                    volumes,
                }
            },
        )
}

/// What a user rule lets run: uid asked for → uid that runs.
fn runs(rule: UserRule, uid: u32) -> Option<u32> {
    match (rule, uid) {
        (UserRule::NonRoot, 0) => None,
        (UserRule::Force(forced), 0) => Some(forced),
        (UserRule::NonRoot | UserRule::Force(_), uid) => Some(uid),
    }
}

const NAMESPACES: [UserNamespaceRule; 3] =
    [UserNamespaceRule::Shifted, UserNamespaceRule::RootOnly, UserNamespaceRule::Request];

/// Whether a container may run in a pod whose user namespace is that; none is the node's own.
fn runs_in(rule: UserNamespaceRule, pod: Option<MountOwners>) -> bool {
    match rule {
        UserNamespaceRule::Shifted => pod == Some(MountOwners::Mapped),
        UserNamespaceRule::RootOnly => pod.is_some(),
        UserNamespaceRule::Request => true,
    }
}

fn execs(patterns: &[ExecPattern], argv: &[String], interaction: Interaction) -> bool {
    let enough = |given: Interaction| given.stdin >= interaction.stdin && given.tty >= interaction.tty;
    patterns.iter().any(|pattern| pattern.matches(argv) && enough(pattern.interaction))
}

fn mounts(paths: &BTreeSet<HostPath>, path: &str, access: MountAccess) -> bool {
    paths.iter().any(|host| {
        let enough = host.access == MountAccess::ReadWrite || access == MountAccess::ReadOnly;
        PathBuf::from(path).starts_with(&host.path) && enough
    })
}

/// Everything that `inner` allows, `outer` allows: said key by key in terms of what runs, not of `stricter`.
fn allows_no_more(inner: &Confinement, outer: &Confinement, argv: &[String]) -> Result<(), TestCaseError> {
    let Confinement {
        level,
        user,
        user_namespace,
        root,
        tmpfs,
        writable,
        tmpfs_bytes_max,
        tmpfs_inodes_max,
        memfd,
        seccomp,
        landlock,
        exec,
        host_paths,
        hooks,
        pids_max,
        pod_security,
        executable,
        identity,
        init: _, // confined as the program is
        volumes,
    } = inner;
    prop_assert!(*level == Level::Hardened || outer.level == Level::Compatible);
    for uid in [0, 1, 2, 3] {
        let run = runs(*user, uid);
        prop_assert!(run.is_none() || run == runs(outer.user, uid));
    }
    for pod in [None, Some(MountOwners::AsTheyAre), Some(MountOwners::Mapped)] {
        prop_assert!(!runs_in(*user_namespace, pod) || runs_in(outer.user_namespace, pod));
    }
    prop_assert!(*root == RootRule::ReadOnly || outer.root == RootRule::Writable);
    prop_assert!(tmpfs.is_subset(&outer.tmpfs));
    prop_assert!(writable.is_subset(&outer.writable));
    prop_assert!(*tmpfs_bytes_max <= outer.tmpfs_bytes_max);
    prop_assert!(*tmpfs_inodes_max <= outer.tmpfs_inodes_max);
    for profile in [None, Some((1, false)), Some((2, false)), Some((1, true))] {
        let held = |narrow: bool| takes(&outer.seccomp, profile).is_some_and(|needs| narrow || !needs);
        prop_assert!(takes(seccomp, profile).is_none_or(held));
        let held = |narrow: bool| takes(&outer.landlock.files, profile).is_some_and(|needs| narrow || !needs);
        prop_assert!(takes(&landlock.files, profile).is_none_or(held));
    }
    prop_assert!(*memfd == MemfdRule::Denied || outer.memfd == MemfdRule::Allowed);
    prop_assert!(landlock.floor_abi >= outer.landlock.floor_abi);
    for port in 1..5 {
        prop_assert!(!lets(&landlock.tcp_connect, port) || lets(&outer.landlock.tcp_connect, port));
        prop_assert!(!binds(&landlock.tcp_bind, port) || binds(&outer.landlock.tcp_bind, port));
    }
    prop_assert!(landlock.scope.is_superset(&outer.landlock.scope));
    for asked in INTERACTIONS {
        prop_assert!(!execs(exec, argv, asked) || execs(&outer.exec, argv, asked));
    }
    for path in ["/", "/a", "/a/b", "/a/b/c", "/a/b/c/d", "/ab", "/d"] {
        for access in [MountAccess::ReadOnly, MountAccess::ReadWrite] {
            prop_assert!(!mounts(host_paths, path, access) || mounts(&outer.host_paths, path, access));
        }
    }
    prop_assert!(hooks.is_subset(&outer.hooks));
    prop_assert!(*pids_max <= outer.pids_max);
    prop_assert!(
        *pod_security == PodSecurityRule::Restricted || outer.pod_security == PodSecurityRule::Tightened
    );
    prop_assert!(executable.is_subset(&outer.executable));
    prop_assert!(*volumes == VolumesRule::AsTheyAre || outer.volumes == VolumesRule::Tmpfs);
    prop_assert!(*identity == IdentityRule::AsIs || outer.identity == IdentityRule::FilledIn);
    Ok(())
}

proptest! {
    #[test]
    fn stricter_allows_no_more_than_either(one in confinement(), two in confinement(), argv in argv()) {
        let both = one.stricter(&two);
        allows_no_more(&both, &one, &argv)?;
        allows_no_more(&both, &two, &argv)?;
    }

    #[test]
    fn stricter_allows_all_that_both_allow(one in confinement(), two in confinement(), argv in argv()) {
        let both = one.stricter(&two);
        for asked in INTERACTIONS {
            prop_assert_eq!(
                execs(&both.exec, &argv, asked),
                execs(&one.exec, &argv, asked) && execs(&two.exec, &argv, asked)
            );
        }
        for path in ["/a", "/a/b", "/a/b/c", "/d"] {
            for access in [MountAccess::ReadOnly, MountAccess::ReadWrite] {
                let wanted = mounts(&one.host_paths, path, access) && mounts(&two.host_paths, path, access);
                prop_assert_eq!(mounts(&both.host_paths, path, access), wanted);
            }
        }
    }

    #[test]
    fn stricter_is_commutative_associative_and_idempotent(
        one in confinement(), two in confinement(), three in confinement(),
    ) {
        prop_assert_eq!(one.stricter(&two), two.stricter(&one));
        prop_assert_eq!(one.stricter(&two).stricter(&three), one.stricter(&two.stricter(&three)));
        prop_assert_eq!(&one.stricter(&one), &one);
        prop_assert_eq!(one.stricter(&two).stricter(&two), one.stricter(&two));
    }

    #[test]
    fn tightening_either_side_never_widens_the_whole(
        one in confinement(), two in confinement(), tighter in confinement(), argv in argv(),
    ) {
        let tightened = one.stricter(&tighter).stricter(&two);
        allows_no_more(&tightened, &one.stricter(&two), &argv)?;
    }
}

#[test]
fn modes_come_to_enforce_unless_both_audit() {
    for (one, two, wanted) in [
        (Mode::Audit, Mode::Audit, Mode::Audit),
        (Mode::Audit, Mode::Enforce, Mode::Enforce),
        (Mode::Enforce, Mode::Audit, Mode::Enforce),
    ] {
        assert_eq!(one.stricter(&two), wanted);
    }
}
