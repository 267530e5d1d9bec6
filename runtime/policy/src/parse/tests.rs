#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use bulkhead_model::{
    ExecPattern, HostPath, Interaction, LandlockRule, MountAccess, ProfileRule, TcpRule, UserRule,
};

use super::*;
use crate::{
    Policy, Problem,
    confine::built_in,
    keys::{Built, KEYS, keys_of},
};

fn source(text: &str) -> Source {
    Source { path: PathBuf::from("policy.toml"), text: text.to_owned() }
}

fn problems(text: &str) -> Vec<Problem> {
    match File::parse(&source(text), Role::Node) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems().cloned().collect(),
    }
}

/// The one problem of `text`, as `line:column what`.
fn problem(text: &str) -> String {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{text}: {found:#?}");
    format!("{}:{} {}", found[0].line, found[0].column, found[0].what)
}

fn default_section(keys: &str) -> Section {
    let text = format!("version = 1\n[confine.default]\n{keys}\n");
    File::parse(&source(&text), Role::Node).unwrap_or_else(|error| panic!("{text}: {error}")).section(DEFAULT)
}

#[test]
fn file_of_the_reference_is_understood() {
    let page = crate::explain();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let digest = Digest::of(b"x").to_string();
    let text = example.replace("sha256:…", &digest);
    let file = File::parse(&source(&text), Role::Node).unwrap();
    assert_eq!(file.mode, Some(Mode::Enforce));
    assert_eq!(file.scopes.len(), 2);
    assert_eq!(file.section("web").exec.unwrap().len(), 4);
    assert_eq!(
        file.section("web").tmpfs_bytes_max,
        Some(16_777_216),
        "a named section has what default says"
    );
}

#[test]
fn every_default_of_the_reference_is_the_built_in_one() {
    for key in KEYS.iter().filter(|key| key.built == Built::Yes && !key.default.is_empty()) {
        let keys = match key.table {
            Table::Confine => format!("{} = {}", key.name, key.default),
            Table::Landlock => format!("landlock = {{ {} = {} }}", key.name, key.default),
            Table::File
            | Table::Trust
            | Table::Rule
            | Table::Keyless
            | Table::Image
            | Table::Exec
            | Table::HostPath => {
                continue;
            }
        };
        assert_eq!(default_section(&keys).resolve(&built_in()), built_in(), "{keys}");
    }
    let bare = default_section("host_paths = [{ path = \"/data\" }]").host_paths.unwrap();
    assert_eq!(bare.first().unwrap().access, MountAccess::ReadOnly);
    let file = File::parse(&source("version = 1"), Role::Node).unwrap();
    assert_eq!(file.section(DEFAULT).resolve(&built_in()), built_in());
}

#[test]
fn every_key_of_the_table_is_known_and_those_not_built_yet_refuse() {
    for key in KEYS {
        // A value that no key accepts: the message tells who knows the key.
        let entry = format!("{} = 1979-05-27", key.name);
        let text = match key.table {
            Table::File => format!("version = 1\n{entry}").replace("version = 1\nversion", "version"),
            Table::Trust => format!("version = 1\n[trust]\n{entry}"),
            Table::Rule => format!("version = 1\n[rule.ci]\n{entry}"),
            Table::Keyless => format!("version = 1\n[rule.ci]\nkeyless = [{{ {entry} }}]"),
            Table::Image => format!("version = 1\n[image]\n\"**\" = {{ {entry} }}"),
            Table::Confine => format!("version = 1\n[confine.default]\n{entry}"),
            Table::Landlock => format!("version = 1\n[confine.default]\nlandlock = {{ {entry} }}"),
            Table::Exec => format!("version = 1\n[confine.default]\nexec = [{{ {entry} }}]"),
            Table::HostPath => format!("version = 1\n[confine.default]\nhost_paths = [{{ {entry} }}]"),
        };
        let found: Vec<String> = problems(&text).into_iter().map(|problem| problem.what).collect();
        assert!(!found.is_empty(), "{text} was accepted");
        assert!(!found.iter().any(|what| what.contains("unknown key")), "{text}: {found:?}");
        let says = found.iter().any(|what| what.contains("is not built yet"));
        assert_eq!(says, key.built == Built::NotYet, "{text}: {found:?}");
    }
}

#[test]
fn what_this_version_does_anyway_may_be_said_and_the_rest_is_not_built_yet() {
    for (yes, no) in [
        ("capabilities = []", "capabilities = [\"CAP_NET_RAW\"]"),
        ("isolation = \"shared-kernel\"", "isolation = \"microvm\""),
    ] {
        default_section(yes);
        let what = problem(&format!("version = 1\n[confine.default]\n{no}"));
        assert!(what.contains("not built yet"), "{no}: {what}");
    }
}

#[test]
fn unknown_key_is_an_error_at_its_place() {
    assert_eq!(problem("version = 1\nmod = 1"), "2:1 unknown key `mod` in the file");
    assert_eq!(problem("version = 1\n[confine.a]\n  usr = 1"), "3:3 unknown key `usr` in [confine.NAME]");
    assert_eq!(
        problem("version = 1\n[confine.a]\nlandlock = { tcp = 1 }"),
        "3:14 unknown key `tcp` in landlock"
    );
}

#[test]
fn every_problem_is_found_in_one_pass_in_order() {
    let found =
        problems("version = 2\nmode = \"on\"\n[image]\n\"nginx\" = {}\n[confine.default]\nuser = 0\n");
    let places: Vec<_> = found.iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(1, 11), (2, 8), (4, 1), (4, 1), (6, 8)], "{found:#?}");
    assert!(found.iter().all(|problem| !problem.fix.is_empty()));
}

#[test]
fn columns_count_characters_not_bytes() {
    let what = problem("version = 1\n[confine.default]\ntmpfs = [\"/é\", \"é\"]");
    assert!(what.starts_with("3:16 "), "{what}");
}

#[test]
fn missing_or_other_version_is_an_error() {
    assert_eq!(problem(""), "1:1 `version` is missing");
    for version in ["2", "\"1\"", "1.0", "true", "0"] {
        assert!(problem(&format!("version = {version}")).starts_with("1:11 `version` is"), "{version}");
    }
}

#[test]
fn text_that_is_no_toml_is_an_error_with_its_place() {
    for text in
        ["version = 1\nmode = ", "version = 1\n[image", "version = 1\n= 2", "version = 1\nversion = 1"]
    {
        let found = problems(text);
        assert!(!found.is_empty(), "{text:?} was accepted");
        assert_eq!(found[0].line, 2, "{text:?}: {found:#?}");
    }
}

#[test]
fn same_scope_or_section_twice_is_an_error() {
    let digests = format!("{{ digests = [\"{}\"] }}", Digest::of(b"x"));
    let scopes = format!("version = 1\n[image]\n\"r.example/a\" = {digests}\n'r.example/a' = {digests}");
    assert_eq!(problems(&scopes)[0].line, 4);
    assert_eq!(problems("version = 1\n[confine.a]\n[confine.a]")[0].line, 3);
}

#[test]
fn scope_of_the_node_needs_digests_and_of_a_tenant_not() {
    let text = "version = 1\n[image]\n\"r.example/a\" = {}";
    assert!(problem(text).contains("neither `digests` nor `require`"));
    assert!(File::parse(&source(text), Role::Tenant).is_ok());
    for digests in ["[]", "[\"sha512:00\"]", "[\"latest\"]", "[1]", "\"sha256:00\""] {
        let text = format!("version = 1\n[image]\n\"r.example/a\" = {{ digests = {digests} }}");
        assert!(File::parse(&source(&text), Role::Node).is_err(), "{digests} was accepted");
        assert!(File::parse(&source(&text), Role::Tenant).is_err(), "{digests} was accepted");
    }
}

#[test]
fn section_that_no_one_wrote_is_an_error_and_default_is_not() {
    let text = |name: &str| {
        format!(
            "version = 1\n[image]\n\"r.example/a\" = {{ digests = [\"{}\"], confine = \"{name}\" }}",
            Digest::of(b"x")
        )
    };
    assert!(problem(&text("web")).contains("no section [confine.web]"));
    assert!(File::parse(&source(&text("default")), Role::Node).is_ok());
}

#[test]
fn values_that_would_mean_no_limit_or_root_are_errors() {
    for keys in [
        "user = \"root\"",
        "user = { force = 0 }",
        "user = { force = 0x0 }",
        "user = { force = -1 }",
        "user = { force = 4294967295 }",
        "user = { force = 1, gid = 0 }",
        "tmpfs_bytes_max = 0",
        "tmpfs_bytes_max = 4095",
        "tmpfs_bytes_max = \"64M\"",
        "tmpfs_inodes_max = 0",
        "pids_max = 0",
        "pids_max = -1",
        "pids_max = 4194305",
        "landlock = { floor_abi = 0 }",
        "landlock = { floor_abi = 8 }",
        "tmpfs = [\"tmp\"]",
        "tmpfs = [\"/\"]",
        "tmpfs = [\"/a/../b\"]",
        "tmpfs = [\"/a//b\"]",
        "tmpfs = [\"/a/\"]",
        "tmpfs = [\"/proc/x\"]",
        "writable = [\"/dev\"]",
        "writable = [\"/sys/fs\"]",
        "host_paths = [{ path = \"/\" }]",
        "host_paths = [{ access = \"read-only\" }]",
        "host_paths = [\"/data\"]",
        "hooks = [\"hook\"]",
        "exec = \"ls\"",
        "exec = [[]]",
        "exec = [[\"ls\", 1]]",
        "memfd = true",
        "root = \"rw\"",
    ] {
        let text = format!("version = 1\n[confine.default]\n{keys}");
        assert!(!problems(&text).is_empty(), "{keys} was accepted");
    }
}

#[test]
fn values_are_what_they_say() {
    let section = default_section(
        "user = { force = 65532 }\nlandlock = { floor_abi = 3, tcp_connect = \"none\" }\n\
         exec = [\"cat /a\", [\"sh\", \"-c\", \"a b\", \"*\"]]\n\
         host_paths = [{ path = \"/data\", access = \"read-write\" }, { path = \"/data/in\" }]\nhooks = [\"/opt/hook\"]",
    );
    let confinement = section.resolve(&built_in());
    assert_eq!(confinement.user, UserRule::Force(65532));
    assert_eq!(
        confinement.landlock,
        LandlockRule { floor_abi: 4, tcp_connect: TcpRule::NONE, ..built_in().landlock },
        "none needs ABI 4"
    );
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        confinement.exec,
        [
            ExecPattern {
                words: words(&["cat", "/a"]),
                open_end: false,
                interaction: Interaction::default()
            },
            ExecPattern {
                words: words(&["sh", "-c", "a b"]),
                open_end: true,
                interaction: Interaction::default()
            }
        ]
    );
    let data = HostPath { path: PathBuf::from("/data"), access: MountAccess::ReadWrite };
    assert_eq!(confinement.host_paths, [data].into(), "the wider one covers the other");
    assert!(confinement.hooks.contains(Path::new("/opt/hook")));
}

#[test]
fn landlock_is_what_it_says_and_what_needs_a_newer_kernel_raises_the_floor() {
    let landlock =
        |keys: &str| default_section(&format!("landlock = {{ {keys} }}")).resolve(&built_in()).landlock;
    let ports = |ports: &[u16]| TcpRule::Ports(ports.iter().copied().collect());
    assert_eq!(landlock("files = \"generated\"").files, ProfileRule::Generated);
    let bound = landlock("tcp_bind = [8080, 0], tcp_connect = [443]");
    assert_eq!((bound.tcp_bind.ports, bound.tcp_connect), (ports(&[0, 8080]), ports(&[443])));
    assert_eq!(bound.floor_abi, 4);
    let exposed = landlock("tcp_bind = \"exposed\"");
    assert_eq!((exposed.tcp_bind.exposed, exposed.floor_abi), (true, 4));
    let scoped = landlock("scope = [\"signals\", \"abstract-sockets\"]");
    assert_eq!((scoped.scope.len(), scoped.floor_abi), (2, 6));
    for wrong in [
        "files = \"all\"",
        "files = [\"/bin\"]",
        "tcp_bind = \"some\"",
        "tcp_bind = [65536]",
        "tcp_connect = \"exposed\"",
        "tcp_connect = [0]",
        "tcp_connect = 443",
        "scope = \"signals\"",
        "scope = [\"files\"]",
    ] {
        problem(&format!("version = 1\n[confine.default]\nlandlock = {{ {wrong} }}"));
    }
}

#[test]
fn broken_policy_refuses_with_place_and_fix() {
    let error =
        Policy::parse(&source("version = 1\nmod = 1\nmode = 3"), Some(&source("version = 3"))).unwrap_err();
    assert_eq!(error.problems().count(), 3);
    let refusal = bulkhead_model::Refusal::from(error);
    assert_eq!(refusal.rule, bulkhead_model::Rule::Policy);
    assert!(refusal.why.contains("line 2, column 1: unknown key `mod`"), "{}", refusal.why);
    assert!(refusal.why.contains("and 2 more"), "{}", refusal.why);
}

/// A node's file whose `[confine.infra]` holds `keys`, named by a scope.
fn infra(keys: &str) -> String {
    let digest = Digest::of(b"x");
    format!(
        "version = 1\n[image]\n\"r.example/cni\" = {{ digests = [\"{digest}\"], confine = \"infra\" }}\n[confine.infra]\n{keys}"
    )
}

#[test]
fn compatible_level_stands_in_a_section_of_its_own_with_its_namespaces() {
    for namespaces in ["[\"kube-system\"]", "[\"a\", \"b\"]", "[\"*\"]"] {
        let text = infra(&format!(
            "level = \"compatible\"\nnamespaces = {namespaces}\nexec = [\"*\"]\nhooks = [\"/h\"]"
        ));
        assert_eq!(problems(&text), [], "{text}");
    }
    assert_eq!(problems("version = 1\n[confine.default]\nlevel = \"hardened\""), []);
}

#[test]
fn compatible_level_elsewhere_is_refused_with_its_line() {
    let compatible = "level = \"compatible\"\nnamespaces = [\"*\"]";
    let text = format!("version = 1\n[confine.default]\n{compatible}");
    assert!(problem(&text).starts_with("3:9 `level` is \"compatible\" in [confine.default]"));
    assert!(
        problem(&infra("level = \"compatible\""))
            .contains("5:9 `level` is \"compatible\" without `namespaces`")
    );
    assert!(problem(&infra("namespaces = [\"a\"]")).contains("`namespaces` is for a section with level"));
    for level in ["hardened", "priviliged"] {
        let text = infra(&format!("level = \"{level}\"\nnamespaces = [\"a\"]"));
        assert!(!problems(&text).is_empty(), "{level}");
    }
    for namespaces in ["[]", "\"*\"", "[\"*\", \"a\"]", "[\"a/b\"]", "[1]"] {
        let text = infra(&format!("level = \"compatible\"\nnamespaces = {namespaces}"));
        assert!(!problems(&text).is_empty(), "{namespaces}");
    }
}

#[test]
fn compatible_level_in_a_tenants_file_is_refused_with_its_line() {
    let text = infra("level = \"compatible\"\nnamespaces = [\"*\"]");
    let error = File::parse(&source(&text), Role::Tenant).unwrap_err();
    let found: Vec<String> = error.problems().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("policy.toml:5:9: `level` is \"compatible\" in a tenant's file"),
        "{found:#?}"
    );
    assert!(File::parse(&source(&infra("level = \"hardened\"")), Role::Tenant).is_ok());
}

#[test]
fn key_that_means_nothing_at_the_compatible_level_is_refused_there() {
    for key in keys_of(Table::Confine).filter(|key| key.built == Built::Yes) {
        let heeded = ["level", "namespaces", "exec", "hooks"].contains(&key.name);
        let value = match key.name {
            "host_paths" => "[{ path = \"/data\" }]",
            "landlock" => "{ floor_abi = 2 }",
            _ => key.default,
        };
        if heeded {
            continue;
        }
        let text = infra(&format!("level = \"compatible\"\nnamespaces = [\"*\"]\n{} = {value}", key.name));
        assert!(problem(&text).contains(&format!("`{}` means nothing at level", key.name)));
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    for (open, close) in [("[", "]"), ("{ a = ", " }")] {
        let text = format!("version = 1\nmode = {}1{}", open.repeat(20_000), close.repeat(20_000));
        assert!(!problems(&text).is_empty());
    }
    assert!(!problems(&format!("version = 1\n[{}a]", "a.".repeat(20_000))).is_empty());
}

#[test]
fn problems_of_one_file_are_told_up_to_a_limit() {
    let keys: String = (0..5000).map(|n| format!("k{n} = 1\n")).collect();
    assert_eq!(problems(&keys).len(), 100);
}

proptest::proptest! {
    #[test]
    fn any_text_is_understood_or_an_error(text in "(version = 1\n)?[ -~\n\u{e9}]{0,200}") {
        if let Err(error) = File::parse(&source(&text), Role::Node) {
            proptest::prop_assert!(error.problems().all(|problem| problem.line >= 1 && problem.column >= 1));
        }
    }
}
